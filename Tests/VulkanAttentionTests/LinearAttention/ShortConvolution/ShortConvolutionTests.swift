import AttentionReference
import ShaderLibrary
import TestSupport
import Testing

@testable import VulkanAttention

/// Short convolutions on the device against the reference in Double.
@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct ShortConvolutionTests {
  let device: ComputeDevice

  init() throws {
    device = try TestDevice.shared()
  }

  private func gate(_ type: ElementType) -> Double {
    switch type {
    case .f32: 1e-6
    case .f16: 5e-4
    case .bf16: 4e-3
    }
  }

  /// Compares where the reference has numbers; elsewhere nothing may have been written.
  private func expectReference(
    _ result: (y: [Float], state: [Float]), _ problem: ShortConvolutionProblem, _ what: String,
    sourceLocation: SourceLocation = #_sourceLocation
  ) {
    let expected = problem.reference()
    func compare(_ actual: [Float], _ expected: [Double], within gate: Double, _ name: String) {
      let known = expected.indices.filter { !expected[$0].isNaN }
      expectClose(
        known.map { actual[$0] }, to: known.map { expected[$0] }, within: gate,
        "\(what): \(name)", sourceLocation: sourceLocation)
      let isRestUnwritten = expected.indices.allSatisfy {
        !expected[$0].isNaN || actual[$0].isNaN
      }
      #expect(isRestUnwritten, "\(what): \(name)", sourceLocation: sourceLocation)
    }
    compare(result.y, expected.y, within: gate(problem.request.outputType), "y")
    if problem.request.hasFinalState {
      // Inputs, copied.
      compare(result.state, expected.state, within: 0, "state")
    }
  }

  @Test("Every width, length and option", arguments: ShortConvolutionRequest.widths)
  func everyWidth(_ width: Int) async throws {
    let sizes = [(1, 12), (2, 8), (5, 7), (8, 16), (9, 5), (40, 24)]
    for (place, flag) in [(width, false), (width + 3, true)] {
      let (tokens, channels) = sizes[place % sizes.count]
      let problem = ShortConvolutionProblem(
        try ShortConvolutionRequest(
          batchSize: 2, tokens: tokens, channels: channels, width: width, hasBias: flag,
          appliesSiLU: flag, hasInitialState: !flag, hasFinalState: true))
      expectReference(
        try await problem.run(on: device), problem, "W\(width) T\(tokens) C\(channels) \(flag)")
    }
  }

  @Test("Every type, any strides", arguments: ElementType.allCases)
  func types(_ type: ElementType) async throws {
    for (channels, width) in [(16, 4), (13, 3)] {
      let problem = ShortConvolutionProblem(
        try ShortConvolutionRequest(
          batchSize: 2, tokens: 19, channels: channels, width: width, hasBias: true,
          appliesSiLU: true, elementType: type, outputType: type == .bf16 ? .f32 : type,
          weightType: type, strides: TensorStrides(batch: 800, token: 40, head: 0),
          outputStrides: TensorStrides(batch: 24, token: 48, head: 0)))
      expectReference(try await problem.run(on: device), problem, "\(type) C\(channels)")
    }
  }

  @Test("Packed sequences, slots, and states in place", arguments: [false, true])
  func packed(_ inPlace: Bool) async throws {
    var problem = ShortConvolutionProblem(
      try ShortConvolutionRequest(
        tokens: 40, channels: 10, width: 4, hasInitialState: true, hasFinalState: true,
        hasStateSlots: true, stateCount: 7, packedSequences: 6, longestSequence: 20))
    // Empty ones and ones shorter than the state among them.
    problem.starts = [3, 3, 5, 25, 26, 36, 38]
    problem.slots = [6, 0, 3, 2, -1, 5]
    for token in [0, 1, 2, 38, 39] {
      for channel in 0..<10 { problem.x[token * 10 + channel] = .nan }
    }
    let result = try await problem.run(on: device, inPlace: inPlace)
    if inPlace {
      let expected = problem.reference()
      let size = 10 * 3
      expectClose(
        Array(result.y[30..<380]), to: Array(expected.y[30..<380]), within: 1e-6, "y in place")
      for slot in 0..<7 {
        let own = slot * size..<(slot + 1) * size
        // Slots of no sequence stay.
        let isNobodys = slot == 1 || slot == 4
        expectClose(
          Array(result.state[own]),
          to: isNobodys ? problem.state[own].map(Double.init) : Array(expected.state[own]),
          within: 0, "slot \(slot)")
      }
    } else {
      expectReference(result, problem, "packed")
    }
  }

  @Test("A prefill and steps from its state are a longer prefill")
  func steps() async throws {
    let whole = ShortConvolutionProblem(
      try ShortConvolutionRequest(
        tokens: 22, channels: 8, width: 4, hasBias: true, appliesSiLU: true, hasFinalState: true))
    let expected = try await whole.run(on: device)
    func part(_ tokens: Range<Int>, state: [Float]?) throws -> ShortConvolutionProblem {
      var part = ShortConvolutionProblem(
        try ShortConvolutionRequest(
          tokens: tokens.count, channels: 8, width: 4, hasBias: true, appliesSiLU: true,
          hasInitialState: state != nil, hasFinalState: true))
      part.x = Array(whole.x[tokens.lowerBound * 8..<tokens.upperBound * 8])
      (part.weight, part.bias, part.state) = (whole.weight, whole.bias, state ?? [])
      return part
    }
    var result = try await part(0..<17, state: nil).run(on: device)
    var y = result.y
    for token in 17..<22 {
      result = try await part(token..<token + 1, state: result.state).run(on: device, inPlace: true)
      y += result.y
    }
    expectSameBits(y, expected.y, "y")
    expectSameBits(result.state, expected.state, "state")
  }

  @Test("No token sees a later one, and SiLU of anything is finite or NaN itself")
  func causality() async throws {
    var problem = ShortConvolutionProblem(
      try ShortConvolutionRequest(tokens: 20, channels: 4, width: 3, appliesSiLU: true))
    problem.weight = [Float](repeating: 1, count: 12)
    problem.x = (0..<80).map { $0 / 4 == 9 ? .nan : -1e30 }
    let y = try await problem.run(on: device).y
    #expect(y[..<36].allSatisfy { $0 == 0 })
    #expect(y[36..<48].allSatisfy { $0.isNaN } && y[48...].allSatisfy { $0 == 0 })
  }
}

