internal import CVulkan
internal import Synchronization

/// The device handle, its functions and its queue: what every object of a device holds on to.
final class LogicalDevice: @unchecked Sendable {
  // Unchecked: handles are set once in `init`; the queue is only used by `SubmissionQueue`, under
  // its lock and by `withQueue`.
  let instance: VulkanInstance
  let capabilities: DeviceCapabilities
  let handle: VkDevice
  let calls: DeviceCalls
  let memoryTypes: MemoryTypes
  let queueFamily: UInt32
  let queue: VkQueue
  /// The bits of a timestamp that count; the counter wraps around at their end.
  let timestampMask: UInt64
  /// Set where the Vulkan device is an app's own, which is left alone at the end.
  private let foreign: ForeignDevice?
  private let lost = Atomic<Bool>(false)

  init(
    instance: VulkanInstance, physical: VkPhysicalDevice, capabilities: DeviceCapabilities,
    adjustCalls: (inout DeviceCalls) -> Void
  ) throws(VulkanError) {
    let missing = capabilities.missingRequiredFeatures
    guard missing.isEmpty else {
      throw .missingFeatures(device: capabilities.name, features: missing.map(\.rawValue))
    }
    guard
      let (family, timestampBits) = Self.computeFamily(of: physical, calls: instance.calls)
    else {
      throw .missingFeatures(device: capabilities.name, features: ["a compute queue"])
    }
    let probe = try DeviceProbe(physical, calls: instance.calls)
    let chain = FeatureChain(probe: probe, enabling: capabilities.features)
    let priority = UnsafeMutablePointer<Float>.allocate(capacity: 1)
    priority.initialize(to: 1)
    defer { priority.deallocate() }
    var queueInfo = VkDeviceQueueCreateInfo()
    queueInfo.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO
    queueInfo.queueFamilyIndex = family
    queueInfo.queueCount = 1
    queueInfo.pQueuePriorities = UnsafePointer(priority)
    var created: VkDevice?
    let result = withUnsafePointer(to: queueInfo) { queueInfo in
      withCStrings(chain.extensions) { extensions in
        var info = VkDeviceCreateInfo()
        info.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO
        info.pNext = UnsafeRawPointer(chain.base)
        info.queueCreateInfoCount = 1
        info.pQueueCreateInfos = queueInfo
        info.enabledExtensionCount = UInt32(extensions.count)
        info.ppEnabledExtensionNames = extensions.baseAddress
        return VulkanResult(instance.calls.vkCreateDevice(physical, &info, nil, &created))
      }
    }
    guard result == .success, let device = created else {
      throw .callFailed(function: "vkCreateDevice", result: result)
    }
    var calls: DeviceCalls
    do throws(VulkanError) {
      calls = try DeviceCalls(
        device: device, getProcAddress: instance.calls.vkGetDeviceProcAddr)
    } catch {
      if let destroy = instance.calls.vkGetDeviceProcAddr(device, "vkDestroyDevice") {
        unsafeBitCast(destroy, to: PFN_vkDestroyDevice.self)(device, nil)
      }
      throw error
    }
    var queue: VkQueue?
    calls.vkGetDeviceQueue(device, family, 0, &queue)
    guard let queue else {
      calls.vkDestroyDevice(device, nil)
      throw .callFailed(function: "vkGetDeviceQueue", result: .initializationFailed)
    }
    var properties = VkPhysicalDeviceMemoryProperties()
    instance.calls.vkGetPhysicalDeviceMemoryProperties(physical, &properties)
    adjustCalls(&calls)
    self.instance = instance
    self.capabilities = capabilities
    handle = device
    self.calls = calls
    memoryTypes = MemoryTypes(properties, isUnified: capabilities.hasUnifiedMemory)
    queueFamily = family
    timestampMask = Self.mask(ofBits: timestampBits)
    self.queue = queue
    foreign = nil
  }

