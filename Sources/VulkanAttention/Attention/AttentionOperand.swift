/// A tensor that an attention takes beside q, k and v: a bias, a mask, lengths, …
///
/// The request says which there are (``AttentionRequest/operands``), ``AttentionBuffers/operands`` where
/// they lie. All are contiguous. Letters as in ``AttentionRequest``; n is the sequence's key count. With
/// packed sequences, [B, S] is [Tq] and [B, T] is [Tk].
public struct AttentionOperand: Sendable, Hashable {
  /// What the tensor is for.
  public enum Kind: String, Sendable, Hashable, CaseIterable {
    /// [B, H, S, T] of ``AttentionOperand/elementType``, added to the scores; −∞ hides a key.
    case bias
    /// [B, H, S, T] of bytes, 0 hides a key.
    case mask
    /// [B, H, S, ⌈T / 8⌉] of bytes: bit j % 8 of byte j / 8 is 0 where key j is hidden.
    case maskBits = "mask_bits"
    /// [B, S, ⌈W / 8⌉] of bytes, W = ``AttentionScores/treeTokens``: the last W keys are nodes of a tree
    /// of drafts, and bit w of row i says whether query i sees node w; its own bit belongs to it
    /// (https://arxiv.org/abs/2305.09781).
    case treeBits = "tree_bits"
    /// [B, H, ⌈S / R⌉, ⌈T / C⌉] of 32-bit integers, R and C being ``AttentionMask/blockMapRows`` and
    /// ``AttentionMask/blockMapKeys``: what is known of each block of queries and keys. 0: all of it is hidden, and it
    /// is skipped. 1: the other masks decide. 2: the masks that are data (``mask``, ``maskBits``, ``treeBits``,
    /// segments) hide nothing of it and are not asked; masks by position hold nevertheless. Other numbers count as 1.
    /// ``AttentionBlockMapKernel`` computes it from those masks; a map of one's own is block-sparse attention.
    case blockMap = "block_map"
    /// [B, S] of 32-bit integers: a query sees the keys of its own segment
    /// (or of all others: ``AttentionScores/seesOtherSegments``).
    case querySegments = "q_segments"
    /// [B, T] of 32-bit integers.
    case keySegments = "k_segments"
    /// [B] of 32-bit integers in 0...T: n; later keys may hold anything.
    case keyLengths = "kv_lengths"
    /// [B] of 32-bit integers: keys before this one are hidden; positions stay as they are.
    case leftPadding = "left_padding"
    /// [B] of 32-bit integers: ``AttentionMask/prefixTokens`` of each sequence.
    case prefixLengths = "prefix_lengths"
    /// [H, 2] of 32-bit integers: ``AttentionMask/windowLeft`` and `windowRight` of each head, negative
    /// for no limit.
    case headWindows = "head_windows"
    /// [H] of f32: one more logit per head, in the denominator alone (gpt-oss,
    /// https://arxiv.org/abs/2508.10925).
    case sinks
    /// [B, H] of f32: slope · |p − j| is taken from each score (ALiBi, https://arxiv.org/abs/2108.12409).
    case alibiSlopes = "alibi_slopes"
    /// [H, L + 1 + R] of f32, L and R being ``AttentionScores/relativeLeft`` and `relativeRight`: entry
    /// clamp(j − p, −L, R) + L is added (T5's buckets expanded, https://arxiv.org/abs/1910.10683).
    case relativeBias = "relative_bias"
    /// [(2h − 1)(2w − 1), H] of f32, for a window of h × w tokens
    /// (Swin, https://arxiv.org/abs/2103.14030): entry (yᵢ − yⱼ + h − 1)(2w − 1) + xᵢ − xⱼ + w − 1.
    case gridBias = "grid_bias"
    /// [B, H, T] of f32, added to the scores.
    case keyBias = "key_bias"
    /// [B, S, H] of f32: the scale of a row is multiplied by this (temperatures).
    case queryScales = "query_scales"
    /// [B, S, H] of f32: the output of a row is multiplied by this
    /// (https://arxiv.org/abs/2505.06708). A row of gate 0 is not computed: output 0, log-sum-exp −∞.
    case gates
    /// [H, D] of f32, added to the queries (Transformer-XL's u, https://arxiv.org/abs/1901.02860).
    case queryBias = "query_bias"
    /// [H, D] of f32, Transformer-XL's v; with ``relativeKeys``.
    case relativeQueryBias = "relative_query_bias"
    /// [L + 1 + R, H, D] of f32: (q + v) · r is added to q·k before the scale, r being the entry of the
    /// key's distance as for ``relativeBias``.
    case relativeKeys = "relative_keys"
    /// [N + 1] of 32-bit integers (`cu_seqlens_q`): where packed sequences begin in q.
    case queryStarts = "cu_seqlens_q"
    /// [N + 1] of 32-bit integers (`cu_seqlens_k`).
    case keyStarts = "cu_seqlens_k"
    /// [B, S, H] of f32: the running maximum (natural) that a resumed attention goes on from. Weights
    /// of other normalisers than softmax are relative to nothing; it is not read then, and 0 if returned.
    case initialMax = "initial_max"
    /// [B, S, H] of f32: the running sum of exp(s − max).
    case initialSum = "initial_sum"
    /// [B, S, H, E] of f32: the running sum of exp(s − max) · v.
    case initialOutput = "initial_output"
    /// [B, S, H] of f32, written: the running maximum; any value that keeps the sums in range.
    case finalMax = "final_max"
    /// [B, S, H] of f32, written.
    case finalSum = "final_sum"
    /// [B, S, H, E] of f32, written.
    case finalOutput = "final_output"
  }

