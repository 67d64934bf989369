/// The tensors of statistics in device memory.
///
/// The inputs are those of the attention, of which the values and the output are not read. A result is given
/// where the request asks for it, contiguous, and shares memory with nothing. Shapes of packed sequences:
/// ``AttentionStatistic``.
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

  /// - Throws: `AttentionError.invalidArgument`, `missingLogSumExpBuffer`, `missingOperandBuffer`,
  ///   `missingScratchBuffer`, `bufferTooSmall`, `misaligned`, `overlappingOutput`, or `device` for a buffer of
  ///   another device.
  init(
    _ buffers: AttentionStatisticsBuffers, for plan: AttentionStatisticsPlan,
    on device: ComputeDevice
  ) throws(AttentionError) {
    let request = plan.request
    let attention = request.attention
    var bound = BoundBuffers(on: device)
    query = try bound.bind(.query, of: attention, buffers.query)
    if attention.hasKeySources {
      try attention.check(buffers.keySources)
      var keys: [DeviceBuffer] = []
      for (index, source) in buffers.keySources.enumerated() {
        keys.append(
          try bound.bind(.key, of: attention, source.key, name: "keySources[\(index)].key"))
      }
      self.keys = keys
    } else {
      keys = [try bound.bind(.key, of: attention, buffers.key)]
    }
    guard let logSumExp = buffers.logSumExp else { throw .missingLogSumExpBuffer }
    self.logSumExp = try bound.bind(
      "logSumExp", logSumExp, bytes: attention.logSumExpByteCount)
    operands = try bound.bind(request.operands, of: attention, buffers.operands)
    scratch = try bound.bindScratch(buffers.scratch, bytes: plan.scratchByteCount)

    try Self.checkResults(buffers, request)
    func result(
      _ name: String, _ buffer: DeviceBuffer?, bytes: Int, isWritten: Bool = true
    ) throws(AttentionError) -> DeviceBuffer {
      guard let buffer else {
        throw .invalidArgument(
          name: name, value: "nil",
          allowed: "a buffer of \(bytes) bytes, for the request asks for the statistic")
      }
      return try bound.bind(name, buffer, bytes: bytes, isWritten: isWritten)
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
    try bound.checkOverlaps()
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
