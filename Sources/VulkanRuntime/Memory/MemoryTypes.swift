internal import CVulkan

/// Where a buffer lives and who touches it.
public enum MemoryPurpose: Sendable, Hashable, CaseIterable {
  /// Read and written by kernels; on unified memory the host reaches it as well.
  case device
  /// Filled by the host and read once by the device.
  case upload
  /// Filled by the device and read by the host.
  case readback
}

/// A device's memory types, and the choice among them.
struct MemoryTypes {
  struct Entry {
    var flags: UInt32
    var heap: Int
  }
  private let types: [Entry]
  private let heaps: [(bytes: Int, isDeviceLocal: Bool)]
  /// Whether all device-local memory can be mapped: one kind of memory, no staging.
  let isUnified: Bool

  private static let deviceLocal = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT.rawValue
  private static let hostVisible = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT.rawValue
  private static let hostCoherent = VK_MEMORY_PROPERTY_HOST_COHERENT_BIT.rawValue
  private static let hostCached = VK_MEMORY_PROPERTY_HOST_CACHED_BIT.rawValue

  /// - Parameter isUnified: overrides what the properties say.
  init(_ properties: VkPhysicalDeviceMemoryProperties, isUnified: Bool? = nil) {
    let types = withUnsafeBytes(of: properties.memoryTypes) { bytes in
      bytes.bindMemory(to: VkMemoryType.self).prefix(Int(properties.memoryTypeCount)).map {
        Entry(flags: $0.propertyFlags, heap: Int($0.heapIndex))
      }
    }
    let heaps = withUnsafeBytes(of: properties.memoryHeaps) { bytes in
      bytes.bindMemory(to: VkMemoryHeap.self).prefix(Int(properties.memoryHeapCount)).map {
        (
          bytes: Int(clamping: $0.size),
          isDeviceLocal: $0.flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT.rawValue != 0
        )
      }
    }
    self.types = types
    self.heaps = heaps
    // A discrete card with a resizable window shows a mapped device-local type as well, but reading
    // through the window is slow; such a card also has a heap that is not device-local.
    let all = Self.deviceLocal | Self.hostVisible | Self.hostCoherent
    self.isUnified =
      isUnified
      ?? (heaps.allSatisfy(\.isDeviceLocal) && types.contains { $0.flags & all == all })
  }

  /// The sum of the device-local heaps.
  var deviceLocalBytes: Int {
    heaps.filter(\.isDeviceLocal).reduce(0) { sum, heap in
      let (total, overflows) = sum.addingReportingOverflow(heap.bytes)
      return overflows ? .max : total
    }
  }

  /// The type for a purpose among those allowed, or nil where there is none.
  func index(for purpose: MemoryPurpose, allowed: UInt32) -> Int? {
    let mapped = Self.hostVisible | Self.hostCoherent
    let preferences: [UInt32] =
      switch purpose {
      case .device where isUnified:
        [Self.deviceLocal | mapped | Self.hostCached, Self.deviceLocal | mapped]
      case .device: [Self.deviceLocal, 0]
      case .upload: [mapped]
      case .readback: [mapped | Self.hostCached, mapped]
      }
    return preferences.lazy.compactMap { index($0, allowed: allowed) }.first
  }

  /// The type for memory that the host owns already: one that both see without a flush, rather cached.
  func indexForImport(allowed: UInt32) -> Int? {
    let mapped = Self.hostVisible | Self.hostCoherent
    return index(mapped | Self.hostCached, allowed: allowed) ?? index(mapped, allowed: allowed)
  }

  /// Whether the host can reach memory of that type.
  func isMapped(_ index: Int) -> Bool {
    let mapped = Self.hostVisible | Self.hostCoherent
    return types[index].flags & mapped == mapped
  }

  private func index(_ flags: UInt32, allowed: UInt32) -> Int? {
    types.indices.first { allowed & 1 << UInt32($0) != 0 && types[$0].flags & flags == flags }
  }
}
