public import CVKAttn
internal import VulkanAttention

// What a transformer has beside attention: norms, linear layers, activations, softmax, embeddings, sampling.

extension vkattn_normalize_request: SizedStructure {}
extension vkattn_matrix_product_request: SizedStructure {}
extension vkattn_elementwise_request: SizedStructure {}
extension vkattn_softmax_request: SizedStructure {}
extension vkattn_embedding_request: SizedStructure {}
extension vkattn_sampling_request: SizedStructure {}

extension NormalizationKernel: RecordedKernel {
  typealias Plan = NormalizationPlan
}
extension MatrixProductKernel: RecordedKernel {
  typealias Plan = MatrixProductPlan
}
extension ElementwiseKernel: RecordedKernel {
  typealias Plan = ElementwisePlan
}
extension SoftmaxKernel: RecordedKernel {
  typealias Plan = SoftmaxPlan
}
extension EmbeddingKernel: RecordedKernel {
  typealias Plan = EmbeddingPlan
}
extension SamplingKernel: RecordedKernel {
  typealias Plan = SamplingPlan
}

private func activation(_ number: Int32) throws(Failure) -> Activation {
  try choice(
    number, "request.activation", "VKATTN_ACTIVATION_",
    [
      VKATTN_ACTIVATION_NONE: .none, VKATTN_ACTIVATION_RELU: .relu, VKATTN_ACTIVATION_SILU: .silu,
      VKATTN_ACTIVATION_GELU_TANH: .geluTanh, VKATTN_ACTIVATION_GELU_ERF: .geluErf,
    ])
}

private func weightFormat(_ number: Int32, _ name: String) throws(Failure) -> WeightFormat {
  try choice(
    number, name, "VKATTN_WEIGHT_",
    [
      VKATTN_WEIGHT_F32: .f32, VKATTN_WEIGHT_F16: .f16, VKATTN_WEIGHT_BF16: .bf16,
      VKATTN_WEIGHT_Q8_0: .q8, VKATTN_WEIGHT_Q4_0: .q4,
    ])
}

/// `vkattn_normalize_plan_create` of vkattn.h.
@_cdecl("vkattn_normalize_plan_create")
public func normalizePlanCreate(
  _ device: OpaquePointer?, _ request: UnsafePointer<vkattn_normalize_request>?,
  _ plan: UnsafeMutablePointer<OpaquePointer?>?
) -> vkattn_status {
  createPlan(device, plan) { (capabilities) throws(Failure) in
    let given = try read(request, "request")
    let flags = given.flags
    try checkFlags(flags, "request", known: 15)
    try checkReserved(given.reserved, "request")
    let hasResidual = has(flags, VKATTN_NORMALIZE_RESIDUAL)
    try checkUnused(
      "request.residual_type", given.residual_type, unless: hasResidual,
      "without VKATTN_NORMALIZE_RESIDUAL")
    let kind: NormalizationRequest.Kind = try choice(
      given.norm, "request.norm", "VKATTN_NORM_",
      [VKATTN_NORM_RMS: .rootMeanSquare, VKATTN_NORM_LAYER: .layer])
    let inputType = try elementType(given.element_type, "request.element_type") ?? .f32
    let outputType = try elementType(given.output_type, "request.output_type")
    let weightType = try elementType(given.weight_type, "request.weight_type") ?? .f32
    let residualType = try elementType(given.residual_type, "request.residual_type") ?? .f32
    let plan = try inAttention { () throws(AttentionError) in
      try NormalizationPlan(
        NormalizationRequest(
          rows: Int(given.rows), channels: Int(given.channels), kind: kind,
          epsilon: given.epsilon, inputType: inputType, outputType: outputType,
          weightType: weightType, residualType: hasResidual ? residualType : nil,
          hasWeight: has(flags, VKATTN_NORMALIZE_WEIGHT),
          hasBias: has(flags, VKATTN_NORMALIZE_BIAS),
          returnsSum: has(flags, VKATTN_NORMALIZE_RETURNS_SUM),
          inputStride: nilIfZero(given.input_stride),
          outputStride: nilIfZero(given.output_stride)), device: capabilities)
    }
    let request = plan.request
    return Family(
      NormalizationKernel.self, "normalize", plan,
      [
        .input: request.inputByteCount, .output: request.outputByteCount,
        .residual: request.residualByteCount,
        .residualSum: request.returnsSum ? request.residualByteCount : 0,
        .weight: request.hasWeight ? request.weightByteCount : 0,
        .bias: request.hasBias ? request.weightByteCount : 0,
      ]
    ) { (tensors) throws(Failure) in
      NormalizationBuffers(
        input: try tensors.need(.input), output: try tensors.need(.output),
        residual: tensors.take(.residual), sum: tensors.take(.residualSum),
        weight: tensors.take(.weight), bias: tensors.take(.bias))
    }
  }
}

