import CVulkan
import Foundation
import Synchronization
import TestSupport

@testable import VulkanRuntime

/// A device whose work is not seen to be done before a gate is opened: a wait in a test then lasts as
/// long as the test wants it to, on any machine.
struct GatedDevice {
  /// The device; its gate is open at first.
  let device: ComputeDevice

  /// The handles of all devices whose gate is closed, for functions without a context.
  private static let closed = Mutex<Set<UInt>>([])
  private static let calls = Mutex<DeviceCalls?>(nil)

  init() throws {
    device = try ComputeDevice.open(.best, options: TestDevice.options()) { calls in
      let original = calls
      Self.calls.withLock { $0 = original }
      calls.vkGetSemaphoreCounterValue = { device, semaphore, value in
        guard let calls = GatedDevice.calls.withLock({ $0 }) else { return VK_ERROR_UNKNOWN }
        // Tests close the gate before they submit anything, so nothing is done yet.
        let isClosed = GatedDevice.isClosed(device)
        let result = calls.vkGetSemaphoreCounterValue(device, semaphore, value)
        if isClosed { value?.pointee = 0 }
        return result
      }
      calls.vkWaitSemaphores = { device, info, nanoseconds in
        guard let calls = GatedDevice.calls.withLock({ $0 }) else { return VK_ERROR_UNKNOWN }
        let start = ContinuousClock.now
        while GatedDevice.isClosed(device) {
          if (ContinuousClock.now - start) / .nanoseconds(1) >= Double(nanoseconds) {
            return VK_TIMEOUT
          }
          usleep(200)
        }
        return calls.vkWaitSemaphores(device, info, nanoseconds)
      }
    }
    // Another device had the handle before.
    openGate()
  }

  /// From now on nothing is seen to be done; for a device that has done nothing yet.
  func closeGate() {
    let handle = UInt(bitPattern: device.logical.handle)
    _ = Self.closed.withLock { $0.insert(handle) }
  }

  /// What is done is seen to be done.
  func openGate() {
    let handle = UInt(bitPattern: device.logical.handle)
    _ = Self.closed.withLock { $0.remove(handle) }
  }

  private static func isClosed(_ device: VkDevice?) -> Bool {
    let handle = UInt(bitPattern: device)
    return closed.withLock { $0.contains(handle) }
  }
}
