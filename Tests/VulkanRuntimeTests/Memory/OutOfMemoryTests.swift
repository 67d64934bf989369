import CVulkan
import Synchronization
import TestSupport
import Testing

@testable import VulkanRuntime

@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct OutOfMemoryTests {
  private static let refuses = Atomic(false)
  private nonisolated(unsafe) static var allocate: PFN_vkAllocateMemory?

  @Test("A full device is a typed error, and works again once there is room")
  func fullDevice() async throws {
    let device = try ComputeDevice.open(.best, options: TestDevice.options()) { calls in
      Self.allocate = calls.vkAllocateMemory
      calls.vkAllocateMemory = { device, info, allocator, memory in
        if OutOfMemoryTests.refuses.load(ordering: .relaxed) {
          return VK_ERROR_OUT_OF_DEVICE_MEMORY
        }
        return OutOfMemoryTests.allocate?(device, info, allocator, memory)
          ?? VK_ERROR_INITIALIZATION_FAILED
      }
    }
    Self.refuses.store(true, ordering: .relaxed)
    defer { Self.refuses.store(false, ordering: .relaxed) }
    let error = #expect(throws: VulkanError.self) {
      try device.makeBuffer(byteCount: 1000, label: "keys")
    }
    guard case .outOfMemory(let requested, let purpose, let result) = error else {
      Issue.record("another error: \(String(describing: error))")
      return
    }
    #expect(requested >= 1000)
    #expect(purpose == "keys")
    #expect(result == .outOfDeviceMemory)
    #expect(!device.isLost)
    #expect(device.reservedByteCount == 0)

    Self.refuses.store(false, ordering: .relaxed)
    let buffer = try await device.makeBuffer([UInt32(3)])
    #expect(try await device.download(UInt32.self, from: buffer) == [3])
  }

  @Test(
    "No size crashes",
    arguments: [Int.max, .max - 4095, .max - 4096, .max - 8192, .max / 2, 1 << 60, 1 << 50])
  func absurdSizes(byteCount: Int) throws {
    let device = try TestDevice.shared()
    let error = #expect(throws: VulkanError.self) {
      try device.makeBuffer(byteCount: byteCount, label: "everything")
    }
    switch error {
    case .limitExceeded(let what, let requested, let allowed):
      #expect(what.contains("everything"))
      #expect(requested == byteCount && allowed < byteCount)
    case .outOfMemory(let requested, "everything", _): #expect(requested >= byteCount)
    default: Issue.record("another error: \(String(describing: error))")
    }
    #expect(!device.isLost)
  }
}
