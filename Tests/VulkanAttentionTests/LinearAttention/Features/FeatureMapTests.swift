import AttentionReference
import ShaderLibrary
import TestSupport
import Testing

@testable import VulkanAttention

/// Feature maps on the device against the reference in Double.
@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct FeatureMapTests {
  let device: ComputeDevice

  init() throws {
    device = try TestDevice.shared()
  }

  private static let maps: [AttentionFeatureMap] =
    [
      .identity, .relu, .squaredReLU, .eluPlusOne, .exponential, .softmax, .tokenSoftmax,
      .l2Norm(epsilon: 0.5), .taylor2(.full), .taylor2(.symmetric), .cosFormer(maximum: 40),
    ]
    + AttentionFeatureMap.FavorStabilizer.allCases.map {
      .favorPlus(features: 24, epsilon: $0 == .none ? 0 : 1e-2, stabilizer: $0)
    }

  private func gate(_ type: ElementType) -> Double {
    switch type {
    case .f32: 2e-6
    case .f16: 5e-4
    case .bf16: 4e-3
    }
  }

  /// Compares where the reference has numbers; elsewhere nothing may have been written.
  private func expectReference(
    _ y: [Float], _ problem: FeatureMapProblem, _ what: String,
    sourceLocation: SourceLocation = #_sourceLocation
  ) {
    let expected = problem.reference()
    let known = expected.indices.filter { !expected[$0].isNaN }
    expectClose(
      known.map { y[$0] }, to: known.map { expected[$0] },
      within: gate(problem.request.outputType), what, sourceLocation: sourceLocation)
    let isRestUnwritten = expected.indices.allSatisfy { !expected[$0].isNaN || y[$0].isNaN }
    #expect(isRestUnwritten, "\(what): rows outside", sourceLocation: sourceLocation)
  }

  @Test(
    "Every map, sizes that are and are not multiples of 8", arguments: maps.indices)
  func everyMap(_ index: Int) async throws {
    let map = Self.maps[index]
    for (type, channels) in [(ElementType.f32, 7), (.f16, 16)] {
      let request = try FeatureMapRequest(
        batchSize: 2, tokens: 9, heads: 3, channels: channels, map: map, elementType: type)
      let problem = FeatureMapProblem(request)
      let plan = try FeatureMapPlan(request, device: device.capabilities)
      expectReference(
        try await problem.run(plan, on: device), problem, "\(map) \(type) D\(channels)")
    }
  }

  @Test("Rows shared by invocations, and larger workgroups, as on a GPU", arguments: maps.indices)
  func asOnGPU(_ index: Int) async throws {
    let map = Self.maps[index]
    let request = try FeatureMapRequest(
      tokens: 70, heads: 2, channels: 60, map: map, outputType: .f16,
      outputChannels: map.features(from: 60) + 3)
    let problem = FeatureMapProblem(request)
    let plan = try FeatureMapPlan(request, device: SampleDevice.nvidia.capabilities())
    if map == .softmax { #expect(plan.passes[0].lanes == 4) }
    expectReference(try await problem.run(plan, on: device), problem, "\(map)")
  }

  @Test("Any strides, other types out, zeros behind the features", arguments: maps.indices)
  func layouts(_ index: Int) async throws {
    let map = Self.maps[index]
    let width = map.features(from: 8) + 5
    let request = try FeatureMapRequest(
      batchSize: 2, tokens: 6, heads: 2, channels: 8, map: map, scale: -0.75, elementType: .bf16,
      outputType: .f32, outputChannels: width,
      strides: TensorStrides(batch: 300, token: 9, head: 101),
      outputStrides: .headMajor(tokens: 6, heads: 2, channels: width))
    let problem = FeatureMapProblem(request)
    let plan = try FeatureMapPlan(request, device: device.capabilities)
    expectReference(try await problem.run(plan, on: device), problem, "\(map)")
  }

  @Test("Packed sequences, empty ones and tokens of none among them", arguments: maps.indices)
  func packed(_ index: Int) async throws {
    let map = Self.maps[index]
    let request = try FeatureMapRequest(
      tokens: 31, heads: 2, channels: 12, map: map, packedSequences: 5, longestSequence: 14)
    var problem = FeatureMapProblem(request)
    problem.starts = [2, 3, 3, 17, 29, 29]
    // What belongs to no sequence may be anything.
    for token in [0, 1, 29, 30] {
      for element in token * 24..<(token + 1) * 24 { problem.x[element] = .nan }
    }
    let plan = try FeatureMapPlan(request, device: device.capabilities)
    expectReference(try await problem.run(plan, on: device), problem, "\(map)")
  }

  @Test("Sequences measured in parts side by side")
  func parts() async throws {
    for map in [
      AttentionFeatureMap.tokenSoftmax,
      .favorPlus(features: 40, epsilon: 0, stabilizer: .sequence),
    ] {
      let request = try FeatureMapRequest(
        tokens: 700, heads: 2, channels: 12, map: map, packedSequences: 3, longestSequence: 600)
      // Large enough that one part's maximum is far from another's.
      var problem = FeatureMapProblem(request, spread: 4)
      problem.starts = [0, 90, 91, 691]
      let plan = try FeatureMapPlan(request, device: device.capabilities)
      #expect(plan.partCount > 1 && plan.passes.count == 3)
      expectReference(try await problem.run(plan, on: device), problem, "\(map)")
    }
  }

  @Test("Nothing overflows, and -inf hides without NaN")
  func extremes() async throws {
    func run(_ map: AttentionFeatureMap, _ x: [Float]) async throws -> [Float] {
      let request = try FeatureMapRequest(
        tokens: x.count / 2, heads: 1, channels: 2, map: map, scale: 1)
      var problem = FeatureMapProblem(request)
      problem.x = x
      problem.projection = problem.projection.map { $0.sign == .minus ? -1 : 1 }
      return try await problem.run(
        FeatureMapPlan(request, device: device.capabilities), on: device)
    }
    let infinity = Float.infinity
    #expect(
      try await run(.softmax, [1e30, -1e30, 3e38, 3e38, -infinity, 5, -infinity, -infinity])
        == [1, 0, 0.5, 0.5, 0, 1, 0, 0])
    // Channel 0 has one number, channel 1 none.
    #expect(
      try await run(.tokenSoftmax, [-infinity, -infinity, 7e37, -infinity, -2e38, -infinity])
        == [0, 0, 1, 0, 0, 0])
    #expect(try await run(.l2Norm(epsilon: 0), [0, 0, 3, 4]) == [0, 0, 0.6, 0.8])
    for stabilizer in [AttentionFeatureMap.FavorStabilizer.token, .sequence] {
      let y = try await run(
        .favorPlus(features: 5, epsilon: 0, stabilizer: stabilizer), [300, -200, 20, 30, 1, 1])
      let isInRange = y.allSatisfy { $0 >= 0 && $0 <= 0.45 }
      #expect(isInRange && y.contains { abs($0 - 1 / Float(5).squareRoot()) < 1e-6 })
    }
    // NaN is not swallowed by a comparison.
    for map in [
      AttentionFeatureMap.relu, .squaredReLU, .eluPlusOne, .softmax, .tokenSoftmax,
      .cosFormer(maximum: 3), .l2Norm(epsilon: 1),
    ] {
      let y = try await run(map, [.nan, 1])
      #expect(y[0].isNaN, "\(map)")
    }
  }

  @Test("Large exponents are off by no more than the change of base")
  func digits() async throws {
    let request = try FeatureMapRequest(tokens: 1, heads: 1, channels: 64, map: .exponential)
    var problem = FeatureMapProblem(request)
    problem.x = (0..<64).map { Float($0) * 2.71 - 86 }
    let y = try await problem.run(
      FeatureMapPlan(request, device: device.capabilities), on: device)
    for (actual, expected) in zip(y, problem.reference()) {
      #expect(abs(Double(actual) / expected - 1) < 4e-6)
    }
  }

  @Test("y over x", arguments: [AttentionFeatureMap.eluPlusOne, .softmax, .tokenSoftmax])
  func inPlace(_ map: AttentionFeatureMap) async throws {
    for sample in [SampleDevice.software, .nvidia] {
      let request = try FeatureMapRequest(tokens: 20, heads: 2, channels: 40, map: map)
      let problem = FeatureMapProblem(request)
      let plan = try FeatureMapPlan(request, device: sample.capabilities())
      expectReference(
        try await problem.run(plan, on: device, inPlace: true), problem, "\(map) \(sample)")
    }
  }

  @Test("A decode step of cosFormer is told its position")
  func positions() async throws {
    let request = try FeatureMapRequest(
      batchSize: 2, tokens: 3, heads: 1, channels: 8, map: .cosFormer(maximum: 1_000_000),
      hasPositions: true)
    var problem = FeatureMapProblem(request)
    problem.positions = [999_999, 0, 500_000, 3, 250_000, 1_000_000]
    let y = try await problem.run(
      FeatureMapPlan(request, device: device.capabilities), on: device)
    expectEach(y, within: 1e-6, of: problem.reference(), "positions")
  }

  @Test("The symmetric packing has the full one's inner products")
  func packings() async throws {
    var features: [[Float]] = []
    for packing in AttentionFeatureMap.TaylorPacking.allCases {
      for channels in [1, 2, 16, 64] {
        let request = try FeatureMapRequest(
          tokens: 2, heads: 1, channels: channels, map: .taylor2(packing))
        let problem = FeatureMapProblem(request)
        let y = try await problem.run(
          FeatureMapPlan(request, device: device.capabilities), on: device)
        expectReference(y, problem, "\(packing) D\(channels)")
        features.append(y)
      }
    }
    func dot(_ y: [Float]) -> Double {
      (0..<y.count / 2).reduce(0) { $0 + Double(y[$1]) * Double(y[y.count / 2 + $1]) }
    }
    #expect(features[2].count == 2 * 273 && features[6].count == 2 * 153)
    for size in 0..<4 {
      #expect(abs(dot(features[size]) / dot(features[size + 4]) - 1) < 1e-5)
    }
  }
}

