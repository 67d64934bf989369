/// The tensors of statistics in device memory.
///
/// The inputs are those of the attention, of which the values and the output are not read. A result is given
/// where the request asks for it, contiguous, and shares memory with nothing.
public struct AttentionStatisticsBuffers: Sendable {
  /// q [B, S, H, D].
  public var query: DeviceBuffer
  /// k [B, T, G, D]; without meaning where the attention has key sources.
  public var key: DeviceBuffer
  /// The log-sum-exp [B, S, H] in f32 that the attention returned.
  public var logSumExp: DeviceBuffer?
  /// The operands of the attention; those of states are not read and may be left out.
  public var operands: [AttentionOperand.Kind: DeviceBuffer]
  /// Keys of each key head, where the attention has key sources; their values are not read.
  public var keySources: [AttentionKeySource]
  /// Working memory of at least ``AttentionStatisticsPlan/scratchByteCount`` bytes; its contents do not
  /// matter. It may be the attention's.
  public var scratch: DeviceBuffer?

  /// f32 [B, H, T], written.
  public var keySums: DeviceBuffer?
  /// f32 [B, S, H], written.
  public var entropy: DeviceBuffer?
  /// Int32 [R]: the query tokens whose probabilities are wanted; beyond 0 ..< S the nearest one counts.
  public var queryRows: DeviceBuffer?
  /// f32 [B, R, H, T], written.
  public var probabilities: DeviceBuffer?
  /// Int32 [B, S, H, K], written.
  public var topKeyIndices: DeviceBuffer?
  /// f32 [B, S, H, K], written.
  public var topKeyProbabilities: DeviceBuffer?

  /// Takes over the inputs of an attention; results are set afterwards.
  public init(_ attention: AttentionBuffers) {
    query = attention.query
    key = attention.key
    logSumExp = attention.logSumExp
    operands = attention.operands
    keySources = attention.keySources
    scratch = attention.scratch
  }
}

/// The buffers of statistics after all checks.
struct AttentionStatisticsBindings {
  /// One statistic's tensors.
  struct Result {
    /// p.o of the shader.
    let output: DeviceBuffer
    /// p.v: the list of rows or the indices.
    let second: DeviceBuffer?
    let accesses: [BufferAccess]
  }

  let query: DeviceBuffer
  let logSumExp: DeviceBuffer
  /// The keys, or those of all sources.
  let keys: [DeviceBuffer]
  let operands: [AttentionOperand.Kind: DeviceBuffer]
  let scratch: DeviceBuffer?
  /// By the statistic's place in the request.
  private(set) var results: [Result] = []

  /// Vector loads, as the attention's.
  private static let alignment = 16

  private struct Bound {
    let name: String
    let buffer: DeviceBuffer
    let isWritten: Bool
  }

