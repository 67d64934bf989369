import VulkanAttention

/// What a run of a model reads and writes of a text beside keys, values and states.
struct ModelPassInputs {
  /// Int32 [rows].
  let tokens: DeviceBuffer
  /// Int32 [rows].
  let positions: DeviceBuffer
  /// f32, a number for each token that is chosen.
  let uniforms: DeviceBuffer
  /// Int32, the tokens that are chosen, written; may be `tokens`.
  let next: DeviceBuffer
}

/// A pass that was recorded once.
struct ReplayedPass {
  let inputs: ModelPassInputs
  let commands: CommandList
  /// Of the decode attention of all layers.
  let step: DecodeStep?
}

/// One run of a language model over some tokens of a text: its kernels, planned once, and its working memory.
///
/// It is recorded for any place of a text, as often as one likes. Passes that are in flight at the same time would
/// share the working memory: the recorder's barriers keep them apart where they are in one recorder.
struct ModelPass {
  /// What the tokens stand behind.
  enum Kind {
    /// Nothing: they are the beginning of a text. Tiled attention; the logits are those of the last token.
    case prefill
    /// The text so far. Lean decode attention; each token has logits, and is a draft but for the first.
    case step
  }

  private enum SoftmaxAttention {
    case tiled(AttentionKernel)
    case lean(DecodeKernel)
  }

  private struct Kernels {
    let embedding: EmbeddingKernel
    let norm: NormalizationKernel
    let queryKeyValue: [LanguageModelConfiguration.Mixer: MatrixProductKernel]
    let rotary: RotaryKernel
    let append: CacheAppendKernel
    let softmax: SoftmaxAttention
    let lightning: LinearAttentionKernel
    let attentionOutput: MatrixProductKernel
    let gateUp: MatrixProductKernel
    let gate: ElementwiseKernel
    let down: MatrixProductKernel
    let finalNorm: NormalizationKernel
    let logits: MatrixProductKernel
    let sampling: SamplingKernel
  }

  private struct Workspace {
    /// The residual stream.
    let hidden: DeviceBuffer
    let normed: DeviceBuffer
    let projected: DeviceBuffer
    let context: DeviceBuffer
    let gateUp: DeviceBuffer
    let gated: DeviceBuffer
    /// Of tiled attention and linear attention, which run one after the other.
    let scratch: DeviceBuffer
    /// What the decode attention of all layers shares.
    let step: DeviceBuffer?
  }

  /// The tokens of a run.
  let rows: Int
  let kind: Kind
  /// f32 [rows, V], or [1, V] of a prefill, once the pass has run.
  let logits: DeviceBuffer
  private let kernels: Kernels
  private let workspace: Workspace

