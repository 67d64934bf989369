internal import ShaderLibrary

/// Rows of bytes of a cache, whatever they hold: the numbers of a tensor, or the scales beside them.
struct CacheRows: Sendable, Hashable {
  /// Bytes of a row.
  let byteCount: Int
  /// Strides in bytes; 0 along axes with one entry.
  let strides: TensorStrides
  /// Bytes that an invocation moves at once.
  let access: Int

  /// The rows of a tensor, and those of its scales where it has them.
  ///
  /// A software driver moves a vector lane by lane, 8 bytes at best.
  static func of(_ tensor: CacheTensor, device: DeviceCapabilities) -> [CacheRows] {
    let widest = device.kind == .cpu ? 8 : 16
    let numbers = CacheRows(
      byteCount: tensor.format.byteCount(channels: tensor.channels), strides: tensor.byteStrides,
      access: min(widest, tensor.rowAlignment))
    guard let type = tensor.format.scaleType else { return [numbers] }
    return [
      numbers,
      CacheRows(
        byteCount: tensor.scalesPerRow * type.byteCount, strides: tensor.scaleByteStrides,
        access: min(widest, tensor.scaleAlignment)),
    ]
  }

  /// Invocations that share a row.
  var pieces: Int { byteCount / access }

  static let workgroupSize = 64

  /// The pipeline that moves such rows.
  func pipelineDescription(
    _ name: String, constants: [String: UInt32] = [:]
  ) throws(AttentionError) -> PipelineDescription {
    let shader = try ShaderBinary.required(name)
    return PipelineDescription(
      shader: shader,
      constants: constants.merging([
        "local_size_x": UInt32(Self.workgroupSize), "ROW_BYTES": UInt32(byteCount),
        "ACCESS": UInt32(access),
      ]) { $1 })
  }
}

/// One dispatch of a kernel that moves rows: those of keys, of values, or of the scales of either.
struct CacheRowPass: Sendable, Hashable {
  let tensor: CacheTensor
  let rows: CacheRows
  let groups: WorkgroupCount

  /// The dispatches for all rows of a cache.
  ///
  /// - Parameter factors: what is moved of a tensor, a factor for each axis of the grid but the pieces of a row.
  /// - Throws: `AttentionError.tooLarge`, or `device(.limitExceeded)` where a grid is too large.
  static func all(
    of storage: CacheStorage, shader: String, device: DeviceCapabilities,
    factors: (CacheTensor) -> [Int]
  ) throws(AttentionError) -> [CacheRowPass] {
    var passes: [CacheRowPass] = []
    for tensor in [storage.key, storage.value].compactMap({ $0 }) {
      for rows in CacheRows.of(tensor, device: device) {
        passes.append(
          CacheRowPass(
            tensor: tensor, rows: rows,
            groups: try .forInvocations(
              factors(tensor) + [rows.pieces], workgroupSize: CacheRows.workgroupSize,
              shader: shader, device: device)))
      }
    }
    return passes
  }
}

extension CacheBindings {
  /// The buffers of the passes of ``CacheRowPass/all(of:shader:device:factors:)``, in their order.
  var rowBuffers: [DeviceBuffer] {
    tensors.flatMap { [$0.data] + ($0.scales.map { [$0] } ?? []) }
  }
}
