import CVulkan
import Foundation
import Synchronization
import TestSupport
import Testing

@testable import VulkanRuntime

/// Buffers over memory that the tests own.
@Suite(
  .serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation,
  .enabled(
    if: (try? TestDevice.shared().capabilities.has(.externalMemoryHost)) == true,
    "the device lacks VK_EXT_external_memory_host"))
struct HostMemoryImportTests {
  let device: ComputeDevice
  private let alignment: Int

  init() throws {
    device = try TestDevice.open()
    alignment = try #require(device.capabilities.hostPointerAlignment)
  }

  /// Memory at a multiple of the device's alignment.
  private final class Pages: Sendable {
    nonisolated(unsafe) let pointer: UnsafeMutableRawPointer
    let byteCount: Int

    init(byteCount: Int, alignment: Int) {
      pointer = .allocate(byteCount: byteCount, alignment: alignment)
      self.byteCount = byteCount
      pointer.initializeMemory(as: UInt8.self, repeating: 0x22, count: byteCount)
    }

    deinit { pointer.deallocate() }

    func words(_ range: Range<Int>) -> [UInt32] {
      range.map { pointer.load(fromByteOffset: $0 * 4, as: UInt32.self) }
    }
  }

  private func pages(for byteCount: Int, extra: Int = 0) throws -> Pages {
    Pages(
      byteCount: try device.importedByteCount(for: byteCount) + extra * alignment,
      alignment: alignment)
  }

  private func makeBuffer(
    over pages: Pages, byteCount: Int, at offset: Int = 0,
    released: (@Sendable () -> Void)? = nil
  ) throws -> DeviceBuffer {
    try device.importMemory(
      at: pages.pointer + offset, availableByteCount: pages.byteCount - offset,
      byteCount: byteCount, label: "pages", released: released)
  }

  @Test("Results appear in the app's memory, and inputs come from it, without a copy")
  func zeroCopy() async throws {
    let input = try pages(for: 4000)
    let output = try pages(for: 4000)
    for index in 0..<1000 {
      input.pointer.storeBytes(of: UInt32(index), toByteOffset: index * 4, as: UInt32.self)
    }
    let source = try makeBuffer(over: input, byteCount: 4000)
    let target = try makeBuffer(over: output, byteCount: 4000)
    #expect(source.byteCount == 4000 && source.label == "pages" && source.isHostVisible)
    let recorder = try device.makeRecorder()
    try MultiplyAdd.record(from: source, to: target, on: device, into: recorder)
    try await device.submit(recorder).completed()
    #expect(output.words(0..<1000) == (0..<1000).map { $0 * 3 })
    #expect(output.words(1000..<1001) == [0x2222_2222])
    // Nothing was staged.
    #expect(device.reservedByteCount == 0)
    // What the app writes afterwards is what the next work reads.
    input.pointer.storeBytes(of: 100, as: UInt32.self)
    let second = try device.makeRecorder()
    try second.copy(from: source.slice(0..<4), to: target.slice(8..<12))
    try device.submit(second).wait()
    #expect(output.words(0..<3) == [0, 3, 100])
  }

  @Test("The memory is the app's again behind the last use")
  func released() throws {
    let releases = Atomic(0)
    let memory = try pages(for: 64)
    do {
      let buffer = try makeBuffer(over: memory, byteCount: 64) {
        releases.add(1, ordering: .relaxed)
      }
      let recorder = try device.makeRecorder()
      try recorder.fill(buffer, with: 3)
      let submission = try device.submit(recorder)
      #expect(releases.load(ordering: .relaxed) == 0)
      try submission.wait()
    }
    #expect(releases.load(ordering: .relaxed) == 1)
    #expect(memory.words(0..<1) == [3])
    // And can be imported again.
    #expect(try makeBuffer(over: memory, byteCount: 64).byteCount == 64)
  }

  @Test("Memory that is imported already is refused, its neighbour is not")
  func importedTwice() throws {
    let memory = try pages(for: 64, extra: 8)
    let first = try makeBuffer(over: memory, byteCount: 64)
    let error = VulkanError.notAdoptable(
      what: "the memory of pages", reason: "a part of it is imported already; slice that")
    #expect(throws: error) { try makeBuffer(over: memory, byteCount: 8) }
    let size = try device.importedByteCount(for: 64)
    #expect(throws: error) { try makeBuffer(over: memory, byteCount: 8, at: size - alignment) }
    let next = try makeBuffer(over: memory, byteCount: 8, at: size)
    #expect(!first.overlaps(next))
  }

