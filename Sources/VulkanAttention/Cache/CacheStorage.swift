/// The sizes of a page table in device memory, which holds a ``CachePageTable``'s `indptr` and `indices`.
public struct CachePageTableShape: Sendable, Hashable {
  /// B: `indptr` has B + 1 numbers.
  public let sequences: Int
  /// The numbers that `indices` has room for, used or not.
  public let entries: Int

  /// Sizes; `CacheStorage.init` checks them.
  public init(sequences: Int, entries: Int) {
    self.sequences = sequences
    self.entries = entries
  }
}

/// The keys and values of a cache that kernels write to.
///
/// A cache of one tensor (the latents of MLA, https://arxiv.org/abs/2405.04434) has keys alone.
public struct CacheStorage: Sendable, Hashable {
  /// The keys.
  public let key: CacheTensor
  /// The values, as many heads arranged alike except for the order of the axes; nil for none.
  public let value: CacheTensor?
  /// The page table, for a paged arrangement.
  public let pageTable: CachePageTableShape?

  /// States a cache; what no kernel could write is refused here.
  ///
  /// - Parameters:
  ///   - key: the keys.
  ///   - value: the values: the same heads, sequences and places.
  ///   - pageTable: for a paged arrangement, and only for one.
  /// - Throws: `AttentionError.invalidArgument`: values that do not fit the keys; a page table too many or
  ///   missing; rows of an odd number of bytes, or at odd bytes, which cannot be written by halves of words.
  public init(
    key: CacheTensor, value: CacheTensor? = nil, pageTable: CachePageTableShape? = nil
  ) throws(AttentionError) {
    func require(
      _ isAllowed: Bool, _ name: String, _ value: some Any, _ allowed: String
    ) throws(AttentionError) {
      guard isAllowed else {
        throw .invalidArgument(name: name, value: "\(value)", allowed: allowed)
      }
    }
    let (kind, blocks, places) = (
      key.arrangement.kind, key.arrangement.blockCount, key.arrangement.blockTokens
    )
    if let value {
      let other = value.arrangement
      try require(
        other.kind == kind && other.blockCount == blocks && other.blockTokens == places,
        "value.arrangement", "\(other.kind), \(other.blockCount) x \(other.blockTokens)",
        "the keys' \(kind), \(blocks) x \(places)")
      try require(value.heads == key.heads, "value.heads", value.heads, "the keys' \(key.heads)")
    }
    if kind == .paged {
      guard let pageTable else {
        throw .invalidArgument(
          name: "pageTable", value: "nil", allowed: "the sizes of a page table for pages")
      }
      let extents = 1...AttentionMask.largestExtent
      try require(
        extents.contains(pageTable.sequences), "pageTable.sequences", pageTable.sequences,
        "1 to \(extents.upperBound)")
      try require(
        extents.contains(pageTable.entries), "pageTable.entries", pageTable.entries,
        "1 to \(extents.upperBound)")
    } else {
      try require(pageTable == nil, "pageTable", "sizes", "nil for a cache without pages")
    }
    for (name, tensor) in [("key", key), ("value", value)] {
      guard let tensor else { continue }
      try require(
        tensor.rowAlignment >= 2, "\(name).strides",
        "rows of \(tensor.format.byteCount(channels: tensor.channels)) bytes, \(tensor.format)",
        "rows and strides of an even number of bytes")
    }
    self.key = key
    self.value = value
    self.pageTable = pageTable
  }

  /// B.
  public var sequences: Int { pageTable?.sequences ?? key.arrangement.blockCount }
}

extension CacheTensor {
  /// Whether heads lie outside of tokens.
  var isHeadMajor: Bool { strides.head >= strides.token }

  /// The largest power of two up to 16 that divides the bytes of rows and of their strides.
  var rowAlignment: Int {
    CacheTensor.alignment(
      rowBytes: format.byteCount(channels: channels), strides: byteStrides, of: self)
  }

  /// The same for the rows of scales.
  var scaleAlignment: Int {
    CacheTensor.alignment(
      rowBytes: scalesPerRow * (format.scaleType?.byteCount ?? 0), strides: scaleByteStrides,
      of: self)
  }

  /// The strides in bytes; those of axes with one entry are 0.
  var byteStrides: TensorStrides {
    used(strides) { format.byteCount(channels: $0) }
  }

  /// The strides in the format's blocks of channels.
  var blockStrides: TensorStrides { used(strides) { $0 / format.blockChannels } }

  /// The strides of the scales, those of axes with one entry 0.
  var usedScaleStrides: TensorStrides { used(scaleStrides) { $0 } }

  /// The strides of the scales in bytes.
  var scaleByteStrides: TensorStrides {
    let bytes = format.scaleType?.byteCount ?? 0
    return used(scaleStrides) { $0 * bytes }
  }

  private func used(_ strides: TensorStrides, _ convert: (Int) -> Int) -> TensorStrides {
    TensorStrides(
      batch: arrangement.blockCount > 1 ? convert(strides.batch) : 0,
      token: arrangement.blockTokens > 1 ? convert(strides.token) : 0,
      head: heads > 1 ? convert(strides.head) : 0)
  }

  private static func alignment(
    rowBytes: Int, strides: TensorStrides, of tensor: CacheTensor
  ) -> Int {
    let all = rowBytes | strides.batch | strides.token | strides.head
    return all == 0 ? 16 : min(16, 1 << all.trailingZeroBitCount)
  }
}

/// One tensor of a cache in device memory.
public struct CacheTensorBuffers: Sendable {
  /// The numbers; see ``CacheTensor/byteCount``.
  public var data: DeviceBuffer
  /// The scales beside them, for a format that has them; see ``CacheTensor/scaleByteCount``.
  public var scales: DeviceBuffer?

