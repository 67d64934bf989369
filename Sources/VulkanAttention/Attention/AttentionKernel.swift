/// Tiled exact attention on one device, ready to be recorded or run.
///
/// Safe to share between tasks: it holds a plan and a pipeline, no buffers.
public final class AttentionKernel: Sendable {
  /// How the request runs.
  public let plan: AttentionPlan
  private let device: ComputeDevice
  private let pipeline: ComputePipeline
  /// What packs keys and values, where the plan has them packed.
  private let packers: (key: ComputePipeline, value: ComputePipeline)?

  /// The problem.
  public var request: AttentionRequest { plan.request }

  /// Prepares a plan on a device; compiles its pipeline where no one has before.
  ///
  /// - Throws: `AttentionError.pathUnavailable` or `device`.
  public init(_ plan: AttentionPlan, on device: ComputeDevice) throws(AttentionError) {
    func pipeline(_ description: PipelineDescription) throws(AttentionError) -> ComputePipeline {
      try wrappingDeviceErrors { () throws(VulkanError) in try device.pipeline(description) }
    }
    self.plan = plan
    self.device = device
    self.pipeline = try pipeline(plan.pipelineDescription())
    if let packing = plan.packing {
      let type = plan.request.elementType
      packers = (
        try pipeline(
          packing.pipelineDescription(channels: plan.request.headSize, type)),
        try pipeline(
          packing.pipelineDescription(channels: plan.request.valueHeadSize, type))
      )
    } else {
      packers = nil
    }
  }

  /// Plans and prepares a request.
  ///
  /// - Parameters:
  ///   - request: the problem.
  ///   - device: where it runs.
  ///   - path: forces a path; nil chooses the best.
  /// - Throws: what `AttentionPlan.init` and the other initialiser throw.
  public convenience init(
    _ request: AttentionRequest, on device: ComputeDevice, path: AttentionPath? = nil
  ) throws(AttentionError) {
    try self.init(
      AttentionPlan(request, device: device.capabilities, path: path), on: device)
  }

  /// Appends the whole attention to a recorder. It does not submit, wait or allocate.
  ///
  /// A long attention recorded this way is one submission; `run` cuts it into pieces.
  ///
  /// - Throws: `bufferTooSmall`, `misaligned`, `overlappingOutput`, `missingLogSumExpBuffer`,
  ///   `missingScratchBuffer`, or `device`, before anything is appended.
  public func record(
    _ buffers: AttentionBuffers, into recorder: Recorder
  ) throws(AttentionError) {
    try buffers.check(for: plan, on: device)
    for piece in plan.pieces { try record(piece, buffers, into: recorder) }
  }

  /// Runs the attention piece by piece and returns when the outputs are there.
  ///
  /// A cancelled task stops before the next piece. Outputs are then incomplete, and up to two pieces
  /// that were submitted may still write them: wait for a later submission before using the buffers.
  ///
  /// - Parameters:
  ///   - buffers: the tensors.
  ///   - progress: called with the share of the pieces that are done, up to 1, after each.
  /// - Throws: as `record`, and `device(.cancelled)`.
  public func run(
    _ buffers: AttentionBuffers, progress: (@Sendable (Double) -> Void)? = nil
  ) async throws(AttentionError) {
    try buffers.check(for: plan, on: device)
    var pending: [Submission] = []
    var doneCount = 0
    func completeFirst() async throws(AttentionError) {
      do {
        try await pending.removeFirst().completed()
      } catch {
        throw .device(error)
      }
      doneCount += 1
      progress?(Double(doneCount) / Double(plan.pieces.count))
    }
    for piece in plan.pieces {
      if Task.isCancelled { throw .device(.cancelled) }
      // One piece runs while the next one is recorded; more in flight would delay cancellation.
      if pending.count == 2 { try await completeFirst() }
      let recorder = try wrappingDeviceErrors(device.makeRecorder)
      try record(piece, buffers, into: recorder)
      pending.append(
        try wrappingDeviceErrors { () throws(VulkanError) in try device.submit(recorder) })
    }
    while !pending.isEmpty { try await completeFirst() }
  }

  private func record(
    _ piece: AttentionPlan.Piece, _ buffers: AttentionBuffers, into recorder: Recorder
  ) throws(AttentionError) {
    try wrappingDeviceErrors { () throws(VulkanError) in
      var key = buffers.key
      var value = buffers.value
      if let packing = plan.packing, let packers, let scratch = buffers.scratch {
        key = try scratch.slice(0..<packing.keyByteCount)
        value = try scratch.slice(packing.keyByteCount..<packing.byteCount)
        // Pieces go to the queue in their order, so the first one packs for all.
        if piece.lowerBound == 0 {
          try pack(
            buffers.key, request.keyStrides, channels: request.headSize,
            batches: packing.keyBatches, into: key, packers.key, recorder)
          try pack(
            buffers.value, request.valueStrides, channels: request.valueHeadSize,
            batches: packing.valueBatches, into: value, packers.value, recorder)
        }
      }
      try recorder.dispatch(
        pipeline,
        pushConstants: AttentionPushConstants(
          plan, buffers: buffers, key: key, value: value, firstTile: piece.lowerBound),
        groups: WorkgroupCount(x: piece.count, y: request.queryHeads, z: request.batchSize),
        accesses: buffers.accesses(for: request, key: key, value: value))
    }
  }

  /// Appends the dispatches that pack one tensor; later pieces find it packed.
  private func pack(
    _ source: DeviceBuffer, _ strides: TensorStrides, channels: Int, batches: Int,
    into destination: DeviceBuffer, _ pipeline: ComputePipeline, _ recorder: Recorder
  ) throws(VulkanError) {
    guard let packing = plan.packing else { return }
    let groupLimit = device.capabilities.maxWorkgroupCount[0]
    for (firstGroup, groupCount) in packing.dispatches(
      channels: channels, request, groupLimit: groupLimit)
    {
      try recorder.dispatch(
        pipeline,
        pushConstants: AttentionPackPushConstants(
          request, source: source, strides: strides, destination: destination,
          firstGroup: firstGroup),
        groups: WorkgroupCount(x: groupCount, z: batches),
        accesses: [.read(source), .write(destination)])
    }
  }
}
