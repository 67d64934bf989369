public import CVKAttn
internal import VulkanAttention

extension vkattn_foreign_device: SizedStructure {}
extension vkattn_foreign_buffer: SizedStructure {}
extension vkattn_host_memory: SizedStructure {}

/// Functions of the caller with their context, which the caller says may be used on any thread.
private struct ForeignCallbacks: @unchecked Sendable {
  // Unchecked: the pointers are the caller's, who was told.
  var lock: vkattn_queue_callback?
  var unlock: vkattn_queue_callback?
  var released: vkattn_release_callback?
  let context: UnsafeMutableRawPointer?

  /// What the runtime calls around submissions; nil where the caller orders nothing.
  func queueAccess() throws(Failure) -> ForeignDevice.QueueAccess? {
    if lock == nil, unlock == nil { return nil }
    _ = try required(lock, "foreign.lock_queue, where unlock_queue is given,")
    _ = try required(unlock, "foreign.unlock_queue, where lock_queue is given,")
    return { body in
      ThreadState.callingBack { lock?(context) }
      body()
      ThreadState.callingBack { unlock?(context) }
    }
  }

  /// What the runtime calls at the end.
  var release: (@Sendable () -> Void)? {
    guard released != nil else { return nil }
    return { ThreadState.callingBack { released?(context) } }
  }
}

/// The flags of `VKATTN_ENABLED_…` by their features.
private let enabledFlags: [(feature: DeviceCapabilities.Feature, flag: Int)] = [
  (.int64, VKATTN_ENABLED_INT64), (.storage16, VKATTN_ENABLED_STORAGE_16),
  (.bufferDeviceAddress, VKATTN_ENABLED_BUFFER_DEVICE_ADDRESS),
  (.timelineSemaphore, VKATTN_ENABLED_TIMELINE_SEMAPHORE),
  (.scalarBlockLayout, VKATTN_ENABLED_SCALAR_BLOCK_LAYOUT),
  (.float16, VKATTN_ENABLED_FLOAT16), (.memoryModel, VKATTN_ENABLED_MEMORY_MODEL),
  (.subgroupSizeControl, VKATTN_ENABLED_SUBGROUP_SIZE_CONTROL),
  (.coopmat, VKATTN_ENABLED_COOPERATIVE_MATRIX), (.coopmat2, VKATTN_ENABLED_COOPERATIVE_MATRIX_2),
  (.coopmat2Reductions, VKATTN_ENABLED_COOPERATIVE_MATRIX_2_REDUCTIONS),
  (.coopmat2Conversions, VKATTN_ENABLED_COOPERATIVE_MATRIX_2_CONVERSIONS),
  (.coopmat2PerElement, VKATTN_ENABLED_COOPERATIVE_MATRIX_2_PER_ELEMENT),
  (.externalMemoryHost, VKATTN_ENABLED_EXTERNAL_MEMORY_HOST), (.int16, VKATTN_ENABLED_INT16),
  (.computeDerivatives, VKATTN_ENABLED_COMPUTE_DERIVATIVES),
]

/// No device has more extensions than this.
private let mostExtensions = 4096

/// A C string, else what stands for it.
private func label(_ text: UnsafePointer<CChar>?) -> String {
  text.map { String(cString: $0) } ?? "buffer"
}

/// No family of any device has more queues than this.
private let mostQueues = 1024

/// The caller's further queues.
private func streamQueues(_ given: vkattn_foreign_device) throws(Failure) -> [OpaquePointer] {
  var queues: [OpaquePointer] = []
  let pointers = try elements(
    given.stream_queues, given.stream_queue_count, "foreign.stream_queues", atMost: mostQueues)
  for (index, queue) in pointers.enumerated() {
    queues.append(OpaquePointer(try required(queue, "foreign.stream_queues[\(index)]")))
  }
  return queues
}

/// The caller's names.
private func extensionNames(_ given: vkattn_foreign_device) throws(Failure) -> Set<String> {
  var names: Set<String> = []
  let pointers = try elements(
    given.enabled_extensions, Int(given.enabled_extension_count), "foreign.enabled_extensions",
    atMost: mostExtensions)
  for (index, name) in pointers.enumerated() {
    names.insert(
      String(cString: try required(name, "foreign.enabled_extensions[\(index)]")))
  }
  return names
}

