/// The epilogue of a linear attention: a norm of each group of heads, with weights, times a gate.
///
///     rms:    y = x / √(mean x² + epsilon) · weight + bias
///     layer:  y = (x − mean x) / √(mean (x − mean x)² + epsilon) · weight + bias
///
/// then y · gate(z), or x · gate(z) before. Letters: B batch entries, T tokens, H heads, D channels. SRMSNorm
/// (TransNormer, https://arxiv.org/abs/2307.14995) is `rms` without weights, RetNet's group norm
/// (https://arxiv.org/abs/2307.08621) one of single heads, that of Mamba-2 (https://arxiv.org/abs/2405.21060) `rms` of
/// all heads of a group with the gate before it. Arithmetic is f32.
public struct OutputNormRequest: Sendable, Hashable {
  /// What a group is divided by.
  public enum Norm: Sendable, Hashable, CaseIterable {
    /// Its root mean square.
    case rms
    /// Its standard deviation, after its mean was taken from it.
    case layer
  }

  /// What z becomes before it multiplies.
  public enum Gate: Sendable, Hashable, CaseIterable {
    /// There is no z.
    case none
    /// 1 / (1 + exp(−z)).
    case sigmoid
    /// z / (1 + exp(−z)).
    case silu
  }

  /// The extent of weights, or of biases.
  public enum Weights: Sendable, Hashable, CaseIterable {
    /// There are none.
    case none
    /// [D]: all heads have the same.
    case perChannel
    /// [H, D].
    case perHead
  }

  /// B.
  public let batchSize: Int
  /// T.
  public let tokens: Int
  /// H.
  public let heads: Int
  /// D.
  public let channels: Int
  /// Consecutive heads that are normalised together.
  public let headsPerGroup: Int
  /// What a group is divided by.
  public let norm: Norm
  /// What is added to the mean of squares.
  public let epsilon: Float
  /// Factors of the channels.
  public let weight: Weights
  /// What is added to the channels.
  public let bias: Weights
  /// What z becomes.
  public let gate: Gate
  /// Whether the gate multiplies x instead of y.
  public let gatesBeforeNorm: Bool
  /// The type of x.
  public let elementType: ElementType
  /// The type of y.
  public let outputType: ElementType
  /// The type of z.
  public let gateType: ElementType
  /// The type of weights and biases.
  public let weightType: ElementType
  /// Where x [B, T, H, D] lies.
  public let strides: TensorStrides
  /// Where y [B, T, H, D] lies.
  public let outputStrides: TensorStrides
  /// Where z [B, T, H, D] lies.
  public let gateStrides: TensorStrides

