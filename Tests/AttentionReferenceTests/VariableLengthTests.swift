import AttentionReference
import Testing

/// Packed sequences against the same sequences otherwise.
@Suite struct VariableLengthTests {
  /// Query tokens 3, 0 and 4 from token 1 on, keys 5, 2 and 0 from token 0 on, then 2 tokens and
  /// 1 key that belong to nobody.
  private let packed = PackedDimensions(
    queryTokens: 10, keyTokens: 8, queryStarts: [1, 4, 4, 8], keyStarts: [0, 5, 7, 7],
    queryHeads: 2, keyHeads: 1, keyChannels: 3, valueChannels: 2)

  @Test func sequencesAreAttentionsOfTheirOwn() throws {
    var numbers = SeededNumbers(seed: 1)
    let q = numbers.normal(10 * 2 * 3)
    let k = numbers.normal(8 * 3)
    let v = numbers.normal(8 * 2)
    let result = variableLengthAttention(
      q: q, k: k, v: v, dimensions: packed, options: AttentionOptions(causal: true))
    let first = attention(
      q: Array(q[6..<24]), k: Array(k[..<15]), v: Array(v[..<10]),
      dimensions: AttentionDimensions(
        batch: 1, queryTokens: 3, keyTokens: 5, queryHeads: 2, keyHeads: 1, keyChannels: 3,
        valueChannels: 2),
      options: AttentionOptions(causal: true))
    #expect(Array(result.o[4..<16]) == first.o && Array(result.lse[2..<8]) == first.lse)
    // The third sequence has queries and no key.
    #expect(result.o[16..<32].allSatisfy { $0 == 0 })
    #expect(result.lse[8..<16].allSatisfy { $0 == -.infinity })
    // Rows of no sequence.
    #expect((result.o[..<4] + result.o[32...]).allSatisfy { $0.isNaN })
    #expect((result.lse[..<2] + result.lse[16...]).allSatisfy { $0.isNaN })
    #expect(packed.sequences == 3 && packed.sequence(1) == nil)
  }