/// `vkattn_device_adopt` of vkattn.h.
@_cdecl("vkattn_device_adopt")
public func deviceAdopt(
  _ foreign: UnsafePointer<vkattn_foreign_device>?,
  _ options: UnsafePointer<vkattn_device_options>?, _ device: UnsafeMutablePointer<OpaquePointer?>?
) -> vkattn_status {
  call { () throws(Failure) in
    let device = try required(device, "device")
    let given = try read(foreign, "foreign")
    let (selection, options) = try deviceOptions(options)
    guard selection == nil else {
      throw Failure("options.selection", "set", allowed: "NULL: foreign names the device")
    }
    let known = enabledFlags.reduce(0) { $0 | $1.flag }
    guard given.enabled_features & ~UInt32(known) == 0 else {
      throw Failure(
        "foreign.enabled_features", given.enabled_features, allowed: "combinations of \(known)")
    }
    let callbacks = ForeignCallbacks(
      lock: given.lock_queue, unlock: given.unlock_queue, released: given.released,
      context: given.context)
    var described = ForeignDevice(
      instance: OpaquePointer(try required(given.instance, "foreign.instance")),
      physicalDevice: OpaquePointer(try required(given.physical_device, "foreign.physical_device")),
      device: OpaquePointer(try required(given.device, "foreign.device")),
      queue: OpaquePointer(try required(given.queue, "foreign.queue")),
      queueFamilyIndex: given.queue_family_index, apiVersion: given.api_version,
      enabledFeatures: Set(
        enabledFlags.filter { has(given.enabled_features, $0.flag) }.map(\.feature)),
      enabledExtensions: try extensionNames(given))
    described.getInstanceProcAddress = given.get_instance_proc_address.map {
      unsafeBitCast($0, to: UnsafeRawPointer.self)
    }
    described.streamQueues = try streamQueues(given)
    described.queueAccess = try callbacks.queueAccess()
    described.released = callbacks.release
    let adopted = try onDevice { () throws(VulkanError) in
      try ComputeDevice(adopting: described, options: options)
    }
    device.pointee = try HandleTable.shared.insert(DeviceObject(adopted, nil), .device)
  }
}

/// `vkattn_buffer_adopt` of vkattn.h.
@_cdecl("vkattn_buffer_adopt")
public func bufferAdopt(
  _ handle: OpaquePointer?, _ foreign: UnsafePointer<vkattn_foreign_buffer>?,
  _ name: UnsafePointer<CChar>?, _ buffer: UnsafeMutablePointer<OpaquePointer?>?
) -> vkattn_status {
  call { () throws(Failure) in
    let device = try device(handle)
    let buffer = try required(buffer, "buffer")
    let given = try read(foreign, "foreign")
    try checkReserved(given.reserved, "foreign")
    var described = ForeignBuffer(
      OpaquePointer(try required(given.buffer, "foreign.buffer")),
      bufferByteCount: given.buffer_byte_count, usage: given.usage, byteOffset: given.byte_offset,
      byteCount: given.byte_count)
    described.mapped = given.mapped
    described.released =
      ForeignCallbacks(released: given.released, context: given.context).release
    let adopted = try onDevice { () throws(VulkanError) in
      try device.adopt(described, label: label(name))
    }
    buffer.pointee = try HandleTable.shared.insert(BufferObject(adopted, device), .buffer)
  }
}

/// `vkattn_device_import_size` of vkattn.h.
@_cdecl("vkattn_device_import_size")
public func deviceImportSize(
  _ handle: OpaquePointer?, _ byteCount: Int, _ available: UnsafeMutablePointer<Int>?,
  _ alignment: UnsafeMutablePointer<Int>?
) -> vkattn_status {
  call { () throws(Failure) in
    let device = try device(handle)
    let size = try onDevice { () throws(VulkanError) in
      try device.importedByteCount(for: byteCount)
    }
    available?.pointee = size
    alignment?.pointee = device.capabilities.hostPointerAlignment ?? 1
  }
}

/// `vkattn_buffer_import` of vkattn.h.
@_cdecl("vkattn_buffer_import")
public func bufferImport(
  _ handle: OpaquePointer?, _ memory: UnsafePointer<vkattn_host_memory>?,
  _ name: UnsafePointer<CChar>?, _ buffer: UnsafeMutablePointer<OpaquePointer?>?
) -> vkattn_status {
  call { () throws(Failure) in
    let device = try device(handle)
    let buffer = try required(buffer, "buffer")
    let given = try read(memory, "memory")
    let bytes = try required(given.bytes, "memory.bytes")
    let release = ForeignCallbacks(released: given.released, context: given.context).release
    let imported = try onDevice { () throws(VulkanError) in
      try device.importMemory(
        at: bytes, availableByteCount: given.available_byte_count, byteCount: given.byte_count,
        label: label(name), released: release)
    }
    buffer.pointee = try HandleTable.shared.insert(BufferObject(imported, device), .buffer)
  }
}
