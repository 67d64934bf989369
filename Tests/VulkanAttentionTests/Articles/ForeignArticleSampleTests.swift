import Foundation
import Synchronization
import TestSupport
import Testing
import VulkanAttention

/// What the article on an app's own Vulkan shows, run; see `ArticleTextTests`.
@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct ForeignArticleSampleTests {
  private func isSignalled(_ semaphore: DispatchSemaphore) -> Bool {
    semaphore.wait(timeout: .now() + 10) == .success
  }

  @Test("A device and a buffer of the app's own")
  func deviceAndBuffer() async throws {
    let raw = try RawVulkan(index: TestDevice.shared().capabilities.index)
    let (instance, physicalDevice) = (raw.instance, raw.physicalDevice)
    let (device, queue, queueFamilyIndex) = (raw.device, raw.queue, raw.queueFamilyIndex)
    let extensions = raw.extensions
    let queueLock = Mutex(())
    let teardown = DispatchSemaphore(value: 0)
    let keyByteCount = 1024
    let slabByteCount = 4096 + keyByteCount + ComputeDevice.readableTailByteCount
    let owned = try raw.makeBuffer(byteCount: slabByteCount, filledWith: 7)
    let (slab, usage) = (owned.handle, owned.usage)
    do {
      var foreign = ForeignDevice(
        instance: instance, physicalDevice: physicalDevice, device: device, queue: queue,
        queueFamilyIndex: queueFamilyIndex,
        apiVersion: 1 << 22 | 2 << 12,  // 1.2, as in your VkApplicationInfo
        enabledFeatures: Set(DeviceCapabilities.requiredFeatures),
        enabledExtensions: extensions)
      foreign.queueAccess = { body in queueLock.withLock { _ in body() } }
      foreign.released = { teardown.signal() }
      let compute = try ComputeDevice(adopting: foreign)

      let keys = try compute.adopt(
        ForeignBuffer(
          slab, bufferByteCount: slabByteCount, usage: usage, byteOffset: 4096,
          byteCount: keyByteCount))

      let bytes = try await compute.download(UInt8.self, from: keys)
      #expect(bytes == [UInt8](repeating: 7, count: keyByteCount))
    }
    #expect(isSignalled(teardown))
    try raw.destroy(owned)
  }

  @Test(
    "Memory of the app's own",
    .enabled(
      if: (try? TestDevice.shared().capabilities.has(.externalMemoryHost)) == true,
      "the device lacks VK_EXT_external_memory_host"))
  func memory() async throws {
    let compute = try TestDevice.shared()
    let weightByteCount = 1000

    // With the tail, in whole pages.
    let byteCount = try compute.importedByteCount(for: weightByteCount)
    nonisolated(unsafe) let pages = mmap(
      nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)!
    let weights = try compute.importMemory(
      at: pages, availableByteCount: byteCount, byteCount: weightByteCount
    ) { munmap(pages, byteCount) }

    pages.storeBytes(of: 0x0102_0304, toByteOffset: 8, as: UInt32.self)
    let words = try await compute.download(UInt32.self, from: weights)
    #expect(words.count == 250 && words[2] == 0x0102_0304 && words[0] == 0)
  }
}
