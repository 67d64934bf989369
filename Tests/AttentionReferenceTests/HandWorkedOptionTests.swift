import AttentionReference
import Foundation
import Testing

/// Which keys a query sees, spelled as one string for each row: 1 visible, 0 hidden.
///
/// S = 4 and T = 6 unless said: bottom-right, queries stand at keys 2, 3, 4 and 5.
@Suite struct HandWorkedVisibilityTests {
  private func visible(
    batch: Int = 1, heads: Int = 1, queries: Int = 4, keys: Int = 6,
    _ change: (inout AttentionOptions) -> Void
  ) -> [String] {
    let dimensions = AttentionDimensions(
      batch: batch, queryTokens: queries, keyTokens: keys, queryHeads: heads, keyHeads: 1,
      keyChannels: 1, valueChannels: 1)
    var options = AttentionOptions()
    change(&options)
    let p = attentionProbabilities(
      q: [Double](repeating: 0, count: dimensions.qCount),
      k: [Double](repeating: 0, count: dimensions.kCount), dimensions: dimensions,
      options: options)
    return (0..<dimensions.rowCount).map { row in
      p[row * keys..<(row + 1) * keys].map { $0 > 0 ? "1" : "0" }.joined()
    }
  }

  @Test func causalBlock() {
    #expect(
      visible {
        $0.causal = true
        $0.causalBlock = 2
      } == ["111100", "111100", "111111", "111111"])
    // Positions −2, −1, 0, 1: the first two are in the block −3..<0, which sees no key.
    #expect(
      visible(keys: 2) {
        $0.causal = true
        $0.causalBlock = 3
      } == ["00", "00", "11", "11"])
    // Without a causal mask it means nothing.
    #expect(visible { $0.causalBlock = 2 } == [String](repeating: "111111", count: 4))
  }

  @Test func prefix() {
    #expect(
      visible {
        $0.causal = true
        $0.prefixTokens = 4
      } == ["111100", "111100", "111110", "111111"])
    #expect(
      visible(batch: 2, queries: 2) {
        $0.causal = true
        $0.prefixTokens = 3
        $0.prefixLengths = [6, 0]
      } == ["111111", "111111", "111110", "111111"])
    // The prefix is exempt from the causal mask alone.
    #expect(
      visible(queries: 2) {
        $0.causal = true
        $0.prefixTokens = 6
        $0.windowLeft = 1
        $0.windowRight = 0
      } == ["000110", "000011"])
  }

  @Test func chunk() {
    #expect(visible { $0.chunk = 3 } == ["111000", "000111", "000111", "000111"])
    #expect(
      visible {
        $0.causal = true
        $0.chunk = 3
        $0.sinkTokens = 1
      } == ["111000", "100100", "100110", "100111"])
    // Positions −2 and −1 are of the chunk −2..<0, not of 0..<2.
    #expect(visible(keys: 2) { $0.chunk = 2 } == ["00", "00", "11", "11"])
  }

  @Test func sinkTokensBesideTheCausalMask() {
    #expect(
      visible(keys: 4) {
        $0.causal = true
        $0.windowLeft = 0
        $0.sinkTokens = 2
      } == ["1000", "1100", "1110", "1101"])
  }

  @Test func headWindows() {
    #expect(
      visible(heads: 3, queries: 2) {
        // Not read: every head has a window of its own.
        $0.windowLeft = 0
        $0.headWindows = [
          HeadWindow(left: 0, right: 0), HeadWindow(left: nil, right: 0),
          HeadWindow(left: 2, right: nil),
        ]
      } == ["000010", "111110", "001111", "000001", "111111", "000111"])
  }

  @Test func leftPadding() {
    #expect(
      visible(batch: 2, queries: 2) {
        $0.causal = true
        $0.leftPadding = [0, 5]
      } == ["111110", "111111", "000000", "000001"])
  }

  @Test func segments() {
    func segments(_ options: inout AttentionOptions) {
      options.querySegments = PerToken([0, 0, 1, 3])
      options.keySegments = PerToken([0, 1, 1, 0, 2, 0])
    }
    #expect(visible { segments(&$0) } == ["100101", "100101", "011000", "000000"])
    #expect(
      visible {
        segments(&$0)
        $0.segmentRule = .different
      } == ["011010", "011010", "100111", "111111"])
    #expect(
      visible(batch: 2, queries: 1, keys: 2) {
        $0.querySegments = PerToken([5, 6], batch: 2)
        $0.keySegments = PerToken([5, 6])
      } == ["10", "01"])
  }

  @Test func maskBits() {
    // The lowest bit first: 0b0110 is keys 1 and 2; the second byte holds keys 8 and 9.
    let mask = PerScore(
      maskBits: [0b0000_0110, 0b10, 0b1000_0001, 0b1111_1101], keyTokens: 10, queries: 2)
    #expect(visible(queries: 2, keys: 10) { $0.mask = mask } == ["0110000001", "1000000110"])
    // Shared by the queries, one for each head.
    let shared = PerScore(maskBits: [0b011, 0b100], keyTokens: 3, heads: 2, queries: 1)
    #expect(
      visible(heads: 2, queries: 2, keys: 3) { $0.mask = shared } == ["110", "001", "110", "001"])
  }

  @Test func tree() {
    // n = 5: the last three keys are 2, 3 and 4.
    #expect(
      visible {
        $0.kvLengths = [5]
        $0.treeTokens = 3
        $0.treeBits = PerToken([0b001, 0b011, 0b101, 0b000])
      } == ["111000", "111100", "111010", "110000"])
    // The ninth draft token's bit is the lowest of the second byte.
    #expect(
      visible(batch: 2, queries: 1, keys: 10) {
        $0.treeTokens = 9
        $0.treeBits = PerToken([0b11, 0b0, 0b1000_0000, 0b1], batch: 2, width: 2)
      } == ["1110000000", "1000000011"])
    // More draft tokens than keys: the keys are the last of them.
    #expect(
      visible(queries: 1, keys: 2) {
        $0.treeTokens = 4
        $0.treeBits = PerToken([0b1011])
      } == ["01"])
  }

  @Test func everyOptionMustAllowAKey() {
    // Hidden are key 0 by padding, 2 by its segment, 3 by the mask, 4 by the tree, and 6 and 7 by
    // the causal mask.
    #expect(
      visible(queries: 1, keys: 8) {
        $0.alignment = .topLeft
        $0.causal = true
        $0.causalBlock = 6
        $0.leftPadding = [1]
        $0.querySegments = PerToken([7])
        $0.keySegments = PerToken([7, 7, 0, 7, 7, 7, 7, 7])
        $0.mask = PerScore([1, 1, 1, 0, 1, 1, 1, 1])
        $0.treeTokens = 4
        $0.treeBits = PerToken([0b1110])
      } == ["01000100"])
  }
}

