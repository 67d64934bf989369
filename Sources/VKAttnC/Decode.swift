public import CVKAttn
internal import VulkanAttention

struct DecodeFamilyPlan: FamilyPlan {
  let plan: DecodePlan
  /// The kernel, where it was compiled with the plan.
  var compiled: (any StepKernel)?

  var scratchByteCount: Int { plan.maxWorkspaceByteCount ?? 0 }
  var path: AttentionPath? { plan.path }

  var lines: [String] {
    let tile = plan.tile
    return [
      "family: decode", "path: \(plan.path.rawValue)", "shader: \(tile.shaderName)",
      "tile: \(tile.rows) rows, \(tile.keys) keys, workgroups of \(tile.workgroupSize)",
      "mode: \(plan.mode)",
    ] + plan.explanation
  }

  func byteCount(of tensor: TensorName) -> Int? {
    let request = plan.request
    let attention = request.attention
    switch tensor {
    case .query: return attention.byteCount(of: .query)
    case .output: return attention.byteCount(of: .output)
    case .logSumExp: return attention.returnsLogSumExp ? attention.logSumExpByteCount : nil
    case .keyCache: return request.keyCache.byteCount
    case .keyScales: return request.keyCache.scaleByteCountIfAny
    case .valueCache: return attention.valuesAreKeys ? nil : request.valueCache.byteCount
    case .valueScales: return attention.valuesAreKeys ? nil : request.valueCache.scaleByteCountIfAny
    case .rotations: return request.keyRotation == nil ? nil : request.rotationByteCount
    case .workspace: return plan.maxWorkspaceByteCount
    case .pageIndptr:
      return request.keyCache.arrangement.kind == .paged ? (attention.batchSize + 1) * 4 : nil
    case .keyLengths: return nil
    default:
      guard let kind = tensor.attentionOperand, attention.operand(kind) != nil else { return nil }
      return attention.byteCount(of: kind)
    }
  }

  /// Compiles what runs the plan, where nothing has.
  func makeStepKernel(on device: ComputeDevice) throws(AttentionError) -> any StepKernel {
    if let compiled { return compiled }
    return try DecodeKernel(plan, on: device)
  }

  /// Decode kernels take their tensors in two parts, which `kernelCreate` knows.
  func makeKernel(on device: ComputeDevice) throws(AttentionError) -> any FamilyKernel {
    throw .noPath(reasons: ["decode kernels are made by themselves"])
  }
}

/// What a decode kernel prepares a step with.
struct StepTensors {
  let schedule: LeanSchedule
  let pages: DecodePages?
  let operands: [AttentionOperand.Kind: DeviceBuffer]
  let rotations: DeviceBuffer?
  /// What modifications read, by name.
  let inputs: [String: DeviceBuffer]
  let workspace: DeviceBuffer
}

/// A decode kernel, with modifications or without.
protocol StepKernel: Sendable {
  /// What it prepares, of which a handle does not tell the type.
  associatedtype Step: Sendable
  /// How it runs.
  var plan: DecodePlan { get }
  /// Takes what its modifications read of a step's bindings.
  func takeInputs(_ bindings: inout Bindings) throws(Failure) -> [String: DeviceBuffer]
  /// Appends the upload of a step.
  func prepare(_ tensors: StepTensors, into recorder: Recorder) throws(Failure) -> any Sendable
  /// A step that it has prepared, for layers that run more than once.
  func stepForReplay(_ step: any Sendable) throws(Failure) -> any Sendable
  /// Appends the upload of another schedule in the place of such a step's.
  func update(
    _ step: any Sendable, to schedule: LeanSchedule, pages: CachePageTable?,
    into recorder: Recorder
  ) throws(Failure)
  /// Appends a layer of a step that it has prepared.
  func record(
    _ buffers: DecodeBuffers, step: any Sendable, into recorder: Recorder
  ) throws(Failure)
}

extension StepKernel {
  /// A step of the kernel's own kind.
  func own(_ step: any Sendable) throws(Failure) -> Step {
    guard let step = step as? Step else {
      throw Failure(
        "step", "of a kernel with or without modifications",
        allowed: "a step that this kernel, or one of the same request, has prepared")
    }
    return step
  }
}

