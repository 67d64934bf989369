internal import ShaderLibrary

/// How a merge runs on a device; a pure function of the request and the device's capabilities.
public struct StateMergePlan: Sendable, Hashable {
  /// The merge.
  public let request: StateMergeRequest
  /// Channels that one invocation merges.
  let channelsPerInvocation: Int
  /// Elements that the shader moves at once.
  let access: Int
  /// Workgroups along x and y.
  let groups: WorkgroupCount

  static let shaderName = "attention_merge"
  static let workgroupSize = 64
  /// Up to so many partials the loop over them is unrolled: 17.2 instead of 15.2 GB/s with two, 12.5
  /// instead of 14.2 with eight (E = 128 f32, lavapipe of Mesa 26.1.6, AMD EPYC Zen 5).
  static let unrolledPartials = 4

  /// Plans a merge for a device.
  ///
  /// - Parameters:
  ///   - request: the merge.
  ///   - device: what the device can do.
  /// - Throws: `AttentionError.device(.limitExceeded)` where the grid is too large.
  public init(
    _ request: StateMergeRequest, device: DeviceCapabilities
  ) throws(AttentionError) {
    self.request = request
    // A software driver moves a vector lane by lane, 8 bytes at best, and more channels share the row's
    // arithmetic: 17.2 GB/s, with 8 channels 14.2, with those and 16-byte accesses 10.6 (as above, two
    // partials). On a GPU, where it was not measured, neighbours take neighbouring 16 bytes.
    channelsPerInvocation = device.kind == .cpu ? 16 : 8
    access = device.kind == .cpu ? min(4, request.channelsPerAccess) : request.channelsPerAccess
    let invocations =
      request.rowCount * request.headCount
      * ceilingDivide(request.valueHeadSize, channelsPerInvocation)
    let count = ceilingDivide(invocations, Self.workgroupSize)
    let x = min(count, device.maxWorkgroupCount[0])
    groups = WorkgroupCount(x: x, y: ceilingDivide(count, x))
    guard groups.y <= device.maxWorkgroupCount[1] else {
      throw .device(
        .limitExceeded(
          what: "workgroups of \(Self.shaderName)", requested: count,
          allowed: device.maxWorkgroupCount[0] * device.maxWorkgroupCount[1]))
    }
  }

  /// The pipeline that runs the plan.
  func pipelineDescription() throws(AttentionError) -> PipelineDescription {
    let shader = try ShaderBinary.required(Self.shaderName)
    var constants = [
      "local_size_x": UInt32(Self.workgroupSize),
      "CHANNELS": UInt32(request.valueHeadSize),
      "HEADS": UInt32(request.headCount),
      "ELEMENT_TYPE": request.elementType.shaderConstant,
      "MERGED_ELEMENT_TYPE": request.mergedElementType.shaderConstant,
      "ACCESS": UInt32(access),
      "CHANNELS_PER_INVOCATION": UInt32(channelsPerInvocation),
    ]
    switch request.partials {
    case .perRow(let count):
      if count <= Self.unrolledPartials { constants["PARTIALS"] = UInt32(count) }
    case .total: constants["VARIABLE"] = 1
    }
    return PipelineDescription(shader: shader, constants: constants)
  }
}
