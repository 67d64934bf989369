internal import ShaderLibrary

/// Tiled attention with modifications of its scores, masks and output, compiled at run time and ready to be recorded.
///
///     o[b,i,h,c] = output(Σ_j softmax_j(score(scale · q·k, b, h, i, j) if mask(b, h, i, j)) v[b,j,g,c], b, h, i, c)
///
/// All options of the request hold as well, its normaliser among them (softmax, ReLU, sigmoid, of the score that the
/// modification returns); see ``ScoreModification`` for the order. Rows of which every key is hidden give a result
/// of 0 before ``OutputModification`` and a log-sum-exp of −∞.
///
/// Safe to share between tasks: it holds a plan and pipelines, no buffers.
public struct CustomAttention: Sendable {
  /// The kernel, whose plan says the path, the pieces and the scratch memory.
  private let kernel: AttentionKernel
  private let parameters: CustomParameters

  /// How the request runs. Give buffers as it asks, scratch memory of its `scratchByteCount` among them.
  public var plan: AttentionPlan { kernel.plan }

  /// Plans a request, compiles its shader with the modifications and prepares its pipeline.
  ///
  /// - Parameters:
  ///   - request: the problem.
  ///   - score: what is done to each score.
  ///   - mask: which keys are seen.
  ///   - output: what is done to each number of the output.
  ///   - device: where it runs.
  ///   - path: forces a path; nil chooses the best of those that the machine's GLSL compiler knows the extensions
  ///     of, and `plan.explanation` says which it does not.
  ///   - isChecked: whether an index outside of a user's buffer is caught: it then gives NaN, or 0 of integers, and
  ///     the memory is not touched. Unchecked, such a load is undefined behaviour.
  ///   - tuning: tiles that were measured on the device.
  ///   - compiler: what compiles and keeps shaders.
  /// - Throws: `CustomAttentionError`; `compilerTooOld` for a forced path alone.
  public init(
    _ request: AttentionRequest, score: ScoreModification? = nil, mask: MaskModification? = nil,
    output: OutputModification? = nil, on device: ComputeDevice, path: AttentionPath? = nil,
    isChecked: Bool = false, tuning: Tuning = .none, compiler: CustomCompiler = .shared
  ) async throws(CustomAttentionError) {
    try await self.init(
      request, score: score, mask: mask, output: output, on: device, path: path, tile: .tuned,
      isChecked: isChecked, tuning: tuning, compiler: compiler)
  }

  /// The same with the path's tile forced.
  package init(
    _ request: AttentionRequest, score: ScoreModification? = nil, mask: MaskModification? = nil,
    output: OutputModification? = nil, on device: ComputeDevice, path: AttentionPath?,
    tile: AttentionTileChoice,
    isChecked: Bool = false, tuning: Tuning = .none, compiler: CustomCompiler = .shared
  ) async throws(CustomAttentionError) {
    let functions = [score?.function, mask?.function, output?.function].compactMap(\.self)
    let parameters = try CustomParameters(functions)
    let (plan, shader) = try await CustomShader.choose(
      functions, parameters, path: path, isChecked: isChecked, device: device.capabilities,
      compiler: compiler
    ) { excluded throws(AttentionError) in
      let plan = try AttentionPlan(
        request, device: device.capabilities, path: path, tile: tile, tuning: tuning,
        customByteCount: CustomBlock.byteCount, excluded: excluded)
      return (plan, plan.path, plan.shaderName)
    }
    self.parameters = parameters
    kernel = try wrappingAttentionErrors { () throws(AttentionError) in
      try AttentionKernel(plan, on: device, customShader: shader)
    }
  }

  /// Appends the whole attention to a recorder. It does not submit, wait or allocate.
  ///
  /// - Parameters:
  ///   - buffers: the attention's tensors.
  ///   - userBuffers: the modifications' buffers by their names, each to its end.
  ///   - scalars: the modifications' scalars by their names.
  ///   - recorder: what is appended to.
  /// - Throws: `CustomAttentionError.invalidInputs` or `attention`, before anything is appended.
  public func record(
    _ buffers: AttentionBuffers, userBuffers: [String: DeviceBuffer] = [:],
    scalars: [String: CustomScalar.Value] = [:], into recorder: Recorder
  ) throws(CustomAttentionError) {
    let buffers = try adding(userBuffers, scalars, to: buffers)
    try wrappingAttentionErrors { () throws(AttentionError) in
      try kernel.record(buffers, into: recorder)
    }
  }

  /// Runs the attention piece by piece and returns when the outputs are there, as `AttentionKernel.run` does.
  ///
  /// - Throws: as `record`.
  public func run(
    _ buffers: AttentionBuffers, userBuffers: [String: DeviceBuffer] = [:],
    scalars: [String: CustomScalar.Value] = [:], progress: (@Sendable (Double) -> Void)? = nil
  ) async throws(CustomAttentionError) {
    let buffers = try adding(userBuffers, scalars, to: buffers)
    do {
      try await kernel.run(buffers, progress: progress)
    } catch {
      throw .attention(error)
    }
  }

  private func adding(
    _ userBuffers: [String: DeviceBuffer], _ scalars: [String: CustomScalar.Value],
    to buffers: AttentionBuffers
  ) throws(CustomAttentionError) -> AttentionBuffers {
    var buffers = buffers
    buffers.custom = try CustomBlock.inputs(parameters, buffers: userBuffers, scalars: scalars)
    return buffers
  }
}
