import AttentionReference
import ShaderLibrary
import TestSupport
import Testing

@testable import VulkanAttention

/// Norms and gates on the device against the reference in Double.
@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct OutputNormTests {
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

  private func expectReference(
    _ request: OutputNormRequest, inPlace: Bool = false,
    samples: [SampleDevice] = [.software, .nvidia],
    sourceLocation: SourceLocation = #_sourceLocation
  ) async throws {
    let problem = OutputNormProblem(request)
    let expected = problem.reference()
    for sample in samples {
      let plan = try OutputNormPlan(request, device: sample.capabilities())
      #expect((plan.lanes > 1) == (sample != .software), sourceLocation: sourceLocation)
      let y = try await problem.run(
        plan, on: device, inPlace: inPlace, sourceLocation: sourceLocation)
      expectClose(
        y, to: expected, within: gate(request.outputType), "\(sample)",
        sourceLocation: sourceLocation)
    }
  }

  @Test("Every norm, weight and gate", arguments: OutputNormRequest.Norm.allCases)
  func everyOption(_ norm: OutputNormRequest.Norm) async throws {
    typealias Weights = OutputNormRequest.Weights
    let options: [(OutputNormRequest.Gate, before: Bool, weight: Weights, bias: Weights)] = [
      (.none, false, .none, .none), (.none, false, .perChannel, .perHead),
      (.sigmoid, false, .perHead, .none), (.sigmoid, true, .none, .perChannel),
      (.silu, false, .none, .none), (.silu, true, .perHead, .perHead),
    ]
    for (gate, before, weight, bias) in options {
      try await expectReference(
        OutputNormRequest(
          batchSize: 2, tokens: 3, heads: 4, channels: 24, norm: norm, weight: weight, bias: bias,
          gate: gate, gatesBeforeNorm: before), samples: [.software])
    }
  }

  @Test("Groups of several heads, and sizes that are no multiples of 8")
  func groups() async throws {
    for (heads, perGroup, channels) in [(4, 4, 64), (6, 3, 19)] {
      for norm in OutputNormRequest.Norm.allCases {
        try await expectReference(
          OutputNormRequest(
            tokens: 5, heads: heads, channels: channels, headsPerGroup: perGroup, norm: norm,
            epsilon: 0.25, weight: .perHead, gate: .silu))
      }
    }
  }

  @Test("Every type, any strides", arguments: ElementType.allCases)
  func types(_ type: ElementType) async throws {
    for channels in [24, 21] {
      try await expectReference(
        OutputNormRequest(
          batchSize: 2, tokens: 4, heads: 2, channels: channels, weight: .perHead, bias: .perHead,
          gate: .sigmoid, elementType: type, gateType: type == .f16 ? .bf16 : .f16,
          weightType: type,
          strides: TensorStrides(batch: 400, token: channels + 8, head: 136),
          outputStrides: .headMajor(tokens: 4, heads: 2, channels: channels),
          gateStrides: TensorStrides(batch: 32, token: 64, head: 256)), samples: [.software])
      try await expectReference(
        OutputNormRequest(
          tokens: 4, heads: 2, channels: channels, gate: .silu, elementType: type,
          outputType: type == .f32 ? .f16 : .f32), samples: [.software])
    }
  }

  @Test("y over x") func inPlace() async throws {
    for norm in OutputNormRequest.Norm.allCases {
      try await expectReference(
        OutputNormRequest(tokens: 30, heads: 4, channels: 64, headsPerGroup: 2, norm: norm),
        inPlace: true)
    }
  }

  @Test("Zeros stay zeros, and gates of any size are finite") func extremes() async throws {
    let request = try OutputNormRequest(
      tokens: 1, heads: 1, channels: 8, epsilon: 0, gate: .silu)
    var problem = OutputNormProblem(request)
    problem.x = [Float](repeating: 0, count: 8)
    let plan = try OutputNormPlan(request, device: device.capabilities)
    #expect(try await problem.run(plan, on: device) == problem.x)
    problem.x = [Float](repeating: 2, count: 8)
    problem.z = [-.infinity, -1e30, -100, 0, 1, 100, 1e30, 5]
    let y = try await problem.run(plan, on: device)
    let isBelowZero = y[..<3].allSatisfy { $0 == 0 }
    #expect(isBelowZero && y[3] == 0 && y[5] == 100 && y[6] == 1e30)
  }
}

