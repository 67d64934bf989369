public import CVKAttn
internal import VulkanAttention

/// What block maps are made of, and they themselves; nil for other tensors.
func blockMapByteCount(of tensor: TensorName, _ request: AttentionRequest) -> Int? {
  switch tensor {
  case .blockMap, .mask, .maskBits, .treeBits, .querySegments, .keySegments, .keyLengths:
    guard let kind = tensor.attentionOperand, request.operand(kind) != nil else { return nil }
    return request.byteCount(of: kind)
  default: return nil
  }
}

/// Block maps: the kernel has no plan of its own, so it is made with the handle's.
struct BlockMapFamilyPlan: FamilyPlan {
  let kernel: AttentionBlockMapKernel

  var scratchByteCount: Int { kernel.scratchByteCount }

  var lines: [String] {
    let mask = kernel.request.mask
    return [
      "family: block map", "blocks: \(mask.blockMapRows) query tokens, \(mask.blockMapKeys) keys",
      "scratch: \(scratchByteCount) bytes",
    ]
  }

  func byteCount(of tensor: TensorName) -> Int? {
    tensor == .scratch ? scratchByteCount : blockMapByteCount(of: tensor, kernel.request)
  }

  func makeKernel(on device: ComputeDevice) throws(AttentionError) -> any FamilyKernel {
    BlockMapFamilyKernel(kernel: kernel)
  }
}

struct BlockMapFamilyKernel: FamilyKernel {
  struct Buffers: Sendable {
    let operands: [AttentionOperand.Kind: DeviceBuffer]
    let scratch: DeviceBuffer?
  }

  let kernel: AttentionBlockMapKernel

  func buffers(_ bindings: inout Bindings) throws(Failure) -> Buffers {
    Buffers(operands: bindings.takeAttentionOperands(), scratch: bindings.take(.scratch))
  }

  func record(_ buffers: Buffers, into recorder: Recorder) throws(AttentionError) {
    try kernel.record(operands: buffers.operands, scratch: buffers.scratch, into: recorder)
  }

  var runner: Runner<Buffers>? {
    { [kernel] (buffers, progress) async throws(AttentionError) in
      try await kernel.run(operands: buffers.operands, scratch: buffers.scratch)
      progress?(1)
    }
  }
}

/// `vkattn_block_map_plan_create` of vkattn.h.
@_cdecl("vkattn_block_map_plan_create")
public func blockMapPlanCreate(
  _ device: OpaquePointer?, _ request: UnsafePointer<vkattn_attention_request>?,
  _ plan: UnsafeMutablePointer<OpaquePointer?>?
) -> vkattn_status {
  createDevicePlan(device, plan) { (device) throws(Failure) in
    let attention = try attentionRequest(request, "request").request
    return BlockMapFamilyPlan(
      kernel: try inAttention { () throws(AttentionError) in
        try AttentionBlockMapKernel(attention, on: device)
      })
  }
}
