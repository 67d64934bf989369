/// What the output of a linear attention is divided by.
public enum LinearAttentionNormalizer: Sendable, Hashable, Codable {
  /// Nothing.
  case none
  /// The same output for values of 1, plus epsilon (https://arxiv.org/abs/2006.16236).
  case sum(epsilon: Float)
  /// max(|the same output for values of 1|, 1) (RetNet, https://arxiv.org/abs/2307.08621).
  case retention
}

/// One problem of linear attention or its gated kin: a state per head that every token changes, then reads.
///
///     S ← Diag(d_k) S Diag(d_v)          decays: constant, per token, per key channel, per value channel
///     x = beta · (w ⊙ v) − Sᵀ e          e = beta · (g ⊙ p) with the delta rule, p = k by default; else 0
///     S ← S + k xᵀ (+ b (aᵀ S'))         S' the state before the decay
///     o = scale · Sᵀ q                   or before: scale · (S' + Diag(u) k xᵀ)ᵀ q
///
/// That is linear attention, RetNet, Lightning Attention, GLA, HGRN-2, RWKV-6 and -7, DeltaNet, gated DeltaNet,
/// gated DeltaProduct, Kimi Delta Attention, Comba and Mamba-2, by what ``operands`` are given; the article
/// <doc:LinearAttentionModels> has the call for each. Letters: B batch entries, T tokens, G heads of q and k,
/// H heads of v (H is a multiple of G, head h goes with head h / (H / G)), K channels of q and k, V channels of v
/// and o, U updates per token, N sequences: B, or the packed ones.
public struct LinearAttentionRequest: Sendable, Hashable {
  /// B; 1 where sequences are packed.
  public let batchSize: Int
  /// T, the tokens of a batch entry; of packed sequences all of them together.
  public let tokens: Int
  /// G.
  public let keyHeads: Int
  /// H.
  public let valueHeads: Int
  /// K, rows of a state.
  public let keyHeadSize: Int
  /// V, columns of a state.
  public let valueHeadSize: Int
  /// U, the updates of the state by one token, each with a key, a value and a beta of its own.
  public let updatesPerToken: Int
  /// The type of q, k, and of the operands that are keys.
  public let elementType: ElementType
  /// The type of v and z.
  public let valueType: ElementType
  /// The type of o.
  public let outputType: ElementType
  /// The type of decays, beta, gates and time steps.
  public let gateType: ElementType
  /// What q is multiplied by.
  public let scale: Float
  /// Whether a value is written as a correction of what the state holds for its key (delta rule).
  public let erases: Bool
  /// Whether a token reads the state before its own decay and update (RWKV-6).
  public let readsBeforeUpdate: Bool
  /// Whether a token sees only itself and earlier ones; otherwise all read the last state.
  public let isCausal: Bool
  /// Whether time steps are the softplus of what is given.
  public let appliesSoftplus: Bool
  /// What the output is divided by.
  public let normalizer: LinearAttentionNormalizer
  /// The number of packed sequences; nil for [B, T, …].
  public let packedSequences: Int?
  /// The most tokens that one sequence has; T unless sequences are packed.
  public let longestSequence: Int
  /// The states that ``LinearAttentionOperand/initialState`` and `finalState` have room for where sequences name
  /// theirs (``LinearAttentionOperand/stateSlots``); otherwise N.
  public let stateCount: Int
  /// The tensors beside q, k, v and o.
  public let operands: Set<LinearAttentionOperand>
  /// Where q [B, T, G, K] lies.
  public let queryStrides: TensorStrides
  /// Where k [B, T·U, G, K] lies.
  public let keyStrides: TensorStrides
  /// Where v [B, T·U, H, V] lies.
  public let valueStrides: TensorStrides
  /// Where o [B, T, H, V] lies.
  public let outputStrides: TensorStrides
  /// Where operands with tokens lie that are not contiguous.
  public let operandStrides: [LinearAttentionOperand: TensorStrides]

  /// Channels of keys that the kernels take: a state's column is held in registers.
  public static let keyHeadSizes = 1...512
  /// Channels of values that the kernels take.
  public static let valueHeadSizes = 1...4096
  /// Updates of a token that the kernels take.
  public static let updateCounts = 1...8

