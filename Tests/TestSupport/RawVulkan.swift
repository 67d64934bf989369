import CVulkan
import Foundation
import Synchronization
import VulkanAttention

/// A Vulkan instance, device and queue as an app makes them for itself, with nothing of this library's runtime.
public final class RawVulkan: @unchecked Sendable {
  // Unchecked: handles set once in `init`.

  /// What went wrong in a call to Vulkan.
  public struct Failure: Error {
    /// The function.
    public let function: String
    /// Its result, where it has one.
    public let result: Int32
  }

  /// A buffer in host-coherent memory, mapped.
  public struct Buffer: @unchecked Sendable {
    // Unchecked: the tests order the use of the memory.

    /// The `VkBuffer`.
    public let handle: OpaquePointer
    /// The size it was created with.
    public let byteCount: Int
    /// The flags it was created with.
    public let usage: UInt32
    /// Its first byte.
    public let mapped: UnsafeMutableRawPointer
    let memory: VkDeviceMemory
  }

  /// The version in the application's info.
  public static let apiVersion: UInt32 = 1 << 22 | 2 << 12
  /// All that a buffer may be used for here.
  public static let fullUsage =
    VK_BUFFER_USAGE_TRANSFER_SRC_BIT.rawValue | VK_BUFFER_USAGE_TRANSFER_DST_BIT.rawValue
    | VK_BUFFER_USAGE_STORAGE_BUFFER_BIT.rawValue
    | VK_BUFFER_USAGE_SHADER_DEVICE_ADDRESS_BIT.rawValue

  /// The `VkInstance`.
  public let instance: OpaquePointer
  /// The `VkPhysicalDevice`.
  public let physicalDevice: OpaquePointer
  /// The `VkDevice`.
  public let device: OpaquePointer
  /// The `VkQueue`.
  public let queue: OpaquePointer
  /// Its family, the first with compute.
  public let queueFamilyIndex: UInt32
  /// The extensions that the device was created with.
  public let extensions: Set<String>
  /// `vkGetInstanceProcAddr`.
  public let getInstanceProcAddress: UnsafeRawPointer
  private let lookUp: PFN_vkGetInstanceProcAddr
  private let messenger: VkDebugUtilsMessengerEXT?

  /// Whether the loader has the validation layers of Khronos.
  public static let listsValidationLayer: Bool = {
    guard let library = dlopen("libvulkan.so.1", RTLD_NOW) ?? dlopen("libvulkan.so", RTLD_NOW),
      let symbol = dlsym(library, "vkEnumerateInstanceLayerProperties")
    else { return false }
    let enumerate = unsafeBitCast(symbol, to: PFN_vkEnumerateInstanceLayerProperties.self)
    var count: UInt32 = 0
    guard enumerate(&count, nil) == VK_SUCCESS else { return false }
    var layers = [VkLayerProperties](repeating: VkLayerProperties(), count: Int(count))
    guard enumerate(&count, &layers) == VK_SUCCESS else { return false }
    return layers.contains { layer in
      withUnsafeBytes(of: layer.layerName) { name in
        name.prefix { $0 != 0 }.elementsEqual("VK_LAYER_KHRONOS_validation".utf8)
      }
    }
  }()

