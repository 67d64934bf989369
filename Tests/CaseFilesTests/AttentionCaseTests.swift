import CaseFiles
import Testing

@Suite struct AttentionCaseTests {
  @Test func defaults() throws {
    let problem = try SmallCase().load()
    #expect(problem.batch == 1 && problem.queryTokens == 2 && problem.keyTokens == 3)
    #expect(problem.queryHeads == 2 && problem.keyHeads == 1)
    #expect(problem.keyChannels == 2 && problem.valueChannels == 1)
    #expect(problem.parameters == AttentionParameters())
    #expect(problem.optionsInUse == [] && problem.source == nil)
    #expect(problem.oTolerance == 1e-5 && problem.lseTolerance == 1e-3)
    #expect(problem.bias == nil && problem.mask == nil && problem.kvLengths == nil)
  }

  @Test func defaultToleranceIsByType() throws {
    #expect(try SmallCase(.f16).load().oTolerance == 2e-3)
    #expect(try SmallCase(.bf16).load().oTolerance == 8e-3)
  }

  @Test func everythingIsRead() throws {
    var small = SmallCase()
    small.set("bias", .f32, [1, 2, 2, 3])
    small.set("mask", .u8, [1, 1, 2, 3])
    small.set("sinks", .f32, [2])
    small.set("alibi_slopes", .f32, [2])
    small.set("kv_lengths", .i32, [1])
    small.description = #"""
      {"version": 1, "op": "attention", "source": "by hand",
       "params": {"scale": 2, "causal": true, "causal_align": "top_left", "window_left": 5,
                  "window_right": 0, "softcap": 1.5, "sink_tokens": 3},
       "tolerance": {"o": 0.5, "lse": 2}}
      """#
    let problem = try small.load()
    var parameters = AttentionParameters()
    parameters.scale = 2
    parameters.causal = true
    parameters.causalAlignment = .topLeft
    parameters.windowLeft = 5
    parameters.windowRight = 0
    parameters.softcap = 1.5
    parameters.sinkTokens = 3
    #expect(problem.parameters == parameters && problem.source == "by hand")
    #expect(problem.oTolerance == 0.5 && problem.lseTolerance == 2)
    #expect(
      problem.optionsInUse == [
        .causal, .causalAlign, .windowLeft, .windowRight, .softcap, .sinkTokens, .bias, .mask,
        .sinks, .alibiSlopes, .kvLengths,
      ])
    #expect(problem.bias?.doubles().count == 12 && problem.kvLengths?.integers() == [0])
  }

  @Test(
    arguments: [
      (#""window_left": -1, "window_right": -7, "softcap": 0, "sink_tokens": 4"#, []),
      (#""causal_align": "top_left""#, []),
      (#""causal_align": "top_left", "causal": true"#, [.causal, .causalAlign]),
      (#""causal_align": "bottom_right", "causal": true"#, [.causal]),
      (#""window_left": 0"#, [.windowLeft]),
      (#""window_right": 3, "sink_tokens": 1"#, [.windowRight, .sinkTokens]),
    ] as [(String, [AttentionCase.Option])])
  func optionsInUse(_ params: String, _ options: [AttentionCase.Option]) throws {
    var small = SmallCase()
    small.setParameters(params)
    #expect(try small.load().optionsInUse == options)
  }

  @Test func oneOutputIsEnough() throws {
    var small = SmallCase()
    small.tensors["expected.o"] = nil
    #expect(try small.load().expectedO == nil)
    small = SmallCase()
    small.tensors["expected.lse"] = nil
    #expect(try small.load().expectedLSE == nil)
    small.tensors["expected.o"] = nil
    expectError(small, "tensor expected.o or expected.lse", .missing)
  }

  @Test func noKeys() throws {
    var small = SmallCase()
    small.set("k", .f32, [1, 0, 1, 2])
    small.set("v", .f32, [1, 0, 1, 1])
    #expect(try small.load().keyTokens == 0)
    // No bytes vouch for E when there are no keys; o of [1, 2, 2, E] must stay countable.
    small.set("v", .f32, [1, 0, 1, 1 << 62])
    small.tensors["expected.o"] = nil
    expectError(
      small, "tensor v: shape", .invalid("\(1 << 62) value channels are too many"))
  }

  @Test(arguments: [
    // The description as a whole.
    Refusal("1", "vkattn", .expected("an object")),
    Refusal(#"{"op": "attention"}"#, "vkattn.version", .missing),
    Refusal(#"{"version": "1", "op": "attention"}"#, "vkattn.version", .expected("the integer 1")),
    Refusal(#"{"version": 1.0, "op": "attention"}"#, "vkattn.version", .expected("the integer 1")),
    Refusal(#"{"version": 2, "operation": "attention"}"#, "vkattn.version", .unsupportedVersion(2)),
    Refusal(#"{"version": 1}"#, "vkattn.op", .missing),
    Refusal(#"{"version": 1, "op": null}"#, "vkattn.op", .expected("a string")),
    Refusal(#"{"version": 1, "op": "attn"}"#, "vkattn.op", .unknown(allowed: CaseFile.operations)),
    Refusal(
      #"{"version": 1, "op": "attention", "more": 1}"#, "vkattn.more",
      .unknown(allowed: ["version", "op", "params", "tolerance", "source"])),
    Refusal(
      #"{"version": 1, "op": "attention", "source": 1}"#, "vkattn.source", .expected("a string")),
    Refusal(
      #"{"version": 1, "op": "attention", "params": []}"#, "vkattn.params",
      .expected("an object")),
    Refusal(
      #"{"version": 1, "op": "attention", "tolerance": 1}"#, "vkattn.tolerance",
      .expected("an object")),
    Refusal(
      #"{"version": 1, "op": "attention", "tolerance": {"o": "1"}}"#, "vkattn.tolerance.o",
      .expected("a number")),
    Refusal(
      #"{"version": 1, "op": "attention", "tolerance": {"o": -1e-9}}"#, "vkattn.tolerance.o",
      .invalid("must not be negative")),
    Refusal(
      #"{"version": 1, "op": "attention", "tolerance": {"q": 1}}"#, "vkattn.tolerance.q",
      .unknown(allowed: ["o", "lse"])),
    Refusal(
      #"{"version": 1, "op": "attention", "tolerance": {"o": NaN}}"#, "__metadata__.vkattn",
      .malformedJSON(byte: 53, "unexpected character")),
  ])
  func badDescription(_ refusal: Refusal<String>) {
    var small = SmallCase()
    small.description = refusal.input
    expectError(small, refusal.field, refusal.problem)
  }

  @Test func noDescription() {
    var small = SmallCase()
    small.description = nil
    expectError(small, "__metadata__.vkattn", .missing)
  }

  @Test(arguments: [
    Refusal("\"1\"", "scale", .expected("a number")),
    Refusal("null", "scale", .expected("a number")),
    Refusal("true", "scale", .expected("a number")),
    Refusal("1", "causal", .expected("true or false")),
    Refusal("true", "causal_align", .expected("a string")),
    Refusal("\"left\"", "causal_align", .unknown(allowed: ["bottom_right", "top_left"])),
    Refusal("1.5", "window_left", .expected("an integer")),
    Refusal("2147483648", "window_left", .invalid("2147483648 does not fit 32 bits")),
    Refusal(
      "-9223372036854775808", "window_right",
      .invalid("-9223372036854775808 does not fit 32 bits")),
    Refusal("[]", "window_right", .expected("an integer")),
    Refusal("-1", "softcap", .invalid("must not be negative")),
    Refusal("-1", "sink_tokens", .invalid("must not be negative")),
    Refusal("1e2", "sink_tokens", .expected("an integer")),
    Refusal("0", "causal_block", .invalid("must be at least 1")),
    Refusal("-1", "prefix_tokens", .invalid("must not be negative")),
    Refusal("-1", "chunk", .invalid("must not be negative")),
    Refusal("1.5", "chunk", .expected("an integer")),
    Refusal("\"other\"", "segments", .unknown(allowed: ["same", "different"])),
    Refusal("-1", "tree_tokens", .invalid("must not be negative")),
    Refusal("-1", "relative_left", .invalid("must not be negative")),
    Refusal("-1", "relative_right", .invalid("must not be negative")),
    Refusal("-1", "grid_height", .invalid("must not be negative")),
    Refusal("32769", "grid_width", .invalid("must be at most 32768")),
    Refusal("0", "t5_max_distance", .invalid("must be at least 1")),
    Refusal("1048577", "t5_max_distance", .invalid("must be at most 1048576")),
    Refusal("1", "t5_bidirectional", .expected("true or false")),
    Refusal(
      "\"relu\"", "normalizer",
      .unknown(allowed: ["softmax", "softmax1", "relu_mean", "relu_sum", "sigmoid"])),
    Refusal("\"0\"", "sigmoid_bias", .expected("a number")),
    Refusal("1", "score_glsl", .expected("a string")),
    Refusal("[]", "mask_glsl", .expected("a string")),
    Refusal(
      "0", "splits",
      .unknown(allowed: [
        "scale", "causal", "causal_align", "causal_block", "prefix_tokens", "window_left",
        "window_right", "chunk", "sink_tokens", "segments", "tree_tokens", "softcap",
        "relative_left", "relative_right", "grid_height", "grid_width", "t5_max_distance",
        "t5_bidirectional", "normalizer", "sigmoid_bias", "score_glsl", "mask_glsl",
      ])),
  ])
  func badParameter(_ refusal: Refusal<String>) {
    var small = SmallCase()
    small.setParameters("\"\(refusal.field)\": \(refusal.input)")
    expectError(small, "vkattn.params.\(refusal.field)", refusal.problem)
  }

  @Test(arguments: ["q", "k", "v"]) func missingInput(_ name: String) {
    var small = SmallCase()
    small.tensors[name] = nil
    expectError(small, "tensor \(name)", .missing)
  }

  @Test(
    arguments: [
      ("q", [2, 2, 2], "[B, S, H, D] with sizes of at least 1"),
      ("q", [1, 0, 2, 2], "[B, S, H, D] with sizes of at least 1"),
      ("q", [1, 2, 2, 0], "[B, S, H, D] with sizes of at least 1"),
      ("k", [2, 3, 1, 2], "[1, T, G, 2]"), ("k", [1, 3, 1, 3], "[1, T, G, 2]"),
      ("k", [1, 3, 0, 2], "[1, T, G, 2]"), ("k", [3, 1, 2], "[1, T, G, 2]"),
      ("v", [1, 4, 1, 1], "[1, 3, 1, E]"), ("v", [1, 3, 2, 1], "[1, 3, 1, E]"),
      ("v", [1, 3, 1, 0], "[1, 3, 1, E]"), ("v", [1, 3, 1], "[1, 3, 1, E]"),
      ("bias", [2, 2, 2, 3], "[1 or 1, 1 or 2, 2, 3]"),
      ("bias", [1, 2, 3, 2], "[1 or 1, 1 or 2, 2, 3]"), ("bias", [2, 3], "[1 or 1, 1 or 2, 2, 3]"),
      ("sinks", [1], "[2]"), ("alibi_slopes", [2, 1], "[2]"),
      ("expected.o", [1, 2, 2, 2], "[1, 2, 2, 1]"), ("expected.lse", [1, 2, 1], "[1, 2, 2]"),
    ] as [(String, [Int], String)])
  func wrongShape(_ name: String, _ shape: [Int], _ expected: String) {
    var small = SmallCase()
    small.set(name, .f32, shape)
    expectError(small, "tensor \(name): shape", .shape(found: shape, expected: expected))
  }

  @Test func headsMustDivide() {
    var small = SmallCase()
    small.set("k", .f32, [1, 3, 3, 2])
    small.set("v", .f32, [1, 3, 3, 1])
    expectError(
      small, "tensor k: shape", .invalid("2 query heads are no multiple of 3 heads"))
  }

  @Test func wrongElementTypes() {
    var small = SmallCase()
    small.set("q", .i32, [1, 2, 2, 2])
    expectError(small, "tensor q: dtype", .expected("F32 or F16 or BF16, found I32"))
    small = SmallCase()
    small.set("v", .i32, [1, 3, 1, 1])
    expectError(small, "tensor v: dtype", .expected("F32 or F16 or BF16, found I32"))
    small = SmallCase()
    small.set("mask", .f32, [1, 1, 2, 3])
    expectError(small, "tensor mask: dtype", .expected("U8, found F32"))
    small = SmallCase()
    small.set("kv_lengths", .u8, [1])
    expectError(small, "tensor kv_lengths: dtype", .expected("I32, found U8"))
  }

  @Test(arguments: [-1.0, 4]) func wrongKeyCounts(_ length: Double) {
    var small = SmallCase()
    small.set("kv_lengths", .i32, [1], [length])
    expectError(small, "tensor kv_lengths", .invalid("\(Int(length)) is not within 0...3"))
  }

  @Test(arguments: ["w", "expected.p", "Q", "expected.q", "cu_seqlens_q"]) func unknownTensor(
    _ name: String
  ) {
    var small = SmallCase()
    small.set(name, .f32, [1])
    expectError(
      small, "tensor \(name)",
      .unknown(allowed: [
        "q", "k", "v", "kv_lengths", "left_padding", "prefix_lengths", "head_windows",
        "q_segments", "k_segments", "tree_bits", "query_scales", "query_bias",
        "relative_query_bias", "relative_keys", "key_bias", "relative_bias", "t5_bias",
        "alibi_slopes", "sinks", "gates", "initial_max", "initial_sum", "initial_output", "bias",
        "mask", "mask_bits", "grid_bias", "expected.o", "expected.lse",
      ]))
  }

  @Test(arguments: CaseFile.operations.dropFirst(7)) func otherOperations(_ name: String) {
    var small = SmallCase()
    small.description = #"{"version": 1, "op": "\#(name)", "params": {"splits": 1}}"#
    let error = caseError(small.bytes)
    #expect(error?.problem == .unsupportedOperation(name) && error?.isUnsupportedOperation == true)
    #expect(
      error?.description == "small: vkattn.op: op \(name) is not supported by this build")
  }

  @Test func messagesAreSafeToPrint() {
    var small = SmallCase()
    let name = "q\u{1B}[31m\n\u{202E}" + String(repeating: "x", count: 10_000)
    small.set(name, .f32, [1])
    let error = caseError(small.bytes)
    #expect(error?.isUnsupportedOperation == false)
    let text = error?.description ?? ""
    #expect(text.hasPrefix(#"small: tensor q\u{1b}[31m\u{a}\u{202e}xxx"#))
    #expect(text.count < 2000 && text.contains("unknown; allowed are q, k, v"))
  }
}
