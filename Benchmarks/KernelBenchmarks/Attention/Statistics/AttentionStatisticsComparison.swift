import AttentionReference
import RealModule
import VulkanAttention

/// What statistics should be, by the reference's probabilities.
struct AttentionStatisticsComparison {
  /// Each row's probabilities, those of packed sequences one after the other: [S · H][T] of each.
  private let rows: [[Double]]
  private let keySums: [Double]
  private let listed: [Double]
  private let topKeyCount: Int

  /// p = exp(s − lse) in f32: scores of a few tens are good to some 1e-6, and so is p relative to itself.
  static let gate = 2e-5
  /// Of the largest absolute error of an entropy.
  static let entropyGate = 2e-4

  /// One sequence: a batch entry or a packed one.
  private struct Sequence {
    let rows: [[Double]]
    let queries: Int
    let keys: Int
  }

  /// - Parameter list: the query tokens of `probabilities`.
  init(_ request: AttentionStatisticsRequest, _ inputs: AttentionInputs, list: [Int32]) {
    let attention = request.attention
    let heads = attention.queryHeads
    let sequences = Self.sequences(attention, inputs)
    rows = sequences.flatMap(\.rows)
    var topKeyCount = 0
    var listed: [Double] = []
    var lastRows = attention.queryTokens
    for statistic in request.statistics {
      switch statistic {
      case .keySums(let count): lastRows = count ?? lastRows
      case .topKeys(let count): topKeyCount = count
      case .entropy: break
      case .probabilities:
        for sequence in sequences {
          for token in list {
            for head in 0..<heads {
              let row = min(max(Int(token), 0), sequence.queries - 1) * heads + head
              let p = sequence.queries > 0 ? sequence.rows[row] : []
              listed += p + [Double](repeating: 0, count: attention.keyTokens - p.count)
            }
          }
        }
      }
    }
    self.topKeyCount = topKeyCount
    self.listed = listed
    // Of each sequence [H][T]; packed ones stand side by side.
    let sums = sequences.map { sequence in
      (0..<heads).map { head in
        (0..<sequence.keys).map { key in
          (max(0, sequence.queries - lastRows)..<sequence.queries).reduce(0.0) {
            $0 + sequence.rows[$1 * heads + head][key]
          }
        }
      }
    }
    keySums =
      attention.packedSequences == nil
      ? sums.flatMap { $0.flatMap { $0 } }
      : (0..<heads).flatMap { head in sums.flatMap { $0[head] } }
  }

  private static func sequences(
    _ request: AttentionRequest, _ inputs: AttentionInputs
  ) -> [Sequence] {
    let options = request.referenceOptions(inputs.operands)
    let (heads, keys) = (request.queryHeads, request.keyTokens)
    func split(_ p: [Double], width: Int) -> [[Double]] {
      width == 0
        ? [] : stride(from: 0, to: p.count, by: width).map { Array(p[$0..<$0 + width]) }
    }
    guard let packed = request.packedDimensions(inputs.operands) else {
      let p = attentionProbabilities(
        q: inputs.query, k: inputs.key, dimensions: request.dimensions, options: options)
      let rows =
        keys == 0
        ? [[Double]](repeating: [], count: request.dimensions.rowCount) : split(p, width: keys)
      let perSequence = request.queryTokens * heads
      return (0..<request.batchSize).map { b in
        Sequence(
          rows: Array(rows[b * perSequence..<(b + 1) * perSequence]), queries: request.queryTokens,
          keys: keys)
      }
    }
    return (0..<packed.sequences).map { b in
      let (queries, keys) = (packed.queries(of: b), packed.keys(of: b))
      guard let own = packed.sequence(b) else {
        return Sequence(rows: [], queries: 0, keys: keys.count)
      }
      func part(_ values: [Float], _ tokens: Range<Int>, _ width: Int) -> [Float] {
        Array(values[tokens.lowerBound * width..<tokens.upperBound * width])
      }
      let p = attentionProbabilities(
        q: part(inputs.query, queries, heads * packed.keyChannels),
        k: part(inputs.key, keys, packed.keyHeads * packed.keyChannels), dimensions: own,
        options: options.ofSequence(b, in: packed))
      let rows =
        keys.isEmpty
        ? [[Double]](repeating: [], count: own.rowCount) : split(p, width: keys.count)
      return Sequence(rows: rows, queries: queries.count, keys: keys.count)
    }
  }

  private var entropy: [Double] {
    rows.map { $0.reduce(0) { $0 - ($1 > 0 ? $1 * .log($1) : 0) } }
  }

  /// The keys of each row by falling probability, −1 where it sees no more.
  private var topKeys: [Int] {
    rows.flatMap { p -> [Int] in
      let keys = p.indices.filter { p[$0] > 0 }.sorted { (-p[$0], $0) < (-p[$1], $1) }
      return keys.prefix(topKeyCount)
        + [Int](repeating: -1, count: max(0, topKeyCount - keys.count))
    }
  }

  private var topProbabilities: [Double] {
    topKeys.enumerated().map { $1 < 0 ? 0 : rows[$0 / topKeyCount][$1] }
  }

  /// The results as they should be.
  var expected: AttentionStatisticsReadback {
    AttentionStatisticsReadback(
      keySums: keySums.map { Float($0) }, entropy: entropy.map { Float($0) },
      probabilities: listed.map { Float($0) }, topKeyIndices: topKeys.map { Int32($0) },
      topKeyProbabilities: topProbabilities.map { Float($0) })
  }

  /// The errors of all four statistics.
  func compare(
    _ result: AttentionStatisticsReadback, problems: inout [String]
  ) -> [CheckError] {
    problems += result.strayWrites
    checkIndices(result, problems: &problems)
    return [
      CheckError(
        "sums", .relativeRMS(actual: result.keySums, expected: keySums), gate: Self.gate,
        problems: &problems),
      CheckError(
        "entropy", .worstAbsolute(actual: result.entropy, expected: entropy),
        gate: Self.entropyGate, problems: &problems),
      CheckError(
        "p", .relativeRMS(actual: result.probabilities, expected: listed), gate: Self.gate,
        problems: &problems),
      CheckError(
        "top", .relativeRMS(actual: result.topKeyProbabilities, expected: topProbabilities),
        gate: Self.gate,
        problems: &problems),
    ]
  }

  /// Each listed key once, with its own probability; −1 where the row sees no more.
  private func checkIndices(
    _ result: AttentionStatisticsReadback, problems: inout [String]
  ) {
    guard result.topKeyIndices.count == rows.count * topKeyCount,
      result.topKeyProbabilities.count == result.topKeyIndices.count
    else {
      problems.append(
        "top: \(result.topKeyIndices.count) keys, expected \(rows.count * topKeyCount)")
      return
    }
    for (row, p) in rows.enumerated() {
      let places = row * topKeyCount..<(row + 1) * topKeyCount
      let keys = result.topKeyIndices[places].map(Int.init)
      let found = min(topKeyCount, p.count { $0 > 0 })
      let isRight =
        Set(keys.prefix(found)).count == found && keys.dropFirst(found).allSatisfy { $0 == -1 }
        && zip(keys, result.topKeyProbabilities[places]).prefix(found).allSatisfy { key, weight in
          p.indices.contains(key) && abs(Double(weight) - p[key]) <= 1e-4 * p[key] + 1e-9
        }
      guard isRight else {
        problems.append("top: row \(row) has the keys \(keys)")
        return
      }
    }
  }
}
