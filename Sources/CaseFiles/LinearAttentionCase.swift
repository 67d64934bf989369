/// A checked case of op `linear_attention` or `ssd`.
///
/// Letters: B batch, T tokens, H value heads, G heads of q and k (H a multiple of G), K and V channels of the
/// file's keys and values, N sequences, L rows of a state: K, or what the feature map makes of it. Of op
/// `ssd`, c is q, b is k and x is v.
public struct LinearAttentionCase: Sendable {
  /// What is written to the state.
  public enum Rule: String, Sendable, Hashable, CaseIterable {
    /// The value.
    case linear
    /// The value less what the state holds for the key.
    case delta
  }

  /// What is done to q and k first.
  public enum Feature: String, Sendable, Hashable, CaseIterable {
    case none
    case relu
    case elu1
    case taylor2
    case softmax
  }

  /// When a token reads the state.
  public enum Read: String, Sendable, Hashable, CaseIterable {
    /// After its own update.
    case after
    /// Before its own decay and update.
    case before
  }

  /// Which form a runner takes; no result depends on it.
  public enum Form: String, Sendable, Hashable, CaseIterable {
    case auto
    case chunk
    case recurrent
  }

  /// Tensors beside q, k and v.
  public enum Input: String, Sendable, Hashable, CaseIterable {
    /// Log decay of a head, `[H]`.
    case decay
    /// Log decay of a token, `[B, T, H]` or `[B, T, H, K]`; dt of op `ssd`, `[B, T, H]`.
    case gate
    /// Log decay of value channels, `[B, T, H, V]`.
    case valueGate = "g_value"
    /// `[B, T, H]`.
    case beta
    /// `[B, T, G, K]`.
    case eraseKeys = "erase_keys"
    /// `[B, T, H, K]`.
    case eraseGates = "erase_gates"
    /// `[B, T, H, V]`.
    case writeGates = "write_gates"
    /// `[B, T, H, K]`.
    case lowRankA = "low_rank_a"
    /// `[B, T, H, K]`.
    case lowRankB = "low_rank_b"
    /// `[H, K]`.
    case bonus
    /// `[N, H, L, V]`.
    case initialState = "initial_state"
    /// I32 `[B, T]`.
    case sequenceIDs = "sequence_ids"
    /// I32 `[N + 1]`, with B = 1.
    case starts = "cu_seqlens"
    /// The rate a of op `ssd`, `[H]`.
    case rate = "a"
    /// D of op `ssd`, `[H]`.
    case skip = "d"
    /// z of op `ssd`, `[B, T, H, V]`.
    case outputGate = "z"
    /// What op `ssd` adds to dt, `[H]`.
    case timeStepBias = "dt_bias"
  }

  /// The file as it was named by the caller.
  public let file: String
  /// The operation's name in the file.
  public let operation: String
  /// Where the case comes from, in free text.
  public let source: String?
  /// B.
  public let batch: Int
  /// T.
  public let tokens: Int
  /// G.
  public let keyHeads: Int
  /// H.
  public let valueHeads: Int
  /// K.
  public let keyChannels: Int
  /// V.
  public let valueChannels: Int
  /// q `[B, T, G, K]`; F32, F16 or BF16.
  public let q: CaseTensor
  /// k `[B, T, G, K]`.
  public let k: CaseTensor
  /// v `[B, T, H, V]`.
  public let v: CaseTensor
  /// The tensors beside.
  public let inputs: [Input: CaseTensor]
  /// `scale`: factor of q; nil for 1/√K, and 1 of op `ssd`.
  public private(set) var scale: Double?
  /// `rule`.
  public private(set) var rule = Rule.linear
  /// `feature`.
  public private(set) var feature = Feature.none
  /// `normalize`: whether outputs are divided by the same of a value of 1, plus 1e-10.
  public private(set) var normalize = false
  /// `causal`.
  public private(set) var causal = true
  /// `read`.
  public private(set) var read = Read.after
  /// `form`.
  public private(set) var form = Form.auto
  /// `chunk` of op `ssd`: tokens of a chunk, 0 for the runner's choice; no result depends on it.
  public private(set) var chunk = 0
  /// `dt_softplus` of op `ssd`.
  public private(set) var appliesSoftplus = false
  /// Expected o (y of op `ssd`), `[B, T, H, V]`; this or ``expectedState`` is there.
  public let expectedO: CaseTensor?
  /// Expected last states, `[N, H, L, V]`.
  public let expectedState: CaseTensor?
  /// What RMS(error)/RMS(expected) of the output may be: the file's, else by the type of v.
  public let oTolerance: Double
  /// What RMS(error)/RMS(expected) of the states may be: likewise.
  public let stateTolerance: Double

