/// The tensors of one layer's decode attention in device memory.
public struct DecodeBuffers: Sendable {
  /// q [B, S, H, D].
  public var query: DeviceBuffer
  /// The keys, as ``DecodeRequest/keyCache`` says.
  public var keyCache: DeviceBuffer
  /// The scales of keys, where their format has them beside the numbers.
  public var keyScales: DeviceBuffer?
  /// The values, as ``DecodeRequest/valueCache`` says; nil where values are keys.
  public var valueCache: DeviceBuffer?
  /// The scales of values, where their format has them beside the numbers.
  public var valueScales: DeviceBuffer?
  /// o [B, S, H, E], written.
  public var output: DeviceBuffer
  /// The log-sum-exp [B, S, H] in f32, contiguous, written where the request returns it.
  public var logSumExp: DeviceBuffer?

  /// Names the tensors.
  public init(
    query: DeviceBuffer, keyCache: DeviceBuffer, keyScales: DeviceBuffer? = nil,
    valueCache: DeviceBuffer?, valueScales: DeviceBuffer? = nil, output: DeviceBuffer,
    logSumExp: DeviceBuffer? = nil
  ) {
    self.query = query
    self.keyCache = keyCache
    self.keyScales = keyScales
    self.valueCache = valueCache
    self.valueScales = valueScales
    self.output = output
    self.logSumExp = logSumExp
  }

  /// The caches and their scales.
  var caches: [DeviceBuffer] { [keyCache, keyScales, valueCache, valueScales].compactMap(\.self) }

  /// Refuses buffers that are missing, too small, misaligned or of another device, and outputs that share
  /// memory.
  func check(for plan: DecodePlan, step: DecodeStep, on device: ComputeDevice)
    throws(AttentionError)
  {
    let request = plan.request
    let attention = request.attention
    var bound = BoundBuffers(on: device)
    try bound.bind(.query, of: attention, query)
    try bound.bind(.output, of: attention, output)
    func bind(
      _ name: String, _ tensor: CacheTensor, _ numbers: DeviceBuffer?, _ scales: DeviceBuffer?
    ) throws(AttentionError) {
      guard let numbers else {
        throw .invalidArgument(
          name: name, value: "nil", allowed: "a buffer of \(tensor.byteCount) bytes")
      }
      let alignment =
        tensor.isAligned ? BoundBuffers.vectorAlignment : tensor.format.elementType?.byteCount ?? 2
      try bound.bind(name, numbers, bytes: tensor.byteCount, alignment: alignment)
      guard (scales != nil) == (tensor.scaleByteCount > 0) else {
        throw .invalidArgument(
          name: "\(name)Scales", value: scales == nil ? "nil" : "a buffer",
          allowed: tensor.scaleByteCount > 0
            ? "a buffer of \(tensor.scaleByteCount) bytes for \(tensor.format)"
            : "nil for \(tensor.format)")
      }
      if let scales {
        try bound.bind(
          "\(name)Scales", scales, bytes: tensor.scaleByteCount,
          alignment: tensor.format.scaleType?.byteCount ?? 4)
      }
    }
    try bind("keyCache", request.keyCache, keyCache, keyScales)
    if !attention.valuesAreKeys {
      try bind("valueCache", request.valueCache, valueCache, valueScales)
    } else if valueCache != nil || valueScales != nil {
      throw .invalidArgument(
        name: "valueCache", value: "a buffer", allowed: "nil where values are keys")
    }
    if attention.returnsLogSumExp {
      guard let logSumExp else { throw .missingLogSumExpBuffer }
      try bound.bind(
        "logSumExp", logSumExp, bytes: attention.logSumExpByteCount, isWritten: true)
    }
    try bound.bind("workspace", step.workspace, bytes: step.workspaceByteCount, isWritten: true)
    for (index, buffer) in step.inputs.enumerated() {
      try bound.bind("operand \(index)", buffer, bytes: buffer.byteCount, alignment: 1)
    }
    try bound.checkOverlaps()
  }
}
