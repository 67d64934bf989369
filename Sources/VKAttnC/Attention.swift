public import CVKAttn
internal import VulkanAttention

/// The attention of a C request, and the path that it asks for.
func attentionRequest(
  _ pointer: UnsafePointer<vkattn_attention_request>?, _ name: String
) throws(Failure) -> (request: AttentionRequest, path: AttentionPath?) {
  let given = try read(pointer, name)
  try checkFlags(given.flags, name, known: 127)
  try checkReserved(given.reserved, name)
  let flags = given.flags
  let isPacked = has(flags, VKATTN_ATTENTION_PACKED)
  guard isPacked || given.packed_query_tokens == 0 && given.packed_key_tokens == 0 else {
    throw Failure(
      "\(name).packed_query_tokens, packed_key_tokens",
      "\(given.packed_query_tokens), \(given.packed_key_tokens)",
      allowed: "0 without VKATTN_ATTENTION_PACKED")
  }
  guard has(flags, VKATTN_ATTENTION_SCALE) || given.scale == 0 else {
    throw Failure("\(name).scale", given.scale, allowed: "0 without VKATTN_ATTENTION_SCALE")
  }
  let elementType = try elementType(given.element_type, "\(name).element_type") ?? .f32
  let keyType = try VKAttnC.elementType(given.key_type, "\(name).key_type")
  let valueType = try VKAttnC.elementType(given.value_type, "\(name).value_type")
  let outputType = try VKAttnC.elementType(given.output_type, "\(name).output_type")
  let mask = try mask(given.mask) ?? .none
  let scores = try scores(given.scores)
  let operands = try attentionOperands(given.operands, given.operand_count)
  let path = try path(given.path, "\(name).path")
  let request = try inAttention { () throws(AttentionError) in
    try AttentionRequest(
      batchSize: Int(given.batch_size), queryTokens: Int(given.query_tokens),
      keyTokens: Int(given.key_tokens), queryHeads: Int(given.query_heads),
      keyHeads: nilIfZero(given.key_heads), headSize: Int(given.head_size),
      valueHeadSize: nilIfZero(given.value_head_size), elementType: elementType, keyType: keyType,
      valueType: valueType, outputType: outputType,
      scale: has(flags, VKATTN_ATTENTION_SCALE) ? given.scale : nil, mask: mask, scores: scores,
      operands: operands,
      packedSequences: isPacked
        ? PackedSequences(
          queryTokens: Int(given.packed_query_tokens), keyTokens: Int(given.packed_key_tokens))
        : nil, returnsLogSumExp: has(flags, VKATTN_ATTENTION_RETURNS_LOG_SUM_EXP),
      resumes: has(flags, VKATTN_ATTENTION_RESUMES),
      returnsState: has(flags, VKATTN_ATTENTION_RETURNS_STATE),
      valuesAreKeys: has(flags, VKATTN_ATTENTION_VALUES_ARE_KEYS),
      hasKeySources: has(flags, VKATTN_ATTENTION_KEY_SOURCES),
      queryStrides: strides(given.query_strides), keyStrides: strides(given.key_strides),
      valueStrides: strides(given.value_strides), outputStrides: strides(given.output_strides))
  }
  return (request, path)
}

/// What is done to scores; plain softmax for NULL.
func scores(_ pointer: UnsafePointer<vkattn_scores>?) throws(Failure) -> AttentionScores {
  var scores = AttentionScores()
  guard let given = try readIfGiven(pointer, "scores") else { return scores }
  try checkFlags(given.flags, "scores", known: 1)
  scores.softcap = given.softcap
  switch Int(given.normalizer) {
  case VKATTN_SOFTMAX: scores.normalizer = .softmax
  case VKATTN_SOFTMAX_OFF_BY_ONE: scores.normalizer = .softmaxOffByOne
  case VKATTN_RELU_MEAN: scores.normalizer = .reluMean
  case VKATTN_RELU_SUM: scores.normalizer = .reluSum
  case VKATTN_SIGMOID: scores.normalizer = .sigmoid(bias: given.sigmoid_bias)
  default:
    throw Failure(
      "scores.normalizer", given.normalizer, allowed: "VKATTN_SOFTMAX to VKATTN_SIGMOID")
  }
  scores.relativeLeft = Int(given.relative_left)
  scores.relativeRight = Int(given.relative_right)
  scores.gridHeight = Int(given.grid_height)
  scores.gridWidth = Int(given.grid_width)
  scores.treeTokens = Int(given.tree_tokens)
  scores.seesOtherSegments = has(given.flags, VKATTN_SCORES_OTHER_SEGMENTS)
  return scores
}

