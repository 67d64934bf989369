public import CVKAttn
internal import VulkanAttention

extension StateMergeKernel: RecordedKernel {
  typealias Plan = StateMergePlan
}

/// A first pair of tensors alone, or a second one beside it.
private func mergeBuffers(_ tensors: inout Bindings) throws(Failure) -> StateMergeBuffers {
  let first = AttentionState(
    output: try tensors.need(.partialOutputs), logSumExp: try tensors.need(.partialLogSumExps))
  let secondOutput = tensors.take(.partialOutputs, index: 1)
  let secondLogSumExp = tensors.take(.partialLogSumExps, index: 1)
  let output = try tensors.need(.output)
  let logSumExp = tensors.take(.logSumExp)
  switch (secondOutput, secondLogSumExp) {
  case (let secondOutput?, let secondLogSumExp?):
    return StateMergeBuffers(
      first, AttentionState(output: secondOutput, logSumExp: secondLogSumExp), output: output,
      logSumExp: logSumExp)
  case (nil, nil):
    return StateMergeBuffers(
      first, partialStarts: tensors.take(.partialStarts), output: output, logSumExp: logSumExp)
  default:
    throw Failure(
      .missingBuffer, "of partialOutputs[1] and partialLogSumExps[1] only one is bound")
  }
}

/// `vkattn_merge_plan_create` of vkattn.h.
@_cdecl("vkattn_merge_plan_create")
public func mergePlanCreate(
  _ device: OpaquePointer?, _ request: UnsafePointer<vkattn_merge_request>?,
  _ plan: UnsafeMutablePointer<OpaquePointer?>?
) -> vkattn_status {
  createPlan(device, plan) { (capabilities) throws(Failure) in
    let given = try read(request, "request")
    try checkFlags(given.flags, "request", known: 3)
    try checkReserved(given.reserved, "request")
    let count = Int(given.partial_count)
    let elementType = try elementType(given.element_type, "request.element_type") ?? .f32
    let mergedType = try VKAttnC.elementType(given.merged_type, "request.merged_type")
    let plan = try inAttention { () throws(AttentionError) in
      try StateMergePlan(
        StateMergeRequest(
          rowCount: Int(given.row_count), headCount: Int(given.head_count),
          partials: has(given.flags, VKATTN_MERGE_TOTAL) ? .total(count) : .perRow(count),
          valueHeadSize: Int(given.value_head_size), elementType: elementType,
          mergedElementType: mergedType,
          returnsLogSumExp: has(given.flags, VKATTN_MERGE_RETURNS_LOG_SUM_EXP),
          outputStrides: stateStrides(given.output_strides),
          logSumExpStrides: stateStrides(given.log_sum_exp_strides)), device: capabilities)
    }
    let request = plan.request
    return Family(
      StateMergeKernel.self, "merge", plan,
      [
        .partialOutputs: request.partialOutputByteCount,
        .partialLogSumExps: request.partialLogSumExpByteCount,
        .partialStarts: request.partialStartByteCount, .output: request.outputByteCount,
        .logSumExp: request.returnsLogSumExp ? request.logSumExpByteCount : 0,
      ], details: ["partials: \(request.partials)"], place: mergeBuffers)
  }
}
