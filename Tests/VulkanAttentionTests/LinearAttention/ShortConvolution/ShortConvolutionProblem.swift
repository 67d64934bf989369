import AttentionReference
import TestSupport
import Testing

@testable import VulkanAttention

/// One convolution with its inputs; x contiguous [B, T, C].
struct ShortConvolutionProblem: Sendable {
  var request: ShortConvolutionRequest
  var x: [Float]
  var weight: [Float]
  var bias: [Float]
  var state: [Float]
  var starts: [Int32]?
  var slots: [Int32]?

  init(_ request: ShortConvolutionRequest) {
    var random = SplitMix64(seed: 11)
    let r = request
    self.request = r
    x = random.normal(r.batchSize * r.tokens * r.channels).map { r.elementType.rounded($0) }
    weight = random.normal(r.channels * r.width).map { r.weightType.rounded($0) }
    bias = r.hasBias ? random.normal(r.channels).map { r.weightType.rounded($0) } : []
    state = r.hasInitialState ? random.normal(r.stateByteCount / 4) : []
  }

  /// y [B, T, C], NaN where no sequence is, and the states of all slots, NaN where nothing is written.
  func reference() -> (y: [Double], state: [Double]) {
    let r = request
    let size = r.channels * (r.width - 1)
    var y = [Double](repeating: .nan, count: x.count)
    var states = [Double](repeating: .nan, count: r.stateCount * size)
    let sequences =
      starts.map { zip($0, $0.dropFirst()).map { Int($0)..<Int($1) } }
      ?? (0..<r.batchSize).map { $0 * r.tokens..<($0 + 1) * r.tokens }
    for (index, tokens) in sequences.enumerated() {
      let slot = slots.map { Int($0[index]) } ?? index
      let own = tokens.lowerBound * r.channels..<tokens.upperBound * r.channels
      let result = shortConvolution(
        x[own].map(Double.init), channels: r.channels, weight: weight.map(Double.init),
        bias: bias.isEmpty ? nil : bias.map(Double.init),
        state: state.isEmpty || slot < 0
          ? nil : state[slot * size..<(slot + 1) * size].map(Double.init),
        appliesSiLU: r.appliesSiLU)
      y.replaceSubrange(own, with: result.y)
      if slot >= 0 { states.replaceSubrange(slot * size..<(slot + 1) * size, with: result.state) }
    }
    return (y, states)
  }

  func run(
    on device: ComputeDevice, inPlace: Bool = false,
    sourceLocation: SourceLocation = #_sourceLocation
  ) async throws -> (y: [Float], state: [Float]) {
    let r = request
    let memory = TypedMemory(device: device)
    let input = try await memory.upload(TensorRows(r.source).spread(x), as: r.elementType, "x")
    let weights = try await memory.upload(weight, as: r.weightType, "weight")
    let output = try await GuardedBuffer(byteCount: r.outputByteCount, label: "y", on: device)
    var buffers = ShortConvolutionBuffers(
      input: input.buffer, weight: weights.buffer, output: output.buffer)
    if r.hasBias { buffers.bias = try await memory.upload(bias, as: r.weightType, "bias").buffer }
    var states = try await GuardedBuffer(
      byteCount: r.stateByteCount, label: "final state", on: device)
    if r.hasInitialState {
      let initial = try await GuardedBuffer(state, label: "state", on: device)
      buffers.initialState = initial.buffer
      if inPlace { states = initial }
    }
    if r.hasFinalState { buffers.finalState = states.buffer }
    if let starts {
      buffers.sequenceStarts = try await GuardedBuffer(starts, label: "starts", on: device).buffer
    }
    if let slots {
      buffers.stateSlots = try await GuardedBuffer(slots, label: "slots", on: device).buffer
    }
    let recorder = try device.makeRecorder()
    try ShortConvolutionKernel(r, on: device).record(buffers, into: recorder)
    try await device.submit(recorder).completed()
    for guarded in [input, output, states] {
      try await guarded.expectGuardsIntact(sourceLocation: sourceLocation)
    }
    return (
      TensorRows(r.destination).gathered(try await memory.download(r.outputType, output)),
      try await device.download(Float.self, from: states.buffer)
    )
  }
}