  /// Axes along which a tensor has one entry for all.
  public struct Axes: OptionSet, Sendable, Hashable {
    /// The bits.
    public let rawValue: UInt8
    /// Axes by their bits.
    public init(rawValue: UInt8) { self.rawValue = rawValue }
    /// All batch entries share the tensor.
    public static let batch = Axes(rawValue: 1)
    /// All heads share it.
    public static let heads = Axes(rawValue: 2)
    /// All query tokens share it.
    public static let queries = Axes(rawValue: 4)
  }

  /// What the tensor is for.
  public let kind: Kind
  /// The type of its elements; f32 except for ``Kind/bias``, and without meaning for bytes and integers.
  public let elementType: ElementType
  /// The axes of extent 1.
  public let shared: Axes

  /// An operand.
  ///
  /// - Parameters:
  ///   - kind: what it is for.
  ///   - elementType: its type, where the kind allows a choice.
  ///   - shared: axes of extent 1, where the kind has them.
  public init(_ kind: Kind, _ elementType: ElementType = .f32, shared: Axes = []) {
    self.kind = kind
    self.elementType = elementType
    self.shared = shared
  }
}

extension AttentionOperand.Kind {
  /// The axes that may be shared.
  var sharableAxes: AttentionOperand.Axes {
    switch self {
    case .bias, .mask, .maskBits, .queryScales, .gates: [.batch, .heads, .queries]
    case .keyBias, .blockMap: [.batch, .heads]
    case .treeBits, .querySegments, .keySegments, .alibiSlopes: [.batch]
    case .relativeBias: [.heads]
    default: []
    }
  }

  /// The bytes of one element of an operand of the type.
  func elementByteCount(_ type: ElementType) -> Int {
    switch self {
    case .mask, .maskBits, .treeBits: 1
    case .bias: type.byteCount
    default: 4
    }
  }

  /// Whether the kernel writes it: the returned state.
  public var isWritten: Bool { [.finalMax, .finalSum, .finalOutput].contains(self) }

  /// Its place in the shaders' block of options (`attention_option_block.glsl`); nil for what only other
  /// kernels read.
  var slot: Int? {
    switch self {
    case .bias: 0
    case .mask: 1
    case .maskBits: 2
    case .treeBits: 3
    case .querySegments: 4
    case .keySegments: 5
    case .keyLengths: 6
    case .leftPadding: 7
    case .prefixLengths: 8
    case .headWindows: 9
    case .sinks: 10
    case .alibiSlopes: 11
    case .relativeBias: 12
    case .gridBias: 13
    case .keyBias: 14
    case .queryScales: 15
    case .gates: 16
    case .queryBias: 17
    case .queryStarts: 19
    case .keyStarts: 20
    case .initialMax: 21
    case .initialSum: 22
    case .initialOutput: 23
    case .finalMax: 24
    case .finalSum: 25
    case .finalOutput: 26
    case .blockMap: 28
    case .relativeQueryBias, .relativeKeys: nil
    }
  }
}

/// An operand's extents with the strides of its outer axes, in elements.
struct OperandLayout: Sendable, Hashable {
  let elementCount: Int
  let byteCount: Int
  let batchStride: Int
  let headStride: Int
  let tokenStride: Int
}

extension AttentionRequest {
  /// The operand of a kind, where the request has it.
  public func operand(_ kind: AttentionOperand.Kind) -> AttentionOperand? {
    operands.first { $0.kind == kind }
  }

