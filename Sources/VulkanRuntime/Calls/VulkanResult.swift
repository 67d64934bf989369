internal import CVulkan

/// The result of a Vulkan call, by its number.
///
/// A struct instead of an enum, so that results of extensions that this library does not know keep
/// their number. Negative values are errors.
public struct VulkanResult: RawRepresentable, Hashable, Sendable {
  /// The number as Vulkan's headers define it.
  public let rawValue: Int32

  /// Wraps a number as Vulkan's headers define it.
  public init(rawValue: Int32) {
    self.rawValue = rawValue
  }

  init(_ result: VkResult) {
    rawValue = result.rawValue
  }

  /// The C constant is `VK_SUCCESS`.
  public static let success = VulkanResult(rawValue: 0)
  /// The C constant is `VK_NOT_READY`.
  public static let notReady = VulkanResult(rawValue: 1)
  /// The C constant is `VK_TIMEOUT`.
  public static let timeout = VulkanResult(rawValue: 2)
  /// The C constant is `VK_INCOMPLETE`.
  public static let incomplete = VulkanResult(rawValue: 5)
  /// The C constant is `VK_ERROR_OUT_OF_HOST_MEMORY`.
  public static let outOfHostMemory = VulkanResult(rawValue: -1)
  /// The C constant is `VK_ERROR_OUT_OF_DEVICE_MEMORY`.
  public static let outOfDeviceMemory = VulkanResult(rawValue: -2)
  /// The C constant is `VK_ERROR_INITIALIZATION_FAILED`.
  public static let initializationFailed = VulkanResult(rawValue: -3)
  /// The C constant is `VK_ERROR_DEVICE_LOST`.
  public static let deviceLost = VulkanResult(rawValue: -4)
  /// The C constant is `VK_ERROR_MEMORY_MAP_FAILED`.
  public static let memoryMapFailed = VulkanResult(rawValue: -5)
  /// The C constant is `VK_ERROR_LAYER_NOT_PRESENT`.
  public static let layerNotPresent = VulkanResult(rawValue: -6)
  /// The C constant is `VK_ERROR_EXTENSION_NOT_PRESENT`.
  public static let extensionNotPresent = VulkanResult(rawValue: -7)
  /// The C constant is `VK_ERROR_FEATURE_NOT_PRESENT`.
  public static let featureNotPresent = VulkanResult(rawValue: -8)
  /// The C constant is `VK_ERROR_INCOMPATIBLE_DRIVER`.
  public static let incompatibleDriver = VulkanResult(rawValue: -9)
  /// The C constant is `VK_ERROR_TOO_MANY_OBJECTS`.
  public static let tooManyObjects = VulkanResult(rawValue: -10)
  /// The C constant is `VK_ERROR_INVALID_OPAQUE_CAPTURE_ADDRESS`.
  public static let invalidOpaqueCaptureAddress = VulkanResult(rawValue: -1_000_257_000)

  private static let names: [VulkanResult: String] = [
    .success: "VK_SUCCESS",
    .notReady: "VK_NOT_READY",
    .timeout: "VK_TIMEOUT",
    .incomplete: "VK_INCOMPLETE",
    .outOfHostMemory: "VK_ERROR_OUT_OF_HOST_MEMORY",
    .outOfDeviceMemory: "VK_ERROR_OUT_OF_DEVICE_MEMORY",
    .initializationFailed: "VK_ERROR_INITIALIZATION_FAILED",
    .deviceLost: "VK_ERROR_DEVICE_LOST",
    .memoryMapFailed: "VK_ERROR_MEMORY_MAP_FAILED",
    .layerNotPresent: "VK_ERROR_LAYER_NOT_PRESENT",
    .extensionNotPresent: "VK_ERROR_EXTENSION_NOT_PRESENT",
    .featureNotPresent: "VK_ERROR_FEATURE_NOT_PRESENT",
    .incompatibleDriver: "VK_ERROR_INCOMPATIBLE_DRIVER",
    .tooManyObjects: "VK_ERROR_TOO_MANY_OBJECTS",
    .invalidOpaqueCaptureAddress: "VK_ERROR_INVALID_OPAQUE_CAPTURE_ADDRESS",
  ]
}

extension VulkanResult: CustomStringConvertible {
  /// The C constant's name, or the number where this library does not know it.
  public var description: String {
    Self.names[self] ?? "VkResult \(rawValue)"
  }
}
