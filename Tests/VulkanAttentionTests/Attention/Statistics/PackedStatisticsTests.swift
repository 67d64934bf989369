import TestSupport
import Testing

@testable import KernelBenchmarks
@testable import VulkanAttention

/// Statistics of sequences of their own lengths, packed one behind the other.
@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct PackedStatisticsTests {
  let device: ComputeDevice
  private static let (heads, keyHeads, channels) = (4, 2, 16)
  private static let statistics: [AttentionStatistic] = [
    .keySums(lastRows: 9), .entropy, .probabilities(rowCount: 5), .topKeys(4),
  ]
  private static let list: [Int32] = [7, 0, 3, -7, 1 << 30]

  init() throws {
    device = try TestDevice.shared()
  }

  private static func starts(_ lengths: [Int], first: Int = 0) -> [Int32] {
    lengths.reduce(into: [Int32(first)]) { $0.append(($0.last ?? 0) + Int32($1)) }
  }

  private static func problem(
    _ queries: [Int], _ keys: [Int], mask: AttentionMask = .causal, first: Int = 0,
    outside: Int = 0, scores: AttentionScores = AttentionScores(),
    operands: [AttentionOperand] = []
  ) throws -> OptionProblem {
    OptionProblem(
      try AttentionRequest(
        batchSize: queries.count, queryTokens: queries.max() ?? 1, keyTokens: keys.max() ?? 1,
        queryHeads: heads, keyHeads: keyHeads, headSize: channels, valueHeadSize: 8, mask: mask,
        scores: scores, operands: operands,
        packedSequences: PackedSequences(
          queryTokens: first + queries.reduce(0, +) + outside,
          keyTokens: first + keys.reduce(0, +) + outside),
        returnsLogSumExp: true),
      starts: (starts(queries, first: first), starts(keys, first: first)))
  }

  private func run(_ problem: OptionProblem) async throws -> AttentionStatisticsReadback {
    let kernel = try AttentionKernel(problem.request, on: device, path: .row)
    let tensors = try await KernelBenchmarks.AttentionTensors(
      problem.inputs, for: kernel.plan, on: device)
    try await kernel.run(tensors.buffers)
    let statistics = try AttentionStatisticsKernel(
      AttentionStatisticsRequest(problem.request, statistics: Self.statistics), on: device)
    let results = try await AttentionStatisticsTensors(
      statistics.plan, of: tensors.buffers, rows: Self.list, on: device)
    try await statistics.run(results.buffers)
    let result = try await results.read()
    #expect(result.strayWrites.isEmpty)
    return result
  }

  /// Lengths with sequences that have no query or no key, the last one and the first among them.
  static let lengths: [(queries: [Int], keys: [Int])] = [
    ([3, 0, 40, 1, 17], [5, 7, 0, 64, 13]), ([0, 33, 5], [4, 70, 0]), ([70, 1, 0], [0, 35, 31]),
  ]

  @Test(
    "Packed sequences are what each is alone, bit for bit", arguments: [0, 1, 2],
    [AttentionMask.causal, .window(left: 20, isCausal: false)])
  func separate(index: Int, mask: AttentionMask) async throws {
    let (queries, keys) = Self.lengths[index]
    let packed = try Self.problem(queries, keys, mask: mask)
    let together = try await run(packed)
    let (rows, tokens) = (Self.starts(queries).map(Int.init), Self.starts(keys).map(Int.init))
    let (keyTotal, longest, heads) = (tokens.last ?? 0, keys.max() ?? 0, Self.heads)
    for b in queries.indices {
      func part<Element>(_ values: [Element], _ starts: [Int], _ width: Int) -> [Element] {
        Array(values[starts[b] * width..<starts[b + 1] * width])
      }
      let sums = (0..<heads).flatMap { head in
        together.keySums[head * keyTotal + tokens[b]..<head * keyTotal + tokens[b + 1]]
      }
      let listed = (b * 5 * heads..<(b + 1) * 5 * heads).map { row in
        Array(together.probabilities[row * longest..<(row + 1) * longest])
      }
      // Behind a sequence's own keys there are none.
      #expect(listed.allSatisfy { $0.dropFirst(keys[b]).allSatisfy { $0 == 0 } })
      guard queries[b] > 0 else {
        #expect(sums.allSatisfy { $0 == 0 } && listed.allSatisfy { $0.allSatisfy { $0 == 0 } })
        continue
      }
      let alone = OptionProblem(
        try AttentionRequest(
          queryTokens: queries[b], keyTokens: keys[b], queryHeads: heads, keyHeads: Self.keyHeads,
          headSize: Self.channels, valueHeadSize: 8, mask: mask, returnsLogSumExp: true),
        inputs: AttentionInputs(
          query: part(packed.inputs.query, rows, heads * Self.channels),
          key: part(packed.inputs.key, tokens, Self.keyHeads * Self.channels),
          value: part(packed.inputs.value, tokens, Self.keyHeads * 8)))
      let expected = try await run(alone)
      let what = "sequence \(b), \(queries[b]) by \(keys[b])"
      expectSameBits(sums, expected.keySums, "key sums, \(what)")
      expectSameBits(
        listed.flatMap { $0.prefix(keys[b]) }, expected.probabilities, "probabilities, \(what)")
      expectSameBits(part(together.entropy, rows, heads), expected.entropy, "entropy, \(what)")
      expectSameBits(
        part(together.topKeyIndices, rows, heads * 4), expected.topKeyIndices, "indices, \(what)")
      expectSameBits(
        part(together.topKeyProbabilities, rows, heads * 4), expected.topKeyProbabilities,
        "top keys, \(what)")
    }
  }

  @Test("With operands per sequence, token and key they are the reference's")
  func operands() async throws {
    var scores = AttentionScores()
    (scores.relativeLeft, scores.relativeRight) = (21, 4)
    var packed = try Self.problem(
      [3, 20, 0, 17], [5, 40, 7, 13], scores: scores,
      operands: [
        .init(.keyLengths), .init(.leftPadding), .init(.keyBias), .init(.queryScales),
        .init(.gates), .init(.querySegments), .init(.keySegments), .init(.relativeKeys),
        .init(.relativeQueryBias),
      ])
    packed.set(.keyLengths, [5, 33, 7, 0] as [Int32])
    packed.set(.leftPadding, [1, 2, 0, 0] as [Int32])
    let request = try AttentionStatisticsRequest(packed.request, statistics: Self.statistics)
    var problems: [String] = []
    _ = AttentionStatisticsComparison(request, packed.inputs, list: Self.list)
      .compare(try await run(packed), problems: &problems)
    #expect(problems == [])
  }

  @Test("Tokens outside of every sequence are not touched")
  func outside() async throws {
    let packed = try Self.problem([5, 9], [8, 11], first: 3, outside: 4)
    let result = try await run(packed)
    let (rows, keys) = (3 * Self.heads..<17 * Self.heads, 3..<22)
    for row in 0..<21 * Self.heads {
      #expect(result.entropy[row].isNaN == !rows.contains(row), "row \(row)")
    }
    for (index, sum) in result.keySums.enumerated() {
      #expect(sum.isNaN == !keys.contains(index % 26), "key \(index % 26)")
    }
  }

  @Test("Starts that lie lead nowhere outside", arguments: 0..<5)
  func lyingStarts(index: Int) async throws {
    let lies: [(queries: [Int32], keys: [Int32])] = [
      ([0, 30, 10, 40], [0, 40, 20, 60]), ([-7, 5, 400, 40], [-9, 20, 1000, 60]),
      ([.min, .max, .min, .max], [.max, .min, .max, .min]), ([40, 40, 40, 40], [60, 60, 0, 60]),
      ([40, 0, 40, 0], [60, 0, 60, 0]),
    ]
    var packed = try Self.problem([20, 10, 10], [30, 20, 10])
    packed.set(.queryStarts, lies[index].queries)
    packed.set(.keyStarts, lies[index].keys)
    _ = try await run(packed)
  }

  @Test("Keys in no sequence at all")
  func noKeys() async throws {
    let result = try await run(try Self.problem([3, 5], [0, 0]))
    #expect(result.entropy.allSatisfy { $0 == 0 } && result.keySums.isEmpty)
    #expect(result.topKeyIndices.allSatisfy { $0 == -1 })
  }
}
