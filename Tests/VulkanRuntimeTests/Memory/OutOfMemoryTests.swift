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

  @Test("A limit bounds what is held, and what nobody uses gives way")
  func memoryLimit() async throws {
    var options = TestDevice.options()
    options.memoryLimit = 1 << 20
    let device = try ComputeDevice.open(.best, options: options)
    // Less than a block of the pool: buffers get blocks of their own size.
    let first = try device.makeBuffer(byteCount: 600 << 10)
    #expect(device.reservedByteCount == 600 << 10)
    #expect(
      throws: VulkanError.limitExceeded(
        what: "bytes of device memory, with keys", requested: 1100 << 10, allowed: 1 << 20)
    ) { try device.makeBuffer(byteCount: 500 << 10, label: "keys") }
    #expect(!device.isLost)
    #expect(first.byteCount == 600 << 10)
    var second: DeviceBuffer? = try device.makeBuffer(byteCount: 400 << 10, purpose: .upload)
    #expect(second != nil && device.reservedByteCount <= 1 << 20)
    second = nil
    // The empty block of another purpose is not in the way.
    let third = try device.makeBuffer(byteCount: 420 << 10, purpose: .readback)
    #expect(third.byteCount == 420 << 10 && device.reservedByteCount <= 1 << 20)
    #expect(throws: VulkanError.self) { try device.makeBuffer(byteCount: 1 << 40) }
  }
}
