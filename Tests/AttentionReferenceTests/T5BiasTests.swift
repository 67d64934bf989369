import AttentionReference
import Testing

/// T5's buckets against numbers of `T5Attention._relative_position_bucket` evaluated in PyTorch.
@Suite struct T5BiasTests {
  /// Where a bucket begins on the way from −140 to 140, as far as the buckets are not of one
  /// distance each.
  private static let starts: [(Bool, buckets: Int, maxDistance: Int, [Int: Int])] = [
    (
      true, 32, 128,
      [
        -140: 15, -90: 14, -63: 13, -45: 12, -31: 11, -22: 10, -15: 9, -11: 8, -7: 7, 0: 0, 1: 17,
        8: 24, 12: 25, 16: 26, 23: 27, 32: 28, 46: 29, 64: 30, 91: 31, 140: 31,
      ]
    ),
    (
      false, 32, 128,
      [
        -140: 31, -113: 31, -112: 30, -98: 29, -86: 28, -76: 27, -66: 26, -58: 25, -51: 24,
        -45: 23, -39: 22, -34: 21, -30: 20, -26: 19, -23: 18, -20: 17, -18: 16, -15: 15, 0: 0,
        1: 0, 140: 0,
      ]
    ),
    (true, 8, 20, [-140: 3, -7: 3, -6: 2, -1: 1, 0: 0, 1: 5, 2: 6, 7: 7]),
    (false, 6, 12, [-140: 5, -8: 5, -7: 4, -4: 3, -2: 2, -1: 1, 0: 0, 3: 0]),
    // Whole quotients of logarithms at 8, 16, 32.
    (
      true, 16, 64,
      [-32: 7, -31: 6, -16: 6, -15: 5, -8: 5, -7: 4, 3: 11, 4: 12, 8: 13, 16: 14, 32: 15]
    ),
  ]

  @Test(arguments: starts.indices) func bucketsBegin(_ index: Int) {
    let (bidirectional, buckets, maxDistance, starts) = Self.starts[index]
    for (distance, bucket) in starts {
      let found = t5Bucket(
        distance, buckets: buckets, maxDistance: maxDistance, bidirectional: bidirectional)
      #expect(found == bucket, "distance \(distance)")
    }
  }

  /// `h = (31·h + bucket) mod (10⁹ + 7)` over the distances −5000...5000.
  @Test(arguments: [
    (true, 32, 128, 29_445_634), (false, 32, 128, 591_126_872), (false, 32, 2048, 242_391_511),
    (true, 64, 1024, 775_098_679), (true, 48, 500, 278_902_707), (false, 7, 50, 842_916_866),
    (true, 33, 4096, 508_546_833),
    // Binary64 gives other buckets for some distances: 8 in the first, 150 in the second.
    (true, 18, 128, 895_823_049), (false, 72, 625, 591_812_017),
  ])
  func allBuckets(_ bidirectional: Bool, buckets: Int, maxDistance: Int, hash: Int) {
    let found = (-5000...5000).reduce(0) { hash, distance in
      let bucket = t5Bucket(
        distance, buckets: buckets, maxDistance: maxDistance, bidirectional: bidirectional)
      return (31 * hash + bucket) % 1_000_000_007
    }
    #expect(found == hash)
  }

  @Test func tableByHand() {
    // 4 buckets, bidirectional: 0 and 1 before, 2 (never reached by distance 0) and 3 after.
    let weights: [Double] = [10, 11, 20, 21, 30, 31, 40, 41]
    #expect(
      t5RelativeBias(weights, buckets: 4, heads: 2, maxDistance: 2)
        == [20, 20, 10, 40, 40, 21, 21, 11, 41, 41])
    // One direction: buckets 0 and 1 of one distance, then 2 and 3 up to 4.
    #expect(
      t5RelativeBias(weights, buckets: 4, heads: 2, maxDistance: 4, bidirectional: false)
        == [40, 40, 30, 20, 10, 41, 41, 31, 21, 11])
  }

  @Test func defaultTableHoldsEveryEntry() {
    let weights = (0..<32).map { Double($0) }
    for bidirectional in [true, false] {
      let table = t5RelativeBias(
        weights, buckets: 32, heads: 1, maxDistance: 50, bidirectional: bidirectional)
      let wide = t5RelativeBias(
        weights, buckets: 32, heads: 1, maxDistance: 50, bidirectional: bidirectional, left: 300,
        right: 300)
      for distance in -300...300 {
        let entry = min(max(distance, -50), bidirectional ? 50 : 0) + 50
        #expect(wide[distance + 300] == table[entry])
      }
    }
  }
}