  /// Whether the operation is `ssd`.
  public var isStateSpace: Bool { operation == "ssd" }
  /// The output's name in the file.
  public var outputName: String { isStateSpace ? "y" : "o" }
  /// L, the rows of a state.
  public var stateRows: Int {
    feature == .taylor2 ? 1 + keyChannels + keyChannels * keyChannels : keyChannels
  }
}

// MARK: - Reading

extension LinearAttentionCase {
  private static let ofStateSpace: [Input] = [
    .gate, .rate, .skip, .outputGate, .timeStepBias, .initialState, .sequenceIDs, .starts,
  ]
  private static let ofLinear = Input.allCases.filter {
    ![.rate, .skip, .outputGate, .timeStepBias].contains($0)
  }

  /// Checks that `file` is a sound case of op `linear_attention` or `ssd`.
  init(_ file: SafetensorsFile, _ description: CaseDescription) throws(CaseFileError) {
    self.file = file.name
    operation = description.operation
    source = description.source
    let isStateSpace = description.operation == "ssd"
    let own = isStateSpace ? Self.ofStateSpace : Self.ofLinear
    /// The tensor's name in the file.
    func name(_ input: Input) -> String {
      input == .gate ? isStateSpace ? "dt" : "g" : input.rawValue
    }
    let names = isStateSpace ? ["c", "b", "x"] : ["q", "k", "v"]
    let outputs = [isStateSpace ? "y" : "o", "final_state"]
    let tensors = try TensorTable(
      file, allowed: names + own.map(name) + outputs.map { "expected.\($0)" })

    let floats: [ElementType] = [.f32, .f16, .bf16]
    q = try tensors.required(names[0], floats)
    k = try tensors.required(names[1], floats)
    v = try tensors.required(names[2], floats)
    guard q.shape.count == 4, q.shape.allSatisfy({ $0 > 0 }) else {
      throw tensors.shapeError(q, "[B, T, G, K] with sizes of at least 1")
    }
    guard k.shape == q.shape else { throw tensors.shapeError(k, "\(q.shape)") }
    let (b, t, g, kc) = (q.shape[0], q.shape[1], q.shape[2], q.shape[3])
    guard v.shape.count == 4, v.shape[..<2] == q.shape[..<2], v.shape[2] > 0, v.shape[3] > 0 else {
      throw tensors.shapeError(v, "[\(b), \(t), H, V]")
    }
    let (h, vc) = (v.shape[2], v.shape[3])
    guard h % g == 0 else {
      throw tensors.error(
        "\(names[2]): shape", .invalid("\(h) value heads are no multiple of \(g) heads"))
    }
    (batch, tokens, keyHeads, valueHeads, keyChannels, valueChannels) = (b, t, g, h, kc, vc)

    for member in description.parameters {
      let reader = ParameterReader(
        file: file.name, field: "vkattn.params.\(member.key)", value: member.value)
      switch (member.key, isStateSpace) {
      case ("chunk", true): chunk = try reader.integer(0...)
      case ("dt_softplus", true): appliesSoftplus = try reader.bool()
      case ("scale", false): scale = try reader.number()
      case ("rule", false): rule = try reader.name()
      case ("feature", false): feature = try reader.name()
      case ("normalize", false): normalize = try reader.bool()
      case ("causal", false): causal = try reader.bool()
      case ("read", false): read = try reader.name()
      case ("form", false): form = try reader.name()
      default:
        throw reader.error(
          .unknown(
            allowed: isStateSpace
              ? ["chunk", "dt_softplus"]
              : ["scale", "rule", "feature", "normalize", "causal", "read", "form"]))
      }
    }
    // The square of a channel count that a tensor of the file has cannot overflow.
    let rows = feature == .taylor2 ? 1 + kc + kc * kc : kc

    var inputs: [Input: CaseTensor] = [:]
    var sequences = b
    if let bounds = try tensors.optional(name(.starts), [.i32]) {
      guard b == 1, bounds.shape.count == 1, bounds.count >= 2 else {
        throw tensors.shapeError(bounds, "[N + 1] for 1 or more sequences in one batch entry")
      }
      let values = bounds.integers() ?? []
      for value in values where !(0...t).contains(value) {
        throw tensors.error(bounds.name, .invalid("\(value) is not within 0...\(t)"))
      }
      for (value, next) in zip(values, values.dropFirst()) where next < value {
        throw tensors.error(bounds.name, .invalid("falls from \(value) to \(next)"))
      }
      inputs[.starts] = bounds
      sequences = bounds.count - 1
    }
    let perToken = [b, t, h]
    let shapes: [Input: [Int]] = [
      .decay: [h], .valueGate: perToken + [vc], .beta: perToken, .eraseKeys: [b, t, g, kc],
      .eraseGates: perToken + [kc], .writeGates: perToken + [vc], .lowRankA: perToken + [kc],
      .lowRankB: perToken + [kc], .bonus: [h, kc], .initialState: [sequences, h, rows, vc],
      .rate: [h], .skip: [h], .outputGate: perToken + [vc], .timeStepBias: [h],
    ]
    let isTyped: [Input] = [.eraseKeys, .lowRankA, .lowRankB, .outputGate]
    for input in own {
      guard let shape = shapes[input] else { continue }
      inputs[input] = try tensors.optional(
        name(input), isTyped.contains(input) ? floats : [.f32], shape: shape)
    }
    if let gate = try tensors.optional(name(.gate), [.f32]) {
      guard gate.shape == perToken || !isStateSpace && gate.shape == perToken + [kc] else {
        throw tensors.shapeError(
          gate, isStateSpace ? "\(perToken)" : "\(perToken) or \(perToken + [kc])")
      }
      inputs[.gate] = gate
    }
    inputs[.sequenceIDs] = try tensors.optional(name(.sequenceIDs), [.i32], shape: [b, t])
    self.inputs = inputs
    if isStateSpace {
      for input in [Input.gate, .rate] where inputs[input] == nil {
        throw tensors.error(name(input), .missing)
      }
    }

    expectedO = try tensors.optional("expected.\(outputs[0])", floats, shape: [b, t, h, vc])
    expectedState = try tensors.optional(
      "expected.final_state", floats, shape: [sequences, h, rows, vc])
    if expectedO == nil && expectedState == nil {
      throw tensors.error("expected.\(outputs[0]) or expected.final_state", .missing)
    }
    let tolerances = try AttentionCase.readTolerances(
      description, file: file.name, outputs: outputs)
    let usual = AttentionCase.defaultTolerance(v.element)
    oTolerance = tolerances[outputs[0]] ?? usual
    stateTolerance = tolerances[outputs[1]] ?? usual
    try check(tensors)
  }