/// Scores and weights worked by hand, with the numbers of ``HandWorkedAttentionTests``: two queries
/// 1 and 2, three keys 0, ln 2 and ln 3, values 6, 12 and 18. The exponentials are 1, 2, 3 and
/// 1, 4, 9; the queries stand at keys 1 and 2.
@Suite struct HandWorkedScoreTests {
  private let dimensions = AttentionDimensions(
    batch: 1, queryTokens: 2, keyTokens: 3, queryHeads: 1, keyHeads: 1, keyChannels: 1,
    valueChannels: 1)
  private let q: [Double] = [1, 2]
  private let k: [Double] = [0, ln(2), ln(3)]
  private let v: [Double] = [6, 12, 18]

  private func options(_ change: (inout AttentionOptions) -> Void) -> AttentionOptions {
    var options = AttentionOptions(scale: 1)
    change(&options)
    return options
  }

  private func expectRows(
    o: [Double], lse: [Double], values: [Double]? = nil,
    sourceLocation: SourceLocation = #_sourceLocation,
    _ change: (inout AttentionOptions) -> Void
  ) {
    let result = attention(
      q: q, k: k, v: values ?? v, dimensions: dimensions, options: options(change))
    let oError = ErrorMeasure.worstAbsolute(actual: result.o, expected: o)
    let lseError = ErrorMeasure.worstAbsolute(actual: result.lse, expected: lse)
    #expect(oError.isWithin(1e-13), "\(result.o)", sourceLocation: sourceLocation)
    #expect(lseError.isWithin(1e-13), "\(result.lse)", sourceLocation: sourceLocation)
  }

