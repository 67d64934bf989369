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

/// What a user's modifications read: their block, as the plan has room for, and the buffers it names.
package struct CustomInputs: Sendable {
  package var block: [UInt8]
  package var buffers: [(name: String, buffer: DeviceBuffer, alignment: Int)]

  package init(
    block: [UInt8], buffers: [(name: String, buffer: DeviceBuffer, alignment: Int)]
  ) {
    self.block = block
    self.buffers = buffers
  }
}

/// The tensors of one attention in device memory.
///
/// Each buffer begins at element [0, 0, 0, 0] of its tensor; the request says where the rows lie. Use
/// ``/VulkanRuntime/DeviceBuffer/slice(_:)`` for a tensor inside a larger buffer.
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
  /// What a user's modifications read.
  package var custom: CustomInputs?

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

  /// Refuses buffers that are missing, too small, misaligned or of another device, and outputs that
  /// share memory.
  func check(for plan: AttentionPlan, on device: ComputeDevice) throws(AttentionError) {
    let request = plan.request
    var bound = BoundBuffers(on: device)
    try bound.bind(.query, of: request, query)
    try bound.bind(.output, of: request, output)
    if request.hasKeySources {
      try request.check(keySources)
      for (index, source) in keySources.enumerated() {
        try bound.bind(.key, of: request, source.key, name: "keySources[\(index)].key")
        if !request.valuesAreKeys {
          try bound.bind(.value, of: request, source.value, name: "keySources[\(index)].value")
        }
      }
    } else {
      try bound.bind(.key, of: request, key)
      if !request.valuesAreKeys {
        try bound.bind(.value, of: request, value)
      } else if value.address != key.address {
        throw .invalidArgument(
          name: "value", value: "another buffer than key",
          allowed: "the buffer of the keys, of which the request says that they are the values")
      }
    }
    if request.returnsLogSumExp {
      guard let logSumExp else { throw .missingLogSumExpBuffer }
      try bound.bind(
        "logSumExp", logSumExp, bytes: request.logSumExpByteCount, isWritten: true)
    }
    try bound.bind(request.operands, of: request, operands)
    try bound.bind(custom)
    try bound.bindScratch(scratch, bytes: plan.scratchByteCount)
    try bound.checkOverlaps()
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
    for item in custom?.buffers ?? [] { accesses.append(.read(item.buffer)) }
    return accesses
  }

  /// The keys and values as the caller has them.
  func sources(of request: AttentionRequest) -> [DeviceBuffer] {
    request.hasKeySources ? keySources.flatMap { [$0.key, $0.value] } : [key, value]
  }
}