extension DecodeKernel: StepKernel {
  typealias Step = DecodeStep

  func takeInputs(_ bindings: inout Bindings) throws(Failure) -> [String: DeviceBuffer] { [:] }

  func prepare(_ tensors: StepTensors, into recorder: Recorder) throws(Failure) -> any Sendable {
    try inAttention { () throws(AttentionError) in
      try prepare(
        tensors.schedule, pages: tensors.pages, operands: tensors.operands,
        rotations: tensors.rotations, workspace: tensors.workspace, into: recorder)
    }
  }

  func stepForReplay(_ step: any Sendable) throws(Failure) -> any Sendable {
    try inAttention(own(step).forReplay)
  }

  func update(
    _ step: any Sendable, to schedule: LeanSchedule, pages: CachePageTable?,
    into recorder: Recorder
  ) throws(Failure) {
    let step = try own(step)
    try inAttention { () throws(AttentionError) in
      try update(step, to: schedule, pages: pages, into: recorder)
    }
  }

  func record(
    _ buffers: DecodeBuffers, step: any Sendable, into recorder: Recorder
  ) throws(Failure) {
    let step = try own(step)
    try inAttention { () throws(AttentionError) in
      try record(buffers, step: step, into: recorder)
    }
  }
}

/// What a step's handle stands for.
final class StepObject: Sendable {
  let step: any Sendable

  init(_ step: any Sendable) {
    self.step = step
  }
}

/// The lengths and pages of a step.
struct StepInformation {
  let schedule: LeanSchedule
  /// Pages on the host; nil where they are bound, or there are none.
  let table: CachePageTable?
  let bindings: Bindings

  init(_ pointer: UnsafePointer<vkattn_step_info>?, _ plan: DecodePlan) throws(Failure) {
    let given = try read(pointer, "info")
    let batch = plan.request.attention.batchSize
    guard given.length_count == batch else {
      throw Failure(
        "info.length_count", UInt(bitPattern: given.length_count),
        allowed: "\(batch), one for each sequence")
    }
    let lengths = try elements(given.lengths, batch, "lengths", atMost: batch).map { Int($0) }
    bindings = try Bindings(given.bindings, given.binding_count)
    schedule = try inAttention { () throws(AttentionError) in try plan.schedule(lengths: lengths) }
    guard let indptr = given.page_indptr else {
      guard given.page_indices == nil, given.page_index_count == 0 else {
        throw Failure(.nullPointer, "info.page_indptr is NULL, and there are page indices")
      }
      table = nil
      return
    }
    // Before it is read: what was given for a cache without pages need not have B + 1 numbers.
    let arrangement = plan.request.keyCache.arrangement
    guard arrangement.kind == .paged else {
      throw Failure("info.page_indptr", "given", allowed: "NULL where the cache has no pages")
    }
    let starts = Array(UnsafeBufferPointer(start: indptr, count: batch + 1))
    let indices = try elements(
      given.page_indices, given.page_index_count, "page indices", atMost: Int(Int32.max))
    // What counts of a step are its lengths, which are checked against the pages: a last page may be
    // full or not.
    let lastPageLengths = (0..<batch).map { b in
      starts[b + 1] > starts[b] ? Int32(clamping: arrangement.blockTokens) : 0
    }
    table = try inAttention { () throws(AttentionError) in
      try CachePageTable(
        pageSize: arrangement.blockTokens, pageCount: arrangement.blockCount, indptr: starts,
        indices: Array(indices), lastPageLengths: lastPageLengths)
    }
  }

  /// The bytes of the workspace.
  func workspaceByteCount(_ plan: DecodePlan) -> Int {
    plan.workspaceByteCount(for: schedule, pages: table)
  }