  /// Takes over an app's own device with one of its queues, both of which were checked.
  init(
    adopting foreign: ForeignDevice, _ checked: ForeignDevice.Checked,
    adjustCalls: (inout DeviceCalls) -> Void
  ) throws(VulkanError) {
    var calls = try DeviceCalls(
      device: checked.device, getProcAddress: checked.instance.calls.vkGetDeviceProcAddr)
    adjustCalls(&calls)
    var properties = VkPhysicalDeviceMemoryProperties()
    checked.instance.calls.vkGetPhysicalDeviceMemoryProperties(
      checked.physicalDevice, &properties)
    instance = checked.instance
    capabilities = checked.capabilities
    handle = checked.device
    self.calls = calls
    memoryTypes = MemoryTypes(properties, isUnified: checked.capabilities.hasUnifiedMemory)
    queueFamily = foreign.queueFamilyIndex
    timestampMask = Self.mask(ofBits: checked.timestampBits)
    queue = checked.queue
    self.foreign = foreign
  }

  deinit {
    if let foreign {
      foreign.released?()
    } else {
      calls.vkDestroyDevice(handle, nil)
    }
  }

  /// Whether the Vulkan device is an app's own.
  var isForeign: Bool { foreign != nil }

  /// Runs `body` while no one else uses the queue, as far as the app that owns it sees to that.
  func withQueue<Value>(
    _ body: () throws(VulkanError) -> Value
  ) throws(VulkanError) -> Value {
    guard let access = foreign?.queueAccess else { return try body() }
    var result: Result<Value, VulkanError>?
    access {
      // Once: a second submission of the same commands would be wrong.
      guard result == nil else { return }
      do throws(VulkanError) {
        result = .success(try body())
      } catch {
        result = .failure(error)
      }
    }
    guard let result else {
      throw .notAdoptable(
        what: "the queue", reason: "its queueAccess returned without calling what it was given")
    }
    return try result.get()
  }

  private static func mask(ofBits bits: UInt32) -> UInt64 {
    bits >= 64 ? .max : 1 << bits - 1
  }

  /// Turns a result into the error it stands for; a lost device is remembered.
  func check(_ result: VkResult, _ function: String) throws(VulkanError) {
    try check(VulkanResult(result), function)
  }

  /// Turns a result into the error it stands for; a lost device is remembered.
  func check(_ result: VulkanResult, _ function: String) throws(VulkanError) {
    switch result {
    case .success: return
    case .deviceLost:
      lost.store(true, ordering: .releasing)
      throw .deviceLost(device: capabilities.name, during: function)
    case .outOfHostMemory, .outOfDeviceMemory:
      throw .outOfMemory(requestedBytes: 0, purpose: function, result: result)
    default: throw .callFailed(function: function, result: result)
    }
  }

  /// Whether a call has reported the device lost.
  var isLost: Bool { lost.load(ordering: .acquiring) }

  /// Refuses work on a device that was lost before.
  func checkAlive(_ during: String) throws(VulkanError) {
    if isLost { throw .deviceLost(device: capabilities.name, during: during) }
  }

  /// The queue families of a device.
  static func queueFamilies(
    of device: VkPhysicalDevice, calls: InstanceCalls
  ) -> [VkQueueFamilyProperties] {
    var count: UInt32 = 0
    calls.vkGetPhysicalDeviceQueueFamilyProperties(device, &count, nil)
    var families = [VkQueueFamilyProperties](
      repeating: VkQueueFamilyProperties(), count: Int(count))
    calls.vkGetPhysicalDeviceQueueFamilyProperties(device, &count, &families)
    return families
  }

  /// A queue family for compute, rather one without graphics: its work does not wait for drawing.
  private static func computeFamily(
    of device: VkPhysicalDevice, calls: InstanceCalls
  ) -> (index: UInt32, timestampBits: UInt32)? {
    let families = queueFamilies(of: device, calls: calls)
    let compute = families.indices.filter {
      families[$0].queueFlags & VK_QUEUE_COMPUTE_BIT.rawValue != 0
    }
    let alone = compute.first {
      families[$0].queueFlags & VK_QUEUE_GRAPHICS_BIT.rawValue == 0
        && families[$0].timestampValidBits > 0
    }
    return (alone ?? compute.first).map {
      (UInt32($0), families[$0].timestampValidBits)
    }
  }
}
