/// Sequences of their own lengths, packed one behind the other: q [Tq, H, D], k [Tk, G, D], v [Tk, G, E].
public struct PackedSequences: Sendable, Hashable {
  /// Tq, the query tokens of all sequences together.
  public let queryTokens: Int
  /// Tk, the key tokens of all sequences together.
  public let keyTokens: Int

  /// Totals by their values.
  public init(queryTokens: Int, keyTokens: Int) {
    self.queryTokens = queryTokens
    self.keyTokens = keyTokens
  }
}

/// One problem of exact attention.
///
///     o[b,i,h,:] = Σ_j p[b,h,i,j] · v[b,j,g,:]        p = softmax over the visible j of
///     s[b,h,i,j] = scale · q[b,i,h,:] · k[b,j,g,:]    g = h / (H / G)
///
/// Paper: FlashAttention-2, https://arxiv.org/abs/2307.08691. Letters: B batch entries, S query tokens,
/// T key tokens, H query heads, G key heads (H is a multiple of G: multi-head, grouped-query and
/// multi-query attention), D channels of a query and a key, E channels of a value. Masks, changes of the
/// scores and tensors beside q, k and v: ``AttentionMask``, ``AttentionScores``, ``AttentionOperand``.
public struct AttentionRequest: Sendable, Hashable {
  /// B, the number of independent problems; of packed sequences their number.
  public let batchSize: Int
  /// S, the number of query tokens; of packed sequences the most that one of them has.
  public let queryTokens: Int
  /// T, the number of key tokens; with 0 every output is 0 and every log-sum-exp −∞. Of packed
  /// sequences the most that one of them has.
  public let keyTokens: Int
  /// H, the number of query heads.
  public let queryHeads: Int
  /// G, the number of key and value heads.
  public let keyHeads: Int
  /// D, the channels of one query and one key.
  public let headSize: Int
  /// E, the channels of one value and one output.
  public let valueHeadSize: Int
  /// The type of the queries, and of the other tensors where they have no type of their own.
  public let elementType: ElementType
  /// The type of the keys.
  public let keyType: ElementType
  /// The type of the values.
  public let valueType: ElementType
  /// The type of the outputs.
  public let outputType: ElementType
  /// What the dot products are multiplied by.
  public let scale: Float
  /// Which keys a query may see, by their positions.
  public let mask: AttentionMask
  /// What is done to the scores.
  public let scores: AttentionScores
  /// The tensors beside q, k and v, each kind at most once; with packed sequences, resumed and returned
  /// states those that belong to them as well.
  public let operands: [AttentionOperand]
  /// The totals of packed sequences; nil for [B, S, H, D].
  public let packedSequences: PackedSequences?
  /// Whether the log-sum-exp [B, S, H] (natural logarithm, f32) is returned as well.
  public let returnsLogSumExp: Bool
  /// Whether rows go on from a running state (`initialMax`, `initialSum`, `initialOutput`), as if the
  /// keys that made it came before.
  public let resumes: Bool
  /// Whether the running state is returned (`finalMax`, `finalSum`, `finalOutput`), without the gates
  /// and the sinks' part.
  public let returnsState: Bool
  /// Whether the values are the first E channels of the keys (latent attention), and are read once.
  public let valuesAreKeys: Bool
  /// Whether each key head has its keys and values at places of its own
  /// (``AttentionBuffers/keySources``): the caches of other layers.
  public let hasKeySources: Bool
  /// Where the queries [B, S, H, D] lie.
  public let queryStrides: TensorStrides
  /// Where the keys [B, T, G, D] lie.
  public let keyStrides: TensorStrides
  /// Where the values [B, T, G, E] lie.
  public let valueStrides: TensorStrides
  /// Where the outputs [B, S, H, E] lie.
  public let outputStrides: TensorStrides

  /// Head sizes that the kernels take.
  public static let headSizes = 1...576
  /// Where head sizes and strides are multiples of this many elements, loads have 16 bytes and more;
  /// elsewhere elements are loaded one by one.
  public static let elementGranularity = 8