  /// Appends the upload of a step.
  func prepare(
    _ kernel: any StepKernel, workspace given: DeviceBuffer? = nil, into recorder: Recorder
  ) throws(Failure) -> any Sendable {
    var bindings = bindings
    let workspace: DeviceBuffer
    if let given { workspace = given } else { workspace = try bindings.need(.workspace) }
    let rotations = bindings.take(.rotations)
    let operands = bindings.takeAttentionOperands()
    var pages: DecodePages? = table.map { .table($0) }
    let deviceIndptr = bindings.take(.pageIndptr)
    let deviceIndices = bindings.take(.pageIndices)
    switch (deviceIndptr, deviceIndices) {
    case (nil, nil): break
    case (let indptr?, let indices?):
      guard pages == nil else {
        throw Failure(
          "info.page_indptr", "given", allowed: "NULL where pageIndptr and pageIndices are bound")
      }
      pages = .device(indptr: indptr, indices: indices)
    default: throw Failure(.missingBuffer, "of pageIndptr and pageIndices only one is bound")
    }
    let inputs = try kernel.takeInputs(&bindings)
    try bindings.checkAllTaken()
    return try kernel.prepare(
      StepTensors(
        schedule: schedule, pages: pages, operands: operands, rotations: rotations, inputs: inputs,
        workspace: workspace), into: recorder)
  }

  /// Appends the upload of the lengths and pages in the place of a step's.
  func update(
    _ step: any Sendable, _ kernel: any StepKernel, into recorder: Recorder
  ) throws(Failure) {
    // A step keeps what it was prepared with.
    try bindings.checkAllTaken()
    try kernel.update(step, to: schedule, pages: table, into: recorder)
  }
}

/// Appends the attention of one layer.
func recordLayer(
  _ bindings: Bindings, _ kernel: any StepKernel, _ step: any Sendable, into recorder: Recorder
) throws(Failure) {
  var bindings = bindings
  let buffers = DecodeBuffers(
    query: try bindings.need(.query), keyCache: try bindings.need(.keyCache),
    keyScales: bindings.take(.keyScales), valueCache: bindings.take(.valueCache),
    valueScales: bindings.take(.valueScales), output: try bindings.need(.output),
    logSumExp: bindings.take(.logSumExp))
  try bindings.checkAllTaken()
  try kernel.record(buffers, step: step, into: recorder)
}

/// The decode step of a C request, the path and the cutting that it asks for.
func decodeRequest(
  _ pointer: UnsafePointer<vkattn_decode_request>?
) throws(Failure) -> (request: DecodeRequest, path: AttentionPath?, mode: LeanSchedule.Mode?) {
  let given = try read(pointer, "request")
  try checkFlags(given.flags, "request", known: 3)
  try checkReserved(given.reserved, "request")
  guard has(given.flags, VKATTN_DECODE_SCALE) || given.scale == 0 else {
    throw Failure("request.scale", given.scale, allowed: "0 without VKATTN_DECODE_SCALE")
  }
  let rotation: DecodeRequest.KeyRotation?
  let channels = Int(given.key_rotation_channels)
  switch Int(given.key_rotation) {
  case VKATTN_KEY_ROTATION_NONE:
    guard channels == 0 else {
      throw Failure("request.key_rotation_channels", channels, allowed: "0 without rotation")
    }
    rotation = nil
  case VKATTN_KEY_ROTATION_HALVES:
    rotation = DecodeRequest.KeyRotation(pairing: .halves, channels: channels)
  case VKATTN_KEY_ROTATION_PAIRS:
    rotation = DecodeRequest.KeyRotation(pairing: .pairs, channels: channels)
  default:
    throw Failure("request.key_rotation", given.key_rotation, allowed: "VKATTN_KEY_ROTATION_…")
  }
  let mode: LeanSchedule.Mode?
  switch Int(given.mode) {
  case VKATTN_DECODE_AUTOMATIC:
    guard given.mode_value == 0 else {
      throw Failure(
        "request.mode_value", given.mode_value, allowed: "0 with VKATTN_DECODE_AUTOMATIC")
    }
    mode = nil
  case VKATTN_DECODE_LEAN: mode = .lean(groups: Int(given.mode_value))
  case VKATTN_DECODE_FIXED: mode = .fixed(tokensPerSplit: Int(given.mode_value))
  default: throw Failure("request.mode", given.mode, allowed: "VKATTN_DECODE_…")
  }
  let keys = try cacheTensor(given.key_cache, "request.key_cache")
  let values =
    given.value_cache == nil ? nil : try cacheTensor(given.value_cache, "request.value_cache")
  let mask = try mask(given.mask) ?? .causal
  let scores = try scores(given.scores)
  let operands = try attentionOperands(given.operands, given.operand_count)
  let path = try path(given.path, "request.path")
  let elementType = try elementType(given.element_type, "request.element_type") ?? .f16
  let outputType = try VKAttnC.elementType(given.output_type, "request.output_type")
  let request = try inAttention { () throws(AttentionError) in
    try DecodeRequest(
      batchSize: Int(given.batch_size), queryTokens: nilIfZero(given.query_tokens) ?? 1,
      queryHeads: Int(given.query_heads), keyCache: keys, valueCache: values,
      valueHeadSize: nilIfZero(given.value_head_size),
      maxKeyTokens: nilIfZero(given.max_key_tokens), elementType: elementType,
      outputType: outputType,
      scale: has(given.flags, VKATTN_DECODE_SCALE) ? given.scale : nil, mask: mask,
      scores: scores, operands: operands,
      returnsLogSumExp: has(given.flags, VKATTN_DECODE_RETURNS_LOG_SUM_EXP),
      keyRotation: rotation, queryStrides: strides(given.query_strides),
      outputStrides: strides(given.output_strides))
  }
  return (request, path, mode)
}

