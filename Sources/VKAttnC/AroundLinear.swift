public import CVKAttn
internal import VulkanAttention

// What stands before and behind linear attentions: feature maps, output norms, short convolutions, xPos.

extension vkattn_feature_map_request: SizedStructure {}
extension vkattn_output_norm_request: SizedStructure {}
extension vkattn_short_convolution_request: SizedStructure {}
extension vkattn_xpos: SizedStructure {}
extension vkattn_xpos_request: SizedStructure {}

extension FeatureMapKernel: RecordedKernel {
  typealias Plan = FeatureMapPlan
}
extension OutputNormKernel: RecordedKernel {
  typealias Plan = OutputNormPlan
}
extension ShortConvolutionKernel: RecordedKernel {
  typealias Plan = ShortConvolutionPlan
}
extension XPosKernel: RecordedKernel {
  typealias Plan = XPosPlan
}

/// A feature map with what it takes; fields of other maps are refused.
private func featureMap(
  _ given: vkattn_feature_map_request
) throws(Failure) -> AttentionFeatureMap {
  let map = Int(given.map)
  try checkUnused(
    "request.epsilon", given.epsilon,
    unless: map == VKATTN_MAP_L2_NORM || map == VKATTN_MAP_FAVOR_PLUS,
    "without VKATTN_MAP_L2_NORM and VKATTN_MAP_FAVOR_PLUS")
  try checkUnused(
    "request.features", given.features, unless: map == VKATTN_MAP_FAVOR_PLUS,
    "without VKATTN_MAP_FAVOR_PLUS")
  try checkUnused(
    "request.stabilizer", given.stabilizer, unless: map == VKATTN_MAP_FAVOR_PLUS,
    "without VKATTN_MAP_FAVOR_PLUS")
  try checkUnused(
    "request.max_position", given.max_position, unless: map == VKATTN_MAP_COS_FORMER,
    "without VKATTN_MAP_COS_FORMER")
  let stabilizer: AttentionFeatureMap.FavorStabilizer = try choice(
    given.stabilizer, "request.stabilizer", "VKATTN_FAVOR_",
    [
      VKATTN_FAVOR_NOT_STABILIZED: .none, VKATTN_FAVOR_BY_TOKEN: .token,
      VKATTN_FAVOR_BY_SEQUENCE: .sequence,
    ])
  return try choice(
    given.map, "request.map", "VKATTN_MAP_",
    [
      VKATTN_MAP_IDENTITY: .identity, VKATTN_MAP_RELU: .relu,
      VKATTN_MAP_SQUARED_RELU: .squaredReLU, VKATTN_MAP_ELU_PLUS_ONE: .eluPlusOne,
      VKATTN_MAP_EXPONENTIAL: .exponential, VKATTN_MAP_SOFTMAX: .softmax,
      VKATTN_MAP_TOKEN_SOFTMAX: .tokenSoftmax,
      VKATTN_MAP_L2_NORM: .l2Norm(epsilon: given.epsilon),
      VKATTN_MAP_TAYLOR_2: .taylor2(.full), VKATTN_MAP_TAYLOR_2_SYMMETRIC: .taylor2(.symmetric),
      VKATTN_MAP_FAVOR_PLUS: .favorPlus(
        features: Int(given.features), epsilon: given.epsilon, stabilizer: stabilizer),
      VKATTN_MAP_COS_FORMER: .cosFormer(maximum: Int(given.max_position)),
    ])
}