  /// States a problem; everything that no device could run is refused here.
  ///
  /// - Parameters:
  ///   - batchSize: B, 1 or more; 1 with packed sequences.
  ///   - tokens: T, 1 or more; of packed sequences all of them together.
  ///   - keyHeads: G, a divisor of H; H by default.
  ///   - valueHeads: H, 1 or more.
  ///   - keyHeadSize: K, 1 to 512.
  ///   - valueHeadSize: V, 1 to 4096; K by default.
  ///   - updatesPerToken: U, 1 to 8.
  ///   - elementType: the type of q and k, and of v and o where they have none of their own.
  ///   - valueType: the type of v and z.
  ///   - outputType: the type of o.
  ///   - gateType: the type of decays, beta, gates and time steps; f32 by default.
  ///   - scale: finite; 1/√K by default.
  ///   - erases: whether the delta rule applies.
  ///   - readsBeforeUpdate: whether a token reads the state before its own decay and update.
  ///   - isCausal: whether a token sees only itself and earlier ones.
  ///   - appliesSoftplus: whether time steps are the softplus of what is given.
  ///   - normalizer: what the output is divided by.
  ///   - packedSequences: the number of sequences packed one behind the other.
  ///   - longestSequence: the most tokens that one of the packed sequences has; T by default.
  ///   - stateCount: the states there is room for where sequences name their slots.
  ///   - operands: the tensors beside q, k, v and o.
  ///   - queryStrides: contiguous by default, as the other strides.
  ///   - keyStrides: strides of k; from update to update as its tokens.
  ///   - valueStrides: strides of v; likewise.
  ///   - outputStrides: strides of o, which must not let two rows share memory.
  ///   - operandStrides: strides of operands with tokens.
  /// - Throws: `AttentionError.invalidArgument` or `tooLarge`.
  public init(
    batchSize: Int = 1, tokens: Int, keyHeads: Int? = nil, valueHeads: Int, keyHeadSize: Int,
    valueHeadSize: Int? = nil, updatesPerToken: Int = 1, elementType: ElementType = .f32,
    valueType: ElementType? = nil, outputType: ElementType? = nil, gateType: ElementType = .f32,
    scale: Float? = nil, erases: Bool = false, readsBeforeUpdate: Bool = false,
    isCausal: Bool = true, appliesSoftplus: Bool = false,
    normalizer: LinearAttentionNormalizer = .none, packedSequences: Int? = nil,
    longestSequence: Int? = nil, stateCount: Int? = nil,
    operands: Set<LinearAttentionOperand> = [], queryStrides: TensorStrides? = nil,
    keyStrides: TensorStrides? = nil, valueStrides: TensorStrides? = nil,
    outputStrides: TensorStrides? = nil,
    operandStrides: [LinearAttentionOperand: TensorStrides] = [:]
  ) throws(AttentionError) {
    let keyHeads = keyHeads ?? valueHeads
    let valueHeadSize = valueHeadSize ?? keyHeadSize
    let count = 1...(1 << 30)
    try checkRange("batchSize", batchSize, count)
    try checkRange("tokens", tokens, count)
    try checkRange("valueHeads", valueHeads, count)
    try checkRange("keyHeads", keyHeads, count)
    guard valueHeads % keyHeads == 0 else {
      throw .invalidArgument(
        name: "keyHeads", value: "\(keyHeads)", allowed: "a divisor of valueHeads, \(valueHeads)")
    }
    try checkRange("keyHeadSize", keyHeadSize, Self.keyHeadSizes)
    try checkRange("valueHeadSize", valueHeadSize, Self.valueHeadSizes)
    try checkRange("updatesPerToken", updatesPerToken, Self.updateCounts)
    if let packedSequences {
      try checkRange("packedSequences", packedSequences, count)
      try checkRange("batchSize", batchSize, 1...1)
      try checkRange("longestSequence", longestSequence ?? tokens, 1...tokens)
    } else if let longestSequence {
      try checkRange("longestSequence", longestSequence, tokens...tokens)
    }
    let scale = scale ?? 1 / Float(keyHeadSize).squareRoot()
    guard scale.isFinite else {
      throw .invalidArgument(name: "scale", value: "\(scale)", allowed: "a finite number")
    }
    if case .sum(let epsilon) = normalizer, !epsilon.isFinite {
      throw .invalidArgument(
        name: "normalizer", value: "sum(\(epsilon))", allowed: "a finite epsilon")
    }
    let sequences = packedSequences ?? batchSize
    if let stateCount {
      try checkRange(
        "stateCount", stateCount, operands.contains(.stateSlots) ? count : sequences...sequences)
    }
    self.batchSize = batchSize
    self.tokens = tokens
    self.keyHeads = keyHeads
    self.valueHeads = valueHeads
    self.keyHeadSize = keyHeadSize
    self.valueHeadSize = valueHeadSize
    self.updatesPerToken = updatesPerToken
    self.elementType = elementType
    self.valueType = valueType ?? elementType
    self.outputType = outputType ?? elementType
    self.gateType = gateType
    self.scale = scale
    self.erases = erases
    self.readsBeforeUpdate = readsBeforeUpdate
    self.isCausal = isCausal
    self.appliesSoftplus = appliesSoftplus
    self.normalizer = normalizer
    self.packedSequences = packedSequences
    self.longestSequence = longestSequence ?? tokens
    self.stateCount = stateCount ?? sequences
    self.operands = packedSequences == nil ? operands : operands.union([.sequenceStarts])
    self.operandStrides = operandStrides
    let rows = tokens * updatesPerToken
    self.queryStrides =
      queryStrides ?? .tokenMajor(tokens: tokens, heads: keyHeads, channels: keyHeadSize)
    self.keyStrides =
      keyStrides ?? .tokenMajor(tokens: rows, heads: keyHeads, channels: keyHeadSize)
    self.valueStrides =
      valueStrides ?? .tokenMajor(tokens: rows, heads: valueHeads, channels: valueHeadSize)
    self.outputStrides =
      outputStrides ?? .tokenMajor(tokens: tokens, heads: valueHeads, channels: valueHeadSize)
    try checkOperands(given: operands)
    let given: [Tensor: TensorStrides?] = [
      .query: queryStrides, .key: keyStrides, .value: valueStrides, .output: outputStrides,
    ]
    for tensor in Tensor.allCases {
      try view(of: tensor).check(areStridesGiven: given[tensor] != .some(nil))
    }
    try view(of: .output).checkRowsAreApart()
    for operand in self.operands.sorted(by: { $0.rawValue < $1.rawValue }) {
      try view(of: operand)?.check(areStridesGiven: operandStrides[operand] != nil)
    }
    guard stateByteCount(columns: valueHeadSize) != nil else {
      throw .tooLarge(tensor: "finalState")
    }
    guard !self.operands.contains(.snapshots) || snapshotByteCount != nil else {
      throw .tooLarge(tensor: "snapshots")
    }
  }

