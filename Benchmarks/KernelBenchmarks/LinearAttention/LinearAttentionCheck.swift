import AttentionReference
import VulkanAttention

/// A kind of recurrence, with the operands that make it.
public enum LinearAttentionModel: String, Sendable, Hashable, CaseIterable {
  case linear
  case lightning
  case scalarDecay = "scalar-decay"
  case ssd
  case gla
  case slots
  case rwkv6
  case normalized
  case delta
  case gatedDelta = "gated-delta"
  case deltaProduct = "delta-product"
  case kda
  case comba
  case gdn2
  case rwkv7
  case notCausal = "not-causal"

  /// Operands beside the states.
  var operands: Set<LinearAttentionOperand> {
    switch self {
    case .linear, .notCausal, .normalized: []
    case .lightning: [.headDecay]
    case .scalarDecay: [.decay]
    case .ssd: [.timeStep, .rate, .timeStepBias, .skip, .outputGate]
    case .gla: [.keyDecay]
    case .slots: [.valueDecay]
    case .rwkv6: [.keyDecay, .bonus]
    case .delta: [.beta]
    case .gatedDelta, .deltaProduct: [.beta, .decay]
    case .kda: [.beta, .keyDecay]
    case .comba: [.beta, .decay, .eraseKeys]
    case .gdn2: [.keyDecay, .eraseGates, .writeGates]
    case .rwkv7: [.keyDecay, .lowRankA, .lowRankB]
    }
  }

  /// Whether the delta rule applies.
  var erases: Bool {
    [.delta, .gatedDelta, .deltaProduct, .kda, .comba, .gdn2].contains(self)
  }
}

/// One linear attention of the check.
struct LinearAttentionCheckCase: Sendable, Hashable {
  var group: String
  var model: LinearAttentionModel
  var batch = 1
  var tokens: Int
  var keyHeads: Int
  var valueHeads: Int
  var keyChannels: Int
  var valueChannels: Int
  var elementType: VulkanAttention.ElementType
  var starts: [Int]?
  var hasStates = true
  var isHeadMajor = false
  var gate: Float = 1

  var id: String {
    "linear/\(model.rawValue)/\(elementType.rawValue)/B\(batch)-T\(tokens)-G\(keyHeads)-"
      + "H\(valueHeads)-K\(keyChannels)-V\(valueChannels)" + (starts == nil ? "" : "-packed")
      + (hasStates ? "-states" : "") + (isHeadMajor ? "-head-major" : "")
      + (gate == 1 ? "" : "-gate\(Int(gate))")
  }

  /// Cases with the same text share their pipelines.
  var pipelines: String {
    "\(model.rawValue) \(elementType.rawValue) \(keyChannels) \(valueChannels) \(starts == nil) \(hasStates)"
  }

  func request() throws(AttentionError) -> LinearAttentionRequest {
    let updates = model == .deltaProduct ? 2 : 1
    var operands = model.operands.union([.finalState])
    if hasStates { operands.insert(.initialState) }
    if model == .normalized {
      operands.insert(.finalSum)
      if hasStates { operands.insert(.initialSum) }
    }
    func strides(_ tokens: Int, _ heads: Int, _ channels: Int) -> TensorStrides? {
      isHeadMajor ? .headMajor(tokens: tokens, heads: heads, channels: channels) : nil
    }
    return try LinearAttentionRequest(
      batchSize: batch, tokens: tokens, keyHeads: keyHeads, valueHeads: valueHeads,
      keyHeadSize: keyChannels, valueHeadSize: valueChannels, updatesPerToken: updates,
      elementType: elementType, scale: model == .ssd ? 1 : nil, erases: model.erases,
      readsBeforeUpdate: model == .rwkv6, isCausal: model != .notCausal,
      appliesSoftplus: model == .ssd,
      normalizer: model == .normalized ? .sum(epsilon: 1e-6) : .none,
      packedSequences: starts.map { $0.count - 1 },
      longestSequence: starts.map { starts in
        max(1, zip(starts, starts.dropFirst()).map { $1 - $0 }.max() ?? 1)
      }, operands: operands, queryStrides: strides(tokens, keyHeads, keyChannels),
      keyStrides: strides(tokens * updates, keyHeads, keyChannels),
      valueStrides: strides(tokens * updates, valueHeads, valueChannels),
      outputStrides: strides(tokens, valueHeads, valueChannels))
  }

