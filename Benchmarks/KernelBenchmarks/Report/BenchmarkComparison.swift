import RealModule

#if canImport(FoundationEssentials)
  import FoundationEssentials
#else
  import Foundation
#endif

/// A file of results that cannot be used.
public struct ResultFileError: Error, Sendable, Hashable, CustomStringConvertible {
  /// What is wrong, with the file's name.
  public let description: String
}

/// The results of an earlier run, as its JSON has them: versions 1 (without `version`) and 2.
public struct ResultFile: Sendable, Decodable {
  /// One timed workload.
  public struct Result: Sendable, Hashable, Decodable {
    /// The workload's id.
    public var id: String
    /// The path that ran.
    public var path: String
    /// `warm`, or `cold` where caches were overwritten before each sample; version 1 does not say.
    public var mode: String?
    /// Whether a tile of the user's tuning ran; version 1 had none.
    public var tuned: Bool?
    /// Which clock.
    public var clock: String?
    /// Seconds.
    public var secondsMedian: Double
    /// Seconds.
    public var secondsP10: Double
    /// Seconds.
    public var secondsP90: Double
    /// 10⁹ operations a second.
    public var gflops: Double?
    /// 10⁹ bytes a second.
    public var gbps: Double?
  }

  /// One workload beside a peer.
  public struct Peer: Sendable, Hashable, Decodable {
    /// The workload's id.
    public var id: String
    /// The path that ran.
    public var path: String
    /// Who is compared with; the oldest files have PyTorch only, and do not say it.
    public var peer: String?
    /// Our 10⁹ operations a second.
    public var gflopsOurs: Double
    /// Theirs.
    public var gflopsTheirs: Double
    /// Their median time over ours.
    public var ratio: Double
    /// What the peer ran on.
    public var theirs: String
  }

  /// What the host needs for a decode step of many sequences.
  public struct DecodeHost: Sendable, Hashable, Decodable {
    /// How many.
    public var sequences: Int
    /// Seconds of making the schedule.
    public var scheduleSeconds: Double
    /// Seconds of recording a layer.
    public var recordSeconds: Double
  }

  /// The newest version of the format that this build reads.
  public static let newestVersion = BenchmarkReport.formatVersion

  /// The version of the format; 1 where the file does not say.
  public var version: Int?
  /// The device's name.
  public var device: String
  /// The driver's name and version.
  public var driver: String
  /// The commit that was measured.
  public var commit: String
  /// When, UTC.
  public var time: String?
  /// The timed workloads.
  public var results: [Result]
  /// Workloads beside peers.
  public var peers: [Peer]?
  /// The host's time; nil where it was not measured.
  public var decodeHost: DecodeHost?

  /// Reads a text.
  ///
  /// - Parameters:
  ///   - json: the bytes of a file.
  ///   - name: the file's name, for messages.
  /// - Throws: ``ResultFileError``.
  public init(_ json: [UInt8], name: String) throws(ResultFileError) {
    let file: ResultFile
    do {
      let decoder = JSONDecoder()
      decoder.keyDecodingStrategy = .convertFromSnakeCase
      file = try decoder.decode(ResultFile.self, from: Data(json))
    } catch let error as DecodingError {
      throw ResultFileError(description: "\(name) has no results of vkattn bench: \(error.place)")
    } catch {
      throw ResultFileError(description: "\(name) has no results of vkattn bench")
    }
    let version = file.version ?? 1
    guard (1...Self.newestVersion).contains(version) else {
      throw ResultFileError(
        description: "\(name) is of version \(version); this build reads 1 to \(Self.newestVersion)"
      )
    }
    self = file
  }
}

extension DecodingError {
  /// Where and what, in a few words.
  var place: String {
    let what: String
    var context: Context?
    switch self {
    case .typeMismatch(_, let found): (what, context) = ("a value of another kind", found)
    case .valueNotFound(_, let found): (what, context) = ("no value", found)
    case .keyNotFound(let key, let found): (what, context) = ("no \"\(key.stringValue)\"", found)
    case .dataCorrupted(let found): (what, context) = ("malformed JSON", found)
    @unknown default: what = "malformed JSON"
    }
    let path = context?.codingPath.map { $0.intValue.map(String.init) ?? $0.stringValue } ?? []
    return path.isEmpty ? what : "\(what) at \(path.joined(separator: "."))"
  }
}

