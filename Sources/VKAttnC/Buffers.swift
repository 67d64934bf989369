public import CVKAttn
internal import VulkanAttention

/// What a buffer's handle stands for.
final class BufferObject: Sendable {
  let device: ComputeDevice
  let buffer: DeviceBuffer

  init(_ buffer: DeviceBuffer, _ device: ComputeDevice) {
    self.buffer = buffer
    self.device = device
  }

  /// Two staging buffers of this size are always to be had, and its submission costs little beside the
  /// copy.
  private static let stagingByteCount = 8 << 20

  /// A part of the buffer, where it is inside.
  func part(_ offset: Int, _ byteCount: Int) throws(Failure) -> DeviceBuffer {
    let range = try range(offset, byteCount, of: buffer.byteCount, "a part of \(buffer.label)")
    return try onDevice { () throws(VulkanError) in try buffer.slice(range) }
  }

  /// Copies a caller's bytes to a part of the buffer.
  func upload(_ bytes: UnsafeRawPointer, to part: DeviceBuffer) throws(Failure) {
    try checkAlive()
    let isDone: Void? = part.withHostBytes {
      $0.copyMemory(from: UnsafeRawBufferPointer(start: bytes, count: part.byteCount))
    }
    if isDone != nil { return }
    try throughStaging(part, .upload) { (piece, staging, recorder) throws(VulkanError) in
      let source = UnsafeRawBufferPointer(start: bytes + piece.lowerBound, count: piece.count)
      staging.withHostBytes { $0.copyMemory(from: source) }
      try recorder.copy(from: staging, to: part.slice(piece))
    } after: { _, _ in
    }
  }

  /// Copies a part of the buffer to a caller's bytes.
  func download(_ part: DeviceBuffer, to bytes: UnsafeMutableRawPointer) throws(Failure) {
    try checkAlive()
    let target = UnsafeMutableRawBufferPointer(start: bytes, count: part.byteCount)
    let isDone: Void? = part.withHostBytes { target.copyMemory(from: UnsafeRawBufferPointer($0)) }
    if isDone != nil { return }
    try throughStaging(part, .readback) { (piece, staging, recorder) throws(VulkanError) in
      try recorder.copy(from: part.slice(piece), to: staging)
    } after: { piece, staging in
      staging.withHostBytes {
        UnsafeMutableRawBufferPointer(rebasing: target[piece])
          .copyMemory(from: UnsafeRawBufferPointer($0))
      }
    }
  }

  private func checkAlive() throws(Failure) {
    if device.isLost {
      throw Failure(.deviceLost(device: device.capabilities.name, during: "a copy"))
    }
  }

  /// Copies by way of buffers that the host reaches, one piece after the other.
  private func throughStaging(
    _ part: DeviceBuffer, _ purpose: MemoryPurpose,
    record: (Range<Int>, DeviceBuffer, Recorder) throws(VulkanError) -> Void,
    after: (Range<Int>, DeviceBuffer) -> Void
  ) throws(Failure) {
    for start in stride(from: 0, to: part.byteCount, by: Self.stagingByteCount) {
      let piece = start..<min(start + Self.stagingByteCount, part.byteCount)
      try onDevice { () throws(VulkanError) in
        let staging = try device.makeBuffer(
          byteCount: piece.count, purpose: purpose, label: "staging for \(part.label)")
        let recorder = try device.makeRecorder()
        try record(piece, staging, recorder)
        try device.submit(recorder).wait()
        after(piece, staging)
      }
    }
  }
}

/// The buffer of a handle.
func bufferObject(_ handle: OpaquePointer?) throws(Failure) -> BufferObject {
  try HandleTable.shared.object(handle, .buffer)
}

