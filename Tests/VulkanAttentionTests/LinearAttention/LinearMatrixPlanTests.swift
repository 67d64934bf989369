import ShaderLibrary
import TestSupport
import Testing

@testable import VulkanAttention

/// When linear attention goes to matrix units, with what tiles, and what it refuses; without a device.
@Suite struct LinearMatrixPlanTests {
  private func request(
    tokens: Int = 1024, heads: Int = 32, keys: Int = 128, values: Int = 128,
    type: ElementType = .f16, erases: Bool = false, updates: Int = 1, before: Bool = false,
    operands: Set<LinearAttentionOperand> = [.headDecay]
  ) throws -> LinearAttentionRequest {
    try LinearAttentionRequest(
      batchSize: 4, tokens: tokens, valueHeads: heads, keyHeadSize: keys, valueHeadSize: values,
      updatesPerToken: updates, elementType: type, erases: erases, readsBeforeUpdate: before,
      operands: operands)
  }

  @Test(arguments: [SampleDevice.nvidia, .amd, .intel])
  func longSequencesGoToMatrixUnits(_ sample: SampleDevice) throws {
    let device = try sample.capabilities()
    for type in [ElementType.f16, .bf16] {
      let plan = try LinearAttentionPlan(request(type: type), device: device)
      #expect(plan.path == .matrix && plan.form == .chunk)
    }
    let plan = try LinearAttentionPlan(request(), device: device)
    #expect(plan.explanation == ["chunk matrix: 1024 updates of a sequence"])
    // A request that they do not take says so and runs elsewhere.
    let other = try LinearAttentionPlan(request(operands: [.valueDecay]), device: device)
    #expect(other.path == .subgroup && other.form == .chunk)
    #expect(other.explanation.contains { $0.hasPrefix("chunk matrix: cannot run: ") })
    let short = try LinearAttentionPlan(request(tokens: 8), device: device)
    #expect(short.form == .recurrent)
    #expect(short.explanation.contains("chunk matrix: fewer than 32 updates of a sequence"))
    // What is asked for is what runs.
    #expect(
      try LinearAttentionPlan(request(tokens: 8), device: device, path: .matrix).path == .matrix)
    #expect(try LinearAttentionPlan(request(), device: device, path: .row).path == .row)
    #expect(
      try LinearAttentionPlan(request(), device: device, form: .recurrent).form == .recurrent)
  }

  @Test func devicesWithoutMatrixUnits() throws {
    let software = try SampleDevice.software.capabilities()
    #expect(try LinearAttentionPlan(request(), device: software).path == .row)
    #expect(try LinearAttentionPlan(request(), device: software, path: .matrix).path == .matrix)
    for sample in [SampleDevice.mobile, .smallest] {
      let device = try sample.capabilities()
      #expect(try LinearAttentionPlan(request(), device: device).path != .matrix)
      #expect(throws: AttentionError.self) {
        try LinearAttentionPlan(request(), device: device, path: .matrix)
      }
    }
  }

  @Test func refusals() throws {
    let device = try SampleDevice.nvidia.capabilities()
    func expectRefused(
      _ request: LinearAttentionRequest, says text: String,
      form: LinearAttentionForm? = nil, sourceLocation: SourceLocation = #_sourceLocation
    ) {
      let error = #expect(throws: AttentionError.self, sourceLocation: sourceLocation) {
        try LinearAttentionPlan(request, device: device, form: form, path: .matrix)
      }
      guard case .pathUnavailable(.matrix, let reason)? = error else {
        Issue.record(
          "another error: \(String(describing: error))", sourceLocation: sourceLocation)
        return
      }
      #expect(reason.contains(text), sourceLocation: sourceLocation)
    }
    expectRefused(try request(type: .f32), says: "f32 tensors their accuracy")
    expectRefused(try request(erases: true, operands: [.valueDecay]), says: "valueDecay")
    expectRefused(try request(operands: [.snapshots]), says: "snapshots")
    expectRefused(try request(operands: [.snapshots, .parents]), says: "parents")
    expectRefused(
      try request(before: true, operands: [.lowRankA, .lowRankB]), says: "reading before")
    expectRefused(
      try request(type: .f32, operands: [.keyDecay]), says: "f32 tensors their accuracy")
    expectRefused(try request(keys: 512), says: "registers")
    expectRefused(try request(), says: "blocks of tokens", form: .recurrent)
  }

  /// Tiles fit the device: fragments divide chunk and columns, and shared memory and registers suffice.
  @Test(
    arguments: [SampleDevice.software, .nvidia, .amd, .intel],
    [(16, 16), (24, 40), (64, 64), (128, 128), (100, 96), (256, 256)])
  func tilesFit(_ sample: SampleDevice, _ sizes: (Int, Int)) throws {
    let device = try sample.capabilities()
    let request = try request(keys: sizes.0, values: sizes.1)
    let plan = try LinearAttentionPlan(request, device: device, path: .matrix)
    let tile = try #require(plan.tile.matrix)
    #expect(tile.sharedBytes <= device.maxSharedBytes)
    #expect(tile.registers <= 192 || device.kind == .cpu)
    #expect(
      plan.tile.blockRows % tile.fragment.n == 0 && plan.tile.blockRows % tile.fragment.k == 0)
    #expect(tile.chunk == plan.tile.blockRows && tile.columns <= tile.chunk)
    #expect(tile.columns % tile.fragment.n == 0 && tile.columns % 8 == 0)
    #expect(tile.chunk / tile.lanesPerRow % tile.fragment.k == 0)
    #expect(plan.tile.columnsPerWorkgroup == tile.columns)
    #expect(plan.tile.workgroupSize <= device.maxWorkgroupInvocations)
    for stage in plan.stages {
      let pipeline = try plan.pipelineDescription(stage)
      let expected =
        sample == .software ? "linear_matrix_software" : "linear_matrix"
      #expect(stage.shaderName == expected || stage.shaderName == "linear_matrix_scan")
      #expect(pipeline.requiresFullSubgroups)
    }
  }

  /// The tile of the sums that the shader's header makes.
  @Test func sharedBytesAreThoseOfTheHeader() throws {
    let device = try SampleDevice.nvidia.capabilities()
    let tile = try #require(
      LinearAttentionPlan(request(), device: device, path: .matrix).tile.matrix)
    #expect(tile.chunk == 64 && tile.columns == 64 && tile.subgroups == 4)
    #expect(tile.sharedBytes == 16 * 64 * (17 + 9 + 17) + 40 * 64 + 56)
    #expect(tile.registers == 136)
  }

  private static let preparedSets: [(operands: Set<LinearAttentionOperand>, erases: Bool)] = [
    ([.keyDecay], false), ([.beta, .decay], true), ([.keyDecay, .lowRankA, .lowRankB], false),
    ([.writeGates], false),
  ]

  /// What does not decay as a whole goes by prepared blocks, whose tiles fit the device as well.
  @Test(
    arguments: [SampleDevice.software, .nvidia, .amd, .intel],
    [(7, 9), (24, 40), (64, 64), (128, 128), (256, 256), (512, 512)])
  func preparedTilesFit(_ sample: SampleDevice, _ sizes: (Int, Int)) throws {
    let device = try sample.capabilities()
    for (operands, erases) in Self.preparedSets {
      let request = try request(
        keys: sizes.0, values: sizes.1, erases: erases, operands: operands)
      let plan = try LinearAttentionPlan(request, device: device, path: .matrix)
      let tile = try #require(plan.tile.matrix)
      #expect(tile.sharedBytes <= device.maxSharedBytes && tile.recordBytes % 16 == 0)
      #expect(tile.registers <= 192 || device.kind == .cpu)
      #expect([32, 64].contains(tile.chunk) && tile.chunk == plan.tile.blockRows)
      #expect(tile.chunk == tile.subgroups * tile.fragment.m)
      #expect(tile.columns % tile.fragment.n == 0 && tile.columns % 8 == 0)
      #expect(plan.tile.workgroupSize <= device.maxWorkgroupInvocations)
      let suffix = sample == .software ? "_software" : ""
      for stage in plan.stages {
        #expect(
          [
            "linear_matrix_prepare" + suffix, "linear_matrix_walk" + suffix,
            "linear_matrix_scan_records",
          ].contains(stage.shaderName))
        let pipeline = try plan.pipelineDescription(stage)
        #expect(pipeline.requiresFullSubgroups)
        #expect(pipeline.constants["BLOCK_ROWS"] == UInt32(tile.chunk))
        #expect(pipeline.constants["IS_SPLIT"] == 0)
      }
      // A GPU takes them unasked.
      #expect(try LinearAttentionPlan(request, device: device).path == .matrix || suffix != "")
    }
  }

  @Test func preparedBlocksTakeFragmentsOf16() throws {
    let device = try SampleDevice.software.capabilities()
    func plan(_ size: Int) throws -> LinearAttentionPlan {
      try LinearAttentionPlan(
        request(operands: [.keyDecay]), device: device, form: nil, path: .matrix,
        fragment: .fragment(m: size, n: size, k: size), bounds: .init(device))
    }
    #expect(try plan(16).tile.matrix?.fragment.m == 16)
    let error = #expect(throws: AttentionError.self) { try plan(32) }
    guard case .pathUnavailable(.matrix, let reason)? = error else {
      Issue.record("another error: \(String(describing: error))")
      return
    }
    #expect(reason.contains("groups of 16 rows"))
  }

  /// Every dispatch's records have room, hold all of its rows, and stay within their bound.
  @Test(arguments: [0, 1, 2])
  func preparedPieces(_ index: Int) throws {
    let device = try SampleDevice.nvidia.capabilities()
    let (operands, erases) = Self.preparedSets[index]
    let request = try request(tokens: 5000, erases: erases, operands: operands)
    let plan = try LinearAttentionPlan(request, device: device)
    let tile = try #require(plan.tile.matrix)
    let records = try #require(plan.scratch.records)
    #expect(records.count <= 64 << 20 && plan.pieceCount > 1)
    var next: [Int: Int] = [:]
    let rows = LinearAttentionCutter.rowsPerToken(request)
    for piece in plan.pieces {
      let (prepare, walk) = (try #require(piece.first), try #require(piece.last))
      #expect(piece.count == 2 && prepare.stage.shaderName == "linear_matrix_prepare")
      #expect(walk.stage.shaderName == "linear_matrix_walk")
      #expect(prepare.tokens == walk.tokens && prepare.heads == walk.heads)
      #expect(prepare.groups.x * tile.chunk >= prepare.tokens.count * rows)
      #expect(
        prepare.groups.x * prepare.groups.y * prepare.groups.z * tile.recordBytes <= records.count)
      // Blocks end with the dispatch, or with the sequence.
      #expect(
        prepare.tokens.count * rows % tile.chunk == 0 || prepare.tokens.upperBound == 5000)
      for sequence in prepare.sequences {
        for head in prepare.heads {
          #expect(next[sequence * 64 + head, default: 0] == prepare.tokens.lowerBound)
          next[sequence * 64 + head] = prepare.tokens.upperBound
        }
      }
    }
    #expect(next.count == 4 * 32 && next.values.allSatisfy { $0 == 5000 })
  }

  /// Parts of a sequence where what a part does to the state is a factor for each row.
  @Test func preparedParts() throws {
    var device = try SampleDevice.nvidia.capabilities()
    device.computeUnits = 132
    func plan(_ operands: Set<LinearAttentionOperand>, erases: Bool) throws -> LinearAttentionPlan {
      try LinearAttentionPlan(
        request(tokens: 4096, heads: 2, erases: erases, operands: operands), device: device)
    }
    let decaying = try plan([.keyDecay], erases: false)
    #expect(decaying.partCount > 1)
    #expect(
      decaying.pieces.first?.map(\.stage.shaderName) == [
        "linear_matrix_prepare", "linear_matrix_walk", "linear_matrix_scan_records",
        "linear_matrix_walk",
      ])
    #expect(try plan([.beta], erases: true).partCount == 1)
  }

  /// Blocks of the sums that the shaders' headers make.
  @Test func preparedBytesAreThoseOfTheHeaders() throws {
    let device = try SampleDevice.nvidia.capabilities()
    func tile(
      _ operands: Set<LinearAttentionOperand>, erases: Bool, values: Int = 128
    ) throws -> LinearAttentionPlan.MatrixTile? {
      try LinearAttentionPlan(
        request(values: values, erases: erases, operands: operands), device: device
      ).tile.matrix
    }
    let erasing = try #require(try tile([.beta, .keyDecay], erases: true))
    #expect(erasing.chunk == 64 && erasing.columns == 64)
    #expect(erasing.sharedBytes == 35_352 && erasing.registers == 152)
    #expect(erasing.recordBytes == 123_936)
    #expect(try tile([.keyDecay], erases: false)?.recordBytes == 58_400)
    // Where columns are few, preparing takes the most.
    #expect(try tile([.beta], erases: true, values: 16)?.sharedBytes == 26_924)
  }

  /// Few heads get narrower tiles, so that there are more workgroups.
  @Test func fewHeadsGetNarrowerTiles() throws {
    var device = try SampleDevice.nvidia.capabilities()
    device.computeUnits = 132
    func columns(_ heads: Int) throws -> Int? {
      try LinearAttentionPlan(request(heads: heads), device: device).tile.matrix?.columns
    }
    #expect(try columns(32) == 64)
    #expect(try columns(4) == 32)
  }

  /// A measured tile that is the plan's own is taken; another is refused with the reason.
  @Test func tuning() throws {
    let device = try SampleDevice.nvidia.capabilities()
    let request = try request()
    let own = try LinearAttentionPlan(request, device: device, path: .matrix).tileParameters
    #expect(own.path == .matrix && own.refusal(on: device) == nil)
    func plan(_ tile: LinearAttentionTileParameters) throws -> LinearAttentionPlan {
      try LinearAttentionPlan(
        request, device: device,
        tuning: Tuning([
          request.tuningKey: .init(
            .linear(tile), speedup: 1.5, workload: "a workload", time: "2026-11-21")
        ]))
    }
    let tuned = try plan(own)
    #expect(tuned.isTuned && tuned.path == .matrix && tuned.tile.matrix != nil)
    var other = own
    other.workgroupSize *= 2
    let refused = try plan(other)
    #expect(!refused.isTuned && refused.path == .matrix)
    #expect(refused.explanation.first?.hasPrefix("tuning: cannot run: ") == true)
  }
}