  /// Softmax rows whose exponentials are these.
  private func expectExponentials(
    _ first: [Double], _ second: [Double], sourceLocation: SourceLocation = #_sourceLocation,
    _ change: (inout AttentionOptions) -> Void
  ) {
    let sums = [first, second].map { $0.reduce(0, +) }
    let weighted = [first, second].map { zip($0, v).map { $0 * $1 }.reduce(0, +) }
    expectRows(
      o: [weighted[0] / sums[0], weighted[1] / sums[1]], lse: sums.map(ln),
      sourceLocation: sourceLocation, change)
  }

  @Test func queryScales() {
    expectExponentials([1, 4, 9], [1, 8, 27]) {
      $0.queryScales = PerRow([2, 1.5], queries: 2)
    }
    expectExponentials([1, 4, 9], [1, 16, 81]) { $0.queryScales = PerRow([2]) }
  }

  @Test func keyBias() {
    expectExponentials([2, 2, 0], [2, 4, 0]) { $0.keyBias = PerKey([ln(2), 0, -.infinity]) }
  }

  @Test func biasSharedByQueries() {
    expectExponentials([2, 2, 9], [2, 4, 27]) {
      $0.bias = PerScore([ln(2), 0, ln(3)], queries: 1)
    }
  }

  @Test func relativeBias() {
    // Distances −1, 0, 1 of query 0 and −2, −1, 0 of query 1; −2 shares the entry of −1.
    expectExponentials([2, 6, 15], [2, 8, 27]) {
      $0.relativeLeft = 1
      $0.relativeRight = 1
      $0.relativeBias = [ln(2), ln(3), ln(5)]
    }
    // All farther keys share the only entry.
    expectExponentials([2, 4, 6], [2, 8, 18]) { $0.relativeBias = [ln(2)] }
  }

  @Test func gridBias() {
    // A window of 2 × 2: tokens 0, 1 and 2 at (y, x) = (0, 0), (0, 1) and (1, 0). Query 0's
    // entries are 4, 3 and 1, query 1's 5, 4 and 2.
    expectExponentials([1 * 7, 2 * 5, 3 * 2], [1 * 11, 4 * 7, 9 * 3]) {
      $0.gridHeight = 2
      $0.gridWidth = 2
      $0.gridBias = [0, ln(2), ln(3), ln(5), ln(7), ln(11), 0, 0, 0]
      // The position does not count.
      $0.alignment = .topLeft
    }
  }

  @Test func queryBias() {
    expectExponentials([1, 4, 9], [1, 8, 27]) { $0.queryBias = [1] }
  }

  @Test func relativeKeys() {
    // Query 0: 1·(ln 2, 0, ln 3) more; query 1: twice the entries of −1, −1 and 0.
    expectExponentials([2, 2, 9], [4, 16, 9]) {
      $0.relativeLeft = 1
      $0.relativeRight = 1
      $0.relativeKeys = [ln(2), 0, ln(3)]
    }
    // With a bias of 1 the queries are 2 and 3 here, and 1 and 2 before the keys.
    expectExponentials([4, 2, 27], [8, 32, 9]) {
      $0.relativeLeft = 1
      $0.relativeRight = 1
      $0.relativeKeys = [ln(2), 0, ln(3)]
      $0.relativeQueryBias = [1]
    }
    // The row's scale is that of the whole score.
    expectExponentials([16, 4, 729], [8, 32, 9]) {
      $0.relativeLeft = 1
      $0.relativeRight = 1
      $0.relativeKeys = [ln(2), 0, ln(3)]
      $0.relativeQueryBias = [1]
      $0.queryScales = PerRow([2, 1], queries: 2)
    }
  }