  /// Opens a device with exactly the features that this library cannot do without.
  ///
  /// - Parameters:
  ///   - index: its place in the loader's list.
  ///   - extensions: those to enable.
  public init(index: Int, extensions: [String] = []) throws {
    guard let library = dlopen("libvulkan.so.1", RTLD_NOW) ?? dlopen("libvulkan.so", RTLD_NOW),
      let symbol = dlsym(library, "vkGetInstanceProcAddr")
    else { throw Failure(function: "dlopen", result: 0) }
    getInstanceProcAddress = UnsafeRawPointer(symbol)
    let lookUp = unsafeBitCast(symbol, to: PFN_vkGetInstanceProcAddr.self)
    self.lookUp = lookUp
    instance = try Self.makeInstance(lookUp)
    let function = Functions(lookUp, instance)

    var count: UInt32 = 0
    let enumerate = try function(
      "vkEnumeratePhysicalDevices", PFN_vkEnumeratePhysicalDevices.self)
    try check(enumerate(instance, &count, nil), "vkEnumeratePhysicalDevices")
    var devices = [VkPhysicalDevice?](repeating: nil, count: Int(count))
    try check(enumerate(instance, &count, &devices), "vkEnumeratePhysicalDevices")
    guard devices.indices.contains(index), let physical = devices[index] else {
      throw Failure(function: "vkEnumeratePhysicalDevices", result: 0)
    }
    physicalDevice = physical
    let getFamilies = try function(
      "vkGetPhysicalDeviceQueueFamilyProperties",
      PFN_vkGetPhysicalDeviceQueueFamilyProperties.self)
    getFamilies(physical, &count, nil)
    var families = [VkQueueFamilyProperties](repeating: .init(), count: Int(count))
    getFamilies(physical, &count, &families)
    let compute = families.firstIndex { $0.queueFlags & VK_QUEUE_COMPUTE_BIT.rawValue != 0 }
    queueFamilyIndex = UInt32(compute ?? 0)
    self.extensions = Set(extensions)
    device = try Self.makeDevice(function, physical, queueFamilyIndex, extensions)
    var queue: VkQueue?
    try function("vkGetDeviceQueue", PFN_vkGetDeviceQueue.self)(
      device, queueFamilyIndex, 0, &queue)
    guard let queue else { throw Failure(function: "vkGetDeviceQueue", result: 0) }
    self.queue = queue
    var made: VkDebugUtilsMessengerEXT?
    if TestDevice.isValidated {
      // Holds nothing: the messages go to a log that outlives all of these.
      var info = Self.messengerInfo()
      try check(
        function(
          "vkCreateDebugUtilsMessengerEXT", PFN_vkCreateDebugUtilsMessengerEXT.self)(
            instance, &info, nil, &made), "vkCreateDebugUtilsMessengerEXT")
    }
    messenger = made
  }

  deinit {
    let functions = functions
    do {
      _ = try functions("vkDeviceWaitIdle", PFN_vkDeviceWaitIdle.self)(device)
      try functions("vkDestroyDevice", PFN_vkDestroyDevice.self)(device, nil)
      if let messenger {
        try functions(
          "vkDestroyDebugUtilsMessengerEXT", PFN_vkDestroyDebugUtilsMessengerEXT.self)(
            instance, messenger, nil)
      }
      try functions("vkDestroyInstance", PFN_vkDestroyInstance.self)(instance, nil)
    } catch {
      Self.log.withLock { $0.append("\(error)") }
    }
  }

  /// The device for this library, which keeps this object until it is released.
  public func foreign(
    features: Set<DeviceCapabilities.Feature> = Set(DeviceCapabilities.requiredFeatures)
  ) -> ForeignDevice {
    var foreign = ForeignDevice(
      instance: instance, physicalDevice: physicalDevice, device: device, queue: queue,
      queueFamilyIndex: queueFamilyIndex, apiVersion: Self.apiVersion, enabledFeatures: features,
      enabledExtensions: extensions)
    foreign.released = { withExtendedLifetime(self) {} }
    return foreign
  }

