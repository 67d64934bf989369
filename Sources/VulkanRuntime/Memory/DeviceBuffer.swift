internal import CVulkan

/// A range of device memory, reached by shaders through its address.
///
/// A value: copies and slices share the memory, which is given back when the last of them goes.
/// Work that was submitted with a buffer keeps it alive until that work is done.
public struct DeviceBuffer: Sendable {
  let allocation: Allocation
  /// The first byte, counted from the start of the allocation.
  let byteOffset: Int
  /// The size in bytes.
  public let byteCount: Int

  init(allocation: Allocation, byteOffset: Int = 0, byteCount: Int) {
    self.allocation = allocation
    self.byteOffset = byteOffset
    self.byteCount = byteCount
  }

  /// What the buffer was made for, as it appears in errors.
  public var label: String { allocation.label }

  /// The device address of the first byte.
  public var address: UInt64 {
    allocation.block.address + UInt64(offsetInBlock)
  }

  /// Whether the host reaches the bytes without a copy.
  public var isHostVisible: Bool { allocation.block.mapped != nil }

  /// A part of this buffer, in bytes from its start.
  ///
  /// - Throws: `VulkanError.outOfBounds` where the range does not lie inside the buffer.
  public func slice(_ bytes: Range<Int>) throws(VulkanError) -> DeviceBuffer {
    guard bytes.lowerBound >= 0, bytes.upperBound <= byteCount else {
      throw .outOfBounds(
        what: "a slice of \(label)", requestedBytes: bytes.upperBound, availableBytes: byteCount)
    }
    return DeviceBuffer(
      allocation: allocation, byteOffset: byteOffset + bytes.lowerBound, byteCount: bytes.count)
  }

  /// Whether the two share at least one byte.
  public func overlaps(_ other: DeviceBuffer) -> Bool {
    // By the block: an app's own buffer may have been adopted in several parts.
    allocation.block === other.allocation.block && byteCount > 0 && other.byteCount > 0
      && offsetInBlock < other.offsetInBlock + other.byteCount
      && other.offsetInBlock < offsetInBlock + byteCount
  }

  /// Gives the host direct access to the bytes, where it has it.
  ///
  /// The caller sees to it that no submitted work uses them meanwhile.
  ///
  /// - Returns: What `body` returns, or nil where the buffer is not host-visible.
  public func withHostBytes<Result>(
    _ body: (UnsafeMutableRawBufferPointer) -> Result
  ) -> Result? {
    allocation.block.mapped.map { mapped in
      body(UnsafeMutableRawBufferPointer(start: mapped + offsetInBlock, count: byteCount))
    }
  }

  var offsetInBlock: Int { allocation.range.lowerBound + byteOffset }
  var handle: VkBuffer { allocation.block.buffer }
  var logical: LogicalDevice { allocation.block.logical }
}