  @Test func softcapCoversTheRelativeScoreAndNoBias() {
    // 2·tanh(ln x / 2) = 2·(x − 1)/(x + 1), x being the exponentials 4, 2, 27 and 8, 32, 9.
    func capped(_ x: Double) -> Double { exp(2 * (x - 1) / (x + 1)) }
    expectExponentials(
      [5 * capped(4), capped(2), capped(27)], [5 * capped(8), capped(32), capped(9)]
    ) {
      $0.softcap = 2
      $0.relativeLeft = 1
      $0.relativeRight = 1
      $0.relativeKeys = [ln(2), 0, ln(3)]
      $0.relativeQueryBias = [1]
      $0.keyBias = PerKey([ln(5), 0, 0])
    }
  }

  @Test func softmaxOffByOne() {
    expectRows(o: [12, 216.0 / 15], lse: [ln(7), ln(15)]) { $0.normalizer = .softmaxOffByOne }
  }

  @Test func reluMean() {
    let sum = 12 * ln(2) + 18 * ln(3)
    expectRows(o: [sum / 3, 2 * sum / 3], lse: [ln(ln(6)), ln(2 * ln(6))]) {
      $0.normalizer = .reluMean
    }
    // Divided by the sequence's key count, whether its keys are visible or not.
    expectRows(o: [12 * ln(2) / 2, 24 * ln(2) / 2], lse: [ln(ln(2)), ln(2 * ln(2))]) {
      $0.normalizer = .reluMean
      $0.kvLengths = [2]
      $0.mask = PerScore([0, 1, 1], queries: 1)
    }
  }

  @Test func reluSum() {
    let mean = (12 * ln(2) + 18 * ln(3)) / ln(6)
    expectRows(o: [mean, mean], lse: [ln(ln(6)), ln(2 * ln(6))]) { $0.normalizer = .reluSum }
    // The bias takes key 1 of query 0 below 0: its value is not read, nor is that of key 0.
    expectRows(o: [18, 18], lse: [ln(ln(3) - 1), ln(2 * ln(3))], values: [.nan, .nan, 18]) {
      $0.normalizer = .reluSum
      $0.bias = PerScore([0, -1, -1, 0, -2, 0])
    }
    // A visible NaN is no weight of 0.
    let invalid = attention(
      q: q, k: k, v: v, dimensions: dimensions,
      options: options {
        $0.normalizer = .reluSum
        $0.keyBias = PerKey([.nan, 0, 0])
      })
    #expect(invalid.o.allSatisfy { $0.isNaN } && invalid.lse.allSatisfy { $0.isNaN })
    // Nothing above 0.
    expectRows(o: [0, 0], lse: [-.infinity, -.infinity]) {
      $0.normalizer = .reluSum
      $0.keyBias = PerKey([-3, -3, -3])
    }
  }

  @Test func sigmoid() {
    // x / (1 + x).
    expectRows(o: [3 + 8 + 13.5, 3 + 9.6 + 16.2], lse: [ln(23.0 / 12), ln(2.2)]) {
      $0.normalizer = .sigmoid(bias: 0)
    }
    // 2x / (1 + 2x), the last key hidden.
    expectRows(o: [4 + 9.6, 4 + 32.0 / 3], lse: [ln(22.0 / 15), ln(14.0 / 9)]) {
      $0.normalizer = .sigmoid(bias: ln(2))
      $0.kvLengths = [2]
    }
    expectRows(o: [0, 0], lse: [-.infinity, -.infinity]) {
      $0.normalizer = .sigmoid(bias: 0)
      $0.leftPadding = [3]
    }
  }

  @Test func gates() {
    expectRows(o: [7, 0], lse: [ln(6), -.infinity]) { $0.gates = PerRow([0.5, 0], queries: 2) }
    // A row whose gate is 0 reads nothing.
    expectRows(o: [0, 0], lse: [-.infinity, -.infinity], values: [.nan, .nan, .nan]) {
      $0.gates = PerRow([0])
    }
  }

