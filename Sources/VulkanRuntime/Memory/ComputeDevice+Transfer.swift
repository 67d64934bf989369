/// Copies between the host and the device.
extension ComputeDevice {
  /// The size of one staging buffer: large enough that its submission costs little beside the copy,
  /// small enough that two of them are always to be had.
  static let stagingByteCount = 8 << 20

  /// Makes a buffer with the elements of an array.
  public func makeBuffer<Element: BitwiseCopyable & Sendable>(
    _ elements: [Element], label: String = "buffer"
  ) async throws(VulkanError) -> DeviceBuffer {
    let buffer = try makeBuffer(
      byteCount: elements.count * MemoryLayout<Element>.stride, label: label)
    try await upload(elements, to: buffer)
    return buffer
  }

  /// Copies an array to the start of a buffer, and returns when it is there.
  ///
  /// - Throws: `outOfBounds` where the buffer is too small; `wrongDevice`, `cancelled`, `deviceLost`,
  ///   `outOfMemory`.
  public func upload<Element: BitwiseCopyable & Sendable>(
    _ elements: [Element], to buffer: DeviceBuffer
  ) async throws(VulkanError) {
    let byteCount = elements.count * MemoryLayout<Element>.stride
    guard byteCount <= buffer.byteCount else {
      throw .outOfBounds(
        what: "an upload to \(buffer.label)", requestedBytes: byteCount,
        availableBytes: buffer.byteCount)
    }
    try checkOwner(of: buffer)
    try logical.checkAlive("upload")
    let isDone: Void? = buffer.withHostBytes { bytes in
      elements.withUnsafeBytes { bytes.copyMemory(from: $0) }
    }
    if isDone != nil { return }
    var pending: [Submission] = []
    for piece in Self.pieces(of: byteCount) {
      // Two in flight: the host fills one staging buffer while the device empties the other.
      if pending.count == 2 { try await pending.removeFirst().completed() }
      let staging = try makeBuffer(
        byteCount: piece.count, purpose: .upload, label: "staging for \(buffer.label)")
      staging.withHostBytes { bytes in
        elements.withUnsafeBytes { bytes.copyMemory(from: .init(rebasing: $0[piece])) }
      }
      let recorder = try makeRecorder()
      try recorder.copy(from: staging, to: buffer.slice(piece))
      pending.append(try submit(recorder))
    }
    for submission in pending { try await submission.completed() }
  }

  /// Copies a buffer's bytes to an array of as many whole elements as it holds.
  ///
  /// The caller sees to it that the work that fills the buffer was waited for, or was submitted
  /// to this device before on memory that the host does not map.
  ///
  /// - Throws: `wrongDevice`, `cancelled`, `deviceLost`, `outOfMemory`.
  public func download<Element: BitwiseCopyable & Sendable>(
    _ type: Element.Type, from buffer: DeviceBuffer
  ) async throws(VulkanError) -> [Element] {
    try checkOwner(of: buffer)
    try logical.checkAlive("download")
    let count = buffer.byteCount / MemoryLayout<Element>.stride
    let byteCount = count * MemoryLayout<Element>.stride
    let direct = buffer.withHostBytes { bytes in
      [Element](unsafeUninitializedCapacity: count) { elements, initializedCount in
        UnsafeMutableRawBufferPointer(elements)
          .copyMemory(from: .init(rebasing: bytes[..<byteCount]))
        initializedCount = count
      }
    }
    if let direct { return direct }
    var bytes: [UInt8] = []
    bytes.reserveCapacity(byteCount)
    for piece in Self.pieces(of: byteCount) {
      let staging = try makeBuffer(
        byteCount: piece.count, purpose: .readback, label: "staging for \(buffer.label)")
      let recorder = try makeRecorder()
      try recorder.copy(from: buffer.slice(piece), to: staging)
      try await submit(recorder).completed()
      staging.withHostBytes { bytes.append(contentsOf: $0) }
    }
    return bytes.withUnsafeBytes { bytes in
      [Element](unsafeUninitializedCapacity: count) { elements, initializedCount in
        UnsafeMutableRawBufferPointer(elements).copyMemory(from: bytes)
        initializedCount = count
      }
    }
  }

  /// Refuses a buffer of another device.
  package func checkOwner(of buffer: DeviceBuffer) throws(VulkanError) {
    guard buffer.logical === logical else {
      throw .wrongDevice(
        what: "buffer \(buffer.label)", expected: capabilities.name,
        actual: buffer.logical.capabilities.name)
    }
  }

  private static func pieces(of byteCount: Int) -> [Range<Int>] {
    stride(from: 0, to: byteCount, by: stagingByteCount).map {
      $0..<min($0 + stagingByteCount, byteCount)
    }
  }
}
