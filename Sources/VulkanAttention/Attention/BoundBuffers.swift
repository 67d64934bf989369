/// The buffers of one kernel's call, each checked as it is bound.
///
/// What counts of a buffer is what the kernel uses: the bytes behind that may be another's.
struct BoundBuffers {
  private struct Item {
    let name: String
    let buffer: DeviceBuffer
    let isWritten: Bool
    let partner: String?
  }

  private let device: ComputeDevice
  private var items: [Item] = []

  /// What vector loads and stores need.
  static let vectorAlignment = 16

  init(on device: ComputeDevice) {
    self.device = device
  }

  /// Refuses a buffer that is too small, misaligned or of another device.
  ///
  /// - Parameters:
  ///   - name: the tensor's, as in errors.
  ///   - bytes: what the kernel uses of it, from its start.
  ///   - partner: a tensor whose memory this one may replace although it is written, from the same
  ///     address on: its kernel reads each element before it writes it.
  /// - Returns: the part that the kernel uses.
  @discardableResult
  mutating func bind(
    _ name: String, _ buffer: DeviceBuffer, bytes: Int, alignment: Int = 4,
    isWritten: Bool = false, over partner: String? = nil
  ) throws(AttentionError) -> DeviceBuffer {
    let device = device
    try wrappingDeviceErrors { () throws(VulkanError) in try device.checkOwner(of: buffer) }
    guard buffer.byteCount >= bytes else {
      throw .bufferTooSmall(tensor: name, requiredBytes: bytes, availableBytes: buffer.byteCount)
    }
    guard buffer.address % UInt64(alignment) == 0 else {
      throw .misaligned(tensor: name, address: buffer.address, requiredAlignment: alignment)
    }
    let part = try wrappingDeviceErrors { () throws(VulkanError) in try buffer.slice(0..<bytes) }
    items.append(Item(name: name, buffer: part, isWritten: isWritten, partner: partner))
    return part
  }

  /// Refuses a written buffer that shares memory with any other, once all are bound.
  func checkOverlaps() throws(AttentionError) {
    for (index, written) in items.enumerated() where written.isWritten {
      for (other, item) in items.enumerated()
      where other != index && written.buffer.overlaps(item.buffer) {
        let isInPlace = written.partner == item.name || item.partner == written.name
        if isInPlace, written.buffer.address == item.buffer.address { continue }
        throw .overlappingOutput(output: written.name, with: item.name)
      }
    }
  }
}

// What an attention and its statistics bind alike.
extension BoundBuffers {
  /// One of the attention's own tensors.
  @discardableResult
  mutating func bind(
    _ tensor: AttentionRequest.Tensor, of request: AttentionRequest, _ buffer: DeviceBuffer,
    name: String? = nil
  ) throws(AttentionError) -> DeviceBuffer {
    try bind(
      name ?? tensor.rawValue, buffer, bytes: request.byteCount(of: tensor),
      alignment: request.isAligned
        ? Self.vectorAlignment : request.type(of: tensor).byteCount,
      isWritten: tensor == .output)
  }

  /// The operands that a kernel uses; buffers for what the request does not have are refused.
  @discardableResult
  mutating func bind(
    _ operands: [AttentionOperand], of request: AttentionRequest,
    _ buffers: [AttentionOperand.Kind: DeviceBuffer]
  ) throws(AttentionError) -> [AttentionOperand.Kind: DeviceBuffer] {
    var bound: [AttentionOperand.Kind: DeviceBuffer] = [:]
    for operand in operands {
      guard let buffer = buffers[operand.kind] else {
        throw .missingOperandBuffer(operand: operand.kind)
      }
      bound[operand.kind] = try bind(
        operand.kind.rawValue, buffer, bytes: request.byteCount(of: operand.kind),
        alignment: operand.kind.elementByteCount(operand.elementType),
        isWritten: operand.kind.isWritten, over: operand.kind.initialPartner?.rawValue)
    }
    for kind in buffers.keys.sorted(by: { $0.rawValue < $1.rawValue })
    where request.operand(kind) == nil {
      throw .invalidArgument(
        name: "operands.\(kind.rawValue)", value: "a buffer",
        allowed: "only what the attention names among its operands")
    }
    return bound
  }

  /// What a user's modifications read.
  @discardableResult
  mutating func bind(_ custom: CustomInputs?) throws(AttentionError) -> [DeviceBuffer] {
    var bound: [DeviceBuffer] = []
    for item in custom?.buffers ?? [] {
      bound.append(
        try bind(
          item.name, item.buffer, bytes: item.buffer.byteCount, alignment: item.alignment))
    }
    return bound
  }

  /// Working memory, where any is needed.
  @discardableResult
  mutating func bindScratch(
    _ buffer: DeviceBuffer?, bytes: Int
  ) throws(AttentionError) -> DeviceBuffer? {
    if bytes == 0 { return nil }
    guard let buffer else { throw .missingScratchBuffer(requiredBytes: bytes) }
    return try bind(
      "scratch", buffer, bytes: bytes, alignment: Self.vectorAlignment, isWritten: true)
  }
}

extension AttentionRequest {
  /// Refuses another number of key sources than there are key heads.
  func check(_ sources: [AttentionKeySource]) throws(AttentionError) {
    guard sources.count == keyHeads else {
      throw .invalidArgument(
        name: "keySources", value: "\(sources.count) sources",
        allowed: "one for each of \(keyHeads) key heads")
    }
  }
}

extension AttentionOperand.Kind {
  /// The state that an output may be written over.
  fileprivate var initialPartner: Self? {
    switch self {
    case .finalMax: .initialMax
    case .finalSum: .initialSum
    case .finalOutput: .initialOutput
    default: nil
    }
  }
}
