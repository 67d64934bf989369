import Synchronization
import TestSupport
import Testing

@testable import VulkanAttention

/// Attention on an app's own device, in an app's own buffers and memory.
@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct ForeignAttentionTests {
  private let shape = AttentionCase(b: 2, s: 33, t: 65, h: 4, g: 2, d: 64, mask: .causal)
  private var options: ComputeDevice.Options {
    var options = ComputeDevice.Options()
    options.pipelineCacheDirectory = nil
    return options
  }

  private func expectClose(_ o: [Float], _ lse: [Float], to tensors: AttentionTensors) {
    let expected = tensors.reference()
    TestSupport.expectClose(o, to: expected.o, within: 1e-5, "o")
    expectEach(lse, within: 1e-3, of: expected.lse, "lse")
  }

  @Test("On an app's device, in its buffers, which live on")
  func foreignBuffers() async throws {
    let raw = try RawVulkan(index: TestDevice.shared().capabilities.index)
    let releases = Atomic(0)
    let tensors = AttentionTensors(shape, .f32)
    let request = try shape.request(.f32)
    // One slab for all tensors, as allocators of apps have it.
    let sizes = [
      tensors.q.count, tensors.k.count, tensors.v.count,
      request.byteCount(of: .output) / 4, request.logSumExpByteCount / 4,
    ].map { ($0 * 4 + 255) / 256 * 256 }
    let slab = try raw.makeBuffer(
      byteCount: sizes.reduce(0, +) + 65536 + ComputeDevice.readableTailByteCount,
      filledWith: 0xFF)
    func offset(_ index: Int) -> Int { sizes[..<index].reduce(0, +) }
    for (index, elements) in [tensors.q, tensors.k, tensors.v].enumerated() {
      elements.withUnsafeBytes {
        UnsafeMutableRawBufferPointer(start: slab.mapped + offset(index), count: $0.count)
          .copyMemory(from: $0)
      }
    }
    do {
      var foreign = raw.foreign()
      foreign.released = { releases.add(1, ordering: .relaxed) }
      let device = try ComputeDevice(adopting: foreign, options: options)
      let kernel = try AttentionKernel(request, on: device)
      func part(_ index: Int, _ byteCount: Int) throws -> DeviceBuffer {
        try device.adopt(
          ForeignBuffer(
            slab.handle, bufferByteCount: slab.byteCount, usage: slab.usage,
            byteOffset: offset(index), byteCount: byteCount))
      }
      let scratch = try part(5, kernel.plan.scratchByteCount)
      let buffers = try AttentionBuffers(
        query: part(0, tensors.q.count * 4), key: part(1, tensors.k.count * 4),
        value: part(2, tensors.v.count * 4), output: part(3, request.byteCount(of: .output)),
        logSumExp: part(4, request.logSumExpByteCount), scratch: scratch)
      try await kernel.run(buffers)
    }
    #expect(releases.load(ordering: .relaxed) == 1)
    func floats(_ index: Int, _ count: Int) -> [Float] {
      (0..<count).map { (slab.mapped + offset(index)).load(fromByteOffset: $0 * 4, as: Float.self) }
    }
    expectClose(
      floats(3, request.byteCount(of: .output) / 4), floats(4, request.logSumExpByteCount / 4),
      to: tensors)
    // The app goes on with its device, its queue and its buffer.
    try raw.fill(slab, with: 0x3F80_0000)
    #expect(floats(3, 4) == [1, 1, 1, 1])
    try raw.destroy(slab)
    #expect(RawVulkan.drainMessages() == [])
  }

  @Test(
    "In memory of the app, where the results appear without a download",
    .enabled(
      if: (try? TestDevice.shared().capabilities.has(.externalMemoryHost)) == true,
      "the device lacks VK_EXT_external_memory_host"))
  func importedMemory() async throws {
    let device = try TestDevice.shared()
    let alignment = try #require(device.capabilities.hostPointerAlignment)
    let tensors = AttentionTensors(shape, .f32)
    let request = try shape.request(.f32)
    let kernel = try AttentionKernel(request, on: device)
    func memory(_ byteCount: Int) throws -> (UnsafeMutableRawPointer, DeviceBuffer) {
      let available = try device.importedByteCount(for: byteCount)
      nonisolated(unsafe) let pointer = UnsafeMutableRawPointer.allocate(
        byteCount: available, alignment: alignment)
      // NaN everywhere, behind the tensor as well.
      pointer.initializeMemory(as: UInt8.self, repeating: 0xFF, count: available)
      let buffer = try device.importMemory(
        at: pointer, availableByteCount: available, byteCount: byteCount
      ) { pointer.deallocate() }
      return (pointer, buffer)
    }
    func filled(_ elements: [Float]) throws -> DeviceBuffer {
      let (pointer, buffer) = try memory(elements.count * 4)
      elements.withUnsafeBytes {
        UnsafeMutableRawBufferPointer(start: pointer, count: $0.count).copyMemory(from: $0)
      }
      return buffer
    }
    let (o, output) = try memory(request.byteCount(of: .output))
    let (lse, logSumExp) = try memory(request.logSumExpByteCount)
    try await kernel.run(
      AttentionBuffers(
        query: filled(tensors.q), key: filled(tensors.k), value: filled(tensors.v),
        output: output, logSumExp: logSumExp, scratch: memory(kernel.plan.scratchByteCount).1))
    func floats(_ pointer: UnsafeRawPointer, _ byteCount: Int) -> [Float] {
      (0..<byteCount / 4).map { pointer.load(fromByteOffset: $0 * 4, as: Float.self) }
    }
    // The memory goes with its buffers.
    withExtendedLifetime((output, logSumExp)) {
      expectClose(
        floats(o, request.byteCount(of: .output)), floats(lse, request.logSumExpByteCount),
        to: tensors)
    }
  }
}