  /// States an epilogue; what no device could run is refused here.
  ///
  /// - Parameters:
  ///   - batchSize: B, 1 or more.
  ///   - tokens: T, 1 or more.
  ///   - heads: H, 1 or more.
  ///   - channels: D, 1 to 4096.
  ///   - headsPerGroup: a divisor of H; 1 by default, H for a norm of all channels.
  ///   - norm: what a group is divided by.
  ///   - epsilon: finite and at least 0.
  ///   - weight: factors of the channels.
  ///   - bias: what is added to them.
  ///   - gate: what z becomes.
  ///   - gatesBeforeNorm: whether the gate multiplies x; only with a gate.
  ///   - elementType: the type of x.
  ///   - outputType: the type of y; `elementType` by default.
  ///   - gateType: the type of z; `elementType` by default.
  ///   - weightType: the type of weights and biases; f32 by default.
  ///   - strides: contiguous by default.
  ///   - outputStrides: `strides` by default, which is how y can be x; rows must not share memory.
  ///   - gateStrides: contiguous by default.
  /// - Throws: `AttentionError.invalidArgument` or `tooLarge`.
  public init(
    batchSize: Int = 1, tokens: Int, heads: Int, channels: Int, headsPerGroup: Int = 1,
    norm: Norm = .rms, epsilon: Float = 1e-6, weight: Weights = .none, bias: Weights = .none,
    gate: Gate = .none, gatesBeforeNorm: Bool = false, elementType: ElementType = .f32,
    outputType: ElementType? = nil, gateType: ElementType? = nil, weightType: ElementType = .f32,
    strides: TensorStrides? = nil, outputStrides: TensorStrides? = nil,
    gateStrides: TensorStrides? = nil
  ) throws(AttentionError) {
    func check(
      _ isAllowed: Bool, _ name: String, _ value: some Any, _ allowed: String
    ) throws(AttentionError) {
      guard isAllowed else {
        throw .invalidArgument(name: name, value: "\(value)", allowed: allowed)
      }
    }
    let count = 1...(1 << 30)
    for (name, value) in [("batchSize", batchSize), ("tokens", tokens), ("heads", heads)] {
      try check(count.contains(value), name, value, "1 to \(count.upperBound)")
    }
    try check((1...4096).contains(channels), "channels", channels, "1 to 4096")
    try check(
      headsPerGroup >= 1 && heads % max(headsPerGroup, 1) == 0, "headsPerGroup", headsPerGroup,
      "divisors of heads, \(heads)")
    try check(
      headsPerGroup <= 1 << 20, "headsPerGroup", headsPerGroup, "at most \(1 << 20)")
    try check(
      epsilon.isFinite && epsilon >= 0, "epsilon", epsilon, "finite numbers of at least 0")
    try check(
      gate != .none || !gatesBeforeNorm, "gatesBeforeNorm", gatesBeforeNorm,
      "true only with a gate")
    self.batchSize = batchSize
    self.tokens = tokens
    self.heads = heads
    self.channels = channels
    self.headsPerGroup = headsPerGroup
    self.norm = norm
    self.epsilon = epsilon
    self.weight = weight
    self.bias = bias
    self.gate = gate
    self.gatesBeforeNorm = gatesBeforeNorm
    self.elementType = elementType
    self.outputType = outputType ?? elementType
    self.gateType = gateType ?? elementType
    self.weightType = weightType
    let contiguous = TensorStrides.tokenMajor(tokens: tokens, heads: heads, channels: channels)
    self.strides = strides ?? contiguous
    self.outputStrides = outputStrides ?? self.strides
    self.gateStrides = gateStrides ?? contiguous
    try source.check(areStridesGiven: strides != nil)
    try destination.check(areStridesGiven: outputStrides != nil || strides != nil)
    try destination.checkRowsAreApart()
    if gate != .none { try gateSource.check(areStridesGiven: gateStrides != nil) }
  }

  /// Bytes up to the end of x's last row.
  public var inputByteCount: Int { (source.elementCount ?? 0) * elementType.byteCount }

  /// Bytes up to the end of y's last row.
  public var outputByteCount: Int { (destination.elementCount ?? 0) * outputType.byteCount }

  /// Bytes up to the end of z's last row; 0 without a gate.
  public var gateByteCount: Int {
    gate == .none ? 0 : (gateSource.elementCount ?? 0) * gateType.byteCount
  }

  /// Bytes of the weights; 0 without.
  public var weightByteCount: Int { byteCount(of: weight) }

  /// Bytes of the biases; 0 without.
  public var biasByteCount: Int { byteCount(of: bias) }

  private func byteCount(of weights: Weights) -> Int {
    heads(of: weights) * channels * weightType.byteCount
  }

  /// Heads that have weights of their own.
  func heads(of weights: Weights) -> Int {
    switch weights {
    case .none: 0
    case .perChannel: 1
    case .perHead: heads
    }
  }

  /// Whether y may be x: rows of the same place and size.
  var canReplace: Bool { elementType == outputType && source.steps == destination.steps }

  /// Whether all rows begin at multiples of 8 elements.
  var isAligned: Bool {
    source.isAligned && destination.isAligned && (gate == .none || gateSource.isAligned)
  }

  var source: TensorView { view("x", strides) }
  var destination: TensorView { view("y", outputStrides) }
  var gateSource: TensorView { view("gate", gateStrides) }

  private func view(_ name: String, _ strides: TensorStrides) -> TensorView {
    TensorView(
      name: name, strides: strides, batch: batchSize, tokens: tokens, heads: heads,
      channels: channels)
  }
}
