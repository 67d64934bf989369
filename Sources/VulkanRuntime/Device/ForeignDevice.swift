internal import CVulkan

/// A Vulkan device of an app's own, with what the app enabled on it, for ``ComputeDevice/init(adopting:options:)``.
///
/// Handles are those of Vulkan's C interface, which Swift sees as `OpaquePointer`. Nothing here is destroyed
/// by this library; all of it lives until ``released`` was called. Vulkan does not tell what a device was
/// created with, so the app tells; what the library cannot do without is
/// ``DeviceCapabilities/requiredFeatures``. The fields of Vulkan's feature structures that make a feature:
///
/// | feature | fields |
/// |---|---|
/// | `int64` | `shaderInt64` |
/// | `storage16` | `storageBuffer16BitAccess` |
/// | `bufferDeviceAddress`, `timelineSemaphore`, `scalarBlockLayout` | of the same names |
/// | `float16` | `shaderFloat16` |
/// | `int16` | `shaderInt16` |
/// | `memoryModel` | `vulkanMemoryModel`, `vulkanMemoryModelDeviceScope` |
/// | `subgroupSizeControl` | `subgroupSizeControl`, `computeFullSubgroups`; before Vulkan 1.3 `VK_EXT_subgroup_size_control` |
/// | `coopmat` | `cooperativeMatrix` of `VK_KHR_cooperative_matrix` |
/// | `coopmat2` | `cooperativeMatrixFlexibleDimensions` of `VK_NV_cooperative_matrix2`, and all of `coopmat` |
/// | `coopmat2Reductions` | `cooperativeMatrixReductions` of the same, `maintenance4`, Vulkan 1.3 and all of `coopmat` |
/// | `coopmat2Conversions` | `cooperativeMatrixConversions`, likewise |
/// | `coopmat2PerElement` | `cooperativeMatrixPerElementOperations`, likewise |
/// | `computeDerivatives` | `computeDerivativeGroupLinear` of `VK_KHR_compute_shader_derivatives`: decode of software drivers is faster with it |
/// | `externalMemoryHost` | the extension `VK_EXT_external_memory_host` |
/// | `subgroupVote`, `subgroupArithmetic`, `subgroupShuffle` | none: the device has them or not, and they need not be named |
public struct ForeignDevice: @unchecked Sendable {
  // Unchecked: handles that Vulkan allows any thread to use; the queue's use is ordered by `queueAccess`.

  /// Calls its argument once, on the same thread and before it returns, while no one else uses the queue.
  public typealias QueueAccess = @Sendable (_ body: () -> Void) -> Void

  /// The `VkInstance`.
  public var instance: OpaquePointer?
  /// The `VkPhysicalDevice`, one of the instance's.
  public var physicalDevice: OpaquePointer?
  /// The `VkDevice`, made of the physical device.
  public var device: OpaquePointer?
  /// The `VkQueue`, one of the device's.
  public var queue: OpaquePointer?
  /// More queues of the same family, for streams; see ``ComputeStream``. `queueAccess` is for all of them.
  public var streamQueues: [OpaquePointer] = []
  /// The family of the queues, which has compute.
  public var queueFamilyIndex: UInt32
  /// The version of the app's `VkApplicationInfo`, as Vulkan packs it: 1.2 or newer.
  public var apiVersion: UInt32
  /// The features that the device was created with.
  public var enabledFeatures: Set<DeviceCapabilities.Feature>
  /// The names of the extensions that the device was created with.
  public var enabledExtensions: Set<String>
  /// The app's `vkGetInstanceProcAddr`; nil takes that of the system's loader, which must then be the one
  /// that made the instance.
  public var getInstanceProcAddress: UnsafeRawPointer?
  /// How a submission gets the queues for itself: Vulkan asks that no two threads use a queue at the same
  /// time. Nil says that no one but this device ever uses them.
  ///
  /// It is called on the thread that submits, and not with any lock of this library held.
  public var queueAccess: QueueAccess?
  /// Called once, on any thread, when nothing of this library uses the handles any more: its devices, buffers
  /// and pipelines are gone and its work is done. Where adoption fails it is not called.
  public var released: (@Sendable () -> Void)?

  /// Names a device and what it was created with.
  public init(
    instance: OpaquePointer?, physicalDevice: OpaquePointer?, device: OpaquePointer?,
    queue: OpaquePointer?, queueFamilyIndex: UInt32, apiVersion: UInt32,
    enabledFeatures: Set<DeviceCapabilities.Feature>, enabledExtensions: Set<String> = []
  ) {
    self.instance = instance
    self.physicalDevice = physicalDevice
    self.device = device
    self.queue = queue
    self.queueFamilyIndex = queueFamilyIndex
    self.apiVersion = apiVersion
    self.enabledFeatures = enabledFeatures
    self.enabledExtensions = enabledExtensions
  }

  /// The handles, none of them null, and what the device can do with what the app enabled.
  struct Checked {
    let instance: VulkanInstance
    let physicalDevice: VkPhysicalDevice
    let device: VkDevice
    let queues: [VkQueue]
    var capabilities: DeviceCapabilities
    let timestampBits: UInt32
  }

