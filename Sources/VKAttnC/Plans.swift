public import CVKAttn
internal import VulkanAttention

/// The body of every function that makes a plan.
func createPlan(
  _ handle: OpaquePointer?, _ plan: UnsafeMutablePointer<OpaquePointer?>?,
  _ make: (DeviceCapabilities) throws(Failure) -> any FamilyPlan
) -> vkattn_status {
  createDevicePlan(handle, plan) { (device) throws(Failure) in try make(device.capabilities) }
}

/// The body of every function that makes a plan which is compiled with it.
func createDevicePlan(
  _ handle: OpaquePointer?, _ plan: UnsafeMutablePointer<OpaquePointer?>?,
  _ make: (ComputeDevice) throws(Failure) -> any FamilyPlan
) -> vkattn_status {
  call { () throws(Failure) in
    let device = try device(handle)
    let plan = try required(plan, "plan")
    plan.pointee = try HandleTable.shared.insert(PlanObject(make(device), device), .plan)
  }
}

private func planObject(_ handle: OpaquePointer?) throws(Failure) -> PlanObject {
  try HandleTable.shared.object(handle, .plan)
}

/// The kernel of a handle.
func kernelObject(_ handle: OpaquePointer?) throws(Failure) -> KernelObject {
  try HandleTable.shared.object(handle, .kernel)
}

/// `vkattn_plan_get_info` of vkattn.h.
@_cdecl("vkattn_plan_get_info")
public func planGetInfo(
  _ handle: OpaquePointer?, _ info: UnsafeMutablePointer<vkattn_plan_info>?
) -> vkattn_status {
  call { () throws(Failure) in
    let family = try planObject(handle).family
    var found = vkattn_plan_info()
    found.scratch_byte_count = family.scratchByteCount
    found.piece_count = Int64(family.pieceCount)
    found.path = family.path?.number ?? 0
    let form =
      switch family.form {
      case nil: VKATTN_LINEAR_AUTOMATIC
      case .recurrent: VKATTN_LINEAR_RECURRENT
      case .chunk: VKATTN_LINEAR_CHUNK
      }
    found.form = Int32(form)
    try write(found, to: info, "info")
  }
}

/// `vkattn_plan_byte_count` of vkattn.h.
@_cdecl("vkattn_plan_byte_count")
public func planByteCount(
  _ handle: OpaquePointer?, _ tensor: Int32, _ byteCount: UnsafeMutablePointer<Int>?
) -> vkattn_status {
  call { () throws(Failure) in
    let family = try planObject(handle).family
    let tensor = try TensorName(number: tensor, "plan")
    let byteCount = try required(byteCount, "byte_count")
    guard let found = family.byteCount(of: tensor) else {
      throw Failure("tensor", tensor, allowed: "only tensors that the plan has, with a known size")
    }
    byteCount.pointee = found
  }
}

/// `vkattn_plan_describe` of vkattn.h.
@_cdecl("vkattn_plan_describe")
public func planDescribe(
  _ handle: OpaquePointer?, _ text: UnsafeMutablePointer<CChar>?, _ capacity: Int,
  _ length: UnsafeMutablePointer<Int>?
) -> vkattn_status {
  call { () throws(Failure) in
    let lines = try planObject(handle).family.lines.joined(separator: "\n")
    if capacity != 0 {
      let text = try required(text, "text")
      // A capacity beyond the integers holds any text.
      let room = capacity < 0 ? Int.max : capacity
      let count = min(lines.utf8.count, room - 1)
      for (index, byte) in lines.utf8.prefix(count).enumerated() {
        text[index] = CChar(bitPattern: byte)
      }
      text[count] = 0
    }
    length?.pointee = lines.utf8.count
  }
}

/// `vkattn_plan_free` of vkattn.h.
@_cdecl("vkattn_plan_free")
public func planFree(_ handle: OpaquePointer?) -> vkattn_status {
  call { () throws(Failure) in try HandleTable.shared.remove(handle, .plan) }
}

/// `vkattn_kernel_create` of vkattn.h.
@_cdecl("vkattn_kernel_create")
public func kernelCreate(
  _ plan: OpaquePointer?, _ kernel: UnsafeMutablePointer<OpaquePointer?>?
) -> vkattn_status {
  call { () throws(Failure) in
    let object = try planObject(plan)
    let kernel = try required(kernel, "kernel")
    let device = object.device
    let content = try inAttention { () throws(AttentionError) -> KernelObject.Content in
      if let family = object.family as? DecodeFamilyPlan {
        return .decode(try family.makeStepKernel(on: device))
      }
      return .whole(
        try object.family.makeKernel(on: device), scratchByteCount: object.family.scratchByteCount)
    }
    kernel.pointee = try HandleTable.shared.insert(KernelObject(content, device), .kernel)
  }
}

/// A progress function of the caller with its context.
private struct ProgressCallback: @unchecked Sendable {
  // Unchecked: the pointers are the caller's, who was told that any thread may use them.
  let function: @convention(c) (UnsafeMutableRawPointer?, Double) -> Int32
  let context: UnsafeMutableRawPointer?

  /// Passes a share on, and cancels the task that runs where the caller wants an end.
  func callAsFunction(_ share: Double) {
    let wantsEnd = ThreadState.callingBack { function(context, share) != 0 }
    if wantsEnd { withUnsafeCurrentTask { $0?.cancel() } }
  }
}

/// `vkattn_kernel_run` of vkattn.h.
@_cdecl("vkattn_kernel_run")
public func kernelRun(
  _ handle: OpaquePointer?, _ bindings: UnsafePointer<vkattn_binding>?, _ bindingCount: Int,
  _ progress: vkattn_progress_callback?, _ context: UnsafeMutableRawPointer?
) -> vkattn_status {
  call { () throws(Failure) in
    let object = try kernelObject(handle)
    let (kernel, scratchByteCount) = try object.whole()
    var bindings = try Bindings(bindings, bindingCount)
    let device = object.device
    if scratchByteCount > 0, !bindings.has(.scratch) {
      bindings.add(
        .scratch,
        try onDevice { () throws(VulkanError) in
          try device.makeBuffer(byteCount: scratchByteCount, label: "scratch")
        })
    }
    var report: (@Sendable (Double) -> Void)?
    if let progress {
      let callback = ProgressCallback(function: progress, context: context)
      report = { callback($0) }
    }
    try kernel.run(bindings, on: device, progress: report)
  }
}

/// `vkattn_kernel_free` of vkattn.h.
@_cdecl("vkattn_kernel_free")
public func kernelFree(_ handle: OpaquePointer?) -> vkattn_status {
  call { () throws(Failure) in try HandleTable.shared.remove(handle, .kernel) }
}
