internal import CVulkan
internal import Synchronization

/// A `VkQueue`, which Vulkan lets one thread use at a time.
///
/// Streams may share one; its lock is held around each use, inside of the app's own where the queue is an app's.
final class DeviceQueue: @unchecked Sendable {
  // Unchecked: the handle is used under the lock alone.
  private let handle: VkQueue
  private let lock = Mutex(())

  init(_ handle: VkQueue) {
    self.handle = handle
  }

  /// Runs `body` with the queue, while no one else of this library uses it.
  func use<Value>(_ body: (VkQueue) throws(VulkanError) -> Value) throws(VulkanError) -> Value {
    try lock.withLock { (_) throws(VulkanError) in try body(handle) }
  }
}