/// No request has more operands than there are kinds.
let mostOperands = 64

/// The operands of an attention or a decode step.
func attentionOperands(
  _ pointer: UnsafePointer<vkattn_operand>?, _ count: Int
) throws(Failure) -> [AttentionOperand] {
  var operands: [AttentionOperand] = []
  for (index, given) in try elements(pointer, count, "operands", atMost: mostOperands).enumerated()
  {
    let name = "operands[\(index)]"
    let tensor = try TensorName(number: given.tensor, name)
    guard let kind = tensor.attentionOperand else {
      throw Failure("\(name).tensor", tensor, allowed: "operands of attention")
    }
    try checkReserved(given.reserved, name)
    guard given.strides == nil else {
      throw Failure(
        "\(name).strides", "given", allowed: "NULL: operands of attention are contiguous")
    }
    guard given.shared_axes <= 7 else {
      throw Failure("\(name).shared_axes", given.shared_axes, allowed: "combinations of 7")
    }
    operands.append(
      AttentionOperand(
        kind, try elementType(given.element_type, "\(name).element_type") ?? .f32,
        shared: AttentionOperand.Axes(rawValue: UInt8(given.shared_axes))))
  }
  return operands
}

struct AttentionFamilyPlan: FamilyPlan {
  let plan: AttentionPlan

  var scratchByteCount: Int { plan.scratchByteCount }
  var pieceCount: Int { plan.pieces.count }
  var path: AttentionPath? { plan.path }

  var lines: [String] {
    let tile = plan.tile
    return [
      "family: attention", "path: \(plan.path.rawValue)", "shader: \(tile.shaderName)",
      "tile: \(tile.queryRows) query rows, workgroups of \(tile.workgroupSize), "
        + "\(tile.sharedBytes) bytes shared",
      "pieces: \(plan.pieces.count)", "scratch: \(plan.scratchByteCount) bytes",
    ] + plan.explanation
  }

  func byteCount(of tensor: TensorName) -> Int? {
    let request = plan.request
    switch tensor {
    case .scratch: return plan.scratchByteCount
    case .value where request.valuesAreKeys: return nil
    case .value: return request.byteCount(of: .value)
    case .output: return request.byteCount(of: .output)
    default: return request.inputByteCount(of: tensor)
    }
  }

  func makeKernel(on device: ComputeDevice) throws(AttentionError) -> any FamilyKernel {
    AttentionFamilyKernel(kernel: try AttentionKernel(plan, on: device))
  }
}

extension AttentionRequest {
  /// What an attention and its statistics have alike.
  fileprivate func inputByteCount(of tensor: TensorName) -> Int? {
    switch tensor {
    case .query: byteCount(of: .query)
    case .key: byteCount(of: .key)
    case .logSumExp: returnsLogSumExp ? logSumExpByteCount : nil
    default:
      tensor.attentionOperand.flatMap { operand($0) == nil ? nil : byteCount(of: $0) }
    }
  }
}

struct AttentionFamilyKernel: FamilyKernel {
  let kernel: AttentionKernel

  func buffers(_ bindings: inout Bindings) throws(Failure) -> AttentionBuffers {
    try attentionBuffers(&bindings, of: kernel.request, output: bindings.need(.output))
  }

  func record(_ buffers: AttentionBuffers, into recorder: Recorder) throws(AttentionError) {
    try kernel.record(buffers, into: recorder)
  }

