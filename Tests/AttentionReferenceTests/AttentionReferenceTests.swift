import AttentionReference
import Testing

@Suite struct AttentionReferenceTests {
  @Test func agreesWithSecondFormulation() {
    // Sizes and options drawn at random, every option in some of the draws.
    var numbers = SeededNumbers(seed: 1)
    for draw in 0..<400 {
      let keyHeads = numbers.pick([1, 2, 3])
      let dimensions = AttentionDimensions(
        batch: numbers.pick([1, 2]), queryTokens: numbers.pick([1, 2, 5, 9]),
        keyTokens: numbers.pick([0, 1, 4, 9, 13]), queryHeads: keyHeads * numbers.pick([1, 2]),
        keyHeads: keyHeads, keyChannels: numbers.pick([1, 3, 8]),
        valueChannels: numbers.pick([1, 5, 8]))
      let options = randomOptions(dimensions, &numbers)
      let q = numbers.normal(dimensions.qCount)
      let k = numbers.normal(dimensions.kCount)
      let v = numbers.normal(dimensions.vCount)

      let result = attention(q: q, k: k, v: v, dimensions: dimensions, options: options)
      let second = onlineAttention(q: q, k: k, v: v, dimensions, options)
      let o = ErrorMeasure.worstAbsolute(actual: result.o, expected: second.o)
      let lse = ErrorMeasure.worstAbsolute(actual: result.lse, expected: second.lse)
      #expect(o.isWithin(1e-12), "draw \(draw) \(dimensions) \(options) o: \(o)")
      #expect(lse.isWithin(1e-12), "draw \(draw) \(dimensions) \(options) lse: \(lse)")
    }
  }

  private func randomOptions(
    _ dimensions: AttentionDimensions, _ numbers: inout SeededNumbers
  ) -> AttentionOptions {
    var options = AttentionOptions(
      scale: numbers.pick([nil, 0.7]), causal: numbers.pick([false, true]))
    options.alignment = numbers.pick([.bottomRight, .topLeft])
    options.windowLeft = numbers.pick([nil, nil, 0, 3])
    options.windowRight = numbers.pick([nil, nil, 0, 2])
    options.sinkTokens = numbers.pick([0, 2])
    options.softcap = numbers.pick([0, 0, 1.5])
    let heads = dimensions.queryHeads
    if numbers.pick([false, true]) {
      let (batch, perHead) = (numbers.pick([1, dimensions.batch]), numbers.pick([1, heads]))
      let count = batch * perHead * dimensions.queryTokens * dimensions.keyTokens
      options.bias = PerScore(
        numbers.normal(count).map { $0 > 1 ? -.infinity : $0 }, batch: batch, heads: perHead)
    }
    if numbers.pick([false, true]) {
      let (batch, perHead) = (numbers.pick([1, dimensions.batch]), numbers.pick([1, heads]))
      let count = batch * perHead * dimensions.queryTokens * dimensions.keyTokens
      options.mask = PerScore(
        numbers.normal(count).map { $0 > -0.5 ? 1 : 0 }, batch: batch, heads: perHead)
    }
    if numbers.pick([false, true]) { options.sinks = numbers.normal(heads) }
    if numbers.pick([false, true]) { options.alibiSlopes = numbers.normal(heads) }
    if numbers.pick([false, true]) {
      options.kvLengths = (0..<dimensions.batch).map { _ in
        numbers.pick(Array(0...dimensions.keyTokens))
      }
    }
    return options
  }

  @Test func noKeysGivesZeroAndMinusInfinity() {
    let dimensions = AttentionDimensions(
      batch: 2, queryTokens: 3, keyTokens: 0, queryHeads: 2, keyHeads: 1, keyChannels: 4,
      valueChannels: 5)
    let result = attention(
      q: [Double](repeating: .nan, count: dimensions.qCount), k: [], v: [], dimensions: dimensions)
    #expect(result.o == [Double](repeating: 0, count: dimensions.oCount))
    #expect(result.lse == [Double](repeating: -.infinity, count: dimensions.rowCount))
  }

