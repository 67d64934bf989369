/// Rows of elements at a stride, as the companion kernels read and write them.
struct CompanionRows: Sendable, Hashable {
  let name: String
  let rows: Int
  let channels: Int
  /// From one row to the next, in elements.
  let stride: Int
  let type: ElementType

  /// States a tensor of rows.
  ///
  /// - Parameter stride: `channels` where it is nil.
  /// - Throws: `AttentionError.invalidArgument` for a stride that lets rows share elements.
  init(
    _ name: String, rows: Int, channels: Int, stride: Int?, type: ElementType
  ) throws(AttentionError) {
    if let stride {
      try checkRange("\(name).stride", stride, channels...max(channels, Int(UInt32.max)))
    }
    self.name = name
    self.rows = rows
    self.channels = channels
    self.stride = stride ?? channels
    self.type = type
  }

  /// The most rows, and the most channels of a row.
  static let largestExtent = 1 << 24

  /// Bytes up to the end of the last row. No product overflows: 2^24 rows at a stride below 2^32.
  var byteCount: Int { ((rows - 1) * stride + channels) * type.byteCount }

  /// Whether rows begin at multiples of 8 elements and have whole eights of them.
  var isAligned: Bool {
    let granularity = AttentionRequest.elementGranularity
    return channels % granularity == 0 && (rows == 1 || stride % granularity == 0)
  }
}

/// The workgroup of a kernel that reduces over rows.
struct CompanionWorkgroup: Sendable, Hashable {
  let size: Int
  /// Whether it is a single subgroup, which then needs no barrier.
  let isOneSubgroup: Bool

  /// A workgroup for rows of some channels: one subgroup on a software driver, where a barrier is costly, else up
  /// to 256 invocations of 4 channels or more each.
  init(channels: Int, device: DeviceCapabilities) {
    guard device.kind != .cpu else {
      self.init(size: device.subgroupSize, isOneSubgroup: true)
      return
    }
    let largest = min(256, device.maxWorkgroupInvocations, device.maxWorkgroupSizeX)
    var size = 64
    while size < largest, size * 4 < channels { size *= 2 }
    self.init(size: size, isOneSubgroup: false)
  }

  init(size: Int, isOneSubgroup: Bool) {
    self.size = size
    self.isOneSubgroup = isOneSubgroup
  }

  /// A workgroup for each row.
  static func groups(
    rows: Int, shader: String, device: DeviceCapabilities
  ) throws(AttentionError) -> WorkgroupCount {
    try .forInvocations([rows], workgroupSize: 1, shader: shader, device: device)
  }
}

extension BoundBuffers {
  /// Binds a tensor of rows; vector accesses need 16 bytes of alignment.
  mutating func bind(
    _ rows: CompanionRows, _ buffer: DeviceBuffer, isAligned: Bool, isWritten: Bool = false,
    over partner: String? = nil
  ) throws(AttentionError) -> DeviceBuffer {
    try bind(
      rows.name, buffer, bytes: rows.byteCount,
      alignment: isAligned ? Self.vectorAlignment : rows.type.byteCount, isWritten: isWritten,
      over: partner)
  }

  /// Binds a vector of elements that may be there or not, as the request says.
  mutating func bind(
    _ name: String, _ buffer: DeviceBuffer?, isThere: Bool, bytes: Int, alignment: Int
  ) throws(AttentionError) -> DeviceBuffer? {
    guard let buffer else {
      if !isThere { return nil }
      throw .invalidArgument(
        name: name, value: "no buffer", allowed: "a buffer, for the request has \(name)")
    }
    guard isThere else {
      throw .invalidArgument(
        name: name, value: "a buffer", allowed: "none, for the request has no \(name)")
    }
    return try bind(name, buffer, bytes: bytes, alignment: alignment)
  }
}
