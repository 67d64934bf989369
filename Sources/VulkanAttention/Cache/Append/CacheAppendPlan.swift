internal import ShaderLibrary

/// How an append runs on a device: a dispatch for the keys, and one for the values.
public struct CacheAppendPlan: Sendable, Hashable {
  /// One dispatch.
  struct Pass: Sendable, Hashable {
    let tensor: CacheTensor
    let sourceType: ElementType
    let rotary: RotaryEncoding?
    /// Whether rows of the source are read by vectors.
    let isSourceAligned: Bool
    /// Whether rows of the cache are written by vectors, or by words.
    let areRowsAligned: Bool
    /// Channels that one invocation stores.
    let unit: Int
    let groups: WorkgroupCount
  }

  /// The append.
  public let request: CacheAppendRequest
  let key: Pass
  let value: Pass?

  static let shaderName = "cache_append"
  static let workgroupSize = 64

  /// Plans an append for a device.
  ///
  /// - Throws: `AttentionError.tooLarge`, or `device(.limitExceeded)` where the grid is too large.
  public init(
    _ request: CacheAppendRequest, device: DeviceCapabilities
  ) throws(AttentionError) {
    self.request = request
    key = try Self.pass(
      request.storage.key, request.keySource, request.keyType, request.rotary, device)
    if let tensor = request.storage.value, let source = request.valueSource {
      value = try Self.pass(tensor, source, request.valueType, nil, device)
    } else {
      value = nil
    }
  }

  private static func pass(
    _ tensor: CacheTensor, _ source: TensorView, _ type: ElementType, _ rotary: RotaryEncoding?,
    _ device: DeviceCapabilities
  ) throws(AttentionError) -> Pass {
    let unit: Int
    let areRowsAligned: Bool
    switch tensor.format {
    case .element:
      unit = 8
      areRowsAligned = tensor.isAligned
    case .q8, .q4, .q4WithMinimum:
      unit = 32
      areRowsAligned = false
    case .int8(let groupSize, _), .int4(let groupSize, _):
      unit = groupSize
      areRowsAligned = tensor.rowAlignment >= 4
    case .e4m3, .e5m2:
      unit = 8
      areRowsAligned = tensor.rowAlignment >= 4
    }
    return Pass(
      tensor: tensor, sourceType: type, rotary: rotary, isSourceAligned: source.isAligned,
      areRowsAligned: areRowsAligned, unit: unit,
      groups: try .forInvocations(
        [source.tokens, tensor.heads, ceilingDivide(tensor.channels, unit)],
        workgroupSize: workgroupSize, shader: shaderName, device: device))
  }

  /// The pipeline of one dispatch.
  func pipelineDescription(_ pass: Pass) throws(AttentionError) -> PipelineDescription {
    let shader = try ShaderBinary.required(Self.shaderName)
    return PipelineDescription(
      shader: shader,
      constants: [
        "local_size_x": UInt32(Self.workgroupSize),
        "CHANNELS": UInt32(pass.tensor.channels),
        "HEADS": UInt32(pass.tensor.heads),
        "SOURCE_TYPE": pass.sourceType.shaderConstant,
        "FORMAT": pass.tensor.format.shaderConstant,
        "SCALE_TYPE": pass.tensor.format.scaleType?.shaderConstant ?? 0,
        "UNIT": UInt32(pass.unit),
        "ARRANGEMENT": pass.tensor.arrangement.kind.shaderConstant,
        "SOURCE_ALIGNED": pass.isSourceAligned ? 1 : 0,
        "ROWS_ALIGNED": pass.areRowsAligned ? 1 : 0,
        "ROTATED": UInt32(pass.rotary?.rotaryChannels ?? 0),
        "INTERLEAVED": pass.rotary?.pairing == .interleaved ? 1 : 0,
      ])
  }
}