  /// Holds what the app tells against what the physical device has.
  func checked() throws(VulkanError) -> Checked {
    func handle(_ pointer: OpaquePointer?, _ what: String) throws(VulkanError) -> OpaquePointer {
      guard let pointer else { throw .notAdoptable(what: what, reason: "the handle is null") }
      return pointer
    }
    let handles = (
      instance: try handle(instance, "the VkInstance"),
      physical: try handle(physicalDevice, "the VkPhysicalDevice"),
      device: try handle(device, "the VkDevice"), queue: try handle(queue, "the VkQueue")
    )
    let instance = try VulkanInstance(adopting: handles.instance, loader: loader())
    guard let index = try instance.physicalDevices().firstIndex(of: handles.physical) else {
      throw .notAdoptable(
        what: "the VkPhysicalDevice", reason: "it is not among those of the VkInstance")
    }
    let probe = try DeviceProbe(handles.physical, calls: instance.calls)
    var capabilities = try probe.capabilities(index: index)
    let missing = try missing(probe, capabilities)
    guard missing.isEmpty else {
      throw .missingFeatures(device: capabilities.name, features: missing)
    }
    let bits = try timestampBits(of: handles.physical, instance.calls, capabilities)
    if bits == 0 { capabilities.timestampPeriod = 0 }
    capabilities.features.formIntersection(enabledFeatures.union(Self.properties))
    if !capabilities.has(.coopmat) { capabilities.matrixShapes = [] }
    if !capabilities.has(.coopmat2) { capabilities.flexibleMatrixShapes = nil }
    var queues = [handles.queue]
    for queue in streamQueues where !queues.contains(queue) { queues.append(queue) }
    return Checked(
      instance: instance, physicalDevice: handles.physical, device: handles.device,
      queues: queues, capabilities: capabilities, timestampBits: bits)
  }

  /// Features that a device has without being asked.
  private static let properties: Set<DeviceCapabilities.Feature> = [
    .subgroupVote, .subgroupArithmetic, .subgroupShuffle,
  ]

  private func loader() throws(VulkanError) -> VulkanLoader {
    guard let getInstanceProcAddress else { return try VulkanLoader() }
    return VulkanLoader(
      getInstanceProcAddress: unsafeBitCast(
        getInstanceProcAddress, to: PFN_vkGetInstanceProcAddr.self))
  }

  /// What the app says is enabled and cannot be, and what the library needs and the app does not name.
  private func missing(
    _ probe: DeviceProbe, _ capabilities: DeviceCapabilities
  ) throws(VulkanError) -> [String] {
    let version = min(apiVersion, probe.apiVersion)
    guard version >= vulkanVersion(1, 2) else { return ["Vulkan 1.2"] }
    // A veto hides features for tests; the device has them all the same.
    let found = capabilities.features.union(
      try DeviceProbe.vetoes(environment: HostEnvironment.variable("VKATTN_DISABLE")))
    let needed = Set(DeviceCapabilities.requiredFeatures)
    var missing = DeviceCapabilities.Feature.allCases.filter { feature in
      enabledFeatures.contains(feature) ? !found.contains(feature) : needed.contains(feature)
    }.map(\.rawValue)
    missing += enabledExtensions.subtracting(probe.extensions).sorted()
    for feature in DeviceCapabilities.Feature.allCases where enabledFeatures.contains(feature) {
      missing += feature.extensions(version: version)
        .filter { !enabledExtensions.contains($0) }.map { "\($0) for \(feature.rawValue)" }
    }
    for feature in DeviceCapabilities.Feature.allCases where enabledFeatures.contains(feature) {
      guard feature.extensions(version: version).contains(VK_NV_COOPERATIVE_MATRIX_2_EXTENSION_NAME)
      else { continue }
      if !enabledFeatures.contains(.coopmat) { missing.append("coopmat for \(feature.rawValue)") }
      if feature != .coopmat2, version < vulkanVersion(1, 3) {
        missing.append("Vulkan 1.3 for \(feature.rawValue)")
      }
    }
    return missing
  }

  /// The bits of the queue family's timestamps; the family must be one for compute.
  private func timestampBits(
    of device: VkPhysicalDevice, _ calls: InstanceCalls, _ capabilities: DeviceCapabilities
  ) throws(VulkanError) -> UInt32 {
    let families = LogicalDevice.queueFamilies(of: device, calls: calls)
    guard queueFamilyIndex < families.count else {
      throw .limitExceeded(
        what: "the queue family's index", requested: Int(queueFamilyIndex),
        allowed: families.count - 1)
    }
    let family = families[Int(queueFamilyIndex)]
    guard family.queueFlags & VK_QUEUE_COMPUTE_BIT.rawValue != 0 else {
      throw .missingFeatures(
        device: capabilities.name, features: ["compute in queue family \(queueFamilyIndex)"])
    }
    return family.timestampValidBits
  }
}

extension DeviceCapabilities.Feature {
  /// The extensions that a device of this version must be created with for the feature.
  func extensions(version: UInt32) -> [String] {
    switch self {
    case .coopmat: [VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME]
    case .coopmat2, .coopmat2Reductions, .coopmat2Conversions, .coopmat2PerElement:
      [VK_NV_COOPERATIVE_MATRIX_2_EXTENSION_NAME]
    case .computeDerivatives: [VK_KHR_COMPUTE_SHADER_DERIVATIVES_EXTENSION_NAME]
    case .externalMemoryHost: [VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME]
    case .subgroupSizeControl where version < vulkanVersion(1, 3):
      [VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME]
    default: []
    }
  }
}
