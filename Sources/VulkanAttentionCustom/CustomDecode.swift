/// Lean decode attention with modifications of its scores and masks, compiled at run time and ready to be recorded.
///
///     o[b,i,h,:] = Σ_j softmax_j(score(scale · q·k, b, h, i, j) if mask(b, h, i, j)) v[b,j,g,:]
///
/// Used as `DecodeKernel` is: a step is prepared once, with what the modifications read, and serves all layers.
/// `queryIndex` counts the step's own tokens from 0 and `keyIndex` the sequence's keys; the position of a query among
/// them is `queryIndex + positionOffset`. See ``ScoreModification`` for the order, and for all else that a
/// modification finds.
///
///     let decode = try await CustomDecode(request, score: alibi, on: device)
///     let schedule = try decode.plan.schedule(lengths: lengths)
///     let step = try decode.prepare(
///       schedule, userBuffers: ["slopes": slopes], workspace: workspace, into: recorder)
///     for layer in layers { try decode.record(layer.buffers, step: step, into: recorder) }
///
/// Safe to share between tasks: it holds a plan and pipelines, no buffers.
public struct CustomDecode: Sendable {
  private let kernel: DecodeKernel
  private let functions: [CustomFunction]
  private let parameters: CustomParameters

  /// How the request runs.
  public var plan: DecodePlan { kernel.plan }

  /// What the layers of one step share, made by ``CustomDecode/prepare(_:pages:operands:rotations:userBuffers:scalars:workspace:into:)``.
  public struct Step: Sendable {
    let step: DecodeStep
    let functions: [CustomFunction]

    /// The step for layers that are recorded once and run again and again, as of `DecodeStep`.
    ///
    /// - Throws: `CustomAttentionError.attention` where schedules of the plan have no bound that can be counted.
    public func forReplay() throws(CustomAttentionError) -> Step {
      Step(
        step: try wrappingAttentionErrors { () throws(AttentionError) in try step.forReplay() },
        functions: functions)
    }
  }

  /// Plans a request, compiles its shader with the modifications and prepares its pipelines.
  ///
  /// - Parameters:
  ///   - request: the problem.
  ///   - score: what is done to each score.
  ///   - mask: which keys are seen.
  ///   - device: where it runs.
  ///   - path: forces a path; nil chooses the best of those that the machine's GLSL compiler knows the extensions
  ///     of, and `plan.explanation` says which it does not.
  ///   - mode: how the work is cut, as for `DecodePlan`.
  ///   - isChecked: whether an index outside of a user's buffer is caught: it then gives NaN, or 0 of integers, and
  ///     the memory is not touched. Unchecked, such a load is undefined behaviour.
  ///   - tuning: tiles that were measured on the device.
  ///   - compiler: what compiles and keeps shaders.
  /// - Throws: `CustomAttentionError`; `compilerTooOld` for a forced path alone.
  public init(
    _ request: DecodeRequest, score: ScoreModification? = nil, mask: MaskModification? = nil,
    on device: ComputeDevice, path: AttentionPath? = nil, mode: LeanSchedule.Mode? = nil,
    isChecked: Bool = false, tuning: Tuning = .none, compiler: CustomCompiler = .shared
  ) async throws(CustomAttentionError) {
    try await self.init(
      request, score: score, mask: mask, on: device, path: path, tile: .tuned, mode: mode,
      isChecked: isChecked, tuning: tuning, compiler: compiler)
  }

  /// The same with the path's tile forced.
  package init(
    _ request: DecodeRequest, score: ScoreModification? = nil, mask: MaskModification? = nil,
    on device: ComputeDevice, path: AttentionPath?, tile: AttentionTileChoice,
    mode: LeanSchedule.Mode? = nil,
    isChecked: Bool = false, tuning: Tuning = .none, compiler: CustomCompiler = .shared
  ) async throws(CustomAttentionError) {
    let functions = [score?.function, mask?.function].compactMap(\.self)
    let parameters = try CustomParameters(functions)
    let (plan, shader) = try await CustomShader.choose(
      functions, parameters, path: path, isChecked: isChecked, device: device.capabilities,
      compiler: compiler
    ) { excluded throws(AttentionError) in
      let plan = try DecodePlan(
        request, device: device.capabilities, path: path, tile: tile, mode: mode, tuning: tuning,
        customByteCount: CustomBlock.byteCount, excluded: excluded)
      return (plan, plan.path, plan.shaderName)
    }
    self.functions = functions
    self.parameters = parameters
    kernel = try wrappingAttentionErrors { () throws(AttentionError) in
      try DecodeKernel(plan, on: device, customShader: shader)
    }
  }

  /// Appends the upload of what a step's layers share.
  ///
  /// - Parameters:
  ///   - schedule: of the plan, for the step's lengths.
  ///   - pages: of a paged cache; nil for others.
  ///   - operands: the request's operands, without `keyLengths`.
  ///   - rotations: cosines and sines, where the request rotates keys.
  ///   - userBuffers: the modifications' buffers by their names, each to its end. They are read by every layer that
  ///     is recorded with the step.
  ///   - scalars: the modifications' scalars by their names.
  ///   - workspace: of `plan.workspaceByteCount(for:pages:)` bytes at least.
  ///   - recorder: what the upload is appended to.
  /// - Throws: `CustomAttentionError.invalidInputs` or `attention`, before anything is appended.
  public func prepare(
    _ schedule: LeanSchedule, pages: DecodePages? = nil,
    operands: [AttentionOperand.Kind: DeviceBuffer] = [:], rotations: DeviceBuffer? = nil,
    userBuffers: [String: DeviceBuffer] = [:], scalars: [String: CustomScalar.Value] = [:],
    workspace: DeviceBuffer, into recorder: Recorder
  ) throws(CustomAttentionError) -> Step {
    let inputs = try CustomBlock.inputs(parameters, buffers: userBuffers, scalars: scalars)
    let step = try wrappingAttentionErrors { () throws(AttentionError) in
      try kernel.prepare(
        schedule, pages: pages, operands: operands, rotations: rotations, custom: inputs,
        workspace: workspace, into: recorder)
    }
    return Step(step: step, functions: functions)
  }

  /// Appends the attention of one layer. It does not submit, wait or allocate.
  ///
  /// - Parameters:
  ///   - buffers: the layer's tensors.
  ///   - step: prepared by this kernel, or by one of the same request and modifications.
  ///   - recorder: what the attention is appended to.
  /// - Throws: `CustomAttentionError.invalidInputs` for a step of other modifications, or `attention`, before
  ///   anything is appended.
  public func record(
    _ buffers: DecodeBuffers, step: Step, into recorder: Recorder
  ) throws(CustomAttentionError) {
    try check(step)
    try wrappingAttentionErrors { () throws(AttentionError) in
      try kernel.record(buffers, step: step.step, into: recorder)
    }
  }

  /// Appends the upload of another schedule in the place of a step's, as `DecodeKernel.update`; what the modifications
  /// read stays.
  ///
  /// - Throws: `CustomAttentionError.invalidInputs` for a step of other modifications, or `attention`, before
  ///   anything is appended.
  public func update(
    _ step: Step, to schedule: LeanSchedule, pages table: CachePageTable? = nil,
    into recorder: Recorder
  ) throws(CustomAttentionError) {
    try check(step)
    try wrappingAttentionErrors { () throws(AttentionError) in
      try kernel.update(step.step, to: schedule, pages: table, into: recorder)
    }
  }

  private func check(_ step: Step) throws(CustomAttentionError) {
    guard step.functions == functions else {
      throw .invalidInputs(
        reason: "the step was prepared with other modifications; prepare one with these")
    }
  }
}