/// `vkattn_feature_map_plan_create` of vkattn.h.
@_cdecl("vkattn_feature_map_plan_create")
public func featureMapPlanCreate(
  _ device: OpaquePointer?, _ request: UnsafePointer<vkattn_feature_map_request>?,
  _ plan: UnsafeMutablePointer<OpaquePointer?>?
) -> vkattn_status {
  createPlan(device, plan) { (capabilities) throws(Failure) in
    let given = try read(request, "request")
    let flags = given.flags
    try checkFlags(flags, "request", known: 7)
    try checkReserved(given.reserved, "request")
    let isScaled = has(flags, VKATTN_FEATURE_MAP_SCALE)
    let isPacked = has(flags, VKATTN_FEATURE_MAP_PACKED)
    try checkUnused(
      "request.scale", given.scale, unless: isScaled, "without VKATTN_FEATURE_MAP_SCALE")
    try checkUnused(
      "request.packed_sequences", given.packed_sequences, unless: isPacked,
      "without VKATTN_FEATURE_MAP_PACKED")
    let map = try featureMap(given)
    let elementType = try elementType(given.element_type, "request.element_type") ?? .f32
    let outputType = try VKAttnC.elementType(given.output_type, "request.output_type")
    let plan = try inAttention { () throws(AttentionError) in
      try FeatureMapPlan(
        FeatureMapRequest(
          batchSize: Int(given.batch_size), tokens: Int(given.tokens), heads: Int(given.heads),
          channels: Int(given.channels), map: map, scale: isScaled ? given.scale : nil,
          elementType: elementType, outputType: outputType,
          outputChannels: nilIfZero(given.output_channels),
          packedSequences: isPacked ? Int(given.packed_sequences) : nil,
          longestSequence: nilIfZero(given.longest_sequence),
          hasPositions: has(flags, VKATTN_FEATURE_MAP_POSITIONS),
          strides: strides(given.strides), outputStrides: strides(given.output_strides)),
        device: capabilities)
    }
    let request = plan.request
    return Family(
      FeatureMapKernel.self, "feature map", plan,
      [
        .input: request.inputByteCount, .output: request.outputByteCount,
        .projection: request.projectionByteCount,
        .sequenceStarts: request.packedSequences.map { ($0 + 1) * 4 } ?? 0,
        .positions: request.hasPositions ? request.batchSize * request.tokens * 4 : 0,
      ], scratchByteCount: plan.scratchByteCount
    ) { (tensors) throws(Failure) in
      FeatureMapBuffers(
        input: try tensors.need(.input), output: try tensors.need(.output),
        projection: tensors.take(.projection), sequenceStarts: tensors.take(.sequenceStarts),
        positions: tensors.take(.positions), scratch: tensors.take(.scratch))
    }
  }
}

/// The extent of the weights of a norm.
private func normWeights(
  _ number: Int32, _ name: String
) throws(Failure) -> OutputNormRequest.Weights {
  try choice(
    number, name, "VKATTN_NORM_NO_WEIGHTS, PER_",
    [
      VKATTN_NORM_NO_WEIGHTS: .none, VKATTN_NORM_PER_CHANNEL: .perChannel,
      VKATTN_NORM_PER_HEAD: .perHead,
    ])
}

