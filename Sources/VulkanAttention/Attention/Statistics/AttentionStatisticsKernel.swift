/// Statistics of an attention on one device, ready to be recorded after it.
///
///     let attention = try AttentionRequest(…, returnsLogSumExp: true)
///     let request = try AttentionStatisticsRequest(attention, statistics: [.keySums(lastRows: 32)])
///     let statistics = try AttentionStatisticsKernel(request, on: device)
///     var buffers = AttentionStatisticsBuffers(attentionBuffers)
///     buffers.keySums = sums
///     try kernel.record(attentionBuffers, into: recorder)
///     try statistics.record(buffers, into: recorder)
///
/// Deterministic: the same inputs give the same bits. Safe to share between tasks: it holds a plan and
/// pipelines, no buffers.
public final class AttentionStatisticsKernel: Sendable {
  /// How the request runs.
  public let plan: AttentionStatisticsPlan
  private let device: ComputeDevice
  /// By the statistic's place in the request.
  private let pipelines: [ComputePipeline]
  /// What computes the Transformer-XL term, where the attention has one.
  private let relativePipeline: ComputePipeline?

  /// The statistics.
  public var request: AttentionStatisticsRequest { plan.request }

  /// Prepares a plan on a device; compiles its pipelines where no one has before.
  ///
  /// - Throws: `AttentionError.noPath` or `device`.
  public init(
    _ plan: AttentionStatisticsPlan, on device: ComputeDevice
  ) throws(AttentionError) {
    self.plan = plan
    self.device = device
    var pipelines: [ComputePipeline] = []
    for statistic in plan.request.statistics {
      pipelines.append(try device.compiled(plan.pipelineDescription(statistic)))
    }
    self.pipelines = pipelines
    relativePipeline =
      plan.scratch.relativeTerm == nil
      ? nil : try device.compiled(AttentionRelativeTerm.pipelineDescription(plan.request.attention))
  }

  /// Plans and prepares a request.
  ///
  /// - Throws: what `AttentionStatisticsPlan.init` and the other initialiser throw.
  public convenience init(
    _ request: AttentionStatisticsRequest, on device: ComputeDevice
  ) throws(AttentionError) {
    try self.init(AttentionStatisticsPlan(request, device: device.capabilities), on: device)
  }

  /// Appends the statistics to a recorder. It does not submit, wait or allocate.
  ///
  /// Long statistics recorded this way are one submission; `run` cuts them into pieces.
  ///
  /// - Throws: `AttentionError.bufferTooSmall`, `misaligned`, `overlappingOutput`,
  ///   `missingLogSumExpBuffer`, `missingOperandBuffer`, `missingScratchBuffer`, `invalidArgument` for a
  ///   result that is missing or was not asked for, or `device`, before anything is appended.
  public func record(
    _ buffers: AttentionStatisticsBuffers, into recorder: Recorder
  ) throws(AttentionError) {
    let bindings = try AttentionStatisticsBindings(buffers, for: plan, on: device)
    try prepare(bindings, into: recorder)
    for piece in plan.pieces { try record(piece, bindings, into: recorder) }
  }

  /// Runs the statistics piece by piece and returns when the results are there.
  ///
  /// A cancelled task stops before the next piece. Results are then incomplete, and up to two pieces
  /// that were submitted may still write them: wait for a later submission before using the buffers.
  ///
  /// - Parameters:
  ///   - buffers: the tensors; what the attention leaves must be there or submitted.
  ///   - progress: called with the share of the pieces that are done, up to 1, after each.
  /// - Throws: as `record`, and `device(.cancelled)`.
  public func run(
    _ buffers: AttentionStatisticsBuffers, progress: (@Sendable (Double) -> Void)? = nil
  ) async throws(AttentionError) {
    let bindings = try AttentionStatisticsBindings(buffers, for: plan, on: device)
    try await device.runPieces(max(1, plan.pieces.count), progress: progress) {
      (index, recorder) throws(AttentionError) in
      if index == 0 { try prepare(bindings, into: recorder) }
      if !plan.pieces.isEmpty { try record(plan.pieces[index], bindings, into: recorder) }
    }
  }

  /// Appends what the statistics read and the caller does not have; where there are no keys, the results.
  private func prepare(
    _ bindings: AttentionStatisticsBindings, into recorder: Recorder
  ) throws(AttentionError) {
    let attention = request.attention
    let layout = plan.scratch
    try wrappingDeviceErrors { () throws(VulkanError) in
      guard request.hasKeys else {
        // Nothing can be read, not even a key that nobody sees.
        for (statistic, result) in zip(request.statistics, bindings.results) {
          try recorder.fill(result.output, with: 0)
          if case .topKeys = statistic, let indices = result.second {
            try recorder.fill(indices, with: UInt32(bitPattern: -1))
          }
        }
        return
      }
      guard let scratch = bindings.scratch else { return }
      if let range = layout.optionBlock {
        try recorder.update(
          scratch.slice(range),
          with: AttentionOptionBlock.bytes(
            attention, operands: bindings.operands,
            keySources: attention.hasKeySources
              ? bindings.keys.map { AttentionKeySource(key: $0, value: $0) } : [],
            layout: layout, scratch: scratch.address))
      }
      if let relativePipeline, let range = layout.relativeTerm {
        try AttentionRelativeTerm.record(
          attention, relativePipeline, query: bindings.query, operands: bindings.operands,
          term: scratch.slice(range), groupLimits: plan.groupLimits, into: recorder)
      }
    }
  }

  private func record(
    _ piece: AttentionStatisticsPlan.Piece, _ bindings: AttentionStatisticsBindings,
    into recorder: Recorder
  ) throws(AttentionError) {
    let result = bindings.results[piece.statistic]
    try wrappingDeviceErrors { () throws(VulkanError) in
      var prepared: [DeviceBuffer] = []
      var options: UInt64 = 0
      if let scratch = bindings.scratch {
        for range in [plan.scratch.optionBlock, plan.scratch.relativeTerm] {
          guard let range else { continue }
          prepared.append(try scratch.slice(range))
        }
        if let block = plan.scratch.optionBlock {
          options = scratch.address + UInt64(block.lowerBound)
        }
      }
      let inputs =
        [bindings.query, bindings.logSumExp] + bindings.keys + bindings.operands.values + prepared
      try recorder.dispatch(
        pipelines[piece.statistic],
        pushConstants: AttentionPushConstants(plan, bindings, result, options: options, piece),
        groups: WorkgroupCount(
          x: piece.tiles.count, y: piece.heads.count, z: piece.batches.count),
        accesses: inputs.map { .read($0) } + result.accesses)
    }
  }
}

extension AttentionPushConstants {
  /// The family's block as `attention_statistics.comp` reads it.
  fileprivate init(
    _ plan: AttentionStatisticsPlan, _ bindings: AttentionStatisticsBindings,
    _ result: AttentionStatisticsBindings.Result, options: UInt64,
    _ piece: AttentionStatisticsPlan.Piece
  ) {
    let request = plan.request.attention
    self.init(
      request, q: bindings.query.address, k: bindings.keys.first?.address ?? 0,
      v: result.second?.address ?? 0, o: result.output.address, lse: bindings.logSumExp.address,
      options: options, keyStrides: request.keyStrides, firstTile: piece.tiles.lowerBound,
      firstHead: piece.heads.lowerBound, firstBatch: piece.batches.lowerBound)
    vTokenStride = UInt32(plan.request.walkedRows(of: plan.request.statistics[piece.statistic]))
  }
}