  /// Makes a buffer in mapped memory, filled with a byte.
  public func makeBuffer(
    byteCount: Int, usage: UInt32 = RawVulkan.fullUsage, filledWith byte: UInt8 = 0
  ) throws -> Buffer {
    let function = functions
    var info = VkBufferCreateInfo()
    info.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO
    info.size = UInt64(byteCount)
    info.usage = usage
    var buffer: VkBuffer?
    try check(
      function("vkCreateBuffer", PFN_vkCreateBuffer.self)(device, &info, nil, &buffer),
      "vkCreateBuffer")
    guard let buffer else { throw Failure(function: "vkCreateBuffer", result: 0) }
    var requirements = VkMemoryRequirements()
    try function("vkGetBufferMemoryRequirements", PFN_vkGetBufferMemoryRequirements.self)(
      device, buffer, &requirements)
    var flags = VkMemoryAllocateFlagsInfo()
    flags.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_FLAGS_INFO
    flags.flags = VK_MEMORY_ALLOCATE_DEVICE_ADDRESS_BIT.rawValue
    var memory: VkDeviceMemory?
    let type = try memoryType(requirements.memoryTypeBits)
    let allocate = try function("vkAllocateMemory", PFN_vkAllocateMemory.self)
    let result = withUnsafePointer(to: flags) { flags in
      var allocation = VkMemoryAllocateInfo()
      allocation.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO
      allocation.pNext = UnsafeRawPointer(flags)
      allocation.allocationSize = requirements.size
      allocation.memoryTypeIndex = type
      return allocate(device, &allocation, nil, &memory)
    }
    try check(result, "vkAllocateMemory")
    try check(
      function("vkBindBufferMemory", PFN_vkBindBufferMemory.self)(device, buffer, memory, 0),
      "vkBindBufferMemory")
    var mapped: UnsafeMutableRawPointer?
    try check(
      function("vkMapMemory", PFN_vkMapMemory.self)(device, memory, 0, VK_WHOLE_SIZE, 0, &mapped),
      "vkMapMemory")
    guard let memory, let mapped else { throw Failure(function: "vkMapMemory", result: 0) }
    memset(mapped, Int32(byte), byteCount)
    return Buffer(
      handle: buffer, byteCount: byteCount, usage: usage, mapped: mapped, memory: memory)
  }

  /// Destroys a buffer with its memory.
  public func destroy(_ buffer: Buffer) throws {
    let function = functions
    try function("vkDestroyBuffer", PFN_vkDestroyBuffer.self)(device, buffer.handle, nil)
    try function("vkFreeMemory", PFN_vkFreeMemory.self)(device, buffer.memory, nil)
  }

  /// Fills a buffer by commands on the queue, and waits: the device and its queue are alive.
  public func fill(_ buffer: Buffer, with word: UInt32) throws {
    let function = functions
    var poolInfo = VkCommandPoolCreateInfo()
    poolInfo.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO
    poolInfo.queueFamilyIndex = queueFamilyIndex
    var pool: VkCommandPool?
    try check(
      function("vkCreateCommandPool", PFN_vkCreateCommandPool.self)(
        device, &poolInfo, nil, &pool), "vkCreateCommandPool")
    var info = VkCommandBufferAllocateInfo()
    info.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO
    info.commandPool = pool
    info.commandBufferCount = 1
    var commands: VkCommandBuffer?
    try check(
      function("vkAllocateCommandBuffers", PFN_vkAllocateCommandBuffers.self)(
        device, &info, &commands), "vkAllocateCommandBuffers")
    var begin = VkCommandBufferBeginInfo()
    begin.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO
    try check(
      function("vkBeginCommandBuffer", PFN_vkBeginCommandBuffer.self)(commands, &begin),
      "vkBeginCommandBuffer")
    try function("vkCmdFillBuffer", PFN_vkCmdFillBuffer.self)(
      commands, buffer.handle, 0, VK_WHOLE_SIZE, word)
    try check(
      function("vkEndCommandBuffer", PFN_vkEndCommandBuffer.self)(commands), "vkEndCommandBuffer")
    let submit = try function("vkQueueSubmit", PFN_vkQueueSubmit.self)
    let result = withUnsafePointer(to: commands) { commands in
      var info = VkSubmitInfo()
      info.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO
      info.commandBufferCount = 1
      info.pCommandBuffers = commands
      return submit(queue, 1, &info, nil)
    }
    try check(result, "vkQueueSubmit")
    try check(function("vkQueueWaitIdle", PFN_vkQueueWaitIdle.self)(queue), "vkQueueWaitIdle")
    try function("vkDestroyCommandPool", PFN_vkDestroyCommandPool.self)(device, pool, nil)
  }

