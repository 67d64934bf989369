#if canImport(Darwin)
  import Darwin
#elseif canImport(Musl)
  import Musl
#else
  import Glibc
#endif

/// T5's buckets of distances (Raffel et al. 2020, https://arxiv.org/abs/1910.10683, section 2.1), for biases
/// that a model has learned for each bucket and head.
///
/// The kernels add a bias by distance (``AttentionOperand/Kind/relativeBias``); ``table(weights:heads:)``
/// makes it from the model's weights, once, on the host.
public struct RelativeBuckets: Sendable, Hashable {
  /// All buckets, of both sides.
  public let count: Int
  /// From this distance on all keys of a side share its last bucket.
  public let maxDistance: Int
  /// Whether keys behind the query have half of the buckets; else they count as distance 0.
  public let isBidirectional: Bool

  /// Buckets by their number.
  ///
  /// - Parameters:
  ///   - count: 2 or more, 4 or more and even if bidirectional; 32 in T5.
  ///   - maxDistance: above the distances that have a bucket each; 128 in T5.
  ///   - isBidirectional: true in encoders, false in decoders.
  /// - Throws: `AttentionError.invalidArgument`.
  public init(
    count: Int = 32, maxDistance: Int = 128, isBidirectional: Bool
  ) throws(AttentionError) {
    let lowest = isBidirectional ? 4 : 2
    guard (lowest...65_536).contains(count), !isBidirectional || count % 2 == 0 else {
      throw .invalidArgument(
        name: "count", value: "\(count)",
        allowed: "\(lowest) to 65536\(isBidirectional ? ", even" : "")")
    }
    let exact = (isBidirectional ? count / 2 : count) / 2
    guard maxDistance > exact, maxDistance <= 1 << 24 else {
      throw .invalidArgument(
        name: "maxDistance", value: "\(maxDistance)", allowed: "\(exact + 1) to \(1 << 24)")
    }
    self.count = count
    self.maxDistance = maxDistance
    self.isBidirectional = isBidirectional
  }

  /// The bucket of a key at a distance j − p.
  ///
  /// Half of a side's buckets have one distance each, the others grow with its logarithm. Quotients are
  /// f32 and cut off as in Hugging Face transformers: at whole quotients the rounding decides, and
  /// trained weights have seen that.
  public func bucket(ofDistance distance: Int) -> Int {
    let side = isBidirectional ? count / 2 : count
    let exact = side / 2
    let isBehind = isBidirectional && distance > 0
    let length = isBidirectional ? distance.magnitude : max(-distance, 0).magnitude
    var bucket = Int(min(length, UInt(Int.max)))
    if bucket >= exact {
      let span = Float(log(Double(maxDistance) / Double(exact)))
      let steps = logf(Float(bucket) / Float(exact)) / span * Float(side - exact)
      bucket = min(exact + Int(min(steps, 1e6)), side - 1)
    }
    return isBehind ? side + bucket : bucket
  }

  /// The table of a request whose ``AttentionScores/relativeLeft`` is ``maxDistance``, and `relativeRight`
  /// too, or 0 if the buckets are of one side.
  ///
  /// - Parameters:
  ///   - weights: [count, heads], as models store them.
  ///   - heads: H.
  /// - Returns: [heads, relativeLeft + 1 + relativeRight] for `relativeBias`.
  /// - Throws: `AttentionError.invalidArgument` where the weights are not so many.
  public func table(weights: [Float], heads: Int) throws(AttentionError) -> [Float] {
    guard heads >= 1, weights.count == count * heads else {
      throw .invalidArgument(
        name: "weights", value: "\(weights.count) numbers",
        allowed: "\(count) for each of the heads, of which there is at least 1")
    }
    let buckets = (-maxDistance...(isBidirectional ? maxDistance : 0)).map {
      bucket(ofDistance: $0)
    }
    return (0..<heads).flatMap { head in buckets.map { weights[$0 * heads + head] } }
  }
}
