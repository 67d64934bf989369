import AttentionReference
import VulkanAttention

/// A linear attention to be timed.
public struct LinearAttentionWorkload: Sendable, Hashable {
  /// The recurrence.
  public let model: LinearAttentionModel
  /// B.
  public let batch: Int
  /// T.
  public let tokens: Int
  /// G, heads of queries and keys.
  public let keyHeads: Int
  /// H, heads of values and states.
  public let valueHeads: Int
  /// K.
  public let keyChannels: Int
  /// V.
  public let valueChannels: Int
  /// The type of q, k, v and o.
  public let elementType: VulkanAttention.ElementType

  /// A workload by its sizes.
  public init(
    _ model: LinearAttentionModel, batch: Int = 1, tokens: Int, heads: Int, headSize: Int,
    _ elementType: VulkanAttention.ElementType
  ) {
    self.init(
      model, batch: batch, tokens: tokens, keyHeads: heads, valueHeads: heads,
      keyChannels: headSize, valueChannels: headSize, elementType)
  }

  /// A workload of a shape as it is written: B, T = S, G heads of queries and keys, H of values, K = D, V = E.
  public init(
    _ model: LinearAttentionModel, _ shape: AttentionShape,
    _ elementType: VulkanAttention.ElementType
  ) {
    self.init(
      model, batch: shape.batchSize, tokens: shape.queryTokens, keyHeads: shape.keyHeads,
      valueHeads: shape.queryHeads, keyChannels: shape.headSize, valueChannels: shape.valueHeadSize,
      elementType)
  }

  /// A workload whose keys and values have heads and channels of their own.
  public init(
    _ model: LinearAttentionModel, batch: Int = 1, tokens: Int, keyHeads: Int, valueHeads: Int,
    keyChannels: Int, valueChannels: Int, _ elementType: VulkanAttention.ElementType
  ) {
    self.model = model
    self.batch = batch
    self.tokens = tokens
    self.keyHeads = keyHeads
    self.valueHeads = valueHeads
    self.keyChannels = keyChannels
    self.valueChannels = valueChannels
    self.elementType = elementType
  }

  /// The workload's name.
  public var id: String { "\(Self.family)/\(model.rawValue)/\(elementType.rawValue)/\(shape)" }
  /// The sizes in the name.
  public var shape: String {
    keyHeads == valueHeads && keyChannels == valueChannels
      ? "B\(batch)-T\(tokens)-H\(valueHeads)-D\(keyChannels)"
      : "B\(batch)-T\(tokens)-G\(keyHeads)-H\(valueHeads)-K\(keyChannels)-V\(valueChannels)"
  }

  /// Whether `Benchmarks/peers/pytorch_linear.py` has the recurrence, and the sizes are of the kind it takes.
  public var isForPeers: Bool {
    let models: [LinearAttentionModel] = [
      .linear, .lightning, .scalarDecay, .gla, .delta, .gatedDelta, .kda,
    ]
    return models.contains(model) && keyHeads == valueHeads && keyChannels == valueChannels
      && (tokens == 1 || tokens % 64 == 0)
  }

  /// The name of the kernel family, as in ids.
  public static let family = "linear"

  /// The problem.
  ///
  /// - Throws: `AttentionError.invalidArgument` for sizes that no kernel takes.
  public func request() throws(AttentionError) -> LinearAttentionRequest {
    try checkCase.request()
  }

  /// Prefills and decode steps.
  public static let standard: [LinearAttentionWorkload] =
    [LinearAttentionModel.lightning, .scalarDecay, .gla, .gatedDelta, .kda].flatMap { model in
      [(1, 1024), (1, 4096), (4, 1)].map { batch, tokens in
        LinearAttentionWorkload(
          model, batch: batch, tokens: tokens, heads: 8, headSize: 128, .f32)
      }
    }

  /// The lengths of tiled attention's standard shapes, for the crossover of the two.
  public static let crossover = [512, 2048].map {
    LinearAttentionWorkload(.lightning, tokens: $0, heads: 8, headSize: 128, .f32)
  }

  /// A few of them, for a first look.
  public static let quick = [
    LinearAttentionWorkload(.lightning, tokens: 1024, heads: 8, headSize: 128, .f32),
    LinearAttentionWorkload(.gatedDelta, tokens: 1024, heads: 8, headSize: 128, .f32),
    LinearAttentionWorkload(.gatedDelta, batch: 4, tokens: 1, heads: 8, headSize: 128, .f32),
  ]

