internal import CVulkan
internal import Synchronization

/// The device handle, its functions and its queues: what every object of a device holds on to.
final class LogicalDevice: @unchecked Sendable {
  // Unchecked: handles are set once in `init`.
  let instance: VulkanInstance
  let capabilities: DeviceCapabilities
  let handle: VkDevice
  let calls: DeviceCalls
  let memoryTypes: MemoryTypes
  let queueFamily: UInt32
  /// At least one: the first is the device's own, streams take them in turn.
  let queues: [DeviceQueue]
  private let streamCount = Atomic<Int>(0)
  /// The bits of a timestamp that count; the counter wraps around at their end.
  let timestampMask: UInt64
  /// Set where the Vulkan device is an app's own, which is left alone at the end.
  private let foreign: ForeignDevice?
  private let lost = Atomic<Bool>(false)
  /// Set when the device is whole: where its initializer fails, an app still has its handles and is not told.
  let isOpen = Atomic<Bool>(false)

  init(
    instance: VulkanInstance, physical: VkPhysicalDevice, capabilities: DeviceCapabilities,
    queueLimit: Int, adjustCalls: (inout DeviceCalls) -> Void
  ) throws(VulkanError) {
    let missing = capabilities.missingRequiredFeatures
    guard missing.isEmpty else {
      throw .missingFeatures(device: capabilities.name, features: missing.map(\.rawValue))
    }
    guard
      let (family, properties) = Self.computeFamily(of: physical, calls: instance.calls)
    else {
      throw .missingFeatures(device: capabilities.name, features: ["a compute queue"])
    }
    let probe = try DeviceProbe(physical, calls: instance.calls)
    let chain = FeatureChain(probe: probe, enabling: capabilities.features)
    let queueCount = max(1, min(queueLimit, Int(properties.queueCount)))
    let priorities = UnsafeMutablePointer<Float>.allocate(capacity: queueCount)
    priorities.initialize(repeating: 1, count: queueCount)
    defer { priorities.deallocate() }
    var queueInfo = VkDeviceQueueCreateInfo()
    queueInfo.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO
    queueInfo.queueFamilyIndex = family
    queueInfo.queueCount = UInt32(queueCount)
    queueInfo.pQueuePriorities = UnsafePointer(priorities)
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
    var queues: [DeviceQueue] = []
    for index in 0..<UInt32(queueCount) {
      var queue: VkQueue?
      calls.vkGetDeviceQueue(device, family, index, &queue)
      guard let queue else {
        calls.vkDestroyDevice(device, nil)
        throw .callFailed(function: "vkGetDeviceQueue", result: .initializationFailed)
      }
      queues.append(DeviceQueue(queue))
    }
    var memory = VkPhysicalDeviceMemoryProperties()
    instance.calls.vkGetPhysicalDeviceMemoryProperties(physical, &memory)
    adjustCalls(&calls)
    self.instance = instance
    self.capabilities = capabilities
    handle = device
    self.calls = calls
    memoryTypes = MemoryTypes(memory, isUnified: capabilities.hasUnifiedMemory)
    queueFamily = family
    timestampMask = Self.mask(ofBits: properties.timestampValidBits)
    self.queues = queues
    foreign = nil
  }

  /// Takes over an app's own device with queues of its own, all of which were checked.
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
    queues = checked.queues.map(DeviceQueue.init)
    self.foreign = foreign
  }

  deinit {
    if let foreign {
      if isOpen.load(ordering: .relaxed) { foreign.released?() }
    } else {
      calls.vkDestroyDevice(handle, nil)
    }
  }

  /// Whether the Vulkan device is an app's own.
  var isForeign: Bool { foreign != nil }

  /// The queue of one more stream: in turn, beginning behind the device's own.
  func nextQueue() -> DeviceQueue {
    let (_, count) = streamCount.wrappingAdd(1, ordering: .relaxed)
    return queues[count % queues.count]
  }

  /// Runs `body` while no one else uses the queues, as far as the app that owns them sees to that.
  func withQueueAccess<Value>(
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

  /// Refuses what was made with another device.
  func checkOwn(_ what: String, _ other: LogicalDevice) throws(VulkanError) {
    guard other === self else {
      throw .wrongDevice(
        what: what, expected: capabilities.name, actual: other.capabilities.name)
    }
  }

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
  ) -> (index: UInt32, properties: VkQueueFamilyProperties)? {
    let families = queueFamilies(of: device, calls: calls)
    let compute = families.indices.filter {
      families[$0].queueFlags & VK_QUEUE_COMPUTE_BIT.rawValue != 0
    }
    let alone = compute.first {
      families[$0].queueFlags & VK_QUEUE_GRAPHICS_BIT.rawValue == 0
        && families[$0].timestampValidBits > 0
    }
    return (alone ?? compute.first).map {
      (UInt32($0), families[$0])
    }
  }
}
