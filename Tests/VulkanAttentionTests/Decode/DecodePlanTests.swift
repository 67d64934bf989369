import ShaderLibrary
import TestSupport
import Testing

@testable import VulkanAttention

@Suite struct DecodePlanTests {
  private func request(
    heads: Int = 8, keyHeads: Int = 2, tokens: Int = 1, channels: Int = 64,
    format: CacheFormat = .f16, batch: Int = 3, capacity: Int = 1000
  ) throws -> DecodeRequest {
    let cache = try CacheTensor(
      format, .contiguous(sequences: batch, capacity: capacity), heads: keyHeads,
      channels: channels)
    return try DecodeRequest(
      batchSize: batch, queryTokens: tokens, queryHeads: heads, keyCache: cache,
      valueCache: cache)
  }

  @Test(arguments: SampleDevice.allCases.filter { $0 != .unusable })
  func everyUsableDeviceHasAPath(_ sample: SampleDevice) throws {
    let device = try sample.capabilities()
    for (heads, channels) in [(2, 8), (8, 64), (256, 128), (10, 576)] {
      let plan = try DecodePlan(request(heads: heads, channels: channels), device: device)
      #expect(plan.tile.sharedBytes <= device.maxSharedBytes)
      #expect(plan.rowTiles * plan.tile.rows >= plan.request.problemRows)
      #expect((plan.rowTiles - 1) * plan.tile.rows < plan.request.problemRows)
    }
  }

  @Test func missingFeaturesAreTold() throws {
    let device = try SampleDevice.unusable.capabilities()
    #expect(throws: AttentionError.self) { try DecodePlan(try request(), device: device) }
  }

  @Test func lengthsAreChecked() throws {
    let plan = try DecodePlan(request(), device: SampleDevice.software.capabilities())
    for lengths in [[1, 2], [1, 2, 3, 4], [1, 2, -1], [1, 1001, 2]] {
      #expect(throws: AttentionError.self) { try plan.schedule(lengths: lengths) }
    }
    var schedule = try plan.schedule(lengths: [1, 1000, 0])
    #expect(schedule.sequences.map(\.endKey) == [1, 1000, 0])
    #expect(throws: AttentionError.self) { try plan.update(&schedule, lengths: [1, 1, 1001]) }
    #expect(schedule.sequences.map(\.endKey) == [1, 1000, 0])
    #expect(try plan.update(&schedule, lengths: [2, 500, 1]))
  }

