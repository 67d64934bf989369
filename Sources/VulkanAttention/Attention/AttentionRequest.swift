/// Which keys a query may see.
public enum AttentionMask: String, Sendable, Hashable, Codable, CaseIterable {
  /// Every query sees every key.
  case none
  /// Query i sees key j where j ≤ i + T − S: the last query sees the last key ("bottom-right").
  ///
  /// With S > T the first S − T queries see nothing: their output is 0 and their log-sum-exp −∞.
  case causal
}

/// One problem of exact softmax attention.
///
///     o[b,i,h,:] = Σ_j p[b,h,i,j] · v[b,j,g,:]        p = softmax over the visible j of
///     s[b,h,i,j] = scale · q[b,i,h,:] · k[b,j,g,:]    g = h / (H / G)
///
/// Paper: FlashAttention-2, https://arxiv.org/abs/2307.08691. Letters: B batch entries, S query tokens,
/// T key tokens, H query heads, G key heads (H is a multiple of G: multi-head, grouped-query and
/// multi-query attention), D channels of a query and a key, E channels of a value.
public struct AttentionRequest: Sendable, Hashable {
  /// B, the number of independent problems.
  public let batchSize: Int
  /// S, the number of query tokens.
  public let queryTokens: Int
  /// T, the number of key tokens; with 0 every output is 0 and every log-sum-exp −∞.
  public let keyTokens: Int
  /// H, the number of query heads.
  public let queryHeads: Int
  /// G, the number of key and value heads.
  public let keyHeads: Int
  /// D, the channels of one query and one key.
  public let headSize: Int
  /// E, the channels of one value and one output.
  public let valueHeadSize: Int
  /// The type of queries, keys, values and outputs.
  public let elementType: ElementType
  /// What the dot products are multiplied by.
  public let scale: Float
  /// Which keys a query may see.
  public let mask: AttentionMask
  /// Whether the log-sum-exp [B, S, H] (natural logarithm, f32) is returned as well.
  public let returnsLogSumExp: Bool
  /// Where the queries [B, S, H, D] lie.
  public let queryStrides: TensorStrides
  /// Where the keys [B, T, G, D] lie.
  public let keyStrides: TensorStrides
  /// Where the values [B, T, G, E] lie.
  public let valueStrides: TensorStrides
  /// Where the outputs [B, S, H, E] lie.
  public let outputStrides: TensorStrides

  /// Head sizes that the kernels take.
  public static let headSizes = 8...256
  /// Head sizes and strides are multiples of this many elements, so that 16-byte loads are aligned.
  public static let elementGranularity = 8

  /// States a problem; everything that no device could run is refused here.
  ///
  /// - Parameters:
  ///   - batchSize: B, 1 or more.
  ///   - queryTokens: S, 1 or more.
  ///   - keyTokens: T, 0 or more; S by default.
  ///   - queryHeads: H, 1 or more.
  ///   - keyHeads: G, a divisor of H; H by default.
  ///   - headSize: D, a multiple of 8 from 8 to 256.
  ///   - valueHeadSize: E, a multiple of 8 from 8 to 256; D by default.
  ///   - elementType: the type of q, k, v and o.
  ///   - scale: finite; 1/√D by default.
  ///   - mask: which keys a query may see.
  ///   - returnsLogSumExp: whether the log-sum-exp is returned as well.
  ///   - queryStrides: contiguous [B, S, H, D] by default, as the other strides for their tensors.
  ///   - keyStrides: strides of k.
  ///   - valueStrides: strides of v.
  ///   - outputStrides: strides of o, which must not let two rows share memory.
  /// - Throws: `AttentionError.invalidArgument` or `tooLarge`.
  public init(
    batchSize: Int = 1, queryTokens: Int, keyTokens: Int? = nil, queryHeads: Int,
    keyHeads: Int? = nil, headSize: Int, valueHeadSize: Int? = nil,
    elementType: ElementType = .f32, scale: Float? = nil, mask: AttentionMask = .none,
    returnsLogSumExp: Bool = false, queryStrides: TensorStrides? = nil,
    keyStrides: TensorStrides? = nil, valueStrides: TensorStrides? = nil,
    outputStrides: TensorStrides? = nil
  ) throws(AttentionError) {
    let keyTokens = keyTokens ?? queryTokens
    let keyHeads = keyHeads ?? queryHeads
    let valueHeadSize = valueHeadSize ?? headSize
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
    self.batchSize = batchSize
    self.queryTokens = queryTokens
    self.keyTokens = keyTokens
    self.queryHeads = queryHeads
    self.keyHeads = keyHeads
    self.headSize = headSize
    self.valueHeadSize = valueHeadSize
    self.elementType = elementType
    self.scale = scale
    self.mask = mask
    self.returnsLogSumExp = returnsLogSumExp
    self.queryStrides =
      queryStrides
      ?? .tokenMajor(tokens: queryTokens, heads: queryHeads, channels: headSize)
    self.keyStrides =
      keyStrides ?? .tokenMajor(tokens: keyTokens, heads: keyHeads, channels: headSize)
    self.valueStrides =
      valueStrides ?? .tokenMajor(tokens: keyTokens, heads: keyHeads, channels: valueHeadSize)
    self.outputStrides =
      outputStrides
      ?? .tokenMajor(tokens: queryTokens, heads: queryHeads, channels: valueHeadSize)
    // Strides that the caller did not give are too large only if the tensor is.
    let given: [Tensor: TensorStrides?] = [
      .query: queryStrides, .key: keyStrides, .value: valueStrides, .output: outputStrides,
    ]
    for tensor in Tensor.allCases {
      try view(of: tensor).check(areStridesGiven: given[tensor] != .some(nil))
    }
    try view(of: .output).checkRowsAreApart()
  }

