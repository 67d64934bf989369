/// The tensors of one attention in device memory.
///
/// Each buffer begins at element [0, 0, 0, 0] of its tensor; the request says where the rows lie. Use
/// ``DeviceBuffer/slice(_:)`` for a tensor inside a larger buffer.
public struct AttentionBuffers: Sendable {
  /// q [B, S, H, D].
  public var query: DeviceBuffer
  /// k [B, T, G, D].
  public var key: DeviceBuffer
  /// v [B, T, G, E].
  public var value: DeviceBuffer
  /// o [B, S, H, E], written.
  public var output: DeviceBuffer
  /// The log-sum-exp [B, S, H] in f32, contiguous, written where the request returns it.
  public var logSumExp: DeviceBuffer?

  /// Names the tensors.
  public init(
    query: DeviceBuffer, key: DeviceBuffer, value: DeviceBuffer, output: DeviceBuffer,
    logSumExp: DeviceBuffer? = nil
  ) {
    self.query = query
    self.key = key
    self.value = value
    self.output = output
    self.logSumExp = logSumExp
  }

  /// 16-byte vector loads and stores.
  private static let alignment = 16

  /// Refuses buffers that are too small, misaligned or overlap an output.
  func check(for request: AttentionRequest) throws(AttentionError) {
    let named: [(tensor: AttentionRequest.Tensor, buffer: DeviceBuffer)] = [
      (.query, query), (.key, key), (.value, value), (.output, output),
    ]
    for (tensor, buffer) in named {
      let required = request.byteCount(of: tensor)
      guard buffer.byteCount >= required else {
        throw .bufferTooSmall(
          tensor: tensor.rawValue, requiredBytes: required, availableBytes: buffer.byteCount)
      }
      guard buffer.address % UInt64(Self.alignment) == 0 else {
        throw .misaligned(
          tensor: tensor.rawValue, address: buffer.address, requiredAlignment: Self.alignment)
      }
    }
    for (tensor, buffer) in named.dropLast() where output.overlaps(buffer) {
      throw .overlappingOutput(output: "output", with: tensor.rawValue)
    }
    guard request.returnsLogSumExp else { return }
    guard let logSumExp else { throw .missingLogSumExpBuffer }
    guard logSumExp.byteCount >= request.logSumExpByteCount else {
      throw .bufferTooSmall(
        tensor: "logSumExp", requiredBytes: request.logSumExpByteCount,
        availableBytes: logSumExp.byteCount)
    }
    guard logSumExp.address % 4 == 0 else {
      throw .misaligned(tensor: "logSumExp", address: logSumExp.address, requiredAlignment: 4)
    }
    for (tensor, buffer) in named where logSumExp.overlaps(buffer) {
      throw .overlappingOutput(output: "logSumExp", with: tensor.rawValue)
    }
  }

  /// The accesses of a dispatch over these buffers.
  func accesses(for request: AttentionRequest) -> [BufferAccess] {
    var accesses: [BufferAccess] = [.read(query), .read(key), .read(value), .write(output)]
    if request.returnsLogSumExp, let logSumExp { accesses.append(.write(logSumExp)) }
    return accesses
  }
}
