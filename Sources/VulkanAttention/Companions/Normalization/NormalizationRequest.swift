/// The normalisation of rows, with the addition of a residual before it.
///
///     s = x + residual                                     (x alone where there is no residual)
///     layer:  y = (s − mean(s)) / √(var(s) + ε) · weight + bias       (https://arxiv.org/abs/1607.06450)
///     rootMeanSquare:  y = s / √(mean(s²) + ε) · weight + bias        (https://arxiv.org/abs/1910.07467)
///
/// Letters: N rows, D channels. Statistics and arithmetic are f32; the variance is that of the D numbers themselves,
/// not an estimate (`torch.nn.LayerNorm`). The sum can be returned: it is the residual stream of a pre-norm
/// transformer.
public struct NormalizationRequest: Sendable, Hashable {
  /// What a row is divided by.
  public enum Kind: String, Sendable, Hashable, Codable, CaseIterable {
    /// The root of the mean square; the mean stays.
    case rootMeanSquare = "rms"
    /// The standard deviation, after the mean is taken off.
    case layer
  }

  /// N.
  public let rows: Int
  /// D.
  public let channels: Int
  /// What a row is divided by.
  public let kind: Kind
  /// ε, in the unit of squares of x.
  public let epsilon: Float
  /// The type of x.
  public let inputType: ElementType
  /// The type of y.
  public let outputType: ElementType
  /// The type of weight and bias.
  public let weightType: ElementType
  /// The type of the residual and of the returned sum; nil where nothing is added.
  public let residualType: ElementType?
  /// Whether y is multiplied by a weight [D].
  public let hasWeight: Bool
  /// Whether a bias [D] is added.
  public let hasBias: Bool
  /// Whether s is returned.
  public let returnsSum: Bool
  let source: CompanionRows
  let residual: CompanionRows?
  let destination: CompanionRows

  /// States a normalisation; what no device could run is refused here.
  ///
  /// - Parameters:
  ///   - rows: N, from 1 to 2^24.
  ///   - channels: D, from 1 to 2^24.
  ///   - kind: what a row is divided by.
  ///   - epsilon: ε, a finite number from 0.
  ///   - inputType: the type of x.
  ///   - outputType: the type of y; that of x by default.
  ///   - weightType: the type of weight and bias; f32 by default.
  ///   - residualType: the type of the residual and of the sum; nil adds nothing.
  ///   - hasWeight: whether there is a weight.
  ///   - hasBias: whether there is a bias.
  ///   - returnsSum: whether s is returned, which takes a residual.
  ///   - inputStride: elements from one row of x, of the residual and of the sum to the next; D by default.
  ///   - outputStride: of y; D by default.
  /// - Throws: `AttentionError.invalidArgument`.
  public init(
    rows: Int, channels: Int, kind: Kind, epsilon: Float, inputType: ElementType = .f32,
    outputType: ElementType? = nil, weightType: ElementType = .f32,
    residualType: ElementType? = nil, hasWeight: Bool = true, hasBias: Bool = false,
    returnsSum: Bool = false, inputStride: Int? = nil, outputStride: Int? = nil
  ) throws(AttentionError) {
    try checkRange("rows", rows, 1...CompanionRows.largestExtent)
    try checkRange("channels", channels, 1...CompanionRows.largestExtent)
    guard epsilon.isFinite, epsilon >= 0 else {
      throw .invalidArgument(
        name: "epsilon", value: "\(epsilon)", allowed: "a finite number from 0")
    }
    guard residualType != nil || !returnsSum else {
      throw .invalidArgument(
        name: "returnsSum", value: "true", allowed: "only with a residual: the sum is x without it")
    }
    let outputType = outputType ?? inputType
    source = try CompanionRows(
      "x", rows: rows, channels: channels, stride: inputStride, type: inputType)
    if let residualType {
      residual = try CompanionRows(
        "residual", rows: rows, channels: channels, stride: inputStride, type: residualType)
    } else {
      residual = nil
    }
    destination = try CompanionRows(
      "y", rows: rows, channels: channels, stride: outputStride, type: outputType)
    self.rows = rows
    self.channels = channels
    self.kind = kind
    self.epsilon = epsilon
    self.inputType = inputType
    self.outputType = outputType
    self.weightType = weightType
    self.residualType = residualType
    self.hasWeight = hasWeight
    self.hasBias = hasBias
    self.returnsSum = returnsSum
  }

  /// Elements from one row of x to the next.
  public var inputStride: Int { source.stride }
  /// Elements from one row of y to the next.
  public var outputStride: Int { destination.stride }
  /// Bytes up to the end of x's last row.
  public var inputByteCount: Int { source.byteCount }
  /// Bytes up to the end of the last row of the residual, and of the sum; 0 where there is none.
  public var residualByteCount: Int { residual?.byteCount ?? 0 }
  /// Bytes of the weight, and of the bias.
  public var weightByteCount: Int { channels * weightType.byteCount }
  /// Bytes up to the end of y's last row.
  public var outputByteCount: Int { destination.byteCount }
}
