/// Queries, or keys, to be turned to their positions (``RotaryEncoding``).
///
///     y[n, h] = rotated(x[n, h], positions[n])        for n = 0 ..< N, all heads h
///
/// Letters: N tokens, H heads, D channels. Positions are Int32 in device memory, any of them. Arithmetic is f32;
/// against Double the error is within 3e-7 of the length of a pair.
public struct RotaryRequest: Sendable, Hashable {
  /// N.
  public let tokens: Int
  /// H.
  public let heads: Int
  /// D.
  public let channels: Int
  /// How channels are rotated.
  public let rotary: RotaryEncoding
  /// The type of x.
  public let elementType: ElementType
  /// The type of y.
  public let outputType: ElementType
  /// Where x [N, H, D] lies; `batch` has no meaning.
  public let strides: TensorStrides
  /// Where y [N, H, D] lies.
  public let outputStrides: TensorStrides

  /// States a rotation; what no device could run is refused here.
  ///
  /// - Parameters:
  ///   - tokens: N, 1 or more.
  ///   - heads: H, 1 or more.
  ///   - channels: D, from 1 to 576, and at least those that are rotated.
  ///   - rotary: how channels are rotated.
  ///   - elementType: the type of x.
  ///   - outputType: the type of y; `elementType` by default.
  ///   - strides: contiguous [N, H, D] by default.
  ///   - outputStrides: `strides` by default, which is how y can be x.
  /// - Throws: `AttentionError.invalidArgument` or `tooLarge`.
  public init(
    tokens: Int, heads: Int, channels: Int, rotary: RotaryEncoding,
    elementType: ElementType = .f32, outputType: ElementType? = nil,
    strides: TensorStrides? = nil, outputStrides: TensorStrides? = nil
  ) throws(AttentionError) {
    try checkRange("tokens", tokens, 1...AttentionMask.largestExtent)
    try checkRange("heads", heads, 1...AttentionMask.largestExtent)
    try checkRange("channels", channels, AttentionRequest.headSizes)
    guard rotary.rotaryChannels <= channels else {
      throw .invalidArgument(
        name: "rotary", value: "\(rotary.rotaryChannels) channels", allowed: "at most \(channels)")
    }
    self.tokens = tokens
    self.heads = heads
    self.channels = channels
    self.rotary = rotary
    self.elementType = elementType
    self.outputType = outputType ?? elementType
    let contiguous = TensorStrides.tokenMajor(tokens: tokens, heads: heads, channels: channels)
    self.strides = strides ?? contiguous
    self.outputStrides = outputStrides ?? self.strides
    try source.check(areStridesGiven: strides != nil)
    try destination.check(areStridesGiven: outputStrides != nil || strides != nil)
    try destination.checkRowsAreApart()
  }

  var source: TensorView { view("x", strides) }
  var destination: TensorView { view("y", outputStrides) }

  private func view(_ name: String, _ strides: TensorStrides) -> TensorView {
    TensorView(
      name: name, strides: strides, batch: 1, tokens: tokens, heads: heads, channels: channels)
  }

  /// Bytes up to the end of x's last row.
  public var inputByteCount: Int { (source.elementCount ?? 0) * elementType.byteCount }

  /// Bytes up to the end of y's last row.
  public var outputByteCount: Int { (destination.elementCount ?? 0) * outputType.byteCount }

  /// Whether y may be x: rows of the same place and size.
  var canReplace: Bool {
    elementType == outputType && source.steps == destination.steps
  }
}
