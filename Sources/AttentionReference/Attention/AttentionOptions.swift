/// Where query token 0 stands among the keys: what `offset` is in a query's position `i + offset`.
public enum CausalAlignment: Sendable, Hashable {
  /// The last query token sees the last key: offset n − S, n being the sequence's key count.
  case bottomRight
  /// The first query token sees the first key: offset 0.
  case topLeft
}

/// Which keys segment numbers let a query see.
public enum SegmentRule: Sendable, Hashable {
  /// Those of the query's own segment: several documents packed into one row of a batch.
  case same
  /// Those of every other segment.
  case different
}

/// How the scores of a row become weights, and what their weighted sum of values is divided by.
public enum AttentionNormalizer: Sendable, Hashable {
  /// `w = exp(s)`, divided by their sum (and the sink's exponential, where there is one).
  case softmax
  /// `w = exp(s)`, divided by 1 + their sum: a sink of logit 0, so that a head may attend to
  /// nothing (Miller 2023, "Attention is off by one").
  case softmaxOffByOne
  /// `w = max(s, 0)`, divided by the sequence's key count n (Wortsman et al. 2023, "Replacing
  /// softmax with ReLU in Vision Transformers", arXiv:2309.08586).
  case reluMean
  /// `w = max(s, 0)`, divided by their sum (the rectified weights of ReLA, Zhang et al. 2021,
  /// arXiv:2104.07012, with their sum in place of its norm over channels).
  case reluSum
  /// `w = 1 / (1 + exp(−(s + bias)))`, divided by nothing (Ramapuram et al. 2024, "Theory,
  /// analysis, and best practices for sigmoid self-attention", arXiv:2409.04431; bias −ln n there).
  case sigmoid(bias: Double)

  /// Whether weights are exponentials, and thereby relative to a row's largest score.
  var isExponential: Bool { self == .softmax || self == .softmaxOffByOne }
}

/// A score from another, of a pair of tokens: score, b, h, i, j.
///
/// Tokens count from the start of their sequence, batch entries are numbered in the whole problem.
/// (`score_mod` of FlexAttention, Dong et al. 2024, arXiv:2412.05496.)
public typealias ScoreFunction =
  @Sendable (_ score: Double, _ batch: Int, _ head: Int, _ query: Int, _ key: Int) -> Double

/// Whether a query sees a key: b, h, i, j, as in ``ScoreFunction``.
public typealias MaskFunction =
  @Sendable (_ batch: Int, _ head: Int, _ query: Int, _ key: Int) -> Bool

/// Everything that changes the meaning of an attention, apart from its sizes.
///
/// The defaults are plain attention: scale 1/√D, every key visible. In the formulas i is the query
/// token, j the key, n the sequence's key count, and `p = i + offset` the query's position among
/// the keys (``alignment``).
///
/// A key is visible where *every* option below allows it. The score is, in this order,
///
///     s = scale · queryScale · (q + queryBias)·k
///       + scale · queryScale · (q + relativeQueryBias)·relativeKey[e]
///     s = softcap · tanh(s / softcap)
///     s = s + bias + keyBias + relativeBias[e] + gridBias − alibiSlope · |p − j|
///
/// with `e = clamp(j − p, −relativeLeft, relativeRight) + relativeLeft`, and then what
/// ``scoreModification`` makes of it.
public struct AttentionOptions: Sendable {
  // MARK: Visibility

  /// Whether key j is hidden from query i when `j > p`.
  public var causal = false
  /// What `offset` is, for all that depends on a query's position.
  public var alignment = CausalAlignment.bottomRight
  /// With a causal mask, tokens of one block see each other: hidden when
  /// `⌊j / causalBlock⌋ > ⌊p / causalBlock⌋`. 1 is the ordinary causal mask. (Block-causal
  /// attention, as in block diffusion, arXiv:2503.09573.)
  public var causalBlock = 1
  /// Keys `0..<prefixTokens` are visible in spite of the causal mask: a prefix that sees itself
  /// both ways (prefix-LM: UniLM, arXiv:1905.03197; T5, arXiv:1910.10683).
  public var prefixTokens = 0
  /// `[B]`: each sequence's own ``prefixTokens``, instead of it.
  public var prefixLengths: [Int]?
  /// Keys visible before the query's own position, `j ≥ p − windowLeft`; nil for no limit.
  /// (Sliding window: Longformer, arXiv:2004.05150; Mistral 7B, arXiv:2310.06825.)
  public var windowLeft: Int?
  /// Keys visible after the query's own position, `j ≤ p + windowRight`; nil for no limit.
  public var windowRight: Int?
  /// `[H]`: each head's own window, instead of ``windowLeft`` and ``windowRight``.
  public var headWindows: [HeadWindow]?
  /// With c > 0, keys of other chunks are hidden: visible when `⌊j / c⌋ = ⌊p / c⌋` (chunked
  /// attention of Llama 4).
  public var chunk = 0
  /// Keys `0..<sinkTokens` stay visible outside the window and the chunk, never outside the causal
  /// mask (StreamingLLM's attention sinks, arXiv:2309.17453).
  public var sinkTokens = 0
  /// `[B]`: keys of each sequence, `0...T`; later keys are invisible and may hold anything.
  public var kvLengths: [Int]?
  /// `[B]`: the first keys of each sequence are padding, invisible; positions count them.
  public var leftPadding: [Int]?
  /// `[B or 1, S]`: the segment of each query token; goes with ``keySegments``.
  public var querySegments: PerToken<Int32>?
  /// `[B or 1, T]`: the segment of each key.
  public var keySegments: PerToken<Int32>?
  /// How segments decide.
  public var segmentRule = SegmentRule.same
  /// 0 hides a key, `[B or 1, H or 1, S or 1, T]`. ``PerScore/init(maskBits:keyTokens:batch:heads:queries:)``
  /// unpacks bits.
  public var mask: PerScore<UInt8>?
  /// `[B or 1, S, ⌈treeTokens/8⌉]`: which of the last ``treeTokens`` keys a query sees. Key
  /// `n − treeTokens + w` is visible where bit `w % 8`, the lowest first, of byte `w / 8` is 1.
  /// (The mask of a tree of draft tokens: SpecInfer, arXiv:2305.09781; Medusa, arXiv:2401.10774.)
  public var treeBits: PerToken<UInt8>?
  /// Keys at the end of the sequence that ``treeBits`` decide on.
  public var treeTokens = 0
  /// What is known of blocks of queries and keys; nil for nothing.
  public var blockMap: BlockMap?
  /// A rule of one's own: whether the query sees the key.
  public var maskModification: MaskFunction?