  private static func checkCount(
    _ name: String, _ value: Int, from lowest: Int
  ) throws(AttentionError) {
    // The shaders count in 32 bits, signed where a causal offset is added.
    guard value >= lowest, value <= Int(Int32.max) else {
      throw .invalidArgument(
        name: name, value: "\(value)", allowed: "\(lowest) to \(Int32.max)")
    }
  }

  private static func checkHeadSize(_ name: String, _ value: Int) throws(AttentionError) {
    guard headSizes.contains(value), value % elementGranularity == 0 else {
      throw .invalidArgument(
        name: name, value: "\(value)",
        allowed: "a multiple of \(elementGranularity) from \(headSizes.lowerBound) "
          + "to \(headSizes.upperBound)")
    }
  }

  /// The query heads that share one key head.
  public var headsPerGroup: Int { queryHeads / keyHeads }

  /// The size of the log-sum-exp in bytes.
  public var logSumExpByteCount: Int {
    batchSize * queryTokens * queryHeads * MemoryLayout<Float>.size
  }

  /// Pairs of a query and a key that it may see, in one head of one batch entry.
  ///
  /// Only these are counted as work: under a causal mask the hidden ones are no work of the problem,
  /// whatever a kernel does with them.
  public var visiblePairs: Int {
    visiblePairs(rows: 0..<queryTokens)
  }

  /// The visible pairs of some of the query rows.
  func visiblePairs(rows: Range<Int>) -> Int {
    switch mask {
    case .none: return rows.count * keyTokens
    case .causal:
      // Row i sees clamp(i + T − S + 1, 0, T) keys: a sum over the rows that see anything.
      let first = max(rows.lowerBound, queryTokens - keyTokens)
      guard first < rows.upperBound else { return 0 }
      let offset = keyTokens - queryTokens + 1
      return (first + offset + rows.upperBound - 1 + offset) * (rows.upperBound - first) / 2
    }
  }

  /// Multiplications and additions of QKᵀ and PV.
  public var floatingPointOperations: Double {
    2 * Double(batchSize) * Double(queryHeads) * Double(visiblePairs)
      * Double(headSize + valueHeadSize)
  }

  /// The bytes that must move at least: every tensor once.
  public var compulsoryBytes: Double {
    let queryRows = Double(batchSize) * Double(queryTokens) * Double(queryHeads)
    let keyRows = Double(batchSize) * Double(keyTokens) * Double(keyHeads)
    return (queryRows + keyRows) * Double((headSize + valueHeadSize) * elementType.byteCount)
      + (returnsLogSumExp ? queryRows * 4 : 0)
  }
}