  var runner: Runner<AttentionBuffers>? {
    { [kernel] (buffers, progress) async throws(AttentionError) in
      try await kernel.run(buffers, progress: progress)
    }
  }
}

/// The buffers of an attention.
///
/// - Parameters:
///   - output: the output; statistics, which have none, put any buffer there.
///   - readsValues: whether values are among the bindings.
func attentionBuffers(
  _ bindings: inout Bindings, of request: AttentionRequest, output: DeviceBuffer,
  readsValues: Bool = true
) throws(Failure) -> AttentionBuffers {
  var sources: [AttentionKeySource] = []
  let key: DeviceBuffer
  let value: DeviceBuffer
  if request.hasKeySources {
    for head in 0..<request.keyHeads {
      let key = try bindings.need(.key, index: head)
      sources.append(
        AttentionKeySource(
          key: key,
          value: request.valuesAreKeys || !readsValues
            ? key : try bindings.need(.value, index: head)))
    }
    // Without meaning where there are sources.
    (key, value) = (sources[0].key, sources[0].value)
  } else {
    key = try bindings.need(.key)
    value = request.valuesAreKeys || !readsValues ? key : try bindings.need(.value)
  }
  return AttentionBuffers(
    query: try bindings.need(.query), key: key, value: value, output: output,
    logSumExp: bindings.take(.logSumExp), operands: bindings.takeAttentionOperands(),
    keySources: sources, scratch: bindings.take(.scratch))
}

// MARK: - Statistics

struct StatisticsFamilyPlan: FamilyPlan {
  let plan: AttentionStatisticsPlan

  var scratchByteCount: Int { plan.scratchByteCount }

  var lines: [String] {
    [
      "family: statistics", "statistics: \(plan.request.statistics)",
      "scratch: \(plan.scratchByteCount) bytes",
    ]
  }

  private static let states: Set<TensorName> = [
    .initialMax, .initialSum, .initialOutput, .finalMax, .finalSum, .finalOutput,
  ]

  func byteCount(of tensor: TensorName) -> Int? {
    if Self.states.contains(tensor) { return nil }
    for statistic in plan.request.statistics {
      switch (statistic, tensor) {
      case (.keySums, .keySums), (.entropy, .entropy), (.probabilities, .probabilities),
        (.topKeys, .topKeyIndices), (.topKeys, .topKeyProbabilities):
        return plan.request.byteCount(of: statistic)
      case (.probabilities, .queryRows): return plan.request.queryRowsByteCount
      default: continue
      }
    }
    switch tensor {
    case .scratch: return plan.scratchByteCount
    case .logSumExp: return plan.request.attention.logSumExpByteCount
    default: return plan.request.attention.inputByteCount(of: tensor)
    }
  }

  func makeKernel(on device: ComputeDevice) throws(AttentionError) -> any FamilyKernel {
    StatisticsFamilyKernel(kernel: try AttentionStatisticsKernel(plan, on: device))
  }
}

struct StatisticsFamilyKernel: FamilyKernel {
  let kernel: AttentionStatisticsKernel

  func buffers(_ bindings: inout Bindings) throws(Failure) -> AttentionStatisticsBuffers {
    let query = try bindings.need(.query)
    bindings.add(.query, query)
    var buffers = AttentionStatisticsBuffers(
      try attentionBuffers(
        &bindings, of: kernel.request.attention, output: query, readsValues: false))
    buffers.keySums = bindings.take(.keySums)
    buffers.entropy = bindings.take(.entropy)
    buffers.queryRows = bindings.take(.queryRows)
    buffers.probabilities = bindings.take(.probabilities)
    buffers.topKeyIndices = bindings.take(.topKeyIndices)
    buffers.topKeyProbabilities = bindings.take(.topKeyProbabilities)
    return buffers
  }

  func record(
    _ buffers: AttentionStatisticsBuffers, into recorder: Recorder
  ) throws(AttentionError) {
    try kernel.record(buffers, into: recorder)
  }

  var runner: Runner<AttentionStatisticsBuffers>? {
    { [kernel] (buffers, progress) async throws(AttentionError) in
      try await kernel.run(buffers, progress: progress)
    }
  }
}