  /// - Throws: `AttentionError.invalidArgument`, `missingLogSumExpBuffer`, `missingOperandBuffer`,
  ///   `missingScratchBuffer`, `bufferTooSmall`, `misaligned`, `overlappingOutput`, or `device` for a buffer of
  ///   another device.
  init(
    _ buffers: AttentionStatisticsBuffers, for plan: AttentionStatisticsPlan,
    on device: ComputeDevice
  ) throws(AttentionError) {
    let request = plan.request
    let attention = request.attention
    var bound: [Bound] = []
    func bind(
      _ name: String, _ buffer: DeviceBuffer, bytes: Int, alignment: Int = 4,
      isWritten: Bool = false
    ) throws(AttentionError) -> DeviceBuffer {
      try wrappingDeviceErrors { () throws(VulkanError) in try device.checkOwner(of: buffer) }
      guard buffer.byteCount >= bytes else {
        throw .bufferTooSmall(
          tensor: name, requiredBytes: bytes, availableBytes: buffer.byteCount)
      }
      guard buffer.address % UInt64(alignment) == 0 else {
        throw .misaligned(tensor: name, address: buffer.address, requiredAlignment: alignment)
      }
      let part = try wrappingDeviceErrors { () throws(VulkanError) in
        try buffer.slice(0..<bytes)
      }
      bound.append(Bound(name: name, buffer: part, isWritten: isWritten))
      return part
    }
    func tensor(
      _ tensor: AttentionRequest.Tensor, _ name: String, _ buffer: DeviceBuffer
    ) throws(AttentionError) -> DeviceBuffer {
      try bind(
        name, buffer, bytes: attention.byteCount(of: tensor),
        alignment: attention.isAligned
          ? Self.alignment : attention.type(of: tensor).byteCount)
    }

    query = try tensor(.query, "query", buffers.query)
    if attention.hasKeySources {
      guard buffers.keySources.count == attention.keyHeads else {
        throw .invalidArgument(
          name: "keySources", value: "\(buffers.keySources.count) sources",
          allowed: "one for each of \(attention.keyHeads) key heads")
      }
      var keys: [DeviceBuffer] = []
      for (index, source) in buffers.keySources.enumerated() {
        keys.append(try tensor(.key, "keySources[\(index)].key", source.key))
      }
      self.keys = keys
    } else {
      keys = [try tensor(.key, "key", buffers.key)]
    }
    guard let logSumExp = buffers.logSumExp else { throw .missingLogSumExpBuffer }
    self.logSumExp = try bind("logSumExp", logSumExp, bytes: attention.logSumExpByteCount)

    var operands: [AttentionOperand.Kind: DeviceBuffer] = [:]
    for operand in request.operands {
      guard let buffer = buffers.operands[operand.kind] else {
        throw .missingOperandBuffer(operand: operand.kind)
      }
      operands[operand.kind] = try bind(
        operand.kind.rawValue, buffer, bytes: attention.byteCount(of: operand.kind),
        alignment: operand.kind.elementByteCount(operand.elementType))
    }
    for kind in buffers.operands.keys.sorted(by: { $0.rawValue < $1.rawValue })
    where attention.operand(kind) == nil {
      throw .invalidArgument(
        name: "operands.\(kind.rawValue)", value: "a buffer",
        allowed: "only what the attention names among its operands")
    }
    self.operands = operands
    if plan.scratchByteCount > 0 {
      guard let scratch = buffers.scratch else {
        throw .missingScratchBuffer(requiredBytes: plan.scratchByteCount)
      }
      self.scratch = try bind(
        "scratch", scratch, bytes: plan.scratchByteCount, alignment: Self.alignment,
        isWritten: true)
    } else {
      scratch = nil
    }

    try Self.checkResults(buffers, request)
    func result(
      _ name: String, _ buffer: DeviceBuffer?, bytes: Int, isWritten: Bool = true
    ) throws(AttentionError) -> DeviceBuffer {
      guard let buffer else {
        throw .invalidArgument(
          name: name, value: "nil",
          allowed: "a buffer of \(bytes) bytes, for the request asks for the statistic")
      }
      return try bind(name, buffer, bytes: bytes, isWritten: isWritten)
    }
    for statistic in request.statistics {
      let bytes = request.byteCount(of: statistic)
      switch statistic {
      case .keySums:
        let sums = try result("keySums", buffers.keySums, bytes: bytes)
        results.append(Result(output: sums, second: nil, accesses: [.write(sums)]))
      case .entropy:
        let entropy = try result("entropy", buffers.entropy, bytes: bytes)
        results.append(Result(output: entropy, second: nil, accesses: [.write(entropy)]))
      case .probabilities:
        let rows = try result(
          "queryRows", buffers.queryRows, bytes: request.queryRowsByteCount, isWritten: false)
        let output = try result("probabilities", buffers.probabilities, bytes: bytes)
        results.append(
          Result(output: output, second: rows, accesses: [.read(rows), .write(output)]))
      case .topKeys:
        let indices = try result("topKeyIndices", buffers.topKeyIndices, bytes: bytes)
        let output = try result("topKeyProbabilities", buffers.topKeyProbabilities, bytes: bytes)
        results.append(
          Result(output: output, second: indices, accesses: [.write(indices), .write(output)]))
      }
    }
    for (index, written) in bound.enumerated() where written.isWritten {
      for (other, item) in bound.enumerated()
      where other != index && written.buffer.overlaps(item.buffer) {
        throw .overlappingOutput(output: written.name, with: item.name)
      }
    }
  }

  /// Refuses results that nothing was asked for: they would stay as they are.
  private static func checkResults(
    _ buffers: AttentionStatisticsBuffers, _ request: AttentionStatisticsRequest
  ) throws(AttentionError) {
    let names = Set(request.statistics.map(\.name))
    for (name, buffer, statistic) in [
      ("keySums", buffers.keySums, "keySums"), ("entropy", buffers.entropy, "entropy"),
      ("queryRows", buffers.queryRows, "probabilities"),
      ("probabilities", buffers.probabilities, "probabilities"),
      ("topKeyIndices", buffers.topKeyIndices, "topKeys"),
      ("topKeyProbabilities", buffers.topKeyProbabilities, "topKeys"),
    ] where buffer != nil && !names.contains(statistic) {
      throw .invalidArgument(
        name: name, value: "a buffer",
        allowed: "nil where the request does not ask for \(statistic)")
    }
  }
}
