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

/// The tensors of one merge in device memory. Use ``DeviceBuffer/slice(_:)`` for a tensor inside a larger
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

  private typealias Input = (name: String, buffer: DeviceBuffer)
  private var inputs: [Input] = []

  /// - Throws: `AttentionError.invalidArgument`, `missingLogSumExpBuffer`, `bufferTooSmall`,
  ///   `misaligned`, `overlappingOutput`, or `device` for a buffer of another device.
  init(
    _ buffers: StateMergeBuffers, for request: StateMergeRequest, on device: ComputeDevice
  ) throws(AttentionError) {
    self.request = request
    func bound(
      _ name: String, _ buffer: DeviceBuffer, bytes: Int, alignment: Int = 4
    ) throws(AttentionError) -> DeviceBuffer {
      try wrappingDeviceErrors { () throws(VulkanError) in try device.checkOwner(of: buffer) }
      guard buffer.byteCount >= bytes else {
        throw .bufferTooSmall(
          tensor: name, requiredBytes: bytes, availableBytes: buffer.byteCount)
      }
      guard buffer.address % UInt64(alignment) == 0 else {
        throw .misaligned(tensor: name, address: buffer.address, requiredAlignment: alignment)
      }
      return try wrappingDeviceErrors { () throws(VulkanError) in try buffer.slice(0..<bytes) }
    }

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
      starts = try bound("partialStarts", buffer, bytes: bytes)
    }
    merged = try bound(
      "output", buffers.output, bytes: request.outputByteCount,
      alignment: request.alignment(of: request.mergedElementType))
    if request.returnsLogSumExp {
      guard let buffer = buffers.logSumExp else { throw .missingLogSumExpBuffer }
      mergedLogSumExp = try bound("logSumExp", buffer, bytes: request.logSumExpByteCount)
    } else {
      mergedLogSumExp = nil
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
      let output = try bound(
        name.output, state.output, bytes: request.outputByteCount(partials: partialsPerBuffer),
        alignment: request.alignment(of: request.elementType))
      let logSumExp = try bound(
        name.logSumExp, state.logSumExp,
        bytes: request.logSumExpByteCount(partials: partialsPerBuffer))
      outputs.append(output)
      logSumExps.append(logSumExp)
      inputs += [(name.output, output), (name.logSumExp, logSumExp)]
    }
    if let starts { inputs.append(("partialStarts", starts)) }
    try checkOverlaps()
  }

  private func checkOverlaps() throws(AttentionError) {
    if let mergedLogSumExp, merged.overlaps(mergedLogSumExp) {
      throw .overlappingOutput(output: "output", with: "logSumExp")
    }
    for (index, input) in inputs.enumerated() {
      // The first partial's output and log-sum-exp come first.
      if merged.overlaps(input.buffer), !(index == 0 && isOutputInPlace) {
        throw .overlappingOutput(output: "output", with: input.name)
      }
      if let mergedLogSumExp, mergedLogSumExp.overlaps(input.buffer),
        !(index == 1 && isLogSumExpInPlace)
      {
        throw .overlappingOutput(output: "logSumExp", with: input.name)
      }
    }
  }

  private var isOutputInPlace: Bool {
    merged.address == outputs[0].address && request.elementType == request.mergedElementType
      && isFirstApart(request.outputStrides, channels: request.valueHeadSize)
  }

  /// Whether the merged log-sum-exp replaces the first partial one.
  var isLogSumExpInPlace: Bool {
    mergedLogSumExp?.address == logSumExps[0].address
      && isFirstApart(request.logSumExpStrides, channels: 1)
  }

  private func isFirstApart(_ strides: StateStrides, channels: Int) -> Bool {
    request.isFirstPartialContiguous(
      strides, channels: channels, isAlone: outputs.count == 2)
  }

  /// What a dispatch does that writes the output, the log-sum-exp or both.
  func accesses(writesOutput: Bool, writesLogSumExp: Bool) -> [BufferAccess] {
    var accesses = inputs.map { BufferAccess.read($0.buffer) }
    if writesOutput { accesses.append(.write(merged)) }
    if writesLogSumExp, let mergedLogSumExp { accesses.append(.write(mergedLogSumExp)) }
    return accesses
  }
}
