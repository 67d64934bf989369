package import ShaderLibrary

/// Tiled exact attention on one device, ready to be recorded or run.
///
/// Safe to share between tasks: it holds a plan and pipelines, no buffers.
public final class AttentionKernel: Sendable {
  /// How the request runs.
  public let plan: AttentionPlan
  private let device: ComputeDevice
  private let pipeline: ComputePipeline
  /// What packs keys and values, where the plan has them packed.
  private let keyPacker: ComputePipeline?
  private let valuePacker: ComputePipeline?
  /// What computes the Transformer-XL term, where the request has one.
  private let relativePipeline: ComputePipeline?

  /// The problem.
  public var request: AttentionRequest { plan.request }

  /// Prepares a plan on a device; compiles its pipeline where no one has before.
  ///
  /// - Throws: `AttentionError.pathUnavailable` or `device`.
  public convenience init(_ plan: AttentionPlan, on device: ComputeDevice) throws(AttentionError) {
    try self.init(plan, on: device, customShader: nil)
  }

  /// Prepares a plan whose shader may have a user's modifications.
  package init(
    _ plan: AttentionPlan, on device: ComputeDevice, customShader: ShaderBinary?
  ) throws(AttentionError) {
    let request = plan.request
    self.plan = plan
    self.device = device
    pipeline = try device.compiled(plan.pipelineDescription(customShader))
    if let packing = plan.packing {
      keyPacker = try device.compiled(
        packing.pipelineDescription(packing.key, request.keyType, request))
      if let value = packing.value {
        valuePacker = try device.compiled(
          packing.pipelineDescription(value, request.valueType, request))
      } else {
        valuePacker = nil
      }
    } else {
      keyPacker = nil
      valuePacker = nil
    }
    relativePipeline =
      plan.scratch.relativeTerm == nil
      ? nil : try device.compiled(AttentionRelativeTerm.pipelineDescription(request))
  }

  /// Plans and prepares a request.
  ///
  /// - Parameters:
  ///   - request: the problem.
  ///   - device: where it runs.
  ///   - path: forces a path; nil chooses the best.
  ///   - tuning: tiles that were measured on the device.
  /// - Throws: what `AttentionPlan.init` and the other initialiser throw.
  public convenience init(
    _ request: AttentionRequest, on device: ComputeDevice, path: AttentionPath? = nil,
    tuning: Tuning = .none
  ) throws(AttentionError) {
    try self.init(
      AttentionPlan(request, device: device.capabilities, path: path, tuning: tuning), on: device)
  }

  /// Appends the whole attention to a recorder. It does not submit, wait or allocate.
  ///
  /// A long attention recorded this way is one submission; `run` cuts it into pieces.
  ///
  /// - Throws: `bufferTooSmall`, `misaligned`, `overlappingOutput`, `missingLogSumExpBuffer`,
  ///   `missingOperandBuffer`, `missingScratchBuffer`, `invalidArgument`, or `device`, before anything
  ///   is appended.
  public func record(
    _ buffers: AttentionBuffers, into recorder: Recorder
  ) throws(AttentionError) {
    try buffers.check(for: plan, on: device)
    for index in plan.pieces.indices { try record(pieceAt: index, buffers, into: recorder) }
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
    try await device.runPieces(plan.pieces.count, progress: progress) {
      (index, recorder) throws(AttentionError) in
      try record(pieceAt: index, buffers, into: recorder)
    }
  }

