import AttentionReference
import Testing

/// Scores and masks by functions of the caller, worked by hand or against the options that say the same.
@Suite struct ModificationTests {
  private let dimensions = AttentionDimensions(
    batch: 2, queryTokens: 2, keyTokens: 3, queryHeads: 2, keyHeads: 1, keyChannels: 1,
    valueChannels: 1)

  /// Each key's weight, one row of the problem after another.
  private func weights(_ change: (inout AttentionOptions) -> Void) -> [[Double]] {
    var options = AttentionOptions(scale: 1)
    change(&options)
    let p = attentionProbabilities(
      q: [Double](repeating: 1, count: dimensions.qCount),
      k: [Double](repeating: 0, count: dimensions.kCount), dimensions: dimensions,
      options: options)
    return (0..<dimensions.rowCount).map { Array(p[$0 * 3..<$0 * 3 + 3]) }
  }

  @Test func aMaskIsAskedForEveryPair() {
    let p = weights {
      $0.maskModification = { b, h, i, j in b == 1 && (h == 0 || i == 1) && j != i }
    }
    // Rows are [B, S, H].
    let none = [0.0, 0, 0]
    #expect(
      p == [none, none, none, none, [0, 0.5, 0.5], none, [0.5, 0, 0.5], [0.5, 0, 0.5]])
  }

  @Test func aScoreTakesTheOthersPlace() throws {
    // Softmax of the logarithms of 1, 2 and 5; the bias, ln 2, is in the score that is handed on.
    let p = weights {
      $0.keyBias = PerKey([Double](repeating: 0.6931471805599453, count: 3), heads: 1)
      $0.scoreModification = { score, _, h, _, j in
        if h == 1 && j == 0 { return -.infinity }
        return score + [-0.6931471805599453, 0, 0.9162907318741551][j]
      }
    }
    for (row, weights) in p.enumerated() {
      let expected = row % 2 == 0 ? [0.125, 0.25, 0.625] : [0, 2.0 / 7, 5.0 / 7]
      for (weight, expected) in zip(weights, expected) {
        #expect(abs(weight - expected) < 1e-12, "row \(row)")
      }
    }
  }

  @Test func packedSequencesKeepTheirNumbers() {
    let packed = PackedDimensions(
      queryTokens: 3, keyTokens: 5, queryStarts: [0, 1, 3], keyStarts: [0, 2, 5], queryHeads: 1,
      keyHeads: 1, keyChannels: 1, valueChannels: 1)
    var options = AttentionOptions(scale: 1)
    options.maskModification = { b, _, i, j in j == (b == 0 ? 1 : i) }
    options.scoreModification = { _, b, _, i, j in Double(100 * b + 10 * i + j) }
    let result = variableLengthAttention(
      q: [0, 0, 0], k: [0, 0, 0, 0, 0], v: [1, 2, 3, 4, 5], dimensions: packed, options: options)
    #expect(result.o == [2, 3, 4])
    #expect(result.lse == [1, 100, 111])
  }
}