  var checkCase: LinearAttentionCheckCase {
    LinearAttentionCheckCase(
      group: "", model: model, batch: batch, tokens: tokens, keyHeads: keyHeads,
      valueHeads: valueHeads, keyChannels: keyChannels, valueChannels: valueChannels,
      elementType: elementType,
      // A decode step goes on from a state; a prefill starts without.
      hasStates: tokens == 1)
  }
}

/// Verifies linear attentions on a device and makes them ready to be timed.
struct LinearAttentionBenchmark: Sendable {
  private let device: ComputeDevice
  private let tuning: Tuning

  /// The tokens at the start of a workload that are held against the reference.
  private static let verifiedTokens = 256

  /// Benchmarks on a device, with a user's tuned tiles.
  init(on device: ComputeDevice, tuning: Tuning) {
    self.device = device
    self.tuning = tuning
  }

  /// Verifies a workload.
  func prepare(
    _ workload: LinearAttentionWorkload, _ choice: LinearAttentionChoice
  ) async throws -> PreparedWorkload {
    let checkCase = workload.checkCase
    let request = try checkCase.request()
    let plan = try choice.plan(request, device: device.capabilities, tuning: tuning)
    try device.capabilities.checkMemory(
      Double(request.compulsoryBytes) + Double(plan.scratchByteCount))
    let inputs = checkCase.inputs(request)
    let (pipelineSeconds, kernel) = try timed { try LinearAttentionKernel(plan, on: device) }
    let tensors = try await LinearAttentionTensors(inputs, for: plan, on: device)
    let clock = ContinuousClock()
    let first = clock.now
    try await kernel.run(tensors.buffers)
    let firstSeconds = (clock.now - first).inSeconds
    let result = try await tensors.read()
    let verification = try verify(result, request, inputs)
    // A server's step leaves its state where it was.
    let inPlace = request.tokens == 1 ? tensors.buffersInPlace : nil
    if let inPlace {
      try await kernel.run(inPlace)
      guard try await tensors.readStateInPlace() == result.states[.finalState] else {
        throw BenchmarkRefusal(description: "the state in place is another one")
      }
    }
    let buffers = inPlace ?? tensors.buffers
    return PreparedWorkload(
      device: device, record: { try kernel.record(buffers, into: $0) },
      runInPieces: firstSeconds > TimingOptions.longestSubmission
        ? { try await kernel.run(buffers) } : nil
    ) { timing in
      BenchmarkResult(
        id: workload.id, family: LinearAttentionWorkload.family, shape: workload.shape,
        type: workload.elementType.rawValue, isCausal: request.isCausal, path: plan.wayName,
        tile: plan.tileSummary, timing: timing, operations: request.floatingPointOperations,
        bytes: request.compulsoryBytes, maxError: verification.largest,
        relativeError: verification.relative, verifiedRows: verification.rowCount,
        plan: "\(plan.partCount) parts, \(plan.pieceCount) submissions, "
          + "\(plan.scratchByteCount) bytes scratch\(inPlace == nil ? "" : ", state in place")",
        why: plan.explanation, isTuned: plan.isTuned,
        pipelineSeconds: pipelineSeconds, firstSeconds: firstSeconds)
    }
  }

  /// Tokens see no later ones: the first of them are a problem of their own, for all heads of the first batch entry.
  private func verify(
    _ result: LinearAttentionReadback, _ request: LinearAttentionRequest,
    _ inputs: LinearAttentionInputs
  ) throws -> (largest: Double, relative: Double, rowCount: Int) {
    if let stray = result.strayWrites.first { throw BenchmarkRefusal(description: stray) }
    if let index = result.output.firstIndex(where: { !$0.isFinite }) {
      throw BenchmarkRefusal(
        description: "o: element \(index) is \(Numbers.plain(result.output[index])); "
          + "it was not written, or is wrong")
    }
    let tokens = request.isCausal ? min(request.tokens, Self.verifiedTokens) : request.tokens
    // Only the first batch entry is compared.
    func first(_ values: [Float]) -> [Float] {
      Array(values[..<(values.count / (request.batchSize * request.tokens) * tokens)])
    }
    var own = LinearAttentionInputs(
      query: first(inputs.query), key: first(inputs.key), value: first(inputs.value))
    for (operand, values) in inputs.operands {
      switch values {
      case .integers: continue
      case .numbers(let numbers):
        switch operand {
        case .headDecay, .rate, .timeStepBias, .skip, .bonus: own.operands[operand] = values
        case .initialState, .initialSum:
          own.operands[operand] = .numbers(Array(numbers[..<(numbers.count / request.batchSize)]))
        default: own.operands[operand] = .numbers(first(numbers))
        }
      }
    }
    let problem = try request.part(
      tokens: tokens, keyHeads: request.keyHeads, valueHeads: request.valueHeads)
    let start = try compare(
      first(result.output), problem.reference(own).o, request, "the first \(tokens) tokens")
    // Behind them are parts and submissions of their own: all tokens of the last head of the last batch entry.
    let last = try compareLastHead(result, request, inputs)
    return (
      max(start.largest, last.largest), max(start.relative, last.relative),
      tokens * request.valueHeads + request.tokens
    )
  }