  /// Plans a pass.
  ///
  /// - Parameters:
  ///   - rows: the tokens of a run.
  ///   - text: of the model; passes run on every text with as many state slots.
  ///   - method: how tokens are chosen.
  init(
    _ kind: Kind, rows: Int, of model: LanguageModel, text: TextMemory,
    method: SamplingRequest.Method
  ) throws {
    let (configuration, device) = (model.configuration, model.device)
    let (channels, inner) = (configuration.channels, configuration.innerChannels)
    let (heads, keyHeads, size) = (
      configuration.heads, configuration.keyHeads, configuration.headSize
    )
    func product(
      _ inputs: Int, _ outputs: Int, rows count: Int? = nil, _ activation: Activation = .none,
      hasResidual: Bool = false
    ) throws -> MatrixProductKernel {
      try MatrixProductKernel(
        MatrixProductRequest(
          rows: count ?? rows, outputChannels: outputs, inputChannels: inputs,
          activation: activation, hasResidual: hasResidual), on: device)
    }
    func norm(rows: Int) throws -> NormalizationKernel {
      try NormalizationKernel(
        NormalizationRequest(
          rows: rows, channels: channels, kind: .rootMeanSquare, epsilon: configuration.epsilon),
        on: device)
    }
    let logitRows = kind == .prefill ? 1 : rows
    let strides = TensorStrides(
      batch: 0, token: configuration.projectedChannels(.softmax), head: size)
    let fused = TensorStrides(
      batch: 0, token: configuration.projectedChannels(.lightning), head: size)
    let softmax: SoftmaxAttention
    var stepBytes: Int?
    var scratchBytes = 16
    switch kind {
    case .prefill:
      let kernel = try AttentionKernel(
        AttentionRequest(
          queryTokens: rows, queryHeads: heads, keyHeads: keyHeads, headSize: size, mask: .causal,
          queryStrides: strides, keyStrides: strides, valueStrides: strides), on: device)
      scratchBytes = max(scratchBytes, kernel.plan.scratchByteCount)
      softmax = .tiled(kernel)
    case .step:
      let kernel = try DecodeKernel(
        DecodeRequest(
          batchSize: 1, queryTokens: rows, queryHeads: heads, keyCache: text.cache,
          valueCache: text.cache, elementType: .f32, queryStrides: strides), on: device)
      guard let bytes = kernel.plan.maxWorkspaceByteCount else {
        throw ExampleError("a text of \(configuration.positions) tokens is too long to decode")
      }
      stepBytes = bytes
      softmax = .lean(kernel)
    }
    var operands: Set<LinearAttentionOperand> = [.headDecay]
    switch kind {
    case .prefill: operands.insert(.finalState)
    case .step where rows == 1: operands.formUnion([.initialState, .finalState, .stateSlots])
    case .step: operands.formUnion([.initialState, .stateSlots, .snapshots])
    }
    let lightning = try LinearAttentionKernel(
      LinearAttentionRequest(
        tokens: rows, valueHeads: heads, keyHeadSize: size, scale: 1,
        stateCount: kind == .prefill ? nil : text.stateSlots, operands: operands,
        queryStrides: fused, keyStrides: fused, valueStrides: fused), on: device)
    scratchBytes = max(scratchBytes, lightning.plan.scratchByteCount)
    kernels = Kernels(
      embedding: try EmbeddingKernel(
        EmbeddingRequest(rows: rows, channels: channels, entries: [configuration.vocabulary]),
        on: device),
      norm: try norm(rows: rows),
      queryKeyValue: [
        .softmax: try product(channels, configuration.projectedChannels(.softmax)),
        .lightning: try product(channels, configuration.projectedChannels(.lightning), .silu),
      ],
      // The heads of queries and keys lie one behind the other in a row.
      rotary: try RotaryKernel(
        RotaryRequest(
          tokens: rows, heads: heads + keyHeads, channels: size, rotary: model.rotary,
          strides: strides), on: device),
      append: try CacheAppendKernel(
        CacheAppendRequest(
          tokens: rows, storage: text.storage, keyStrides: strides, valueStrides: strides),
        on: device),
      softmax: softmax, lightning: lightning,
      attentionOutput: try product(channels, channels, hasResidual: true),
      gateUp: try product(channels, 2 * inner),
      gate: try ElementwiseKernel(
        ElementwiseRequest(
          rows: rows, channels: inner, activation: .silu, combination: .multiply,
          firstStride: 2 * inner, secondStride: 2 * inner), on: device),
      down: try product(inner, channels, hasResidual: true),
      finalNorm: try norm(rows: logitRows),
      logits: try product(channels, configuration.vocabulary, rows: logitRows),
      sampling: try SamplingKernel(
        SamplingRequest(rows: logitRows, vocabulary: configuration.vocabulary, method: method),
        on: device))
    func floats(_ channels: Int, _ label: String) throws -> DeviceBuffer {
      try device.makeBuffer(byteCount: rows * channels * 4, label: label)
    }
    let projected = max(
      configuration.projectedChannels(.softmax), configuration.projectedChannels(.lightning))
    workspace = Workspace(
      hidden: try floats(channels, "hidden"), normed: try floats(channels, "normed"),
      projected: try floats(projected, "projected"), context: try floats(channels, "context"),
      gateUp: try floats(2 * inner, "gate, up"), gated: try floats(inner, "gated"),
      scratch: try device.makeBuffer(byteCount: scratchBytes, label: "scratch"),
      step: try stepBytes.map { try device.makeBuffer(byteCount: $0, label: "decode workspace") })
    logits = try device.makeBuffer(
      byteCount: logitRows * configuration.vocabulary * 4, label: "logits")
    self.rows = rows
    self.kind = kind
  }

