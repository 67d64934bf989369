/// Queries, or keys, to be mapped to features (``AttentionFeatureMap``).
///
///     y[b, t, h] = φ(scale · x[b, t, h])        for all batch entries b, tokens t and heads h
///
/// Letters: B batch entries, T tokens, H heads, D channels of x, M features, N sequences: B, or the packed ones.
/// Arithmetic is f32; y may be x where it has the same type, channels and strides.
public struct FeatureMapRequest: Sendable, Hashable {
  /// B; 1 where sequences are packed.
  public let batchSize: Int
  /// T, the tokens of a batch entry; of packed sequences all of them together.
  public let tokens: Int
  /// H.
  public let heads: Int
  /// D.
  public let channels: Int
  /// φ.
  public let map: AttentionFeatureMap
  /// What x is multiplied by before it is mapped.
  public let scale: Float
  /// The type of x.
  public let elementType: ElementType
  /// The type of y.
  public let outputType: ElementType
  /// Channels of y: M, and zeros behind them.
  public let outputChannels: Int
  /// The number of packed sequences; nil for [B, T, …].
  public let packedSequences: Int?
  /// The most tokens that one sequence has; T unless sequences are packed.
  public let longestSequence: Int
  /// Whether positions are given; otherwise a token's place in its sequence is its position.
  public let hasPositions: Bool
  /// Where x [B, T, H, D] lies.
  public let strides: TensorStrides
  /// Where y [B, T, H, M] lies.
  public let outputStrides: TensorStrides

  /// Channels of x that the kernels take.
  public static let channelCounts = 1...4096
  /// Channels of x that a second-order series takes.
  public static let taylorChannelCounts = 1...64
  /// Random features that the kernels take.
  public static let favorFeatureCounts = 1...1024

  /// States a map; what no device could run is refused here.
  ///
  /// - Parameters:
  ///   - batchSize: B, 1 or more; 1 with packed sequences.
  ///   - tokens: T, 1 or more; of packed sequences all of them together.
  ///   - heads: H, 1 or more.
  ///   - channels: D, 1 to 4096; 1 to 64 for a second-order series, 1 to 1024 for FAVOR+.
  ///   - map: φ. An epsilon is finite and at least 0, FAVOR+ has 1 to 1024 features, cosFormer at most 2^30 positions.
  ///   - scale: finite; the paper's by default (``AttentionFeatureMap/defaultScale(channels:)``).
  ///   - elementType: the type of x.
  ///   - outputType: the type of y; `elementType` by default.
  ///   - outputChannels: M or more, at most 8192, of FAVOR+ 1024; M by default. Linear attention reads rows of multiples of 8 channels
  ///     by vectors, and zeros change nothing in it.
  ///   - packedSequences: the number of sequences packed one behind the other; tokens outside are not written.
  ///   - longestSequence: the most tokens that one of the packed sequences has; T by default. Of a longer one FAVOR+
  ///     leaves the tokens behind out.
  ///   - hasPositions: whether positions are given; only for cosFormer.
  ///   - strides: contiguous by default.
  ///   - outputStrides: likewise; rows must not share memory.
  /// - Throws: `AttentionError.invalidArgument` or `tooLarge`.
  public init(
    batchSize: Int = 1, tokens: Int, heads: Int, channels: Int, map: AttentionFeatureMap,
    scale: Float? = nil, elementType: ElementType = .f32, outputType: ElementType? = nil,
    outputChannels: Int? = nil, packedSequences: Int? = nil, longestSequence: Int? = nil,
    hasPositions: Bool = false, strides: TensorStrides? = nil, outputStrides: TensorStrides? = nil
  ) throws(AttentionError) {
    let count = 1...(1 << 30)
    try checkRange("batchSize", batchSize, packedSequences == nil ? count : 1...1)
    try checkRange("tokens", tokens, count)
    try checkRange("heads", heads, count)
    try Self.checkMap(map, channels)
    let features = map.features(from: channels)
    let isFavor = map.shaderConstant == nil
    let outputChannels = outputChannels ?? features
    try checkRange("outputChannels", outputChannels, features...(isFavor ? 1024 : 8192))
    if let packedSequences {
      try checkRange("packedSequences", packedSequences, count)
      try checkRange("longestSequence", longestSequence ?? tokens, 1...tokens)
    } else if let longestSequence {
      try checkRange("longestSequence", longestSequence, tokens...tokens)
    }
    let scale = scale ?? map.defaultScale(channels: channels)
    guard scale.isFinite else {
      throw .invalidArgument(name: "scale", value: "\(scale)", allowed: "a finite number")
    }
    if hasPositions {
      guard case .cosFormer = map else {
        throw .invalidArgument(
          name: "hasPositions", value: "true", allowed: "true only for cosFormer")
      }
    }
    self.batchSize = batchSize
    self.tokens = tokens
    self.heads = heads
    self.channels = channels
    self.map = map
    self.scale = scale
    self.elementType = elementType
    self.outputType = outputType ?? elementType
    self.outputChannels = outputChannels
    self.packedSequences = packedSequences
    self.longestSequence = longestSequence ?? tokens
    self.hasPositions = hasPositions
    self.strides = strides ?? .tokenMajor(tokens: tokens, heads: heads, channels: channels)
    self.outputStrides =
      outputStrides ?? .tokenMajor(tokens: tokens, heads: heads, channels: outputChannels)
    try source.check(areStridesGiven: strides != nil)
    try destination.check(areStridesGiven: outputStrides != nil)
    try destination.checkRowsAreApart()
  }

