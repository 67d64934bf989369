extension LinearAttentionRequest {
  /// The tensors that every linear attention has.
  public enum Tensor: String, Sendable, Hashable, CaseIterable {
    /// q [B, T, G, K].
    case query
    /// k [B, T·U, G, K].
    case key
    /// v [B, T·U, H, V].
    case value
    /// o [B, T, H, V].
    case output
  }

  /// The type of a tensor's elements.
  public func type(of tensor: Tensor) -> ElementType {
    switch tensor {
    case .query, .key: elementType
    case .value: valueType
    case .output: outputType
    }
  }

  /// The type of an operand's elements; nil for 32-bit integers.
  public func type(of operand: LinearAttentionOperand) -> ElementType? {
    switch operand {
    case .decay, .keyDecay, .valueDecay, .beta, .eraseGates, .writeGates, .timeStep: gateType
    case .eraseKeys, .lowRankA, .lowRankB: elementType
    case .outputGate: valueType
    case .sequenceStarts, .sequenceIDs, .stateSlots, .parents: nil
    default: .f32
    }
  }

  /// The size in bytes that a tensor's buffer needs: up to the end of its last row.
  public func byteCount(of tensor: Tensor) -> Int {
    // `init` has checked that this does not overflow.
    (view(of: tensor).elementCount ?? 0) * type(of: tensor).byteCount
  }

  /// The size in bytes that an operand's buffer needs; 0 for one that the request has not.
  public func byteCount(of operand: LinearAttentionOperand) -> Int {
    guard operands.contains(operand) else { return 0 }
    if let view = view(of: operand) {
      return (view.elementCount ?? 0) * (type(of: operand)?.byteCount ?? 4)
    }
    return switch operand {
    case .headDecay, .rate, .timeStepBias, .skip: valueHeads * 4
    case .bonus: valueHeads * keyHeadSize * 4
    case .initialState, .finalState: stateByteCount(columns: valueHeadSize) ?? 0
    case .initialSum, .finalSum: stateByteCount(columns: 1) ?? 0
    case .snapshots: snapshotByteCount ?? 0
    case .sequenceStarts: (sequenceCount + 1) * 4
    case .stateSlots: sequenceCount * 4
    default: 0
    }
  }

  /// The bytes of all states with some columns; nil where they cannot be counted.
  func stateByteCount(columns: Int) -> Int? {
    let head = keyHeadSize * columns
    let state = valueHeads.multipliedReportingOverflow(by: head)
    // The shaders take strides of 32 bits.
    guard !state.overflow, state.partialValue <= Int(UInt32.max) else { return nil }
    let all = (state.partialValue * 4).multipliedReportingOverflow(
      by: max(stateCount, sequenceCount))
    guard !all.overflow, all.partialValue <= 1 << 50 else { return nil }
    return state.partialValue * 4 * stateCount
  }

  /// The bytes of the states after all tokens; nil where they cannot be counted.
  var snapshotByteCount: Int? {
    let state = valueHeads * keyHeadSize * valueHeadSize * 4
    let states = sequenceCount.multipliedReportingOverflow(by: longestSequence)
    let all = states.partialValue.multipliedReportingOverflow(by: state)
    return !states.overflow && !all.overflow && all.partialValue <= 1 << 50 ? all.partialValue : nil
  }

  func view(of tensor: Tensor) -> TensorView {
    let isKey = tensor == .query || tensor == .key
    let strides =
      switch tensor {
      case .query: queryStrides
      case .key: keyStrides
      case .value: valueStrides
      case .output: outputStrides
      }
    return TensorView(
      name: tensor.rawValue, strides: strides, batch: batchSize,
      tokens: tensor == .key || tensor == .value ? tokens * updatesPerToken : tokens,
      heads: isKey ? keyHeads : valueHeads, channels: isKey ? keyHeadSize : valueHeadSize)
  }

  /// An operand with tokens; nil for the others.
  func view(of operand: LinearAttentionOperand) -> TensorView? {
    let channels: Int
    var heads = valueHeads
    switch operand {
    case .decay, .beta, .timeStep: channels = 1
    case .keyDecay, .eraseGates, .lowRankA, .lowRankB: channels = keyHeadSize
    case .eraseKeys: (channels, heads) = (keyHeadSize, keyHeads)
    case .valueDecay, .writeGates, .outputGate: channels = valueHeadSize
    case .sequenceIDs, .parents: (channels, heads) = (1, 1)
    default: return nil
    }
    let rows =
      [.beta, .eraseKeys, .eraseGates, .writeGates].contains(operand)
      ? tokens * updatesPerToken : tokens
    return TensorView(
      name: operand.rawValue,
      strides: operandStrides[operand]
        ?? .tokenMajor(tokens: rows, heads: heads, channels: channels),
      batch: batchSize, tokens: rows, heads: heads, channels: channels)
  }

  /// Whether all rows of key channels begin at multiples of 16 bytes from their tensor's start, in eights.
  var isAligned: Bool {
    view(of: .query).isAligned && view(of: .key).isAligned
      && [LinearAttentionOperand.keyDecay, .eraseKeys, .eraseGates, .lowRankA, .lowRankB]
        .allSatisfy { !operands.contains($0) || view(of: $0)?.isAligned ?? true }
  }

  /// Whether an operand's rows are loaded as vectors.
  func isVector(_ operand: LinearAttentionOperand) -> Bool {
    [.keyDecay, .eraseKeys, .eraseGates, .lowRankA, .lowRankB, .bonus].contains(operand)
  }
}
