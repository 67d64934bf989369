internal import ShaderLibrary

/// How a gathering of embeddings runs on a device.
public struct EmbeddingPlan: Sendable, Hashable {
  /// The gathering.
  public let request: EmbeddingRequest
  /// Whether tables are read and rows written by vectors.
  let isAligned: Bool
  let groups: WorkgroupCount

  static let shaderName = "companion_embed"
  static let workgroupSize = 64

  /// Plans a gathering for a device.
  ///
  /// - Throws: `AttentionError.tooLarge`, or `device(.limitExceeded)` where the grid is too large.
  public init(_ request: EmbeddingRequest, device: DeviceCapabilities) throws(AttentionError) {
    self.request = request
    isAligned = request.destination.isAligned
    groups = try .forInvocations(
      [request.rows, ceilingDivide(request.channels, 4)], workgroupSize: Self.workgroupSize,
      shader: Self.shaderName, device: device)
  }

  /// What tables must be aligned to.
  var tableAlignment: Int {
    isAligned && request.format.blockSize == 1
      ? BoundBuffers.vectorAlignment : request.format.alignment
  }

  func pipelineDescription() throws(AttentionError) -> PipelineDescription {
    PipelineDescription(
      shader: try .required(Self.shaderName),
      constants: [
        "local_size_x": UInt32(Self.workgroupSize),
        "WEIGHT_FORMAT": request.format.shaderConstant,
        "OUTPUT_TYPE": request.outputType.shaderConstant,
        "ALIGNED": isAligned ? 1 : 0,
        "TABLES": UInt32(request.entries.count),
      ])
  }
}
