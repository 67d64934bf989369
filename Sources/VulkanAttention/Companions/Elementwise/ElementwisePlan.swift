internal import ShaderLibrary

/// How an elementwise operation runs on a device.
public struct ElementwisePlan: Sendable, Hashable {
  /// The operation.
  public let request: ElementwiseRequest
  /// Whether all rows are read and written by vectors.
  let isAligned: Bool
  let groups: WorkgroupCount

  static let shaderName = "companion_elementwise"
  static let workgroupSize = 64

  /// Plans an operation for a device.
  ///
  /// - Throws: `AttentionError.tooLarge`, or `device(.limitExceeded)` where the grid is too large.
  public init(
    _ request: ElementwiseRequest, device: DeviceCapabilities
  ) throws(AttentionError) {
    self.request = request
    isAligned =
      request.first.isAligned && request.second?.isAligned ?? true && request.destination.isAligned
    groups = try .forInvocations(
      [request.rows, ceilingDivide(request.channels, 4)], workgroupSize: Self.workgroupSize,
      shader: Self.shaderName, device: device)
  }

  func pipelineDescription() throws(AttentionError) -> PipelineDescription {
    PipelineDescription(
      shader: try .required(Self.shaderName),
      constants: [
        "local_size_x": UInt32(Self.workgroupSize),
        "INPUT_TYPE": request.inputType.shaderConstant,
        "OUTPUT_TYPE": request.outputType.shaderConstant,
        "ALIGNED": isAligned ? 1 : 0,
        "ACTIVATION": request.activation.shaderConstant,
        "COMBINATION": request.combination.shaderConstant,
      ])
  }
}