  @Test func hiddenKeysAreNeverRead() {
    // Causal: row i of 6 sees keys 0...i. With everything from key 3 on poisoned, rows 0, 1 and 2
    // keep their values and the others become NaN.
    let dimensions = AttentionDimensions(
      batch: 1, queryTokens: 6, keyTokens: 6, queryHeads: 1, keyHeads: 1, keyChannels: 4,
      valueChannels: 3)
    var numbers = SeededNumbers(seed: 2)
    let q = numbers.normal(dimensions.qCount)
    var k = numbers.normal(dimensions.kCount)
    var v = numbers.normal(dimensions.vCount)
    let causal = AttentionOptions(causal: true)
    let clean = attention(q: q, k: k, v: v, dimensions: dimensions, options: causal)
    for index in 3 * 4..<k.count { k[index] = .nan }
    for index in 3 * 3..<v.count { v[index] = index % 2 == 0 ? .nan : .infinity }
    let poisoned = attention(q: q, k: k, v: v, dimensions: dimensions, options: causal)
    #expect(poisoned.o[..<9] == clean.o[..<9])
    #expect(poisoned.lse[..<3] == clean.lse[..<3])
    #expect(poisoned.o[9...].allSatisfy { $0.isNaN })
    #expect(poisoned.lse[3...].allSatisfy { $0.isNaN })
  }

  @Test func infiniteScoreGivesNaN() {
    let dimensions = AttentionDimensions(
      batch: 1, queryTokens: 1, keyTokens: 2, queryHeads: 1, keyHeads: 1, keyChannels: 1,
      valueChannels: 1)
    let result = attention(q: [1], k: [Double.infinity, 0], v: [1, 1], dimensions: dimensions)
    #expect(result.o[0].isNaN && result.lse[0].isNaN)
  }

  @Test func chosenRowsAreTheSameRows() {
    let dimensions = AttentionDimensions(
      batch: 2, queryTokens: 40, keyTokens: 30, queryHeads: 4, keyHeads: 2, keyChannels: 8,
      valueChannels: 6)
    var numbers = SeededNumbers(seed: 3)
    let q = numbers.normal(dimensions.qCount)
    let k = numbers.normal(dimensions.kCount)
    let v = numbers.normal(dimensions.vCount)
    let rows = dimensions.sampledRows(count: 50, seed: 7)
    #expect(rows.count == 50 && rows == Set(rows).sorted())
    #expect(rows.contains(0) && rows.contains(dimensions.rowCount - 1))
    #expect(rows.contains(dimensions.row(batch: 1, token: 0, head: 3)))

    let all = attention(q: q, k: k, v: v, dimensions: dimensions)
    let some = attention(q: q, k: k, v: v, dimensions: dimensions, rows: rows.reversed())
    #expect(some.lse == rows.reversed().map { all.lse[$0] })
    #expect(some.o == rows.reversed().flatMap { all.o[$0 * 6..<$0 * 6 + 6] })
  }

  @Test func fewRowsAreAllSampled() {
    let dimensions = AttentionDimensions(
      batch: 1, queryTokens: 3, keyTokens: 1, queryHeads: 2, keyHeads: 1, keyChannels: 1,
      valueChannels: 1)
    #expect(dimensions.sampledRows(count: 100) == Array(0..<6))
  }

  @Test func floatInputsAreWidened() {
    let dimensions = AttentionDimensions(
      batch: 1, queryTokens: 5, keyTokens: 7, queryHeads: 2, keyHeads: 1, keyChannels: 8,
      valueChannels: 4)
    var numbers = SeededNumbers(seed: 4)
    let q = numbers.normal(dimensions.qCount).map { Float($0) }
    let k = numbers.normal(dimensions.kCount).map { Float($0) }
    let v = numbers.normal(dimensions.vCount).map { Float($0) }
    let narrow = attention(q: q, k: k, v: v, dimensions: dimensions)
    let wide = attention(
      q: q.map { Double($0) }, k: k.map { Double($0) }, v: v.map { Double($0) },
      dimensions: dimensions)
    #expect(narrow.o == wide.o && narrow.lse == wide.lse)
  }
}
