import AttentionReference
import VulkanAttention

/// The contents of one operand.
enum LinearOperandValues: Sendable {
  case numbers([Float])
  case integers([Int32])

  /// The contents for the reference; integers as they are.
  var doubles: [Double] {
    switch self {
    case .numbers(let values): values.map(Double.init)
    case .integers(let values): values.map(Double.init)
    }
  }
}

/// The inputs of one linear attention on the host: contiguous, in values that the types hold exactly.
struct LinearAttentionInputs: Sendable {
  var query: [Float]
  var key: [Float]
  var value: [Float]
  var operands: [LinearAttentionOperand: LinearOperandValues] = [:]

  func doubles(_ operand: LinearAttentionOperand) -> [Double]? { operands[operand]?.doubles }

  func integers(_ operand: LinearAttentionOperand) -> [Int]? {
    guard case .integers(let values)? = operands[operand] else { return nil }
    return values.map { Int($0) }
  }
}

/// What a kernel left.
struct LinearAttentionReadback: Sendable {
  /// o [B, T, H, V].
  let output: [Float]
  /// The final states, and the final sums.
  let states: [LinearAttentionOperand: [Float]]
  /// Writes to where nothing belongs.
  let strayWrites: [String]
}

/// The memory of one linear attention on a device: NaN around and between all rows, outputs poisoned.
struct LinearAttentionTensors: Sendable {
  let buffers: LinearAttentionBuffers
  private let request: LinearAttentionRequest
  private let device: ComputeDevice
  private let wholeOutput: DeviceBuffer
  private let states: [LinearAttentionOperand: PoisonedMemory]
  private let scratch: PoisonedMemory

  init(
    _ inputs: LinearAttentionInputs, for plan: LinearAttentionPlan, on device: ComputeDevice
  ) async throws {
    let request = plan.request
    self.request = request
    self.device = device
    func upload(
      _ bytes: [UInt8], _ byteCount: Int, _ label: String
    ) async throws -> (tensor: DeviceBuffer, whole: DeviceBuffer) {
      let whole = try await device.makeBuffer(bytes, label: label)
      return (try whole.slice(0..<byteCount), whole)
    }
    func input(
      _ tensor: LinearAttentionRequest.Tensor, _ values: [Float]
    ) async throws -> DeviceBuffer {
      let memory = TensorMemory(request, tensor)
      return try await upload(memory.encode(values), memory.byteCount, tensor.rawValue).tensor
    }
    let memory = TensorMemory(request, .output)
    let output = try await upload(memory.poison(), memory.byteCount, "output")
    wholeOutput = output.whole
    scratch = try await PoisonedMemory(
      byteCount: plan.scratchByteCount, label: "scratch", on: device)
    var operands: [LinearAttentionOperand: DeviceBuffer] = [:]
    var states: [LinearAttentionOperand: PoisonedMemory] = [:]
    for operand in request.operands {
      let byteCount = request.byteCount(of: operand)
      if operand.isWritten {
        let memory = try await PoisonedMemory(
          byteCount: byteCount, label: operand.rawValue, on: device)
        states[operand] = memory
        operands[operand] = memory.buffer
        continue
      }
      switch inputs.operands[operand] {
      case .numbers(let values):
        let memory = TensorMemory(request, operand, count: values.count)
        operands[operand] = try await upload(
          memory.encode(values), memory.byteCount, operand.rawValue
        ).tensor
      case .integers(let values):
        operands[operand] = try await device.makeBuffer(values, label: operand.rawValue)
      case nil: continue
      }
    }
    self.states = states
    buffers = LinearAttentionBuffers(
      query: try await input(.query, inputs.query), key: try await input(.key, inputs.key),
      value: try await input(.value, inputs.value), output: output.tensor, operands: operands,
      scratch: scratch.buffer)
  }

  /// The same, with the final state in the initial one's place, as servers have it; nil where there are not both.
  var buffersInPlace: LinearAttentionBuffers? {
    guard let state = buffers.operands[.initialState], buffers.operands[.finalState] != nil else {
      return nil
    }
    var inPlace = buffers
    inPlace.operands[.finalState] = state
    return inPlace
  }

  /// Downloads the initial state, which is the final one after a run in place.
  func readStateInPlace() async throws -> [Float] {
    guard let state = buffers.operands[.initialState] else { return [] }
    return try await device.download(Float.self, from: state)
  }