// MARK: - Functions

/// `vkattn_attention_plan_create` of vkattn.h.
@_cdecl("vkattn_attention_plan_create")
public func attentionPlanCreate(
  _ device: OpaquePointer?, _ request: UnsafePointer<vkattn_attention_request>?,
  _ plan: UnsafeMutablePointer<OpaquePointer?>?
) -> vkattn_status {
  createPlan(device, plan) { (capabilities) throws(Failure) in
    let (request, path) = try attentionRequest(request, "request")
    return AttentionFamilyPlan(
      plan: try inAttention { () throws(AttentionError) in
        try AttentionPlan(request, device: capabilities, path: path)
      })
  }
}

/// `vkattn_statistics_plan_create` of vkattn.h.
@_cdecl("vkattn_statistics_plan_create")
public func statisticsPlanCreate(
  _ device: OpaquePointer?, _ request: UnsafePointer<vkattn_statistics_request>?,
  _ plan: UnsafeMutablePointer<OpaquePointer?>?
) -> vkattn_status {
  createPlan(device, plan) { (capabilities) throws(Failure) in
    let given = try read(request, "request")
    try checkReserved(given.reserved, "request")
    guard given.statistics & ~15 == 0 else {
      throw Failure("request.statistics", given.statistics, allowed: "combinations of 15")
    }
    let attention = try attentionRequest(given.attention, "request.attention").request
    var statistics: [AttentionStatistic] = []
    for (name, flag, number, statistic) in [
      (
        "key_sums_last_rows", VKATTN_STATISTIC_KEY_SUMS, given.key_sums_last_rows,
        AttentionStatistic.keySums(lastRows: nilIfZero(given.key_sums_last_rows))
      ), ("", VKATTN_STATISTIC_ENTROPY, 0, .entropy),
      (
        "probability_rows", VKATTN_STATISTIC_PROBABILITIES, given.probability_rows,
        .probabilities(rowCount: Int(given.probability_rows))
      ), ("top_keys", VKATTN_STATISTIC_TOP_KEYS, given.top_keys, .topKeys(Int(given.top_keys))),
    ] {
      if has(given.statistics, flag) {
        statistics.append(statistic)
      } else if number != 0 {
        throw Failure("request.\(name)", number, allowed: "0 without its flag")
      }
    }
    return StatisticsFamilyPlan(
      plan: try inAttention { () throws(AttentionError) in
        try AttentionStatisticsPlan(
          AttentionStatisticsRequest(attention, statistics: statistics), device: capabilities)
      })
  }
}

/// `vkattn_relative_bias_table` of vkattn.h.
@_cdecl("vkattn_relative_bias_table")
public func relativeBiasTable(
  _ bucketCount: Int64, _ maxDistance: Int64, _ isBidirectional: Int32,
  _ weights: UnsafePointer<Float>?, _ heads: Int64, _ table: UnsafeMutablePointer<Float>?,
  _ tableCount: Int
) -> vkattn_status {
  call { () throws(Failure) in
    let buckets = try inAttention { () throws(AttentionError) in
      try RelativeBuckets(
        count: Int(bucketCount), maxDistance: Int(maxDistance),
        isBidirectional: isBidirectional != 0)
    }
    // Not more heads than any attention has that can be addressed.
    guard (1...(1 << 24)).contains(heads) else {
      throw Failure("heads", heads, allowed: "1 to \(1 << 24)")
    }
    let extent = buckets.maxDistance * (buckets.isBidirectional ? 2 : 1) + 1
    guard tableCount == Int(heads) * extent else {
      throw Failure(
        "table_count", UInt(bitPattern: tableCount), allowed: "\(Int(heads) * extent)")
    }
    let weights = UnsafeBufferPointer(
      start: try required(weights, "weights"), count: buckets.count * Int(heads))
    let table = try required(table, "table")
    let numbers = try inAttention { () throws(AttentionError) in
      try buckets.table(weights: Array(weights), heads: Int(heads))
    }
    table.update(from: numbers, count: numbers.count)
  }
}
