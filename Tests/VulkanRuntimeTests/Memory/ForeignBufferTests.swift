import CVulkan
import Synchronization
import TestSupport
import Testing

@testable import VulkanRuntime

/// Buffers of an app's own on a device of its own.
@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct ForeignBufferTests {
  let raw: RawVulkan
  let device: ComputeDevice
  private let tail = ComputeDevice.readableTailByteCount

  init() throws {
    raw = try RawVulkan(index: TestDevice.shared().capabilities.index)
    var options = ComputeDevice.Options()
    options.pipelineCacheDirectory = nil
    device = try ComputeDevice(adopting: raw.foreign(), options: options)
  }

  private func part(
    _ buffer: RawVulkan.Buffer, _ bytes: Range<Int>, isMapped: Bool = false
  ) -> ForeignBuffer {
    var foreign = ForeignBuffer(
      buffer.handle, bufferByteCount: buffer.byteCount, usage: buffer.usage,
      byteOffset: bytes.lowerBound, byteCount: bytes.count)
    if isMapped { foreign.mapped = buffer.mapped }
    return foreign
  }

  private func word(_ buffer: RawVulkan.Buffer, _ index: Int) -> UInt32 {
    buffer.mapped.loadUnaligned(fromByteOffset: index * 4, as: UInt32.self)
  }

  @Test("Kernels, copies and fills work in an app's buffer, and nowhere beside the part")
  func works() async throws {
    let buffer = try raw.makeBuffer(byteCount: 1024 + tail, filledWith: 0x11)
    do {
      let adopted = try device.adopt(part(buffer, 256..<320), label: "theirs")
      #expect(adopted.byteCount == 64 && adopted.label == "theirs" && !adopted.isHostVisible)
      // By staging buffers, for the app did not say where it is mapped.
      try await device.upload([UInt32](1...16), to: adopted)
      let recorder = try device.makeRecorder()
      try MultiplyAdd.record(from: adopted, to: adopted, on: device, into: recorder)
      try recorder.fill(adopted.slice(60..<64), with: 9)
      try await device.submit(recorder).completed()
      let expected = (1...15).map { UInt32($0 * 3) } + [9]
      #expect(try await device.download(UInt32.self, from: adopted) == expected)
      #expect((0..<16).map { word(buffer, 64 + $0) } == expected)
      #expect(word(buffer, 63) == 0x1111_1111 && word(buffer, 80) == 0x1111_1111)
    }
    // The app's memory is still its own.
    try raw.fill(buffer, with: 5)
    #expect(word(buffer, 64) == 5)
    try raw.destroy(buffer)
    #expect(RawVulkan.drainMessages() == [])
  }

  @Test("Who is told of a buffer's end may submit to the device")
  func releasedSubmits() throws {
    let buffer = try raw.makeBuffer(byteCount: 64 + tail)
    let hasSubmitted = Mutex(false)
    let submission: Submission
    do {
      var foreign = part(buffer, 0..<64)
      foreign.released = { [device] in
        let own = try? device.submit(device.makeRecorder())
        hasSubmitted.withLock { $0 = own != nil }
      }
      let recorder = try device.makeRecorder()
      try recorder.fill(device.adopt(foreign), with: 1)
      submission = try device.submit(recorder)
    }
    try submission.wait()
    #expect(hasSubmitted.withLock { $0 })
    try raw.destroy(buffer)
  }

  @Test("Where the app has the memory mapped, nothing is copied through other buffers")
  func mapped() async throws {
    let buffer = try raw.makeBuffer(byteCount: 64 + tail)
    let adopted = try device.adopt(part(buffer, 0..<64, isMapped: true))
    #expect(adopted.isHostVisible)
    try await device.upload([UInt32(7)], to: adopted)
    #expect(word(buffer, 0) == 7)
    #expect(device.reservedByteCount == 0)
    try raw.destroy(buffer)
  }

  @Test("Parts of one buffer are ordered and told apart like slices")
  func severalParts() async throws {
    let buffer = try raw.makeBuffer(byteCount: 512 + tail)
    let first = try device.adopt(part(buffer, 0..<128))
    let second = try device.adopt(part(buffer, 64..<192))
    let third = try device.adopt(part(buffer, 192..<256))
    #expect(first.overlaps(second) && second.overlaps(first))
    #expect(!first.overlaps(third) && !third.overlaps(second))
    #expect(second.address == first.address + 64)
    #expect(throws: VulkanError.overlappingCopy(source: "buffer", destination: "buffer")) {
      try device.makeRecorder().copy(from: first, to: second)
    }
    // Each step reads what the one before it wrote by the other part.
    let recorder = try device.makeRecorder()
    try recorder.fill(first, with: 1)
    for _ in 0..<8 {
      try MultiplyAdd.record(from: second, to: second, on: device, into: recorder)
      try MultiplyAdd.record(from: first, to: first, on: device, into: recorder)
    }
    try await device.submit(recorder).completed()
    #expect(word(buffer, 0) == 6561)
    #expect(word(buffer, 16) == 6561 * 6561)
    try raw.destroy(buffer)
    #expect(RawVulkan.drainMessages() == [])
  }

  @Test("The app hears of every part when its last use is over")
  func released() throws {
    let releases = Mutex<[Int]>([])
    let buffer = try raw.makeBuffer(byteCount: 256 + tail)
    func adopt(_ number: Int) throws -> DeviceBuffer {
      var foreign = part(buffer, 0..<64)
      foreign.released = { releases.withLock { $0.append(number) } }
      return try device.adopt(foreign)
    }
    var first: DeviceBuffer? = try adopt(1)
    var slice = try first?.slice(0..<4)
    var second: DeviceBuffer? = try adopt(2)
    first = nil
    #expect(releases.withLock { $0 } == [])
    slice = nil
    #expect(slice == nil && releases.withLock { $0 } == [1])
    if let second {
      let recorder = try device.makeRecorder()
      try recorder.fill(second, with: 1)
      try device.submit(recorder).wait()
    }
    second = nil
    #expect(releases.withLock { $0 } == [1, 2])
    try raw.destroy(buffer)
  }

  @Test("A null handle is refused")
  func nullHandle() {
    let error = VulkanError.notAdoptable(
      what: "the VkBuffer of keys", reason: "the handle is null")
    #expect(throws: error) {
      try device.adopt(
        ForeignBuffer(nil, bufferByteCount: 8192, usage: RawVulkan.fullUsage, byteCount: 64),
        label: "keys")
    }
  }

  @Test("A buffer without a usage is refused where that is needed")
  func usages() async throws {
    let address = VK_BUFFER_USAGE_SHADER_DEVICE_ADDRESS_BIT.rawValue
    let none = try raw.makeBuffer(byteCount: 64 + tail, usage: RawVulkan.fullUsage & ~address)
    #expect(
      throws: VulkanError.missingUsage(
        buffer: "k", usage: "VK_BUFFER_USAGE_SHADER_DEVICE_ADDRESS_BIT")
    ) { try device.adopt(part(none, 0..<64), label: "k") }
    let buffer = try raw.makeBuffer(byteCount: 64 + tail, usage: address)
    let adopted = try device.adopt(part(buffer, 0..<64), label: "k")
    let source = VulkanError.missingUsage(buffer: "k", usage: "VK_BUFFER_USAGE_TRANSFER_SRC_BIT")
    let target = VulkanError.missingUsage(buffer: "k", usage: "VK_BUFFER_USAGE_TRANSFER_DST_BIT")
    let own = try device.makeBuffer(byteCount: 64)
    let recorder = try device.makeRecorder()
    #expect(throws: source) { try recorder.copy(from: adopted, to: own) }
    #expect(throws: target) { try recorder.copy(from: own, to: adopted) }
    #expect(throws: target) { try recorder.fill(adopted, with: 1) }
    #expect(throws: target) { try recorder.update(adopted, with: [1, 2, 3, 4]) }
    await #expect(throws: target) { try await device.upload([UInt32(1)], to: adopted) }
    await #expect(throws: source) { try await device.download(UInt32.self, from: adopted) }
    // Kernels need no such usage.
    try MultiplyAdd.record(from: own, to: adopted, on: device, into: recorder)
    try device.submit(recorder).wait()
    try raw.destroy(buffer)
    try raw.destroy(none)
    #expect(RawVulkan.drainMessages() == [])
  }

  @Test(
    "Sizes out of range are refused",
    arguments: [
      (0, 65, 64), (1, 64, 64), (65, 0, 64), (0, Int.max, 64), (Int.max, Int.max, 64),
      (Int.max - 4096, 1, 64),
    ] as [(Int, Int, Int)])
  func sizes(offset: Int, count: Int, available: Int) throws {
    let buffer = try raw.makeBuffer(byteCount: 64 + tail)
    var foreign = part(buffer, 0..<64)
    #expect(try device.adopt(foreign).byteCount == 64)
    foreign.byteOffset = offset
    foreign.byteCount = count
    let error = #expect(throws: VulkanError.self) { try device.adopt(foreign, label: "q") }
    guard case .outOfBounds(_, let requested, let there) = error else {
      Issue.record("another error: \(String(describing: error))")
      return
    }
    #expect(there == available + tail && requested > there)
    try raw.destroy(buffer)
  }

  @Test(arguments: [(-1, 64, 8192), (0, -1, 8192), (0, 64, 0), (0, 64, -8192), (.min, .min, .min)])
  func negativeSizes(offset: Int, count: Int, bufferByteCount: Int) throws {
    let buffer = try raw.makeBuffer(byteCount: 8192)
    let error = #expect(throws: VulkanError.self) {
      try device.adopt(
        ForeignBuffer(
          buffer.handle, bufferByteCount: bufferByteCount, usage: buffer.usage,
          byteOffset: offset, byteCount: count))
    }
    guard case .notAdoptable("the VkBuffer of buffer", _) = error else {
      Issue.record("another error: \(String(describing: error))")
      return
    }
    try raw.destroy(buffer)
  }

  @Test("One buffer cannot be two")
  func describedOtherwise() throws {
    let buffer = try raw.makeBuffer(byteCount: 64 + tail)
    do {
      let adopted = try device.adopt(part(buffer, 0..<64))
      let error = VulkanError.notAdoptable(
        what: "the VkBuffer of buffer",
        reason: "it is in use here, described with another size, usage or mapping")
      #expect(throws: error) { try device.adopt(part(buffer, 0..<64, isMapped: true)) }
      #expect(adopted.byteCount == 64)
    }
    // Once it is out of use, it may be described anew.
    #expect(try device.adopt(part(buffer, 0..<64, isMapped: true)).isHostVisible)
    try raw.destroy(buffer)
  }
}