/// `vkattn_decode_plan_create` of vkattn.h.
@_cdecl("vkattn_decode_plan_create")
public func decodePlanCreate(
  _ device: OpaquePointer?, _ request: UnsafePointer<vkattn_decode_request>?,
  _ plan: UnsafeMutablePointer<OpaquePointer?>?
) -> vkattn_status {
  createPlan(device, plan) { (capabilities) throws(Failure) in
    let (request, path, mode) = try decodeRequest(request)
    return DecodeFamilyPlan(
      plan: try inAttention { () throws(AttentionError) in
        try DecodePlan(request, device: capabilities, path: path, mode: mode)
      })
  }
}

/// `vkattn_decode_workspace_byte_count` of vkattn.h.
@_cdecl("vkattn_decode_workspace_byte_count")
public func decodeWorkspaceByteCount(
  _ plan: OpaquePointer?, _ info: UnsafePointer<vkattn_step_info>?,
  _ byteCount: UnsafeMutablePointer<Int>?
) -> vkattn_status {
  call { () throws(Failure) in
    let plan = try HandleTable.shared.object(plan, .plan, as: PlanObject.self).decode()
    let byteCount = try required(byteCount, "byte_count")
    byteCount.pointee = try StepInformation(info, plan).workspaceByteCount(plan)
  }
}

/// `vkattn_decode_run` of vkattn.h.
@_cdecl("vkattn_decode_run")
public func decodeRun(
  _ kernel: OpaquePointer?, _ info: UnsafePointer<vkattn_step_info>?,
  _ bindings: UnsafePointer<vkattn_binding>?, _ bindingCount: Int
) -> vkattn_status {
  call { () throws(Failure) in
    let object = try HandleTable.shared.object(kernel, .kernel, as: KernelObject.self)
    let kernel = try object.decode()
    let information = try StepInformation(info, kernel.plan)
    let bindings = try Bindings(bindings, bindingCount)
    let device = object.device
    var workspace: DeviceBuffer?
    if !information.bindings.has(.workspace) {
      let byteCount = information.workspaceByteCount(kernel.plan)
      workspace = try onDevice { () throws(VulkanError) in
        try device.makeBuffer(byteCount: byteCount, label: "workspace")
      }
    }
    let recorder = try onDevice(device.makeRecorder)
    let step = try information.prepare(kernel, workspace: workspace, into: recorder)
    try recordLayer(bindings, kernel, step, into: recorder)
    try onDevice { () throws(VulkanError) in try device.submit(recorder).wait() }
  }
}

/// `vkattn_step_free` of vkattn.h.
@_cdecl("vkattn_step_free")
public func stepFree(_ step: OpaquePointer?) -> vkattn_status {
  call { () throws(Failure) in try HandleTable.shared.remove(step, .step) }
}