  private func compareLastHead(
    _ result: LinearAttentionReadback, _ request: LinearAttentionRequest,
    _ inputs: LinearAttentionInputs
  ) throws -> (largest: Double, relative: Double) {
    /// Of [B, T, heads, channels], or with `rows` 1 of [B, heads, …].
    func last(_ values: [Float], heads: Int, rows: Int) -> [Float] {
      let width = values.count / (request.batchSize * rows * heads)
      let entry = values.count / request.batchSize * (request.batchSize - 1)
      return (0..<rows).flatMap { row -> ArraySlice<Float> in
        let start = entry + ((row + 1) * heads - 1) * width
        return values[start..<start + width]
      }
    }
    let (heads, keyHeads, tokens) = (request.valueHeads, request.keyHeads, request.tokens)
    let updates = tokens * request.updatesPerToken
    var own = LinearAttentionInputs(
      query: last(inputs.query, heads: keyHeads, rows: tokens),
      key: last(inputs.key, heads: keyHeads, rows: updates),
      value: last(inputs.value, heads: heads, rows: updates))
    for (operand, values) in inputs.operands {
      guard case .numbers(let numbers) = values else { continue }
      let part: [Float]
      switch operand {
      case .headDecay, .rate, .timeStepBias, .skip, .bonus:
        part = Array(numbers.suffix(numbers.count / heads))
      case .initialState, .initialSum: part = last(numbers, heads: heads, rows: 1)
      case .eraseKeys: part = last(numbers, heads: keyHeads, rows: updates)
      case .beta, .eraseGates, .writeGates: part = last(numbers, heads: heads, rows: updates)
      default: part = last(numbers, heads: heads, rows: tokens)
      }
      own.operands[operand] = .numbers(part)
    }
    let expected = try request.part(tokens: tokens, keyHeads: 1, valueHeads: 1).reference(own)
    if let states = result.states[.finalState] {
      _ = try compare(
        last(states, heads: heads, rows: 1), expected.state, request, "the last final state")
    }
    return try compare(
      last(result.output, heads: heads, rows: tokens), expected.o, request, "the last head")
  }

  private func compare(
    _ actual: [Float], _ expected: [Double], _ request: LinearAttentionRequest, _ what: String
  ) throws -> (largest: Double, relative: Double) {
    let relative = ErrorMeasure.relativeRMS(actual: actual, expected: expected)
    let gate = AttentionGates.output(request.outputType)
    guard relative.isWithin(gate) else {
      throw BenchmarkRefusal(
        description: "\(what): error \(Numbers.scientific(relative.error)) above "
          + Numbers.scientific(gate))
    }
    return (
      ErrorMeasure.worstAbsolute(actual: actual, expected: expected).error, relative.error
    )
  }
}

extension LinearAttentionRequest {
  /// The same of one sequence with fewer tokens or heads.
  fileprivate func part(tokens: Int, keyHeads: Int, valueHeads: Int) throws -> Self {
    try LinearAttentionRequest(
      tokens: tokens, keyHeads: keyHeads, valueHeads: valueHeads, keyHeadSize: keyHeadSize,
      valueHeadSize: valueHeadSize, updatesPerToken: updatesPerToken, scale: scale, erases: erases,
      readsBeforeUpdate: readsBeforeUpdate, isCausal: isCausal, appliesSoftplus: appliesSoftplus,
      normalizer: normalizer, operands: operands)
  }
}
