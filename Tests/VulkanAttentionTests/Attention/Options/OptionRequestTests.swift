import TestSupport
import Testing

@testable import VulkanAttention

/// What must hold between the parts of a request.
@Suite struct OptionRequestTests {
  /// A small request with masks, scores and operands of one's own.
  private static func request(
    _ operands: [AttentionOperand] = [], h: Int = 2, g: Int? = nil, d: Int = 16, e: Int = 8,
    keyType: ElementType? = nil, valueType: ElementType? = nil,
    packed: PackedSequences? = nil, resumes: Bool = false, returnsState: Bool = false,
    valuesAreKeys: Bool = false, hasKeySources: Bool = false, v: TensorStrides? = nil,
    mask change: (inout AttentionMask) -> Void = { _ in },
    scores changeScores: (inout AttentionScores) -> Void = { _ in }
  ) throws -> AttentionRequest {
    var mask = AttentionMask.none
    change(&mask)
    var scores = AttentionScores()
    changeScores(&scores)
    return try AttentionRequest(
      batchSize: 2, queryTokens: 4, keyTokens: 6, queryHeads: h, keyHeads: g, headSize: d,
      valueHeadSize: e, keyType: keyType, valueType: valueType, mask: mask, scores: scores,
      operands: operands, packedSequences: packed, resumes: resumes, returnsState: returnsState,
      valuesAreKeys: valuesAreKeys, hasKeySources: hasKeySources, valueStrides: v)
  }

  private static let packed = PackedSequences(queryTokens: 7, keyTokens: 9)

  static let badMasks: [BadRequest] = [
    .init("block of 0", "mask.causalBlock", says: "1 to") {
      try request(mask: { ($0.isCausal, $0.causalBlock) = (true, 0) })
    },
    .init("block not causal", "mask.causalBlock", says: "causal") {
      try request(mask: { $0.causalBlock = 2 })
    },
    .init("prefix < 0", "mask.prefixTokens", says: "-1") {
      try request(mask: { ($0.isCausal, $0.prefixTokens) = (true, -1) })
    },
    .init("prefix not causal", "mask.prefixTokens", says: "causal") {
      try request(mask: { $0.prefixTokens = 1 })
    },
    .init("window left < 0", "mask.windowLeft", says: "-1") {
      try request(mask: { $0.windowLeft = -1 })
    },
    .init("window left too wide", "mask.windowLeft", says: "1073741823") {
      try request(mask: { $0.windowLeft = 1 << 30 })
    },
    .init("window right < 0", "mask.windowRight", says: "-2") {
      try request(mask: { $0.windowRight = -2 })
    },
    .init("chunk of 0", "mask.chunkSize", says: "1 to") { try request(mask: { $0.chunkSize = 0 }) },
    .init("sinks < 0", "mask.sinkTokens", says: "0 to") {
      try request(mask: { $0.sinkTokens = -1 })
    },
  ]

  static let badScores: [BadRequest] = [
    .init("cap < 0", "scores.softcap", says: "to 1e30") {
      try request(scores: { $0.softcap = -1 })
    },
    .init("cap too large", "scores.softcap", says: "0, for none, to 1e30") {
      try request(scores: { $0.softcap = .greatestFiniteMagnitude })
    },
    .init("cap NaN", "scores.softcap", says: "to 1e30") {
      try request(scores: { $0.softcap = .nan })
    },
    .init("cap inf", "scores.softcap", says: "to 1e30") {
      try request(scores: { $0.softcap = .infinity })
    },
    .init("sigmoid bias inf", "scores.normalizer", says: "finite bias") {
      try request(scores: { $0.normalizer = .sigmoid(bias: -.infinity) })
    },
    .init("sigmoid bias NaN", "scores.normalizer", says: "finite bias") {
      try request(scores: { $0.normalizer = .sigmoid(bias: .nan) })
    },
    .init("distance < 0", "scores.relativeLeft", says: "0 to") {
      try request(scores: { $0.relativeLeft = -1 })
    },
    .init("distance too far", "scores.relativeRight", says: "16777216") {
      try request(scores: { $0.relativeRight = 1 << 24 + 1 })
    },
    .init("tree < 0", "scores.treeTokens", says: "0 to") {
      try request(scores: { $0.treeTokens = -1 })
    },
    .init("grid too high", "scores.gridHeight", says: "4096") {
      try request(scores: { $0.gridHeight = 4097 })
    },
    .init("grid width < 0", "scores.gridWidth", says: "4096") {
      try request(scores: { $0.gridWidth = -1 })
    },
    .init("state of a mean, in", "scores.normalizer", says: "count keys") {
      try request(resumes: true, scores: { $0.normalizer = .reluMean })
    },
    .init("state of a mean, out", "scores.normalizer", says: "count keys") {
      try request(returnsState: true, scores: { $0.normalizer = .reluMean })
    },
  ]

