public import CVKAttn
internal import VulkanAttention

struct LinearFamilyPlan: FamilyPlan {
  let plan: LinearAttentionPlan

  var scratchByteCount: Int { plan.scratchByteCount }
  var pieceCount: Int { plan.pieceCount }
  var path: AttentionPath? { plan.path }
  var form: LinearAttentionForm? { plan.form }

  var lines: [String] {
    let tile = plan.tile
    return [
      "family: linear attention", "form: \(plan.form.rawValue)", "path: \(plan.path.rawValue)",
      "tile: \(tile.columnsPerWorkgroup) columns, workgroups of \(tile.workgroupSize), blocks of "
        + "\(tile.blockRows) rows", "parts: \(plan.partCount)", "pieces: \(plan.pieceCount)",
      "scratch: \(plan.scratchByteCount) bytes",
    ] + plan.explanation
  }

  func byteCount(of tensor: TensorName) -> Int? {
    let request = plan.request
    switch tensor {
    case .scratch: return plan.scratchByteCount
    case .query: return request.byteCount(of: .query)
    case .key: return request.byteCount(of: .key)
    case .value: return request.byteCount(of: .value)
    case .output: return request.byteCount(of: .output)
    default:
      guard let operand = tensor.linearOperand, request.operands.contains(operand) else {
        return nil
      }
      return request.byteCount(of: operand)
    }
  }

  func makeKernel(on device: ComputeDevice) throws(AttentionError) -> any FamilyKernel {
    LinearFamilyKernel(kernel: try LinearAttentionKernel(plan, on: device))
  }
}

struct LinearFamilyKernel: FamilyKernel {
  let kernel: LinearAttentionKernel

  func buffers(_ bindings: inout Bindings) throws(Failure) -> LinearAttentionBuffers {
    let operands = bindings.takeLinearOperands()
    let missing = kernel.request.operands.filter { operands[$0] == nil }.map(\.rawValue).sorted()
    guard missing.isEmpty else {
      throw Failure(.missingBuffer, "no buffer is bound for \(missing.joined(separator: ", "))")
    }
    return LinearAttentionBuffers(
      query: try bindings.need(.query), key: try bindings.need(.key),
      value: try bindings.need(.value), output: try bindings.need(.output), operands: operands,
      scratch: try bindings.need(.scratch))
  }

  func record(_ buffers: LinearAttentionBuffers, into recorder: Recorder) throws(AttentionError) {
    try kernel.record(buffers, into: recorder)
  }

  var runner: Runner<LinearAttentionBuffers>? {
    { [kernel] (buffers, progress) async throws(AttentionError) in
      try await kernel.run(buffers, progress: progress)
    }
  }
}

/// The operands of a linear attention with the strides of those that have some.
private func linearOperands(
  _ pointer: UnsafePointer<vkattn_operand>?, _ count: Int
) throws(Failure) -> (Set<LinearAttentionOperand>, [LinearAttentionOperand: TensorStrides]) {
  var operands: Set<LinearAttentionOperand> = []
  var operandStrides: [LinearAttentionOperand: TensorStrides] = [:]
  for (index, given) in try elements(pointer, count, "operands", atMost: mostOperands).enumerated()
  {
    let name = "operands[\(index)]"
    let tensor = try TensorName(number: given.tensor, name)
    guard let operand = tensor.linearOperand else {
      throw Failure("\(name).tensor", tensor, allowed: "operands of linear attention")
    }
    try checkReserved(given.reserved, name)
    guard given.shared_axes == 0, given.element_type == 0 else {
      throw Failure(
        "\(name).shared_axes, element_type", "\(given.shared_axes), \(given.element_type)",
        allowed: "0: the request has the types of linear attention")
    }
    guard operands.insert(operand).inserted else {
      throw Failure(name, "\(tensor) once more", allowed: "each operand once")
    }
    operandStrides[operand] = strides(given.strides)
  }
  return (operands, operandStrides)
}