  @Test func initialState() {
    // Query 0 comes with weight 2·exp(ln 2) = 4 and output 10·exp(ln 2) = 20, query 1 with nothing.
    expectRows(o: [104.0 / 10, 216.0 / 14], lse: [ln(10), ln(14)]) {
      $0.initialState = AttentionState(max: [ln(2), -.infinity], sum: [2, 0], output: [10, 0])
    }
    // No key, but a state, its maximum above and below the sink's logit.
    expectRows(o: [20.0 / 9, 20.0 / 104], lse: [ln(9), ln(104)]) {
      $0.kvLengths = [0]
      $0.sinks = [ln(5)]
      $0.initialState = AttentionState(max: [ln(2), ln(2)], sum: [2, 49.5], output: [10, 10])
    }
    // Weights of sigmoid are relative to nothing.
    expectRows(o: [24.5 + 10, 28.8], lse: [ln(23.0 / 12 + 2), ln(2.2)]) {
      $0.normalizer = .sigmoid(bias: 0)
      $0.initialState = AttentionState(max: [.nan, 0], sum: [2, 0], output: [10, 0])
    }
  }

  @Test func state() {
    // The sink is no part of it, nor are gates.
    let plain = attentionState(
      q: q, k: k, v: v, dimensions: dimensions,
      options: options {
        $0.sinks = [100]
        $0.gates = PerRow([0.5])
      })
    expectEqual(plain.max, [ln(3), ln(9)])
    expectEqual(plain.sum, [2, 14.0 / 9])
    expectEqual(plain.output, [28, 24])
    let nothing = attentionState(
      q: q, k: k, v: v, dimensions: dimensions,
      options: options { $0.gates = PerRow([1, 0], queries: 2) }, rows: [1])
    expectEqual(nothing.max, [-.infinity])
    expectEqual(nothing.sum + nothing.output, [0, 0])
    // The 1 of the denominator is no part of it either, not even of the maximum.
    let offByOne = attentionState(
      q: q, k: k, v: v, dimensions: dimensions,
      options: options {
        $0.normalizer = .softmaxOffByOne
        $0.keyBias = PerKey([-9, -9, -9])
      }, rows: [0])
    expectEqual(offByOne.max + offByOne.sum, [ln(3) - 9, 2])
    let sigmoid = attentionState(
      q: q, k: k, v: v, dimensions: dimensions,
      options: options { $0.normalizer = .sigmoid(bias: 0) })
    expectEqual(sigmoid.max, [0, 0])
    expectEqual(sigmoid.sum, [23.0 / 12, 2.2])
    expectEqual(sigmoid.output, [24.5, 28.8])
  }

  @Test func probabilities() {
    func p(_ change: (inout AttentionOptions) -> Void, rows: [Int]? = nil) -> [Double] {
      attentionProbabilities(
        q: q, k: k, dimensions: dimensions, options: options(change), rows: rows)
    }
    expectEqual(p { $0.causal = true }, [1.0 / 3, 2.0 / 3, 0, 1.0 / 14, 4.0 / 14, 9.0 / 14])
    expectEqual(
      p {
        $0.sinks = [ln(4)]
        $0.gates = PerRow([0.5])
      }, [0.1, 0.2, 0.3, 1.0 / 18, 4.0 / 18, 9.0 / 18])
    expectEqual(p({ $0.normalizer = .softmaxOffByOne }, rows: [1]), [1.0 / 15, 4.0 / 15, 0.6])
    expectEqual(p({ $0.normalizer = .reluMean }, rows: [0]), [0, ln(2) / 3, ln(3) / 3])
    expectEqual(p({ $0.gates = PerRow([0]) }, rows: [0]), [0, 0, 0])
  }

  private func expectEqual(
    _ actual: [Double], _ expected: [Double], sourceLocation: SourceLocation = #_sourceLocation
  ) {
    let error = ErrorMeasure.worstAbsolute(actual: actual, expected: expected)
    #expect(error.isWithin(1e-13), "\(actual)", sourceLocation: sourceLocation)
  }
}

private func ln(_ value: Double) -> Double { log(value) }
