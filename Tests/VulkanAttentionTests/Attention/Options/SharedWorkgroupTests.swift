import TestSupport
import Testing

@testable import KernelBenchmarks
@testable import VulkanAttention

/// Several problems in a workgroup of the subgroup path: every option, every place of a share.
@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct SharedWorkgroupTests {
  let device: ComputeDevice

  init() throws {
    device = try TestDevice.shared()
  }

  private func kernel(_ request: AttentionRequest, problems: Int) throws -> AttentionKernel {
    let plan = try AttentionPlan(
      request, device: device.capabilities, path: .subgroup,
      tile: .problems(perWorkgroup: problems))
    try #require(plan.tile.problemsPerWorkgroup == problems)
    return try AttentionKernel(plan, on: device)
  }

  /// The reference's answer, and to the last bit that of a workgroup for each problem.
  private func expectExact(
    _ problem: OptionProblem, problems: [Int], _ what: String,
    sourceLocation: SourceLocation = #_sourceLocation
  ) async throws {
    let single = try await problem.run(kernel(problem.request, problems: 1), on: device)
    problem.expectClose(
      single, to: problem.reference(), "\(what), one", sourceLocation: sourceLocation)
    for count in problems {
      let shared = try await problem.run(kernel(problem.request, problems: count), on: device)
      expectSameBits(shared, single, "\(what), \(count)", sourceLocation: sourceLocation)
    }
  }

  private static let sharedOptions = AttentionCheckOption.allCases.filter { $0 != .blockMap }

  @Test("Every option, with 12 problems in workgroups of 5", arguments: sharedOptions)
  func options(option: AttentionCheckOption) async throws {
    // Shares of 6 lanes, which begin anywhere in subgroups of 8 and of 16; the last workgroup has 2 problems. Of the 45
    // keys some tiles have nothing for one problem and something for its neighbour.
    let checkCase = AttentionCheckCase(
      "test",
      AttentionShape(
        batchSize: 3, queryTokens: 5, keyTokens: 45, queryHeads: 4, keyHeads: 2, headSize: 8),
      .f32, option: option)
    let request = try checkCase.request()
    let problem = OptionProblem(request, inputs: checkCase.inputs(for: request))
    try await expectExact(problem, problems: [5], option.rawValue)
  }

  @Test(
    "Tiny heads of every type, shares of parts of a subgroup, of one and of more",
    arguments: [
      (4, ElementType.f32), (6, .f32), (8, .f32), (12, .f32), (6, .f16), (8, .f16), (6, .bf16),
      (8, .bf16),
    ])
  func sizes(headSize: Int, type: ElementType) async throws {
    for (tokens, keys) in [(1, 5), (5, 9), (8, 8), (16, 33), (20, 20)] {
      let request = try AttentionRequest(
        batchSize: 3, queryTokens: tokens, keyTokens: keys, queryHeads: 3, headSize: headSize,
        elementType: type, mask: .causal, returnsLogSumExp: true)
      let problem = OptionProblem(request)
      try await expectExact(problem, problems: [4], "S = \(tokens), D = \(headSize), \(type)")
    }
  }

  @Test("Two rows a lane and two lanes a row", arguments: [1, 2], [1, 2])
  func tiles(rowsPerLane: Int, lanesPerRow: Int) async throws {
    let request = try AttentionRequest(
      batchSize: 3, queryTokens: 5, keyTokens: 40, queryHeads: 4, keyHeads: 2, headSize: 16,
      mask: .window(left: 9), operands: [.init(.keyLengths)], returnsLogSumExp: true)
    var problem = OptionProblem(request)
    problem.set(.keyLengths, [40, 0, 13] as [Int32])
    let subgroup = device.capabilities.subgroupSize
    for (problems, subgroups) in [(3, 2), (2, 3), (4, 4)] {
      let tile = AttentionTileParameters.Subgroup(
        rowsPerLane: rowsPerLane, lanesPerRow: lanesPerRow, keyTile: 16, keyStep: 4,
        isStaged: false, isWidened: false, workgroupSize: subgroups * max(16, subgroup),
        problemsPerWorkgroup: problems)
      let plan = try AttentionPlan(
        request, device: device.capabilities,
        tuning: Tuning([
          request.tuningKey: .init(
            .attention(.subgroup(tile)), speedup: 1, workload: "a workload", time: "now")
        ]))
      #expect(plan.isTuned && plan.tile.problemsPerWorkgroup == problems)
      problem.expectClose(
        try await problem.run(AttentionKernel(plan, on: device), on: device),
        to: problem.reference(), "\(tile)")
    }
  }

  @Test("Sequences without queries, without keys and with neither, the last one too")
  func emptySequences() async throws {
    let lengths = [(0, 5), (3, 0), (7, 7), (0, 0), (2, 40), (4, 0), (0, 0)]
    func starts(_ lengths: [Int]) -> [Int32] {
      lengths.reduce(into: [0]) { $0.append($0[$0.count - 1] + Int32($1)) }
    }
    let (query, key) = (starts(lengths.map(\.0)), starts(lengths.map(\.1)))
    for mask in [AttentionMask.none, .causal, .window(left: 4)] {
      let request = try AttentionRequest(
        batchSize: lengths.count, queryTokens: 7, keyTokens: 40, queryHeads: 3, headSize: 8,
        mask: mask,
        packedSequences: PackedSequences(queryTokens: Int(query[7]), keyTokens: Int(key[7])),
        returnsLogSumExp: true)
      let problem = OptionProblem(request, starts: (query, key))
      try await expectExact(problem, problems: [4], "\(mask)")
    }
  }

  @Test("One problem's NaN and infinities stay its own")
  func damagedNeighbour() async throws {
    let request = try AttentionRequest(
      batchSize: 4, queryTokens: 5, keyTokens: 11, queryHeads: 3, headSize: 8,
      operands: [.init(.keyLengths)], returnsLogSumExp: true)
    var problem = OptionProblem(request)
    problem.set(.keyLengths, [11, 3, 11, 0] as [Int32])
    let clean = try await problem.run(kernel(request, problems: 12), on: device)
    var damaged = problem
    let rows = 11 * 3 * 8
    for index in rows..<2 * rows {
      damaged.inputs.key[index] = index % 2 == 0 ? .nan : .infinity
      damaged.inputs.value[index] = .nan
    }
    // Of an entry that sees no key at all.
    for index in 3 * rows..<4 * rows { damaged.inputs.value[index] = .nan }
    let result = try await damaged.run(kernel(request, problems: 12), on: device)
    let width = 5 * 3 * 8
    for (entry, isDamaged) in [false, true, false, false].enumerated() {
      let range = entry * width..<(entry + 1) * width
      if isDamaged {
        #expect(result.output[range].allSatisfy { $0.isNaN })
      } else {
        expectSameBits(
          Array(result.output[range]), Array(clean.output[range]), "entry \(entry)")
      }
    }
    #expect(result.output.suffix(width).allSatisfy { $0 == 0 })
    #expect(result.logSumExp?.suffix(15).allSatisfy { $0 == -.infinity } == true)
  }

  @Test("Returned states are those of a workgroup for each problem")
  func states() async throws {
    let request = try AttentionRequest(
      batchSize: 3, queryTokens: 6, keyTokens: 20, queryHeads: 3, headSize: 8, mask: .causal,
      returnsLogSumExp: true, resumes: true, returnsState: true)
    let problem = OptionProblem(request)
    let single = try await problem.run(kernel(request, problems: 1), on: device)
    let shared = try await problem.run(kernel(request, problems: 4), on: device)
    #expect(shared.state != nil)
    expectSameBits(shared, single, "state")
  }

  @Test("Submissions of some batch entries each", arguments: RunMode.allCases)
  func pieces(mode: RunMode) async throws {
    let request = try AttentionRequest(
      batchSize: 11, queryTokens: 6, keyTokens: 9, queryHeads: 3, headSize: 8,
      returnsLogSumExp: true)
    let problem = OptionProblem(request)
    let plan = try AttentionPlan(
      request, device: device.capabilities, path: .subgroup, tile: .problems(perWorkgroup: 4),
      operationsPerPiece: request.floatingPointOperations / 11 * 3)
    #expect(plan.pieces.map(\.batches) == [0..<3, 3..<6, 6..<9, 9..<11])
    let result = try await problem.run(AttentionKernel(plan, on: device), on: device, mode: mode)
    problem.expectClose(result, to: problem.reference(), "pieces")
  }
}