  /// Downloads the outputs and looks at what surrounds them.
  func read() async throws -> LinearAttentionReadback {
    var strayWrites: [String] = []
    let memory = TensorMemory(request, .output)
    let (output, strayByte) = memory.decode(
      try await device.download(UInt8.self, from: wholeOutput))
    if let strayByte {
      strayWrites.append("output: byte \(strayByte) was written, which belongs to no row")
    }
    _ = try await scratch.read(problems: &strayWrites)
    var found: [LinearAttentionOperand: [Float]] = [:]
    for (operand, memory) in states {
      let bytes = try await memory.read(problems: &strayWrites)
      found[operand] = bytes.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
    }
    return LinearAttentionReadback(output: output, states: found, strayWrites: strayWrites)
  }
}

extension TensorMemory {
  init(_ request: LinearAttentionRequest, _ tensor: LinearAttentionRequest.Tensor) {
    let isKey = tensor == .query || tensor == .key
    let strides =
      switch tensor {
      case .query: request.queryStrides
      case .key: request.keyStrides
      case .value: request.valueStrides
      case .output: request.outputStrides
      }
    self.init(
      batch: request.batchSize,
      tokens: tensor == .key || tensor == .value
        ? request.tokens * request.updatesPerToken : request.tokens,
      heads: isKey ? request.keyHeads : request.valueHeads,
      channels: isKey ? request.keyHeadSize : request.valueHeadSize, strides: strides,
      elementType: request.type(of: tensor), byteCount: request.byteCount(of: tensor))
  }

  /// An operand of `count` contiguous elements.
  fileprivate init(
    _ request: LinearAttentionRequest, _ operand: LinearAttentionOperand, count: Int
  ) {
    self.init(
      batch: 1, tokens: 1, heads: 1, channels: count,
      strides: TensorStrides(batch: 0, token: 0, head: 0),
      elementType: request.type(of: operand) ?? .f32, byteCount: request.byteCount(of: operand))
  }
}

extension LinearAttentionRequest {
  /// The sizes as the reference takes them.
  var dimensions: LinearAttentionDimensions {
    LinearAttentionDimensions(
      batch: batchSize, tokens: tokens, keyHeads: keyHeads, valueHeads: valueHeads,
      keyChannels: keyHeadSize, valueChannels: valueHeadSize, updatesPerToken: updatesPerToken)
  }

  /// The reference's answer.
  func reference(_ inputs: LinearAttentionInputs) -> LinearAttentionOutput {
    if operands.contains(.timeStep) { return stateSpaceReference(inputs) }
    var options = LinearAttentionOptions()
    options.scale = Double(scale)
    options.headDecay = inputs.doubles(.headDecay)
    options.decay = inputs.doubles(.decay)
    options.keyDecay = inputs.doubles(.keyDecay)
    options.valueDecay = inputs.doubles(.valueDecay)
    options.erases = erases
    options.beta = inputs.doubles(.beta)
    options.eraseKeys = inputs.doubles(.eraseKeys)
    options.eraseGates = inputs.doubles(.eraseGates)
    options.writeGates = inputs.doubles(.writeGates)
    if let a = inputs.doubles(.lowRankA), let b = inputs.doubles(.lowRankB) {
      options.lowRank = .init(a: a, b: b)
    }
    options.readsBeforeUpdate = readsBeforeUpdate
    options.bonus = inputs.doubles(.bonus)
    options.normalizer =
      switch normalizer {
      case .none: .none
      case .sum(let epsilon): .sum(epsilon: Double(epsilon))
      case .retention: .retention
      }
    options.causal = isCausal
    options.initialState = inputs.doubles(.initialState)
    options.initialSum = inputs.doubles(.initialSum)
    options.starts = inputs.integers(.sequenceStarts)
    options.sequenceIDs = inputs.integers(.sequenceIDs)
    return linearAttention(
      q: inputs.query.map(Double.init), k: inputs.key.map(Double.init),
      v: inputs.value.map(Double.init), dimensions: dimensions, options: options)
  }

  private func stateSpaceReference(_ inputs: LinearAttentionInputs) -> LinearAttentionOutput {
    var options = StateSpaceOptions()
    options.skip = inputs.doubles(.skip)
    options.outputGate = inputs.doubles(.outputGate)
    options.timeStepBias = inputs.doubles(.timeStepBias)
    options.appliesSoftplus = appliesSoftplus
    options.initialState = inputs.doubles(.initialState)
    options.starts = inputs.integers(.sequenceStarts)
    options.sequenceIDs = inputs.integers(.sequenceIDs)
    return stateSpaceDuality(
      x: inputs.value.map(Double.init), dt: inputs.doubles(.timeStep) ?? [],
      a: inputs.doubles(.rate) ?? [], b: inputs.key.map(Double.init),
      c: inputs.query.map(Double.init), dimensions: dimensions, options: options)
  }
}