  @Test("An address that is not aligned is refused")
  func misaligned() throws {
    let memory = try pages(for: 64, extra: 2)
    for offset in [1, 4, alignment / 2, alignment - 1] {
      let address = UInt64(UInt(bitPattern: memory.pointer + offset))
      let error = VulkanError.misaligned(
        what: "the address of the memory of pages", value: address, alignment: alignment)
      #expect(throws: error) { try makeBuffer(over: memory, byteCount: 64, at: offset) }
    }
    #expect(try makeBuffer(over: memory, byteCount: 64, at: alignment).byteCount == 64)
  }

  @Test("Memory that is too small for the rounded size is refused")
  func tooSmall() throws {
    let memory = try pages(for: 64)
    for available in [0, -1, 64, memory.byteCount - 1, .min] {
      let error = #expect(throws: VulkanError.self) {
        try device.importMemory(
          at: memory.pointer, availableByteCount: available, byteCount: 64, label: "pages")
      }
      guard case .outOfBounds(_, memory.byteCount, available) = error else {
        Issue.record("another error: \(String(describing: error))")
        continue
      }
    }
    for size in [-1, Int.min] {
      #expect(
        throws: VulkanError.outOfBounds(
          what: "imported memory", requestedBytes: size, availableBytes: 0)
      ) { try makeBuffer(over: memory, byteCount: size) }
    }
    for size in [Int.max, .max / 2, .max - 4096] {
      let error = #expect(throws: VulkanError.self) {
        try makeBuffer(over: memory, byteCount: size)
      }
      guard case .limitExceeded(_, size, _) = error else {
        Issue.record("another error: \(String(describing: error))")
        continue
      }
    }
    #expect(try device.importedByteCount(for: 0) == (4096 + alignment - 1) / alignment * alignment)
  }

  @Test("A device without the extension says so")
  func withoutTheExtension() throws {
    let raw = try RawVulkan(index: device.capabilities.index)
    var options = ComputeDevice.Options()
    options.pipelineCacheDirectory = nil
    let plain = try ComputeDevice(adopting: raw.foreign(), options: options)
    let error = VulkanError.missingFeatures(
      device: device.capabilities.name, features: ["externalMemoryHost"])
    #expect(throws: error) { try plain.importedByteCount(for: 64) }
    let memory = try pages(for: 64)
    #expect(throws: error) {
      try plain.importMemory(
        at: memory.pointer, availableByteCount: memory.byteCount, byteCount: 64)
    }
    #expect(throws: error) { try plain.importedByteCount(for: -1) }
  }

  @Test("An app's own device imports with the extension that the app enabled")
  func ownDevice() throws {
    let name = "VK_EXT_external_memory_host"
    let raw = try RawVulkan(index: device.capabilities.index, extensions: [name])
    var options = ComputeDevice.Options()
    options.pipelineCacheDirectory = nil
    let features = Set(DeviceCapabilities.requiredFeatures).union([.externalMemoryHost])
    let own = try ComputeDevice(adopting: raw.foreign(features: features), options: options)
    let memory = try pages(for: 64)
    let buffer = try own.importMemory(
      at: memory.pointer, availableByteCount: memory.byteCount, byteCount: 64)
    let recorder = try own.makeRecorder()
    try recorder.fill(buffer, with: 12)
    try own.submit(recorder).wait()
    #expect(memory.words(0..<16) == [UInt32](repeating: 12, count: 16))
    #expect(RawVulkan.drainMessages() == [])
  }

  @Test("A failed import leaves nothing behind")
  func failedImport() throws {
    let device = try ComputeDevice.open(.best, options: TestDevice.options()) { calls in
      calls.vkAllocateMemory = { _, _, _, _ in VK_ERROR_OUT_OF_HOST_MEMORY }
    }
    let memory = try pages(for: 64)
    let releases = Atomic(0)
    for _ in 0..<2 {
      // The second time shows that the first did not keep the range.
      let error = VulkanError.outOfMemory(
        requestedBytes: memory.byteCount, purpose: "pages", result: .outOfHostMemory)
      #expect(throws: error) {
        try device.importMemory(
          at: memory.pointer, availableByteCount: memory.byteCount, byteCount: 64,
          label: "pages", released: { releases.add(1, ordering: .relaxed) })
      }
    }
    #expect(releases.load(ordering: .relaxed) == 0)
  }
}