  /// Appends the pass.
  ///
  /// - Parameters:
  ///   - position: the place of the first token, 0 of a prefill.
  ///   - model: of the pass.
  ///   - text: the tokens are read from it; keys, values and states are written to it.
  ///   - next: Int32 [rows], or [1] of a prefill: the token that is chosen behind each token, written.
  ///   - recorder: what the pass is appended to.
  func record(
    at position: Int, model: LanguageModel, text: TextMemory, next: DeviceBuffer,
    into recorder: Recorder
  ) throws {
    let own = position..<position + rows
    let sampled = own.upperBound - kernels.logits.request.rows + 1..<own.upperBound + 1
    try record(
      ModelPassInputs(
        tokens: text.tokens.numbers(own), positions: text.positions.numbers(own),
        uniforms: text.uniforms.numbers(sampled), next: next),
      model: model, text: text, step: prepareStep(keys: own.upperBound, text, into: recorder),
      into: recorder)
  }

  /// Records the pass once, to be run at any place of a text.
  ///
  /// - Parameter inputs: what each run reads and writes.
  func replayed(
    _ inputs: ModelPassInputs, model: LanguageModel, text: TextMemory
  ) throws -> ReplayedPass {
    // The workspace gets its first contents here, and those that count before each run.
    let first = try model.device.makeRecorder()
    let step = try prepareStep(keys: 0, text, into: first)?.forReplay()
    try model.device.submit(first)
    let recorder = try model.device.makeRecorder(forReplay: true)
    try record(inputs, model: model, text: text, step: step, into: recorder)
    return ReplayedPass(
      inputs: inputs, commands: try model.device.makeCommandList(recorder), step: step)
  }

  /// Appends the upload of what a replayed pass needs to know of its next run.
  ///
  /// - Parameter keys: the tokens of the text, those of the run included.
  func update(_ pass: ReplayedPass, keys: Int, into recorder: Recorder) throws {
    guard case .lean(let kernel) = kernels.softmax, let step = pass.step else { return }
    try kernel.update(step, to: kernel.plan.schedule(lengths: [keys]), into: recorder)
  }

  private func prepareStep(
    keys: Int, _ text: TextMemory, into recorder: Recorder
  ) throws -> DecodeStep? {
    guard case .lean(let kernel) = kernels.softmax, let workspace = workspace.step else {
      return nil
    }
    return try kernel.prepare(
      kernel.plan.schedule(lengths: [keys]),
      pages: .device(indptr: text.pageStarts, indices: text.pages), workspace: workspace,
      into: recorder)
  }

