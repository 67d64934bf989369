/// One decode step's attention: few query tokens of each sequence against a long cache.
///
///     o[b,i,h,:] = Σ_j p[b,h,i,j] · v[b,j,g,:]        p = softmax over the visible j of
///     s[b,h,i,j] = scale · q[b,i,h,:] · k[b,j,g,:]    g = h / (H / G)
///
/// as ``AttentionRequest``, whose masks, scores and operands it takes; query i of a sequence of n keys stands
/// at position i + n − S: the S queries are its last tokens and their keys are in the cache already. S > 1
/// verifies drafts, as a chain (causal) or as a tree (`treeBits`).
///
/// Papers: Lean Attention, https://arxiv.org/abs/2405.10480; grouped queries packed into the rows of a tile
/// and paged caches, FlashInfer, https://arxiv.org/abs/2501.01005; latent attention, DeepSeek-V2,
/// https://arxiv.org/abs/2405.04434.
public struct DecodeRequest: Sendable, Hashable {
  /// The attention of each step, without what concerns the cache: its keys and values have no strides, and
  /// T is the most keys that a sequence may have. ``AttentionOperand/Kind/keyLengths`` is among the
  /// operands, and the kernel's own.
  public let attention: AttentionRequest
  /// Where the keys lie, G heads of D channels.
  public let keyCache: CacheTensor
  /// Where the values lie; the keys' tensor where values are keys.
  public let valueCache: CacheTensor
  /// How keys are rotated as they are read; nil for a cache of rotated keys.
  public let keyRotation: KeyRotation?

  /// Rotary position embedding of keys that lie in the cache as they were projected
  /// (RoFormer, https://arxiv.org/abs/2104.09864): key j is rotated by the angles of position j.
  public struct KeyRotation: Sendable, Hashable {
    /// Which channels form a pair.
    public enum Pairing: String, Sendable, Hashable, CaseIterable {
      /// Channels c and c + channels / 2 (GPT-NeoX, Llama in its published weights).
      case halves
      /// Channels 2c and 2c + 1 (RoFormer, GPT-J).
      case pairs
    }

    /// Which channels form a pair.
    public var pairing: Pairing
    /// The channels that are rotated, from channel 0 on: a multiple of 8, at most D.
    public var channels: Int

    /// A rotation.
    public init(pairing: Pairing, channels: Int) {
      self.pairing = pairing
      self.channels = channels
    }
  }

