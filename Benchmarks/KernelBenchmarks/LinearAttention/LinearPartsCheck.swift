import AttentionReference
import VulkanAttention

/// The check of what goes before and behind linear attentions: feature maps, short convolutions, norms with gates.
public enum LinearPartsCheck {
  /// The cases of a depth.
  public static func runs(_ depth: CheckDepth) -> [CheckRun] {
    let types: [VulkanAttention.ElementType] =
      depth == .quick ? [.f32, .f16] : VulkanAttention.ElementType.allCases
    return types.flatMap { type in
      features(type, depth).map { $0.run() } + norms(type, depth).map { $0.run() }
        + convolutions(type, depth).map { $0.run() }
    }
  }

  private static func features(
    _ type: VulkanAttention.ElementType, _ depth: CheckDepth
  ) -> [FeatureMapCheckCase] {
    let maps: [(String, AttentionFeatureMap)] = [
      ("identity", .identity), ("relu", .relu), ("squared-relu", .squaredReLU),
      ("elu1", .eluPlusOne), ("exp", .exponential), ("softmax", .softmax),
      ("token-softmax", .tokenSoftmax), ("l2", .l2Norm(epsilon: 1e-6)),
      ("taylor2", .taylor2(.full)), ("taylor2-symmetric", .taylor2(.symmetric)),
      ("favor-none", .favorPlus(features: 96, epsilon: 0, stabilizer: .none)),
      ("favor-token", .favorPlus(features: 96, epsilon: 1e-4, stabilizer: .token)),
      ("favor-sequence", .favorPlus(features: 96, epsilon: 1e-4, stabilizer: .sequence)),
      ("cosformer", .cosFormer(maximum: 200)),
    ]
    let shapes: [(channels: Int, tokens: Int, starts: [Int32]?)] =
      [(16, 75, nil)] + (depth == .quick ? [] : [(13, 9, nil), (24, 140, [3, 3, 4, 137])])
      + (depth == .full ? [(64, 300, nil)] : [])
    return maps.flatMap { name, map in
      shapes.map {
        FeatureMapCheckCase(
          name: name, map: map, type: type, channels: $0.channels, tokens: $0.tokens,
          starts: $0.starts)
      }
    }
  }

  private static func norms(
    _ type: VulkanAttention.ElementType, _ depth: CheckDepth
  ) -> [OutputNormCheckCase] {
    let shapes: [(heads: Int, perGroup: Int, channels: Int)] =
      [(4, 1, 64)] + (depth == .quick ? [] : [(6, 3, 19)]) + (depth == .full ? [(8, 8, 128)] : [])
    return shapes.flatMap { shape in
      OutputNormRequest.Norm.allCases.flatMap { norm in
        OutputNormRequest.Gate.allCases.map { gate in
          OutputNormCheckCase(
            norm: norm, gate: gate, type: type, heads: shape.heads, perGroup: shape.perGroup,
            channels: shape.channels)
        }
      }
    }
  }

  private static func convolutions(
    _ type: VulkanAttention.ElementType, _ depth: CheckDepth
  ) -> [ShortConvolutionCheckCase] {
    let widths = depth == .quick ? [4] : Array(ShortConvolutionRequest.widths)
    return widths.flatMap { width in
      [1, 75].map {
        ShortConvolutionCheckCase(width: width, type: type, channels: 40, tokens: $0)
      }
    }
  }
}

/// A case of one kernel with the reference's answer.
private protocol LinearPartCheckCase: Sendable {
  var id: String { get }
  var group: String { get }
  var type: VulkanAttention.ElementType { get }
  /// Runs the kernel between poison and compares.
  func errors(on device: ComputeDevice, problems: inout [String]) async throws -> [CheckError]
}

extension LinearPartCheckCase {
  func run() -> CheckRun {
    CheckRun(id: id, pipelines: id) { device in
      var problems: [String] = []
      var errors: [CheckError] = []
      do {
        errors = try await self.errors(on: device, problems: &problems)
      } catch {
        problems.append("\(error)")
      }
      return CheckOutcome(
        id: id, group: group, elementType: type, path: "row",
        verdict: problems.isEmpty ? .passed : .failed(problems), errors: errors)
    }
  }

  fileprivate func rounded(_ values: [Float]) -> [Float] {
    values.map { Float(type.storage.rounded(Double($0))) }
  }

  /// Memory of a contiguous tensor with NaN behind it.
  fileprivate func upload(
    _ values: [Float], _ type: VulkanAttention.ElementType, _ label: String,
    on device: ComputeDevice
  ) async throws -> DeviceBuffer {
    let memory = TensorMemory(contiguous: values.count, type)
    return try await device.makeBuffer(memory.encode(values), label: label)
      .slice(0..<memory.byteCount)
  }