/// What is refused, and what needs no device.
@Suite struct FeatureMapRequestTests {
  private func request(
    batch: Int = 1, tokens: Int = 4, heads: Int = 1, channels: Int = 8,
    map: AttentionFeatureMap = .relu, scale: Float? = nil, outputChannels: Int? = nil,
    packed: Int? = nil, longest: Int? = nil, positions: Bool = false,
    output: TensorStrides? = nil
  ) throws -> FeatureMapRequest {
    try FeatureMapRequest(
      batchSize: batch, tokens: tokens, heads: heads, channels: channels, map: map, scale: scale,
      outputChannels: outputChannels, packedSequences: packed, longestSequence: longest,
      hasPositions: positions, outputStrides: output)
  }

  private func expectRefusal(
    of name: String, _ make: () throws -> FeatureMapRequest,
    sourceLocation: SourceLocation = #_sourceLocation
  ) {
    let error = #expect(throws: AttentionError.self, sourceLocation: sourceLocation) {
      _ = try make()
    }
    guard case .invalidArgument(name, _, _)? = error else {
      Issue.record("\(String(describing: error)), expected \(name)", sourceLocation: sourceLocation)
      return
    }
  }

  @Test func refusals() {
    expectRefusal(of: "batchSize") { try request(batch: 0) }
    expectRefusal(of: "batchSize") { try request(batch: 2, packed: 2) }
    expectRefusal(of: "tokens") { try request(tokens: 0) }
    expectRefusal(of: "heads") { try request(heads: 0) }
    expectRefusal(of: "channels") { try request(channels: 4097) }
    expectRefusal(of: "channels") { try request(channels: 65, map: .taylor2(.full)) }
    expectRefusal(of: "map.features") {
      try request(map: .favorPlus(features: 1025, epsilon: 0, stabilizer: .none))
    }
    expectRefusal(of: "map.epsilon") {
      try request(map: .favorPlus(features: 8, epsilon: -1, stabilizer: .none))
    }
    expectRefusal(of: "map.epsilon") { try request(map: .l2Norm(epsilon: .nan)) }
    expectRefusal(of: "map.maximum") { try request(map: .cosFormer(maximum: 0)) }
    expectRefusal(of: "scale") { try request(scale: .infinity) }
    expectRefusal(of: "outputChannels") { try request(outputChannels: 7) }
    expectRefusal(of: "outputChannels") {
      try request(
        map: .favorPlus(features: 1000, epsilon: 0, stabilizer: .none), outputChannels: 1025)
    }
    expectRefusal(of: "packedSequences") { try request(packed: 0) }
    expectRefusal(of: "longestSequence") { try request(packed: 1, longest: 5) }
    expectRefusal(of: "longestSequence") { try request(longest: 3) }
    expectRefusal(of: "hasPositions") { try request(positions: true) }
    expectRefusal(of: "yStrides.token") {
      try request(output: TensorStrides(batch: 0, token: 7, head: 0))
    }
    #expect(throws: AttentionError.tooLarge(tensor: "grid of feature_map")) {
      try FeatureMapPlan(
        request(tokens: 1 << 30, heads: 2), device: SampleDevice.nvidia.capabilities())
    }
  }

  @Test("The paper's scales, by themselves")
  func scales() throws {
    #expect(try request(channels: 16, map: .taylor2(.full)).scale == 0.5)
    #expect(
      try request(channels: 16, map: .favorPlus(features: 4, epsilon: 0, stabilizer: .none)).scale
        == 0.5)
    #expect(try request(channels: 16, map: .softmax).scale == 1)
  }

  @Test("The struct is the shaders' block of push constants, field for field")
  func pushConstants() throws {
    typealias Constants = FeatureMapPushConstants
    let offsets: [(name: String, offset: Int?)] = [
      ("source", MemoryLayout<Constants>.offset(of: \.source)),
      ("destination", MemoryLayout<Constants>.offset(of: \.destination)),
      ("starts", MemoryLayout<Constants>.offset(of: \.starts)),
      ("positions", MemoryLayout<Constants>.offset(of: \.positions)),
      ("projection", MemoryLayout<Constants>.offset(of: \.projection)),
      ("scratch", MemoryLayout<Constants>.offset(of: \.scratch)),
      ("frequency", MemoryLayout<Constants>.offset(of: \.frequency)),
      ("sourceBatchStride", MemoryLayout<Constants>.offset(of: \.sourceBatchStride)),
      ("sourceTokenStride", MemoryLayout<Constants>.offset(of: \.sourceTokenStride)),
      ("sourceHeadStride", MemoryLayout<Constants>.offset(of: \.sourceHeadStride)),
      ("destinationBatchStride", MemoryLayout<Constants>.offset(of: \.destinationBatchStride)),
      ("destinationTokenStride", MemoryLayout<Constants>.offset(of: \.destinationTokenStride)),
      ("destinationHeadStride", MemoryLayout<Constants>.offset(of: \.destinationHeadStride)),
      ("batches", MemoryLayout<Constants>.offset(of: \.batches)),
      ("tokens", MemoryLayout<Constants>.offset(of: \.tokens)),
      ("sequences", MemoryLayout<Constants>.offset(of: \.sequences)),
      ("parts", MemoryLayout<Constants>.offset(of: \.parts)),
      ("tokensPerPart", MemoryLayout<Constants>.offset(of: \.tokensPerPart)),
      ("scale", MemoryLayout<Constants>.offset(of: \.scale)),
      ("epsilon", MemoryLayout<Constants>.offset(of: \.epsilon)),
      ("reserved", MemoryLayout<Constants>.offset(of: \.reserved)),
    ]
    for name in ["feature_map", "feature_tokens", "feature_favor"] {
      try expectPushConstants(name, offsets, MemoryLayout<Constants>.size)
    }
  }

  @Test("Every token, head and feature in one invocation")
  func grids() throws {
    for sample in [SampleDevice.software, .nvidia, .smallest] {
      let device = try sample.capabilities()
      for (tokens, heads) in [(1, 1), (63, 3), (65_537, 40)] {
        for map in [AttentionFeatureMap.softmax, .taylor2(.symmetric)] {
          let request = try request(tokens: tokens, heads: heads, channels: 24, map: map)
          let plan = try FeatureMapPlan(request, device: device)
          let pass = try #require(plan.passes.first)
          let invocations = pass.groups.x * pass.groups.y * pass.workgroupSize
          let needed = tokens * heads * (map == .softmax ? pass.lanes : (request.features + 3) / 4)
          #expect(invocations >= needed && plan.passes.count == 1 && plan.scratchByteCount == 0)
        }
        let favor = try request(
          tokens: tokens, heads: heads,
          map: .favorPlus(features: 1024, epsilon: 0, stabilizer: .token))
        let pass = try #require(FeatureMapPlan(favor, device: device).passes.last)
        #expect(pass.groups.x * pass.groups.y >= heads * ((tokens + 3) / 4))
        #expect(pass.workgroupSize == 128 && pass.workgroupSize <= device.maxWorkgroupInvocations)
      }
    }
  }
}

