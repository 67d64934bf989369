import TestSupport
import Testing

@testable import VulkanAttention

/// The chunked form whose states are split over lanes: every tile that a plan can have.
@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct LinearChunkSubgroupTests {
  let device: ComputeDevice

  init() throws {
    device = try TestDevice.shared()
  }

  /// A plan as of a GPU, which reads records ahead and has more subgroups in a workgroup, with blocks of so many rows.
  private func plan(
    _ request: LinearAttentionRequest, rows: Int, workgroupSize: Int
  ) throws -> LinearAttentionPlan {
    var capabilities = device.capabilities
    capabilities.kind = .discrete
    let tile = LinearAttentionTileParameters(
      form: .chunk, path: .subgroup, blockRows: rows, workgroupSize: workgroupSize)
    let plan = try LinearAttentionPlan(
      request, device: capabilities,
      tuning: Tuning([
        request.tuningKey: .init(
          .linear(tile), speedup: 1, workload: "a workload", time: "2026-11-30")
      ]))
    #expect(plan.isTuned && plan.tile.blockRows == rows)
    return plan
  }

  private static let operandSets: [(operands: Set<LinearAttentionOperand>, erases: Bool)] = [
    ([.keyDecay, .initialState], false), ([.decay, .beta, .initialState], true),
    ([.valueDecay, .keyDecay, .beta, .eraseKeys], true),
  ]

  /// From one lane for a column to all of a subgroup's, more rows of a block than lanes and fewer, groups of rows that
  /// lanes have not all, columns of no one: K, V and rows.
  @Test(
    arguments: [(3, 2, 8), (20, 9, 16), (40, 24, 4), (72, 70, 4), (72, 70, 8), (72, 70, 16)],
    operandSets.indices)
  func tiles(_ sizes: (Int, Int, Int), _ index: Int) async throws {
    let (operands, erases) = Self.operandSets[index]
    var problem = LinearProblem(
      try LinearAttentionRequest(
        tokens: 53, keyHeads: 1, valueHeads: 2, keyHeadSize: sizes.0, valueHeadSize: sizes.1,
        erases: erases, packedSequences: 3, operands: operands.union([.finalState])))
    problem.integers[.sequenceStarts] = [0, 20, 21, 53]
    let subgroups = sizes.1 > 9 ? 3 : 1
    let plan = try plan(
      problem.request, rows: sizes.2,
      workgroupSize: device.capabilities.subgroupSize * subgroups)
    let result = try await problem.run(plan, on: device)
    let expected = problem.reference()
    expectClose(result.o, to: expected.o, within: 1e-5, "o")
    expectClose(result.state, to: expected.state, within: 1e-5, "state")
  }

  /// Lanes own rows of a block, and what is NaN in a later one is not looked at.
  @Test(arguments: [4, 8, 16])
  func laterRowsAreNotSeen(_ rows: Int) async throws {
    var problem = LinearProblem(
      try LinearAttentionRequest(
        tokens: 21, valueHeads: 1, keyHeadSize: 64, valueHeadSize: 8, erases: true,
        operands: [.keyDecay, .valueDecay, .beta]))
    let plan = try plan(
      problem.request, rows: rows, workgroupSize: device.capabilities.subgroupSize)
    let expected = try await problem.run(plan, on: device).o
    for index in 13 * 64..<21 * 64 { (problem.q[index], problem.k[index]) = (.nan, .nan) }
    for index in 13 * 8..<21 * 8 { problem.v[index] = .nan }
    let o = try await problem.run(plan, on: device).o
    expectSameBits(Array(o[..<(13 * 8)]), Array(expected[..<(13 * 8)]), "tokens before the NaN")
    #expect(o[(13 * 8)...].allSatisfy { $0.isNaN })
  }
}