/// `vkattn_buffer_create` of vkattn.h.
@_cdecl("vkattn_buffer_create")
public func bufferCreate(
  _ handle: OpaquePointer?, _ byteCount: Int, _ purpose: Int32, _ label: UnsafePointer<CChar>?,
  _ buffer: UnsafeMutablePointer<OpaquePointer?>?
) -> vkattn_status {
  call { () throws(Failure) in
    let device = try device(handle)
    let buffer = try required(buffer, "buffer")
    let memory: MemoryPurpose
    switch Int(purpose) {
    case VKATTN_MEMORY_DEVICE: memory = .device
    case VKATTN_MEMORY_UPLOAD: memory = .upload
    case VKATTN_MEMORY_READBACK: memory = .readback
    default: throw Failure("purpose", purpose, allowed: "one of VKATTN_MEMORY_…")
    }
    guard byteCount >= 0 else {
      throw Failure(
        .limitExceeded,
        "byte_count is \(UInt(bitPattern: byteCount)); the device allows "
          + "\(device.capabilities.maxAllocationBytes)")
    }
    let made = try onDevice { () throws(VulkanError) in
      try device.makeBuffer(
        byteCount: byteCount, purpose: memory, label: label.map { String(cString: $0) } ?? "buffer")
    }
    buffer.pointee = try HandleTable.shared.insert(BufferObject(made, device), .buffer)
  }
}

/// `vkattn_buffer_slice` of vkattn.h.
@_cdecl("vkattn_buffer_slice")
public func bufferSlice(
  _ buffer: OpaquePointer?, _ offset: Int, _ byteCount: Int,
  _ slice: UnsafeMutablePointer<OpaquePointer?>?
) -> vkattn_status {
  call { () throws(Failure) in
    let object = try bufferObject(buffer)
    let slice = try required(slice, "slice")
    slice.pointee = try HandleTable.shared.insert(
      BufferObject(object.part(offset, byteCount), object.device), .buffer)
  }
}

/// `vkattn_buffer_get_info` of vkattn.h.
@_cdecl("vkattn_buffer_get_info")
public func bufferGetInfo(
  _ handle: OpaquePointer?, _ info: UnsafeMutablePointer<vkattn_buffer_info>?
) -> vkattn_status {
  call { () throws(Failure) in
    let buffer = try bufferObject(handle).buffer
    var found = vkattn_buffer_info()
    found.byte_count = buffer.byteCount
    found.device_address = buffer.address
    found.is_host_visible = buffer.isHostVisible ? 1 : 0
    try write(found, to: info, "info")
  }
}

/// `vkattn_buffer_upload` of vkattn.h.
@_cdecl("vkattn_buffer_upload")
public func bufferUpload(
  _ handle: OpaquePointer?, _ offset: Int, _ bytes: UnsafeRawPointer?, _ byteCount: Int
) -> vkattn_status {
  call { () throws(Failure) in
    let object = try bufferObject(handle)
    let part = try object.part(offset, byteCount)
    if byteCount > 0 { try object.upload(required(bytes, "bytes"), to: part) }
  }
}

/// `vkattn_buffer_download` of vkattn.h.
@_cdecl("vkattn_buffer_download")
public func bufferDownload(
  _ handle: OpaquePointer?, _ offset: Int, _ bytes: UnsafeMutableRawPointer?, _ byteCount: Int
) -> vkattn_status {
  call { () throws(Failure) in
    let object = try bufferObject(handle)
    let part = try object.part(offset, byteCount)
    if byteCount > 0 { try object.download(part, to: required(bytes, "bytes")) }
  }
}

/// `vkattn_buffer_map` of vkattn.h.
@_cdecl("vkattn_buffer_map")
public func bufferMap(
  _ handle: OpaquePointer?, _ bytes: UnsafeMutablePointer<UnsafeMutableRawPointer?>?
) -> vkattn_status {
  call { () throws(Failure) in
    let buffer = try bufferObject(handle).buffer
    let bytes = try required(bytes, "bytes")
    // Blocks of memory are mapped for as long as they live, so the address may leave the closure.
    guard let address = buffer.withHostBytes({ $0.baseAddress }) else {
      throw Failure(
        .notHostVisible,
        "the host cannot reach \(buffer.label); copy it, or make it for upload or readback")
    }
    bytes.pointee = address
  }
}

/// `vkattn_buffer_free` of vkattn.h.
@_cdecl("vkattn_buffer_free")
public func bufferFree(_ handle: OpaquePointer?) -> vkattn_status {
  call { () throws(Failure) in try HandleTable.shared.remove(handle, .buffer) }
}
