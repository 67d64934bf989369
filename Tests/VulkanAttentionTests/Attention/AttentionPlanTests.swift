import ShaderLibrary
import TestSupport
import Testing

@testable import VulkanAttention

/// Plans are pure functions: everything here runs without a device.
@Suite struct AttentionPlanTests {
  private static func randomRequest(_ random: inout SplitMix64) throws -> AttentionRequest {
    func size(_ sizes: [Int]) -> Int { sizes.randomElement(using: &random) ?? 1 }
    let keyHeads = size([1, 2, 3, 8])
    let short = Bool.random(using: &random)
    return try AttentionRequest(
      batchSize: short ? size([1, 2, 7, 500, 3000]) : size([1, 1, 2, 7]),
      queryTokens: short ? Int.random(in: 1...40, using: &random) : size([128, 513, 1024, 4099]),
      keyTokens: short ? Int.random(in: 0...40, using: &random) : size([0, 1, 100, 2048, 70_000]),
      queryHeads: keyHeads * size([1, 2, 4, 16]), keyHeads: keyHeads,
      headSize: size([Int.random(in: 1...576, using: &random), 64, 128, 256]),
      valueHeadSize: size([Int.random(in: 1...576, using: &random), 64, 128, 256]),
      elementType: ElementType.allCases.randomElement(using: &random) ?? .f32,
      mask: Bool.random(using: &random) ? .none : .causal,
      returnsLogSumExp: Bool.random(using: &random))
  }

  @Test(
    "A plan covers every tile once, in order, in bounded pieces, within the device's limits",
    arguments: SampleDevice.allCases)
  func plansAreSound(sample: SampleDevice) throws {
    var device = try sample.capabilities()
    var random = SplitMix64(seed: 3)
    var planned = 0
    for round in 0..<600 {
      let request = try Self.randomRequest(&random)
      let path = round % 2 == 0 ? nil : AttentionPath.allCases.randomElement(using: &random)
      device.maxWorkgroupCount[0] = [65_535, 65_535, 7, 1].randomElement(using: &random) ?? 1
      let made = Result { () throws(AttentionError) in
        try AttentionPlan(request, device: device, path: path)
      }
      switch made {
      case .success(let plan):
        try expectSound(plan, device)
        try #require(path == nil || plan.path == path)
        let again = try AttentionPlan(request, device: device, path: path)
        try #require(again == plan)
        planned += 1
      case .failure(let error): try expectReasoned(error, path, sample)
      }
    }
    #expect((planned > 0) == (sample != .unusable))
  }

  private func expectReasoned(
    _ error: AttentionError, _ path: AttentionPath?, _ sample: SampleDevice
  ) throws {
    switch error {
    case .pathUnavailable(let refused, let reason):
      try #require(refused == path)
      try #require(!reason.isEmpty)
      if sample == .unusable, path == .row {
        for feature in ["bufferDeviceAddress", "int64"] { try #require(reason.contains(feature)) }
      }
    case .noPath(let reasons):
      try #require(path == nil)
      try #require(reasons.count == AttentionPath.allCases.count)
      for path in AttentionPath.allCases {
        try #require(reasons.contains { $0.hasPrefix(path.rawValue) })
      }
    default: Issue.record("another error: \(error)")
    }
  }

  private func expectSound(_ plan: AttentionPlan, _ device: DeviceCapabilities) throws {
    let request = plan.request
    let tile = plan.tile
    try #require(tile.queryRows > 0)
    try #require(plan.tileCount * tile.queryRows >= request.queryTokens)
    try #require((plan.tileCount - 1) * tile.queryRows < request.queryTokens)

    // Every tile of every head and batch entry exactly once: no two pieces share one, and together they
    // have all of them.
    let limits = device.maxWorkgroupCount
    var volume = 0
    for (index, piece) in plan.pieces.enumerated() {
      try #require(!piece.tiles.isEmpty && piece.tiles.count <= limits[0])
      try #require(!piece.heads.isEmpty && !piece.batches.isEmpty)
      let groups = piece.workgroups(tile)
      try #require(groups.x <= limits[0] && groups.y <= limits[1] && groups.z <= limits[2])
      try #require(
        groups.x * groups.y * groups.z * tile.problemsPerWorkgroup
          >= piece.tiles.count * piece.heads.count * piece.batches.count)
      let copies = piece.tiles.count * piece.heads.count * piece.batches.count
      try #require(piece.keys == nil || copies == 1)
      volume += copies * (piece.keys?.count ?? max(1, request.keyTokens))
      if let next = plan.pieces.dropFirst(index + 1).first {
        let overlaps =
          piece.tiles.overlaps(next.tiles) && piece.heads.overlaps(next.heads)
          && piece.batches.overlaps(next.batches)
        try #require(!overlaps || piece.keys?.upperBound == next.keys?.lowerBound)
      }
    }
    try #require(
      volume == plan.tileCount * request.queryHeads * request.batchSize * max(1, request.keyTokens))

