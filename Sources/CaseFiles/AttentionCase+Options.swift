extension AttentionCase {
  /// What a kernel may lack; the raw value is the name in the file, where it has one.
  public enum Option: String, Sendable, Hashable, CaseIterable {
    /// A causal mask.
    case causal
    /// Alignment top-left where it matters.
    case causalAlign = "causal_align"
    /// A window to the left.
    case windowLeft = "window_left"
    /// A window to the right.
    case windowRight = "window_right"
    /// Soft-capped scores.
    case softcap
    /// Keys that windows and chunks do not hide.
    case sinkTokens = "sink_tokens"
    /// A bias tensor.
    case bias
    /// A mask tensor.
    case mask
    /// Sink logits.
    case sinks
    /// ALiBi slopes.
    case alibiSlopes = "alibi_slopes"
    /// Key counts per sequence.
    case kvLengths = "kv_lengths"
    /// A causal mask by blocks.
    case causalBlock = "causal_block"
    /// A prefix that the causal mask does not hide.
    case prefixTokens = "prefix_tokens"
    /// Such a prefix per sequence.
    case prefixLengths = "prefix_lengths"
    /// Windows per head.
    case headWindows = "head_windows"
    /// Chunks outside of which keys are hidden.
    case chunk
    /// Hidden keys at the sequences' starts.
    case leftPadding = "left_padding"
    /// Segments of queries and keys.
    case segments
    /// A mask of bits.
    case maskBits = "mask_bits"
    /// A mask of draft tokens at the end.
    case treeBits = "tree_bits"
    /// Factors of the rows' scores.
    case queryScales = "query_scales"
    /// A bias of the queries.
    case queryBias = "query_bias"
    /// Keys by distance, with or without a bias of the queries that meet them.
    case relativeKeys = "relative_keys"
    /// A bias of the keys.
    case keyBias = "key_bias"
    /// A bias by distance.
    case relativeBias = "relative_bias"
    /// A bias by T5's buckets of distances.
    case t5Bias = "t5_bias"
    /// A bias by the offset in a two-dimensional window.
    case gridBias = "grid_bias"
    /// Softmax with 1 more in the denominator.
    case softmaxOffByOne = "softmax1"
    /// ReLU over the key count.
    case reluMean = "relu_mean"
    /// ReLU over its sum.
    case reluSum = "relu_sum"
    /// Sigmoid.
    case sigmoid
    /// Factors of the output's rows.
    case gates
    /// A state to go on from.
    case initialState = "initial_max"
    /// Packed sequences.
    case packedSequences = "cu_seqlens_q"
    /// A score by a user's GLSL.
    case scoreGLSL = "score_glsl"
    /// A mask by a user's GLSL.
    case maskGLSL = "mask_glsl"
    /// k or v of another type than q.
    case mixedTypes = "mixed types"
  }

  /// The options that change this case's result, in the order of ``Option``.
  ///
  /// A runner skips a case whose options it does not all support, naming those it lacks.
  /// An alignment alone changes nothing without an option that depends on positions, nor does
  /// top-left where it is the same as bottom-right.
  public var optionsInUse: [Option] {
    Option.allCases.filter(uses)
  }

  private func uses(_ option: Option) -> Bool {
    let isNear = hasWindow || parameters.chunk > 0
    switch option {
    case .causal: return parameters.causal
    case .causalAlign:
      return parameters.causalAlignment == .topLeft && usesPositions && offsetsDiffer
    case .windowLeft: return parameters.windowLeft != nil && headWindows == nil
    case .windowRight: return parameters.windowRight != nil && headWindows == nil
    case .softcap: return parameters.softcap > 0
    case .sinkTokens: return parameters.sinkTokens > 0 && isNear
    case .causalBlock: return parameters.causal && parameters.causalBlock > 1
    case .prefixTokens:
      return parameters.causal && parameters.prefixTokens > 0 && prefixLengths == nil
    case .prefixLengths: return parameters.causal && prefixLengths != nil
    case .chunk: return parameters.chunk > 0
    case .softmaxOffByOne: return parameters.normalizer == .softmaxOffByOne
    case .reluMean: return parameters.normalizer == .reluMean
    case .reluSum: return parameters.normalizer == .reluSum
    case .sigmoid: return parameters.normalizer == .sigmoid
    case .packedSequences: return isPacked
    case .scoreGLSL: return parameters.scoreGLSL != nil
    case .maskGLSL: return parameters.maskGLSL != nil
    case .mixedTypes: return k.element != q.element || v.element != q.element
    default: return tensor(of: option) != nil
    }
  }

  /// The tensor whose presence alone is the option.
  private func tensor(of option: Option) -> CaseTensor? {
    switch option {
    case .bias: bias
    case .mask: mask
    case .sinks: sinks
    case .alibiSlopes: alibiSlopes
    case .kvLengths: kvLengths
    case .headWindows: headWindows
    case .leftPadding: leftPadding
    case .segments: querySegments
    case .maskBits: maskBits
    case .treeBits: treeBits
    case .queryScales: queryScales
    case .queryBias: queryBias
    case .relativeKeys: relativeKeys
    case .keyBias: keyBias
    case .relativeBias: relativeBias
    case .t5Bias: t5Bias
    case .gridBias: gridBias
    case .gates: gates
    case .initialState: initialMax
    default: nil
    }
  }

  private var hasWindow: Bool {
    parameters.windowLeft != nil || parameters.windowRight != nil || headWindows != nil
  }

  private var usesPositions: Bool {
    parameters.causal || hasWindow || parameters.chunk > 0 || alibiSlopes != nil
      || relativeBias != nil || relativeKeys != nil || t5Bias != nil
  }

  /// Whether the two alignments may put a query at different keys.
  private var offsetsDiffer: Bool {
    kvLengths != nil || isPacked || queryTokens != keyTokens
  }
}