/// What is refused, and what needs no device.
@Suite struct OutputNormRequestTests {
  @Test func refusals() {
    func expect(
      _ name: String, sourceLocation: SourceLocation = #_sourceLocation,
      _ make: () throws -> OutputNormRequest
    ) {
      let error = #expect(throws: AttentionError.self, sourceLocation: sourceLocation) {
        _ = try make()
      }
      guard case .invalidArgument(name, _, _)? = error else {
        Issue.record("\(String(describing: error))", sourceLocation: sourceLocation)
        return
      }
    }
    expect("tokens") { try OutputNormRequest(tokens: 0, heads: 1, channels: 8) }
    expect("channels") { try OutputNormRequest(tokens: 1, heads: 1, channels: 5000) }
    expect("headsPerGroup") {
      try OutputNormRequest(tokens: 1, heads: 4, channels: 8, headsPerGroup: 3)
    }
    expect("headsPerGroup") {
      try OutputNormRequest(tokens: 1, heads: 4, channels: 8, headsPerGroup: 0)
    }
    expect("epsilon") { try OutputNormRequest(tokens: 1, heads: 1, channels: 8, epsilon: -1) }
    expect("gatesBeforeNorm") {
      try OutputNormRequest(tokens: 1, heads: 1, channels: 8, gatesBeforeNorm: true)
    }
    expect("yStrides.head") {
      try OutputNormRequest(
        tokens: 1, heads: 2, channels: 8,
        outputStrides: TensorStrides(batch: 0, token: 0, head: 4))
    }
  }

  @Test("The struct is the shader's block of push constants, field for field")
  func pushConstants() throws {
    typealias Constants = OutputNormPushConstants
    try expectPushConstants(
      "output_norm",
      [
        ("source", MemoryLayout<Constants>.offset(of: \.source)),
        ("destination", MemoryLayout<Constants>.offset(of: \.destination)),
        ("gate", MemoryLayout<Constants>.offset(of: \.gate)),
        ("weight", MemoryLayout<Constants>.offset(of: \.weight)),
        ("bias", MemoryLayout<Constants>.offset(of: \.bias)),
        ("sourceBatchStride", MemoryLayout<Constants>.offset(of: \.sourceBatchStride)),
        ("sourceTokenStride", MemoryLayout<Constants>.offset(of: \.sourceTokenStride)),
        ("sourceHeadStride", MemoryLayout<Constants>.offset(of: \.sourceHeadStride)),
        ("destinationBatchStride", MemoryLayout<Constants>.offset(of: \.destinationBatchStride)),
        ("destinationTokenStride", MemoryLayout<Constants>.offset(of: \.destinationTokenStride)),
        ("destinationHeadStride", MemoryLayout<Constants>.offset(of: \.destinationHeadStride)),
        ("gateBatchStride", MemoryLayout<Constants>.offset(of: \.gateBatchStride)),
        ("gateTokenStride", MemoryLayout<Constants>.offset(of: \.gateTokenStride)),
        ("gateHeadStride", MemoryLayout<Constants>.offset(of: \.gateHeadStride)),
        ("batches", MemoryLayout<Constants>.offset(of: \.batches)),
        ("tokens", MemoryLayout<Constants>.offset(of: \.tokens)),
        ("epsilon", MemoryLayout<Constants>.offset(of: \.epsilon)),
      ], MemoryLayout<Constants>.size)
  }
}
