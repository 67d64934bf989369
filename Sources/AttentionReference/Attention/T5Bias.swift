#if canImport(Darwin)
  import Darwin
#elseif canImport(Musl)
  import Musl
#else
  import Glibc
#endif

/// T5's bucketed position bias as a table by distance, for ``AttentionOptions/relativeBias``.
///
/// (Raffel et al. 2020, arXiv:1910.10683, section 2.1; the bucket numbers as Hugging Face
/// transformers computes them, see ``t5Bucket(_:buckets:maxDistance:bidirectional:)``.) From
/// `maxDistance` on all keys of one side share a bucket, and keys after the query share that of
/// distance 0 where the bias is not bidirectional: the default table holds every entry there is.
///
/// The library has an expansion of its own; this one is for holding it against.
///
/// - Parameters:
///   - weights: `[buckets, heads]`, row-major.
///   - buckets: number of buckets, at least 2, with `bidirectional` at least 4.
///   - heads: number of heads.
///   - maxDistance: the distance from which on all share the last bucket.
///   - bidirectional: whether keys after the query have half of the buckets for themselves.
///   - left: distances before the query; nil for `maxDistance`.
///   - right: distances after the query; nil for `maxDistance`, or 0 if not bidirectional.
/// - Returns: `[heads, left + 1 + right]`.
public func t5RelativeBias(
  _ weights: [Double], buckets: Int, heads: Int, maxDistance: Int = 128,
  bidirectional: Bool = true, left: Int? = nil, right: Int? = nil
) -> [Double] {
  precondition(weights.count == buckets * heads, "weights must be [buckets, heads]")
  let distances = -(left ?? maxDistance)...(right ?? (bidirectional ? maxDistance : 0))
  return (0..<heads).flatMap { h in
    distances.map { distance in
      let bucket = t5Bucket(
        distance, buckets: buckets, maxDistance: maxDistance, bidirectional: bidirectional)
      return weights[bucket * heads + h]
    }
  }
}

/// The bucket of a distance `j − p` of a key from its query in T5.
///
/// Half of a side's buckets hold one distance each; the others grow with its logarithm:
///
///     exact = sideBuckets / 2
///     bucket = distance                                              if distance < exact
///            = exact + ⌊ln(distance / exact) / ln(maxDistance / exact) · (sideBuckets − exact)⌋
///              and at most sideBuckets − 1                           otherwise
///
/// The quotients are computed in binary32 and cut off, as transformers'
/// `T5Attention._relative_position_bucket` does: where the exact quotient is whole, the rounding
/// decides on the bucket, and trained weights have seen just that.
public func t5Bucket(
  _ distance: Int, buckets: Int, maxDistance: Int, bidirectional: Bool
) -> Int {
  let sideBuckets = bidirectional ? buckets / 2 : buckets
  let exact = sideBuckets / 2
  precondition(exact >= 1, "too few buckets")
  precondition(maxDistance > exact, "maxDistance must be above the distances of one bucket each")
  // Keys after the query come behind those before it, or count as distance 0.
  let first = bidirectional && distance > 0 ? sideBuckets : 0
  let magnitude = bidirectional ? abs(distance) : max(-distance, 0)
  if magnitude < exact { return first + magnitude }
  let steps =
    logf(Float(magnitude) / Float(exact))
    / Float(log(Double(maxDistance) / Double(exact))) * Float(sideBuckets - exact)
  return first + min(exact + Int(steps), sideBuckets - 1)
}
