import CVulkan
import Foundation
import Synchronization
import TestSupport

@testable import VulkanRuntime

/// A device whose work is not seen to be done before a gate is opened: a wait in a test then lasts as
/// long as the test wants it to, on any machine.
///
/// One gate for all: for serialized suites.
enum GatedDevice {
  private static let isOpen = Atomic(true)
  private static let calls = Mutex<DeviceCalls?>(nil)

  /// Opens a device; its gate is open.
  static func open() throws -> ComputeDevice {
    openGate()
    return try ComputeDevice.open(.best, options: TestDevice.options()) { calls in
      let original = calls
      Self.calls.withLock { $0 = original }
      calls.vkGetSemaphoreCounterValue = { device, semaphore, value in
        guard let calls = GatedDevice.calls.withLock({ $0 }) else { return VK_ERROR_UNKNOWN }
        // Tests close the gate before they submit anything, so nothing is done yet.
        let isOpen = GatedDevice.isOpen.load(ordering: .acquiring)
        let result = calls.vkGetSemaphoreCounterValue(device, semaphore, value)
        if !isOpen { value?.pointee = 0 }
        return result
      }
      calls.vkWaitSemaphores = { device, info, nanoseconds in
        guard let calls = GatedDevice.calls.withLock({ $0 }) else { return VK_ERROR_UNKNOWN }
        let start = ContinuousClock.now
        while !GatedDevice.isOpen.load(ordering: .acquiring) {
          if (ContinuousClock.now - start) / .nanoseconds(1) >= Double(nanoseconds) {
            return VK_TIMEOUT
          }
          usleep(200)
        }
        return calls.vkWaitSemaphores(device, info, nanoseconds)
      }
    }
  }

  /// From now on nothing is seen to be done; for a device that has done nothing yet.
  static func closeGate() { isOpen.store(false, ordering: .releasing) }

  /// What is done is seen to be done.
  static func openGate() { isOpen.store(true, ordering: .releasing) }
}