  /// Makes a timeline semaphore at 0.
  public func makeTimeline() throws -> OpaquePointer {
    let create = try functions("vkCreateSemaphore", PFN_vkCreateSemaphore.self)
    var type = VkSemaphoreTypeCreateInfo()
    type.sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO
    type.semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE
    var semaphore: VkSemaphore?
    let result = withUnsafePointer(to: type) { type in
      var info = VkSemaphoreCreateInfo()
      info.sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO
      info.pNext = UnsafeRawPointer(type)
      return create(device, &info, nil, &semaphore)
    }
    try check(result, "vkCreateSemaphore")
    guard let semaphore else { throw Failure(function: "vkCreateSemaphore", result: 0) }
    return semaphore
  }

  /// Sets a timeline to a value from the host.
  public func signal(_ point: TimelinePoint) throws {
    var info = VkSemaphoreSignalInfo()
    info.sType = VK_STRUCTURE_TYPE_SEMAPHORE_SIGNAL_INFO
    info.semaphore = point.semaphore
    info.value = point.value
    try check(
      functions("vkSignalSemaphore", PFN_vkSignalSemaphore.self)(device, &info),
      "vkSignalSemaphore")
  }

  /// Waits on the host for a point of a timeline.
  public func wait(for point: TimelinePoint) throws {
    let wait = try functions("vkWaitSemaphores", PFN_vkWaitSemaphores.self)
    let result = withUnsafePointer(to: Optional(point.semaphore)) { semaphore in
      withUnsafePointer(to: point.value) { value in
        var info = VkSemaphoreWaitInfo()
        info.sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO
        info.semaphoreCount = 1
        info.pSemaphores = semaphore
        info.pValues = value
        return wait(device, &info, .max)
      }
    }
    try check(result, "vkWaitSemaphores")
  }

  /// Destroys a timeline that no one waits for any more.
  public func destroy(timeline: OpaquePointer) throws {
    try functions("vkDestroySemaphore", PFN_vkDestroySemaphore.self)(device, timeline, nil)
  }

  /// Forgets and returns what the validation layers said of all raw devices.
  public static func drainMessages() -> [String] {
    log.withLock { log in
      defer { log = [] }
      return log
    }
  }

  private static let log = Mutex<[String]>([])

  /// The functions of an instance and its devices, by their names.
  private struct Functions {
    let lookUp: PFN_vkGetInstanceProcAddr
    let instance: VkInstance?

    init(_ lookUp: PFN_vkGetInstanceProcAddr, _ instance: VkInstance?) {
      self.lookUp = lookUp
      self.instance = instance
    }

    func callAsFunction<F>(_ name: String, _ type: F.Type) throws -> F {
      guard let pointer = lookUp(instance, name) else { throw Failure(function: name, result: 0) }
      return unsafeBitCast(pointer, to: F.self)
    }
  }

  private var functions: Functions { Functions(lookUp, instance) }

  private static func messengerInfo() -> VkDebugUtilsMessengerCreateInfoEXT {
    var info = VkDebugUtilsMessengerCreateInfoEXT()
    info.sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT
    info.messageSeverity =
      VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT.rawValue
      | VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT.rawValue
    info.messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT.rawValue
    info.pfnUserCallback = { _, _, data, _ in
      let text = data?.pointee.pMessage.map { String(cString: $0) }
      RawVulkan.log.withLock { $0.append(text ?? "a message without text") }
      return VkBool32(VK_FALSE)
    }
    return info
  }

