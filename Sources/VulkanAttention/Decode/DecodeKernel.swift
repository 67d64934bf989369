package import ShaderLibrary

/// The pages of a step's sequences.
public enum DecodePages: Sendable {
  /// Checked on the host and uploaded with the step.
  case table(CachePageTable)
  /// In device memory: `indptr` Int32 [B + 1] and `indices` Int32. The kernel bounds what they say by the
  /// lists' and the pool's sizes, so that no list leads outside of the cache.
  case device(indptr: DeviceBuffer, indices: DeviceBuffer)
}

/// What the layers of one step share, made by ``DecodeKernel/prepare(_:pages:operands:rotations:workspace:into:)``:
/// lengths, pages and work list in the workspace. It stays valid until the workspace is prepared anew.
///
/// One made by ``forReplay()`` serves later steps as well: the layers are recorded once, into a
/// ``/VulkanRuntime/CommandList``, and ``DecodeKernel/update(_:to:pages:into:)`` replaces lengths and work list
/// before each run of it.
public struct DecodeStep: Sendable {
  let plan: DecodePlan
  let layout: DecodeWorkspaceLayout
  let workspace: DeviceBuffer
  /// Workgroups of a layer's dispatch.
  private(set) var groupCount: Int
  /// Problems that a layer's second dispatch merges.
  private(set) var mergeCount: Int
  /// What it was prepared from, but for the schedule.
  let sources: DecodeStepSources
  /// Buffers beside the workspace that the kernel reads.
  let inputs: [DeviceBuffer]
  /// Whether layers that are recorded with it compute whatever the workspace says when they run.
  private(set) var isForReplay = false

  init(
    plan: DecodePlan, layout: DecodeWorkspaceLayout, workspace: DeviceBuffer,
    schedule: LeanSchedule, sources: DecodeStepSources, inputs: [DeviceBuffer]
  ) {
    self.plan = plan
    self.layout = layout
    self.workspace = workspace
    groupCount = schedule.groupCount
    mergeCount = schedule.mergeCount
    self.sources = sources
    self.inputs = inputs
  }

  /// The step for layers that are recorded once and run again and again, each time with the schedule that was
  /// uploaded last.
  ///
  /// Its layers are dispatched for as many workgroups as any schedule of the plan has; those without work end at
  /// once. Give it a workspace of ``DecodePlan/maxWorkspaceByteCount`` bytes, so that every later schedule fits.
  ///
  /// - Throws: `AttentionError.tooLarge` where schedules of the plan have no bound that can be counted.
  public func forReplay() throws(AttentionError) -> DecodeStep {
    guard let most = plan.scheduleBounds else { throw .tooLarge(tensor: "the schedule") }
    var step = self
    step.groupCount = most.groups
    step.mergeCount = most.merges
    step.isForReplay = true
    return step
  }

  /// The part of the workspace that a layer may touch, in bytes from its start.
  var workspaceByteCount: Int { isForReplay ? workspace.byteCount : layout.byteCount }

  /// What a layer does with the workspace.
  func accesses() throws(VulkanError) -> (attention: [BufferAccess], merge: [BufferAccess]) {
    // Where the parts lie changes with the schedule.
    if isForReplay { return ([.readWrite(workspace)], [.read(workspace)]) }
    let uploaded = try workspace.slice(0..<layout.uploadByteCount)
    if layout.partials.isEmpty { return ([.read(uploaded)], []) }
    let partials = try workspace.slice(layout.partials)
    return ([.read(uploaded), .write(partials)], [.read(uploaded), .read(partials)])
  }
}

/// What a step is prepared from beside its schedule.
struct DecodeStepSources: Sendable {
  var pages: DecodePages?
  var operands: [AttentionOperand.Kind: DeviceBuffer]
  var rotations: DeviceBuffer?
  /// What a user's modifications read.
  var custom: CustomInputs?
}

/// Lean decode attention on one device, ready to be recorded.
///
/// Safe to share between tasks: it holds a plan and pipelines, no buffers. A step is prepared once and serves
/// all layers of a model:
///
///     let kernel = try DecodeKernel(request, on: device)
///     let schedule = try kernel.plan.schedule(lengths: lengths)
///     let workspace = try device.makeBuffer(
///       byteCount: kernel.plan.workspaceByteCount(for: schedule), label: "workspace")
///     let step = try kernel.prepare(schedule, workspace: workspace, into: recorder)
///     for layer in layers { try kernel.record(layer.buffers, step: step, into: recorder) }
public final class DecodeKernel: Sendable {
  /// How the request runs.
  public let plan: DecodePlan
  private let device: ComputeDevice
  private let pipeline: ComputePipeline
  private let mergePipeline: ComputePipeline

