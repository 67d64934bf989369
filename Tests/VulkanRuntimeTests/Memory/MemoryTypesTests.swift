import CVulkan
import Testing

@testable import VulkanRuntime

@Suite struct MemoryTypesTests {
  private static let local = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT.rawValue
  private static let visible =
    VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT.rawValue | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT.rawValue
  private static let cached = VK_MEMORY_PROPERTY_HOST_CACHED_BIT.rawValue
  private static let every: UInt32 = .max

  /// One kind of memory, all of it mapped: a CPU, a phone, Apple's chips.
  private static let unified = properties(
    types: [(local | visible | cached, 0)], heaps: [(8 << 30, true)])
  /// A card whose memory the host does not reach, in the order in which drivers list it.
  private static let discrete = properties(
    types: [(0, 1), (local, 0), (visible, 1), (visible | cached, 1)],
    heaps: [(16 << 30, true), (32 << 30, false)])
  /// The same card with a window over all of its memory.
  private static let resizableWindow = properties(
    types: [(0, 1), (local, 0), (visible, 1), (visible | cached, 1), (local | visible, 0)],
    heaps: [(16 << 30, true), (32 << 30, false)])
  /// The same card with the old window of 256 MiB.
  private static let smallWindow = properties(
    types: [(0, 1), (local, 0), (local | visible, 2), (visible, 1), (visible | cached, 1)],
    heaps: [(16 << 30, true), (32 << 30, false), (256 << 20, true)])

  @Test func unifiedMemoryIsMappedForEveryPurpose() {
    let types = MemoryTypes(Self.unified)
    #expect(types.isUnified)
    #expect(types.deviceLocalBytes == 8 << 30)
    for purpose in MemoryPurpose.allCases {
      #expect(types.index(for: purpose, allowed: Self.every) == 0)
    }
    #expect(types.isMapped(0))
  }

  @Test func discreteMemoryIsStaged() {
    let types = MemoryTypes(Self.discrete)
    #expect(!types.isUnified)
    #expect(types.deviceLocalBytes == 16 << 30)
    #expect(types.index(for: .device, allowed: Self.every) == 1)
    #expect(types.index(for: .upload, allowed: Self.every) == 2)
    #expect(types.index(for: .readback, allowed: Self.every) == 3)
    #expect(!types.isMapped(1) && types.isMapped(2) && types.isMapped(3))
  }

  @Test("A window into a card's memory does not make it unified")
  func windowsAreNotUnified() {
    for properties in [Self.resizableWindow, Self.smallWindow] {
      let types = MemoryTypes(properties)
      #expect(!types.isUnified)
      #expect(types.index(for: .device, allowed: Self.every) == 1)
    }
    #expect(MemoryTypes(Self.smallWindow).deviceLocalBytes == (16 << 30) + (256 << 20))
  }

  @Test("Only types that the buffer allows are taken")
  func allowedTypes() {
    let types = MemoryTypes(Self.discrete)
    #expect(types.index(for: .readback, allowed: 0b0111) == 2)
    #expect(types.index(for: .device, allowed: 0b0001) == 0)
    #expect(types.index(for: .upload, allowed: 0b0011) == nil)
    #expect(types.index(for: .device, allowed: 0) == nil)
  }

  @Test("Staging can be forced on unified memory")
  func forcedStaging() {
    let types = MemoryTypes(Self.unified, isUnified: false)
    #expect(!types.isUnified)
    #expect(types.index(for: .device, allowed: Self.every) == 0)
    #expect(types.index(for: .upload, allowed: Self.every) == 0)
  }

  private static func properties(
    types: [(flags: UInt32, heap: UInt32)], heaps: [(bytes: UInt64, isLocal: Bool)]
  ) -> VkPhysicalDeviceMemoryProperties {
    var properties = VkPhysicalDeviceMemoryProperties()
    properties.memoryTypeCount = UInt32(types.count)
    properties.memoryHeapCount = UInt32(heaps.count)
    withUnsafeMutableBytes(of: &properties.memoryTypes) { bytes in
      let entries = bytes.bindMemory(to: VkMemoryType.self)
      for (index, type) in types.enumerated() {
        entries[index] = VkMemoryType(propertyFlags: type.flags, heapIndex: type.heap)
      }
    }
    withUnsafeMutableBytes(of: &properties.memoryHeaps) { bytes in
      let entries = bytes.bindMemory(to: VkMemoryHeap.self)
      for (index, heap) in heaps.enumerated() {
        entries[index] = VkMemoryHeap(
          size: heap.bytes, flags: heap.isLocal ? VK_MEMORY_HEAP_DEVICE_LOCAL_BIT.rawValue : 0)
      }
    }
    return properties
  }
}
