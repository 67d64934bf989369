import ShaderLibrary
import TestSupport
import Testing

@testable import VulkanAttention

/// Companion kernels as they are stated and planned, without a device.
@Suite struct CompanionRequestTests {
  private func expectRefused(
    _ name: String, says: String, sourceLocation: SourceLocation = #_sourceLocation,
    _ make: () throws -> Any
  ) {
    let error = #expect(throws: AttentionError.self, sourceLocation: sourceLocation) {
      _ = try make()
    }
    guard let error, case .invalidArgument(let found, _, _) = error else {
      Issue.record("another error: \(String(describing: error))", sourceLocation: sourceLocation)
      return
    }
    #expect(found == name, sourceLocation: sourceLocation)
    #expect("\(error)".contains(says), "\(error)", sourceLocation: sourceLocation)
  }

  @Test func products() throws {
    func product(
      _ rows: Int = 2, _ outputs: Int = 3, _ inputs: Int = 64, _ format: WeightFormat = .f32,
      inputStride: Int? = nil, outputStride: Int? = nil
    ) throws -> MatrixProductRequest {
      try MatrixProductRequest(
        rows: rows, outputChannels: outputs, inputChannels: inputs, weightFormat: format,
        inputStride: inputStride, outputStride: outputStride)
    }
    let request = try product(2, 3, 64, .q4, inputStride: 70, outputStride: 4)
    #expect(request.inputByteCount == (70 + 64) * 4 && request.outputByteCount == (4 + 3) * 4)
    #expect(request.weightByteCount == 3 * 36 && request.biasByteCount == 0)
    for number in [0, -1, 1 << 24 + 1] {
      expectRefused("rows", says: "1 to 16777216") { try product(number) }
      expectRefused("outputChannels", says: "1 to 16777216") { try product(1, number) }
      expectRefused("inputChannels", says: "1 to 16777216") { try product(1, 1, number) }
    }
    expectRefused("inputChannels", says: "a multiple of 32, in q8_0") { try product(1, 1, 33, .q8) }
    expectRefused("inputChannels", says: "a multiple of 32, in q4_0") { try product(1, 1, 16, .q4) }
    expectRefused("x.stride", says: "64 to") { try product(inputStride: 63) }
    expectRefused("x.stride", says: "64 to") { try product(inputStride: 1 << 32) }
    expectRefused("y.stride", says: "3 to") { try product(outputStride: 2) }
  }

  @Test func rows() throws {
    for epsilon in [-1, .nan, .infinity] as [Float] {
      expectRefused("epsilon", says: "finite") {
        try NormalizationRequest(rows: 1, channels: 1, kind: .layer, epsilon: epsilon)
      }
    }
    expectRefused("returnsSum", says: "residual") {
      try NormalizationRequest(
        rows: 1, channels: 1, kind: .layer, epsilon: 0, returnsSum: true)
    }
    expectRefused("channels", says: "1 to") {
      try NormalizationRequest(rows: 1, channels: 0, kind: .layer, epsilon: 0)
    }
    expectRefused("scale", says: "finite") {
      try SoftmaxRequest(rows: 1, channels: 1, scale: .infinity)
    }
    expectRefused("rows", says: "1 to") { try SoftmaxRequest(rows: 0, channels: 1) }
    expectRefused("x.stride", says: "9 to") {
      try SoftmaxRequest(rows: 2, channels: 9, inputStride: 8)
    }
    expectRefused("secondStride", says: "there is no b") {
      try ElementwiseRequest(rows: 1, channels: 1, activation: .silu, secondStride: 1)
    }
    expectRefused("b.stride", says: "4 to") {
      try ElementwiseRequest(
        rows: 1, channels: 4, activation: .silu, combination: .add, secondStride: 3)
    }
  }

  @Test func tokens() throws {
    expectRefused("entries.count", says: "1 to 3") {
      try EmbeddingRequest(rows: 1, channels: 1, entries: [])
    }
    expectRefused("entries.count", says: "1 to 3") {
      try EmbeddingRequest(rows: 1, channels: 1, entries: [1, 1, 1, 1])
    }
    expectRefused("entries[1]", says: "1 to") {
      try EmbeddingRequest(rows: 1, channels: 1, entries: [1, 0])
    }
    expectRefused("channels", says: "multiple of 32") {
      try EmbeddingRequest(rows: 1, channels: 40, entries: [1], format: .q4)
    }
    expectRefused("scale", says: "finite") {
      try EmbeddingRequest(rows: 1, channels: 1, entries: [1], scale: .nan)
    }
    func draw(_ temperature: Float, _ topTokens: Int? = nil, _ topMass: Float = 1) throws -> Any {
      try SamplingRequest(
        rows: 1, vocabulary: 9,
        method: .draw(temperature: temperature, topTokens: topTokens, topMass: topMass))
    }
    for temperature in [0, -1, .nan, .infinity, .leastNonzeroMagnitude] as [Float] {
      expectRefused("temperature", says: "choose greedy") { try draw(temperature) }
    }
    expectRefused("topTokens", says: "1 to") { try draw(1, 0) }
    for mass in [0, -1, 1.5, .nan] as [Float] {
      expectRefused("topMass", says: "above 0") { try draw(1, nil, mass) }
    }
    expectRefused("vocabulary", says: "1 to") { try SamplingRequest(rows: 1, vocabulary: 0) }
    #expect(try !SamplingRequest(rows: 1, vocabulary: 1).takesUniforms)
  }

  @Test("Paths suit the device and the number of rows; every device can be asked for each")
  func paths() throws {
    func path(_ device: SampleDevice, _ rows: Int) throws -> MatrixProductPath {
      try MatrixProductPlan(
        MatrixProductRequest(rows: rows, outputChannels: 64, inputChannels: 64),
        device: device.capabilities()
      ).path
    }
    for rows in [1, 8, 9, 1000] {
      #expect(try path(.software, rows) == .row)
      for device in [SampleDevice.nvidia, .amd, .intel, .mobile, .smallest] {
        #expect(try path(device, rows) == (rows <= 8 ? .vector : .tile), "\(device), \(rows)")
      }
    }
  }

  @Test("Every element of a product is some workgroup's, and no grid is larger than the device's")
  func grids() throws {
    for sample in SampleDevice.allCases where sample != .unusable {
      let device = try sample.capabilities()
      for (rows, columns) in [(1, 1), (7, 100), (64, 64), (65, 129), (3000, 32000)] {
        for path in MatrixProductPath.allCases {
          let plan = try MatrixProductPlan(
            MatrixProductRequest(rows: rows, outputChannels: columns, inputChannels: 40),
            device: device, path: path)
          let groups = plan.groups
          let covered: (rows: Int, columns: Int) =
            switch path {
            case .row: (groups.x * plan.rowsPerTile, groups.y * plan.workgroupSize)
            case .vector:
              (groups.z * plan.rowsPerTile, groups.x * groups.y * plan.workgroupSize / 16)
            case .tile: (groups.y * 64, groups.x * 64)
            }
          let what = "\(sample), \(path), \(rows) x \(columns)"
          #expect(covered.rows >= rows && covered.columns >= columns, "\(what)")
          #expect(groups.x <= device.maxWorkgroupCount[0], "\(what)")
          #expect(plan.workgroupSize <= device.maxWorkgroupInvocations, "\(what)")
        }
      }
    }
    expectTooLarge {
      try MatrixProductPlan(
        MatrixProductRequest(rows: 1 << 24, outputChannels: 1, inputChannels: 1),
        device: SampleDevice.nvidia.capabilities(), path: .tile)
    }
  }

  private func expectTooLarge(
    sourceLocation: SourceLocation = #_sourceLocation, _ make: () throws -> Any
  ) {
    let error = #expect(throws: AttentionError.self, sourceLocation: sourceLocation) {
      _ = try make()
    }
    guard case .device(.limitExceeded)? = error else {
      Issue.record("another error: \(String(describing: error))", sourceLocation: sourceLocation)
      return
    }
  }

  @Test func workgroupsOfRows() throws {
    let software = try SampleDevice.software.capabilities()
    #expect(
      CompanionWorkgroup(channels: 4096, device: software)
        == CompanionWorkgroup(size: software.subgroupSize, isOneSubgroup: true))
    let smallest = try SampleDevice.smallest.capabilities()
    #expect(CompanionWorkgroup(channels: 4096, device: smallest).size == 128)
    let amd = try SampleDevice.amd.capabilities()
    for (channels, size) in [(1, 64), (256, 64), (257, 128), (4096, 256)] {
      #expect(
        CompanionWorkgroup(channels: channels, device: amd)
          == CompanionWorkgroup(size: size, isOneSubgroup: false))
    }
  }

  // MARK: - Push constants

  private func expectBlock(
    _ name: String, _ fields: [(name: String, offset: Int?)], byteCount: Int,
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let shader = try #require(ShaderBinary.named(name))
    #expect(
      shader.pushConstants.map(\.name) == fields.map(\.name), sourceLocation: sourceLocation)
    for (member, field) in zip(shader.pushConstants, fields) {
      #expect(member.byteOffset == field.offset, "\(member.name)", sourceLocation: sourceLocation)
    }
    #expect(shader.pushConstantByteCount == byteCount, sourceLocation: sourceLocation)
    #expect(byteCount <= 128, sourceLocation: sourceLocation)
  }

  @Test("The structs of push constants are the shaders' blocks, field for field")
  func productBlocks() throws {
    typealias Constants = MatrixProductPushConstants
    for path in MatrixProductPath.allCases {
      try expectBlock(
        "companion_product_\(path.rawValue)",
        [
          ("source", MemoryLayout<Constants>.offset(of: \.source)),
          ("weight", MemoryLayout<Constants>.offset(of: \.weight)),
          ("bias", MemoryLayout<Constants>.offset(of: \.bias)),
          ("residual", MemoryLayout<Constants>.offset(of: \.residual)),
          ("destination", MemoryLayout<Constants>.offset(of: \.destination)),
          ("rows", MemoryLayout<Constants>.offset(of: \.rows)),
          ("columns", MemoryLayout<Constants>.offset(of: \.columns)),
          ("depth", MemoryLayout<Constants>.offset(of: \.depth)),
          ("sourceStride", MemoryLayout<Constants>.offset(of: \.sourceStride)),
          ("destinationStride", MemoryLayout<Constants>.offset(of: \.destinationStride)),
          ("reserved", MemoryLayout<Constants>.offset(of: \.reserved)),
        ], byteCount: MemoryLayout<Constants>.size)
    }
  }

  @Test func normalizationBlock() throws {
    typealias Constants = NormalizationPushConstants
    try expectBlock(
      NormalizationPlan.shaderName,
      [
        ("source", MemoryLayout<Constants>.offset(of: \.source)),
        ("residual", MemoryLayout<Constants>.offset(of: \.residual)),
        ("sum", MemoryLayout<Constants>.offset(of: \.sum)),
        ("weight", MemoryLayout<Constants>.offset(of: \.weight)),
        ("bias", MemoryLayout<Constants>.offset(of: \.bias)),
        ("destination", MemoryLayout<Constants>.offset(of: \.destination)),
        ("rows", MemoryLayout<Constants>.offset(of: \.rows)),
        ("channels", MemoryLayout<Constants>.offset(of: \.channels)),
        ("sourceStride", MemoryLayout<Constants>.offset(of: \.sourceStride)),
        ("destinationStride", MemoryLayout<Constants>.offset(of: \.destinationStride)),
        ("epsilon", MemoryLayout<Constants>.offset(of: \.epsilon)),
        ("reserved", MemoryLayout<Constants>.offset(of: \.reserved)),
      ], byteCount: MemoryLayout<Constants>.size)
  }

  @Test func softmaxAndElementwiseBlocks() throws {
    typealias Softmax = SoftmaxPushConstants
    try expectBlock(
      SoftmaxPlan.shaderName,
      [
        ("source", MemoryLayout<Softmax>.offset(of: \.source)),
        ("destination", MemoryLayout<Softmax>.offset(of: \.destination)),
        ("rows", MemoryLayout<Softmax>.offset(of: \.rows)),
        ("channels", MemoryLayout<Softmax>.offset(of: \.channels)),
        ("sourceStride", MemoryLayout<Softmax>.offset(of: \.sourceStride)),
        ("destinationStride", MemoryLayout<Softmax>.offset(of: \.destinationStride)),
        ("scale", MemoryLayout<Softmax>.offset(of: \.scale)),
        ("reserved", MemoryLayout<Softmax>.offset(of: \.reserved)),
      ], byteCount: MemoryLayout<Softmax>.size)
    typealias Elementwise = ElementwisePushConstants
    try expectBlock(
      ElementwisePlan.shaderName,
      [
        ("first", MemoryLayout<Elementwise>.offset(of: \.first)),
        ("second", MemoryLayout<Elementwise>.offset(of: \.second)),
        ("destination", MemoryLayout<Elementwise>.offset(of: \.destination)),
        ("rows", MemoryLayout<Elementwise>.offset(of: \.rows)),
        ("channels", MemoryLayout<Elementwise>.offset(of: \.channels)),
        ("firstStride", MemoryLayout<Elementwise>.offset(of: \.firstStride)),
        ("secondStride", MemoryLayout<Elementwise>.offset(of: \.secondStride)),
        ("destinationStride", MemoryLayout<Elementwise>.offset(of: \.destinationStride)),
        ("reserved", MemoryLayout<Elementwise>.offset(of: \.reserved)),
      ], byteCount: MemoryLayout<Elementwise>.size)
  }

  @Test func tokenBlocks() throws {
    typealias Embedding = EmbeddingPushConstants
    try expectBlock(
      EmbeddingPlan.shaderName,
      [
        ("table0", MemoryLayout<Embedding>.offset(of: \.table0)),
        ("table1", MemoryLayout<Embedding>.offset(of: \.table1)),
        ("table2", MemoryLayout<Embedding>.offset(of: \.table2)),
        ("numbers0", MemoryLayout<Embedding>.offset(of: \.numbers0)),
        ("numbers1", MemoryLayout<Embedding>.offset(of: \.numbers1)),
        ("numbers2", MemoryLayout<Embedding>.offset(of: \.numbers2)),
        ("destination", MemoryLayout<Embedding>.offset(of: \.destination)),
        ("entries0", MemoryLayout<Embedding>.offset(of: \.entries0)),
        ("entries1", MemoryLayout<Embedding>.offset(of: \.entries1)),
        ("entries2", MemoryLayout<Embedding>.offset(of: \.entries2)),
        ("rows", MemoryLayout<Embedding>.offset(of: \.rows)),
        ("channels", MemoryLayout<Embedding>.offset(of: \.channels)),
        ("destinationStride", MemoryLayout<Embedding>.offset(of: \.destinationStride)),
        ("scale", MemoryLayout<Embedding>.offset(of: \.scale)),
        ("reserved", MemoryLayout<Embedding>.offset(of: \.reserved)),
      ], byteCount: MemoryLayout<Embedding>.size)
    typealias Sampling = SamplingPushConstants
    try expectBlock(
      SamplingPlan.shaderName,
      [
        ("logits", MemoryLayout<Sampling>.offset(of: \.logits)),
        ("uniforms", MemoryLayout<Sampling>.offset(of: \.uniforms)),
        ("tokens", MemoryLayout<Sampling>.offset(of: \.tokens)),
        ("rows", MemoryLayout<Sampling>.offset(of: \.rows)),
        ("vocabulary", MemoryLayout<Sampling>.offset(of: \.vocabulary)),
        ("stride", MemoryLayout<Sampling>.offset(of: \.stride)),
        ("topTokens", MemoryLayout<Sampling>.offset(of: \.topTokens)),
        ("topMass", MemoryLayout<Sampling>.offset(of: \.topMass)),
        ("exponent", MemoryLayout<Sampling>.offset(of: \.exponent)),
      ], byteCount: MemoryLayout<Sampling>.size)
  }
}