  /// States a problem; everything that no device could run is refused here.
  ///
  /// - Parameters:
  ///   - batchSize: B, 1 or more.
  ///   - queryTokens: S, 1 or more.
  ///   - keyTokens: T, 0 or more; S by default.
  ///   - queryHeads: H, 1 or more.
  ///   - keyHeads: G, a divisor of H; H by default.
  ///   - headSize: D, from 1 to 576.
  ///   - valueHeadSize: E, from 1 to 576; D by default.
  ///   - elementType: the type of q, and of k, v and o where they have none of their own.
  ///   - keyType: the type of k.
  ///   - valueType: the type of v.
  ///   - outputType: the type of o.
  ///   - scale: finite; 1/√D by default.
  ///   - mask: which keys a query may see.
  ///   - scores: what is done to the scores.
  ///   - operands: the tensors beside q, k and v.
  ///   - packedSequences: totals, for sequences packed one behind the other; batchSize, queryTokens and
  ///     keyTokens are then their number and the longest of them.
  ///   - returnsLogSumExp: whether the log-sum-exp is returned as well.
  ///   - resumes: whether rows go on from a running state.
  ///   - returnsState: whether the running state is returned.
  ///   - valuesAreKeys: whether v is the first E channels of k.
  ///   - hasKeySources: whether each key head's keys and values have places of their own.
  ///   - queryStrides: contiguous [B, S, H, D] by default, as the other strides for their tensors.
  ///   - keyStrides: strides of k; the head's is without meaning with key sources.
  ///   - valueStrides: strides of v; k's where values are keys.
  ///   - outputStrides: strides of o, which must not let two rows share memory.
  /// - Throws: `AttentionError.invalidArgument` or `tooLarge`.
  public init(
    batchSize: Int = 1, queryTokens: Int, keyTokens: Int? = nil, queryHeads: Int,
    keyHeads: Int? = nil, headSize: Int, valueHeadSize: Int? = nil,
    elementType: ElementType = .f32, keyType: ElementType? = nil, valueType: ElementType? = nil,
    outputType: ElementType? = nil, scale: Float? = nil, mask: AttentionMask = .none,
    scores: AttentionScores = AttentionScores(), operands: [AttentionOperand] = [],
    packedSequences: PackedSequences? = nil, returnsLogSumExp: Bool = false,
    resumes: Bool = false, returnsState: Bool = false, valuesAreKeys: Bool = false,
    hasKeySources: Bool = false, queryStrides: TensorStrides? = nil,
    keyStrides: TensorStrides? = nil, valueStrides: TensorStrides? = nil,
    outputStrides: TensorStrides? = nil
  ) throws(AttentionError) {
    let keyTokens = keyTokens ?? queryTokens
    let keyHeads = keyHeads ?? queryHeads
    let valueHeadSize = valueHeadSize ?? headSize
    let keyType = keyType ?? elementType
    try Self.checkCount("batchSize", batchSize, from: 1)
    try Self.checkCount("queryTokens", queryTokens, from: 1)
    try Self.checkCount("keyTokens", keyTokens, from: 0)
    try Self.checkCount("queryHeads", queryHeads, from: 1)
    try Self.checkCount("keyHeads", keyHeads, from: 1)
    guard queryHeads % keyHeads == 0 else {
      throw .invalidArgument(
        name: "keyHeads", value: "\(keyHeads)", allowed: "a divisor of queryHeads, \(queryHeads)")
    }
    try Self.checkHeadSize("headSize", headSize)
    try Self.checkHeadSize("valueHeadSize", valueHeadSize)
    let scale = scale ?? 1 / Float(headSize).squareRoot()
    guard scale.isFinite else {
      throw .invalidArgument(name: "scale", value: "\(scale)", allowed: "a finite number")
    }
    if let packedSequences {
      try Self.checkCount("packedSequences.queryTokens", packedSequences.queryTokens, from: 1)
      try Self.checkCount("packedSequences.keyTokens", packedSequences.keyTokens, from: 0)
    }
    self.batchSize = batchSize
    self.queryTokens = queryTokens
    self.keyTokens = keyTokens
    self.queryHeads = queryHeads
    self.keyHeads = keyHeads
    self.headSize = headSize
    self.valueHeadSize = valueHeadSize
    self.elementType = elementType
    self.keyType = keyType
    self.valueType = valueType ?? (valuesAreKeys ? keyType : elementType)
    self.outputType = outputType ?? elementType
    self.scale = scale
    self.mask = mask
    self.scores = scores
    self.packedSequences = packedSequences
    self.returnsLogSumExp = returnsLogSumExp
    self.resumes = resumes
    self.returnsState = returnsState
    self.valuesAreKeys = valuesAreKeys
    self.hasKeySources = hasKeySources
    self.operands =
      operands + (packedSequences == nil ? [] : [.init(.queryStarts), .init(.keyStarts)])
      + (resumes ? [.init(.initialMax), .init(.initialSum), .init(.initialOutput)] : [])
      + (returnsState ? [.init(.finalMax), .init(.finalSum), .init(.finalOutput)] : [])

    // All tokens of a packed tensor are of one batch entry.
    func contiguous(_ tokens: Int, _ heads: Int, _ channels: Int) -> TensorStrides {
      var strides = TensorStrides.tokenMajor(tokens: tokens, heads: heads, channels: channels)
      if packedSequences != nil { strides.batch = 0 }
      return strides
    }
    self.queryStrides = queryStrides ?? contiguous(queryTokens, queryHeads, headSize)
    let keys = keyStrides ?? contiguous(keyTokens, hasKeySources ? 1 : keyHeads, headSize)
    self.keyStrides = keys
    self.valueStrides =
      valueStrides
      ?? (valuesAreKeys
        ? keys : contiguous(keyTokens, hasKeySources ? 1 : keyHeads, valueHeadSize))
    self.outputStrides = outputStrides ?? contiguous(queryTokens, queryHeads, valueHeadSize)
    // Strides that the caller did not give are too large only if the tensor is.
    let given: [Tensor: TensorStrides?] = [
      .query: queryStrides, .key: keyStrides, .value: valueStrides, .output: outputStrides,
    ]
    for tensor in Tensor.allCases {
      try view(of: tensor).check(areStridesGiven: given[tensor] != .some(nil))
    }
    try view(of: .output).checkRowsAreApart()
    try mask.check()
    try checkScores()
    try checkOperands(given: operands)
    try checkAliases()
  }