  /// Reads what a kernel wrote and compares it where the reference has numbers; elsewhere nothing may be written.
  fileprivate func compare(
    _ name: String, _ memory: PoisonedMemory, _ type: VulkanAttention.ElementType,
    with expected: [Double], gate: Double, problems: inout [String]
  ) async throws -> CheckError {
    let bytes = try await memory.read(problems: &problems)
    let actual = TensorMemory(contiguous: expected.count, type).decode(bytes).values
    let known = expected.indices.filter { !expected[$0].isNaN }
    // The poison's halves are not all NaN as bf16: bytes are compared.
    let pattern = TensorMemory.poison(.f32)
    let size = type.byteCount
    func isWritten(_ index: Int) -> Bool {
      (index * size..<(index + 1) * size).contains { bytes[$0] != pattern[$0 % pattern.count] }
    }
    if let stray = expected.indices.first(where: { expected[$0].isNaN && isWritten($0) }) {
      problems.append("\(name): element \(stray) belongs to no sequence and was written")
    }
    return CheckError(
      name,
      .relativeRMS(actual: known.map { actual[$0] }, expected: known.map { expected[$0] }),
      gate: gate, problems: &problems)
  }
}

extension TensorMemory {
  /// A tensor of one axis.
  fileprivate init(contiguous count: Int, _ type: VulkanAttention.ElementType) {
    self.init(
      batch: 1, tokens: 1, heads: 1, channels: count,
      strides: TensorStrides(batch: 0, token: 0, head: 0), elementType: type,
      byteCount: count * type.byteCount)
  }
}

private struct FeatureMapCheckCase: LinearPartCheckCase {
  var name: String
  var map: AttentionFeatureMap
  var type: VulkanAttention.ElementType
  var channels: Int
  var tokens: Int
  var starts: [Int32]?
  var heads: Int { 2 }
  var group: String { "features" }
  var id: String {
    "linear/features/\(name)/\(type.rawValue)/T\(tokens)-H\(heads)-D\(channels)"
      + (starts == nil ? "" : "-packed")
  }

  func errors(on device: ComputeDevice, problems: inout [String]) async throws -> [CheckError] {
    let request = try FeatureMapRequest(
      tokens: tokens, heads: heads, channels: channels, map: map, elementType: type,
      packedSequences: starts.map { $0.count - 1 })
    let plan = try FeatureMapPlan(request, device: device.capabilities)
    var random = SplitMix64(seed: id)
    let x = rounded(random.normal(tokens * heads * channels))
    let projection = random.normal(request.projectionByteCount / 4)
    let y = try await PoisonedMemory(
      byteCount: request.outputByteCount, label: "y", on: device)
    let scratch = try await PoisonedMemory(
      byteCount: plan.scratchByteCount, label: "scratch", on: device)
    var buffers = FeatureMapBuffers(
      input: try await upload(x, type, "x", on: device), output: y.buffer)
    if !projection.isEmpty {
      buffers.projection = try await upload(projection, .f32, "projection", on: device)
    }
    if let starts { buffers.sequenceStarts = try await device.makeBuffer(starts, label: "starts") }
    if plan.scratchByteCount > 0 { buffers.scratch = scratch.buffer }
    let recorder = try device.makeRecorder()
    try FeatureMapKernel(plan, on: device).record(buffers, into: recorder)
    try await device.submit(recorder).completed()
    _ = try await scratch.read(problems: &problems)
    return [
      try await compare(
        "o", y, type, with: reference(x, projection, request), gate: AttentionGates.output(type),
        problems: &problems)
    ]
  }

  private func reference(
    _ x: [Float], _ projection: [Float], _ request: FeatureMapRequest
  ) -> [Double] {
    let row = heads * channels
    let width = heads * request.features
    var y = [Double](repeating: .nan, count: tokens * width)
    let sequences =
      starts.map { zip($0, $0.dropFirst()).map { Int($0)..<Int($1) } } ?? [0..<tokens]
    for sequence in sequences {
      y.replaceSubrange(
        sequence.lowerBound * width..<sequence.upperBound * width,
        with: map.reference(projection.map(Double.init)).mapped(
          x[sequence.lowerBound * row..<sequence.upperBound * row].map(Double.init),
          heads: heads, channels: channels, scale: Double(request.scale)))
    }
    return y
  }
}

extension AttentionFeatureMap {
  /// The map as the reference takes it.
  func reference(_ projection: [Double]) -> FeatureMap {
    switch self {
    case .identity: .identity
    case .relu: .relu
    case .squaredReLU: .squaredReLU
    case .eluPlusOne: .eluPlusOne
    case .exponential: .exponential
    case .softmax: .softmax
    case .tokenSoftmax: .tokenSoftmax
    case .l2Norm(let epsilon): .l2Norm(epsilon: Double(epsilon))
    case .taylor2(.full): .taylor2
    case .taylor2(.symmetric): .symmetricTaylor2
    case .favorPlus(_, let epsilon, let stabilizer):
      .favorPlus(
        projection: projection, epsilon: Double(epsilon),
        stabilizer: stabilizer == .none ? .none : stabilizer == .token ? .token : .sequence)
    case .cosFormer(let maximum): .cosFormer(maximum: Double(maximum))
    }
  }
}

