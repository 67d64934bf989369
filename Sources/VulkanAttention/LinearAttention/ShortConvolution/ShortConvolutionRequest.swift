/// A causal depth-wise convolution over the tokens of each sequence, with a state between calls: what most gated
/// linear attentions put before q, k and v.
///
///     y[t, c] = activation(Σ_w weight[c, w] · x[t − W + 1 + w, c] + bias[c])
///
/// Tokens before a sequence's first come from its state, or are 0; afterwards the state holds the last W − 1 tokens, so
/// that a prefill and decode steps from its state are a longer prefill. Letters: B batch entries, T tokens, C channels,
/// W the width, N sequences: B, or the packed ones. Arithmetic is f32. (H3, https://arxiv.org/abs/2212.14052; Mamba,
/// https://arxiv.org/abs/2312.00752.)
public struct ShortConvolutionRequest: Sendable, Hashable {
  /// B; 1 where sequences are packed.
  public let batchSize: Int
  /// T, the tokens of a batch entry; of packed sequences all of them together.
  public let tokens: Int
  /// C.
  public let channels: Int
  /// W.
  public let width: Int
  /// Whether a bias is added.
  public let hasBias: Bool
  /// Whether y is z / (1 + exp(−z)) of the sum z.
  public let appliesSiLU: Bool
  /// Whether sequences begin with a state.
  public let hasInitialState: Bool
  /// Whether the states after the last tokens are written.
  public let hasFinalState: Bool
  /// Whether sequences name the slots of their states.
  public let hasStateSlots: Bool
  /// The states there is room for.
  public let stateCount: Int
  /// The number of packed sequences; nil for [B, T, C].
  public let packedSequences: Int?
  /// The most tokens that one sequence has; T unless sequences are packed.
  public let longestSequence: Int
  /// The type of x.
  public let elementType: ElementType
  /// The type of y.
  public let outputType: ElementType
  /// The type of weights and bias.
  public let weightType: ElementType
  /// Where x [B, T, C] lies; `head` has no meaning.
  public let strides: TensorStrides
  /// Where y [B, T, C] lies.
  public let outputStrides: TensorStrides

  /// Widths that the kernel takes.
  public static let widths = 2...8

  /// States a convolution; what no device could run is refused here.
  ///
  /// - Parameters:
  ///   - batchSize: B, 1 or more; 1 with packed sequences.
  ///   - tokens: T, 1 or more; of packed sequences all of them together.
  ///   - channels: C, 1 to 2^20.
  ///   - width: W, 2 to 8.
  ///   - hasBias: whether a bias is added.
  ///   - appliesSiLU: whether y is the SiLU of the sum.
  ///   - hasInitialState: whether sequences begin with a state.
  ///   - hasFinalState: whether the states after the last tokens are written.
  ///   - hasStateSlots: whether sequences name the slots of their states; only with a state.
  ///   - stateCount: the states there is room for; N unless sequences name their slots.
  ///   - packedSequences: the number of sequences packed one behind the other; tokens outside are not written.
  ///   - longestSequence: the most tokens that one of the packed sequences has; T by default. Tokens behind are not
  ///     written.
  ///   - elementType: the type of x.
  ///   - outputType: the type of y; `elementType` by default.
  ///   - weightType: the type of weights and bias; f32 by default.
  ///   - strides: contiguous by default.
  ///   - outputStrides: likewise; rows must not share memory.
  /// - Throws: `AttentionError.invalidArgument` or `tooLarge`.
  public init(
    batchSize: Int = 1, tokens: Int, channels: Int, width: Int = 4, hasBias: Bool = false,
    appliesSiLU: Bool = false, hasInitialState: Bool = false, hasFinalState: Bool = false,
    hasStateSlots: Bool = false, stateCount: Int? = nil, packedSequences: Int? = nil,
    longestSequence: Int? = nil, elementType: ElementType = .f32,
    outputType: ElementType? = nil, weightType: ElementType = .f32,
    strides: TensorStrides? = nil, outputStrides: TensorStrides? = nil
  ) throws(AttentionError) {
    let count = 1...(1 << 30)
    try checkRange("batchSize", batchSize, packedSequences == nil ? count : 1...1)
    try checkRange("tokens", tokens, count)
    try checkRange("channels", channels, 1...(1 << 20))
    try checkRange("width", width, Self.widths)
    if let packedSequences {
      try checkRange("packedSequences", packedSequences, count)
      try checkRange("longestSequence", longestSequence ?? tokens, 1...tokens)
    } else if let longestSequence {
      try checkRange("longestSequence", longestSequence, tokens...tokens)
    }
    if hasStateSlots, !hasInitialState, !hasFinalState {
      throw .invalidArgument(
        name: "hasStateSlots", value: "true", allowed: "true only with a state")
    }
    let sequences = packedSequences ?? batchSize
    if let stateCount {
      try checkRange("stateCount", stateCount, hasStateSlots ? count : sequences...sequences)
    }
    self.batchSize = batchSize
    self.tokens = tokens
    self.channels = channels
    self.width = width
    self.hasBias = hasBias
    self.appliesSiLU = appliesSiLU
    self.hasInitialState = hasInitialState
    self.hasFinalState = hasFinalState
    self.hasStateSlots = hasStateSlots
    self.stateCount = stateCount ?? sequences
    self.packedSequences = packedSequences
    self.longestSequence = longestSequence ?? tokens
    self.elementType = elementType
    self.outputType = outputType ?? elementType
    self.weightType = weightType
    let contiguous = TensorStrides.tokenMajor(tokens: tokens, heads: 1, channels: channels)
    self.strides = strides ?? contiguous
    self.outputStrides = outputStrides ?? contiguous
    try source.check(areStridesGiven: strides != nil)
    try destination.check(areStridesGiven: outputStrides != nil)
    try destination.checkRowsAreApart()
  }

  /// N.
  public var sequenceCount: Int { packedSequences ?? batchSize }

  /// Bytes up to the end of x's last row.
  public var inputByteCount: Int { (source.elementCount ?? 0) * elementType.byteCount }

  /// Bytes up to the end of y's last row.
  public var outputByteCount: Int { (destination.elementCount ?? 0) * outputType.byteCount }

  /// Bytes of the weights [C, W].
  public var weightByteCount: Int { channels * width * weightType.byteCount }

  /// Bytes of the states, f32 [N, C, W − 1] or [slots, C, W − 1].
  public var stateByteCount: Int { stateCount * channels * (width - 1) * 4 }

  var source: TensorView { view("x", strides) }
  var destination: TensorView { view("y", outputStrides) }

  private func view(_ name: String, _ strides: TensorStrides) -> TensorView {
    TensorView(
      name: name, strides: strides, batch: batchSize, tokens: tokens, heads: 1,
      channels: channels)
  }
}
