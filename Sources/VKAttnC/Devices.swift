public import CVKAttn
internal import Logging
internal import VulkanAttention

/// What a device's handle stands for.
final class DeviceObject: Sendable {
  let device: ComputeDevice
  let validationLog: ValidationLog?

  init(_ device: ComputeDevice, _ validationLog: ValidationLog?) {
    self.device = device
    self.validationLog = validationLog
  }
}

/// A function of the caller with its context, which the caller says may be used on any thread.
struct LogCallback: @unchecked Sendable {
  // Unchecked: the pointers are the caller's, who was told.
  let function: @convention(c) (UnsafeMutableRawPointer?, Int32, UnsafePointer<CChar>?) -> Void
  let context: UnsafeMutableRawPointer?

  func callAsFunction(_ level: Int, _ message: String) {
    ThreadState.callingBack {
      message.withCString { function(context, Int32(truncatingIfNeeded: level), $0) }
    }
  }
}

/// Passes what the runtime has to tell to a caller's function.
private struct CallbackLogHandler: LogHandler {
  let callback: LogCallback
  var metadata: Logger.Metadata = [:]
  var logLevel = Logger.Level.trace

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  func log(event: LogEvent) {
    let details = metadata.merging(event.metadata ?? [:]) { $1 }
      .sorted { $0.key < $1.key }.map { "\($0.key): \($0.value)" }
    let text = "\(event.message)" + (details.isEmpty ? "" : " (\(details.joined(separator: ", ")))")
    callback(Logger.Level.allCases.firstIndex(of: event.level) ?? VKATTN_LOG_INFO, text)
  }
}

/// A C string, where it is given.
private func text(_ pointer: UnsafePointer<CChar>?) -> String? {
  pointer.map { String(cString: $0) }
}

/// What a device is, for C.
private func information(_ capabilities: DeviceCapabilities) -> vkattn_device_info {
  var info = vkattn_device_info()
  info.max_allocation_bytes = capabilities.maxAllocationBytes
  info.device_local_bytes = capabilities.deviceLocalBytes
  info.max_shared_bytes = capabilities.maxSharedBytes
  info.index = Int32(clamping: capabilities.index)
  let kind =
    switch capabilities.kind {
    case .discrete: VKATTN_DEVICE_DISCRETE
    case .integrated: VKATTN_DEVICE_INTEGRATED
    case .virtual: VKATTN_DEVICE_VIRTUAL
    case .cpu: VKATTN_DEVICE_CPU
    case .other: VKATTN_DEVICE_OTHER
    }
  info.kind = Int32(kind)
  info.vendor_id = capabilities.vendorID
  info.device_id = capabilities.deviceID
  info.subgroup_size = Int32(clamping: capabilities.subgroupSize)
  info.compute_units = Int32(clamping: capabilities.computeUnits ?? 0)
  for (feature, flag) in [
    (DeviceCapabilities.Feature.float16, VKATTN_FEATURE_FLOAT16),
    (.coopmat, VKATTN_FEATURE_COOPERATIVE_MATRIX),
    (.coopmat2, VKATTN_FEATURE_COOPERATIVE_MATRIX_2),
    (.coopmat2Reductions, VKATTN_FEATURE_COOPERATIVE_MATRIX_2_REDUCTIONS),
    (.coopmat2Conversions, VKATTN_FEATURE_COOPERATIVE_MATRIX_2_CONVERSIONS),
    (.coopmat2PerElement, VKATTN_FEATURE_COOPERATIVE_MATRIX_2_PER_ELEMENT),
    (.subgroupSizeControl, VKATTN_FEATURE_SUBGROUP_SIZE_CONTROL),
    (.subgroupArithmetic, VKATTN_FEATURE_SUBGROUP_ARITHMETIC),
    (.subgroupShuffle, VKATTN_FEATURE_SUBGROUP_SHUFFLE),
  ] where capabilities.has(feature) {
    info.features |= UInt32(flag)
  }
  if capabilities.missingRequiredFeatures.isEmpty {
    info.features |= UInt32(VKATTN_FEATURE_REQUIRED)
  }
  if capabilities.hasUnifiedMemory { info.features |= UInt32(VKATTN_FEATURE_UNIFIED_MEMORY) }
  copy(capabilities.name, to: &info.name)
  copy(capabilities.driverName, to: &info.driver_name)
  copy(capabilities.driverInfo, to: &info.driver_info)
  copy(capabilities.apiVersion, to: &info.api_version)
  copy(capabilities.deviceUUID, to: &info.device_uuid)
  copy(capabilities.driverUUID, to: &info.driver_uuid)
  return info
}

