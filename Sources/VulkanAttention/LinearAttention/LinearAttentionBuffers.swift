/// The tensors of one linear attention in device memory.
///
/// Each buffer begins at the first element of its tensor; the request says where the rows lie. Use
/// ``/VulkanRuntime/DeviceBuffer/slice(_:)`` for a tensor inside a larger buffer. The final state may be the memory of the
/// initial one, and the final sum that of the initial sum.
public struct LinearAttentionBuffers: Sendable {
  /// q [B, T, G, K].
  public var query: DeviceBuffer
  /// k [B, T·U, G, K].
  public var key: DeviceBuffer
  /// v [B, T·U, H, V].
  public var value: DeviceBuffer
  /// o [B, T, H, V], written; tokens outside of every packed sequence are not.
  public var output: DeviceBuffer
  /// The operands of the request.
  public var operands: [LinearAttentionOperand: DeviceBuffer]
  /// Working memory of at least ``LinearAttentionPlan/scratchByteCount`` bytes; its contents do not matter.
  /// Kernels that run one after the other can share it.
  public var scratch: DeviceBuffer

  /// Names the tensors.
  public init(
    query: DeviceBuffer, key: DeviceBuffer, value: DeviceBuffer, output: DeviceBuffer,
    operands: [LinearAttentionOperand: DeviceBuffer] = [:], scratch: DeviceBuffer
  ) {
    self.query = query
    self.key = key
    self.value = value
    self.output = output
    self.operands = operands
    self.scratch = scratch
  }
}

/// The buffers of a linear attention after all checks, each cut to what the request needs of it.
struct LinearAttentionBindings {
  let plan: LinearAttentionPlan
  let query: DeviceBuffer
  let key: DeviceBuffer
  let value: DeviceBuffer
  let output: DeviceBuffer
  private(set) var operands: [LinearAttentionOperand: DeviceBuffer] = [:]
  let scratch: DeviceBuffer

  /// - Throws: `AttentionError.invalidArgument`, `bufferTooSmall`, `misaligned`, `overlappingOutput`, or `device`
  ///   for a buffer of another device.
  init(
    _ buffers: LinearAttentionBuffers, for plan: LinearAttentionPlan, on device: ComputeDevice
  ) throws(AttentionError) {
    let request = plan.request
    self.plan = plan
    var bound = BoundBuffers(on: device)
    func bind(
      _ tensor: LinearAttentionRequest.Tensor, _ buffer: DeviceBuffer
    ) throws(AttentionError) -> DeviceBuffer {
      let isKey = tensor == .query || tensor == .key
      return try bound.bind(
        tensor.rawValue, buffer, bytes: request.byteCount(of: tensor),
        alignment: isKey && request.isAligned
          ? BoundBuffers.vectorAlignment : request.type(of: tensor).byteCount,
        isWritten: tensor == .output)
    }
    query = try bind(.query, buffers.query)
    key = try bind(.key, buffers.key)
    value = try bind(.value, buffers.value)
    output = try bind(.output, buffers.output)
    for operand in request.operands.sorted(by: { $0.rawValue < $1.rawValue }) {
      guard let buffer = buffers.operands[operand] else {
        throw .invalidArgument(
          name: "operands.\(operand.rawValue)", value: "nil",
          allowed: "a buffer of \(request.byteCount(of: operand)) bytes, which the request names")
      }
      operands[operand] = try bound.bind(
        operand.rawValue, buffer, bytes: request.byteCount(of: operand),
        alignment: request.isVector(operand) && request.isAligned
          ? BoundBuffers.vectorAlignment : request.type(of: operand)?.byteCount ?? 4,
        isWritten: operand.isWritten, over: operand.partner?.rawValue)
    }
    for operand in buffers.operands.keys.sorted(by: { $0.rawValue < $1.rawValue })
    where !request.operands.contains(operand) {
      throw .invalidArgument(
        name: "operands.\(operand.rawValue)", value: "a buffer",
        allowed: "only what the request names among its operands")
    }
    scratch = try bound.bind(
      "scratch", buffers.scratch, bytes: plan.scratchByteCount,
      alignment: BoundBuffers.vectorAlignment, isWritten: true)
    try bound.checkOverlaps()
  }

  /// What every dispatch touches: pieces pass states through scratch memory and through the final states.
  var accesses: [BufferAccess] {
    [.read(query), .read(key), .read(value), .write(output), .readWrite(scratch)]
      + operands.map { $0.key.isWritten ? .readWrite($0.value) : .read($0.value) }
  }

  /// The block of tensors, or that of the denominators.
  func block(isSum: Bool) -> LinearAttentionBlock {
    let request = plan.request
    var block = LinearAttentionBlock(request)
    block.set(.query, query.address, request.queryStrides)
    block.set(.key, key.address, request.keyStrides)
    block.set(.value, value.address, request.valueStrides)
    for (operand, buffer) in operands {
      guard let slot = operand.slot, operand != .initialState, operand != .finalState else {
        continue
      }
      if operand == .snapshots {
        block.setState(slot, buffer.address, columns: request.valueHeadSize)
        continue
      }
      block.set(slot, buffer.address, request.view(of: operand)?.strides)
    }
    let columns = isSum ? 1 : request.valueHeadSize
    if let initial = operands[isSum ? .initialSum : .initialState] {
      block.setState(.initialState, initial.address, columns: columns)
    }
    if let final = operands[isSum ? .finalSum : .finalState] {
      block.setState(.finalState, final.address, columns: columns)
    }
    let layout = plan.scratch
    func address(_ range: Range<Int>?) -> UInt64 {
      range.map { scratch.address + UInt64($0.lowerBound) } ?? 0
    }
    let rows = TensorStrides.tokenMajor(
      tokens: request.tokens, heads: request.valueHeads, channels: 1)
    block.set(.denominators, address(layout.denominators), rows)
    if isSum {
      block.set(.output, address(layout.denominators), rows)
    } else {
      block.set(.output, output.address, request.outputStrides)
    }
    block.setState(
      .carry, address(isSum ? layout.sumCarry : layout.carry), columns: columns)
    block.set(.records, address(layout.records))
    block.set(.parts, address(layout.parts))
    return block
  }
}
