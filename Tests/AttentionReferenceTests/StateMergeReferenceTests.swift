import AttentionReference
import Foundation
import Testing

/// The merge of partial attentions in Double.
///
/// By hand: log-sum-exps 0, ln 2 and ln 3 weigh 1, 2 and 3; the outputs are 6, 12 and 18.
@Suite struct StateMergeReferenceTests {
  private func expectRows(
    _ result: AttentionOutput, o: [Double], lse: [Double],
    sourceLocation: SourceLocation = #_sourceLocation
  ) {
    let oError = ErrorMeasure.worstAbsolute(actual: result.o, expected: o)
    let lseError = ErrorMeasure.worstAbsolute(actual: result.lse, expected: lse)
    #expect(oError.isWithin(1e-13), "\(result.o)", sourceLocation: sourceLocation)
    #expect(lseError.isWithin(1e-13), "\(result.lse)", sourceLocation: sourceLocation)
  }

  @Test func byHand() {
    // One row of two channels: (6 + 24 + 54) / 6, and the second channel is the first times −10.
    let result = mergeStates(
      outputs: [6, -60, 12, -120, 18, -180], logSumExps: [0, log(2), log(3)], partials: 3,
      rows: 1, channels: 2)
    expectRows(result, o: [14, -140], lse: [log(6)])
  }

  @Test("Rows are merged on their own, partial after partial in memory")
  func rows() {
    // Row 0 merges 6 and 12 with weights 1 and 2, row 1 12 and 18 with weights 3 and 1.
    let result = mergeStates(
      outputs: [6, 12, 12, 18], logSumExps: [0, log(3), log(2), 0], partials: 2, rows: 2,
      channels: 1)
    expectRows(result, o: [10, 13.5], lse: [log(3), log(4)])
  }

  @Test("A partial that saw no key counts for nothing, whatever it holds")
  func neutral() {
    let infinity = Double.infinity
    let result = mergeStates(
      outputs: [.nan, 6, .nan, 12, .nan, infinity],
      logSumExps: [-infinity, 0, -infinity, log(2), -infinity, -infinity],
      partials: 3, rows: 2, channels: 1)
    expectRows(result, o: [0, 10], lse: [-infinity, log(3)])
    expectRows(
      mergeStates(outputs: [], logSumExps: [], partials: 0, rows: 2, channels: 1),
      o: [0, 0], lse: [-infinity, -infinity])
  }

  @Test("NaN makes its row NaN and no other")
  func notANumber() {
    let result = mergeStates(
      outputs: [6, 6, .nan, 12, 12, 12], logSumExps: [0, .nan, 0, log(2), log(2), log(2)],
      partials: 2, rows: 3, channels: 1)
    #expect(result.o[0] == 10 && result.o[1].isNaN && result.o[2].isNaN)
    #expect(result.lse[1].isNaN && abs(result.lse[2] - log(3)) < 1e-13)
  }

  @Test("An infinite weight leaves nothing to the finite ones; two of them share")
  func infiniteWeights() {
    let infinity = Double.infinity
    let result = mergeStates(
      outputs: [6, 6, 12, 12, 18, 18], logSumExps: [0, infinity, infinity, 5, 700, infinity],
      partials: 3, rows: 2, channels: 1)
    expectRows(result, o: [12, 12], lse: [infinity, infinity])
  }

  @Test("Rows that list their partials, some of which do not exist")
  func listed() {
    // 6 and 12; none; none, for the start goes back; 18; 18 and what would follow it.
    let result = mergeStates(
      outputs: [6, 12, 18], logSumExps: [0, log(2), log(3)], starts: [-4, 2, 2, 1, 3, 9],
      channels: 1)
    expectRows(
      result, o: [10, 0, 0, 15.6, 0],
      lse: [log(3), -.infinity, -.infinity, log(5), -.infinity])
  }

  @Test("An attention cut anywhere along its keys and merged is the whole attention")
  func splitAttention() {
    var numbers = SeededNumbers(seed: 5)
    let (queries, keys, heads, width) = (3, 11, 2, 4)
    let q = numbers.normal(queries * heads * width)
    let k = numbers.normal(keys * heads * width)
    let v = numbers.normal(keys * heads * width)
    func part(_ range: Range<Int>) -> AttentionOutput {
      let elements = range.lowerBound * heads * width..<range.upperBound * heads * width
      return attention(
        q: q, k: Array(k[elements]), v: Array(v[elements]),
        dimensions: AttentionDimensions(
          batch: 1, queryTokens: queries, keyTokens: range.count, queryHeads: heads,
          keyHeads: heads, keyChannels: width, valueChannels: width))
    }
    let whole = part(0..<keys)
    for cuts in [[0, 11], [0, 0, 11], [0, 1, 11], [0, 3, 4, 10, 11]] {
      let parts = zip(cuts, cuts.dropFirst()).map { part($0..<$1) }
      let result = mergeStates(
        outputs: parts.flatMap(\.o), logSumExps: parts.flatMap(\.lse), partials: parts.count,
        rows: queries * heads, channels: width)
      expectRows(result, o: whole.o, lse: whole.lse)
    }
  }
}
