import AttentionReference
import Testing

@testable import VulkanAttention

@Suite struct RelativeBucketsTests {
  @Test(
    "The table is the reference's, which PyTorch's numbers vouch for",
    arguments: [(32, 128), (8, 20), (64, 1000), (4, 3)], [true, false])
  func table(size: (count: Int, maxDistance: Int), isBidirectional: Bool) throws {
    let heads = 3
    let weights = (0..<size.count * heads).map { Float($0) }
    let buckets = try RelativeBuckets(
      count: size.count, maxDistance: size.maxDistance, isBidirectional: isBidirectional)
    let expected = t5RelativeBias(
      weights.map(Double.init), buckets: size.count, heads: heads, maxDistance: size.maxDistance,
      bidirectional: isBidirectional)
    #expect(try buckets.table(weights: weights, heads: heads).map(Double.init) == expected)
  }

  @Test("Near distances have a bucket each, far ones share the last")
  func buckets() throws {
    let buckets = try RelativeBuckets(isBidirectional: true)
    #expect((-7...0).map(buckets.bucket) == [7, 6, 5, 4, 3, 2, 1, 0])
    #expect((1...7).map(buckets.bucket) == [17, 18, 19, 20, 21, 22, 23])
    #expect([-128, -1 << 40, Int.min].map(buckets.bucket) == [15, 15, 15])
    #expect([128, 1 << 40, Int.max].map(buckets.bucket) == [31, 31, 31])
    let oneSided = try RelativeBuckets(isBidirectional: false)
    #expect(
      [0, 1, 500].map(oneSided.bucket) == [0, 0, 0] && oneSided.bucket(ofDistance: -15) == 15)
  }

  @Test("Buckets that cannot be are refused")
  func refusals() throws {
    #expect(throws: AttentionError.self) { try RelativeBuckets(count: 2, isBidirectional: true) }
    #expect(throws: AttentionError.self) { try RelativeBuckets(count: 33, isBidirectional: true) }
    #expect(throws: AttentionError.self) {
      try RelativeBuckets(maxDistance: 8, isBidirectional: true)
    }
    let buckets = try RelativeBuckets(isBidirectional: true)
    #expect(throws: AttentionError.self) { try buckets.table(weights: [1, 2], heads: 1) }
    #expect(throws: AttentionError.self) { try buckets.table(weights: [], heads: 0) }
  }
}
