internal import ShaderLibrary

/// How a choice of tokens runs on a device.
public struct SamplingPlan: Sendable, Hashable {
  /// The choice.
  public let request: SamplingRequest
  let workgroup: CompanionWorkgroup
  let groups: WorkgroupCount

  static let shaderName = "companion_sample"

  /// Plans a choice for a device.
  ///
  /// - Throws: `AttentionError.device(.limitExceeded)` where the grid is too large.
  public init(_ request: SamplingRequest, device: DeviceCapabilities) throws(AttentionError) {
    self.request = request
    workgroup = CompanionWorkgroup(channels: request.vocabulary, device: device)
    groups = try CompanionWorkgroup.groups(
      rows: request.rows, shader: Self.shaderName, device: device)
  }

  /// Temperature, K where it cuts, and P where it cuts; nil for greedy.
  var draw: (temperature: Float, topTokens: Int?, topMass: Float?)? {
    guard case .draw(let temperature, let topTokens, let topMass) = request.method else {
      return nil
    }
    return (
      temperature, topTokens.flatMap { $0 < request.vocabulary ? $0 : nil },
      topMass < 1 ? topMass : nil
    )
  }

  func pipelineDescription() throws(AttentionError) -> PipelineDescription {
    PipelineDescription(
      shader: try .required(Self.shaderName),
      constants: [
        "local_size_x": UInt32(workgroup.size),
        "ONE_SUBGROUP": workgroup.isOneSubgroup ? 1 : 0,
        "INPUT_TYPE": request.elementType.shaderConstant,
        "DRAWS": draw == nil ? 0 : 1,
        "CUTS_COUNT": draw?.topTokens == nil ? 0 : 1,
        "CUTS_MASS": draw?.topMass == nil ? 0 : 1,
      ])
  }
}
