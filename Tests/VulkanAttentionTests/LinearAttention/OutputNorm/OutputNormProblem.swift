import AttentionReference
import TestSupport
import Testing

@testable import VulkanAttention

/// One epilogue with its inputs, contiguous [B, T, H, D].
struct OutputNormProblem: Sendable {
  var request: OutputNormRequest
  var x: [Float]
  var z: [Float]
  var weight: [Float]
  var bias: [Float]

  init(_ request: OutputNormRequest) {
    var random = SplitMix64(seed: 5)
    func numbers(_ count: Int, _ type: ElementType) -> [Float] {
      random.normal(count).map { type.rounded($0) }
    }
    let r = request
    self.request = r
    let count = r.batchSize * r.tokens * r.heads * r.channels
    // Not centred, so that a mean is worth taking away.
    x = numbers(count, .f32).map { r.elementType.rounded($0 + 0.5) }
    z = r.gate == .none ? [] : numbers(count, r.gateType)
    weight = numbers(r.weightByteCount / r.weightType.byteCount, r.weightType)
    bias = numbers(r.biasByteCount / r.weightType.byteCount, r.weightType)
  }

  func reference() -> [Double] {
    var options = OutputNormOptions()
    options.norm = request.norm == .rms ? .rms : .layer
    options.headsPerGroup = request.headsPerGroup
    options.epsilon = Double(request.epsilon)
    if !weight.isEmpty { options.weight = weight.map(Double.init) }
    if !bias.isEmpty { options.bias = bias.map(Double.init) }
    if !z.isEmpty { options.gate = z.map(Double.init) }
    options.gateActivation = request.gate == .sigmoid ? .sigmoid : .silu
    options.gatesBeforeNorm = request.gatesBeforeNorm
    return outputNorm(
      x.map(Double.init), heads: request.heads, channels: request.channels, options: options)
  }

  func run(
    _ plan: OutputNormPlan, on device: ComputeDevice, inPlace: Bool = false,
    sourceLocation: SourceLocation = #_sourceLocation
  ) async throws -> [Float] {
    let r = request
    let memory = TypedMemory(device: device)
    func optional(
      _ values: [Float], _ type: ElementType, _ label: String
    ) async throws -> DeviceBuffer? {
      values.isEmpty ? nil : try await memory.upload(values, as: type, label).buffer
    }
    let input = try await memory.upload(TensorRows(r.source).spread(x), as: r.elementType, "x")
    let output =
      inPlace
      ? input : try await GuardedBuffer(byteCount: r.outputByteCount, label: "y", on: device)
    let recorder = try device.makeRecorder()
    try OutputNormKernel(plan, on: device).record(
      OutputNormBuffers(
        input: input.buffer, output: output.buffer,
        gate: try await optional(
          z.isEmpty ? [] : TensorRows(r.gateSource).spread(z), r.gateType, "z"),
        weight: try await optional(weight, r.weightType, "weight"),
        bias: try await optional(bias, r.weightType, "bias")), into: recorder)
    try await device.submit(recorder).completed()
    for guarded in [input, output] {
      try await guarded.expectGuardsIntact(sourceLocation: sourceLocation)
    }
    return TensorRows(r.destination).gathered(
      try await memory.download(r.outputType, output))
  }
}
