import ShaderLibrary
import TestSupport
import Testing

@testable import VulkanAttention

/// When the chunked form splits states over lanes, with what tiles, and what it refuses; without a device.
@Suite struct LinearChunkPlanTests {
  private func request(
    tokens: Int = 1024, heads: Int = 32, keys: Int = 128, values: Int = 128, erases: Bool = true,
    operands: Set<LinearAttentionOperand> = [.decay, .beta]
  ) throws -> LinearAttentionRequest {
    try LinearAttentionRequest(
      batchSize: 4, tokens: tokens, valueHeads: heads, keyHeadSize: keys, valueHeadSize: values,
      elementType: .f32, erases: erases, operands: operands)
  }

  private func refusal(
    _ request: LinearAttentionRequest, _ device: DeviceCapabilities,
    form: LinearAttentionForm? = .chunk, _ path: AttentionPath = .subgroup
  ) -> String? {
    let error = #expect(throws: AttentionError.self) {
      try LinearAttentionPlan(request, device: device, form: form, path: path)
    }
    guard case .pathUnavailable(let refused, let reason)? = error, refused == path else {
      return nil
    }
    return reason
  }

  /// GPUs take it where matrix units do not take the request or are not there.
  @Test(arguments: [SampleDevice.nvidia, .amd, .intel, .mobile, .smallest])
  func longSequencesOfGPUs(_ sample: SampleDevice) throws {
    let device = try sample.capabilities()
    for operands in [[], [.keyDecay], [.valueDecay, .beta]] as [Set<LinearAttentionOperand>] {
      let plan = try LinearAttentionPlan(request(operands: operands), device: device)
      #expect(plan.form == .chunk && plan.path == .subgroup)
      #expect(plan.explanation.last == "chunk subgroup: 1024 updates of a sequence")
      #expect(
        Set(plan.stages.map(\.shaderName))
          == ["linear_prepare_subgroup", "linear_chunk_subgroup"])
    }
    // Asked for, row and the tokens' own form are there all the same.
    #expect(
      try LinearAttentionPlan(request(), device: device, form: .chunk, path: .row).path == .row)
    let recurrent = try LinearAttentionPlan(
      request(), device: device, form: .recurrent, path: .subgroup)
    #expect(recurrent.form == .recurrent && recurrent.path == .subgroup)
    let short = try LinearAttentionPlan(request(tokens: 8), device: device, path: .subgroup)
    #expect(short.form == .recurrent && short.path == .subgroup)
    #expect(try LinearAttentionPlan(request(), device: device, path: .subgroup).form == .chunk)
  }

  /// A processor walks tokens, but does what it is asked.
  @Test func processors() throws {
    let device = try SampleDevice.software.capabilities()
    #expect(try LinearAttentionPlan(request(), device: device).form == .recurrent)
    #expect(
      try LinearAttentionPlan(request(), device: device, path: .subgroup).form == .recurrent)
    #expect(try LinearAttentionPlan(request(), device: device, form: .chunk).path == .row)
    let plan = try LinearAttentionPlan(
      request(), device: device, form: .chunk, path: .subgroup)
    #expect(plan.path == .subgroup && plan.explanation == ["chunk subgroup: asked for"])
    #expect(plan.tile.workgroupSize == 16 && !plan.tile.readsAhead)
  }

  /// Tiles fit the device, and every pipeline is of full subgroups.
  @Test(
    arguments: SampleDevice.allCases.filter { $0 != .unusable },
    [(1, 1), (7, 9), (24, 40), (64, 64), (100, 96), (128, 128), (256, 256), (320, 64)])
  func tilesFit(_ sample: SampleDevice, _ sizes: (Int, Int)) throws {
    let device = try sample.capabilities()
    for (erases, operands) in [(false, []), (true, [.beta]), (true, [.keyDecay])]
      as [(Bool, Set<LinearAttentionOperand>)]
    {
      let request = try request(
        keys: sizes.0, values: sizes.1, erases: erases, operands: operands)
      guard
        let plan = try? LinearAttentionPlan(
          request, device: device, form: .chunk, path: .subgroup)
      else {
        // Four rows of the largest states are more than 16 KiB.
        #expect(refusal(request, device)?.contains("17152 bytes") == true)
        #expect(sample == .smallest && sizes.0 == 320)
        continue
      }
      let tile = plan.tile
      let size = try #require(tile.subgroupSize)
      #expect(size >= device.minSubgroupSize && size <= device.maxSubgroupSize)
      #expect(tile.lanes <= size && tile.lanes & (tile.lanes - 1) == 0)
      #expect([4, 8].contains(tile.blockRows))
      // No lane's numbers of the state are more than 96, but for subgroups of 8.
      let rows = (sizes.0 + tile.lanes * 4 - 1) / (tile.lanes * 4) * 4
      #expect(rows * tile.columns <= 96 || size == 8)
      let sharedBytes = LinearAttentionPlan.chunkSharedBytes(
        request, blockRows: tile.blockRows, lanes: tile.lanes)
      #expect(sharedBytes <= device.maxSharedBytes)
      for stage in plan.stages {
        let pipeline = try plan.pipelineDescription(stage)
        let invocations = try #require(pipeline.constants["local_size_x"])
        #expect(pipeline.requiresFullSubgroups && Int(invocations) % size == 0)
        #expect(Int(invocations) <= device.maxWorkgroupInvocations)
        #expect(Int(pipeline.constants["LANES"] ?? 0) <= size)
        if stage.shaderName == "linear_prepare_subgroup" {
          #expect(Int(invocations) == tile.blockRows * tile.prepareLanes)
        }
      }
    }
  }

  /// The sums that the shader's header makes.
  @Test func sharedBytesAreThoseOfTheHeader() throws {
    func bytes(_ keys: Int, _ rows: Int, erases: Bool = true) throws -> Int {
      let lanes = keys > 256 ? 16 : 8
      return try LinearAttentionPlan.chunkSharedBytes(
        request(keys: keys, erases: erases), blockRows: rows, lanes: lanes)
    }
    #expect(try bytes(128, 8) == 14_080)
    #expect(try bytes(128, 8, erases: false) == 9472)
    #expect(try bytes(256, 8) == 26_880)
    #expect(try bytes(320, 4) == 17_152)
  }

  /// One subgroup of 32 lanes has 16 columns of 128 rows, one of 64 lanes 32; fewer share a record where heads are few.
  @Test func tiles() throws {
    var device = try SampleDevice.nvidia.capabilities()
    device.computeUnits = 132
    let tile = try LinearAttentionPlan(request(), device: device).tile
    #expect(tile.lanes == 8 && tile.columns == 4 && tile.blockRows == 8 && tile.readsAhead)
    #expect(tile.workgroupSize == 128 && tile.columnsPerWorkgroup == 64)
    #expect(tile.prepareLanes == 4)
    func size(_ heads: Int) throws -> Int {
      try LinearAttentionPlan(request(heads: heads), device: device).tile.workgroupSize
    }
    #expect(try size(16) == 64 && size(1) == 64)
    let wide = try LinearAttentionPlan(request(), device: SampleDevice.amd.capabilities()).tile
    #expect(wide.workgroupSize == 256 && wide.columnsPerWorkgroup == 128)
    #expect(wide.prepareLanes == 8)
    // 32 KiB of shared memory hold 8 rows of 256 channels, 16 KiB hold 4.
    func rows(_ sample: SampleDevice) throws -> Int {
      try LinearAttentionPlan(request(keys: 256), device: sample.capabilities()).tile.blockRows
    }
    #expect(try rows(.mobile) == 8 && rows(.smallest) == 4)
  }

  /// What it cannot run goes to `row`, and says why.
  @Test func refusals() throws {
    var device = try SampleDevice.mobile.capabilities()
    device.features.remove(.subgroupShuffle)
    let plan = try LinearAttentionPlan(request(), device: device)
    #expect(plan.form == .chunk && plan.path == .row)
    #expect(
      plan.explanation.contains {
        $0.hasPrefix("chunk subgroup: cannot run: the device lacks ")
      })
    #expect(refusal(try request(), device)?.contains("subgroupShuffle") == true)
    device = try SampleDevice.mobile.capabilities()
    device.features.remove(.subgroupSizeControl)
    #expect(try LinearAttentionPlan(request(), device: device).path == .row)
    #expect(refusal(try request(), device)?.contains("full subgroups") == true)
    let smallest = try SampleDevice.smallest.capabilities()
    #expect(try LinearAttentionPlan(request(keys: 320), device: smallest).path == .row)
    #expect(
      refusal(try request(keys: 320), smallest)
        == "it needs 17152 bytes of shared memory, the device has 16384")
    #expect(refusal(try request(keys: 324), smallest)?.contains("320 rows") == true)
    #expect(
      refusal(try request(), smallest, .matrix2)
        == "the chunked form has the paths row, subgroup and matrix only")
  }

  /// A measured tile is taken with rows and subgroups of its own where it fits, and refused with the reason.
  @Test func tuning() throws {
    let device = try SampleDevice.nvidia.capabilities()
    let request = try request(keys: 256)
    let own = try LinearAttentionPlan(request, device: device).tileParameters
    #expect(own.form == .chunk && own.path == .subgroup && own.refusal(on: device) == nil)
    func plan(_ change: (inout LinearAttentionTileParameters) -> Void) throws
      -> LinearAttentionPlan
    {
      var tile = own
      change(&tile)
      return try LinearAttentionPlan(
        request, device: device,
        tuning: Tuning([
          request.tuningKey: .init(
            .linear(tile), speedup: 1.5, workload: "a workload", time: "2026-11-21")
        ]))
    }
    let tuned = try plan { ($0.blockRows, $0.workgroupSize) = (4, 32) }
    #expect(tuned.isTuned && tuned.path == .subgroup)
    #expect(tuned.tile.blockRows == 4 && tuned.tile.workgroupSize == 32)
    // The record of a block is too much for the registers of a single subgroup.
    #expect(!tuned.tile.readsAhead && tuned.tile.lanes == 16)
    #expect(try plan { $0.workgroupSize = 256 }.tile.readsAhead)
    let tooLarge = try plan { $0.blockRows = 16 }
    #expect(!tooLarge.isTuned && tooLarge.path == .subgroup)
    #expect(
      tooLarge.explanation.first?.hasPrefix("tuning: cannot run: it needs ") == true)
    #expect(try !plan { $0.workgroupSize = 48 }.isTuned)
  }
}
