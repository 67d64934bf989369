import AttentionReference
import Testing

@Suite struct DraftTreeTests {
  ///     0 ─┬─ 1 ── 3
  ///        └─ 2
  ///     4
  private let tree = DraftTree(parents: [nil, 0, 0, 1, nil])

  @Test func bitsAndDepths() {
    #expect(tree.ancestorBits == [0b1, 0b11, 0b101, 0b1011, 0b10000])
    #expect(tree.depths == [0, 1, 1, 2, 0])
    let chain = DraftTree(parents: [nil] + (0..<9).map { $0 })
    #expect(chain.ancestorBits[0..<4] == [1, 0, 3, 0])
    #expect(chain.ancestorBits[18...] == [0xFF, 3])
    #expect(DraftTree(parents: []).ancestorBits == [])
  }

  @Test func acceptedPaths() {
    let tokens = [7, 8, 9, 5, 6]
    #expect(
      tree.acceptedPath(tokens: tokens, predictions: [8, 5, 0, 1, 0], first: 7) == [0, 1, 3])
    #expect(tree.acceptedPath(tokens: tokens, predictions: [9, 5, 0, 1, 0], first: 7) == [0, 2])
    #expect(tree.acceptedPath(tokens: tokens, predictions: [9, 5, 0, 1, 7], first: 6) == [4])
    #expect(tree.acceptedPath(tokens: tokens, predictions: [9, 5, 0, 1, 0], first: 1) == [])
  }

  /// Each node's row is that of a sequence that ends with the node's path.
  @Test func rowsAreThoseOfTheirPaths() {
    var random = SeededNumbers(seed: 21)
    let (committed, nodes) = (6, 5)
    let dimensions = AttentionDimensions(
      batch: 1, queryTokens: nodes, keyTokens: committed + nodes, queryHeads: 2, keyHeads: 1,
      keyChannels: 4, valueChannels: 3)
    let q = random.normal(dimensions.qCount)
    let k = random.normal(dimensions.kCount)
    let v = random.normal(dimensions.vCount)
    var options = AttentionOptions()
    options.treeTokens = nodes
    options.treeBits = PerToken(tree.ancestorBits)
    let whole = attention(q: q, k: k, v: v, dimensions: dimensions, options: options)
    for (node, path) in [[0], [0, 1], [0, 2], [0, 1, 3], [4]].enumerated() {
      let keys = Array(0..<committed) + path.map { committed + $0 }
      let alone = attention(
        q: Array(q[node * 8..<(node + 1) * 8]), k: keys.flatMap { k[$0 * 4..<($0 + 1) * 4] },
        v: keys.flatMap { v[$0 * 3..<($0 + 1) * 3] },
        dimensions: AttentionDimensions(
          batch: 1, queryTokens: 1, keyTokens: keys.count, queryHeads: 2, keyHeads: 1,
          keyChannels: 4, valueChannels: 3))
      #expect(alone.o == Array(whole.o[node * 6..<(node + 1) * 6]))
      #expect(alone.lse == Array(whole.lse[node * 2..<(node + 1) * 2]))
    }
    // A chain is the causal mask.
    options.treeBits = PerToken(DraftTree(parents: [nil, 0, 1, 2, 3]).ancestorBits)
    let chain = attention(q: q, k: k, v: v, dimensions: dimensions, options: options)
    let causal = attention(
      q: q, k: k, v: v, dimensions: dimensions, options: AttentionOptions(causal: true))
    #expect(chain.o == causal.o && chain.lse == causal.lse)
  }

  /// Cache after verification is that of a sequence that was given the accepted tokens alone.
  @Test func compaction() {
    var random = SeededNumbers(seed: 22)
    let table = PageTable(
      pageSize: 3, indptr: [0, 1, 5], indices: [4, 2, 0, 1, 3], lastPageLengths: [3, 2])
    for layout in [
      CacheLayout.contiguous(capacity: 12), .ring(capacity: 12), .paged(table),
      .paged(table, .hnd),
    ] {
      for path in [[0, 1, 3], [0, 2], [4], [], [0, 1, 2, 3, 4]] {
        let committed = 6
        let tokens = random.normal((committed + 5) * 2 * 3)
        var cache = [Double](repeating: .nan, count: 2 * 12 * 2 * 3)
        appendToCache(
          tokens, sequences: Array(repeating: 1, count: 11), positions: Array(0..<11),
          cache: &cache, layout: layout, heads: 2, channels: 3)
        compactCache(
          &cache, layout: layout, sequence: 1, committed: committed, path: path, heads: 2,
          channels: 3)
        let keys = gatheredCache(
          cache, layout: layout, lengths: [0, committed + path.count], heads: 2, channels: 3,
          filler: 0)
        let expected = (Array(0..<committed) + path.map { committed + $0 }).flatMap {
          tokens[$0 * 6..<($0 + 1) * 6]
        }
        #expect(Array(keys[keys.count / 2..<keys.count]) == expected)
      }
    }
  }
}