  @Test func modesThatDoNotFitTheTileAreRefused() throws {
    let device = try SampleDevice.software.capabilities()
    #expect(throws: AttentionError.self) {
      try DecodePlan(try request(), device: device, mode: .fixed(tokensPerSplit: 7))
    }
    #expect(throws: AttentionError.self) {
      try DecodePlan(try request(), device: device, mode: .lean(groups: 0))
    }
  }

  @Test(arguments: [1, 3, 64], [1, 5])
  func workspaceOfAnyStepFitsTheBound(_ groups: Int, _ tokens: Int) throws {
    let device = try SampleDevice.software.capabilities()
    for mode in [LeanSchedule.Mode.lean(groups: groups), .fixed(tokensPerSplit: 256)] {
      let plan = try DecodePlan(request(tokens: tokens), device: device, mode: mode)
      let most = try #require(plan.maxWorkspaceByteCount)
      for lengths in [[0, 0, 0], [1, 1, 1], [1000, 1000, 1000], [999, 0, 130]] {
        let schedule = try plan.schedule(lengths: lengths)
        #expect(plan.workspaceByteCount(for: schedule) <= most)
      }
    }
  }

  /// A software driver loads caches of every format as vectors, a GPU never does.
  @Test func softwareDriversHaveAShaderOfTheirOwn() throws {
    let software = try SampleDevice.software.capabilities()
    let formats: [CacheFormat] = [
      .f32, .f16, .bf16, .q8, .q4, .q4WithMinimum, .int8(groupSize: 64, scaleType: .f16),
      .int4(groupSize: 32, scaleType: .f16), .e4m3, .e5m2,
    ]
    for format in formats {
      let plan = try DecodePlan(request(format: format), device: software)
      #expect(plan.path == .subgroup, "\(format)")
      #expect(plan.tile.shaderName == "decode_subgroup_differences", "\(format)")
      #expect(plan.tile.constants["WHOLE_STEPS"] == 1)
      for sample in SampleDevice.allCases where sample != .software && sample != .unusable {
        let own = try DecodePlan(
          request(format: format), device: sample.capabilities(), path: .subgroup)
        #expect(own.tile.shaderName == "decode_subgroup", "\(format), \(sample)")
      }
    }
    // Bytes at odd addresses, and a driver without 16-bit integers.
    let odd = try DecodePlan(
      request(channels: 7, format: .e4m3), device: software, path: .subgroup)
    #expect(odd.tile.shaderName == "decode_subgroup")
    #expect(try DecodePlan(request(channels: 7, format: .e4m3), device: software).path == .row)
    var plain = software
    plain.features.remove(.computeDerivatives)
    #expect(try DecodePlan(request(), device: plain).tile.shaderName == "decode_subgroup_software")
    plain.features.remove(.int16)
    #expect(try DecodePlan(request(), device: plain).path == .row)
    #expect(
      try DecodePlan(request(), device: plain, path: .subgroup).tile.shaderName
        == "decode_subgroup")
  }

  @Test(arguments: [
    "decode_row", "decode_subgroup", "decode_subgroup_software", "decode_subgroup_differences",
    "decode_merge",
  ])
  func pushConstantsAreTheShaders(_ name: String) throws {
    let shader = try #require(ShaderBinary.named(name))
    typealias Constants = DecodePushConstants
    #expect(shader.pushConstantByteCount == MemoryLayout<Constants>.size)
    let offsets: [(String, Int?)] = [
      ("q", MemoryLayout<Constants>.offset(of: \.q)),
      ("k", MemoryLayout<Constants>.offset(of: \.k)),
      ("v", MemoryLayout<Constants>.offset(of: \.v)),
      ("o", MemoryLayout<Constants>.offset(of: \.o)),
      ("lse", MemoryLayout<Constants>.offset(of: \.lse)),
      ("options", MemoryLayout<Constants>.offset(of: \.options)),
      ("keyScales", MemoryLayout<Constants>.offset(of: \.keyScales)),
      ("valueScales", MemoryLayout<Constants>.offset(of: \.valueScales)),
      ("qBatchStride", MemoryLayout<Constants>.offset(of: \.qBatchStride)),
      ("qTokenStride", MemoryLayout<Constants>.offset(of: \.qTokenStride)),
      ("qHeadStride", MemoryLayout<Constants>.offset(of: \.qHeadStride)),
      ("oBatchStride", MemoryLayout<Constants>.offset(of: \.oBatchStride)),
      ("oTokenStride", MemoryLayout<Constants>.offset(of: \.oTokenStride)),
      ("oHeadStride", MemoryLayout<Constants>.offset(of: \.oHeadStride)),
      ("queryTokens", MemoryLayout<Constants>.offset(of: \.queryTokens)),
      ("keyTokens", MemoryLayout<Constants>.offset(of: \.keyTokens)),
      ("queryHeads", MemoryLayout<Constants>.offset(of: \.queryHeads)),
      ("headsPerGroup", MemoryLayout<Constants>.offset(of: \.headsPerGroup)),
      ("scale", MemoryLayout<Constants>.offset(of: \.scale)),
      ("firstGroup", MemoryLayout<Constants>.offset(of: \.firstGroup)),
    ]
    for (field, offset) in offsets {
      let member = shader.pushConstants.first { $0.name == field }
      #expect(member?.byteOffset == offset, "\(field)")
    }
    #expect(shader.pushConstants.count == offsets.count)
  }
}
