import TestSupport
import Testing

@testable import VulkanAttention

@Suite struct TuningPlanTests {
  private func attention(
    tokens: Int = 1024, headSize: Int = 64, causal: Bool = false, type: ElementType = .f16
  ) throws -> AttentionRequest {
    try AttentionRequest(
      queryTokens: tokens, queryHeads: 8, headSize: headSize, elementType: type,
      mask: causal ? .causal : .none)
  }

  private func tuning(_ key: String, _ tile: Tuning.Tile) -> Tuning {
    Tuning([key: .init(tile, speedup: 1.5, workload: "a workload", time: "2026-11-21")])
  }

  @Test func plansTakeATileOfTheirClass() throws {
    let device = try SampleDevice.software.capabilities()
    let request = try attention()
    let row = AttentionTileParameters.row(
      .init(keysPerBlock: 7, workgroupSize: 64, isPacked: false))
    let tuning = tuning(request.tuningKey, .attention(row))
    let plan = try AttentionPlan(request, device: device, tuning: tuning)
    #expect(plan.isTuned && plan.path == .row)
    #expect(plan.tile.constants["KEYS_PER_BLOCK"] == 7 && plan.tile.workgroupSize == 64)
    #expect(plan.tile.queryRows == 64 && plan.packing == nil)
    #expect(plan.tile.parameters == row)
    #expect(plan.explanation.first?.contains("a workload") == true)

    // The same class, and others.
    #expect(try AttentionPlan(attention(tokens: 900), device: device, tuning: tuning).isTuned)
    for other in [
      try attention(tokens: 2048), try attention(headSize: 128), try attention(causal: true),
      try attention(type: .f32),
    ] {
      let plan = try AttentionPlan(other, device: device, tuning: tuning)
      #expect(!plan.isTuned)
      #expect(try plan == AttentionPlan(other, device: device))
    }
    // What is forced is not overridden.
    #expect(try !AttentionPlan(request, device: device, path: .subgroup, tuning: tuning).isTuned)
    #expect(try AttentionPlan(request, device: device, path: .row, tuning: tuning).isTuned)
    let forced = try AttentionPlan(
      request, device: SampleDevice.nvidia.capabilities(), path: .matrix,
      tile: .fragment(m: 16, n: 16, k: 16), tuning: tuning)
    #expect(!forced.isTuned)
  }

  @Test func withoutTuningNothingChanges() throws {
    for sample in [SampleDevice.software, .nvidia, .amd, .intel, .mobile] {
      let device = try sample.capabilities()
      for type in ElementType.allCases {
        let request = try attention(type: type)
        let plan = try AttentionPlan(request, device: device)
        #expect(!plan.isTuned)
        // The built-in numbers, said as tuned ones, give the same tile but for its provenance.
        let same = try AttentionPlan(
          request, device: device,
          tuning: tuning(request.tuningKey, .attention(plan.tile.parameters)))
        #expect(same.isTuned && same.path == plan.path)
        #expect(same.tile.constants == plan.tile.constants)
        #expect(same.tile.workgroupSize == plan.tile.workgroupSize)
        #expect(same.tile.packing == plan.tile.packing && same.pieces == plan.pieces)
        #expect(same.tile.sharedBytes == plan.tile.sharedBytes)
      }
    }
  }

