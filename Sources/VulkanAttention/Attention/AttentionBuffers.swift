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
  /// Working memory of at least ``AttentionPlan/scratchByteCount`` bytes; its contents do not matter.
  /// Kernels that run one after the other can share it.
  public var scratch: DeviceBuffer?

  /// Names the tensors.
  public init(
    query: DeviceBuffer, key: DeviceBuffer, value: DeviceBuffer, output: DeviceBuffer,
    logSumExp: DeviceBuffer? = nil, scratch: DeviceBuffer? = nil
  ) {
    self.query = query
    self.key = key
    self.value = value
    self.output = output
    self.logSumExp = logSumExp
    self.scratch = scratch
  }

  /// 16-byte vector loads and stores.
  private static let alignment = 16

  /// A buffer with what a plan needs of it.
  private struct Bound {
    let name: String
    let buffer: DeviceBuffer
    let requiredBytes: Int
    var alignment = AttentionBuffers.alignment
    let isWritten: Bool
  }

  private func bound(for plan: AttentionPlan) throws(AttentionError) -> [Bound] {
    let request = plan.request
    let tensors: [(AttentionRequest.Tensor, DeviceBuffer)] = [
      (.query, query), (.key, key), (.value, value), (.output, output),
    ]
    var bound = tensors.map { tensor, buffer in
      Bound(
        name: tensor.rawValue, buffer: buffer, requiredBytes: request.byteCount(of: tensor),
        isWritten: tensor == .output)
    }
    if request.returnsLogSumExp {
      guard let logSumExp else { throw .missingLogSumExpBuffer }
      bound.append(
        Bound(
          name: "logSumExp", buffer: logSumExp, requiredBytes: request.logSumExpByteCount,
          alignment: 4, isWritten: true))
    }
    if plan.scratchByteCount > 0 {
      guard let scratch else { throw .missingScratchBuffer(requiredBytes: plan.scratchByteCount) }
      bound.append(
        Bound(
          name: "scratch", buffer: scratch, requiredBytes: plan.scratchByteCount,
          isWritten: true))
    }
    return bound
  }

  /// Refuses buffers that are missing, too small, misaligned or of another device, and outputs that
  /// share memory.
  func check(
    for plan: AttentionPlan, on device: ComputeDevice
  ) throws(AttentionError) {
    let bound = try bound(for: plan)
    for item in bound {
      try wrappingDeviceErrors { () throws(VulkanError) in
        try device.checkOwner(of: item.buffer)
      }
      guard item.buffer.byteCount >= item.requiredBytes else {
        throw .bufferTooSmall(
          tensor: item.name, requiredBytes: item.requiredBytes,
          availableBytes: item.buffer.byteCount)
      }
      guard item.buffer.address % UInt64(item.alignment) == 0 else {
        throw .misaligned(
          tensor: item.name, address: item.buffer.address, requiredAlignment: item.alignment)
      }
    }
    for (index, written) in bound.enumerated() where written.isWritten {
      for (other, item) in bound.enumerated()
      where other != index && written.buffer.overlaps(item.buffer) {
        throw .overlappingOutput(output: written.name, with: item.name)
      }
    }
  }

  /// What the attention itself does with the buffers, once keys and values are where it reads them.
  func accesses(
    for request: AttentionRequest, key: DeviceBuffer, value: DeviceBuffer
  ) -> [BufferAccess] {
    var accesses: [BufferAccess] = [.read(query), .read(key), .read(value), .write(output)]
    if request.returnsLogSumExp, let logSumExp { accesses.append(.write(logSumExp)) }
    return accesses
  }
}