  /// N, the sequences: B, or the packed ones.
  public var sequenceCount: Int { packedSequences ?? batchSize }

  /// Multiplications and additions of the recurrence itself: decay, update and reading, and with the delta rule
  /// or a low-rank change one more product each.
  public var floatingPointOperations: Double {
    let perElement: Double =
      4 + (hasDecay ? 1 : 0) + (erases ? 2 : 0)
      + (operands.contains(.lowRankA) ? 4 : 0)
    return perElement * Double(batchSize) * Double(tokens) * Double(updatesPerToken)
      * Double(valueHeads) * Double(keyHeadSize) * Double(valueHeadSize)
  }

  /// The bytes that must move at least: every tensor once.
  public var compulsoryBytes: Double {
    Tensor.allCases.reduce(0.0) { $0 + Double(byteCount(of: $1)) }
      + operands.reduce(0.0) { $0 + Double(byteCount(of: $1)) }
  }

  /// Whether any decay is given.
  var hasDecay: Bool {
    !operands.isDisjoint(with: [.headDecay, .decay, .keyDecay, .valueDecay, .timeStep])
  }
}

// What must hold between the parts of a request.
extension LinearAttentionRequest {
  private func checkOperands(given: Set<LinearAttentionOperand>) throws(AttentionError) {
    func refuse(_ operand: LinearAttentionOperand, _ allowed: String) -> AttentionError {
      .invalidArgument(name: "operands.\(operand.rawValue)", value: "given", allowed: allowed)
    }
    func has(_ operand: LinearAttentionOperand) -> Bool { operands.contains(operand) }
    if given.contains(.sequenceStarts), packedSequences == nil {
      throw refuse(.sequenceStarts, "only with packedSequences")
    }
    for operand in [LinearAttentionOperand.eraseKeys, .eraseGates] where has(operand) && !erases {
      throw refuse(operand, "only where erases is true")
    }
    for (operand, needed) in [
      (LinearAttentionOperand.lowRankA, LinearAttentionOperand.lowRankB), (.lowRankB, .lowRankA),
      (.timeStep, .rate), (.rate, .timeStep), (.timeStepBias, .timeStep),
    ] where has(operand) && !has(needed) {
      throw refuse(operand, "only together with \(needed.rawValue)")
    }
    if has(.lowRankA), erases || updatesPerToken > 1 {
      throw refuse(.lowRankA, "only without the delta rule and with one update per token")
    }
    if has(.timeStep), has(.beta) {
      throw refuse(.beta, "only without timeStep, which takes its place")
    }
    if has(.timeStep), updatesPerToken > 1 {
      throw refuse(.timeStep, "only with one update per token")
    }
    if appliesSoftplus, !has(.timeStep) {
      throw .invalidArgument(
        name: "appliesSoftplus", value: "true", allowed: "true only with timeStep")
    }
    if has(.bonus), !readsBeforeUpdate {
      throw refuse(.bonus, "only where readsBeforeUpdate is true")
    }
    if readsBeforeUpdate, erases || updatesPerToken > 1 {
      throw .invalidArgument(
        name: "readsBeforeUpdate", value: "true",
        allowed: "true only without the delta rule and with one update per token")
    }
    if has(.stateSlots), !has(.initialState), !has(.finalState) {
      throw refuse(.stateSlots, "only with initialState or finalState")
    }
    if !isCausal, readsBeforeUpdate || has(.sequenceIDs) || has(.skip) || has(.outputGate) {
      throw .invalidArgument(
        name: "isCausal", value: "false",
        allowed: "false only without readsBeforeUpdate, sequenceIDs, skip and outputGate")
    }
    for operand in [LinearAttentionOperand.snapshots, .parents]
    where has(operand) && (!isCausal || normalizer != .none) {
      throw refuse(operand, "only where isCausal is true and without a normaliser")
    }
    if has(.parents), !has(.snapshots) || has(.sequenceIDs) {
      throw refuse(.parents, "only with snapshots, from which it goes on, and without sequenceIDs")
    }
    if normalizer == .none {
      for operand in [LinearAttentionOperand.initialSum, .finalSum] where has(operand) {
        throw refuse(operand, "only with a normaliser")
      }
    } else {
      for operand in [
        LinearAttentionOperand.beta, .writeGates, .valueDecay, .lowRankA, .timeStep, .bonus, .skip,
        .outputGate,
      ] where has(operand) {
        throw refuse(operand, "only without a normaliser")
      }
      if erases || readsBeforeUpdate {
        throw .invalidArgument(
          name: "normalizer", value: "\(normalizer)",
          allowed: "none with the delta rule or where a token reads before its update")
      }
      // z starts and ends where the state does.
      if has(.initialState) != has(.initialSum) {
        throw refuse(
          has(.initialState) ? .initialState : .initialSum,
          "with a normaliser only together with the other of initialState and initialSum")
      }
    }
    for (operand, strides) in operandStrides.sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
      guard has(operand), view(of: operand) != nil, operand != .sequenceIDs, operand != .parents
      else {
        throw .invalidArgument(
          name: "operandStrides.\(operand.rawValue)", value: "\(strides)",
          allowed: "strides of operands that are given and have tokens and heads")
      }
    }
  }
}