  // MARK: Score

  /// Factor of q·k; nil means 1/√D.
  public var scale: Double?
  /// `[B or 1, S or 1, H or 1]`: a factor for each row, beside ``scale`` (temperature by position
  /// as in Llama 4, log-length scaling).
  public var queryScales: PerRow<Double>?
  /// `[H, D]`: added to q before it meets k (Transformer-XL's u, arXiv:1901.02860).
  public var queryBias: [Double]?
  /// `[H, D]`: added to q before it meets ``relativeKeys`` (Transformer-XL's v).
  public var relativeQueryBias: [Double]?
  /// `[relativeLeft + 1 + relativeRight, H, D]`: a key for each distance, whose product with q is
  /// added to that with k (Transformer-XL's projected position encodings).
  public var relativeKeys: [Double]?
  /// With c > 0, scores become `c · tanh(score / c)` (Gemma 2, arXiv:2408.00118).
  public var softcap = 0.0
  /// Added to the scores, `[B or 1, H or 1, S or 1, T]`. −inf hides a key.
  public var bias: PerScore<Double>?
  /// Added to the scores of a key, `[B or 1, H or 1, T]`. −inf hides it.
  public var keyBias: PerKey<Double>?
  /// `[H or 1, relativeLeft + 1 + relativeRight]`: added by distance (T5, arXiv:1910.10683, once
  /// ``t5RelativeBias(_:buckets:heads:maxDistance:bidirectional:left:right:)`` has expanded it).
  public var relativeBias: [Double]?
  /// The distance before the query where tables by distance start; farther keys share its entry.
  public var relativeLeft = 0
  /// The distance after the query where tables by distance end; farther keys share its entry.
  public var relativeRight = 0
  /// `[(2·gridHeight − 1)·(2·gridWidth − 1), H]`: added by the offset of two places in a window,
  /// entry `(y_i − y_j + gridHeight − 1)·(2·gridWidth − 1) + x_i − x_j + gridWidth − 1`, where
  /// token t is at `y = t / gridWidth`, `x = t % gridWidth` (Swin Transformer, arXiv:2103.14030).
  /// It goes by i and j, not by the position p.
  public var gridBias: [Double]?
  /// Rows of the window of ``gridBias``.
  public var gridHeight = 0
  /// Columns of the window of ``gridBias``.
  public var gridWidth = 0
  /// `[H]`: `slope · |p − j|` is taken from each score (ALiBi, arXiv:2108.12409).
  public var alibiSlopes: [Double]?
  /// A step of one's own from a finished score to the one that takes its place. −inf hides the key.
  public var scoreModification: ScoreFunction?

  // MARK: Row

  /// How scores become weights.
  public var normalizer = AttentionNormalizer.softmax
  /// `[H]`: one more logit per head, which enters the denominator of ``AttentionNormalizer/softmax``
  /// only (gpt-oss).
  public var sinks: [Double]?
  /// `[B or 1, S or 1, H or 1]`: factors of the finished output rows (Gated attention,
  /// arXiv:2505.06708). A row whose gate is 0 is not computed: o = 0, lse = −inf.
  public var gates: PerRow<Double>?
  /// What keys before those given here left behind; the row goes on from it.
  ///
  /// Not with ``AttentionNormalizer/reluMean``, whose divisor would need their number.
  public var initialState: AttentionState?

  /// Plain attention, or with a causal mask or scale of one's own.
  public init(scale: Double? = nil, causal: Bool = false) {
    self.scale = scale
    self.causal = causal
  }
}

/// What a row knows after some of its keys, enough to go on with others.
///
/// With softmax weights `max` is the largest score so far, `sum` is `Σ exp(s − max)` and `output`
/// is `Σ exp(s − max)·v`; nothing seen so far is −inf, 0 and 0. The other normalizers' weights are
/// relative to nothing: `max` is 0 and not read, `sum` and `output` are `Σ w` and `Σ w·v`. Sinks
/// and gates are not in it. (The running softmax of Milakov and Gimelshein 2018, arXiv:1805.02867.)
public struct AttentionState: Sendable {
  /// `[B, S, H]`; when rows were chosen, `[rows]` in the order asked.
  public let max: [Double]
  /// As ``max``.
  public let sum: [Double]
  /// `[B, S, H, E]`; when rows were chosen, `[rows, E]`.
  public let output: [Double]

  /// A state of one's own.
  public init(max: [Double], sum: [Double], output: [Double]) {
    self.max = max
    self.sum = sum
    self.output = output
  }
}
