internal import CVulkan

#if canImport(Glibc)
  internal import Glibc
#elseif canImport(Musl)
  internal import Musl
#else
  internal import Darwin
#endif

/// The Vulkan loader, opened at run time.
///
/// Immutable after `init`: function pointers of a library that is never closed.
struct VulkanLoader: @unchecked Sendable {
  let getInstanceProcAddress: PFN_vkGetInstanceProcAddr

  #if canImport(Darwin)
    static let defaultLibraries = ["libvulkan.1.dylib", "libvulkan.dylib", "libMoltenVK.dylib"]
  #else
    static let defaultLibraries = ["libvulkan.so.1", "libvulkan.so"]
  #endif

  init(libraries: [String] = defaultLibraries) throws(VulkanError) {
    var reason = "no library named"
    for library in libraries {
      // Never closed: drivers leave threads behind that outlive an instance.
      guard let handle = dlopen(library, RTLD_NOW | RTLD_LOCAL) else {
        reason = dlerror().map { String(cString: $0) } ?? "unknown reason"
        continue
      }
      guard let symbol = dlsym(handle, "vkGetInstanceProcAddr") else {
        reason = "\(library) has no vkGetInstanceProcAddr"
        continue
      }
      getInstanceProcAddress = unsafeBitCast(symbol, to: PFN_vkGetInstanceProcAddr.self)
      return
    }
    throw .loaderMissing(tried: libraries, reason: reason)
  }

  /// The loader of an app, by its `vkGetInstanceProcAddr`.
  init(getInstanceProcAddress: PFN_vkGetInstanceProcAddr) {
    self.getInstanceProcAddress = getInstanceProcAddress
  }

  /// The function of that name, for an instance or (with nil) for the loader itself.
  func function<F>(
    _ name: String, of instance: VkInstance?, as type: F.Type
  ) throws(VulkanError) -> F {
    guard let pointer = getInstanceProcAddress(instance, name) else {
      throw .functionMissing(name: name)
    }
    return unsafeBitCast(pointer, to: F.self)
  }

  /// The function of that name, or nil where the instance does not have it.
  func optionalFunction<F>(_ name: String, of instance: VkInstance?, as type: F.Type) -> F? {
    getInstanceProcAddress(instance, name).map { unsafeBitCast($0, to: F.self) }
  }
}
