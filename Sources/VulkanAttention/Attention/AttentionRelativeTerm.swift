internal import ShaderLibrary

/// The Transformer-XL term (q + v) · r of every row and distance, computed before the attention by
/// `Shaders/Attention/attention_relative.comp`; the attention reads it by the distance of a key.
enum AttentionRelativeTerm {
  static let shaderName = "attention_relative"
  /// Rows of one workgroup.
  static let workgroupSize = 32
  /// Distances of one workgroup.
  static let distancesPerGroup = 64

  static func pipelineDescription(
    _ request: AttentionRequest
  ) throws(AttentionError) -> PipelineDescription {
    guard let shader = ShaderBinary.named(shaderName) else {
      throw .noPath(reasons: ["this build has no shader \(shaderName)"])
    }
    return PipelineDescription(
      shader: shader,
      constants: [
        "local_size_x": UInt32(workgroupSize), "HEAD_SIZE": UInt32(request.headSize),
        "QUERY_TYPE": request.elementType.shaderConstant,
        "ALIGNED": request.isAligned ? 1 : 0,
        "HAS_QUERY_BIAS": request.operand(.relativeQueryBias) == nil ? 0 : 1,
        "DISTANCES_PER_GROUP": UInt32(distancesPerGroup),
      ])
  }
}

/// The push constants of `attention_relative.comp`, field for field; a test compares the two.
struct AttentionRelativePushConstants: BitwiseCopyable {
  var q: UInt64
  var queryBias: UInt64
  var relativeKeys: UInt64
  var term: UInt64
  var qBatchStride: UInt32
  var qTokenStride: UInt32
  var qHeadStride: UInt32
  var tokens: UInt32
  var heads: UInt32
  var extent: UInt32
  var firstGroup: UInt32
  var firstHead: UInt32
  var firstBatch: UInt32
  var reserved: UInt32 = 0
}