private struct OutputNormCheckCase: LinearPartCheckCase {
  var norm: OutputNormRequest.Norm
  var gate: OutputNormRequest.Gate
  var type: VulkanAttention.ElementType
  var heads: Int
  var perGroup: Int
  var channels: Int
  var group: String { "norms" }
  var id: String {
    "linear/norm/\(norm)-\(gate)/\(type.rawValue)/H\(heads)-D\(channels)-group\(perGroup)"
  }

  func errors(on device: ComputeDevice, problems: inout [String]) async throws -> [CheckError] {
    let request = try OutputNormRequest(
      tokens: 21, heads: heads, channels: channels, headsPerGroup: perGroup, norm: norm,
      weight: .perHead, bias: norm == .layer ? .perHead : .none, gate: gate, elementType: type)
    var random = SplitMix64(seed: id)
    let x = rounded(random.normal(21 * heads * channels))
    let z = gate == .none ? [] : rounded(random.normal(21 * heads * channels))
    let weight = random.normal(heads * channels)
    let bias = norm == .layer ? random.normal(heads * channels) : []
    let y = try await PoisonedMemory(byteCount: request.outputByteCount, label: "y", on: device)
    var buffers = OutputNormBuffers(
      input: try await upload(x, type, "x", on: device), output: y.buffer)
    buffers.weight = try await upload(weight, .f32, "weight", on: device)
    if !z.isEmpty { buffers.gate = try await upload(z, type, "gate", on: device) }
    if !bias.isEmpty { buffers.bias = try await upload(bias, .f32, "bias", on: device) }
    let recorder = try device.makeRecorder()
    try OutputNormKernel(request, on: device).record(buffers, into: recorder)
    try await device.submit(recorder).completed()
    var options = OutputNormOptions()
    options.norm = norm == .rms ? .rms : .layer
    options.headsPerGroup = perGroup
    options.epsilon = Double(request.epsilon)
    options.weight = weight.map(Double.init)
    if !bias.isEmpty { options.bias = bias.map(Double.init) }
    if !z.isEmpty { options.gate = z.map(Double.init) }
    options.gateActivation = gate == .sigmoid ? .sigmoid : .silu
    return [
      try await compare(
        "o", y, type,
        with: outputNorm(x.map(Double.init), heads: heads, channels: channels, options: options),
        gate: AttentionGates.output(type), problems: &problems)
    ]
  }
}

private struct ShortConvolutionCheckCase: LinearPartCheckCase {
  var width: Int
  var type: VulkanAttention.ElementType
  var channels: Int
  var tokens: Int
  var group: String { "convolutions" }
  var id: String { "linear/convolution/\(type.rawValue)/T\(tokens)-C\(channels)-W\(width)" }

  func errors(on device: ComputeDevice, problems: inout [String]) async throws -> [CheckError] {
    let request = try ShortConvolutionRequest(
      tokens: tokens, channels: channels, width: width, hasBias: true, appliesSiLU: true,
      hasInitialState: true, hasFinalState: true, elementType: type)
    var random = SplitMix64(seed: id)
    let x = rounded(random.normal(tokens * channels))
    let weight = random.normal(channels * width)
    let bias = random.normal(channels)
    let initial = random.normal(channels * (width - 1))
    let y = try await PoisonedMemory(byteCount: request.outputByteCount, label: "y", on: device)
    let final = try await PoisonedMemory(
      byteCount: request.stateByteCount, label: "final state", on: device)
    let buffers = ShortConvolutionBuffers(
      input: try await upload(x, type, "x", on: device),
      weight: try await upload(weight, .f32, "weight", on: device), output: y.buffer,
      bias: try await upload(bias, .f32, "bias", on: device),
      initialState: try await upload(initial, .f32, "initial state", on: device),
      finalState: final.buffer)
    let recorder = try device.makeRecorder()
    try ShortConvolutionKernel(request, on: device).record(buffers, into: recorder)
    try await device.submit(recorder).completed()
    let expected = shortConvolution(
      x.map(Double.init), channels: channels, weight: weight.map(Double.init),
      bias: bias.map(Double.init), state: initial.map(Double.init), appliesSiLU: true)
    return [
      try await compare(
        "o", y, type, with: expected.y, gate: AttentionGates.output(type), problems: &problems),
      try await compare(
        "state", final, .f32, with: expected.state, gate: AttentionGates.output(.f32),
        problems: &problems),
    ]
  }
}
