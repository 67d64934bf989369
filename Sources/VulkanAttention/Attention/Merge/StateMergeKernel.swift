/// The merge of partial results of an attention on one device, ready to be recorded.
///
/// See ``StateMergeRequest`` for the formula and the special cases. Two states in buffers of their own are
/// merged without a copy:
///
///     let request = try StateMergeRequest(
///       rowCount: batch * tokens, headCount: heads, partials: .perRow(2), valueHeadSize: 128)
///     let merge = try StateMergeKernel(request, on: device)
///     try merge.record(prefix, suffix, output: output, logSumExp: logSumExp, into: recorder)
///
/// Deterministic: the same inputs give the same bits. Safe to share between tasks: it holds a plan and a
/// pipeline, no buffers.
public final class StateMergeKernel: Sendable {
  /// How the request runs.
  public let plan: StateMergePlan
  private let device: ComputeDevice
  private let pipeline: ComputePipeline

  /// The merge.
  public var request: StateMergeRequest { plan.request }

  /// Prepares a plan on a device; compiles its pipeline where no one has before.
  ///
  /// - Throws: `AttentionError.noPath` or `device`.
  public init(_ plan: StateMergePlan, on device: ComputeDevice) throws(AttentionError) {
    self.plan = plan
    self.device = device
    pipeline = try device.compiled(plan.pipelineDescription())
  }

  /// Plans and prepares a request.
  ///
  /// - Throws: what `StateMergePlan.init` and the other initialiser throw.
  public convenience init(
    _ request: StateMergeRequest, on device: ComputeDevice
  ) throws(AttentionError) {
    try self.init(StateMergePlan(request, device: device.capabilities), on: device)
  }

  /// Appends the merge to a recorder. It does not submit, wait or allocate.
  ///
  /// - Throws: `AttentionError.bufferTooSmall`, `misaligned`, `overlappingOutput`,
  ///   `missingLogSumExpBuffer`, `invalidArgument` where the buffers' partials are not those of the
  ///   request, or `device`, before anything is appended.
  public func record(
    _ buffers: StateMergeBuffers, into recorder: Recorder
  ) throws(AttentionError) {
    let bindings = try StateMergeBindings(buffers, for: request, on: device)
    // All invocations of a row read its log-sum-exps, so none of them may replace one meanwhile.
    let passes =
      bindings.isLogSumExpInPlace
      ? [(true, false), (false, true)] : [(true, bindings.mergedLogSumExp != nil)]
    try wrappingDeviceErrors { () throws(VulkanError) in
      for (writesOutput, writesLogSumExp) in passes {
        try recorder.dispatch(
          pipeline,
          pushConstants: StateMergePushConstants(
            bindings, writesOutput: writesOutput, writesLogSumExp: writesLogSumExp),
          groups: plan.groups,
          accesses: bindings.accesses(
            writesOutput: writesOutput, writesLogSumExp: writesLogSumExp))
      }
    }
  }

  /// Appends the merge of two states in buffers of their own. The results may be those of `first`.
  ///
  /// - Parameters:
  ///   - first: O [rowCount, H, E] and its log-sum-exp [rowCount, H], at the strides of the request.
  ///   - second: likewise, over other keys.
  ///   - output: O [rowCount, H, E], contiguous, written.
  ///   - logSumExp: [rowCount, H], contiguous, written where the request returns it.
  ///   - recorder: what the merge is appended to.
  /// - Throws: as the other method.
  public func record(
    _ first: AttentionState, _ second: AttentionState, output: DeviceBuffer,
    logSumExp: DeviceBuffer? = nil, into recorder: Recorder
  ) throws(AttentionError) {
    try record(
      StateMergeBuffers(first, second, output: output, logSumExp: logSumExp), into: recorder)
  }
}

/// The push constants of `attention_merge.comp`, field for field; a test compares the two.
struct StateMergePushConstants: BitwiseCopyable {
  var outputs: UInt64
  var logSumExps: UInt64
  var starts: UInt64
  var merged: UInt64
  var mergedLogSumExp: UInt64
  var outputPartialStride: UInt64
  var outputRowStride: UInt64
  var outputHeadStride: UInt64
  var logSumExpPartialStride: UInt64
  var logSumExpRowStride: UInt64
  var logSumExpHeadStride: UInt64
  var rows: UInt32
  var partials: UInt32

  init(_ bindings: StateMergeBindings, writesOutput: Bool, writesLogSumExp: Bool) {
    let request = bindings.request
    func bytes(_ stride: Int, _ elementBytes: Int) -> UInt64 {
      // Strides along an axis of extent 1 are not checked and not used, and may wrap.
      UInt64(stride) &* UInt64(elementBytes)
    }
    /// From the first of two buffers to the second, which may lie before it: both wrap alike.
    func partialStride(_ buffers: [DeviceBuffer], _ stride: Int, _ elementBytes: Int) -> UInt64 {
      buffers.count == 2
        ? buffers[1].address &- buffers[0].address : bytes(stride, elementBytes)
    }
    let size = request.elementType.byteCount
    outputs = bindings.outputs[0].address
    logSumExps = bindings.logSumExps[0].address
    starts = bindings.starts?.address ?? 0
    merged = writesOutput ? bindings.merged.address : 0
    mergedLogSumExp = writesLogSumExp ? bindings.mergedLogSumExp?.address ?? 0 : 0
    outputPartialStride = partialStride(bindings.outputs, request.outputStrides.partial, size)
    outputRowStride = bytes(request.outputStrides.row, size)
    outputHeadStride = bytes(request.outputStrides.head, size)
    logSumExpPartialStride = partialStride(
      bindings.logSumExps, request.logSumExpStrides.partial, 4)
    logSumExpRowStride = bytes(request.logSumExpStrides.row, 4)
    logSumExpHeadStride = bytes(request.logSumExpStrides.head, 4)
    rows = UInt32(request.rowCount)
    partials = UInt32(request.partialCount)
  }
}
