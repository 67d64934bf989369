internal import CVulkan

/// A part of a `VkBuffer` of an app's own, for ``ComputeDevice/adopt(_:label:)``.
///
/// The buffer and its memory belong to the device that adopts it, are never freed by this library, and live
/// until ``released`` was called. The memory was allocated with `VK_MEMORY_ALLOCATE_DEVICE_ADDRESS_BIT`. A
/// buffer of exclusive sharing is owned by the queue family of the device that adopts it while it is used here.
public struct ForeignBuffer: @unchecked Sendable {
  // Unchecked: a handle that Vulkan allows any thread to use, and memory whose use the app orders.

  /// The `VkBuffer`, bound to its memory.
  public var buffer: OpaquePointer?
  /// The size that the buffer was created with, in bytes.
  public var bufferByteCount: Int
  /// The flags of `VkBufferUsageFlagBits` that the buffer was created with.
  ///
  /// `VK_BUFFER_USAGE_SHADER_DEVICE_ADDRESS_BIT` is always needed, `VK_BUFFER_USAGE_TRANSFER_SRC_BIT` for copies
  /// from the buffer and downloads, `VK_BUFFER_USAGE_TRANSFER_DST_BIT` for copies to it, fills and uploads.
  public var usage: UInt32
  /// The first byte of the part.
  public var byteOffset: Int
  /// The size of the part in bytes. ``ComputeDevice/readableTailByteCount`` bytes behind it must lie in the
  /// buffer as well: kernels may read them, and never use what they read.
  public var byteCount: Int
  /// Where the app has mapped the buffer's first byte, in host-coherent memory; nil where it is not mapped, or
  /// uploads and downloads are to go through staging buffers.
  public var mapped: UnsafeMutableRawPointer?
  /// Called once, on any thread, when no buffer and no work of this library uses the part any more.
  public var released: (@Sendable () -> Void)?

  /// Names a part of a buffer.
  public init(
    _ buffer: OpaquePointer?, bufferByteCount: Int, usage: UInt32, byteOffset: Int = 0,
    byteCount: Int
  ) {
    self.buffer = buffer
    self.bufferByteCount = bufferByteCount
    self.usage = usage
    self.byteOffset = byteOffset
    self.byteCount = byteCount
  }

  /// The handle and the part, where they can be used.
  func checked(_ label: String) throws(VulkanError) -> (buffer: VkBuffer, bytes: Range<Int>) {
    func refuse(_ reason: String) -> VulkanError {
      .notAdoptable(what: "the VkBuffer of \(label)", reason: reason)
    }
    guard let buffer else { throw refuse("the handle is null") }
    guard usage & VK_BUFFER_USAGE_SHADER_DEVICE_ADDRESS_BIT.rawValue != 0 else {
      throw .missingUsage(buffer: label, usage: "VK_BUFFER_USAGE_SHADER_DEVICE_ADDRESS_BIT")
    }
    guard byteOffset >= 0, byteCount >= 0, bufferByteCount > 0 else {
      throw refuse(
        "an offset of \(byteOffset), \(byteCount) bytes and a buffer of \(bufferByteCount) are no sizes"
      )
    }
    let (end, overflows) = byteOffset.addingReportingOverflow(byteCount)
    let (tail, tailOverflows) = end.addingReportingOverflow(ComputeDevice.readableTailByteCount)
    guard !overflows, !tailOverflows, tail <= bufferByteCount else {
      throw .outOfBounds(
        what: "\(label) with \(ComputeDevice.readableTailByteCount) readable bytes behind it",
        requestedBytes: overflows || tailOverflows ? .max : tail, availableBytes: bufferByteCount)
    }
    return (buffer, byteOffset..<end)
  }
}

extension DeviceBuffer {
  /// Refuses what the buffer was not made for.
  func checkUsage(_ needed: VkBufferUsageFlagBits) throws(VulkanError) {
    guard allocation.block.usage & needed.rawValue == 0 else { return }
    throw .missingUsage(
      buffer: label,
      usage: needed == VK_BUFFER_USAGE_TRANSFER_SRC_BIT
        ? "VK_BUFFER_USAGE_TRANSFER_SRC_BIT" : "VK_BUFFER_USAGE_TRANSFER_DST_BIT")
  }
}
