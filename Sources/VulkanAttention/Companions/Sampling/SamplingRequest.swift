/// The next token of each row of logits, chosen on the device.
///
///     greedy:  the token of the largest logit, the first of several
///     draw:    one token of softmax(x / T), cut to its K most probable tokens and then to the fewest of the most
///              probable with at least the part P of their mass (nucleus sampling, https://arxiv.org/abs/1904.09751)
///
/// The drawn token is the first, by number, whose cumulative probability among the kept ones is above u, a uniform
/// number that the caller gives for each row: the same logits and the same u give the same token. Of tokens with
/// equal logits those of smaller numbers count as the more probable. NaN and −∞ are never chosen; a row of nothing
/// else gives −1. Arithmetic is f32, so that a u within about 1e-6 of a border may fall on its other side.
public struct SamplingRequest: Sendable, Hashable {
  /// How tokens are chosen.
  public enum Method: Sendable, Hashable {
    /// The token of the largest logit.
    case greedy
    /// A draw at a temperature T, from at most `topTokens` tokens (K; nil for all), from at most the part `topMass` of
    /// their mass (P; 1 for all).
    case draw(temperature: Float, topTokens: Int? = nil, topMass: Float = 1)
  }

  /// N, the rows of logits.
  public let rows: Int
  /// V, the logits of a row.
  public let vocabulary: Int
  /// How tokens are chosen.
  public let method: Method
  /// The type of the logits.
  public let elementType: ElementType
  let source: CompanionRows

  /// States a choice; what no device could run is refused here.
  ///
  /// - Parameters:
  ///   - rows: N, from 1 to 2^24.
  ///   - vocabulary: V, from 1 to 2^24.
  ///   - method: greedy by default. A temperature is above 0 and finite, `topTokens` is 1 or more, `topMass` above 0 and
  ///     at most 1.
  ///   - elementType: the type of the logits.
  ///   - stride: elements from one row of logits to the next; V by default.
  /// - Throws: `AttentionError.invalidArgument`.
  public init(
    rows: Int, vocabulary: Int, method: Method = .greedy, elementType: ElementType = .f32,
    stride: Int? = nil
  ) throws(AttentionError) {
    try checkRange("rows", rows, 1...CompanionRows.largestExtent)
    try checkRange("vocabulary", vocabulary, 1...CompanionRows.largestExtent)
    if case .draw(let temperature, let topTokens, let topMass) = method {
      guard temperature.isFinite, temperature > 0, (1 / temperature).isFinite else {
        throw .invalidArgument(
          name: "temperature", value: "\(temperature)",
          allowed: "a number above 0 whose inverse is finite; for 0 choose greedy")
      }
      if let topTokens { try checkRange("topTokens", topTokens, 1...Int(Int32.max)) }
      guard topMass > 0, topMass <= 1 else {
        throw .invalidArgument(
          name: "topMass", value: "\(topMass)", allowed: "above 0 and at most 1")
      }
    }
    self.rows = rows
    self.vocabulary = vocabulary
    self.method = method
    self.elementType = elementType
    source = try CompanionRows(
      "logits", rows: rows, channels: vocabulary, stride: stride, type: elementType)
  }

  /// Elements from one row of logits to the next.
  public var stride: Int { source.stride }
  /// Bytes up to the end of the last row of logits.
  public var inputByteCount: Int { source.byteCount }
  /// Bytes of the tokens, and of the uniform numbers.
  public var outputByteCount: Int { rows * 4 }
  /// Whether uniform numbers are read.
  public var takesUniforms: Bool { method != .greedy }
}