  private func record(
    pieceAt index: Int, _ buffers: AttentionBuffers, into recorder: Recorder
  ) throws(AttentionError) {
    let piece = plan.pieces[index]
    let layout = plan.scratch
    try wrappingDeviceErrors { () throws(VulkanError) in
      func part(_ range: Range<Int>?) throws(VulkanError) -> DeviceBuffer? {
        guard let range, let scratch = buffers.scratch else { return nil }
        return try scratch.slice(range)
      }
      let block = try part(layout.optionBlock)
      let carry = try part(layout.carry)
      // Pieces go to the queue in their order, so what the first one prepares is there for all; but a
      // range of keys is one piece's own, and one with all keys must not find the range before it.
      let isRanged = piece.keys != nil || index > 0 && plan.pieces[index - 1].keys != nil
      if let block, index == 0 || isRanged {
        try recorder.update(
          block,
          with: AttentionOptionBlock.bytes(
            request, operands: buffers.operands, keySources: buffers.keySources, layout: layout,
            scratch: buffers.scratch?.address ?? 0,
            range: piece.keys.map { keyRange($0, piece, carry: carry?.address ?? 0) },
            custom: buffers.custom?.block ?? []))
      }
      if index == 0 { try prepare(buffers, block: block, into: recorder) }

      var sources = buffers.sources(of: request)
      var key = buffers.key.address
      var value = buffers.value.address
      if let packedKeys = try part(layout.packedKeys) {
        let packedValues = try part(layout.packedValues)
        sources = [packedKeys] + (packedValues.map { [$0] } ?? [])
        key = packedKeys.address
        value = packedValues?.address ?? key
      }
      var accesses = buffers.accesses(for: plan, sources: sources)
      if let block { accesses.append(.read(block)) }
      if let carry { accesses.append(.readWrite(carry)) }
      if let term = try part(layout.relativeTerm) { accesses.append(.read(term)) }
      try recorder.dispatch(
        pipeline,
        pushConstants: AttentionPushConstants(
          plan, buffers: buffers, key: key, value: value, options: block?.address ?? 0,
          piece: piece),
        groups: piece.workgroups(plan.tile),
        accesses: accesses)
    }
  }

  private func keyRange(
    _ keys: Range<Int>, _ piece: AttentionPlan.Piece, carry: UInt64
  ) -> AttentionOptionBlock.KeyRange {
    let rows = plan.tile.queryRows
    let tile =
      plan.tile.takesLongTilesFirst
      ? plan.tileCount - 1 - piece.tiles.lowerBound : piece.tiles.lowerBound
    return .init(keys: keys, firstRow: tile * rows, rowCount: rows, carryAddress: carry)
  }

  /// Appends what the attention reads and the caller does not have: the Transformer-XL term, packed keys
  /// and values.
  private func prepare(
    _ buffers: AttentionBuffers, block: DeviceBuffer?, into recorder: Recorder
  ) throws(VulkanError) {
    if let relativePipeline, let range = plan.scratch.relativeTerm, let scratch = buffers.scratch {
      try AttentionRelativeTerm.record(
        request, relativePipeline, query: buffers.query, operands: buffers.operands,
        term: scratch.slice(range), groupLimits: device.capabilities.maxWorkgroupCount,
        into: recorder)
    }
    guard let packing = plan.packing, let scratch = buffers.scratch else { return }
    let tableAddress =
      plan.scratch.keySources.map { scratch.address + UInt64($0.lowerBound) } ?? 0
    func pack(
      _ tensor: AttentionPacking.Tensor, _ pipeline: ComputePipeline?, _ range: Range<Int>?,
      _ source: DeviceBuffer, _ strides: TensorStrides, isValue: Bool
    ) throws(VulkanError) {
      guard let pipeline, let range else { return }
      let destination = try scratch.slice(range)
      var accesses: [BufferAccess] = [.write(destination)]
      if request.hasKeySources {
        accesses += buffers.keySources.map { .read(isValue ? $0.value : $0.key) }
        if let block { accesses.append(.read(block)) }
      } else {
        accesses.append(.read(source))
      }
      let starts = request.packedSequences == nil ? nil : buffers.operands[.keyStarts]
      if let starts { accesses.append(.read(starts)) }
      let address =
        request.hasKeySources ? tableAddress + (isValue ? 8 : 0) : source.address
      for dispatch in packing.dispatches(
        tensor, request, groupLimits: device.capabilities.maxWorkgroupCount)
      {
        try recorder.dispatch(
          pipeline,
          pushConstants: AttentionPackPushConstants(
            request, tensor, source: address, starts: starts?.address ?? 0, strides: strides,
            destination: destination.address, dispatch: dispatch),
          groups: WorkgroupCount(x: dispatch.groups.count, z: dispatch.batches.count),
          accesses: accesses)
      }
    }
    try pack(
      packing.key, keyPacker, plan.scratch.packedKeys, buffers.key, request.keyStrides,
      isValue: false)
    if let value = packing.value {
      try pack(
        value, valuePacker, plan.scratch.packedValues, buffers.value, request.valueStrides,
        isValue: true)
    }
  }
}

extension ComputeDevice {
  /// The pipeline of a description, compiled where no one has before.
  func compiled(_ description: PipelineDescription) throws(AttentionError) -> ComputePipeline {
    try wrappingDeviceErrors { () throws(VulkanError) in try pipeline(description) }
  }
}
