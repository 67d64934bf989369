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

  /// Tokens see no later ones, and heads no others: the first tokens of all heads of the first batch entry are compared,
  /// and all tokens of the last head of the last one.
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
    let start = try compare(
      LinearAttentionPart(entry: 0, tokens: tokens, isLastHead: false), result, request, inputs,
      "the first \(tokens) tokens")
    // Behind them are parts and submissions of their own.
    let last = try compare(
      LinearAttentionPart(
        entry: request.batchSize - 1, tokens: request.tokens, isLastHead: true),
      result, request, inputs, "the last head")
    return (
      max(start.largest, last.largest), max(start.relative, last.relative),
      tokens * request.valueHeads + request.tokens
    )
  }

  private func compare(
    _ part: LinearAttentionPart, _ result: LinearAttentionReadback,
    _ request: LinearAttentionRequest, _ inputs: LinearAttentionInputs, _ what: String
  ) throws -> (largest: Double, relative: Double) {
    let expected = try part.request(of: request).reference(part.inputs(inputs, of: request))
    // The state is behind all tokens.
    if part.tokens == request.tokens, let states = result.states[.finalState] {
      _ = try compare(
        part.state(states, of: request), expected.state, request, "\(what): the final state")
    }
    return try compare(
      part.rows(result.output, request.valueHeads, of: request), expected.o, request, what)
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

/// The first tokens of a batch entry, of all heads or of the last one: a problem of its own.
private struct LinearAttentionPart {
  let entry: Int
  let tokens: Int
  let isLastHead: Bool

  func request(of whole: LinearAttentionRequest) throws -> LinearAttentionRequest {
    try LinearAttentionRequest(
      tokens: tokens, keyHeads: isLastHead ? 1 : whole.keyHeads,
      valueHeads: isLastHead ? 1 : whole.valueHeads, keyHeadSize: whole.keyHeadSize,
      valueHeadSize: whole.valueHeadSize, updatesPerToken: whole.updatesPerToken,
      scale: whole.scale, erases: whole.erases, readsBeforeUpdate: whole.readsBeforeUpdate,
      isCausal: whole.isCausal, appliesSoftplus: whole.appliesSoftplus,
      normalizer: whole.normalizer, operands: whole.operands)
  }

  func inputs(
    _ inputs: LinearAttentionInputs, of whole: LinearAttentionRequest
  ) -> LinearAttentionInputs {
    let (heads, keyHeads, updates) = (whole.valueHeads, whole.keyHeads, whole.updatesPerToken)
    var own = LinearAttentionInputs(
      query: rows(inputs.query, keyHeads, of: whole),
      key: rows(inputs.key, keyHeads, updates: updates, of: whole),
      value: rows(inputs.value, heads, updates: updates, of: whole))
    for (operand, values) in inputs.operands {
      guard case .numbers(let numbers) = values else { continue }
      let part: [Float] =
        switch operand {
        case .headDecay, .rate, .timeStepBias, .skip, .bonus:
          isLastHead ? numbers.suffix(numbers.count / heads) : numbers
        case .initialState, .initialSum: state(numbers, of: whole)
        case .eraseKeys: rows(numbers, keyHeads, updates: updates, of: whole)
        case .beta, .eraseGates, .writeGates: rows(numbers, heads, updates: updates, of: whole)
        default: rows(numbers, heads, of: whole)
        }
      own.operands[operand] = .numbers(part)
    }
    return own
  }

  /// Of [B, T × updates, heads, channels].
  func rows(
    _ values: [Float], _ heads: Int, updates: Int = 1, of whole: LinearAttentionRequest
  ) -> [Float] {
    part(values, rows: whole.tokens * updates, taken: tokens * updates, heads, whole)
  }

  /// Of [B, H, …].
  func state(_ values: [Float], of whole: LinearAttentionRequest) -> [Float] {
    part(values, rows: 1, taken: 1, whole.valueHeads, whole)
  }

  private func part(
    _ values: [Float], rows: Int, taken: Int, _ heads: Int, _ whole: LinearAttentionRequest
  ) -> [Float] {
    let row = values.count / (whole.batchSize * rows)
    let width = isLastHead ? row / heads : row
    return (0..<taken).flatMap { index -> ArraySlice<Float> in
      let end = (entry * rows + index + 1) * row
      return values[end - width..<end]
    }
  }
}