/// `vkattn_matrix_product_plan_create` of vkattn.h.
@_cdecl("vkattn_matrix_product_plan_create")
public func matrixProductPlanCreate(
  _ device: OpaquePointer?, _ request: UnsafePointer<vkattn_matrix_product_request>?,
  _ plan: UnsafeMutablePointer<OpaquePointer?>?
) -> vkattn_status {
  createPlan(device, plan) { (capabilities) throws(Failure) in
    let given = try read(request, "request")
    try checkFlags(given.flags, "request", known: 3)
    try checkReserved(given.reserved, "request")
    let hasBias = has(given.flags, VKATTN_PRODUCT_BIAS)
    try checkUnused(
      "request.bias_type", given.bias_type, unless: hasBias, "without VKATTN_PRODUCT_BIAS")
    let format = try weightFormat(given.weight_format, "request.weight_format")
    let activation = try activation(given.activation)
    let path: MatrixProductPath? = try choice(
      given.path, "request.path", "VKATTN_PRODUCT_DEFAULT, ROW, VECTOR, TILE",
      [
        VKATTN_PRODUCT_DEFAULT: nil, VKATTN_PRODUCT_ROW: .row, VKATTN_PRODUCT_VECTOR: .vector,
        VKATTN_PRODUCT_TILE: .tile,
      ])
    let inputType = try elementType(given.element_type, "request.element_type") ?? .f32
    let outputType = try elementType(given.output_type, "request.output_type")
    let biasType = try elementType(given.bias_type, "request.bias_type") ?? .f32
    let plan = try inAttention { () throws(AttentionError) in
      try MatrixProductPlan(
        MatrixProductRequest(
          rows: Int(given.rows), outputChannels: Int(given.output_channels),
          inputChannels: Int(given.input_channels), weightFormat: format, inputType: inputType,
          outputType: outputType, biasType: hasBias ? biasType : nil, activation: activation,
          hasResidual: has(given.flags, VKATTN_PRODUCT_RESIDUAL),
          inputStride: nilIfZero(given.input_stride),
          outputStride: nilIfZero(given.output_stride)), device: capabilities, path: path)
    }
    let request = plan.request
    return Family(
      MatrixProductKernel.self, "matrix product, path \(plan.path.rawValue)", plan,
      [
        .input: request.inputByteCount, .weight: request.weightByteCount,
        .bias: request.biasByteCount,
        .residual: request.hasResidual ? request.outputByteCount : 0,
        .output: request.outputByteCount,
      ]
    ) { (tensors) throws(Failure) in
      MatrixProductBuffers(
        input: try tensors.need(.input), weight: try tensors.need(.weight),
        bias: tensors.take(.bias), residual: tensors.take(.residual),
        output: try tensors.need(.output))
    }
  }
}