  func inputs(_ request: LinearAttentionRequest) -> LinearAttentionInputs {
    var random = SplitMix64(seed: id)
    func rounded(_ values: [Float], _ type: VulkanAttention.ElementType) -> [Float] {
      values.map { Float(type.storage.rounded(Double($0))) }
    }
    func unit(_ values: [Float]) -> [Float] {
      FeatureMap.l2Norm(epsilon: 1e-6).mapped(
        values.map(Double.init), heads: 1, channels: keyChannels
      ).map { Float($0) }
    }
    func uniform(_ count: Int) -> [Float] {
      (0..<count).map { _ in Float(random.next() >> 40) * 0x1p-24 }
    }
    let rows = batch * tokens * request.updatesPerToken
    let gates = batch * tokens * valueHeads
    let keys = rows * keyHeads * keyChannels
    let bounded = model.erases || model == .rwkv7 || model == .normalized
    var key = random.normal(keys)
    if bounded { key = unit(key) }
    var query = random.normal(batch * tokens * keyHeads * keyChannels)
    if model == .normalized { (query, key) = (query.map(abs), key.map(abs)) }
    var inputs = LinearAttentionInputs(
      query: rounded(query, elementType), key: rounded(key, elementType),
      value: rounded(random.normal(rows * valueHeads * valueChannels), elementType))
    let states = request.sequenceCount * valueHeads * keyChannels
    let lowRank = unit(random.normal(gates * keyChannels))
    for operand in LinearAttentionOperand.allCases where request.operands.contains(operand) {
      let values: [Float]
      switch operand {
      case .headDecay: values = (1...valueHeads).map { -Float(0x1p0) / Float($0 * $0) }
      case .decay: values = uniform(gates).map { -gate * $0 }
      case .keyDecay: values = uniform(gates * keyChannels).map { -gate * $0 }
      case .valueDecay: values = uniform(gates * valueChannels).map { -gate * $0 }
      case .beta: values = uniform(rows * valueHeads)
      case .eraseKeys: values = rounded(unit(random.normal(keys)), elementType)
      case .eraseGates: values = uniform(rows * valueHeads * keyChannels)
      case .writeGates: values = uniform(rows * valueHeads * valueChannels)
      case .lowRankA: values = rounded(lowRank.map { -$0 }, elementType)
      case .lowRankB:
        values = rounded(zip(lowRank, uniform(lowRank.count)).map { $0 * $1 }, elementType)
      case .bonus: values = random.normal(valueHeads * keyChannels)
      case .initialState: values = random.normal(states * valueChannels)
      case .initialSum: values = random.normal(states).map(abs)
      case .timeStep: values = random.normal(gates)
      case .rate: values = (1...valueHeads).map { -Float($0) / Float(valueHeads) }
      case .timeStepBias, .skip: values = random.normal(valueHeads)
      case .outputGate: values = rounded(random.normal(gates * valueChannels), elementType)
      case .sequenceStarts:
        inputs.operands[operand] = .integers((starts ?? []).map { Int32($0) })
        continue
      case .finalState, .finalSum, .sequenceIDs, .stateSlots, .snapshots, .parents: continue
      }
      inputs.operands[operand] = .numbers(values)
    }
    return inputs
  }
}

/// The check of linear attention: every model in every form on every path.
public enum LinearAttentionCheck {
  /// The cases of a depth, each in every way of `choices`.
  public static func runs(_ depth: CheckDepth, _ choices: [LinearAttentionChoice]) -> [CheckRun] {
    choices.flatMap { choice in
      cases(depth).map { checkCase in
        CheckRun(
          id: "\(choice) \(checkCase.id)", pipelines: "\(choice) \(checkCase.pipelines)"
        ) { await run(checkCase, choice, on: $0) }
      }
    }
  }