  /// The size in bytes that an operand's buffer needs; 0 for one that the request does not have.
  public func byteCount(of kind: AttentionOperand.Kind) -> Int {
    operand(kind).flatMap(layout)?.byteCount ?? 0
  }

  /// Where the elements of an operand lie; nil where there are more than can be counted.
  func layout(of operand: AttentionOperand) -> OperandLayout? {
    let shared = operand.shared
    let isPacked = packedSequences != nil
    // Along a token axis that is packed there is no batch axis.
    let batches = shared.contains(.batch) ? 1 : batchSize
    let tokenBatches = isPacked ? 1 : batches
    let heads = shared.contains(.heads) ? 1 : queryHeads
    let queries = shared.contains(.queries) ? 1 : packedSequences?.queryTokens ?? queryTokens
    let keys = packedSequences?.keyTokens ?? keyTokens

    /// Contiguous [batch, head, token, inner] with the axes in an order of their own.
    func make(batch: Int, head: Int, token: Int, inner: Int, headIsInner: Bool = false)
      -> OperandLayout?
    {
      var count = 1
      for extent in [batch, head, token, inner] {
        let (product, overflows) = count.multipliedReportingOverflow(by: extent)
        if overflows { return nil }
        count = product
      }
      let bytes = count.multipliedReportingOverflow(
        by: operand.kind.elementByteCount(operand.elementType))
      let headStride = headIsInner ? inner : token * inner
      let tokenStride = headIsInner ? head * inner : inner
      let batchStride = head * token * inner
      guard !bytes.overflow, max(batchStride, headStride, tokenStride) <= Int(UInt32.max) else {
        return nil
      }
      return OperandLayout(
        elementCount: count, byteCount: bytes.partialValue,
        batchStride: batch > 1 ? batchStride : 0, headStride: head > 1 ? headStride : 0,
        tokenStride: token > 1 ? tokenStride : 0)
    }
    switch operand.kind {
    case .bias, .mask: return make(batch: batches, head: heads, token: queries, inner: keys)
    case .maskBits:
      return make(batch: batches, head: heads, token: queries, inner: ceilingDivide(keys, 8))
    case .blockMap:
      return make(
        batch: batches, head: heads, token: ceilingDivide(queryTokens, mask.blockMapRows),
        inner: ceilingDivide(keyTokens, mask.blockMapKeys))
    case .treeBits:
      return make(
        batch: tokenBatches, head: 1, token: queries, inner: ceilingDivide(scores.treeTokens, 8))
    case .querySegments: return make(batch: tokenBatches, head: 1, token: queries, inner: 1)
    case .keySegments: return make(batch: tokenBatches, head: 1, token: keys, inner: 1)
    case .keyLengths, .leftPadding, .prefixLengths:
      return make(batch: batchSize, head: 1, token: 1, inner: 1)
    case .headWindows: return make(batch: 1, head: queryHeads, token: 1, inner: 2)
    case .sinks: return make(batch: 1, head: queryHeads, token: 1, inner: 1)
    case .alibiSlopes: return make(batch: batches, head: queryHeads, token: 1, inner: 1)
    case .relativeBias:
      return make(batch: 1, head: heads, token: 1, inner: scores.relativeExtent)
    case .gridBias:
      return make(
        batch: 1, head: queryHeads, token: (2 * scores.gridHeight - 1) * (2 * scores.gridWidth - 1),
        inner: 1, headIsInner: true)
    case .keyBias: return make(batch: tokenBatches, head: heads, token: keys, inner: 1)
    case .queryScales, .gates:
      return make(
        batch: shared.contains(.batch) ? 1 : tokenBatches, head: heads, token: queries, inner: 1,
        headIsInner: true)
    case .queryBias, .relativeQueryBias:
      return make(batch: 1, head: queryHeads, token: 1, inner: headSize)
    case .relativeKeys:
      return make(
        batch: 1, head: queryHeads, token: scores.relativeExtent, inner: headSize,
        headIsInner: true)
    case .queryStarts, .keyStarts: return make(batch: batchSize + 1, head: 1, token: 1, inner: 1)
    case .initialMax, .initialSum, .finalMax, .finalSum:
      return make(
        batch: tokenBatches, head: queryHeads, token: queries, inner: 1, headIsInner: true)
    case .initialOutput, .finalOutput:
      return make(
        batch: tokenBatches, head: queryHeads, token: queries, inner: valueHeadSize,
        headIsInner: true)
    }
  }
}