/// `vkattn_output_norm_plan_create` of vkattn.h.
@_cdecl("vkattn_output_norm_plan_create")
public func outputNormPlanCreate(
  _ device: OpaquePointer?, _ request: UnsafePointer<vkattn_output_norm_request>?,
  _ plan: UnsafeMutablePointer<OpaquePointer?>?
) -> vkattn_status {
  createPlan(device, plan) { (capabilities) throws(Failure) in
    let given = try read(request, "request")
    try checkFlags(given.flags, "request", known: 1)
    let norm: OutputNormRequest.Norm = try choice(
      given.norm, "request.norm", "VKATTN_NORM_",
      [VKATTN_NORM_RMS: .rms, VKATTN_NORM_LAYER: .layer])
    let gate: OutputNormRequest.Gate = try choice(
      given.gate, "request.gate", "VKATTN_NORM_",
      [
        VKATTN_NORM_NOT_GATED: .none, VKATTN_NORM_SIGMOID: .sigmoid, VKATTN_NORM_SILU: .silu,
      ])
    let weight = try normWeights(given.weight, "request.weight")
    let bias = try normWeights(given.bias, "request.bias")
    let elementType = try elementType(given.element_type, "request.element_type") ?? .f32
    let outputType = try VKAttnC.elementType(given.output_type, "request.output_type")
    let gateType = try VKAttnC.elementType(given.gate_type, "request.gate_type")
    let weightType = try VKAttnC.elementType(given.weight_type, "request.weight_type") ?? .f32
    let plan = try inAttention { () throws(AttentionError) in
      try OutputNormPlan(
        OutputNormRequest(
          batchSize: Int(given.batch_size), tokens: Int(given.tokens), heads: Int(given.heads),
          channels: Int(given.channels), headsPerGroup: nilIfZero(given.heads_per_group) ?? 1,
          norm: norm, epsilon: given.epsilon, weight: weight, bias: bias, gate: gate,
          gatesBeforeNorm: has(given.flags, VKATTN_OUTPUT_NORM_GATES_BEFORE),
          elementType: elementType, outputType: outputType, gateType: gateType,
          weightType: weightType, strides: strides(given.strides),
          outputStrides: strides(given.output_strides), gateStrides: strides(given.gate_strides)),
        device: capabilities)
    }
    let request = plan.request
    return Family(
      OutputNormKernel.self, "output norm", plan,
      [
        .input: request.inputByteCount, .output: request.outputByteCount,
        .outputGate: request.gateByteCount, .weight: request.weightByteCount,
        .bias: request.biasByteCount,
      ]
    ) { (tensors) throws(Failure) in
      OutputNormBuffers(
        input: try tensors.need(.input), output: try tensors.need(.output),
        gate: tensors.take(.outputGate), weight: tensors.take(.weight), bias: tensors.take(.bias))
    }
  }
}

/// `vkattn_short_convolution_plan_create` of vkattn.h.
@_cdecl("vkattn_short_convolution_plan_create")
public func shortConvolutionPlanCreate(
  _ device: OpaquePointer?, _ request: UnsafePointer<vkattn_short_convolution_request>?,
  _ plan: UnsafeMutablePointer<OpaquePointer?>?
) -> vkattn_status {
  createPlan(device, plan) { (capabilities) throws(Failure) in
    let given = try read(request, "request")
    let flags = given.flags
    try checkFlags(flags, "request", known: 63)
    let isPacked = has(flags, VKATTN_CONVOLUTION_PACKED)
    try checkUnused(
      "request.packed_sequences", given.packed_sequences, unless: isPacked,
      "without VKATTN_CONVOLUTION_PACKED")
    let elementType = try elementType(given.element_type, "request.element_type") ?? .f32
    let outputType = try VKAttnC.elementType(given.output_type, "request.output_type")
    let weightType = try VKAttnC.elementType(given.weight_type, "request.weight_type") ?? .f32
    let plan = try inAttention { () throws(AttentionError) in
      try ShortConvolutionPlan(
        ShortConvolutionRequest(
          batchSize: Int(given.batch_size), tokens: Int(given.tokens),
          channels: Int(given.channels), width: nilIfZero(given.width) ?? 4,
          hasBias: has(flags, VKATTN_CONVOLUTION_BIAS),
          appliesSiLU: has(flags, VKATTN_CONVOLUTION_SILU),
          hasInitialState: has(flags, VKATTN_CONVOLUTION_INITIAL_STATE),
          hasFinalState: has(flags, VKATTN_CONVOLUTION_FINAL_STATE),
          hasStateSlots: has(flags, VKATTN_CONVOLUTION_STATE_SLOTS),
          stateCount: nilIfZero(given.state_count),
          packedSequences: isPacked ? Int(given.packed_sequences) : nil,
          longestSequence: nilIfZero(given.longest_sequence), elementType: elementType,
          outputType: outputType, weightType: weightType, strides: strides(given.strides),
          outputStrides: strides(given.output_strides)), device: capabilities)
    }
    let request = plan.request
    return Family(
      ShortConvolutionKernel.self, "short convolution", plan,
      [
        .input: request.inputByteCount, .output: request.outputByteCount,
        .weight: request.weightByteCount,
        .bias: request.hasBias ? request.channels * request.weightType.byteCount : 0,
        .initialState: request.hasInitialState ? request.stateByteCount : 0,
        .finalState: request.hasFinalState ? request.stateByteCount : 0,
        .stateSlots: request.hasStateSlots ? request.sequenceCount * 4 : 0,
        .sequenceStarts: request.packedSequences.map { ($0 + 1) * 4 } ?? 0,
      ]
    ) { (tensors) throws(Failure) in
      ShortConvolutionBuffers(
        input: try tensors.need(.input), weight: try tensors.need(.weight),
        output: try tensors.need(.output), bias: tensors.take(.bias),
        initialState: tensors.take(.initialState), finalState: tensors.take(.finalState),
        stateSlots: tensors.take(.stateSlots), sequenceStarts: tensors.take(.sequenceStarts))
    }
  }
}