/// What is refused, and what needs no device.
@Suite struct ShortConvolutionRequestTests {
  @Test func refusals() {
    func expect(
      _ name: String, sourceLocation: SourceLocation = #_sourceLocation,
      _ make: () throws -> ShortConvolutionRequest
    ) {
      let error = #expect(throws: AttentionError.self, sourceLocation: sourceLocation) {
        _ = try make()
      }
      guard case .invalidArgument(name, _, _)? = error else {
        Issue.record("\(String(describing: error))", sourceLocation: sourceLocation)
        return
      }
    }
    expect("tokens") { try ShortConvolutionRequest(tokens: 0, channels: 8) }
    expect("width") { try ShortConvolutionRequest(tokens: 1, channels: 8, width: 9) }
    expect("width") { try ShortConvolutionRequest(tokens: 1, channels: 8, width: 1) }
    expect("batchSize") {
      try ShortConvolutionRequest(batchSize: 2, tokens: 1, channels: 8, packedSequences: 2)
    }
    expect("longestSequence") {
      try ShortConvolutionRequest(tokens: 4, channels: 8, packedSequences: 2, longestSequence: 5)
    }
    expect("hasStateSlots") {
      try ShortConvolutionRequest(tokens: 4, channels: 8, hasStateSlots: true)
    }
    expect("stateCount") {
      try ShortConvolutionRequest(tokens: 4, channels: 8, hasFinalState: true, stateCount: 2)
    }
    expect("yStrides.token") {
      try ShortConvolutionRequest(
        tokens: 4, channels: 8, outputStrides: TensorStrides(batch: 0, token: 7, head: 0))
    }
  }

  @Test("One dispatch where an invocation has a whole sequence, else the states after all is read")
  func passes() throws {
    let device = try SampleDevice.nvidia.capabilities()
    func stages(_ tokens: Int, final: Bool) throws -> [ShortConvolutionPlan.Stage] {
      try ShortConvolutionPlan(
        ShortConvolutionRequest(tokens: tokens, channels: 8, hasFinalState: final), device: device
      ).passes.map(\.stage)
    }
    #expect(try stages(1, final: true) == [.both] && stages(8, final: true) == [.both])
    #expect(try stages(9, final: true) == [.convolve, .makeState])
    #expect(try stages(9, final: false) == [.convolve])
  }

  @Test("The struct is the shader's block of push constants, field for field")
  func pushConstants() throws {
    typealias Constants = ShortConvolutionPushConstants
    try expectPushConstants(
      "short_convolution",
      [
        ("source", MemoryLayout<Constants>.offset(of: \.source)),
        ("destination", MemoryLayout<Constants>.offset(of: \.destination)),
        ("weight", MemoryLayout<Constants>.offset(of: \.weight)),
        ("bias", MemoryLayout<Constants>.offset(of: \.bias)),
        ("starts", MemoryLayout<Constants>.offset(of: \.starts)),
        ("slots", MemoryLayout<Constants>.offset(of: \.slots)),
        ("initial", MemoryLayout<Constants>.offset(of: \.initial)),
        ("final", MemoryLayout<Constants>.offset(of: \.final)),
        ("sourceBatchStride", MemoryLayout<Constants>.offset(of: \.sourceBatchStride)),
        ("sourceTokenStride", MemoryLayout<Constants>.offset(of: \.sourceTokenStride)),
        ("destinationBatchStride", MemoryLayout<Constants>.offset(of: \.destinationBatchStride)),
        ("destinationTokenStride", MemoryLayout<Constants>.offset(of: \.destinationTokenStride)),
        ("tokens", MemoryLayout<Constants>.offset(of: \.tokens)),
        ("sequences", MemoryLayout<Constants>.offset(of: \.sequences)),
        ("tiles", MemoryLayout<Constants>.offset(of: \.tiles)),
        ("stateCount", MemoryLayout<Constants>.offset(of: \.stateCount)),
      ], MemoryLayout<Constants>.size)
  }
}
