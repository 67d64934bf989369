import Foundation
import TestSupport
import Testing

@testable import VulkanRuntime

@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct DeviceBufferTests {
  let device: ComputeDevice

  init() throws {
    device = try TestDevice.open()
  }

  @Test func addressesAreAlignedAndApart() throws {
    let buffers = try [1, 3, 255, 256, 257, 4096, 100_000].map {
      try device.makeBuffer(byteCount: $0)
    }
    for buffer in buffers {
      #expect(buffer.address > 0)
      #expect(buffer.address.isMultiple(of: 256))
    }
    let ranges = buffers.map { $0.address..<$0.address + UInt64($0.byteCount) }
      .sorted { $0.lowerBound < $1.lowerBound }
    #expect(zip(ranges, ranges.dropFirst()).allSatisfy { $0.upperBound <= $1.lowerBound })
  }

  @Test func emptyBuffer() async throws {
    let buffer = try device.makeBuffer(byteCount: 0)
    #expect(buffer.byteCount == 0)
    #expect(buffer.address > 0)
    #expect(try buffer.slice(0..<0).byteCount == 0)
    #expect(throws: VulkanError.self) { try buffer.slice(0..<1) }
    #expect(!buffer.overlaps(buffer))
    #expect(try await device.download(UInt8.self, from: buffer) == [])
    #expect(try await device.makeBuffer([Float]()).byteCount == 0)
  }

  @Test func negativeSizeIsRefused() {
    let error = VulkanError.outOfBounds(what: "q", requestedBytes: -1, availableBytes: 0)
    #expect(throws: error) { try device.makeBuffer(byteCount: -1, label: "q") }
  }

  @Test func slices() throws {
    let buffer = try device.makeBuffer(byteCount: 100, label: "whole")
    let slice = try buffer.slice(40..<80)
    #expect(slice.address == buffer.address + 40)
    #expect(slice.byteCount == 40)
    #expect(slice.label == "whole")
    let inner = try slice.slice(10..<20)
    #expect(inner.address == buffer.address + 50)
    #expect(try buffer.slice(100..<100).byteCount == 0)
    // A slice ends where it ends, though the memory goes on.
    let error = VulkanError.outOfBounds(
      what: "a slice of whole", requestedBytes: 41, availableBytes: 40)
    #expect(throws: error) { try slice.slice(0..<41) }
    #expect(throws: VulkanError.self) { try slice.slice(-1..<4) }
    #expect(throws: VulkanError.self) { try buffer.slice(0..<Int.max) }
    #expect(throws: VulkanError.self) { try buffer.slice(Int.min..<0) }
  }

  @Test(
    "Overlap is a shared byte",
    arguments: [
      (0..<10, 10..<20, false), (0..<10, 9..<20, true), (5..<6, 0..<10, true),
      (0..<10, 0..<10, true), (4..<4, 0..<10, false), (0..<10, 4..<4, false),
    ] as [(Range<Int>, Range<Int>, Bool)])
  func overlaps(first: Range<Int>, second: Range<Int>, expected: Bool) throws {
    let buffer = try device.makeBuffer(byteCount: 20)
    #expect(try buffer.slice(first).overlaps(buffer.slice(second)) == expected)
    #expect(try buffer.slice(second).overlaps(buffer.slice(first)) == expected)
    #expect(!buffer.overlaps(try device.makeBuffer(byteCount: 20)))
  }

  @Test("A buffer's memory is used again once it goes, not before")
  func memoryIsReused() throws {
    var first: DeviceBuffer? = try device.makeBuffer(byteCount: 1000)
    let address = first?.address
    // A slice keeps the memory as well.
    var slice = try first?.slice(0..<10)
    first = nil
    #expect(try device.makeBuffer(byteCount: 1000).address != address)
    #expect(slice?.address == address)
    slice = nil
    #expect(try device.makeBuffer(byteCount: 1000).address == address)
  }

  @Test("Small buffers share a block, large ones have their own and give it back")
  func blocks() throws {
    let block = MemoryPool.blockByteCount
    #expect(device.reservedByteCount == 0)
    var small: [DeviceBuffer] = try (0..<100).map { _ in try device.makeBuffer(byteCount: 1000) }
    #expect(device.reservedByteCount == block)

    var large: DeviceBuffer? = try device.makeBuffer(byteCount: block + 1)
    #expect(device.reservedByteCount == 2 * block + MemoryPool.alignment)
    #expect(large?.byteCount == block + 1)
    large = nil
    #expect(device.reservedByteCount == block)

    // Half a block fits twice, one after the other and not beside each other's neighbours.
    var halves: [DeviceBuffer] = try (0..<3).map { _ in
      try device.makeBuffer(byteCount: block / 2)
    }
    #expect(device.reservedByteCount == 2 * block)
    #expect(Set(halves.map(\.address)).count == 3)
    halves = []
    #expect(device.reservedByteCount == block)

    small = []
    // One empty block stays for the next buffer.
    #expect(device.reservedByteCount == block)
    #expect(small.isEmpty && halves.isEmpty && large == nil)
  }

  /// Whether the system says that it has them.
  private var hasHugePages: Bool {
    FileManager.default.fileExists(atPath: "/sys/kernel/mm/transparent_hugepage/enabled")
  }

  @Test("A processor's blocks are large pages, where it imports memory")
  func largePages() throws {
    guard device.capabilities.kind == .cpu, device.capabilities.has(.externalMemoryHost),
      hasHugePages
    else { return }
    for purpose in MemoryPurpose.allCases {
      let buffer = try device.makeBuffer(byteCount: 1000, purpose: purpose)
      let block = buffer.allocation.block
      let start = try #require(block.mapped)
      #expect(Int(bitPattern: start).isMultiple(of: HugePages.pageByteCount))
      #expect(block.byteCount == MemoryPool.blockByteCount && block.purpose == purpose)
    }
  }

  @Test("Large pages begin at multiples of their size, are writable and go away")
  func pages() throws {
    let wanted = 3 * HugePages.pageByteCount - 5
    guard hasHugePages else { return }
    let pages = try #require(HugePages(wanted))
    #expect(pages.byteCount == 3 * HugePages.pageByteCount)
    #expect(Int(bitPattern: pages.start).isMultiple(of: HugePages.pageByteCount))
    let bytes = UnsafeMutableRawBufferPointer(start: pages.start, count: pages.byteCount)
    bytes.initializeMemory(as: UInt8.self, repeating: 7)
    #expect(bytes.first == 7 && bytes.last == 7)
    pages.unmap()
    #expect(HugePages(.max / 4) == nil)
  }

  @Test("Tasks allocate and free at the same time")
  func concurrentUse() async throws {
    let device = device
    try await withThrowingTaskGroup(of: Void.self) { group in
      for seed in 0..<4 {
        group.addTask {
          var random = SplitMix64(seed: UInt64(seed))
          var held: [DeviceBuffer] = []
          for _ in 0..<200 {
            if held.count > 20 { held.remove(at: Int.random(in: 0..<20, using: &random)) }
            held.append(
              try device.makeBuffer(byteCount: Int.random(in: 1...50_000, using: &random)))
            #expect(held.dropLast().allSatisfy { $0.address != held.last?.address })
          }
        }
      }
      try await group.waitForAll()
    }
    #expect(device.reservedByteCount == MemoryPool.blockByteCount)
  }
}