  /// What must hold between tensors and parameters.
  private func check(_ tensors: TensorTable) throws(CaseFileError) {
    func refuse(_ field: String, _ reason: String) -> CaseFileError {
      CaseFileError(file, "vkattn.params.\(field)", .invalid(reason))
    }
    for input in [Input.beta, .eraseKeys, .eraseGates, .writeGates]
    where rule != .delta && inputs[input] != nil {
      throw tensors.error(input.rawValue, .invalid("is for rule delta"))
    }
    if (inputs[.lowRankA] == nil) != (inputs[.lowRankB] == nil) {
      throw tensors.error(inputs[.lowRankA] == nil ? "low_rank_a" : "low_rank_b", .missing)
    }
    if inputs[.lowRankA] != nil, rule == .delta {
      throw refuse("rule", "delta has its own change of the state; low_rank is for linear")
    }
    if inputs[.bonus] != nil, read != .before {
      throw tensors.error("bonus", .invalid("is for read before"))
    }
    if normalize,
      rule == .delta || read == .before || inputs[.lowRankA] != nil || inputs[.valueGate] != nil
        || inputs[.initialState] != nil
    {
      throw refuse(
        "normalize",
        "is for rule linear, read after, without low_rank, g_value and initial_state")
    }
    if !causal, read == .before || inputs[.sequenceIDs] != nil {
      throw refuse("causal", "false is for read after, without sequence_ids")
    }
    if feature != .none, inputs[.gate]?.shape.count == 4 || inputs[.bonus] != nil {
      throw refuse("feature", "is for gates without channels")
    }
  }
}