/// A caller's options, and which device they name.
func deviceOptions(
  _ options: UnsafePointer<vkattn_device_options>?
) throws(Failure) -> (selection: DeviceSelection?, options: ComputeDevice.Options) {
  let given = try readIfGiven(options, "options") ?? vkattn_device_options()
  try checkFlags(given.flags, "options", known: 3)
  var options = ComputeDevice.Options()
  if given.queue_limit > 0 { options.queueLimit = Int(given.queue_limit) }
  if has(given.flags, VKATTN_DEVICE_VALIDATION) { options.validationLog = ValidationLog() }
  options.memoryLimit = given.memory_limit == 0 ? nil : Int(clamping: given.memory_limit)
  options.forcesStaging = has(given.flags, VKATTN_DEVICE_FORCES_STAGING)
  if let directory = text(given.pipeline_cache_directory) {
    options.pipelineCacheDirectory = directory.isEmpty ? nil : directory
  }
  if let function = given.log {
    let callback = LogCallback(function: function, context: given.log_context)
    options.logger = Logger(label: "VulkanAttention") { _ in
      CallbackLogHandler(callback: callback)
    }
    options.logger.logLevel = .trace
  }
  return (text(given.selection).map { DeviceSelection($0) }, options)
}

private func listedDevices() throws(Failure) -> [DeviceCapabilities] {
  try onDevice { () throws(VulkanError) in try VulkanInstance().devices() }
}

/// The device of a handle.
func device(_ handle: OpaquePointer?) throws(Failure) -> ComputeDevice {
  try HandleTable.shared.object(handle, .device, as: DeviceObject.self).device
}

/// `vkattn_prefer_wide_vectors` of vkattn.h.
@_cdecl("vkattn_prefer_wide_vectors")
public func preferWideVectors(_ isWide: UnsafeMutablePointer<Int32>?) -> vkattn_status {
  call { () throws(Failure) in
    let result = SoftwareDriver.preferWideVectors()
    isWide?.pointee = result ? 1 : 0
  }
}

/// `vkattn_device_count` of vkattn.h.
@_cdecl("vkattn_device_count")
public func deviceCount(_ count: UnsafeMutablePointer<Int32>?) -> vkattn_status {
  call { () throws(Failure) in
    let count = try required(count, "count")
    count.pointee = Int32(clamping: try listedDevices().count)
  }
}

/// `vkattn_device_describe` of vkattn.h.
@_cdecl("vkattn_device_describe")
public func deviceDescribe(
  _ index: Int32, _ info: UnsafeMutablePointer<vkattn_device_info>?
) -> vkattn_status {
  call { () throws(Failure) in
    let devices = try listedDevices()
    guard let device = devices.first(where: { $0.index == Int(index) }) else {
      throw Failure(
        .noDevice, "there is no device \(index); there are \(devices.count), numbered from 0")
    }
    try write(information(device), to: info, "info")
  }
}

/// `vkattn_device_open` of vkattn.h.
@_cdecl("vkattn_device_open")
public func deviceOpen(
  _ options: UnsafePointer<vkattn_device_options>?, _ device: UnsafeMutablePointer<OpaquePointer?>?
) -> vkattn_status {
  call { () throws(Failure) in
    let device = try required(device, "device")
    let (selection, options) = try deviceOptions(options)
    let opened = try onDevice { () throws(VulkanError) in
      try ComputeDevice.open(selection ?? .best, options: options)
    }
    device.pointee = try HandleTable.shared.insert(
      DeviceObject(opened, options.validationLog), .device)
  }
}

/// `vkattn_device_get_info` of vkattn.h.
@_cdecl("vkattn_device_get_info")
public func deviceGetInfo(
  _ handle: OpaquePointer?, _ info: UnsafeMutablePointer<vkattn_device_info>?
) -> vkattn_status {
  call { () throws(Failure) in
    try write(information(device(handle).capabilities), to: info, "info")
  }
}

/// `vkattn_device_is_lost` of vkattn.h.
@_cdecl("vkattn_device_is_lost")
public func deviceIsLost(
  _ handle: OpaquePointer?, _ isLost: UnsafeMutablePointer<Int32>?
) -> vkattn_status {
  call { () throws(Failure) in
    let device = try device(handle)
    try required(isLost, "is_lost").pointee = device.isLost ? 1 : 0
  }
}

/// `vkattn_device_save_pipelines` of vkattn.h.
@_cdecl("vkattn_device_save_pipelines")
public func deviceSavePipelines(_ handle: OpaquePointer?) -> vkattn_status {
  call { () throws(Failure) in try onDevice(device(handle).savePipelines) }
}

/// `vkattn_device_take_validation_messages` of vkattn.h.
@_cdecl("vkattn_device_take_validation_messages")
public func deviceTakeValidationMessages(
  _ handle: OpaquePointer?, _ callback: vkattn_log_callback?, _ context: UnsafeMutableRawPointer?,
  _ count: UnsafeMutablePointer<Int>?
) -> vkattn_status {
  call { () throws(Failure) in
    let object = try HandleTable.shared.object(handle, .device, as: DeviceObject.self)
    guard let log = object.validationLog else {
      throw Failure(
        .invalidArgument, "the device was opened without VKATTN_DEVICE_VALIDATION")
    }
    let callback = LogCallback(function: try required(callback, "callback"), context: context)
    let messages = log.drain()
    for message in messages {
      callback(
        message.isError ? VKATTN_LOG_ERROR : VKATTN_LOG_WARNING,
        "\(message.identifier): \(message.text)")
    }
    count?.pointee = messages.count
  }
}

/// `vkattn_device_free` of vkattn.h.
@_cdecl("vkattn_device_free")
public func deviceFree(_ handle: OpaquePointer?) -> vkattn_status {
  call { () throws(Failure) in try HandleTable.shared.remove(handle, .device) }
}
