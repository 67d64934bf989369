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
  /// - Throws: `AttentionError.bufferTooSmall`, `misaligned`, `overlappingOutput`,
  ///   `missingLogSumExpBuffer`, `missingOperandBuffer`, `missingScratchBuffer`, `invalidArgument` for a
  ///   result that is missing or was not asked for, or `device`, before anything is appended.
  public func record(
    _ buffers: AttentionStatisticsBuffers, into recorder: Recorder
  ) throws(AttentionError) {
    let bindings = try AttentionStatisticsBindings(buffers, for: plan, on: device)
    try wrappingDeviceErrors { () throws(VulkanError) in
      if request.attention.keyTokens == 0 {
        // Nothing can be read, not even a key that nobody sees.
        for (statistic, result) in zip(request.statistics, bindings.results) {
          try recorder.fill(result.output, with: 0)
          if case .topKeys = statistic, let indices = result.second {
            try recorder.fill(indices, with: UInt32(bitPattern: -1))
          }
        }
        return
      }
      let inputs = try prepare(bindings, into: recorder)
      for (index, statistic) in request.statistics.enumerated() {
        let result = bindings.results[index]
        for dispatch in plan.dispatches(statistic) {
          try recorder.dispatch(
            pipelines[index],
            pushConstants: AttentionPushConstants(
              plan, bindings, statistic, result, options: inputs.options, dispatch),
            groups: WorkgroupCount(
              x: dispatch.tiles.count, y: dispatch.heads.count, z: dispatch.batches.count),
            accesses: inputs.accesses + result.accesses)
        }
      }
    }
  }

  /// Appends what the statistics read and the caller does not have, and says what they read.
  private func prepare(
    _ bindings: AttentionStatisticsBindings, into recorder: Recorder
  ) throws(VulkanError) -> (options: UInt64, accesses: [BufferAccess]) {
    let attention = request.attention
    let layout = plan.scratch
    var options: UInt64 = 0
    var accesses =
      ([bindings.query, bindings.logSumExp] + bindings.keys + bindings.operands.values).map {
        BufferAccess.read($0)
      }
    guard let scratch = bindings.scratch else { return (options, accesses) }
    if let range = layout.optionBlock {
      let block = try scratch.slice(range)
      try recorder.update(
        block,
        with: AttentionOptionBlock.bytes(
          attention, operands: bindings.operands,
          keySources: attention.hasKeySources
            ? bindings.keys.map { AttentionKeySource(key: $0, value: $0) } : [],
          layout: layout, scratch: scratch.address))
      options = block.address
      accesses.append(.read(block))
    }
    if let relativePipeline, let range = layout.relativeTerm {
      let term = try scratch.slice(range)
      try AttentionRelativeTerm.record(
        attention, relativePipeline, query: bindings.query, operands: bindings.operands,
        term: term, groupLimits: plan.groupLimits, into: recorder)
      accesses.append(.read(term))
    }
    return (options, accesses)
  }
}

extension AttentionPushConstants {
  /// The family's block as `attention_statistics.comp` reads it.
  fileprivate init(
    _ plan: AttentionStatisticsPlan, _ bindings: AttentionStatisticsBindings,
    _ statistic: AttentionStatistic, _ result: AttentionStatisticsBindings.Result,
    options: UInt64, _ dispatch: AttentionStatisticsPlan.Dispatch
  ) {
    let request = plan.request.attention
    self.init(
      request, q: bindings.query.address, k: bindings.keys.first?.address ?? 0,
      v: result.second?.address ?? 0, o: result.output.address, lse: bindings.logSumExp.address,
      options: options, keyStrides: request.keyStrides, firstTile: dispatch.tiles.lowerBound,
      firstHead: dispatch.heads.lowerBound, firstBatch: dispatch.batches.lowerBound)
    // The rows that are walked: vTokenStride ..< oTokenStride.
    var rows = 0..<request.queryTokens
    switch statistic {
    case .keySums(let lastRows):
      rows = max(0, request.queryTokens - (lastRows ?? request.queryTokens))..<request.queryTokens
    case .probabilities(let rowCount): rows = 0..<rowCount
    case .entropy, .topKeys: break
    }
    vTokenStride = UInt32(rows.lowerBound)
    oTokenStride = UInt32(rows.upperBound)
  }
}