/// A workload in two runs.
public struct BenchmarkComparison: Sendable, Hashable {
  /// What can be said of two timings.
  public enum Verdict: String, Sendable, Hashable, CaseIterable {
    /// The new run is faster by more than the noise.
    case faster
    /// It is slower by more than the noise.
    case slower
    /// The difference may be noise.
    case same
    /// Other clocks: one by the device's timestamps, the other by the host.
    case incomparable = "other clock"
    /// Only the new run has it.
    case added = "only new"
    /// Only the old run has it.
    case removed = "only old"
  }

  /// Medians closer than this are the same, whatever the spread within each run: two runs of one program differ by
  /// so much by their place in memory alone.
  public static let leastChange = 0.03

  /// The rule in words.
  public static let rule = """
    faster or slower: the ranges from p10 to p90 of the two runs do not overlap, and the medians differ \
    by 3 % or more; otherwise same
    """

  /// The workload's id.
  public let id: String
  /// The path that ran.
  public let path: String
  /// The old median in seconds.
  public let old: Double?
  /// The new median in seconds.
  public let new: Double?
  /// What can be said.
  public let verdict: Verdict

  /// The old median over the new one: above 1, the new run is faster.
  public var ratio: Double? {
    guard let old, let new, verdict != .incomparable else { return nil }
    return old / new
  }

  /// What can be said of two timings in seconds; `same` where a number is NaN.
  public static func verdict(
    old: (p10: Double, median: Double, p90: Double),
    new: (p10: Double, median: Double, p90: Double)
  ) -> Verdict {
    let ratio = old.median / new.median
    if new.p90 < old.p10, ratio >= 1 + leastChange { return .faster }
    if new.p10 > old.p90, ratio <= 1 / (1 + leastChange) { return .slower }
    return .same
  }

  /// Compares two runs: what both have in the new one's order, then what only the old one has.
  public static func all(old: ResultFile, new: ResultFile) -> [BenchmarkComparison] {
    struct Key: Hashable {
      let id: String
      let path: String
      let mode: String
      init(_ result: ResultFile.Result) {
        id = result.id
        path = result.path
        mode = result.mode ?? "warm"
      }
    }
    func name(_ result: ResultFile.Result) -> String {
      result.path + (result.mode == "cold" ? " cold" : "")
    }
    // Of a workload that a file has twice, the last counts.
    let before = Dictionary(old.results.map { (Key($0), $0) }) { $1 }
    var seen: Set<Key> = []
    let common = new.results.map { result in
      seen.insert(Key(result))
      guard let earlier = before[Key(result)] else {
        return BenchmarkComparison(
          id: result.id, path: name(result), old: nil, new: result.secondsMedian, verdict: .added)
      }
      let clocks = [earlier.clock, result.clock].compactMap { $0 }
      return BenchmarkComparison(
        id: result.id, path: name(result), old: earlier.secondsMedian,
        new: result.secondsMedian,
        verdict: Set(clocks).count > 1
          ? .incomparable
          : verdict(
            old: (earlier.secondsP10, earlier.secondsMedian, earlier.secondsP90),
            new: (result.secondsP10, result.secondsMedian, result.secondsP90)))
    }
    return common
      + old.results.filter { !seen.contains(Key($0)) }.map {
        BenchmarkComparison(
          id: $0.id, path: name($0), old: $0.secondsMedian, new: nil, verdict: .removed)
      }
  }
}

extension [BenchmarkComparison] {
  /// A row for each workload.
  public var table: TextTable {
    var table = TextTable([
      ("workload", .left), ("path", .left), ("old", .right), ("new", .right), ("old/new", .right),
      ("verdict", .left),
    ])
    for row in self {
      table.add([
        row.id, row.path, row.old.map(Numbers.seconds) ?? "", row.new.map(Numbers.seconds) ?? "",
        row.ratio.map { Numbers.fixed($0, decimals: 2) } ?? "", row.verdict.rawValue,
      ])
    }
    return table
  }

  /// How many of each verdict, and the geometric mean of the ratios.
  public var summary: String {
    let counts = BenchmarkComparison.Verdict.allCases.compactMap { verdict in
      let count = filter { $0.verdict == verdict }.count
      return count == 0 ? nil : "\(count) \(verdict.rawValue)"
    }
    let ratios = compactMap(\.ratio)
    let mean =
      ratios.isEmpty
      ? nil : Double.exp(ratios.reduce(0) { $0 + .log($1) } / Double(ratios.count))
    return counts.joined(separator: ", ")
      + (mean.map { "; geometric mean of old/new \(Numbers.fixed($0, decimals: 2))" } ?? "")
  }
}
