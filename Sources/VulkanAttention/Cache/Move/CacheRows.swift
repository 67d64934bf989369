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
    guard let shader = ShaderBinary.named(name) else {
      throw .noPath(reasons: ["this build has no shader \(name)"])
    }
    return PipelineDescription(
      shader: shader,
      constants: constants.merging([
        "local_size_x": UInt32(Self.workgroupSize), "ROW_BYTES": UInt32(byteCount),
        "ACCESS": UInt32(access),
      ]) { $1 })
  }
}

extension CacheBindings.Tensor {
  /// The buffers of ``CacheRows/of(_:device:)``.
  var rowBuffers: [DeviceBuffer] { [data] + (scales.map { [$0] } ?? []) }
}