  /// Options per token and per sequence against a padded batch of the same sequences.
  @Test func optionsGoWithTheirTokens() {
    let (queryCounts, keyCounts) = ([2, 3, 1], [4, 2, 6])
    let queryStarts = [0, 2, 5, 6]
    let keyStarts = [0, 4, 6, 12]
    let dimensions = PackedDimensions(
      queryTokens: 6, keyTokens: 12, queryStarts: queryStarts, keyStarts: keyStarts,
      queryHeads: 2, keyHeads: 2, keyChannels: 3, valueChannels: 2)
    var numbers = SeededNumbers(seed: 2)
    let q = numbers.normal(6 * 2 * 3)
    let k = numbers.normal(12 * 2 * 3)
    let v = numbers.normal(12 * 2 * 2)
    var options = AttentionOptions(causal: true)
    options.prefixLengths = [3, 0, 2]
    options.kvLengths = [4, 1, 5]
    options.leftPadding = [1, 0, 2]
    options.querySegments = PerToken([1, 2, 1, 1, 2, 1])
    options.keySegments = PerToken([1, 2, 1, 1, 1, 2, 1, 2, 1, 1, 2, 1])
    options.treeTokens = 2
    options.treeBits = PerToken([1, 3, 2, 1, 0, 3])
    options.keyBias = PerKey(numbers.normal(2 * 12), heads: 2)
    options.queryScales = PerRow(numbers.normal(6), queries: 6)
    options.gates = PerRow(numbers.normal(12), queries: 6, heads: 2)
    options.relativeBias = numbers.normal(4)
    options.relativeLeft = 3
    options.initialState = AttentionState(
      max: numbers.normal(12), sum: [Double](repeating: 1, count: 12), output: numbers.normal(24))
    let result = variableLengthAttention(q: q, k: k, v: v, dimensions: dimensions, options: options)

    // The state of the first sequence's rows is the first of the packed ones, and so on.
    for b in 0..<3 {
      let (rows, keys) = (queryStarts[b]..<queryStarts[b + 1], keyStarts[b]..<keyStarts[b + 1])
      func take(_ values: [Double], _ tokens: Range<Int>, _ width: Int) -> [Double] {
        Array(values[tokens.lowerBound * width..<tokens.upperBound * width])
      }
      var own = options
      own.prefixLengths = [[3, 0, 2][b]]
      own.kvLengths = [[4, 1, 5][b]]
      own.leftPadding = [[1, 0, 2][b]]
      own.querySegments = PerToken(Array([1, 2, 1, 1, 2, 1][rows]))
      own.keySegments = PerToken(Array([1, 2, 1, 1, 1, 2, 1, 2, 1, 1, 2, 1][keys]))
      own.treeBits = PerToken(Array([1, 3, 2, 1, 0, 3][rows]))
      let keyBias = options.keyBias?.values ?? []
      own.keyBias = PerKey(
        Array(
          keyBias[..<12][keys] + keyBias[12...][(12 + keys.lowerBound)..<(12 + keys.upperBound)]),
        heads: 2)
      own.queryScales = PerRow(
        take(options.queryScales?.values ?? [], rows, 1), queries: rows.count)
      own.gates = PerRow(take(options.gates?.values ?? [], rows, 2), queries: rows.count, heads: 2)
      own.initialState = options.initialState.map {
        AttentionState(
          max: take($0.max, rows, 2), sum: take($0.sum, rows, 2), output: take($0.output, rows, 4))
      }
      let expected = attention(
        q: take(q, rows, 6), k: take(k, keys, 6), v: take(v, keys, 4),
        dimensions: AttentionDimensions(
          batch: 1, queryTokens: queryCounts[b], keyTokens: keyCounts[b], queryHeads: 2,
          keyHeads: 2, keyChannels: 3, valueChannels: 2), options: own)
      #expect(take(result.o, rows, 4) == expected.o, "sequence \(b)")
      #expect(take(result.lse, rows, 2) == expected.lse, "sequence \(b)")
    }
  }

  @Test func segmentsAreSequences() {
    // Three sequences as long in queries as in keys, packed, or in one row with segment numbers.
    let starts = [0, 3, 4, 9]
    var numbers = SeededNumbers(seed: 3)
    let q = numbers.normal(9 * 2 * 3)
    let k = numbers.normal(9 * 3)
    let v = numbers.normal(9 * 2)
    var options = AttentionOptions(causal: true)
    options.windowLeft = 3
    options.alibiSlopes = [0.5, 0.1]
    let packed = variableLengthAttention(
      q: q, k: k, v: v,
      dimensions: PackedDimensions(
        queryTokens: 9, keyTokens: 9, queryStarts: starts, keyStarts: starts, queryHeads: 2,
        keyHeads: 1, keyChannels: 3, valueChannels: 2), options: options)
    options.querySegments = PerToken([4, 4, 4, 7, 1, 1, 1, 1, 1])
    options.keySegments = options.querySegments
    let segments = attention(
      q: q, k: k, v: v,
      dimensions: AttentionDimensions(
        batch: 1, queryTokens: 9, keyTokens: 9, queryHeads: 2, keyHeads: 1, keyChannels: 3,
        valueChannels: 2), options: options)
    #expect(packed.o == segments.o && packed.lse == segments.lse)
  }

  @Test func storageIsThatOfEachTensor() {
    // 2051 is 2052 in f16 and 2048 in bf16; 257 is 256 in bf16 alone.
    let dimensions = PackedDimensions(
      queryTokens: 1, keyTokens: 1, queryStarts: [0, 1], keyStarts: [0, 1], queryHeads: 1,
      keyHeads: 1, keyChannels: 1, valueChannels: 1)
    let result = variableLengthAttention(
      q: [1], k: [2051], v: [257], dimensions: dimensions, storage: .f32, keyStorage: .f16,
      valueStorage: .bf16)
    #expect(result.lse == [2052] && result.o == [256])
  }
}