  /// Names the buffers.
  public init(_ data: DeviceBuffer, scales: DeviceBuffer? = nil) {
    self.data = data
    self.scales = scales
  }
}

/// A page table in device memory. Kernels check what they read of it.
public struct CachePageTableBuffers: Sendable {
  /// Int32 `[B + 1]`.
  public var indptr: DeviceBuffer
  /// Int32 `[entries]`.
  public var indices: DeviceBuffer

  /// Names the buffers.
  public init(indptr: DeviceBuffer, indices: DeviceBuffer) {
    self.indptr = indptr
    self.indices = indices
  }
}

/// A cache in device memory.
public struct CacheBuffers: Sendable {
  /// The keys.
  public var key: CacheTensorBuffers
  /// The values, where the cache has them.
  public var value: CacheTensorBuffers?
  /// The page table, where the cache has pages.
  public var pageTable: CachePageTableBuffers?

  /// Names the buffers.
  public init(
    key: CacheTensorBuffers, value: CacheTensorBuffers? = nil,
    pageTable: CachePageTableBuffers? = nil
  ) {
    self.key = key
    self.value = value
    self.pageTable = pageTable
  }
}

/// A cache's buffers after all checks, each cut to what the kernels use.
struct CacheBindings {
  /// One tensor with its memory.
  struct Tensor {
    let tensor: CacheTensor
    let data: DeviceBuffer
    let scales: DeviceBuffer?

    /// What a kernel writes that stores rows.
    var writes: [BufferAccess] { [.write(data)] + (scales.map { [.write($0)] } ?? []) }
  }

  let key: Tensor
  let value: Tensor?
  let indptr: DeviceBuffer?
  let indices: DeviceBuffer?

  var tensors: [Tensor] { [key] + (value.map { [$0] } ?? []) }

  /// What a kernel reads to find a place.
  var tableReads: [BufferAccess] { [indptr, indices].compactMap { $0.map { .read($0) } } }

  init(
    _ buffers: CacheBuffers, for storage: CacheStorage, into bound: inout BoundBuffers
  ) throws(AttentionError) {
    key = try Self.bind("key", buffers.key, storage.key, into: &bound)
    switch (storage.value, buffers.value) {
    case (let tensor?, let buffers?):
      value = try Self.bind("value", buffers, tensor, into: &bound)
    case (nil, nil): value = nil
    case (nil, _?): throw Self.refusal("value", "a buffer", "nil for a cache of keys alone")
    case (_?, nil): throw Self.refusal("value", "nil", "a buffer for the cache's values")
    }
    switch (storage.pageTable, buffers.pageTable) {
    case (let shape?, let table?):
      indptr = try bound.bind("indptr", table.indptr, bytes: (shape.sequences + 1) * 4)
      indices = try bound.bind("indices", table.indices, bytes: shape.entries * 4)
    case (nil, nil):
      indptr = nil
      indices = nil
    case (nil, _?): throw Self.refusal("pageTable", "buffers", "nil for a cache without pages")
    case (_?, nil): throw Self.refusal("pageTable", "nil", "buffers for a cache of pages")
    }
  }

  private static func bind(
    _ name: String, _ buffers: CacheTensorBuffers, _ tensor: CacheTensor,
    into bound: inout BoundBuffers
  ) throws(AttentionError) -> Tensor {
    let data = try bound.bind(
      "\(name)Cache", buffers.data, bytes: tensor.byteCount, alignment: tensor.rowAlignment,
      isWritten: true)
    switch (tensor.scaleByteCount, buffers.scales) {
    case (0, nil): return Tensor(tensor: tensor, data: data, scales: nil)
    case (0, _?):
      throw refusal("\(name)Scales", "a buffer", "nil for \(tensor.format)")
    case (_, nil):
      throw refusal("\(name)Scales", "nil", "a buffer for the scales of \(tensor.format)")
    case (let bytes, let scales?):
      return Tensor(
        tensor: tensor, data: data,
        scales: try bound.bind(
          "\(name)Scales", scales, bytes: bytes, alignment: tensor.scaleAlignment, isWritten: true))
    }
  }

  static func refusal(_ name: String, _ value: String, _ allowed: String) -> AttentionError {
    .invalidArgument(name: name, value: value, allowed: allowed)
  }
}

extension CacheArrangement.Kind {
  /// The number by which the shaders know the kind (`cache_places.glsl`).
  var shaderConstant: UInt32 {
    switch self {
    case .contiguous: 0
    case .ring: 1
    case .paged: 2
    }
  }
}

extension WorkgroupCount {
  /// A grid for a number of invocations that a shader numbers by x and y.
  ///
  /// - Throws: `AttentionError.tooLarge` beyond 2^31 of them, `device(.limitExceeded)`.
  static func forInvocations(
    _ factors: [Int], workgroupSize: Int, shader: String, device: DeviceCapabilities
  ) throws(AttentionError) -> WorkgroupCount {
    var invocations = 1
    for factor in factors {
      let (product, overflows) = invocations.multipliedReportingOverflow(by: factor)
      guard !overflows, product <= Int(Int32.max) else {
        throw .tooLarge(tensor: "grid of \(shader)")
      }
      invocations = product
    }
    let count = ceilingDivide(invocations, workgroupSize)
    let x = max(1, min(count, device.maxWorkgroupCount[0]))
    let y = ceilingDivide(count, x)
    guard y <= device.maxWorkgroupCount[1] else {
      throw .device(
        .limitExceeded(
          what: "workgroups of \(shader)", requested: count,
          allowed: device.maxWorkgroupCount[0] * device.maxWorkgroupCount[1]))
    }
    return WorkgroupCount(x: x, y: y)
  }
}
