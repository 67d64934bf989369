internal import ShaderLibrary

/// How a softmax runs on a device.
public struct SoftmaxPlan: Sendable, Hashable {
  /// The softmax.
  public let request: SoftmaxRequest
  /// Whether all rows are read and written by vectors.
  let isAligned: Bool
  let workgroup: CompanionWorkgroup
  let groups: WorkgroupCount

  static let shaderName = "companion_softmax"

  /// Plans a softmax for a device.
  ///
  /// - Throws: `AttentionError.device(.limitExceeded)` where the grid is too large.
  public init(_ request: SoftmaxRequest, device: DeviceCapabilities) throws(AttentionError) {
    self.request = request
    isAligned = request.source.isAligned && request.destination.isAligned
    workgroup = CompanionWorkgroup(channels: request.channels, device: device)
    groups = try CompanionWorkgroup.groups(
      rows: request.rows, shader: Self.shaderName, device: device)
  }

  func pipelineDescription() throws(AttentionError) -> PipelineDescription {
    PipelineDescription(
      shader: try .required(Self.shaderName),
      constants: [
        "local_size_x": UInt32(workgroup.size),
        "ONE_SUBGROUP": workgroup.isOneSubgroup ? 1 : 0,
        "INPUT_TYPE": request.inputType.shaderConstant,
        "OUTPUT_TYPE": request.outputType.shaderConstant,
        "ALIGNED": isAligned ? 1 : 0,
      ])
  }
}
