import ShaderLibrary
import TestSupport
import Testing

@testable import VulkanAttention

/// When several problems share a workgroup of the subgroup path. Without a device.
@Suite struct WorkgroupSharesTests {
  private func request(
    batch: Int = 4096, tokens: Int, heads: Int = 4, headSize: Int = 8, type: ElementType = .f32,
    mask: AttentionMask = .none, operands: [AttentionOperand] = []
  ) throws -> AttentionRequest {
    try AttentionRequest(
      batchSize: batch, queryTokens: tokens, queryHeads: heads, headSize: headSize,
      elementType: type, mask: mask, operands: operands)
  }

  private func tuning(
    _ request: AttentionRequest, problems: Int, workgroup: Int, isStaged: Bool = false
  ) -> Tuning {
    let tile = AttentionTileParameters.Subgroup(
      rowsPerLane: 2, lanesPerRow: 1, keyTile: 32, keyStep: 8, isStaged: isStaged,
      isWidened: false, workgroupSize: workgroup, problemsPerWorkgroup: problems)
    return Tuning([
      request.tuningKey: .init(
        .attention(.subgroup(tile)), speedup: 2, workload: "a workload", time: "now")
    ])
  }

  @Test(
    "On GPUs problems of a subgroup or less share 128 invocations, each in lanes of its own",
    arguments: [
      // Two rows a lane. Subgroups of 32: chess boards, Swin's windows, rows of tables, axes.
      (SampleDevice.nvidia, 64, 4, 128), (.nvidia, 49, 4, 128), (.nvidia, 33, 4, 128),
      (.nvidia, 30, 8, 128), (.nvidia, 20, 12, 128), (.nvidia, 8, 32, 128), (.nvidia, 1, 64, 64),
      // Of 64.
      (.amd, 128, 2, 128), (.amd, 64, 4, 128), (.amd, 49, 5, 128), (.amd, 8, 32, 128),
    ])
  func shares(sample: SampleDevice, tokens: Int, problems: Int, workgroup: Int) throws {
    let device = try sample.capabilities()
    let request = try request(tokens: tokens)
    let plan = try AttentionPlan(request, device: device)
    let tile = plan.tile
    #expect(plan.path == .subgroup && tile.problemsPerWorkgroup == problems)
    #expect(tile.workgroupSize == workgroup && tile.queryRows >= tokens && plan.tileCount == 1)
    #expect(tile.constants["STAGED"] == 0 && tile.constants["WIDENED"] == 0)
    #expect(tile.sharedBytes == 16)
    #expect(plan.pieces.map(\.heads) == [0..<4] && plan.pieces.map(\.batches) == [0..<4096])
    #expect(plan.pieces[0].workgroups(tile).x == ceilingDivide(4096 * 4, problems))
    #expect(
      plan.explanation.last?.contains("\(problems) problems (heads of batch entries)") == true)
    // The same numbers as a tuned tile.
    let same = try AttentionPlan(
      request, device: device,
      tuning: Tuning([
        request.tuningKey: .init(
          .attention(tile.parameters), speedup: 1, workload: "a workload", time: "now")
      ]))
    #expect(same.isTuned && same.tile.constants == tile.constants && same.pieces == plan.pieces)
    #expect(same.tile.workgroupSize == tile.workgroupSize)
  }

  @Test("Few problems keep a workgroup each, so that cores do not wait")
  func fewProblems() throws {
    let device = try SampleDevice.nvidia.capabilities()
    func plan(batch: Int, tokens: Int = 8) throws -> AttentionPlan {
      try AttentionPlan(request(batch: batch, tokens: tokens), device: device)
    }
    let few = try plan(batch: 100)
    #expect(few.tile.problemsPerWorkgroup == 1 && few.tile.workgroupSize == 32)
    #expect(few.explanation.last?.contains("400 are too few") == true)
    // 256 workgroups are left at least.
    for (batch, problems) in [(128, 2), (200, 3), (1024, 16)] {
      let plan = try plan(batch: batch)
      #expect(plan.tile.problemsPerWorkgroup == problems)
      #expect(plan.pieces[0].workgroups(plan.tile).x >= 256)
    }
    // More than a subgroup takes: as ever, and not a word about it.
    let long = try plan(batch: 4096, tokens: 65)
    #expect(long.tile.problemsPerWorkgroup == 1 && long.tile.workgroupSize == 64)
    #expect(long.tile.constants["STAGED"] == 1)
    #expect(long.explanation.last?.contains("problem") == false)
  }

  @Test("What cannot share says why, and is refused where it is forced")
  func refusals() throws {
    let device = try SampleDevice.nvidia.capabilities()
    let forced = AttentionTileChoice.problems(perWorkgroup: 4)
    func reason(
      _ request: AttentionRequest, _ choice: AttentionTileChoice = forced
    ) -> String {
      let error = #expect(throws: AttentionError.self) {
        try AttentionPlan(request, device: device, path: .subgroup, tile: choice)
      }
      guard case .pathUnavailable(.subgroup, let reason) = error else { return "\(error as Any)" }
      return reason
    }
    var mask = AttentionMask.none
    (mask.blockMapRows, mask.blockMapKeys) = (64, 64)
    let mapped = try request(tokens: 49, mask: mask, operands: [.init(.blockMap)])
    let plan = try AttentionPlan(mapped, device: device)
    #expect(plan.tile.problemsPerWorkgroup == 1)
    #expect(plan.explanation.last?.contains("one problem to a workgroup: with a block map") == true)
    #expect(reason(mapped).contains("block map"))

    // One batch entry would be a submission that is never cut.
    let wide = try AttentionRequest(
      batchSize: 64, queryTokens: 64, keyTokens: 1 << 24, queryHeads: 8, headSize: 8)
    let cut = try AttentionPlan(wide, device: device)
    #expect(cut.tile.problemsPerWorkgroup == 1)
    #expect(cut.explanation.last?.contains("more than one submission takes") == true)
    #expect(reason(wide).contains("more than one submission takes"))

    let tiny = try request(tokens: 8)
    #expect(reason(tiny, .problems(perWorkgroup: 0)).contains("1 to 256"))
    #expect(reason(tiny, .problems(perWorkgroup: 257)).contains("1 to 256"))
    #expect(
      reason(try request(tokens: 512), .problems(perWorkgroup: 64)).contains("workgroups of 16384"))
    let single = try AttentionPlan(
      tiny, device: device, path: .subgroup, tile: .problems(perWorkgroup: 1))
    #expect(single.tile.problemsPerWorkgroup == 1 && single.tile.constants["STAGED"] == 1)
  }

  @Test("Tuned numbers of problems are held against the rows, the staging and the request")
  func tunedProblems() throws {
    let device = try SampleDevice.nvidia.capabilities()
    let tiny = try request(tokens: 30)
    func plan(
      _ request: AttentionRequest, _ problems: Int, _ workgroup: Int = 128, isStaged: Bool = false
    ) throws -> AttentionPlan {
      try AttentionPlan(
        request, device: device,
        tuning: tuning(request, problems: problems, workgroup: workgroup, isStaged: isStaged))
    }
    // 128 / 8 lanes of 2 rows are 32 rows, 128 / 9 are 28.
    let taken = try plan(tiny, 8)
    #expect(taken.isTuned && taken.tile.problemsPerWorkgroup == 8 && taken.tile.queryRows == 32)
    let unshared = try plan(tiny, 1)
    #expect(unshared.isTuned && unshared.tile.workgroupSize == 32)
    for (refused, allowed) in [
      (try plan(tiny, 9), "share of the workgroup has 30 rows"), (try plan(tiny, 0), "1 to 256"),
      (try plan(tiny, 257, 1024), "1 to 256"),
      (try plan(tiny, 4, isStaged: true), "1 where tiles are staged"),
    ] {
      #expect(!refused.isTuned && refused.tile.problemsPerWorkgroup == 8)
      #expect(refused.explanation.first?.hasPrefix("tuning: cannot run: ") == true)
      #expect(refused.explanation.first?.contains(allowed) == true, "\(refused.explanation)")
    }
    // A search gets from one problem of staged tiles to several of unstaged ones.
    let neighbours = AttentionTileParameters.subgroup(
      .init(
        rowsPerLane: 2, lanesPerRow: 1, keyTile: 32, keyStep: 8, isStaged: true, isWidened: true,
        workgroupSize: 128)
    ).neighbours
    #expect(
      neighbours.contains { tile in
        guard case .subgroup(let tile) = tile else { return false }
        return tile.problemsPerWorkgroup == 2 && !tile.isStaged && !tile.isWidened
      })
  }

  @Test("Pieces have all heads of some batch entries, within the grid and the bound of work")
  func pieces() throws {
    var device = try SampleDevice.nvidia.capabilities()
    device.maxWorkgroupCount = [100, 1, 1]
    let request = try request(batch: 1000, tokens: 8, heads: 6)
    let plan = try AttentionPlan(
      request, device: device, path: .subgroup, tile: .problems(perWorkgroup: 4))
    // 100 workgroups of 4 problems are 66 batch entries of 6 heads.
    #expect(plan.pieces.allSatisfy { $0.heads == 0..<6 && $0.tiles == 0..<1 && $0.keys == nil })
    #expect(plan.pieces.map(\.batches.count) == [Int](repeating: 66, count: 15) + [10])
    #expect(
      plan.pieces.map { $0.workgroups(plan.tile).x } == [Int](repeating: 99, count: 15) + [15])
    #expect(plan.pieces.map(\.batches.lowerBound) == Array(stride(from: 0, to: 1000, by: 66)))

    device.maxWorkgroupCount = [65_535, 65_535, 65_535]
    let perEntry = request.floatingPointOperations / 1000
    let bounded = try AttentionPlan(
      request, device: device, path: .subgroup, tile: .problems(perWorkgroup: 4),
      operationsPerPiece: perEntry * 300)
    #expect(bounded.pieces.map(\.batches) == [0..<300, 300..<600, 600..<900, 900..<1000])
  }

  @Test("Tiny heads have no lanes without channels", arguments: SampleDevice.allCases)
  func tinyHeads(sample: SampleDevice) throws {
    let device = try sample.capabilities()
    for headSize in [4, 6, 8, 12, 16] {
      let request = try request(tokens: 500, headSize: headSize)
      guard let plan = try? AttentionPlan(request, device: device, path: .subgroup) else {
        #expect(sample == .unusable)
        continue
      }
      // Units of 4 channels.
      let units = ceilingDivide(headSize, 4)
      let lanes = Int(plan.tile.constants["LANES_PER_ROW"] ?? 0)
      #expect(lanes > 0 && ceilingDivide(units, lanes) * lanes <= units + 1, "D = \(headSize)")
    }
  }
}
