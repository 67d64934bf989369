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
    let shader = try ShaderBinary.required(shaderName)
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

  /// Appends what fills `term`.
  static func record(
    _ request: AttentionRequest, _ pipeline: ComputePipeline, query: DeviceBuffer,
    operands: [AttentionOperand.Kind: DeviceBuffer], term: DeviceBuffer, groupLimits: [Int],
    into recorder: Recorder
  ) throws(VulkanError) {
    guard let keys = operands[.relativeKeys] else { return }
    let bias = operands[.relativeQueryBias]
    let isPacked = request.packedSequences != nil
    let tokens = request.packedSequences?.queryTokens ?? request.queryTokens
    let batches = isPacked ? 1 : request.batchSize
    let extent = request.scores.relativeExtent
    let groups = ceilingDivide(tokens, workgroupSize) * ceilingDivide(extent, distancesPerGroup)
    func word(_ stride: Int) -> UInt32 { UInt32(clamping: stride) }
    for batches in PieceCutter.portions(of: batches, atMost: groupLimits[2]) {
      for heads in PieceCutter.portions(of: request.queryHeads, atMost: groupLimits[1]) {
        for groups in PieceCutter.portions(of: groups, atMost: groupLimits[0]) {
          try recorder.dispatch(
            pipeline,
            pushConstants: AttentionRelativePushConstants(
              q: query.address, queryBias: bias?.address ?? 0, relativeKeys: keys.address,
              term: term.address, qBatchStride: isPacked ? 0 : word(request.queryStrides.batch),
              qTokenStride: word(request.queryStrides.token),
              qHeadStride: word(request.queryStrides.head), tokens: UInt32(tokens),
              heads: UInt32(request.queryHeads), extent: UInt32(extent),
              firstGroup: UInt32(groups.lowerBound), firstHead: UInt32(heads.lowerBound),
              firstBatch: UInt32(batches.lowerBound)),
            groups: WorkgroupCount(x: groups.count, y: heads.count, z: batches.count),
            accesses: [.read(query), .read(keys), .write(term)] + (bias.map { [.read($0)] } ?? []))
        }
      }
    }
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