/// Compares a shader's push constants with the fields of a struct.
func expectPushConstants(
  _ name: String, _ fields: [(name: String, offset: Int?)], _ size: Int,
  sourceLocation: SourceLocation = #_sourceLocation
) throws {
  let shader = try #require(ShaderBinary.named(name), sourceLocation: sourceLocation)
  #expect(shader.pushConstants.map(\.name) == fields.map(\.name), sourceLocation: sourceLocation)
  for (member, field) in zip(shader.pushConstants, fields) {
    #expect(member.byteOffset == field.offset, "\(field.name)", sourceLocation: sourceLocation)
  }
  #expect(shader.pushConstantByteCount == size, sourceLocation: sourceLocation)
}

/// What a kernel refuses to record.
@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct FeatureMapBuffersTests {
  let device: ComputeDevice

  init() throws {
    device = try TestDevice.shared()
  }

  @Test func refusals() throws {
    func buffer(_ bytes: Int) throws -> DeviceBuffer {
      try device.makeBuffer(byteCount: bytes, label: "test")
    }
    func expect(
      _ request: FeatureMapRequest, _ buffers: FeatureMapBuffers, _ error: AttentionError,
      sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
      let kernel = try FeatureMapKernel(request, on: device)
      let recorder = try device.makeRecorder()
      #expect(throws: error, sourceLocation: sourceLocation) {
        try kernel.record(buffers, into: recorder)
      }
    }
    let plain = try FeatureMapRequest(tokens: 4, heads: 1, channels: 8, map: .relu)
    let x = try buffer(128)
    let y = try buffer(128)
    try expect(
      plain, .init(input: try buffer(124), output: y),
      .bufferTooSmall(tensor: "x", requiredBytes: 128, availableBytes: 124))
    try expect(
      plain, .init(input: x, output: y, projection: y),
      .invalidArgument(
        name: "projection", value: "a buffer", allowed: "none, the request has no such tensor"))
    let whole = try buffer(256)
    try expect(
      plain, .init(input: try whole.slice(0..<128), output: try whole.slice(64..<192)),
      .overlappingOutput(output: "y", with: "x"))
    try expect(
      plain, .init(input: x, output: try whole.slice(4..<132)),
      .misaligned(
        tensor: "y", address: whole.address + 4, requiredAlignment: 16))
    let tokens = try FeatureMapRequest(
      tokens: 4, heads: 1, channels: 8, map: .tokenSoftmax, packedSequences: 1)
    try expect(
      tokens, .init(input: x, output: y),
      .invalidArgument(
        name: "sequenceStarts", value: "nil",
        allowed: "a buffer of 8 bytes, which the request needs"))
    try expect(
      tokens, .init(input: x, output: y, sequenceStarts: try buffer(8)),
      .missingScratchBuffer(requiredBytes: 64))
    let favor = try FeatureMapRequest(
      tokens: 4, heads: 1, channels: 8,
      map: .favorPlus(features: 8, epsilon: 0, stabilizer: .none))
    try expect(
      favor, .init(input: x, output: y),
      .invalidArgument(
        name: "projection", value: "nil",
        allowed: "a buffer of 256 bytes, which the request needs"))
    // A map that reads a whole row of another place must not be written over it.
    try expect(
      favor, .init(input: x, output: x, projection: whole),
      .overlappingOutput(output: "y", with: "x"))
  }
}
