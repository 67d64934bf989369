import CaseFiles
import Testing

/// The tensors and parameters beside the first few, on the small case of B = 1, S = 2, T = 3, H = 2,
/// G = 1, D = 2, E = 1.
@Suite struct AttentionCaseOptionTests {
  @Test func everyTensorIsRead() throws {
    var small = SmallCase()
    small.set("kv_lengths", .i32, [1], [3])
    small.set("left_padding", .i32, [1], [3])
    small.set("prefix_lengths", .i32, [1], [99])
    small.set("head_windows", .i32, [2, 2], [-1, 0, 1, -7])
    small.set("q_segments", .i32, [1, 2], [-5, 5])
    small.set("k_segments", .i32, [1, 3])
    small.set("mask_bits", .u8, [1, 2, 2, 1])
    small.set("tree_bits", .u8, [1, 2, 2])
    small.set("query_scales", .f32, [1, 2, 1])
    small.set("query_bias", .f32, [2, 2])
    small.set("relative_query_bias", .f32, [2, 2])
    small.set("relative_keys", .f32, [4, 2, 2])
    small.set("bias", .f16, [1, 1, 2, 3])
    small.set("key_bias", .f32, [1, 2, 3])
    small.set("relative_bias", .f32, [1, 4])
    small.set("grid_bias", .f32, [5, 2])
    small.set("alibi_slopes", .f32, [2])
    small.set("gates", .f32, [1, 1, 2])
    small.set("initial_max", .f32, [1, 2, 2])
    small.set("initial_sum", .f32, [1, 2, 2])
    small.set("initial_output", .f32, [1, 2, 2, 1])
    small.setParameters(
      #"""
      "causal": true, "causal_block": 2, "prefix_tokens": 1, "chunk": 7, "segments": "different",
      "tree_tokens": 16, "relative_left": 1, "relative_right": 2, "grid_height": 1,
      "grid_width": 3, "normalizer": "sigmoid", "sigmoid_bias": -1.5, "t5_max_distance": 9,
      "t5_bidirectional": false
      """#)
    let problem = try small.load()
    var parameters = AttentionParameters()
    parameters.causal = true
    parameters.causalBlock = 2
    parameters.prefixTokens = 1
    parameters.chunk = 7
    parameters.segmentRule = .different
    parameters.treeTokens = 16
    parameters.relativeLeft = 1
    parameters.relativeRight = 2
    parameters.gridHeight = 1
    parameters.gridWidth = 3
    parameters.normalizer = .sigmoid
    parameters.sigmoidBias = -1.5
    parameters.t5MaxDistance = 9
    parameters.t5Bidirectional = false
    #expect(problem.parameters == parameters)
    #expect(
      problem.optionsInUse == [
        .causal, .bias, .alibiSlopes, .kvLengths, .causalBlock, .prefixLengths, .headWindows,
        .chunk, .leftPadding, .segments, .maskBits, .treeBits, .queryScales, .queryBias,
        .relativeKeys, .keyBias, .relativeBias, .gridBias, .sigmoid, .gates, .initialState,
      ])
    let tensors: [(CaseTensor?, String)] = [
      (problem.kvLengths, "kv_lengths"), (problem.leftPadding, "left_padding"),
      (problem.prefixLengths, "prefix_lengths"), (problem.headWindows, "head_windows"),
      (problem.querySegments, "q_segments"), (problem.keySegments, "k_segments"),
      (problem.maskBits, "mask_bits"), (problem.treeBits, "tree_bits"),
      (problem.queryScales, "query_scales"), (problem.queryBias, "query_bias"),
      (problem.relativeQueryBias, "relative_query_bias"),
      (problem.relativeKeys, "relative_keys"), (problem.bias, "bias"),
      (problem.keyBias, "key_bias"), (problem.relativeBias, "relative_bias"),
      (problem.gridBias, "grid_bias"), (problem.alibiSlopes, "alibi_slopes"),
      (problem.gates, "gates"), (problem.initialMax, "initial_max"),
      (problem.initialSum, "initial_sum"), (problem.initialOutput, "initial_output"),
    ]
    for (tensor, name) in tensors { #expect(tensor?.name == name) }
    #expect(!problem.isPacked && problem.operation == "attention")
  }

  @Test(
    arguments: [
      (#""causal_block": 4, "prefix_tokens": 2"#, []),
      (#""causal": true, "prefix_tokens": 2"#, [.causal, .prefixTokens]),
      (#""chunk": 2, "sink_tokens": 1"#, [.sinkTokens, .chunk]),
      (#""causal_align": "top_left", "chunk": 2"#, [.causalAlign, .chunk]),
      (#""normalizer": "softmax", "sigmoid_bias": 1, "segments": "different""#, []),
      (#""score_glsl": "return score;", "mask_glsl": """#, [.scoreGLSL, .maskGLSL]),
      (#""normalizer": "softmax1""#, [.softmaxOffByOne]),
      (#""normalizer": "relu_mean""#, [.reluMean]), (#""normalizer": "relu_sum""#, [.reluSum]),
      (#""normalizer": "sigmoid""#, [.sigmoid]),
    ] as [(String, [AttentionCase.Option])])
  func optionsInUse(_ params: String, _ options: [AttentionCase.Option]) throws {
    var small = SmallCase()
    small.setParameters(params)
    #expect(try small.load().optionsInUse == options)
  }

  @Test func headWindowsReplaceTheWindow() throws {
    var small = SmallCase()
    small.set("head_windows", .i32, [2, 2])
    small.setParameters(#""window_left": 1, "window_right": 1, "sink_tokens": 1"#)
    #expect(try small.load().optionsInUse == [.sinkTokens, .headWindows])
  }

  @Test(arguments: ["k", "v"]) func typesOfTheirOwn(_ name: String) throws {
    var small = SmallCase(.bf16)
    let shape = small.tensors[name]?.shape ?? []
    small.set(name, .f16, shape)
    let problem = try small.load()
    #expect(problem.optionsInUse == [.mixedTypes] && problem.oTolerance == 8e-3)
  }

  /// A small file whose table of distances would not fit any memory.
  @Test func t5BiasOfTooManyDistances() {
    var small = SmallCase()
    small.set("q", .f32, [1, 2, 128, 2])
    small.set("expected.o", .f32, [1, 2, 128, 1])
    small.set("expected.lse", .f32, [1, 2, 128])
    small.set("t5_bias", .f32, [4, 128])
    small.setParameters(#""t5_max_distance": 1048576"#)
    expectError(
      small, "vkattn.params.t5_max_distance", .invalid("1048576 of 128 heads is too much"))
  }

  @Test func t5Bias() throws {
    var small = SmallCase()
    small.set("t5_bias", .f32, [4, 2])
    #expect(try small.load().optionsInUse == [.t5Bias])
    small.setParameters(#""t5_max_distance": 1"#)
    expectError(
      small, "vkattn.params.t5_max_distance",
      .invalid("1 is not above the 1 buckets of one distance"))
    small.set("t5_bias", .f32, [3, 2])
    expectError(
      small, "tensor t5_bias: shape", .shape(found: [3, 2], expected: "[4 or more, 2]"))
    small.setParameters(#""t5_bidirectional": false"#)
    #expect(try small.load().t5Bias?.shape == [3, 2])
    small.set("relative_bias", .f32, [1, 1])
    expectError(small, "tensor t5_bias", .invalid("cannot go with relative_bias"))
    small.tensors["relative_bias"] = nil
    small.set("relative_keys", .f32, [1, 2, 2])
    expectError(small, "tensor t5_bias", .invalid("cannot go with relative_keys"))
  }

  @Test(
    arguments: [
      ("left_padding", .i32, [2], "[1]"), ("prefix_lengths", .i32, [1, 1], "[1]"),
      ("head_windows", .i32, [2], "[2, 2]"), ("head_windows", .i32, [1, 2], "[2, 2]"),
      ("mask_bits", .u8, [1, 1, 2, 2], "[1 or 1, 1 or 2, 2, 1]"),
      ("mask_bits", .u8, [1, 1, 2, 3], "[1 or 1, 1 or 2, 2, 1]"),
      ("tree_bits", .u8, [1, 2, 1], "[1 or 1, 2, 2]"),
      ("tree_bits", .u8, [1, 3, 2], "[1 or 1, 2, 2]"),
      ("query_scales", .f32, [1, 3, 1], "[1 or 1, 1 or 2, 1 or 2]"),
      ("query_scales", .f32, [2], "[1 or 1, 1 or 2, 1 or 2]"),
      ("gates", .f32, [1, 1, 3], "[1 or 1, 1 or 2, 1 or 2]"),
      ("query_bias", .f32, [4], "[2, 2]"), ("relative_query_bias", .f32, [2, 1], "[2, 2]"),
      ("relative_keys", .f32, [2, 2, 2], "[4, 2, 2]"),
      ("key_bias", .f32, [1, 2, 2], "[1 or 1, 1 or 2, 3]"),
      ("relative_bias", .f32, [2, 3], "[1 or 2, 4]"), ("relative_bias", .f32, [4], "[1 or 2, 4]"),
      ("grid_bias", .f32, [4, 2], "[9, 2]"), ("grid_bias", .f32, [9, 1], "[9, 2]"),
    ] as [(String, ElementType, [Int], String)])
  func wrongShape(_ name: String, _ element: ElementType, _ shape: [Int], _ expected: String) {
    var small = SmallCase()
    small.setParameters(
      #"""
      "tree_tokens": 9, "relative_left": 2, "relative_right": 1, "grid_height": 2, "grid_width": 2
      """#)
    small.set(name, element, shape, [Double](repeating: 0, count: shape.reduce(1, *)))
    expectError(small, "tensor \(name): shape", .shape(found: shape, expected: expected))
  }

  @Test(
    arguments: [
      ("q_segments", .f32, [1, 2], "I32, found F32"),
      ("mask_bits", .i32, [1, 1, 2, 1], "U8, found I32"),
      ("tree_bits", .f32, [1, 2, 1], "U8, found F32"),
      ("gates", .f16, [1, 1, 1], "F32, found F16"),
      ("bias", .bf16, [1, 1, 2, 3], "F32 or F16, found BF16"),
      ("head_windows", .u8, [2, 2], "I32, found U8"),
    ] as [(String, ElementType, [Int], String)])
  func wrongType(_ name: String, _ element: ElementType, _ shape: [Int], _ expected: String) {
    var small = SmallCase()
    small.setParameters(#""tree_tokens": 1"#)
    small.set("k_segments", .i32, [1, 3])
    if name != "q_segments" { small.set("q_segments", .i32, [1, 2]) }
    small.set(name, element, shape)
    expectError(small, "tensor \(name): dtype", .expected(expected))
  }

  @Test(
    arguments: [
      ("left_padding", 4, "4 is not within 0...3"), ("left_padding", -1, "-1 is not within 0...3"),
      ("prefix_lengths", -1, "-1 is negative"),
    ] as [(String, Double, String)])
  func wrongCounts(_ name: String, _ count: Double, _ problem: String) {
    var small = SmallCase()
    small.set(name, .i32, [1], [count])
    expectError(small, "tensor \(name)", .invalid(problem))
  }

  @Test func whatBelongsTogether() {
    var small = SmallCase()
    small.set("q_segments", .i32, [1, 2])
    expectError(small, "tensor k_segments", .missing)
    small = SmallCase()
    small.set("k_segments", .i32, [1, 3])
    expectError(small, "tensor q_segments", .missing)
    small = SmallCase()
    small.set("relative_query_bias", .f32, [2, 2])
    expectError(
      small, "tensor relative_query_bias", .invalid("means nothing without relative_keys"))
    small = SmallCase()
    small.set("tree_bits", .u8, [1, 2, 1])
    expectError(
      small, "vkattn.params.tree_tokens", .invalid("must be at least 1 with tree_bits"))
    small = SmallCase()
    small.set("initial_sum", .f32, [1, 2, 2])
    small.set("initial_output", .f32, [1, 2, 2, 1])
    expectError(small, "tensor initial_max", .missing)
    small.set("initial_max", .f32, [1, 2, 2])
    small.tensors["initial_output"] = nil
    expectError(small, "tensor initial_output", .missing)
  }

  @Test func whatExcludesEachOther() {
    var small = SmallCase()
    small.set("mask", .u8, [1, 1, 2, 3])
    small.set("mask_bits", .u8, [1, 1, 2, 1])
    expectError(
      small, "tensor mask_bits", .invalid("mask says the same; one of the two is enough"))
    for name in ["softmax1", "relu_mean", "relu_sum", "sigmoid"] {
      small = SmallCase()
      small.set("sinks", .f32, [2])
      small.setParameters("\"normalizer\": \"\(name)\"")
      expectError(small, "tensor sinks", .invalid("normalizer \(name) has no sinks"))
    }
    small = SmallCase()
    small.set("initial_max", .f32, [1, 2, 2])
    small.set("initial_sum", .f32, [1, 2, 2])
    small.set("initial_output", .f32, [1, 2, 2, 1])
    small.setParameters(#""normalizer": "relu_mean""#)
    expectError(
      small, "tensor initial_max",
      .invalid("relu_mean divides by the key count, which no state holds"))
  }

  @Test func gridMustHoldTheTokens() {
    var small = SmallCase()
    small.set("grid_bias", .f32, [3, 2])
    small.setParameters(#""grid_height": 1, "grid_width": 2"#)
    expectError(
      small, "tensor grid_bias", .invalid("3 tokens do not lie in a grid of 1 x 2"))
    small.setParameters(#""grid_height": 3"#)
    expectError(small, "vkattn.params.grid_width", .invalid("must be at least 1 with grid_bias"))
    small.setParameters(#""grid_width": 3"#)
    expectError(small, "vkattn.params.grid_height", .invalid("must be at least 1 with grid_bias"))
  }
}

/// Op `attention_varlen`, on the small packed case: query tokens 2 and 1, key tokens 1 and 2.
@Suite struct PackedCaseTests {
  @Test func sizesAreThoseOfAllSequences() throws {
    let problem = try SmallCase.packed.load()
    #expect(problem.isPacked && problem.operation == "attention_varlen")
    #expect(problem.batch == 2 && problem.queryTokens == 3 && problem.keyTokens == 3)
    #expect(problem.queryHeads == 2 && problem.keyHeads == 1)
    #expect(problem.keyChannels == 2 && problem.valueChannels == 1)
    #expect(problem.cuSeqlensQ?.integers() == [0, 2, 3])
    #expect(problem.cuSeqlensK?.integers() == [0, 1, 3])
    #expect(problem.optionsInUse == [.packedSequences])
  }

  @Test func operandsArePacked() throws {
    var small = SmallCase.packed
    small.set("kv_lengths", .i32, [2], [1, 2])
    small.set("left_padding", .i32, [2], [0, 2])
    small.set("prefix_lengths", .i32, [2], [5, 0])
    small.set("q_segments", .i32, [1, 3])
    small.set("k_segments", .i32, [1, 3])
    small.set("tree_bits", .u8, [1, 3, 1])
    small.set("query_scales", .f32, [1, 3, 1])
    small.set("gates", .f32, [1, 1, 2])
    small.set("key_bias", .f32, [1, 2, 3])
    small.set("initial_max", .f32, [3, 2])
    small.set("initial_sum", .f32, [3, 2])
    small.set("initial_output", .f32, [3, 2, 1])
    small.description =
      #"{"version": 1, "op": "attention_varlen", "params": {"tree_tokens": 2, "causal": true}}"#
    #expect(
      try small.load().optionsInUse == [
        .causal, .kvLengths, .prefixLengths, .leftPadding, .segments, .treeBits, .queryScales,
        .keyBias, .gates, .initialState, .packedSequences,
      ])
  }

  @Test func alignmentsDifferInSequences() throws {
    // As many queries as keys in all, not in each.
    var small = SmallCase.packed
    small.description =
      #"""
      {"version": 1, "op": "attention_varlen", "params": {"causal": true, "causal_align": "top_left"}}
      """#
    #expect(try small.load().optionsInUse == [.causal, .causalAlign, .packedSequences])
  }

  @Test(arguments: ["bias", "mask", "mask_bits", "grid_bias"]) func notTaken(_ name: String) {
    var small = SmallCase.packed
    small.set(name, .u8, [1])
    expectError(small, "tensor \(name)", .invalid("op attention_varlen does not take it"))
  }

  @Test(
    arguments: [
      ("q", [1, 3, 2, 2], "[S, H, D] with sizes of at least 1"), ("k", [3, 1, 3], "[T, G, 2]"),
      ("v", [2, 1, 1], "[3, 1, E]"), ("cu_seqlens_q", [1], "[N + 1] for 1 or more sequences"),
      ("cu_seqlens_q", [3, 1], "[N + 1] for 1 or more sequences"), ("cu_seqlens_k", [2], "[3]"),
      ("kv_lengths", [1], "[2]"), ("q_segments", [2, 3], "[1 or 1, 3]"),
      ("expected.o", [1, 3, 2, 1], "[3, 2, 1]"), ("expected.lse", [3], "[3, 2]"),
    ] as [(String, [Int], String)])
  func wrongShape(_ name: String, _ shape: [Int], _ expected: String) {
    var small = SmallCase.packed
    if name == "q_segments" { small.set("k_segments", .i32, [1, 3]) }
    let isInteger = !["q", "k", "v", "expected.o", "expected.lse"].contains(name)
    small.set(name, isInteger ? .i32 : .f32, shape)
    expectError(small, "tensor \(name): shape", .shape(found: shape, expected: expected))
  }

  @Test(arguments: ["cu_seqlens_q", "cu_seqlens_k"]) func wrongBounds(_ name: String) {
    var small = SmallCase.packed
    small.set(name, .i32, [3], [0, 3, 2])
    expectError(small, "tensor \(name)", .invalid("falls from 3 to 2"))
    small.set(name, .i32, [3], [0, 1, 4])
    expectError(small, "tensor \(name)", .invalid("4 is not within 0...3"))
    small.set(name, .i32, [3], [-1, 1, 2])
    expectError(small, "tensor \(name)", .invalid("-1 is not within 0...3"))
    small.tensors[name] = nil
    expectError(small, "tensor \(name)", .missing)
    // Empty sequences and tokens of none are sound.
    small.set(name, .i32, [3], [1, 1, 2])
    #expect(caseError(small.bytes) == nil)
  }

  @Test func countsAreWithinTheirSequence() {
    var small = SmallCase.packed
    small.set("kv_lengths", .i32, [2], [2, 2])
    expectError(small, "tensor kv_lengths", .invalid("2 is not within 0...1"))
  }
}
