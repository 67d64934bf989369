/// What is told of a number of timings.
public struct SampleStatistics: Sendable, Hashable {
  /// How many samples there were.
  public let count: Int
  /// The smallest sample.
  public let least: Double
  /// Half of the samples are at most this.
  public let median: Double
  /// A tenth of the samples is at most this.
  public let p10: Double
  /// Nine tenths of the samples are at most this.
  public let p90: Double

  /// Summarises samples; nil where there are none, or one is NaN.
  public init?(_ samples: [Double]) {
    guard !samples.isEmpty, !samples.contains(where: \.isNaN) else { return nil }
    let sorted = samples.sorted()
    count = sorted.count
    least = sorted[0]
    median = Self.percentile(0.5, ofSorted: sorted)
    p10 = Self.percentile(0.1, ofSorted: sorted)
    p90 = Self.percentile(0.9, ofSorted: sorted)
  }

  /// The value below which a share of the samples lies, interpolated between the two nearest ranks:
  /// rank (n − 1)·share, as NumPy's default.
  static func percentile(_ share: Double, ofSorted samples: [Double]) -> Double {
    let rank = Double(samples.count - 1) * share
    let lower = Int(rank.rounded(.down))
    let upper = min(lower + 1, samples.count - 1)
    let part = rank - Double(lower)
    return samples[lower] + (samples[upper] - samples[lower]) * part
  }
}
