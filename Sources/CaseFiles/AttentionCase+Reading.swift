extension AttentionCase {
  private static let commonInputs = [
    "q", "k", "v", "kv_lengths", "left_padding", "prefix_lengths", "head_windows", "q_segments",
    "k_segments", "tree_bits", "query_scales", "query_bias", "relative_query_bias",
    "relative_keys", "key_bias", "relative_bias", "t5_bias", "alibi_slopes", "sinks", "gates",
    "initial_max", "initial_sum", "initial_output",
  ]
  /// Inputs of op `attention` alone: their last size would be another for each sequence.
  private static let unpackedInputs = ["bias", "mask", "mask_bits", "grid_bias"]
  private static let packedInputs = ["cu_seqlens_q", "cu_seqlens_k"]
  private static let outputNames = ["o", "lse"]

  /// Checks that `file` is a sound case of op `attention`, or with `isPacked` of op
  /// `attention_varlen`. `moreParameters` are the names of those that the caller has taken out.
  init(
    _ file: SafetensorsFile, _ description: CaseDescription, isPacked: Bool,
    moreParameters: [String] = []
  ) throws(CaseFileError) {
    if isPacked {
      for tensor in file.tensors where Self.unpackedInputs.contains(tensor.name) {
        throw CaseFileError(
          file.name, "tensor \(tensor.name)", .invalid("op attention_varlen does not take it"))
      }
    }
    let tensors = try TensorTable(
      file,
      allowed: Self.commonInputs + (isPacked ? Self.packedInputs : Self.unpackedInputs)
        + Self.outputNames.map { "expected.\($0)" })
    let parameters = try AttentionParameters(
      description.parameters, file: file.name, others: moreParameters)
    let sizes = try CaseSizes(tensors, isPacked: isPacked)
    let (b, s, t, h) = (sizes.batch, sizes.queryTokens, sizes.keyTokens, sizes.queryHeads)
    let (d, e) = (sizes.keyChannels, sizes.valueChannels)
    // Packed tokens are those of all sequences: nothing repeats over a batch.
    let batch = isPacked ? 1 : b

    let floats: [ElementType] = [.f32, .f16, .bf16]
    expectedO = try tensors.optional("expected.o", floats, shape: sizes.rows + [e])
    expectedLSE = try tensors.optional("expected.lse", floats, shape: sizes.rows)
    if expectedO == nil && expectedLSE == nil {
      throw tensors.error("expected.o or expected.lse", .missing)
    }
    let tolerances = try Self.readTolerances(description, file: file.name)

    self.file = file.name
    self.source = description.source
    (self.batch, self.queryTokens, self.keyTokens) = (b, s, t)
    (self.queryHeads, self.keyHeads) = (h, sizes.keyHeads)
    (self.keyChannels, self.valueChannels) = (d, e)
    self.parameters = parameters
    (self.q, self.k, self.v) = (sizes.q, sizes.k, sizes.v)
    (cuSeqlensQ, cuSeqlensK) = (sizes.cuSeqlensQ, sizes.cuSeqlensK)

    kvLengths = try sizes.perSequence("kv_lengths", tensors, withinKeys: true)
    leftPadding = try sizes.perSequence("left_padding", tensors, withinKeys: true)
    prefixLengths = try sizes.perSequence("prefix_lengths", tensors, withinKeys: false)
    headWindows = try tensors.optional("head_windows", [.i32], shape: [h, 2])
    for (name, other) in [("q_segments", "k_segments"), ("k_segments", "q_segments")]
    where tensors.has(name) && !tensors.has(other) {
      throw tensors.error(other, .missing)
    }
    querySegments = try tensors.optional("q_segments", [.i32], .oneOr(batch), .exactly(s))
    keySegments = try tensors.optional("k_segments", [.i32], .oneOr(batch), .exactly(t))
    mask = try tensors.optional("mask", [.u8], .oneOr(batch), .oneOr(h), .exactly(s), .exactly(t))
    maskBits = try tensors.optional(
      "mask_bits", [.u8], .oneOr(batch), .oneOr(h), .exactly(s), .exactly((t + 7) / 8))
    if mask != nil && maskBits != nil {
      throw tensors.error("mask_bits", .invalid("mask says the same; one of the two is enough"))
    }
    if tensors.has("tree_bits") && parameters.treeTokens < 1 {
      throw CaseFileError(
        file.name, "vkattn.params.tree_tokens", .invalid("must be at least 1 with tree_bits"))
    }
    treeBits = try tensors.optional(
      "tree_bits", [.u8], .oneOr(batch), .exactly(s), .exactly((parameters.treeTokens + 7) / 8))

    let distances = parameters.relativeLeft + 1 + parameters.relativeRight
    queryScales = try tensors.optional(
      "query_scales", [.f32], .oneOr(batch), .oneOr(s), .oneOr(h))
    queryBias = try tensors.optional("query_bias", [.f32], shape: [h, d])
    relativeQueryBias = try tensors.optional("relative_query_bias", [.f32], shape: [h, d])
    relativeKeys = try tensors.optional("relative_keys", [.f32], shape: [distances, h, d])
    if relativeQueryBias != nil && relativeKeys == nil {
      throw tensors.error("relative_query_bias", .invalid("means nothing without relative_keys"))
    }
    bias = try tensors.optional(
      "bias", [.f32, .f16], .oneOr(batch), .oneOr(h), .exactly(s), .exactly(t))
    keyBias = try tensors.optional("key_bias", [.f32], .oneOr(batch), .oneOr(h), .exactly(t))
    relativeBias = try tensors.optional("relative_bias", [.f32], .oneOr(h), .exactly(distances))
    t5Bias = try Self.readT5Bias(tensors, parameters, heads: h, file: file.name)
    gridBias = try Self.readGridBias(
      tensors, parameters, heads: h, tokens: max(s, t), file: file.name)
    alibiSlopes = try tensors.optional("alibi_slopes", [.f32], shape: [h])

    sinks = try tensors.optional("sinks", [.f32], shape: [h])
    if sinks != nil && parameters.normalizer != .softmax {
      throw tensors.error(
        "sinks", .invalid("normalizer \(parameters.normalizer.rawValue) has no sinks"))
    }
    gates = try tensors.optional("gates", [.f32], .oneOr(batch), .oneOr(s), .oneOr(h))
    let initial = try tensors.allOrNone([
      ("initial_max", sizes.rows), ("initial_sum", sizes.rows),
      ("initial_output", sizes.rows + [e]),
    ])
    (initialMax, initialSum, initialOutput) = (initial[0], initial[1], initial[2])
    if initialMax != nil && parameters.normalizer == .reluMean {
      throw tensors.error(
        "initial_max", .invalid("relu_mean divides by the key count, which no state holds"))
    }

    oTolerance = tolerances["o"] ?? Self.defaultTolerance(sizes.q.element)
    lseTolerance = tolerances["lse"] ?? 1e-3
  }

  /// Heads times distances of a T5 bias; its table takes 8 bytes for each.
  private static let mostDistances = Double(1 << 27)

  private static func readT5Bias(
    _ tensors: TensorTable, _ parameters: AttentionParameters, heads: Int, file: String
  ) throws(CaseFileError) -> CaseTensor? {
    guard let bias = try tensors.optional("t5_bias", [.f32]) else { return nil }
    // Each direction has buckets of one distance and buckets of several.
    let directions = parameters.t5Bidirectional ? 2 : 1
    guard bias.shape.count == 2, bias.shape[0] >= 2 * directions, bias.shape[1] == heads else {
      throw tensors.shapeError(bias, "[\(2 * directions) or more, \(heads)]")
    }
    let exact = bias.shape[0] / directions / 2
    guard parameters.t5MaxDistance > exact else {
      throw CaseFileError(
        file, "vkattn.params.t5_max_distance",
        .invalid("\(parameters.t5MaxDistance) is not above the \(exact) buckets of one distance"))
    }
    for name in ["relative_bias", "relative_keys"] where tensors.has(name) {
      throw tensors.error("t5_bias", .invalid("cannot go with \(name)"))
    }
    // A number for each head and distance comes of it.
    let distances = 2 * Double(parameters.t5MaxDistance) + 1
    guard Double(heads) * distances <= Self.mostDistances else {
      throw CaseFileError(
        file, "vkattn.params.t5_max_distance",
        .invalid("\(parameters.t5MaxDistance) of \(heads) heads is too much"))
    }
    return bias
  }

  private static func readGridBias(
    _ tensors: TensorTable, _ parameters: AttentionParameters, heads: Int, tokens: Int,
    file: String
  ) throws(CaseFileError) -> CaseTensor? {
    guard tensors.has("grid_bias") else { return nil }
    let (height, width) = (parameters.gridHeight, parameters.gridWidth)
    for (name, size) in [("grid_height", height), ("grid_width", width)] where size < 1 {
      throw CaseFileError(
        file, "vkattn.params.\(name)", .invalid("must be at least 1 with grid_bias"))
    }
    guard tokens <= height * width else {
      throw tensors.error(
        "grid_bias", .invalid("\(tokens) tokens do not lie in a grid of \(height) x \(width)"))
    }
    return try tensors.optional(
      "grid_bias", [.f32], shape: [(2 * height - 1) * (2 * width - 1), heads])
  }

  static func defaultTolerance(_ element: ElementType) -> Double {
    switch element {
    case .f16: 2e-3
    case .bf16: 8e-3
    case .f32, .i32, .u8: 1e-5
    }
  }

  static func readTolerances(
    _ description: CaseDescription, file: String, outputs: [String] = outputNames
  ) throws(CaseFileError) -> [String: Double] {
    var tolerances: [String: Double] = [:]
    for member in description.tolerances {
      let reader = ParameterReader(
        file: file, field: "vkattn.tolerance.\(member.key)", value: member.value)
      guard outputs.contains(member.key) else {
        throw reader.error(.unknown(allowed: outputs))
      }
      let tolerance = try reader.number()
      if tolerance < 0 { throw reader.error(.invalid("must not be negative")) }
      tolerances[member.key] = tolerance
    }
    return tolerances
  }
}