  static func cases(_ depth: CheckDepth) -> [LinearAttentionCheckCase] {
    let types: [VulkanAttention.ElementType] =
      depth == .quick ? [.f32, .f16] : VulkanAttention.ElementType.allCases
    return types.flatMap { type in
      LinearAttentionModel.allCases.flatMap { model in
        let plain = LinearAttentionCheckCase(
          group: "models", model: model, tokens: 75, keyHeads: 2, valueHeads: 2, keyChannels: 32,
          valueChannels: 24, elementType: type)
        func with(
          _ group: String, _ change: (inout LinearAttentionCheckCase) -> Void
        ) -> LinearAttentionCheckCase {
          var changed = plain
          changed.group = group
          change(&changed)
          return changed
        }
        var cases = [plain]
        if depth == .quick { return cases }
        if type == .f32 || depth == .full {
          cases += [1, 7, 8, 9].map { tokens in with("lengths") { $0.tokens = tokens } }
          cases += [
            with("odd sizes") { ($0.keyChannels, $0.valueChannels) = (13, 7) },
            with("packed") { ($0.starts, $0.keyHeads) = ([2, 3, 3, 20, 64], 1) },
            with("layouts") { ($0.batch, $0.isHeadMajor, $0.hasStates) = (2, true, false) },
            with("strong gates") { $0.gate = 30 },
          ]
        }
        if depth == .full {
          cases += [64, 128, 256].map { size in
            with("sizes") { ($0.keyChannels, $0.valueChannels, $0.tokens) = (size, size, 300) }
          }
        }
        return cases
      }
    }
  }

  private static func run(
    _ checkCase: LinearAttentionCheckCase, _ choice: LinearAttentionChoice,
    on device: ComputeDevice
  ) async -> CheckOutcome {
    var problems: [String] = []
    var errors: [CheckError] = []
    var path = choice.description
    func outcome(_ verdict: CheckOutcome.Verdict) -> CheckOutcome {
      CheckOutcome(
        id: checkCase.id, group: checkCase.group, elementType: checkCase.elementType, path: path,
        verdict: verdict, errors: errors)
    }
    do {
      let request = try checkCase.request()
      let plan = try choice.plan(request, device: device.capabilities)
      path = plan.wayName
      let inputs = checkCase.inputs(request)
      let tensors = try await LinearAttentionTensors(inputs, for: plan, on: device)
      try await LinearAttentionKernel(plan, on: device).run(tensors.buffers)
      let result = try await tensors.read()
      problems = result.strayWrites
      let expected = request.reference(inputs)
      let row = request.valueHeads * request.valueHeadSize
      let covered =
        checkCase.starts.map { ($0.first ?? 0) * row..<($0.last ?? 0) * row }
        ?? 0..<expected.o.count
      let gate = AttentionGates.output(checkCase.elementType)
      errors = [
        CheckError(
          "o",
          .relativeRMS(
            actual: Array(result.output[covered]), expected: Array(expected.o[covered])),
          gate: gate, problems: &problems),
        CheckError(
          "state",
          .relativeRMS(actual: result.states[.finalState] ?? [], expected: expected.state),
          gate: AttentionGates.output(.f32), problems: &problems),
      ]
      if let sum = result.states[.finalSum] {
        errors.append(
          CheckError(
            "sum", .relativeRMS(actual: sum, expected: expected.sum),
            gate: AttentionGates.output(.f32), problems: &problems))
      }
    } catch let error as AttentionError {
      if case .pathUnavailable(_, let reason) = error { return outcome(.skipped(reason)) }
      problems.append("\(error)")
    } catch {
      problems.append("\(error)")
    }
    return outcome(problems.isEmpty ? .passed : .failed(problems))
  }
}