  private func record(
    _ inputs: ModelPassInputs, model: LanguageModel, text: TextMemory, step: DecodeStep?,
    into recorder: Recorder
  ) throws {
    let (hidden, normed) = (workspace.hidden, workspace.normed)
    try kernels.embedding.record(
      EmbeddingBuffers(
        tables: [.init(entries: model.embedding, numbers: inputs.tokens)],
        output: hidden), into: recorder)
    for (layer, memory) in zip(model.layers, text.layers) {
      try kernels.norm.record(
        NormalizationBuffers(input: hidden, output: normed, weight: layer.attentionNorm),
        into: recorder)
      try kernels.queryKeyValue[layer.mixer]?.record(
        MatrixProductBuffers(
          input: normed, weight: layer.queryKeyValue, output: workspace.projected), into: recorder)
      switch memory {
      case .cache(let key, let value):
        try recordSoftmax(
          inputs.positions, model, text, text.buffers(key: key, value: value), step,
          into: recorder)
      case .states(let pools): try recordLightning(layer, text, pools, into: recorder)
      }
      try kernels.attentionOutput.record(
        MatrixProductBuffers(
          input: workspace.context, weight: layer.attentionOutput, residual: hidden, output: hidden),
        into: recorder)
      try kernels.norm.record(
        NormalizationBuffers(input: hidden, output: normed, weight: layer.feedForwardNorm),
        into: recorder)
      try kernels.gateUp.record(
        MatrixProductBuffers(input: normed, weight: layer.gateUp, output: workspace.gateUp),
        into: recorder)
      try kernels.gate.record(
        ElementwiseBuffers(
          first: workspace.gateUp,
          second: workspace.gateUp.numbers(from: model.configuration.innerChannels),
          output: workspace.gated), into: recorder)
      try kernels.down.record(
        MatrixProductBuffers(
          input: workspace.gated, weight: layer.down, residual: hidden, output: hidden),
        into: recorder)
    }
    let logitRows = kernels.logits.request.rows
    try kernels.finalNorm.record(
      NormalizationBuffers(
        input: hidden.numbers(from: (rows - logitRows) * model.configuration.channels),
        output: normed, weight: model.norm), into: recorder)
    try kernels.logits.record(
      MatrixProductBuffers(input: normed, weight: model.embedding, output: logits), into: recorder)
    try kernels.sampling.record(
      SamplingBuffers(
        logits: logits,
        uniforms: kernels.sampling.request.takesUniforms ? inputs.uniforms : nil,
        tokens: inputs.next), into: recorder)
  }

  private func recordSoftmax(
    _ positions: DeviceBuffer, _ model: LanguageModel, _ text: TextMemory,
    _ cache: CacheBuffers, _ step: DecodeStep?, into recorder: Recorder
  ) throws {
    let configuration = model.configuration
    let projected = workspace.projected
    try kernels.rotary.record(
      RotaryBuffers(
        input: projected, output: projected, positions: positions, frequencies: model.frequencies),
      into: recorder)
    let key = try projected.numbers(from: configuration.heads * configuration.headSize)
    let value = try projected.numbers(
      from: (configuration.heads + configuration.keyHeads) * configuration.headSize)
    try kernels.append.record(
      CacheAppendBuffers(
        key: key, value: value, sequences: text.sequences, positions: positions, cache: cache),
      into: recorder)
    switch kernels.softmax {
    case .tiled(let kernel):
      try kernel.record(
        AttentionBuffers(
          query: projected, key: key, value: value, output: workspace.context,
          scratch: workspace.scratch), into: recorder)
    case .lean(let kernel):
      guard let step else { return }
      try kernel.record(
        DecodeBuffers(
          query: projected, keyCache: cache.key.data, valueCache: cache.value?.data,
          output: workspace.context), step: step, into: recorder)
    }
  }

  private func recordLightning(
    _ layer: LanguageModel.Layer, _ text: TextMemory, _ pools: [DeviceBuffer],
    into recorder: Recorder
  ) throws {
    let request = kernels.lightning.request
    let channels = request.valueHeads * request.valueHeadSize
    let projected = workspace.projected
    var operands: [LinearAttentionOperand: DeviceBuffer] = [:]
    operands[.headDecay] = layer.decay
    let (states, others) = (pools[text.pool], pools[1 - text.pool])
    for operand in request.operands {
      switch operand {
      case .initialState, .finalState: operands[operand] = states
      case .snapshots: operands[operand] = others
      case .stateSlots: operands[operand] = text.slot
      default: break
      }
    }
    try kernels.lightning.record(
      LinearAttentionBuffers(
        query: projected, key: projected.numbers(from: channels),
        value: projected.numbers(from: 2 * channels), output: workspace.context,
        operands: operands, scratch: workspace.scratch), into: recorder)
    try kernels.norm.record(
      NormalizationBuffers(
        input: workspace.context, output: workspace.context, weight: layer.contextNorm),
      into: recorder)
  }
}
