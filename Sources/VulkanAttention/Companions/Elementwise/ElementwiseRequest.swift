/// Activations of rows: alone, as gates, or with a residual.
///
///     y = act(a)        y = act(a) · b  (SwiGLU, GeGLU, https://arxiv.org/abs/2002.05202)        y = act(a) + b
///
/// Letters: N rows, C channels. With strides, gates and values can be the halves of one tensor's rows. Arithmetic
/// is f32.
public struct ElementwiseRequest: Sendable, Hashable {
  /// What becomes of act(a).
  public enum Combination: String, Sendable, Hashable, Codable, CaseIterable {
    /// Nothing: there is no b.
    case none
    /// It is a gate of b.
    case multiply
    /// b is added.
    case add

    var shaderConstant: UInt32 {
      switch self {
      case .none: 0
      case .multiply: 1
      case .add: 2
      }
    }
  }

  /// N.
  public let rows: Int
  /// C.
  public let channels: Int
  /// The function of a.
  public let activation: Activation
  /// What becomes of act(a).
  public let combination: Combination
  /// The type of a and b.
  public let inputType: ElementType
  /// The type of y.
  public let outputType: ElementType
  let first: CompanionRows
  let second: CompanionRows?
  let destination: CompanionRows

  /// States an operation; what no device could run is refused here.
  ///
  /// - Parameters:
  ///   - rows: N, from 1 to 2^24.
  ///   - channels: C, from 1 to 2^24.
  ///   - activation: the function of a.
  ///   - combination: what becomes of act(a).
  ///   - inputType: the type of a and b.
  ///   - outputType: the type of y; that of a by default.
  ///   - firstStride: elements from one row of a to the next; C by default.
  ///   - secondStride: of b; C by default.
  ///   - outputStride: of y; C by default.
  /// - Throws: `AttentionError.invalidArgument`.
  public init(
    rows: Int, channels: Int, activation: Activation, combination: Combination = .none,
    inputType: ElementType = .f32, outputType: ElementType? = nil, firstStride: Int? = nil,
    secondStride: Int? = nil, outputStride: Int? = nil
  ) throws(AttentionError) {
    try checkRange("rows", rows, 1...CompanionRows.largestExtent)
    try checkRange("channels", channels, 1...CompanionRows.largestExtent)
    if combination == .none, let secondStride {
      throw .invalidArgument(
        name: "secondStride", value: "\(secondStride)", allowed: "none, for there is no b")
    }
    self.rows = rows
    self.channels = channels
    self.activation = activation
    self.combination = combination
    self.inputType = inputType
    self.outputType = outputType ?? inputType
    first = try CompanionRows(
      "a", rows: rows, channels: channels, stride: firstStride, type: inputType)
    second =
      combination == .none
      ? nil
      : try CompanionRows(
        "b", rows: rows, channels: channels, stride: secondStride, type: inputType)
    destination = try CompanionRows(
      "y", rows: rows, channels: channels, stride: outputStride, type: outputType ?? inputType)
  }

  /// Elements from one row of a to the next.
  public var firstStride: Int { first.stride }
  /// Elements from one row of b to the next; 0 where there is no b.
  public var secondStride: Int { second?.stride ?? 0 }
  /// Elements from one row of y to the next.
  public var outputStride: Int { destination.stride }
  /// Bytes up to the end of a's last row.
  public var firstByteCount: Int { first.byteCount }
  /// Bytes up to the end of b's last row; 0 where there is no b.
  public var secondByteCount: Int { second?.byteCount ?? 0 }
  /// Bytes up to the end of y's last row.
  public var outputByteCount: Int { destination.byteCount }
}
