/// Linear attention or one of its gated kin on one device, ready to be recorded or run.
///
///     let request = try LinearAttentionRequest(
///       tokens: 4096, valueHeads: 32, keyHeadSize: 128, elementType: .f16,
///       operands: [.headDecay, .finalState])
///     let kernel = try LinearAttentionKernel(request, on: device)
///     try await kernel.run(LinearAttentionBuffers(
///       query: q, key: k, value: v, output: o, operands: [.headDecay: slopes, .finalState: state],
///       scratch: scratch))
///
/// A prefill of T tokens and n decode steps from its final state give what a prefill of T + n tokens gives.
/// Deterministic: the same inputs, device and plan give the same bits. Safe to share between tasks: it holds a plan
/// and pipelines, no buffers.
public final class LinearAttentionKernel: Sendable {
  /// How the request runs.
  public let plan: LinearAttentionPlan
  private let device: ComputeDevice
  private let pipelines: [LinearAttentionPlan.Stage: ComputePipeline]

  /// The problem.
  public var request: LinearAttentionRequest { plan.request }

  /// Prepares a plan on a device; compiles its pipelines where no one has before.
  ///
  /// - Throws: `AttentionError.pathUnavailable` or `device`.
  public init(_ plan: LinearAttentionPlan, on device: ComputeDevice) throws(AttentionError) {
    self.plan = plan
    self.device = device
    var pipelines: [LinearAttentionPlan.Stage: ComputePipeline] = [:]
    for stage in plan.stages {
      pipelines[stage] = try device.compiled(plan.pipelineDescription(stage))
    }
    self.pipelines = pipelines
  }

  /// Plans and prepares a request.
  ///
  /// - Parameters:
  ///   - request: the problem.
  ///   - device: where it runs.
  ///   - form: forces a form; nil chooses by the device and the number of updates.
  ///   - path: forces a path; nil chooses the best.
  ///   - tuning: forms and tiles that were measured on the device.
  /// - Throws: what `LinearAttentionPlan.init` and the other initialiser throw.
  public convenience init(
    _ request: LinearAttentionRequest, on device: ComputeDevice,
    form: LinearAttentionForm? = nil, path: AttentionPath? = nil, tuning: Tuning = .none
  ) throws(AttentionError) {
    try self.init(
      LinearAttentionPlan(
        request, device: device.capabilities, form: form, path: path, tuning: tuning),
      on: device)
  }

  /// Appends the whole linear attention to a recorder. It does not submit, wait or allocate.
  ///
  /// A long one recorded this way is one submission; `run` cuts it into pieces.
  ///
  /// - Throws: `AttentionError.bufferTooSmall`, `misaligned`, `overlappingOutput`, `invalidArgument` for an operand
  ///   that is missing or was not asked for, or `device`, before anything is appended.
  public func record(
    _ buffers: LinearAttentionBuffers, into recorder: Recorder
  ) throws(AttentionError) {
    let bindings = try LinearAttentionBindings(buffers, for: plan, on: device)
    for index in plan.pieces.indices { try record(pieceAt: index, bindings, into: recorder) }
  }

  /// Runs the linear attention piece by piece and returns when the outputs are there.
  ///
  /// A cancelled task stops before the next piece. Outputs and final states are then incomplete, and up to two
  /// pieces that were submitted may still write them: wait for a later submission before using the buffers.
  ///
  /// - Parameters:
  ///   - buffers: the tensors.
  ///   - progress: called with the share of the pieces that are done, up to 1, after each.
  /// - Throws: as `record`, and `device(.cancelled)`.
  public func run(
    _ buffers: LinearAttentionBuffers, progress: (@Sendable (Double) -> Void)? = nil
  ) async throws(AttentionError) {
    let bindings = try LinearAttentionBindings(buffers, for: plan, on: device)
    try await device.runPieces(plan.pieces.count, progress: progress) {
      (index, recorder) throws(AttentionError) in
      try record(pieceAt: index, bindings, into: recorder)
    }
  }

  private func record(
    pieceAt index: Int, _ bindings: LinearAttentionBindings, into recorder: Recorder
  ) throws(AttentionError) {
    let layout = plan.scratch
    try wrappingDeviceErrors { () throws(VulkanError) in
      let block = try bindings.scratch.slice(layout.block)
      let sumBlock = try layout.sumBlock.map { range throws(VulkanError) in
        try bindings.scratch.slice(range)
      }
      // Pieces go to the queue in their order: what the first one brings is there for all.
      if index == 0 {
        try recorder.update(block, with: bindings.block(isSum: false).bytes)
        if let sumBlock { try recorder.update(sumBlock, with: bindings.block(isSum: true).bytes) }
      }
      let accesses = bindings.accesses
      for dispatch in plan.pieces[index] {
        // `init` has made a pipeline for every stage.
        guard let pipeline = pipelines[dispatch.stage] else { continue }
        let own = dispatch.stage.options.contains(.ones) ? sumBlock ?? block : block
        try recorder.dispatch(
          pipeline,
          pushConstants: LinearAttentionPushConstants(dispatch, block: own.address),
          groups: dispatch.groups, accesses: accesses)
      }
    }
  }
}