  /// The problem.
  public var request: DecodeRequest { plan.request }

  /// Prepares a plan on a device; compiles its pipelines where no one has before.
  ///
  /// - Throws: `AttentionError.pathUnavailable` or `device`.
  public convenience init(_ plan: DecodePlan, on device: ComputeDevice) throws(AttentionError) {
    try self.init(plan, on: device, customShader: nil)
  }

  /// Prepares a plan whose shader may have a user's modifications.
  package init(
    _ plan: DecodePlan, on device: ComputeDevice, customShader: ShaderBinary?
  ) throws(AttentionError) {
    self.plan = plan
    self.device = device
    pipeline = try device.compiled(plan.pipelineDescription(customShader))
    mergePipeline = try device.compiled(plan.mergeDescription())
  }

  /// Plans and prepares a request; `tuning` are tiles that were measured on the device.
  ///
  /// - Throws: what `DecodePlan.init` and the other initialiser throw.
  public convenience init(
    _ request: DecodeRequest, on device: ComputeDevice, path: AttentionPath? = nil,
    mode: LeanSchedule.Mode? = nil, tuning: Tuning = .none
  ) throws(AttentionError) {
    try self.init(
      DecodePlan(
        request, device: device.capabilities, path: path, mode: mode, tuning: tuning), on: device)
  }

  /// Appends the upload of what a step's layers share.
  ///
  /// - Parameters:
  ///   - schedule: of the plan, for the step's lengths.
  ///   - pages: of a paged cache; nil for others. A checked table must hold the lengths of the schedule.
  ///   - operands: the request's operands, without `keyLengths`.
  ///   - rotations: f32 [T, channels / 2, 2], cosine and sine of each position and pair, where the request
  ///     rotates keys.
  ///   - workspace: of ``DecodePlan/workspaceByteCount(for:pages:)`` bytes at least. Steps that are in flight
  ///     at the same time need one each.
  ///   - recorder: what the upload is appended to.
  /// - Throws: `invalidArgument` for a schedule of another plan or pages that do not fit, `bufferTooSmall`,
  ///   `misaligned`, `missingOperandBuffer`, `overlappingOutput` or `device`, before anything is appended.
  public func prepare(
    _ schedule: LeanSchedule, pages: DecodePages? = nil,
    operands: [AttentionOperand.Kind: DeviceBuffer] = [:], rotations: DeviceBuffer? = nil,
    workspace: DeviceBuffer, into recorder: Recorder
  ) throws(AttentionError) -> DecodeStep {
    try prepare(
      schedule, pages: pages, operands: operands, rotations: rotations, custom: nil,
      workspace: workspace, into: recorder)
  }

  /// Appends the upload of a step whose kernel may have a user's modifications, which read `custom`.
  package func prepare(
    _ schedule: LeanSchedule, pages: DecodePages?,
    operands: [AttentionOperand.Kind: DeviceBuffer], rotations: DeviceBuffer?,
    custom: CustomInputs?, workspace: DeviceBuffer, into recorder: Recorder
  ) throws(AttentionError) -> DecodeStep {
    try upload(
      schedule,
      DecodeStepSources(pages: pages, operands: operands, rotations: rotations, custom: custom),
      workspace: workspace, into: recorder)
  }

  /// Appends the upload of another schedule in the place of a step's, which what was recorded with the step computes
  /// from then on.
  ///
  /// - Parameters:
  ///   - step: of this plan, made by ``DecodeStep/forReplay()``. Operands, rotations and device pages stay those that
  ///     it was prepared with.
  ///   - schedule: of the plan, for the next lengths.
  ///   - table: pages in the place of the table that the step was prepared with; nil keeps that.
  ///   - recorder: what the upload is appended to. A run of the layers that was submitted before it sees the
  ///     schedule before.
  /// - Throws: `invalidArgument` for a step of one schedule or another plan, and as
  ///   ``prepare(_:pages:operands:rotations:workspace:into:)``, before anything is appended.
  public func update(
    _ step: DecodeStep, to schedule: LeanSchedule, pages table: CachePageTable? = nil,
    into recorder: Recorder
  ) throws(AttentionError) {
    try check(step)
    guard step.isForReplay else {
      throw .invalidArgument(
        name: "step", value: "of one schedule", allowed: "a step made by forReplay()")
    }
    var sources = step.sources
    if let table {
      guard case .table = sources.pages else {
        throw .invalidArgument(
          name: "pages", value: "a table",
          allowed: "nil, because the step was not prepared with a table")
      }
      sources.pages = .table(table)
    }
    _ = try upload(schedule, sources, workspace: step.workspace, into: recorder)
  }

