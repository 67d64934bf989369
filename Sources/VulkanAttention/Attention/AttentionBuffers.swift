/// Where one key head's keys and values lie, of a cache of their own.
public struct AttentionKeySource: Sendable {
  /// k [B, T, D] of one head.
  public var key: DeviceBuffer
  /// v [B, T, E] of one head.
  public var value: DeviceBuffer

  /// Names the tensors.
  public init(key: DeviceBuffer, value: DeviceBuffer) {
    self.key = key
    self.value = value
  }
}

/// The tensors of one attention in device memory.
///
/// Each buffer begins at element [0, 0, 0, 0] of its tensor; the request says where the rows lie. Use
/// ``DeviceBuffer/slice(_:)`` for a tensor inside a larger buffer.
public struct AttentionBuffers: Sendable {
  /// q [B, S, H, D].
  public var query: DeviceBuffer
  /// k [B, T, G, D]; without meaning where the request has key sources.
  public var key: DeviceBuffer
  /// v [B, T, G, E]; k's buffer where values are keys.
  public var value: DeviceBuffer
  /// o [B, S, H, E], written.
  public var output: DeviceBuffer
  /// The log-sum-exp [B, S, H] in f32, contiguous, written where the request returns it.
  public var logSumExp: DeviceBuffer?
  /// The operands of the request.
  public var operands: [AttentionOperand.Kind: DeviceBuffer]
  /// Keys and values of each key head, where the request has key sources.
  public var keySources: [AttentionKeySource]
  /// Working memory of at least ``AttentionPlan/scratchByteCount`` bytes; its contents do not matter.
  /// Kernels that run one after the other can share it.
  public var scratch: DeviceBuffer?

  /// Names the tensors.
  public init(
    query: DeviceBuffer, key: DeviceBuffer, value: DeviceBuffer, output: DeviceBuffer,
    logSumExp: DeviceBuffer? = nil, operands: [AttentionOperand.Kind: DeviceBuffer] = [:],
    keySources: [AttentionKeySource] = [], scratch: DeviceBuffer? = nil
  ) {
    self.query = query
    self.key = key
    self.value = value
    self.output = output
    self.logSumExp = logSumExp
    self.operands = operands
    self.keySources = keySources
    self.scratch = scratch
  }

  /// 16-byte vector loads and stores.
  private static let alignment = 16

  /// A buffer with what a plan needs of it.
  private struct Bound {
    let name: String
    let buffer: DeviceBuffer
    let requiredBytes: Int
    let alignment: Int
    let isWritten: Bool
    /// What it may share memory with although it is written: a state is updated in place.
    var partner: String?
  }

  private func bound(for plan: AttentionPlan) throws(AttentionError) -> [Bound] {
    let request = plan.request
    func tensor(_ tensor: AttentionRequest.Tensor, _ buffer: DeviceBuffer, _ name: String? = nil)
      -> Bound
    {
      Bound(
        name: name ?? tensor.rawValue, buffer: buffer, requiredBytes: request.byteCount(of: tensor),
        alignment: request.isAligned ? Self.alignment : request.type(of: tensor).byteCount,
        isWritten: tensor == .output)
    }
    var bound = [tensor(.query, query), tensor(.output, output)]
    if request.hasKeySources {
      guard keySources.count == request.keyHeads else {
        throw .invalidArgument(
          name: "keySources", value: "\(keySources.count) sources",
          allowed: "one for each of \(request.keyHeads) key heads")
      }
      for (index, source) in keySources.enumerated() {
        bound.append(tensor(.key, source.key, "keySources[\(index)].key"))
        if !request.valuesAreKeys {
          bound.append(tensor(.value, source.value, "keySources[\(index)].value"))
        }
      }
    } else {
      bound.append(tensor(.key, key))
      if request.valuesAreKeys {
        guard value.address == key.address else {
          throw .invalidArgument(
            name: "value", value: "another buffer than key",
            allowed: "the buffer of the keys, of which the request says that they are the values")
        }
      } else {
        bound.append(tensor(.value, value))
      }
    }
    if request.returnsLogSumExp {
      guard let logSumExp else { throw .missingLogSumExpBuffer }
      bound.append(
        Bound(
          name: "logSumExp", buffer: logSumExp, requiredBytes: request.logSumExpByteCount,
          alignment: 4, isWritten: true))
    }
    for operand in request.operands {
      guard let buffer = operands[operand.kind] else {
        throw .missingOperandBuffer(operand: operand.kind)
      }
      bound.append(
        Bound(
          name: operand.kind.rawValue, buffer: buffer,
          requiredBytes: request.byteCount(of: operand.kind),
          alignment: operand.kind.elementByteCount(operand.elementType),
          isWritten: operand.kind.isWritten, partner: operand.kind.initialPartner?.rawValue))
    }
    for kind in operands.keys.sorted(by: { $0.rawValue < $1.rawValue })
    where request.operand(kind) == nil {
      throw .invalidArgument(
        name: "operands.\(kind.rawValue)", value: "a buffer",
        allowed: "only what the request names among its operands")
    }
    if plan.scratchByteCount > 0 {
      guard let scratch else { throw .missingScratchBuffer(requiredBytes: plan.scratchByteCount) }
      bound.append(
        Bound(
          name: "scratch", buffer: scratch, requiredBytes: plan.scratchByteCount,
          alignment: Self.alignment, isWritten: true))
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
        // Each row reads its state before it writes it.
        if written.partner == item.name, written.buffer.address == item.buffer.address { continue }
        if item.partner == written.name, written.buffer.address == item.buffer.address { continue }
        throw .overlappingOutput(output: written.name, with: item.name)
      }
    }
  }

  /// What the attention itself does with the buffers, once keys and values are where it reads them.
  ///
  /// - Parameter sources: the keys and values as it reads them; those of all heads where they have
  ///   sources of their own.
  func accesses(for plan: AttentionPlan, sources: [DeviceBuffer]) -> [BufferAccess] {
    let request = plan.request
    var accesses: [BufferAccess] = [.read(query), .write(output)] + sources.map { .read($0) }
    if request.returnsLogSumExp, let logSumExp { accesses.append(.write(logSumExp)) }
    for operand in request.operands {
      guard let buffer = operands[operand.kind] else { continue }
      accesses.append(operand.kind.isWritten ? .write(buffer) : .read(buffer))
    }
    return accesses
  }

  /// The keys and values as the caller has them.
  func sources(of request: AttentionRequest) -> [DeviceBuffer] {
    request.hasKeySources ? keySources.flatMap { [$0.key, $0.value] } : [key, value]
  }
}

extension AttentionOperand.Kind {
  /// The state that an output may be written over.
  var initialPartner: Self? {
    switch self {
    case .finalMax: .initialMax
    case .finalSum: .initialSum
    case .finalOutput: .initialOutput
    default: nil
    }
  }
}