  /// States a problem; everything that no device could run is refused here.
  ///
  /// - Parameters:
  ///   - batchSize: B, the sequences of a step.
  ///   - queryTokens: S, query tokens of each sequence.
  ///   - queryHeads: H, a multiple of the cache's heads.
  ///   - keyCache: the keys, D channels.
  ///   - valueCache: the values, E channels, in the keys' arrangement; nil where values are the first
  ///     channels of keys (latent attention), which are then read once.
  ///   - valueHeadSize: E; of values that are keys to be said, otherwise the value cache's.
  ///   - maxKeyTokens: the most keys of a sequence, T of operands that have such an axis; by default what
  ///     the cache has place for, and with a ring 2³⁰ − 1.
  ///   - elementType: the type of the queries.
  ///   - outputType: the type of the outputs; that of the queries by default.
  ///   - scale: finite; 1/√D by default.
  ///   - mask: which keys a query may see; causal by default.
  ///   - scores: what is done to the scores.
  ///   - operands: tensors beside queries and cache: not `keyLengths`, which each step says, nor
  ///     `blockMap`, `gridBias`, `relativeKeys`, `relativeQueryBias`.
  ///   - returnsLogSumExp: whether the log-sum-exp [B, S, H] is returned as well.
  ///   - keyRotation: how keys are rotated as they are read.
  ///   - queryStrides: contiguous [B, S, H, D] by default.
  ///   - outputStrides: contiguous [B, S, H, E] by default.
  /// - Throws: `AttentionError.invalidArgument` or `tooLarge`.
  public init(
    batchSize: Int, queryTokens: Int = 1, queryHeads: Int, keyCache: CacheTensor,
    valueCache: CacheTensor?, valueHeadSize: Int? = nil, maxKeyTokens: Int? = nil,
    elementType: ElementType = .f16, outputType: ElementType? = nil, scale: Float? = nil,
    mask: AttentionMask = .causal, scores: AttentionScores = AttentionScores(),
    operands: [AttentionOperand] = [], returnsLogSumExp: Bool = false,
    keyRotation: KeyRotation? = nil, queryStrides: TensorStrides? = nil,
    outputStrides: TensorStrides? = nil
  ) throws(AttentionError) {
    func refuse(_ name: String, _ value: String, _ allowed: String) -> AttentionError {
      .invalidArgument(name: name, value: value, allowed: allowed)
    }
    let arrangement = keyCache.arrangement
    if arrangement.kind != .paged, arrangement.blockCount < batchSize {
      throw refuse(
        "batchSize", "\(batchSize)", "at most the \(arrangement.blockCount) sequences of the cache")
    }
    if let valueCache {
      // The order of the axes may differ: places are what must be the same.
      guard valueCache.arrangement.kind == arrangement.kind,
        valueCache.arrangement.blockCount == arrangement.blockCount,
        valueCache.arrangement.blockTokens == arrangement.blockTokens,
        valueCache.heads == keyCache.heads
      else {
        throw refuse(
          "valueCache", "\(valueCache.arrangement) of \(valueCache.heads) heads",
          "the places and heads of keyCache")
      }
      guard valueHeadSize == nil || valueHeadSize == valueCache.channels else {
        throw refuse(
          "valueHeadSize", "\(valueHeadSize ?? 0)", "\(valueCache.channels), as valueCache says")
      }
    }
    for operand in operands where Self.refusedOperands.contains(operand.kind) {
      throw refuse(
        "operands", operand.kind.rawValue,
        operand.kind == .keyLengths
          ? "no lengths: each step says them" : "operands that decode kernels have")
    }
    if let keyRotation {
      let rotated = keyRotation.channels
      guard rotated % 8 == 0, rotated >= 8, rotated <= keyCache.channels else {
        throw refuse(
          "keyRotation.channels", "\(keyRotation.channels)",
          "multiples of 8 from 8 to \(keyCache.channels)")
      }
      guard valueCache != nil else {
        throw refuse("keyRotation", "given", "only where values are not the keys")
      }
    }
    let most: Int
    switch arrangement.kind {
    case .contiguous: most = arrangement.blockTokens
    case .ring: most = AttentionMask.largestExtent
    case .paged:
      let places = arrangement.blockCount.multipliedReportingOverflow(by: arrangement.blockTokens)
      most =
        places.overflow
        ? AttentionMask.largestExtent : min(AttentionMask.largestExtent, places.partialValue)
    }
    let keyTokens = maxKeyTokens ?? most
    if arrangement.kind == .contiguous, keyTokens > most {
      throw refuse("maxKeyTokens", "\(keyTokens)", "at most the capacity \(most)")
    }
    let values = valueCache ?? keyCache
    attention = try AttentionRequest(
      batchSize: batchSize, queryTokens: queryTokens, keyTokens: keyTokens, queryHeads: queryHeads,
      keyHeads: keyCache.heads, headSize: keyCache.channels,
      valueHeadSize: valueCache?.channels ?? valueHeadSize, elementType: elementType,
      keyType: keyCache.format.elementType ?? .f16, valueType: values.format.elementType ?? .f16,
      outputType: outputType, scale: scale, mask: mask, scores: scores,
      operands: operands + [AttentionOperand(.keyLengths)], returnsLogSumExp: returnsLogSumExp,
      valuesAreKeys: valueCache == nil, queryStrides: queryStrides,
      keyStrides: TensorStrides(batch: 0, token: 0, head: 0),
      valueStrides: TensorStrides(batch: 0, token: 0, head: 0), outputStrides: outputStrides)
    self.keyCache = keyCache
    self.valueCache = values
    self.keyRotation = keyRotation
  }

  private static let refusedOperands: Set<AttentionOperand.Kind> = [
    .keyLengths, .blockMap, .gridBias, .relativeKeys, .relativeQueryBias,
  ]

  /// Rows of a problem: query tokens times the query heads that share a key head.
  var problemRows: Int { attention.queryTokens * attention.headsPerGroup }

  /// The bytes of the table of rotations, f32 [T, channels / 2, 2] of cosine and sine; 0 without rotation.
  public var rotationByteCount: Int { attention.keyTokens * (keyRotation?.channels ?? 0) * 4 }

  /// The keys that a sequence of n keys reads: without those that a ring has forgotten or a window leaves
  /// behind for every query.
  func visibleKeys(length: Int) -> Range<Int> {
    var first = 0
    let mask = attention.mask
    if let left = mask.windowLeft, mask.sinkTokens == 0, mask.alignment == .bottomRight {
      first = max(first, length - attention.queryTokens - left)
    }
    if keyCache.arrangement.kind == .ring {
      first = max(first, length - keyCache.arrangement.blockTokens)
    }
    return min(first, length)..<length
  }

  /// The bytes that a step must move at least: each visible key and value once, queries and outputs.
  ///
  /// - Parameter lengths: the keys of each sequence.
  public func compulsoryBytes(lengths: [Int]) -> Double {
    let perKey =
      keyCache.rowByteCount + (attention.valuesAreKeys ? 0 : valueCache.rowByteCount)
    let keys = lengths.reduce(0) { $0 + visibleKeys(length: $1).count }
    let perQuery =
      attention.headSize * attention.elementType.byteCount
      + attention.valueHeadSize * attention.outputType.byteCount
    return Double(keys) * Double(keyCache.heads) * Double(perKey)
      + Double(attention.outputRowCount) * Double(perQuery)
  }

  /// Multiplications and additions of a step.
  ///
  /// - Parameter lengths: the keys of each sequence.
  public func floatingPointOperations(lengths: [Int]) -> Double {
    let keys = lengths.reduce(0) { $0 + visibleKeys(length: $1).count }
    return 2 * Double(keys) * Double(attention.queryTokens * attention.queryHeads)
      * Double(attention.headSize + attention.valueHeadSize)
  }
}