/// An xPos encoding.
private func xPos(_ pointer: UnsafePointer<vkattn_xpos>?) throws(Failure) -> XPosEncoding {
  let given = try read(pointer, "xpos")
  try checkReserved(given.reserved, "xpos")
  let rotary = try rotary(given.rotary)
  return try inAttention { () throws(AttentionError) in
    try XPosEncoding(
      rotary, gamma: given.gamma == 0 ? 0.4 : given.gamma,
      scaleBase: given.scale_base == 0 ? 512 : given.scale_base, origin: given.origin)
  }
}

/// `vkattn_xpos_rate_table` of vkattn.h.
@_cdecl("vkattn_xpos_rate_table")
public func xPosRateTable(
  _ encoding: UnsafePointer<vkattn_xpos>?, _ isKey: Int32, _ table: UnsafeMutablePointer<Float>?,
  _ tableCount: Int
) -> vkattn_status {
  call { () throws(Failure) in
    let numbers = try xPos(encoding).rateTable(isKey: isKey != 0)
    guard tableCount == numbers.count else {
      throw Failure("table_count", UInt(bitPattern: tableCount), allowed: "\(numbers.count)")
    }
    try required(table, "table").update(from: numbers, count: numbers.count)
  }
}

/// `vkattn_xpos_plan_create` of vkattn.h.
@_cdecl("vkattn_xpos_plan_create")
public func xPosPlanCreate(
  _ device: OpaquePointer?, _ request: UnsafePointer<vkattn_xpos_request>?,
  _ plan: UnsafeMutablePointer<OpaquePointer?>?
) -> vkattn_status {
  createPlan(device, plan) { (capabilities) throws(Failure) in
    let given = try read(request, "request")
    let encoding = try xPos(given.xpos)
    let elementType = try elementType(given.element_type, "request.element_type") ?? .f32
    let outputType = try VKAttnC.elementType(given.output_type, "request.output_type")
    let plan = try inAttention { () throws(AttentionError) in
      try XPosPlan(
        XPosRequest(
          tokens: Int(given.tokens), heads: Int(given.heads), channels: Int(given.channels),
          encoding: encoding, elementType: elementType, outputType: outputType,
          strides: strides(given.strides), outputStrides: strides(given.output_strides)),
        device: capabilities)
    }
    let request = plan.request
    return Family(
      XPosKernel.self, "xpos", plan,
      [
        .input: request.inputByteCount, .output: request.outputByteCount,
        .positions: request.tokens * 4, .frequencies: encoding.rotary.tableByteCount,
        .xposRates: encoding.rotary.frequencies.count * 4,
      ]
    ) { (tensors) throws(Failure) in
      XPosBuffers(
        input: try tensors.need(.input), output: try tensors.need(.output),
        positions: try tensors.need(.positions), frequencies: try tensors.need(.frequencies),
        rates: try tensors.need(.xposRates))
    }
  }
}
