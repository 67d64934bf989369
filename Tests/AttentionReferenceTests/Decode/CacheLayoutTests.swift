import AttentionReference
import Testing

@Suite struct CacheLayoutTests {
  /// 3 keys of sequence 0 in pages 2 and 0, none of sequence 1, 2 keys of sequence 2 in page 1.
  private let table = PageTable(
    pageSize: 2, indptr: [0, 2, 2, 3], indices: [2, 0, 1], lastPageLengths: [1, 0, 2])

  @Test func lengthsOfPages() {
    #expect(table.lengths == [3, 0, 2] && table.sequences == 3)
  }

  @Test func pagesInBothOrders() {
    // Two heads of one channel: 100 · page + 10 · slot + head.
    let nhd = [0, 1, 10, 11, 100, 101, 110, 111, 200, 201, 210, 211]
    let hnd = [0, 10, 1, 11, 100, 110, 101, 111, 200, 210, 201, 211]
    let expected = [
      200, 201, 210, 211, 0, 1, -1, -1, -1, -1, -1, -1, 100, 101, 110, 111, -1, -1,
    ]
    for (pages, order) in [(nhd, PageOrder.nhd), (hnd, .hnd)] {
      let keys = gatheredCache(
        pages, layout: .paged(table, order), lengths: table.lengths, heads: 2, channels: 1,
        filler: -1)
      #expect(keys == expected)
    }
  }

  @Test func ringForgetsTheOldest() {
    // Capacity 3, keys 0...4: places hold 3, 4, 2.
    let layout = CacheLayout.ring(capacity: 3)
    #expect(layout.firstKey(length: 5) == 2 && layout.firstKey(length: 2) == 0)
    let keys = gatheredCache(
      [30, 40, 20, 0, 10, -9], layout: layout, lengths: [5, 2], heads: 1, channels: 1, filler: -1)
    #expect(keys == [-1, -1, 20, 30, 40, 0, 10, -1, -1, -1])
    #expect(CacheLayout.contiguous(capacity: 9).firstKey(length: 9) == 0)
  }

  @Test func appendedKeysAreFoundAgain() {
    var random = SeededNumbers(seed: 3)
    let layouts: [CacheLayout] = [
      .contiguous(capacity: 4), .ring(capacity: 4), .paged(table), .paged(table, .hnd),
    ]
    for layout in layouts {
      var cache = Array(repeating: Double.nan, count: 3 * 4 * 2 * 3)
      let tokens = random.normal(5 * 2 * 3)
      appendToCache(
        tokens, sequences: [0, 2, 0, 2, 0], positions: [0, 0, 1, 1, 2], cache: &cache,
        layout: layout, heads: 2, channels: 3)
      let keys = gatheredCache(
        cache, layout: layout, lengths: [3, 0, 2], heads: 2, channels: 3, filler: 0)
      func token(_ n: Int) -> [Double] { Array(tokens[n * 6..<(n + 1) * 6]) }
      let empty = Array(repeating: 0.0, count: 6)
      #expect(
        keys == token(0) + token(2) + token(4) + empty + empty + empty + token(1) + token(3)
          + empty)
      #expect(cache.filter(\.isNaN).count == cache.count - tokens.count)
    }
  }

  @Test func newKeysAreRotatedAndValuesAreNot() {
    var rotary = RotaryEmbedding()
    rotary.rotaryChannels = 2
    var random = SeededNumbers(seed: 4)
    let (k, v) = (random.normal(2 * 4), random.normal(2 * 3))
    var keys = [Double](repeating: 0, count: 8 * 4)
    var values = [Double](repeating: 0, count: 8 * 3)
    appendToCaches(
      k: k, v: v, sequences: [0, 0], positions: [6, 7], keyCache: &keys, valueCache: &values,
      layout: .contiguous(capacity: 8), heads: 1, keyChannels: 4, valueChannels: 3, rotary: rotary)
    #expect(
      Array(keys[24...]) == rotary.rotated(k, positions: [6, 7], heads: 1, channels: 4)
        && keys[26] == k[2] && keys[24] != k[0])
    #expect(Array(values[18...]) == v)
  }
}