/// `vkattn_elementwise_plan_create` of vkattn.h.
@_cdecl("vkattn_elementwise_plan_create")
public func elementwisePlanCreate(
  _ device: OpaquePointer?, _ request: UnsafePointer<vkattn_elementwise_request>?,
  _ plan: UnsafeMutablePointer<OpaquePointer?>?
) -> vkattn_status {
  createPlan(device, plan) { (capabilities) throws(Failure) in
    let given = try read(request, "request")
    let activation = try activation(given.activation)
    let combination: ElementwiseRequest.Combination = try choice(
      given.combination, "request.combination", "VKATTN_COMBINE_",
      [
        VKATTN_COMBINE_NONE: .none, VKATTN_COMBINE_MULTIPLY: .multiply, VKATTN_COMBINE_ADD: .add,
      ])
    let inputType = try elementType(given.element_type, "request.element_type") ?? .f32
    let outputType = try elementType(given.output_type, "request.output_type")
    let plan = try inAttention { () throws(AttentionError) in
      try ElementwisePlan(
        ElementwiseRequest(
          rows: Int(given.rows), channels: Int(given.channels), activation: activation,
          combination: combination, inputType: inputType, outputType: outputType,
          firstStride: nilIfZero(given.first_stride),
          secondStride: nilIfZero(given.second_stride),
          outputStride: nilIfZero(given.output_stride)), device: capabilities)
    }
    let request = plan.request
    return Family(
      ElementwiseKernel.self, "elementwise", plan,
      [
        .input: request.firstByteCount, .secondInput: request.secondByteCount,
        .output: request.outputByteCount,
      ]
    ) { (tensors) throws(Failure) in
      ElementwiseBuffers(
        first: try tensors.need(.input), second: tensors.take(.secondInput),
        output: try tensors.need(.output))
    }
  }
}

/// `vkattn_softmax_plan_create` of vkattn.h.
@_cdecl("vkattn_softmax_plan_create")
public func softmaxPlanCreate(
  _ device: OpaquePointer?, _ request: UnsafePointer<vkattn_softmax_request>?,
  _ plan: UnsafeMutablePointer<OpaquePointer?>?
) -> vkattn_status {
  createPlan(device, plan) { (capabilities) throws(Failure) in
    let given = try read(request, "request")
    try checkFlags(given.flags, "request", known: 1)
    let isScaled = has(given.flags, VKATTN_SOFTMAX_SCALE)
    try checkUnused("request.scale", given.scale, unless: isScaled, "without VKATTN_SOFTMAX_SCALE")
    let inputType = try elementType(given.element_type, "request.element_type") ?? .f32
    let outputType = try elementType(given.output_type, "request.output_type")
    let plan = try inAttention { () throws(AttentionError) in
      try SoftmaxPlan(
        SoftmaxRequest(
          rows: Int(given.rows), channels: Int(given.channels), scale: isScaled ? given.scale : 1,
          inputType: inputType, outputType: outputType,
          inputStride: nilIfZero(given.input_stride),
          outputStride: nilIfZero(given.output_stride)), device: capabilities)
    }
    let request = plan.request
    return Family(
      SoftmaxKernel.self, "softmax", plan,
      [.input: request.inputByteCount, .output: request.outputByteCount]
    ) { (tensors) throws(Failure) in
      SoftmaxBuffers(input: try tensors.need(.input), output: try tensors.need(.output))
    }
  }
}