  @Test(arguments: [
    AttentionTileParameters.row(.init(keysPerBlock: 0, workgroupSize: 32, isPacked: true)),
    .row(.init(keysPerBlock: 40, workgroupSize: 32, isPacked: true)),
    .row(.init(keysPerBlock: 4, workgroupSize: 31, isPacked: true)),
    .row(.init(keysPerBlock: 4, workgroupSize: -8, isPacked: true)),
    .row(.init(keysPerBlock: 4, workgroupSize: 1 << 20, isPacked: true)),
    .subgroup(
      .init(
        rowsPerLane: 0, lanesPerRow: 1, keyTile: 32, keyStep: 8, isStaged: false, isWidened: false,
        workgroupSize: 32)),
    .subgroup(
      .init(
        rowsPerLane: 1, lanesPerRow: 3, keyTile: 32, keyStep: 8, isStaged: false, isWidened: false,
        workgroupSize: 32)),
    .subgroup(
      .init(
        rowsPerLane: 1, lanesPerRow: 1, keyTile: 33, keyStep: 8, isStaged: false, isWidened: false,
        workgroupSize: 32)),
    .subgroup(
      .init(
        rowsPerLane: 1, lanesPerRow: 1, keyTile: 128, keyStep: 0, isStaged: true, isWidened: false,
        workgroupSize: 32)),
    .matrix(
      .init(
        rowFragments: 0, keyTile: 32, subgroups: 4, keepsQueryInShared: false, prefetches: false)),
    .matrix2(
      .init(
        rowFragments: 1, keyTile: 12, subgroups: 4, keepsQueryInShared: true, prefetches: true)),
    .matrix(
      .init(
        rowFragments: 1, keyTile: 13, subgroups: 4, keepsQueryInShared: false, prefetches: false)),
    .matrix(
      .init(
        rowFragments: 1, keyTile: 32, subgroups: 0, keepsQueryInShared: false, prefetches: false)),
  ])
  func impossibleTilesAreLeftOut(_ tile: AttentionTileParameters) throws {
    for sample in [SampleDevice.software, .nvidia] {
      let device = try sample.capabilities()
      let request = try attention()
      let plan = try AttentionPlan(
        request, device: device, tuning: tuning(request.tuningKey, .attention(tile)))
      #expect(!plan.isTuned, "\(tile)")
      #expect(plan.explanation.first?.hasPrefix("tuning: cannot run: ") == true)
      #expect(try plan.tile == AttentionPlan(request, device: device).tile)
    }
  }

  /// A walk along neighbours reaches no tile that crashes a plan, and none that says it is tuned and is not.
  @Test(arguments: [SampleDevice.software, .nvidia, .amd, .intel, .mobile, .smallest])
  func everyNeighbourIsTakenOrRefused(_ sample: SampleDevice) throws {
    let device = try sample.capabilities()
    let request = try attention()
    for path in AttentionPath.allCases {
      guard let start = try? AttentionPlan(request, device: device, path: path) else { continue }
      var seen: Set<AttentionTileParameters> = [start.tile.parameters]
      var border = [start.tile.parameters]
      while let tile = border.popLast(), seen.count < 300 {
        for neighbour in tile.neighbours where seen.insert(neighbour).inserted {
          let plan = try AttentionPlan(
            request, device: device,
            tuning: tuning(request.tuningKey, .attention(neighbour)))
          guard plan.isTuned else { continue }
          #expect(plan.path == path && plan.tile.sharedBytes <= device.maxSharedBytes)
          #expect(plan.tile.workgroupSize <= device.maxWorkgroupInvocations)
          border.append(neighbour)
        }
      }
      #expect(seen.count > 4, "\(path)")
    }
  }

  // MARK: Decode

  private func decode(keys: Int = 4096, format: CacheFormat = .f16) throws -> DecodeRequest {
    let cache = try CacheTensor(
      format, .contiguous(sequences: 2, capacity: keys), heads: 4, channels: 64)
    return try DecodeRequest(
      batchSize: 2, queryHeads: 16, keyCache: cache, valueCache: cache, elementType: .f16)
  }

  @Test func decodePlansTakeATileOfTheirClass() throws {
    let device = try SampleDevice.software.capabilities()
    let request = try decode()
    let tile = DecodeTileParameters(shape: .row(keysPerBlock: 2), groups: 24)
    let tuning = tuning(request.tuningKey, .decode(tile))
    let plan = try DecodePlan(request, device: device, tuning: tuning)
    #expect(plan.isTuned && plan.path == .row && plan.mode == .lean(groups: 24))
    #expect(plan.tile.constants["KEYS_PER_BLOCK"] == 2 && plan.tile.parameters == tile)
    #expect(try !DecodePlan(decode(keys: 32768), device: device, tuning: tuning).isTuned)
    #expect(try !DecodePlan(decode(format: .e4m3), device: device, tuning: tuning).isTuned)
    // A mode that is asked for stays.
    let fixed = try DecodePlan(
      request, device: device, mode: .fixed(tokensPerSplit: 256), tuning: tuning)
    #expect(fixed.isTuned && fixed.mode == .fixed(tokensPerSplit: 256))
  }

