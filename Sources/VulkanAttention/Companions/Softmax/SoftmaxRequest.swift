/// Softmax over rows.
///
///     y[n, c] = e^(scale · x[n, c]) / Σ_c e^(scale · x[n, c])
///
/// Letters: N rows, C channels. A row of −∞ alone gives 0; NaN in a row makes all of it NaN. Arithmetic is f32.
public struct SoftmaxRequest: Sendable, Hashable {
  /// N.
  public let rows: Int
  /// C.
  public let channels: Int
  /// What x is multiplied by: the inverse of a temperature.
  public let scale: Float
  /// The type of x.
  public let inputType: ElementType
  /// The type of y.
  public let outputType: ElementType
  let source: CompanionRows
  let destination: CompanionRows

  /// States a softmax; what no device could run is refused here.
  ///
  /// - Parameters:
  ///   - rows: N, from 1 to 2^24.
  ///   - channels: C, from 1 to 2^24.
  ///   - scale: a finite number; 1 by default.
  ///   - inputType: the type of x.
  ///   - outputType: the type of y; that of x by default.
  ///   - inputStride: elements from one row of x to the next; C by default.
  ///   - outputStride: of y; C by default.
  /// - Throws: `AttentionError.invalidArgument`.
  public init(
    rows: Int, channels: Int, scale: Float = 1, inputType: ElementType = .f32,
    outputType: ElementType? = nil, inputStride: Int? = nil, outputStride: Int? = nil
  ) throws(AttentionError) {
    try checkRange("rows", rows, 1...CompanionRows.largestExtent)
    try checkRange("channels", channels, 1...CompanionRows.largestExtent)
    guard scale.isFinite else {
      throw .invalidArgument(name: "scale", value: "\(scale)", allowed: "a finite number")
    }
    self.rows = rows
    self.channels = channels
    self.scale = scale
    self.inputType = inputType
    self.outputType = outputType ?? inputType
    source = try CompanionRows(
      "x", rows: rows, channels: channels, stride: inputStride, type: inputType)
    destination = try CompanionRows(
      "y", rows: rows, channels: channels, stride: outputStride, type: outputType ?? inputType)
  }

  /// Elements from one row of x to the next.
  public var inputStride: Int { source.stride }
  /// Elements from one row of y to the next.
  public var outputStride: Int { destination.stride }
  /// Bytes up to the end of x's last row.
  public var inputByteCount: Int { source.byteCount }
  /// Bytes up to the end of y's last row.
  public var outputByteCount: Int { destination.byteCount }
}