    // Bounded, unless it is the least that can be cut.
    let budget = AttentionPlan.operationsPerPiece(device)
    for piece in plan.pieces {
      let pairs = piece.tiles.reduce(0) {
        $0 + request.visiblePairs(rows: Self.rows(of: $1, in: plan))
      }
      let work =
        2 * Double(piece.heads.count * piece.batches.count * pairs)
        * Double(request.headSize + request.valueHeadSize)
      let share = piece.keys.map { Double($0.count) / Double(request.keyTokens) } ?? 1
      // A causal tile sees its keys unevenly: cut along them, the parts are equal in keys.
      let slack =
        piece.keys == nil ? 1.0 : 1.0 + Double(tile.keysPerStep) / Double(request.keyTokens)
      try #require(work * share <= budget * slack || piece.keys?.count == tile.keysPerStep)
    }

    // Within the limits, of a shader that is there and has the tile's constants.
    try #require(tile.sharedBytes <= device.maxSharedBytes)
    try #require(tile.workgroupSize > 0 && tile.workgroupSize <= device.maxWorkgroupInvocations)
    try #require(tile.workgroupSize <= device.maxWorkgroupSizeX)
    if let size = tile.subgroupSize {
      try #require((device.minSubgroupSize...device.maxSubgroupSize).contains(size))
      try #require(tile.workgroupSize % size == 0)
    }
    let shader = ShaderBinary.named(tile.shaderName)
    try #require(shader?.isCompiled == true)
    let names = Set(shader?.specializationConstants.map(\.name) ?? [])
    try #require(names.isSuperset(of: tile.constants.keys))
    try #require(names.isSuperset(of: plan.pipelineDescription().constants.keys))

    // Packed keys and values lie in the scratch memory, and no piece runs without them.
    try #require(plan.scratchByteCount >= plan.packing?.byteCount ?? 0)
    try #require(plan.scratch.packedKeys?.count == plan.packing?.keyByteCount)
    let isPlain = plan.packing == nil && !plan.options.needsBlock
    try #require(isPlain == (plan.scratchByteCount == 0))