/// `vkattn_embedding_plan_create` of vkattn.h.
@_cdecl("vkattn_embedding_plan_create")
public func embeddingPlanCreate(
  _ device: OpaquePointer?, _ request: UnsafePointer<vkattn_embedding_request>?,
  _ plan: UnsafeMutablePointer<OpaquePointer?>?
) -> vkattn_status {
  createPlan(device, plan) { (capabilities) throws(Failure) in
    let given = try read(request, "request")
    try checkFlags(given.flags, "request", known: 1)
    let isScaled = has(given.flags, VKATTN_EMBEDDING_SCALE)
    try checkUnused(
      "request.scale", given.scale, unless: isScaled, "without VKATTN_EMBEDDING_SCALE")
    let places = [given.entries.0, given.entries.1, given.entries.2]
    guard (0...Int64(places.count)).contains(given.table_count) else {
      throw Failure("request.table_count", given.table_count, allowed: "0 to \(places.count)")
    }
    let tableCount = nilIfZero(given.table_count) ?? 1
    for place in places.indices.dropFirst(tableCount) {
      try checkUnused(
        "request.entries[\(place)]", places[place], unless: false, "behind the last table")
    }
    let format = try weightFormat(given.format, "request.format")
    let outputType = try elementType(given.output_type, "request.output_type") ?? .f32
    let plan = try inAttention { () throws(AttentionError) in
      try EmbeddingPlan(
        EmbeddingRequest(
          rows: Int(given.rows), channels: Int(given.channels),
          entries: places.prefix(tableCount).map { Int($0) }, format: format,
          outputType: outputType, scale: isScaled ? given.scale : 1,
          outputStride: nilIfZero(given.output_stride)), device: capabilities)
    }
    let request = plan.request
    let tables = request.entries.indices
    return Family(
      EmbeddingKernel.self, "embedding", plan,
      [
        .table: tables.map { request.tableByteCount($0) }.max() ?? 0, .tokens: request.rows * 4,
        .output: request.outputByteCount,
      ]
    ) { (tensors) throws(Failure) in
      var bound: [EmbeddingBuffers.Table] = []
      for index in tables {
        bound.append(
          EmbeddingBuffers.Table(
            entries: try tensors.need(.table, index: index),
            numbers: try tensors.need(.tokens, index: index)))
      }
      return EmbeddingBuffers(tables: bound, output: try tensors.need(.output))
    }
  }
}

/// `vkattn_sampling_plan_create` of vkattn.h.
@_cdecl("vkattn_sampling_plan_create")
public func samplingPlanCreate(
  _ device: OpaquePointer?, _ request: UnsafePointer<vkattn_sampling_request>?,
  _ plan: UnsafeMutablePointer<OpaquePointer?>?
) -> vkattn_status {
  createPlan(device, plan) { (capabilities) throws(Failure) in
    let given = try read(request, "request")
    let draws = Int(given.method) == VKATTN_SAMPLING_DRAW
    for (name, value) in [("temperature", given.temperature), ("top_mass", given.top_mass)] {
      try checkUnused("request.\(name)", value, unless: draws, "without VKATTN_SAMPLING_DRAW")
    }
    try checkUnused(
      "request.top_tokens", given.top_tokens, unless: draws, "without VKATTN_SAMPLING_DRAW")
    let method: SamplingRequest.Method = try choice(
      given.method, "request.method", "VKATTN_SAMPLING_",
      [
        VKATTN_SAMPLING_GREEDY: .greedy,
        VKATTN_SAMPLING_DRAW: .draw(
          temperature: given.temperature == 0 ? 1 : given.temperature,
          topTokens: nilIfZero(given.top_tokens),
          topMass: given.top_mass == 0 ? 1 : given.top_mass),
      ])
    let elementType = try elementType(given.element_type, "request.element_type") ?? .f32
    let plan = try inAttention { () throws(AttentionError) in
      try SamplingPlan(
        SamplingRequest(
          rows: Int(given.rows), vocabulary: Int(given.vocabulary), method: method,
          elementType: elementType, stride: nilIfZero(given.stride)), device: capabilities)
    }
    let request = plan.request
    return Family(
      SamplingKernel.self, "sampling", plan,
      [
        .input: request.inputByteCount, .tokens: request.outputByteCount,
        .uniforms: request.takesUniforms ? request.outputByteCount : 0,
      ]
    ) { (tensors) throws(Failure) in
      SamplingBuffers(
        logits: try tensors.need(.input), uniforms: tensors.take(.uniforms),
        tokens: try tensors.need(.tokens))
    }
  }
}