/// `vkattn_linear_plan_create` of vkattn.h.
@_cdecl("vkattn_linear_plan_create")
public func linearPlanCreate(
  _ device: OpaquePointer?, _ request: UnsafePointer<vkattn_linear_request>?,
  _ plan: UnsafeMutablePointer<OpaquePointer?>?
) -> vkattn_status {
  createPlan(device, plan) { (capabilities) throws(Failure) in
    let given = try read(request, "request")
    let flags = given.flags
    try checkFlags(flags, "request", known: 63)
    guard has(flags, VKATTN_LINEAR_SCALE) || given.scale == 0 else {
      throw Failure("request.scale", given.scale, allowed: "0 without VKATTN_LINEAR_SCALE")
    }
    guard has(flags, VKATTN_LINEAR_PACKED) || given.packed_sequences == 0 else {
      throw Failure(
        "request.packed_sequences", given.packed_sequences,
        allowed: "0 without VKATTN_LINEAR_PACKED")
    }
    let normalizer: LinearAttentionNormalizer
    switch Int(given.normalizer) {
    case VKATTN_LINEAR_NOT_NORMALIZED: normalizer = .none
    case VKATTN_LINEAR_SUM: normalizer = .sum(epsilon: given.epsilon)
    case VKATTN_LINEAR_RETENTION: normalizer = .retention
    default:
      throw Failure(
        "request.normalizer", given.normalizer,
        allowed: "VKATTN_LINEAR_NOT_NORMALIZED, VKATTN_LINEAR_SUM, VKATTN_LINEAR_RETENTION")
    }
    let form: LinearAttentionForm?
    switch Int(given.form) {
    case VKATTN_LINEAR_AUTOMATIC: form = nil
    case VKATTN_LINEAR_RECURRENT: form = .recurrent
    case VKATTN_LINEAR_CHUNK: form = .chunk
    default:
      throw Failure(
        "request.form", given.form,
        allowed: "VKATTN_LINEAR_AUTOMATIC, VKATTN_LINEAR_RECURRENT, VKATTN_LINEAR_CHUNK")
    }
    let (operands, operandStrides) = try linearOperands(given.operands, given.operand_count)
    let path = try path(given.path, "request.path")
    let elementType = try elementType(given.element_type, "request.element_type") ?? .f32
    let valueType = try VKAttnC.elementType(given.value_type, "request.value_type")
    let outputType = try VKAttnC.elementType(given.output_type, "request.output_type")
    let gateType = try VKAttnC.elementType(given.gate_type, "request.gate_type") ?? .f32
    return LinearFamilyPlan(
      plan: try inAttention { () throws(AttentionError) in
        let request = try LinearAttentionRequest(
          batchSize: Int(given.batch_size), tokens: Int(given.tokens),
          keyHeads: nilIfZero(given.key_heads), valueHeads: Int(given.value_heads),
          keyHeadSize: Int(given.key_head_size), valueHeadSize: nilIfZero(given.value_head_size),
          updatesPerToken: nilIfZero(given.updates_per_token) ?? 1, elementType: elementType,
          valueType: valueType, outputType: outputType, gateType: gateType,
          scale: has(flags, VKATTN_LINEAR_SCALE) ? given.scale : nil,
          erases: has(flags, VKATTN_LINEAR_ERASES),
          readsBeforeUpdate: has(flags, VKATTN_LINEAR_READS_BEFORE_UPDATE),
          isCausal: !has(flags, VKATTN_LINEAR_NOT_CAUSAL),
          appliesSoftplus: has(flags, VKATTN_LINEAR_SOFTPLUS), normalizer: normalizer,
          packedSequences: has(flags, VKATTN_LINEAR_PACKED) ? Int(given.packed_sequences) : nil,
          longestSequence: nilIfZero(given.longest_sequence),
          stateCount: nilIfZero(given.state_count), operands: operands,
          queryStrides: strides(given.query_strides), keyStrides: strides(given.key_strides),
          valueStrides: strides(given.value_strides), outputStrides: strides(given.output_strides),
          operandStrides: operandStrides)
        return try LinearAttentionPlan(request, device: capabilities, form: form, path: path)
      })
  }
}
