import TestSupport
import Testing

@testable import VulkanRuntime

@Suite struct FreeListTests {
  @Test func takesTheFirstFit() {
    var list = FreeList(byteCount: 100)
    let starts = [30, 30, 40, 1].map { list.allocate($0, alignment: 1) }
    #expect(starts == [0, 30, 60, nil])
    list.free(0..<30)
    list.free(60..<100)
    let again = [31, 30].map { list.allocate($0, alignment: 1) }
    #expect(again == [60, 0])
  }

  @Test func alignsAndKeepsTheGap() {
    var list = FreeList(byteCount: 64)
    let aligned = [3, 5].map { list.allocate($0, alignment: 16) }
    #expect(aligned == [0, 16])
    // The gap before the aligned start is still to be had.
    let gap = list.allocate(13, alignment: 1)
    #expect(gap == 3)
    let tooLarge = list.allocate(48, alignment: 16)
    #expect(tooLarge == nil)
  }

  @Test func mergesWithBothNeighbours() {
    var list = FreeList(byteCount: 30)
    let starts = (0..<3).map { _ in list.allocate(10, alignment: 1) }
    #expect(starts == [0, 10, 20])
    #expect(list.ranges.isEmpty)
    list.free(0..<10)
    list.free(20..<30)
    #expect(list.ranges == [0..<10, 20..<30])
    list.free(10..<20)
    #expect(list.isWhole)
  }

  @Test("Random use against a model: no overlap, no byte lost, whole at the end", arguments: 0..<20)
  func agreesWithModel(seed: Int) throws {
    var random = SplitMix64(seed: UInt64(seed))
    let byteCount = Int.random(in: 1...4000, using: &random)
    var list = FreeList(byteCount: byteCount)
    var live: [Range<Int>] = []
    for _ in 0..<500 {
      if live.isEmpty || Int.random(in: 0..<5, using: &random) < 3 {
        let count = Int.random(in: 1...max(1, byteCount / 6), using: &random)
        let alignment = 1 << Int.random(in: 0...6, using: &random)
        let expected = Self.firstFit(
          count, alignment: alignment, live: live, byteCount: byteCount)
        let start = list.allocate(count, alignment: alignment)
        try #require(start == expected)
        if let start { live.append(start..<start + count) }
      } else {
        list.free(live.remove(at: Int.random(in: 0..<live.count, using: &random)))
      }
      // The list and what is in use tile the block, and neighbours are merged.
      let all = (live + list.ranges).sorted { $0.lowerBound < $1.lowerBound }
      try #require(all.first?.lowerBound == 0 && all.last?.upperBound == byteCount)
      try #require(zip(all, all.dropFirst()).allSatisfy { $0.upperBound == $1.lowerBound })
      try #require(
        zip(list.ranges, list.ranges.dropFirst()).allSatisfy { $0.upperBound < $1.lowerBound })
    }
    for range in live.shuffled(using: &random) { list.free(range) }
    #expect(list.isWhole)
  }

  /// Where a search over every aligned start puts the range.
  private static func firstFit(
    _ count: Int, alignment: Int, live: [Range<Int>], byteCount: Int
  ) -> Int? {
    stride(from: 0, through: byteCount - count, by: alignment).first { start in
      !live.contains { $0.overlaps(start..<start + count) }
    }
  }
}
