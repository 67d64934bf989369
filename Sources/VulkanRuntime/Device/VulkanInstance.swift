internal import CVulkan

/// A connection to the Vulkan loader: finds devices, and carries the validation layers on request.
public final class VulkanInstance: @unchecked Sendable {
  // Unchecked: the handles are set once in `init`, and Vulkan allows their use from any thread.
  let handle: VkInstance
  let calls: InstanceCalls
  private let messenger: VkDebugUtilsMessengerEXT?
  /// Whether the instance is destroyed with this object.
  private let isOwned: Bool

  /// What the validation layers say, where they were asked for.
  public let validationLog: ValidationLog?

  static let validationLayer = "VK_LAYER_KHRONOS_validation"

  /// Opens the loader and makes an instance.
  ///
  /// - Parameter validationLog: turns the validation layers on, with synchronization validation, and
  ///   receives what they say.
  /// - Throws: `loaderMissing`, `noDriver`, `validationLayerMissing`, or the failed call.
  public convenience init(validationLog: ValidationLog? = nil) throws(VulkanError) {
    try self.init(loader: VulkanLoader(), validationLog: validationLog)
  }

  /// As the public initialiser, with the names of the loader's library to try.
  package convenience init(
    loaderLibraries: [String], validationLog: ValidationLog? = nil
  ) throws(VulkanError) {
    try self.init(loader: VulkanLoader(libraries: loaderLibraries), validationLog: validationLog)
  }

  init(loader: VulkanLoader, validationLog: ValidationLog?) throws(VulkanError) {
    let (instance, calls) = try Self.makeInstance(loader: loader, validationLog: validationLog)
    handle = instance
    isOwned = true
    self.calls = calls
    self.validationLog = validationLog
    messenger = validationLog.flatMap { log in
      var info = log.messengerInfo()
      var messenger: VkDebugUtilsMessengerEXT?
      _ = calls.vkCreateDebugUtilsMessengerEXT?(instance, &info, nil, &messenger)
      return messenger
    }
  }

  /// An app's own instance, which is left alone at the end.
  init(adopting instance: VkInstance, loader: VulkanLoader) throws(VulkanError) {
    handle = instance
    isOwned = false
    calls = try InstanceCalls(loader: loader, instance: instance)
    validationLog = nil
    messenger = nil
  }

  deinit {
    guard isOwned else { return }
    if let messenger { calls.vkDestroyDebugUtilsMessengerEXT?(handle, messenger, nil) }
    calls.vkDestroyInstance(handle, nil)
  }

  /// Every device of the loader that runs compute shaders, in the loader's order.
  public func devices() throws(VulkanError) -> [DeviceCapabilities] {
    var found: [DeviceCapabilities] = []
    for (index, device) in try physicalDevices().enumerated() {
      found.append(try DeviceProbe(device, calls: calls).capabilities(index: index))
    }
    return found
  }

  func physicalDevices() throws(VulkanError) -> [VkPhysicalDevice] {
    // An optional element, for a handle has no empty value.
    let found: [VkPhysicalDevice?] = try vulkanArray(
      of: "vkEnumeratePhysicalDevices", filledWith: nil
    ) { calls.vkEnumeratePhysicalDevices(handle, $0, $1) }
    return found.compactMap(\.self)
  }