  private static func checkCount(
    _ name: String, _ value: Int, from lowest: Int
  ) throws(AttentionError) {
    // The shaders count in 32 bits, signed where positions are added.
    guard value >= lowest, value <= AttentionMask.largestExtent else {
      throw .invalidArgument(
        name: name, value: "\(value)", allowed: "\(lowest) to \(AttentionMask.largestExtent)")
    }
  }

  private static func checkHeadSize(_ name: String, _ value: Int) throws(AttentionError) {
    guard headSizes.contains(value) else {
      throw .invalidArgument(
        name: name, value: "\(value)",
        allowed: "\(headSizes.lowerBound) to \(headSizes.upperBound)")
    }
  }

  /// The query heads that share one key head.
  public var headsPerGroup: Int { queryHeads / keyHeads }

  /// Rows of the output in memory: tokens times heads.
  var outputRowCount: Int {
    (packedSequences?.queryTokens ?? batchSize * queryTokens) * queryHeads
  }

  /// The size of the log-sum-exp in bytes.
  public var logSumExpByteCount: Int { outputRowCount * MemoryLayout<Float>.size }

  /// Whether all rows begin at multiples of 16 bytes from their tensor's start, with channels in eights.
  var isAligned: Bool {
    Tensor.allCases.allSatisfy { view(of: $0).isAligned }
  }

  /// Pairs of a query and a key that it may see by the mask, in one head of one batch entry; operands
  /// that hide keys are not counted, and packed sequences count as if all were as long as the longest.
  ///
  /// Only these are counted as work: under a causal mask the hidden ones are no work of the problem,
  /// whatever a kernel does with them.
  public var visiblePairs: Int {
    visiblePairs(rows: 0..<queryTokens)
  }

  /// The visible pairs of some of the query rows.
  func visiblePairs(rows: Range<Int>) -> Int {
    let offset = mask.alignment == .bottomRight ? keyTokens - queryTokens : 0
    if mask == .none { return rows.count * keyTokens }
    if mask == .causal {
      // Row i sees clamp(i + T − S + 1, 0, T) keys: a sum over the rows that see anything.
      let first = max(rows.lowerBound, queryTokens - keyTokens)
      guard first < rows.upperBound else { return 0 }
      return (first + offset + 1 + rows.upperBound + offset) * (rows.upperBound - first) / 2
    }
    return rows.reduce(0) { $0 + mask.visibleKeys(position: $1 + offset, of: keyTokens) }
  }

  /// Multiplications and additions of QKᵀ and PV.
  public var floatingPointOperations: Double {
    2 * Double(batchSize) * Double(queryHeads) * Double(visiblePairs)
      * Double(headSize + valueHeadSize)
  }

  /// The bytes that must move at least: every tensor once.
  public var compulsoryBytes: Double {
    let queryRows = Double(outputRowCount)
    let keyRows =
      Double(packedSequences?.keyTokens ?? batchSize * keyTokens) * Double(keyHeads)
    let perQuery =
      headSize * elementType.byteCount + valueHeadSize * outputType.byteCount
      + (returnsLogSumExp ? 4 : 0)
    let perKey =
      headSize * keyType.byteCount + (valuesAreKeys ? 0 : valueHeadSize * valueType.byteCount)
    return queryRows * Double(perQuery) + keyRows * Double(perKey)
      + Double(operands.reduce(0) { $0 + byteCount(of: $1.kind) })
  }
}