    try #require(plan.explanation.last?.hasPrefix(plan.path.rawValue) == true)
    try #require(plan.explanation.allSatisfy { $0.contains(":") })
    try #require(!tile.provenance.isEmpty)
  }

  /// The query rows of a tile; tiles count from the last rows where the long ones come first.
  private static func rows(of tile: Int, in plan: AttentionPlan) -> Range<Int> {
    let group = plan.tile.takesLongTilesFirst ? plan.tileCount - 1 - tile : tile
    let start = group * plan.tile.queryRows
    return start..<min(start + plan.tile.queryRows, plan.request.queryTokens)
  }

  @Test("Each device gets the path that suits it")
  func preferredPaths() throws {
    let request = try AttentionRequest(
      queryTokens: 1024, queryHeads: 8, headSize: 64, elementType: .f16)
    let expected: [(SampleDevice, AttentionPath)] = [
      (.software, .row), (.nvidia, .matrix), (.amd, .matrix), (.intel, .matrix),
      (.mobile, .subgroup),
    ]
    for (sample, path) in expected {
      let plan = try AttentionPlan(request, device: sample.capabilities())
      #expect(plan.path == path, "\(sample): \(plan.explanation)")
    }
    // The matrix units take no f32.
    let wide = try AttentionRequest(queryTokens: 1024, queryHeads: 8, headSize: 64)
    let plan = try AttentionPlan(wide, device: SampleDevice.nvidia.capabilities())
    #expect(plan.path == .subgroup)
    #expect(plan.explanation.count == 3)
    #expect(plan.explanation[0].contains("matrix: cannot run"))
    #expect(plan.explanation[1].contains("matrix2: cannot run"))
  }

  @Test("A path that is asked for and cannot run says why")
  func refusedPaths() throws {
    let half = try AttentionRequest(
      queryTokens: 64, queryHeads: 2, headSize: 64, elementType: .f16)
    let wide = try AttentionRequest(queryTokens: 64, queryHeads: 2, headSize: 64)
    for path in [AttentionPath.matrix, .matrix2] {
      func reason(_ request: AttentionRequest, _ sample: SampleDevice) throws -> String {
        let device = try sample.capabilities()
        let error = #expect(throws: AttentionError.self) {
          try AttentionPlan(request, device: device, path: path)
        }
        guard case .pathUnavailable(path, let reason) = error else {
          Issue.record("another error: \(String(describing: error))")
          return ""
        }
        return reason
      }
      #expect(try reason(wide, .nvidia).contains("f32"))
      #expect(try reason(half, .mobile).contains("coopmat"))
      #expect(try reason(half, .unusable).contains("lacks"))
    }
  }

  @Test("Fragments beyond all reason are refused", arguments: [AttentionPath.matrix, .matrix2])
  func absurdFragments(_ path: AttentionPath) throws {
    let request = try AttentionRequest(
      queryTokens: 64, queryHeads: 2, headSize: 64, elementType: .f16)
    let device = try SampleDevice.nvidia.capabilities()
    for (m, n, k) in [
      (1 << 40, 16, 16), (16, 1 << 33, 16), (16, 16, 512), (0, 16, 16), (-16, 16, 16),
    ] {
      let error = #expect(throws: AttentionError.self) {
        try AttentionPlan(request, device: device, path: path, tile: .fragment(m: m, n: n, k: k))
      }
      #expect("\(String(describing: error))".contains("does not list"), "\(m)x\(n)x\(k)")
    }
  }

  @Test("A plan has no more submissions than a list of them has room for")
  func mostSubmissions() throws {
    let device = try SampleDevice.software.capabilities()
    let request = try AttentionRequest(queryTokens: (1 << 30) - 1, queryHeads: 8, headSize: 64)
    let error = #expect(throws: AttentionError.self) { try AttentionPlan(request, device: device) }
    guard case .invalidArgument("queryTokens", "1073741823", _) = error else {
      Issue.record("another error: \(String(describing: error))")
      return
    }
    let long = try AttentionRequest(queryTokens: 1 << 18, queryHeads: 8, headSize: 64)
    #expect(try AttentionPlan(long, device: device).pieces.count > 100)
  }

  @Test(
    "matrix2 needs each feature of its own",
    arguments: [
      DeviceCapabilities.Feature.coopmat2Reductions, .coopmat2Conversions, .coopmat2PerElement,
    ])
  func featuresOfMatrix2(feature: DeviceCapabilities.Feature) throws {
    let request = try AttentionRequest(
      queryTokens: 1024, queryHeads: 8, headSize: 64, elementType: .f16)
    var device = try SampleDevice.nvidia.capabilities()
    let plan = try AttentionPlan(request, device: device, path: .matrix2)
    #expect(plan.tile.shaderName == "attention_matrix2")
    device.features.remove(feature)
    let error = #expect(throws: AttentionError.self) {
      try AttentionPlan(request, device: device, path: .matrix2)
    }
    #expect("\(String(describing: error))".contains("the device lacks \(feature.rawValue)"))
    #expect(try AttentionPlan(request, device: device, path: .matrix).path == .matrix)
  }

  @Test("matrix2 takes listed sizes without flexible ones, and others by the device's granularity")
  func fragmentsOfMatrix2() throws {
    let request = try AttentionRequest(
      queryTokens: 64, queryHeads: 2, headSize: 64, elementType: .f16)
    func plan(
      _ device: DeviceCapabilities, _ m: Int, _ n: Int, _ k: Int
    ) -> AttentionPlan? {
      try? AttentionPlan(
        request, device: device, path: .matrix2, tile: .fragment(m: m, n: n, k: k))
    }
    var device = try SampleDevice.nvidia.capabilities()
    #expect(plan(device, 32, 32, 16) != nil)
    device.flexibleMatrixShapes = [
      .init(m: 16, n: 16, k: 16, input: .f16, accumulator: .f16),
      .init(m: 16, n: 8, k: 16, input: .f16, accumulator: .f32),
    ]
    #expect(plan(device, 32, 16, 16)?.tile.constants["FRAGMENT_M"] == 32)
    #expect(plan(device, 16, 32, 16)?.tile.constants["FRAGMENT_N"] == 32)
    #expect(plan(device, 24, 16, 16) == nil && plan(device, 16, 16, 8) == nil)
    // Weights are N wide, and K is a multiple of 16 here: the product with V would be 16x8x8.
    #expect(plan(device, 16, 8, 16) == nil)
    // A software driver gets what it splits both ways wrong.
    let software = try SampleDevice.software.capabilities()
    #expect(plan(software, 16, 16, 16) == nil)
    #expect(plan(software, 16, 8, 16) != nil && plan(software, 8, 16, 16) != nil)
    device.features.remove(.coopmat2)
    #expect(plan(device, 16, 16, 16) != nil)
    #expect(plan(device, 32, 16, 16) == nil && plan(device, 16, 8, 16) == nil)
  }

  @Test(
    "Matrix paths take any mix of f16 and bf16, and fetch no bf16 keys or values ahead",
    arguments: [AttentionPath.matrix, .matrix2])
  func halfTypes(path: AttentionPath) throws {
    let device = try SampleDevice.nvidia.capabilities()
    let types: [ElementType] = [.f16, .bf16]
    for query in types {
      for key in types {
        for value in types {
          let request = try AttentionRequest(
            queryTokens: 64, queryHeads: 2, headSize: 64, elementType: query, keyType: key,
            valueType: value)
          let plan = try AttentionPlan(request, device: device)
          #expect(plan.path == .matrix)
          let forced = try AttentionPlan(request, device: device, path: path)
          #expect(forced.tile.constants["PREFETCH"] == (key == .f16 && value == .f16 ? 1 : 0))
        }
      }
    }
    let wide = try AttentionRequest(
      queryTokens: 64, queryHeads: 2, headSize: 64, elementType: .bf16, keyType: .f32)
    #expect(throws: AttentionError.self) { try AttentionPlan(wide, device: device, path: path) }
  }

  @Test(
    "Fewer keys than a block of the row path has are a block of their own size",
    arguments: [(1, 1), (8, 8), (16, 16), (17, 16), (20, 16), (65, 16)])
  func blocksOfFewKeys(keys: Int, block: Int) throws {
    var device = try SampleDevice.software.capabilities()
    (device.subgroupSize, device.minSubgroupSize, device.maxSubgroupSize) = (16, 16, 16)
    let request = try AttentionRequest(
      batchSize: 100, queryTokens: 16, keyTokens: keys, queryHeads: 4, headSize: 8)
    let plan = try AttentionPlan(request, device: device)
    #expect(plan.path == .row && plan.packing == nil)
    #expect(plan.tile.constants["KEYS_PER_BLOCK"] == UInt32(block))
  }

  @Test("The row path takes no block map whose blocks are smaller than a subgroup")
  func smallBlocks() throws {
    var device = try SampleDevice.software.capabilities()
    var mask = AttentionMask.none
    mask.blockMapRows = 64
    let request = try AttentionRequest(
      queryTokens: 512, queryHeads: 2, headSize: 64, mask: mask, operands: [.init(.blockMap)])
    #expect(try AttentionPlan(request, device: device, path: .row).path == .row)
    device.maxSubgroupSize = 128
    let error = #expect(throws: AttentionError.self) {
      try AttentionPlan(request, device: device, path: .row)
    }
    #expect("\(String(describing: error))".contains("64 query tokens, subgroups up to 128 rows"))
    #expect(try AttentionPlan(request, device: device).path == .subgroup)
    mask.blockMapRows = 128
    let large = try AttentionRequest(
      queryTokens: 512, queryHeads: 2, headSize: 64, mask: mask, operands: [.init(.blockMap)])
    #expect(try AttentionPlan(large, device: device, path: .row).path == .row)
  }

  @Test("Matrices of 16x16x16 are taken where the device has them or can be flexible")
  func forcedFragment() throws {
    let request = try AttentionRequest(
      queryTokens: 64, queryHeads: 2, headSize: 64, elementType: .f16)
    let sixteen = AttentionTileChoice.fragment(m: 16, n: 16, k: 16)
    let choices: [(SampleDevice, AttentionPath)] = [
      (.software, .matrix), (.nvidia, .matrix), (.amd, .matrix), (.nvidia, .matrix2),
    ]
    for (sample, path) in choices {
      let plan = try AttentionPlan(
        request, device: sample.capabilities(), path: path, tile: sixteen)
      #expect(plan.tile.constants["FRAGMENT_M"] == 16)
      #expect(plan.tile.constants["FRAGMENT_N"] == 16)
      #expect(plan.tile.constants["FRAGMENT_K"] == 16)
    }
    // Neither listed nor to be had by flexible dimensions.
    var rigid = try SampleDevice.software.capabilities()
    rigid.features.remove(.coopmat2)
    for path in [AttentionPath.matrix, .matrix2] {
      #expect(throws: AttentionError.self) {
        try AttentionPlan(request, device: rigid, path: path, tile: sixteen)
      }
    }
  }

  @Test("Heads and batch entries beyond the grid are pieces of their own")
  func gridLimits() throws {
    var device = try SampleDevice.software.capabilities()
    device.maxWorkgroupCount = [65_535, 15, 3]
    let request = try AttentionRequest(
      batchSize: 4, queryTokens: 8, queryHeads: 16, headSize: 8)
    let plan = try AttentionPlan(request, device: device)
    #expect(plan.pieces.map(\.heads) == [0..<15, 15..<16, 0..<15, 15..<16])
    #expect(plan.pieces.map(\.batches) == [0..<3, 0..<3, 3..<4, 3..<4])
    try expectSound(plan, device)
  }

  @Test("Long work is cut, short work is not")
  func pieces() throws {
    let device = try SampleDevice.software.capabilities()
    let short = try AttentionRequest(queryTokens: 100, queryHeads: 8, headSize: 64)
    #expect(try AttentionPlan(short, device: device).pieces.count == 1)
    for mask in [AttentionMask.none, .causal] {
      let long = try AttentionRequest(
        queryTokens: 20_000, queryHeads: 16, headSize: 128, mask: mask)
      let plan = try AttentionPlan(long, device: device)
      let least = long.floatingPointOperations / AttentionPlan.operationsPerPiece(device)
      #expect(Double(plan.pieces.count) >= least)
      try expectSound(plan, device)
    }
  }
}