  /// A tuned tile of other keys must not make a split impossible that was possible without it.
  @Test func tunedTilesGiveWayToFixedSplits() throws {
    let device = try SampleDevice.nvidia.capabilities()
    let request = try decode()
    let tuning = tuning(
      request.tuningKey,
      .decode(.init(shape: .subgroup(rows: 4, subgroups: 8), groups: 64)))
    #expect(try DecodePlan(request, device: device, tuning: tuning).tile.keys == 256)
    let plan = try DecodePlan(
      request, device: device, mode: .fixed(tokensPerSplit: 128), tuning: tuning)
    #expect(!plan.isTuned && plan.tile.keys == 128)
  }

  @Test(arguments: [
    DecodeTileParameters(shape: .row(keysPerBlock: 3), groups: 8),
    .init(shape: .row(keysPerBlock: 4), groups: 0),
    .init(shape: .row(keysPerBlock: 4), groups: 5000),
    .init(shape: .subgroup(rows: 9, subgroups: 1), groups: 8),
    .init(shape: .subgroup(rows: 1, subgroups: 3), groups: 8),
    .init(
      shape: .matrix(
        rowFragments: 1, keyTile: 48, subgroups: 4, channelParts: 1, prefetches: false), groups: 8),
    .init(
      shape: .matrix(
        rowFragments: 1, keyTile: 32, subgroups: 4, channelParts: 8, prefetches: false), groups: 8),
  ])
  func impossibleDecodeTilesAreLeftOut(_ tile: DecodeTileParameters) throws {
    let device = try SampleDevice.nvidia.capabilities()
    let request = try decode()
    let plan = try DecodePlan(
      request, device: device, tuning: tuning(request.tuningKey, .decode(tile)))
    #expect(!plan.isTuned && plan.explanation.first?.hasPrefix("tuning: ") == true)
    #expect(try plan.tile == DecodePlan(request, device: device).tile)
  }

  // MARK: Linear attention

  private func linear(_ tokens: Int) throws -> LinearAttentionRequest {
    try LinearAttentionRequest(
      tokens: tokens, valueHeads: 4, keyHeadSize: 128, elementType: .f32, operands: [.keyDecay])
  }

  @Test func linearPlansTakeAFormOfTheirClass() throws {
    let device = try SampleDevice.software.capabilities()
    let request = try linear(1024)
    let untuned = try LinearAttentionPlan(request, device: device)
    #expect(untuned.form == .recurrent && untuned.tile.sharingLanes == untuned.tile.workgroupSize)
    let recurrent = tuning(
      request.tuningKey,
      .linear(.init(form: .recurrent, path: .row, blockRows: 1, workgroupSize: 16)))
    let plan = try LinearAttentionPlan(request, device: device, tuning: recurrent)
    #expect(plan.isTuned && plan.form == .recurrent && plan.tile.workgroupSize == 16)
    // Lanes share within a subgroup, which has 8 here.
    #expect(plan.tile.sharingLanes == 1 && plan.tile.tokensAhead == 0)
    #expect(try !LinearAttentionPlan(linear(64), device: device, tuning: recurrent).isTuned)
    #expect(
      try !LinearAttentionPlan(request, device: device, form: .chunk, tuning: recurrent).isTuned)
    let blocks = tuning(
      request.tuningKey,
      .linear(.init(form: .chunk, path: .row, blockRows: 16, workgroupSize: 8)))
    let chunk = try LinearAttentionPlan(request, device: device, tuning: blocks)
    #expect(chunk.isTuned && chunk.tile.blockRows == 16)
    for (rows, size) in [(5, 8), (0, 8), (8, 7), (8, 0)] {
      let plan = try LinearAttentionPlan(
        request, device: device,
        tuning: tuning(
          request.tuningKey,
          .linear(.init(form: .chunk, path: .row, blockRows: rows, workgroupSize: size))))
      #expect(!plan.isTuned && plan.explanation.first?.hasPrefix("tuning: ") == true)
    }
  }

  @Test func keysTellClassesApart() throws {
    #expect(
      try attention().tuningKey
        == "attention/q-f16/k-f16/v-f16/o-f16/D64/E64/S257...1024/T257...1024/N2...8/options-0")
    #expect(try decode().tuningKey.hasPrefix("decode/q-f16/k-f16/v-f16/o-f16/D64/E64/R4/"))
    #expect(try linear(1).tuningKey.contains("/T1/"))
    #expect(try linear(2).tuningKey.contains("/T2...16/"))
    #expect(try linear(100_000).tuningKey.contains("/T65537.../"))
  }
}
