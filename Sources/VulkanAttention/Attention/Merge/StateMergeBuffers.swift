/// What an attention leaves: its normalised output and the logarithm of the weights' sum.
///
/// States over disjoint sets of keys can be merged in any grouping (FlashInfer,
/// https://arxiv.org/abs/2501.01005).
public struct AttentionState: Sendable {
  /// O, of the request's type and strides.
  public var output: DeviceBuffer
  /// The log-sum-exp, natural logarithm, f32.
  public var logSumExp: DeviceBuffer

  /// Names the tensors.
  public init(output: DeviceBuffer, logSumExp: DeviceBuffer) {
    self.output = output
    self.logSumExp = logSumExp
  }
}

/// The tensors of one merge in device memory. Use ``/VulkanRuntime/DeviceBuffer/slice(_:)`` for a tensor inside a larger
/// buffer.
///
/// The merged output may lie exactly where the first partial one is, if both have the same type and the
/// first partial is contiguous [rowCount, H, E] and apart from the others; the log-sum-exp likewise. Any
/// other memory that a result shares with another tensor is refused.
public struct StateMergeBuffers: Sendable {
  /// Where the partial results are.
  public enum Partials: Sendable {
    /// All of them at the strides of the request.
    case strided(AttentionState)
    /// Two, each in buffers of its own.
    case separate(AttentionState, AttentionState)
  }

  /// The partial results.
  public var partials: Partials
  /// Int32 [rowCount + 1], rising, for a request with a total of partials; nil for others.
  public var partialStarts: DeviceBuffer?
  /// O [rowCount, H, E], written.
  public var output: DeviceBuffer
  /// The log-sum-exp [rowCount, H] in f32, written where the request returns it.
  public var logSumExp: DeviceBuffer?

  /// Names the tensors of a merge whose partials lie at the strides of the request.
  public init(
    _ partials: AttentionState, partialStarts: DeviceBuffer? = nil, output: DeviceBuffer,
    logSumExp: DeviceBuffer? = nil
  ) {
    self.partials = .strided(partials)
    self.partialStarts = partialStarts
    self.output = output
    self.logSumExp = logSumExp
  }

  /// Names the tensors of a merge of two states.
  public init(
    _ first: AttentionState, _ second: AttentionState, output: DeviceBuffer,
    logSumExp: DeviceBuffer? = nil
  ) {
    partials = .separate(first, second)
    self.output = output
    self.logSumExp = logSumExp
  }
}

/// The buffers of a merge after all checks, each cut to what the request needs of it.
struct StateMergeBindings {
  let request: StateMergeRequest
  /// The partial outputs: one buffer, or two.
  private(set) var outputs: [DeviceBuffer] = []
  /// Their log-sum-exps.
  private(set) var logSumExps: [DeviceBuffer] = []
  let starts: DeviceBuffer?
  let merged: DeviceBuffer
  let mergedLogSumExp: DeviceBuffer?

  /// - Throws: `AttentionError.invalidArgument`, `missingLogSumExpBuffer`, `bufferTooSmall`,
  ///   `misaligned`, `overlappingOutput`, or `device` for a buffer of another device.
  init(
    _ buffers: StateMergeBuffers, for request: StateMergeRequest, on device: ComputeDevice
  ) throws(AttentionError) {
    self.request = request
    var bound = BoundBuffers(on: device)
    switch (request.partialStartByteCount, buffers.partialStarts) {
    case (0, nil): starts = nil
    case (0, _?):
      throw .invalidArgument(
        name: "partialStarts", value: "a buffer",
        allowed: "nil where every row has the same number of partials")
    case (_, nil):
      throw .invalidArgument(
        name: "partialStarts", value: "nil",
        allowed: "a buffer of \(request.rowCount + 1) Int32 for a request with a total of partials")
    case (let bytes, let buffer?):
      starts = try bound.bind("partialStarts", buffer, bytes: bytes)
    }
    let states: [(name: (output: String, logSumExp: String), state: AttentionState)]
    let partialsPerBuffer: Int
    switch buffers.partials {
    case .strided(let state):
      states = [(("partialOutputs", "partialLogSumExps"), state)]
      partialsPerBuffer = request.partialCount
    case .separate(let first, let second):
      guard request.partials == .perRow(2) else {
        throw .invalidArgument(
          name: "partials", value: "\(request.partials)",
          allowed: "perRow(2) for two states in buffers of their own")
      }
      states = [
        (("firstOutput", "firstLogSumExp"), first), (("secondOutput", "secondLogSumExp"), second),
      ]
      partialsPerBuffer = 1
    }
    for (name, state) in states {
      let output = try bound.bind(
        name.output, state.output, bytes: request.outputByteCount(partials: partialsPerBuffer),
        alignment: request.alignment(of: request.elementType))
      let logSumExp = try bound.bind(
        name.logSumExp, state.logSumExp,
        bytes: request.logSumExpByteCount(partials: partialsPerBuffer))
      outputs.append(output)
      logSumExps.append(logSumExp)
    }
    let isAlone = states.count == 2
    func isFirstApart(_ strides: StateStrides, channels: Int) -> Bool {
      request.isFirstPartialContiguous(strides, channels: channels, isAlone: isAlone)
    }
    let replacesOutput =
      request.elementType == request.mergedElementType
      && isFirstApart(request.outputStrides, channels: request.valueHeadSize)
    merged = try bound.bind(
      "output", buffers.output, bytes: request.outputByteCount,
      alignment: request.alignment(of: request.mergedElementType), isWritten: true,
      over: replacesOutput ? states[0].name.output : nil)
    if request.returnsLogSumExp {
      guard let buffer = buffers.logSumExp else { throw .missingLogSumExpBuffer }
      mergedLogSumExp = try bound.bind(
        "logSumExp", buffer, bytes: request.logSumExpByteCount, isWritten: true,
        over: isFirstApart(request.logSumExpStrides, channels: 1)
          ? states[0].name.logSumExp : nil)
    } else {
      mergedLogSumExp = nil
    }
    try bound.checkOverlaps()
  }

  /// Whether the merged log-sum-exp replaces the first partial one.
  var isLogSumExpInPlace: Bool { mergedLogSumExp?.address == logSumExps[0].address }

  /// What a dispatch does that writes the output, the log-sum-exp or both.
  func accesses(writesOutput: Bool, writesLogSumExp: Bool) -> [BufferAccess] {
    let starts = starts.map { [$0] } ?? []
    var accesses = (outputs + logSumExps + starts).map { BufferAccess.read($0) }
    if writesOutput { accesses.append(.write(merged)) }
    if writesLogSumExp, let mergedLogSumExp { accesses.append(.write(mergedLogSumExp)) }
    return accesses
  }
}
