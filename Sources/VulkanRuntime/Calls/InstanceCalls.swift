internal import CVulkan

/// The functions of one instance, looked up once.
struct InstanceCalls: @unchecked Sendable {
  let vkDestroyInstance: PFN_vkDestroyInstance
  let vkEnumeratePhysicalDevices: PFN_vkEnumeratePhysicalDevices
  let vkGetPhysicalDeviceProperties2: PFN_vkGetPhysicalDeviceProperties2
  let vkGetPhysicalDeviceFeatures2: PFN_vkGetPhysicalDeviceFeatures2
  let vkGetPhysicalDeviceMemoryProperties: PFN_vkGetPhysicalDeviceMemoryProperties
  let vkGetPhysicalDeviceQueueFamilyProperties: PFN_vkGetPhysicalDeviceQueueFamilyProperties
  let vkEnumerateDeviceExtensionProperties: PFN_vkEnumerateDeviceExtensionProperties
  let vkCreateDevice: PFN_vkCreateDevice
  let vkGetDeviceProcAddr: PFN_vkGetDeviceProcAddr
  // Nil where the instance or its devices lack the extension.
  let vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR:
    PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR?
  let vkGetPhysicalDeviceCooperativeMatrixFlexibleDimensionsPropertiesNV:
    PFN_vkGetPhysicalDeviceCooperativeMatrixFlexibleDimensionsPropertiesNV?
  let vkCreateDebugUtilsMessengerEXT: PFN_vkCreateDebugUtilsMessengerEXT?
  let vkDestroyDebugUtilsMessengerEXT: PFN_vkDestroyDebugUtilsMessengerEXT?

  init(loader: VulkanLoader, instance: VkInstance) throws(VulkanError) {
    vkDestroyInstance = try loader.function(
      "vkDestroyInstance", of: instance, as: PFN_vkDestroyInstance.self)
    vkEnumeratePhysicalDevices = try loader.function(
      "vkEnumeratePhysicalDevices", of: instance, as: PFN_vkEnumeratePhysicalDevices.self)
    vkGetPhysicalDeviceProperties2 = try loader.function(
      "vkGetPhysicalDeviceProperties2", of: instance, as: PFN_vkGetPhysicalDeviceProperties2.self)
    vkGetPhysicalDeviceFeatures2 = try loader.function(
      "vkGetPhysicalDeviceFeatures2", of: instance, as: PFN_vkGetPhysicalDeviceFeatures2.self)
    vkGetPhysicalDeviceMemoryProperties = try loader.function(
      "vkGetPhysicalDeviceMemoryProperties", of: instance,
      as: PFN_vkGetPhysicalDeviceMemoryProperties.self)
    vkGetPhysicalDeviceQueueFamilyProperties = try loader.function(
      "vkGetPhysicalDeviceQueueFamilyProperties", of: instance,
      as: PFN_vkGetPhysicalDeviceQueueFamilyProperties.self)
    vkEnumerateDeviceExtensionProperties = try loader.function(
      "vkEnumerateDeviceExtensionProperties", of: instance,
      as: PFN_vkEnumerateDeviceExtensionProperties.self)
    vkCreateDevice = try loader.function(
      "vkCreateDevice", of: instance, as: PFN_vkCreateDevice.self)
    vkGetDeviceProcAddr = try loader.function(
      "vkGetDeviceProcAddr", of: instance, as: PFN_vkGetDeviceProcAddr.self)
    vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR = loader.optionalFunction(
      "vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR", of: instance,
      as: PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR.self)
    vkGetPhysicalDeviceCooperativeMatrixFlexibleDimensionsPropertiesNV = loader.optionalFunction(
      "vkGetPhysicalDeviceCooperativeMatrixFlexibleDimensionsPropertiesNV", of: instance,
      as: PFN_vkGetPhysicalDeviceCooperativeMatrixFlexibleDimensionsPropertiesNV.self)
    vkCreateDebugUtilsMessengerEXT = loader.optionalFunction(
      "vkCreateDebugUtilsMessengerEXT", of: instance, as: PFN_vkCreateDebugUtilsMessengerEXT.self)
    vkDestroyDebugUtilsMessengerEXT = loader.optionalFunction(
      "vkDestroyDebugUtilsMessengerEXT", of: instance, as: PFN_vkDestroyDebugUtilsMessengerEXT.self)
  }
}

/// Reads a Vulkan array by the usual two calls: count, then fill.
///
/// Repeats while the driver says that the array grew in between.
func vulkanArray<Element>(
  of function: String, filledWith empty: Element,
  _ call: (UnsafeMutablePointer<UInt32>, UnsafeMutablePointer<Element>?) -> VkResult
) throws(VulkanError) -> [Element] {
  while true {
    var count: UInt32 = 0
    var result = VulkanResult(call(&count, nil))
    guard result == .success else { throw .callFailed(function: function, result: result) }
    if count == 0 { return [] }
    var elements = [Element](repeating: empty, count: Int(count))
    result = elements.withUnsafeMutableBufferPointer { VulkanResult(call(&count, $0.baseAddress)) }
    if result == .incomplete { continue }
    guard result == .success else { throw .callFailed(function: function, result: result) }
    return Array(elements.prefix(Int(count)))
  }
}

/// Text in one of Vulkan's fixed-size character arrays, which Swift sees as tuples.
func text<Characters>(_ characters: Characters) -> String {
  withUnsafeBytes(of: characters) { bytes in
    String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
  }
}