  private func check(_ step: DecodeStep) throws(AttentionError) {
    guard step.plan == plan else {
      throw .invalidArgument(
        name: "step", value: "of another plan", allowed: "a step of the kernel's plan")
    }
  }

  private func upload(
    _ schedule: LeanSchedule, _ sources: DecodeStepSources, workspace: DeviceBuffer,
    into recorder: Recorder
  ) throws(AttentionError) -> DecodeStep {
    let (operands, rotations, custom) = (sources.operands, sources.rotations, sources.custom)
    let attention = request.attention
    guard schedule.sequences.count == attention.batchSize,
      schedule.keyHeads == request.keyCache.heads * plan.rowTiles,
      schedule.tileLength == plan.tile.keys, schedule.mode == plan.mode
    else {
      throw .invalidArgument(
        name: "schedule",
        value: "\(schedule.sequences.count) sequences, \(schedule.keyHeads) heads, tiles of "
          + "\(schedule.tileLength)", allowed: "a schedule of the kernel's plan")
    }
    for (b, sequence) in schedule.sequences.enumerated()
    where Int(sequence.endKey) > attention.keyTokens {
      throw .invalidArgument(
        name: "lengths[\(b)]", value: "\(sequence.endKey)",
        allowed: "at most \(attention.keyTokens) keys")
    }
    var bound = BoundBuffers(on: device)
    var inputs: [DeviceBuffer] = []
    let table = try checkPages(sources.pages, schedule, &bound, &inputs)
    let layout = DecodeWorkspaceLayout(
      plan, schedule, pageIndexCount: table.map { $0.indices.count } ?? 0)
    let memory = try bound.bind(
      "workspace", workspace, bytes: layout.byteCount, alignment: 16, isWritten: true)
    var known = operands
    if operands[.keyLengths] != nil {
      throw .invalidArgument(
        name: "operands.kv_lengths", value: "a buffer",
        allowed: "none: the schedule has the lengths")
    }
    known[.keyLengths] = try wrappingDeviceErrors { () throws(VulkanError) in
      try memory.slice(layout.lengths)
    }
    var given = BoundBuffers(on: device)
    let others = try given.bind(attention.operands, of: attention, known)
    for (kind, buffer) in others where kind != .keyLengths {
      inputs.append(try bound.bind(kind.rawValue, buffer, bytes: buffer.byteCount, alignment: 1))
    }
    guard (rotations != nil) == (request.keyRotation != nil) else {
      throw .invalidArgument(
        name: "rotations", value: rotations == nil ? "nil" : "a buffer",
        allowed: "a buffer where the request rotates keys, and only there")
    }
    if let rotations {
      inputs.append(
        try bound.bind(
          "rotations", rotations, bytes: request.rotationByteCount,
          alignment: BoundBuffers.vectorAlignment))
    }
    inputs += try bound.bind(custom)
    try bound.checkOverlaps()

    var pageStarts: UInt64 = 0
    var pageIndices: UInt64 = 0
    var pageIndexCount = 0
    switch sources.pages {
    case .none: break
    case .table(let table):
      pageStarts = memory.address + UInt64(layout.pageStarts.lowerBound)
      pageIndices = memory.address + UInt64(layout.pageIndices.lowerBound)
      pageIndexCount = table.indices.count
    case .device(let starts, let indices):
      pageStarts = starts.address
      pageIndices = indices.address
      pageIndexCount = min(indices.byteCount / 4, Int(Int32.max))
    }
    let bytes = DecodeBlock.bytes(
      plan, schedule, layout: layout, operands: known, pages: table, pageStarts: pageStarts,
      pageIndices: pageIndices, pageIndexCount: pageIndexCount,
      rotations: rotations?.address ?? 0, workspace: memory.address, custom: custom?.block ?? [])
    try wrappingDeviceErrors { () throws(VulkanError) in
      try recorder.upload(bytes, to: memory)
    }
    return DecodeStep(
      plan: plan, layout: layout, workspace: workspace, schedule: schedule, sources: sources,
      inputs: inputs)
  }

