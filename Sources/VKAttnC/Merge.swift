public import CVKAttn
internal import VulkanAttention

struct MergeFamilyPlan: FamilyPlan {
  let plan: StateMergePlan

  var lines: [String] { ["family: merge", "partials: \(plan.request.partials)"] }

  func byteCount(of tensor: TensorName) -> Int? {
    let request = plan.request
    switch tensor {
    case .scratch: return 0
    case .partialOutputs: return request.partialOutputByteCount
    case .partialLogSumExps: return request.partialLogSumExpByteCount
    case .partialStarts:
      return request.partialStartByteCount == 0 ? nil : request.partialStartByteCount
    case .output: return request.outputByteCount
    case .logSumExp: return request.returnsLogSumExp ? request.logSumExpByteCount : nil
    default: return nil
    }
  }

  func makeKernel(on device: ComputeDevice) throws(AttentionError) -> any FamilyKernel {
    MergeFamilyKernel(kernel: try StateMergeKernel(plan, on: device))
  }
}

struct MergeFamilyKernel: FamilyKernel {
  let kernel: StateMergeKernel

  func buffers(_ bindings: inout Bindings) throws(Failure) -> StateMergeBuffers {
    let first = AttentionState(
      output: try bindings.need(.partialOutputs), logSumExp: try bindings.need(.partialLogSumExps))
    let secondOutput = bindings.take(.partialOutputs, index: 1)
    let secondLogSumExp = bindings.take(.partialLogSumExps, index: 1)
    let output = try bindings.need(.output)
    let logSumExp = bindings.take(.logSumExp)
    switch (secondOutput, secondLogSumExp) {
    case (let secondOutput?, let secondLogSumExp?):
      return StateMergeBuffers(
        first, AttentionState(output: secondOutput, logSumExp: secondLogSumExp), output: output,
        logSumExp: logSumExp)
    case (nil, nil):
      return StateMergeBuffers(
        first, partialStarts: bindings.take(.partialStarts), output: output, logSumExp: logSumExp)
    default:
      throw Failure(
        .missingBuffer, "of partialOutputs[1] and partialLogSumExps[1] only one is bound")
    }
  }

  func record(_ buffers: StateMergeBuffers, into recorder: Recorder) throws(AttentionError) {
    try kernel.record(buffers, into: recorder)
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
    return MergeFamilyPlan(
      plan: try inAttention { () throws(AttentionError) in
        try StateMergePlan(
          StateMergeRequest(
            rowCount: Int(given.row_count), headCount: Int(given.head_count),
            partials: has(given.flags, VKATTN_MERGE_TOTAL) ? .total(count) : .perRow(count),
            valueHeadSize: Int(given.value_head_size), elementType: elementType,
            mergedElementType: mergedType,
            returnsLogSumExp: has(given.flags, VKATTN_MERGE_RETURNS_LOG_SUM_EXP),
            outputStrides: stateStrides(given.output_strides),
            logSumExpStrides: stateStrides(given.log_sum_exp_strides)), device: capabilities)
      })
  }
}