  private static func makeInstance(_ lookUp: PFN_vkGetInstanceProcAddr) throws -> VkInstance {
    var application = VkApplicationInfo()
    application.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO
    application.apiVersion = apiVersion
    let create = try Functions(lookUp, nil)("vkCreateInstance", PFN_vkCreateInstance.self)
    let names = TestDevice.isValidated ? ["VK_LAYER_KHRONOS_validation", "VK_EXT_debug_utils"] : []
    let copies = names.map { strdup($0) }
    defer { for copy in copies { free(copy) } }
    let layers = copies.prefix(1).map { UnsafePointer($0) }
    let extensions = copies.dropFirst().map { UnsafePointer($0) }
    var instance: VkInstance?
    let result = withUnsafePointer(to: application) { application in
      layers.withUnsafeBufferPointer { layers in
        extensions.withUnsafeBufferPointer { extensions in
          var info = VkInstanceCreateInfo()
          info.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO
          info.pApplicationInfo = application
          info.enabledLayerCount = UInt32(layers.count)
          info.ppEnabledLayerNames = layers.baseAddress
          info.enabledExtensionCount = UInt32(extensions.count)
          info.ppEnabledExtensionNames = extensions.baseAddress
          return create(&info, nil, &instance)
        }
      }
    }
    guard result == VK_SUCCESS, let instance else {
      throw Failure(function: "vkCreateInstance", result: result.rawValue)
    }
    return instance
  }

  private static func makeDevice(
    _ function: Functions, _ physical: VkPhysicalDevice, _ family: UInt32, _ extensions: [String]
  ) throws -> VkDevice {
    var features = VkPhysicalDeviceFeatures2()
    features.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2
    features.features.shaderInt64 = 1
    var features11 = VkPhysicalDeviceVulkan11Features()
    features11.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES
    features11.storageBuffer16BitAccess = 1
    var features12 = VkPhysicalDeviceVulkan12Features()
    features12.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES
    features12.bufferDeviceAddress = 1
    features12.timelineSemaphore = 1
    features12.scalarBlockLayout = 1
    let create = try function("vkCreateDevice", PFN_vkCreateDevice.self)
    let copies = extensions.map { strdup($0) }
    defer { for copy in copies { free(copy) } }
    let names = copies.map { UnsafePointer($0) }
    var device: VkDevice?
    var priority: Float = 1
    let result = withUnsafeMutablePointer(to: &features12) { features12 in
      withUnsafeMutablePointer(to: &features11) { features11 in
        features11.pointee.pNext = UnsafeMutableRawPointer(features12)
        features.pNext = UnsafeMutableRawPointer(features11)
        return withUnsafePointer(to: &features) { features in
          withUnsafePointer(to: &priority) { priority in
            var queue = VkDeviceQueueCreateInfo()
            queue.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO
            queue.queueFamilyIndex = family
            queue.queueCount = 1
            queue.pQueuePriorities = priority
            return withUnsafePointer(to: queue) { queue in
              names.withUnsafeBufferPointer { names in
                var info = VkDeviceCreateInfo()
                info.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO
                info.pNext = UnsafeRawPointer(features)
                info.queueCreateInfoCount = 1
                info.pQueueCreateInfos = queue
                info.enabledExtensionCount = UInt32(names.count)
                info.ppEnabledExtensionNames = names.baseAddress
                return create(physical, &info, nil, &device)
              }
            }
          }
        }
      }
    }
    guard result == VK_SUCCESS, let device else {
      throw Failure(function: "vkCreateDevice", result: result.rawValue)
    }
    return device
  }

  private func memoryType(_ allowed: UInt32) throws -> UInt32 {
    var properties = VkPhysicalDeviceMemoryProperties()
    try functions(
      "vkGetPhysicalDeviceMemoryProperties", PFN_vkGetPhysicalDeviceMemoryProperties.self)(
        physicalDevice, &properties)
    let wanted =
      VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT.rawValue | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT.rawValue
    let found = withUnsafeBytes(of: properties.memoryTypes) { bytes in
      bytes.bindMemory(to: VkMemoryType.self).prefix(Int(properties.memoryTypeCount))
        .enumerated().first { index, type in
          allowed & 1 << UInt32(index) != 0 && type.propertyFlags & wanted == wanted
        }?.offset
    }
    guard let found else { throw Failure(function: "a host-coherent memory type", result: 0) }
    return UInt32(found)
  }
}

private func check(_ result: VkResult, _ function: String) throws {
  guard result == VK_SUCCESS else {
    throw RawVulkan.Failure(function: function, result: result.rawValue)
  }
}