  /// The page table that is uploaded, if one is.
  private func checkPages(
    _ pages: DecodePages?, _ schedule: LeanSchedule, _ bound: inout BoundBuffers,
    _ inputs: inout [DeviceBuffer]
  ) throws(AttentionError) -> CachePageTable? {
    let arrangement = request.keyCache.arrangement
    let isPaged = arrangement.kind == .paged
    switch pages {
    case .none:
      if isPaged {
        throw .invalidArgument(name: "pages", value: "nil", allowed: "the pages of a paged cache")
      }
      return nil
    case .some where !isPaged:
      throw .invalidArgument(
        name: "pages", value: "given", allowed: "nil where the cache has no pages")
    case .table(let table):
      guard table.sequences == schedule.sequences.count, table.pageSize == arrangement.blockTokens
      else {
        throw .invalidArgument(
          name: "pages", value: "\(table.sequences) sequences in pages of \(table.pageSize)",
          allowed: "\(schedule.sequences.count) sequences in pages of \(arrangement.blockTokens)")
      }
      for (b, sequence) in schedule.sequences.enumerated() {
        let held = Int(table.indptr[b + 1] - table.indptr[b]) * table.pageSize
        guard Int(sequence.endKey) <= held else {
          throw .invalidArgument(
            name: "lengths[\(b)]", value: "\(sequence.endKey)",
            allowed: "at most the \(held) places of the sequence's pages")
        }
      }
      // The table may be of another pool.
      let used = table.indices.prefix(Int(table.indptr.last ?? 0))
      if let page = used.first(where: { $0 >= arrangement.blockCount }) {
        throw .invalidArgument(
          name: "pages.indices", value: "\(page)",
          allowed: "0 to \(arrangement.blockCount - 1), pages of the cache")
      }
      return table
    case .device(let starts, let indices):
      let batch = schedule.sequences.count
      inputs.append(try bound.bind("indptr", starts, bytes: (batch + 1) * 4))
      inputs.append(try bound.bind("indices", indices, bytes: max(4, indices.byteCount / 4 * 4)))
      return nil
    }
  }

  /// Appends the attention of one layer. It does not submit, wait or allocate.
  ///
  /// - Parameters:
  ///   - buffers: the layer's tensors.
  ///   - step: prepared by this kernel, or by one of the same plan, earlier in this or another recorder
  ///     that is submitted before.
  ///   - recorder: what the attention is appended to.
  /// - Throws: `bufferTooSmall`, `misaligned`, `overlappingOutput`, `missingLogSumExpBuffer`,
  ///   `invalidArgument`, or `device`, before anything is appended.
  public func record(
    _ buffers: DecodeBuffers, step: DecodeStep, into recorder: Recorder
  ) throws(AttentionError) {
    try check(step)
    try buffers.check(for: plan, step: step, on: device)
    try wrappingDeviceErrors { () throws(VulkanError) in
      let own = try step.accesses()
      var results: [BufferAccess] = [.write(buffers.output)]
      if request.attention.returnsLogSumExp, let logSumExp = buffers.logSumExp {
        results.append(.write(logSumExp))
      }
      let inputs = step.inputs.map { BufferAccess.read($0) }
      let push = DecodePushConstants(
        request, buffers, block: step.workspace.address, firstGroup: 0)
      try recorder.dispatch(
        pipeline, pushConstants: push, groups: groups(step.groupCount),
        accesses: results + inputs + own.attention + [.read(buffers.query)]
          + buffers.caches.map { .read($0) })
      if step.mergeCount > 0 {
        try recorder.dispatch(
          mergePipeline, pushConstants: push, groups: groups(step.mergeCount * plan.tile.rows),
          accesses: results + inputs + own.merge)
      }
    }
  }

  /// Workgroups along x, and along y where they are too many.
  private func groups(_ count: Int) -> WorkgroupCount {
    let x = min(max(count, 1), plan.groupLimits[0])
    return WorkgroupCount(x: x, y: ceilingDivide(max(count, 1), x))
  }
}

extension Recorder {
  /// Appends updates with any number of bytes, a multiple of 4.
  fileprivate func upload(_ bytes: [UInt8], to buffer: DeviceBuffer) throws(VulkanError) {
    var start = 0
    while start < bytes.count {
      let end = min(bytes.count, start + Self.updateByteLimit)
      try update(try buffer.slice(start..<end), with: Array(bytes[start..<end]))
      start = end
    }
  }
}