  private static func checkMap(
    _ map: AttentionFeatureMap, _ channels: Int
  ) throws(AttentionError) {
    func checkEpsilon(_ epsilon: Float) throws(AttentionError) {
      guard epsilon.isFinite, epsilon >= 0 else {
        throw .invalidArgument(
          name: "map.epsilon", value: "\(epsilon)", allowed: "finite numbers of at least 0")
      }
    }
    switch map {
    case .l2Norm(let epsilon):
      try checkRange("channels", channels, channelCounts)
      try checkEpsilon(epsilon)
    case .taylor2:
      try checkRange("channels", channels, taylorChannelCounts)
    case .favorPlus(let features, let epsilon, _):
      try checkRange("channels", channels, 1...1024)
      try checkRange("map.features", features, favorFeatureCounts)
      try checkEpsilon(epsilon)
    case .cosFormer(let maximum):
      try checkRange("channels", channels, channelCounts)
      try checkRange("map.maximum", maximum, 1...(1 << 30))
    default:
      try checkRange("channels", channels, channelCounts)
    }
  }

  /// M.
  public var features: Int { map.features(from: channels) }

  /// N.
  public var sequenceCount: Int { packedSequences ?? batchSize }

  /// Bytes up to the end of x's last row.
  public var inputByteCount: Int { (source.elementCount ?? 0) * elementType.byteCount }

  /// Bytes up to the end of y's last row.
  public var outputByteCount: Int { (destination.elementCount ?? 0) * outputType.byteCount }

  /// Bytes of FAVOR+'s projection, f32 [M, D]; 0 for other maps.
  public var projectionByteCount: Int {
    guard case .favorPlus(let features, _, _) = map else { return 0 }
    return features * channels * 4
  }

  /// Whether y may be x: rows of the same place and size.
  var canReplace: Bool {
    elementType == outputType && outputChannels == channels && map.shaderConstant != nil
      && features == channels && source.steps == destination.steps
  }

  var source: TensorView {
    TensorView(
      name: "x", strides: strides, batch: batchSize, tokens: tokens, heads: heads,
      channels: channels)
  }

  var destination: TensorView {
    TensorView(
      name: "y", strides: outputStrides, batch: batchSize, tokens: tokens, heads: heads,
      channels: outputChannels)
  }
}
