/// A linear layer: the product of rows with a matrix of weights.
///
///     y[m, n] = act(Σ_k x[m, k] · W[n, k] + bias[n]) + residual[m, n]
///
/// Letters: M rows, N output channels, K input channels. W is [N, K] as in `torch.nn.Linear`, in plain elements or in
/// ggml's blocks of 32, which are dequantised as they are read. Products and sums are f32.
public struct MatrixProductRequest: Sendable, Hashable {
  /// M.
  public let rows: Int
  /// N.
  public let outputChannels: Int
  /// K.
  public let inputChannels: Int
  /// How W lies in memory.
  public let weightFormat: WeightFormat
  /// The type of x.
  public let inputType: ElementType
  /// The type of y and of the residual.
  public let outputType: ElementType
  /// The type of the bias [N]; nil for none.
  public let biasType: ElementType?
  /// The function of the product.
  public let activation: Activation
  /// Whether a residual [M, N] is added.
  public let hasResidual: Bool
  let source: CompanionRows
  let destination: CompanionRows

  /// States a product; what no device could run is refused here.
  ///
  /// - Parameters:
  ///   - rows: M, from 1 to 2^24.
  ///   - outputChannels: N, from 1 to 2^24.
  ///   - inputChannels: K, from 1 to 2^24; whole blocks of the format.
  ///   - weightFormat: how W lies in memory.
  ///   - inputType: the type of x.
  ///   - outputType: the type of y and of the residual; that of x by default.
  ///   - biasType: the type of the bias; nil for none.
  ///   - activation: the function of the product.
  ///   - hasResidual: whether a residual is added.
  ///   - inputStride: elements from one row of x to the next; K by default.
  ///   - outputStride: of y and of the residual; N by default.
  /// - Throws: `AttentionError.invalidArgument`.
  public init(
    rows: Int, outputChannels: Int, inputChannels: Int, weightFormat: WeightFormat = .f32,
    inputType: ElementType = .f32, outputType: ElementType? = nil, biasType: ElementType? = nil,
    activation: Activation = .none, hasResidual: Bool = false, inputStride: Int? = nil,
    outputStride: Int? = nil
  ) throws(AttentionError) {
    try checkRange("rows", rows, 1...CompanionRows.largestExtent)
    try checkRange("outputChannels", outputChannels, 1...CompanionRows.largestExtent)
    try checkRange("inputChannels", inputChannels, 1...CompanionRows.largestExtent)
    try weightFormat.check("inputChannels", channels: inputChannels)
    self.rows = rows
    self.outputChannels = outputChannels
    self.inputChannels = inputChannels
    self.weightFormat = weightFormat
    self.inputType = inputType
    self.outputType = outputType ?? inputType
    self.biasType = biasType
    self.activation = activation
    self.hasResidual = hasResidual
    source = try CompanionRows(
      "x", rows: rows, channels: inputChannels, stride: inputStride, type: inputType)
    destination = try CompanionRows(
      "y", rows: rows, channels: outputChannels, stride: outputStride,
      type: outputType ?? inputType)
  }

  /// Elements from one row of x to the next.
  public var inputStride: Int { source.stride }
  /// Elements from one row of y to the next.
  public var outputStride: Int { destination.stride }
  /// Bytes up to the end of x's last row.
  public var inputByteCount: Int { source.byteCount }
  /// Bytes of W.
  public var weightByteCount: Int {
    outputChannels * weightFormat.byteCount(channels: inputChannels)
  }
  /// Bytes of the bias; 0 where there is none.
  public var biasByteCount: Int { outputChannels * (biasType?.byteCount ?? 0) }
  /// Bytes up to the end of the last row of y, and of the residual.
  public var outputByteCount: Int { destination.byteCount }
}