  static let badOperands: [BadRequest] =
    [
      AttentionOperand.Kind.queryStarts, .keyStarts, .initialMax, .initialSum, .initialOutput,
      .finalMax, .finalSum, .finalOutput,
    ].map { kind in
      .init("\(kind) given", "operands", says: kind.rawValue) { try request([.init(kind)]) }
    } + [
      .init("bias twice", "operands.bias", says: "twice") {
        try request([.init(.bias), .init(.bias)])
      },
      .init("lengths shared", "operands.kv_lengths", says: "axis") {
        try request([.init(.keyLengths, shared: .batch)])
      },
      .init("key bias shared by queries", "operands.key_bias", says: "axis") {
        try request([.init(.keyBias, shared: .queries)])
      },
      .init("sinks in f16", "operands.sinks", says: "f32") { try request([.init(.sinks, .f16)]) },
      .init("sinks with sigmoid", "operands.sinks", says: "softmax") {
        try request([.init(.sinks)], scores: { $0.normalizer = .sigmoid(bias: 0) })
      },
      .init("sinks with one more", "operands.sinks", says: "softmax") {
        try request([.init(.sinks)], scores: { $0.normalizer = .softmaxOffByOne })
      },
      .init("prefixes not causal", "operands.prefix_lengths", says: "causal") {
        try request([.init(.prefixLengths)])
      },
      .init("prefixes twice", "operands.prefix_lengths", says: "prefixTokens") {
        try request([.init(.prefixLengths)], mask: { ($0.isCausal, $0.prefixTokens) = (true, 1) })
      },
      .init("windows twice", "operands.head_windows", says: "windowLeft") {
        try request([.init(.headWindows)], mask: { $0.windowRight = 3 })
      },
      .init("tree of none", "operands.tree_bits", says: "treeTokens") {
        try request([.init(.treeBits)])
      },
      .init("grid of none", "operands.grid_bias", says: "grid") { try request([.init(.gridBias)]) },
      .init("grid too small", "operands.grid_bias", says: "grid") {
        try request([.init(.gridBias)], scores: { ($0.gridHeight, $0.gridWidth) = (1, 5) })
      },
      .init("queries' segments alone", "operands.q_segments", says: "k_segments") {
        try request([.init(.querySegments)])
      },
      .init("keys' segments alone", "operands.k_segments", says: "q_segments") {
        try request([.init(.keySegments)])
      },
      .init("v alone", "operands.relative_query_bias", says: "relative_keys") {
        try request([.init(.relativeQueryBias)])
      },
    ]
    + [AttentionOperand.Kind.bias, .mask, .maskBits, .gridBias].map { kind in
      .init("\(kind) packed", "operands.\(kind.rawValue)", says: "packed") {
        try request([.init(kind)], packed: packed)
      }
    }

  static let badTensors: [BadRequest] = [
    .init("no packed queries", "packedSequences.queryTokens", says: "1 to") {
      try request(packed: .init(queryTokens: 0, keyTokens: 9))
    },
    .init("packed keys < 0", "packedSequences.keyTokens", says: "-1") {
      try request(packed: .init(queryTokens: 7, keyTokens: -1))
    },
    .init("values wider than keys", "valueHeadSize", says: "at most headSize") {
      try request(e: 24, valuesAreKeys: true)
    },
    .init("values of another type", "valuesAreKeys", says: "type and strides") {
      try request(keyType: .f16, valueType: .bf16, valuesAreKeys: true)
    },
    .init("values with other strides", "valuesAreKeys", says: "type and strides") {
      try request(valuesAreKeys: true, v: .tokenMajor(tokens: 6, heads: 2, channels: 8))
    },
    .init("too many sources", "keyHeads", says: "2048") {
      try request(h: 2049, hasKeySources: true)
    },
  ]

  @Test(arguments: badMasks + badScores + badOperands + badTensors)
  func refuses(bad: BadRequest) { bad.expectRefused() }

  @Test("Operands too large to address are refused by name")
  func tooLarge() {
    #expect(throws: AttentionError.tooLarge(tensor: "bias")) {
      try AttentionRequest(
        queryTokens: 1 << 20, keyTokens: 1 << 20, queryHeads: 4, headSize: 8,
        operands: [.init(.bias)])
    }
  }

  @Test("What is at the edge of a rule is taken")
  func allowed() throws {
    _ = try Self.request(
      [.init(.prefixLengths), .init(.headWindows), .init(.sinks)], mask: { $0.isCausal = true })
    _ = try Self.request([.init(.gridBias)], scores: { ($0.gridHeight, $0.gridWidth) = (2, 3) })
    _ = try Self.request(
      [.init(.querySegments), .init(.keySegments), .init(.relativeKeys), .init(.relativeQueryBias)])
    _ = try Self.request(
      mask: { ($0.windowLeft, $0.windowRight, $0.chunkSize) = (0, (1 << 30) - 1, 1) })
    _ = try Self.request(h: 2048, hasKeySources: true)
    _ = try Self.request([.init(.treeBits)], packed: Self.packed, scores: { $0.treeTokens = 1 })
    let request = try Self.request(keyType: .bf16, valuesAreKeys: true)
    #expect(request.valueType == .bf16 && request.valueStrides == request.keyStrides)
    let state = try Self.request(resumes: true, returnsState: true)
    #expect(
      state.operands.map(\.kind) == [
        .initialMax, .initialSum, .initialOutput, .finalMax, .finalSum, .finalOutput,
      ])
    #expect(state.byteCount(of: .finalOutput) == 2 * 4 * 2 * 8 * 4)
    #expect(state.byteCount(of: .bias) == 0)
  }
}