  private static func makeInstance(
    loader: VulkanLoader, validationLog: ValidationLog?
  ) throws(VulkanError) -> (VkInstance, InstanceCalls) {
    let extensions = try instanceExtensions(loader)
    var application = VkApplicationInfo()
    application.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO
    application.apiVersion = min(try loaderVersion(loader), vulkanVersion(1, 3))
    guard application.apiVersion >= vulkanVersion(1, 2) else {
      throw .functionMissing(name: "Vulkan 1.2 (the loader is older)")
    }

    let chain = StructureChain()
    var layers: [String] = []
    var enabled: [String] = []
    var flags: UInt32 = 0
    if extensions.contains("VK_KHR_portability_enumeration") {
      // Without it the loader hides MoltenVK.
      enabled.append("VK_KHR_portability_enumeration")
      flags |= 1
    }
    let synchronization = UnsafeMutablePointer<VkValidationFeatureEnableEXT>.allocate(capacity: 1)
    defer { synchronization.deallocate() }
    if let validationLog {
      guard try instanceLayers(loader).contains(validationLayer) else {
        throw .validationLayerMissing
      }
      layers.append(validationLayer)
      enabled.append("VK_EXT_debug_utils")
      chain.append(validationLog.messengerInfo())
      synchronization.initialize(to: VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT)
      var features = VkValidationFeaturesEXT()
      features.sType = VK_STRUCTURE_TYPE_VALIDATION_FEATURES_EXT
      features.enabledValidationFeatureCount = 1
      features.pEnabledValidationFeatures = UnsafePointer(synchronization)
      chain.append(features)
    }

    var instance: VkInstance?
    let create = try loader.function("vkCreateInstance", of: nil, as: PFN_vkCreateInstance.self)
    let result = withUnsafePointer(to: application) { application in
      withCStrings(layers) { layers in
        withCStrings(enabled) { enabled in
          var info = VkInstanceCreateInfo()
          info.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO
          info.pNext = UnsafeRawPointer(chain.head)
          info.flags = flags
          info.pApplicationInfo = application
          info.enabledLayerCount = UInt32(layers.count)
          info.ppEnabledLayerNames = layers.baseAddress
          info.enabledExtensionCount = UInt32(enabled.count)
          info.ppEnabledExtensionNames = enabled.baseAddress
          return VulkanResult(create(&info, nil, &instance))
        }
      }
    }
    // The loader's way to say that it found no driver at all.
    if result == .incompatibleDriver { throw .noDriver }
    guard result == .success, let instance else {
      throw .callFailed(function: "vkCreateInstance", result: result)
    }
    do throws(VulkanError) {
      return (instance, try InstanceCalls(loader: loader, instance: instance))
    } catch {
      loader.optionalFunction(
        "vkDestroyInstance", of: instance, as: PFN_vkDestroyInstance.self)?(instance, nil)
      throw error
    }
  }

  private static func loaderVersion(_ loader: VulkanLoader) throws(VulkanError) -> UInt32 {
    let enumerate = try loader.function(
      "vkEnumerateInstanceVersion", of: nil, as: PFN_vkEnumerateInstanceVersion.self)
    var version: UInt32 = 0
    let result = VulkanResult(enumerate(&version))
    guard result == .success else {
      throw .callFailed(function: "vkEnumerateInstanceVersion", result: result)
    }
    return version
  }

  private static func instanceExtensions(
    _ loader: VulkanLoader
  ) throws(VulkanError) -> Set<String> {
    let enumerate = try loader.function(
      "vkEnumerateInstanceExtensionProperties", of: nil,
      as: PFN_vkEnumerateInstanceExtensionProperties.self)
    let properties = try vulkanArray(
      of: "vkEnumerateInstanceExtensionProperties", filledWith: VkExtensionProperties()
    ) { enumerate(nil, $0, $1) }
    return Set(properties.map { text($0.extensionName) })
  }

  private static func instanceLayers(_ loader: VulkanLoader) throws(VulkanError) -> Set<String> {
    let enumerate = try loader.function(
      "vkEnumerateInstanceLayerProperties", of: nil,
      as: PFN_vkEnumerateInstanceLayerProperties.self)
    let properties = try vulkanArray(
      of: "vkEnumerateInstanceLayerProperties", filledWith: VkLayerProperties()
    ) { enumerate($0, $1) }
    return Set(properties.map { text($0.layerName) })
  }
}

/// A version number as Vulkan packs it.
func vulkanVersion(_ major: UInt32, _ minor: UInt32, _ patch: UInt32 = 0) -> UInt32 {
  major << 22 | minor << 12 | patch
}

/// Calls `body` with the strings as a C array of C strings, which live until it returns.
func withCStrings<Result>(
  _ strings: [String], _ body: (UnsafeBufferPointer<UnsafePointer<CChar>?>) -> Result
) -> Result {
  let copies = strings.map { string in
    let characters = Array(string.utf8CString)
    let copy = UnsafeMutablePointer<CChar>.allocate(capacity: characters.count)
    copy.initialize(from: characters, count: characters.count)
    return copy
  }
  defer { for copy in copies { copy.deallocate() } }
  return copies.map { UnsafePointer<CChar>?($0) }.withUnsafeBufferPointer(body)
}
