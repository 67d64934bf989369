internal import ShaderLibrary

/// How a rotation runs on a device.
public struct RotaryPlan: Sendable, Hashable {
  /// The rotation.
  public let request: RotaryRequest
  /// Whether both tensors are read and written by vectors.
  let isAligned: Bool
  let groups: WorkgroupCount

  static let shaderName = "rotary_rotate"
  static let workgroupSize = 64

  /// Plans a rotation for a device.
  ///
  /// - Throws: `AttentionError.tooLarge`, or `device(.limitExceeded)` where the grid is too large.
  public init(_ request: RotaryRequest, device: DeviceCapabilities) throws(AttentionError) {
    self.request = request
    isAligned = request.source.isAligned && request.destination.isAligned
    let turned = request.rotary.rotaryChannels
    let units = ceilingDivide(turned, 8) + ceilingDivide(request.channels - turned, 8)
    groups = try .forInvocations(
      [request.tokens, request.heads, units], workgroupSize: Self.workgroupSize,
      shader: Self.shaderName, device: device)
  }

  func pipelineDescription() throws(AttentionError) -> PipelineDescription {
    let shader = try ShaderBinary.required(Self.shaderName)
    return PipelineDescription(
      shader: shader,
      constants: [
        "local_size_x": UInt32(Self.workgroupSize),
        "CHANNELS": UInt32(request.channels),
        "HEADS": UInt32(request.heads),
        "SOURCE_TYPE": request.elementType.shaderConstant,
        "OUTPUT_TYPE": request.outputType.shaderConstant,
        "ALIGNED": isAligned ? 1 : 0,
        "ROTATED": UInt32(request.rotary.rotaryChannels),
        "INTERLEAVED": request.rotary.pairing == .interleaved ? 1 : 0,
      ])
  }
}
