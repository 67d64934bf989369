/// What turns scores into weights.
public enum AttentionNormalizer: Sendable, Hashable {
  /// w = exp(s), divided by the sum of the weights.
  case softmax
  /// Softmax with one more logit of 0 in the denominator, so that a row may attend to nothing
  /// ("off by one", Miller 2023).
  case softmaxOffByOne
  /// w = max(s, 0), divided by n, the sequence's key count (https://arxiv.org/abs/2309.08586).
  case reluMean
  /// w = max(s, 0), divided by the sum of the weights (https://arxiv.org/abs/2104.07012).
  case reluSum
  /// w = 1 / (1 + exp(−s − bias)), not divided; −ln n is the usual bias
  /// (https://arxiv.org/abs/2409.04431).
  case sigmoid(bias: Float)
}

/// What is done to a score between q·k and its weight, apart from operands.
///
/// The order: scale · q·k (and the Transformer-XL term) → soft cap → biases (`bias`, `keyBias`,
/// `relativeBias`, `gridBias`, ALiBi) → normaliser.
public struct AttentionScores: Sendable, Hashable {
  /// With c > 0, s becomes c · tanh(s / c) (Gemma 2, https://arxiv.org/abs/2408.00118); 0 for none.
  public var softcap: Float = 0
  /// What turns scores into weights.
  public var normalizer = AttentionNormalizer.softmax
  /// The farthest distance j − p to the left that `relativeBias` and `relativeKeys` tell apart.
  public var relativeLeft = 0
  /// The farthest distance to the right.
  public var relativeRight = 0
  /// The height of the window of tokens that `gridBias` belongs to.
  public var gridHeight = 0
  /// Its width; token t stands at row t / gridWidth, column t % gridWidth.
  public var gridWidth = 0
  /// The number of keys at the end of a sequence that `treeBits` are about.
  public var treeTokens = 0
  /// Whether queries see the keys of all segments but their own.
  public var seesOtherSegments = false

  /// Plain softmax; set what is wanted.
  public init() {}

  /// The entries of a table of biases by distance.
  public var relativeExtent: Int { relativeLeft + 1 + relativeRight }
}
