import AttentionReference
import CaseFiles
import Testing

/// The reference of linear attention against the numbers of PyTorch, see Tools/cases/linear.py.
@Suite struct ShippedLinearCaseTests {
  @Test func casesAreThere() {
    #expect(ShippedCases.linear.count >= 49)
  }

  @Test(arguments: ShippedCases.linear)
  func referenceAgrees(_ name: String) throws {
    guard
      case .linearAttention(let problem) = try CaseFile(
        path: ShippedCases.folder.appending(path: name).path)
    else {
      Issue.record("\(name) is a case of another op")
      return
    }
    let result = problem.isStateSpace ? stateSpace(problem) : linear(problem)
    let o = ErrorMeasure.relativeRMS(
      actual: result.o, expected: try #require(problem.expectedO).doubles())
    let state = ErrorMeasure.relativeRMS(
      actual: result.state, expected: try #require(problem.expectedState).doubles())
    // What is expected is stored as F32.
    #expect(o.isWithin(1e-7), "o: \(o)")
    #expect(state.isWithin(1e-7), "state: \(state)")
  }

  private func dimensions(_ problem: LinearAttentionCase) -> LinearAttentionDimensions {
    LinearAttentionDimensions(
      batch: problem.batch, tokens: problem.tokens, keyHeads: problem.keyHeads,
      valueHeads: problem.valueHeads, keyChannels: problem.stateRows,
      valueChannels: problem.valueChannels)
  }

  private func linear(_ problem: LinearAttentionCase) -> LinearAttentionOutput {
    var options = LinearAttentionOptions()
    func values(_ input: LinearAttentionCase.Input) -> [Double]? {
      problem.inputs[input]?.doubles()
    }
    options.scale = problem.scale ?? 1 / Double(problem.keyChannels).squareRoot()
    options.headDecay = values(.decay)
    if let gate = problem.inputs[.gate] {
      if gate.shape.count == 4 {
        options.keyDecay = gate.doubles()
      } else {
        options.decay = gate.doubles()
      }
    }
    options.valueDecay = values(.valueGate)
    options.erases = problem.rule == .delta
    options.beta = values(.beta)
    options.eraseKeys = values(.eraseKeys)
    options.eraseGates = values(.eraseGates)
    options.writeGates = values(.writeGates)
    if let a = values(.lowRankA), let b = values(.lowRankB) {
      options.lowRank = .init(a: a, b: b)
    }
    options.readsBeforeUpdate = problem.read == .before
    options.bonus = values(.bonus)
    options.normalizer = problem.normalize ? .sum(epsilon: 1e-10) : .none
    options.causal = problem.causal
    options.initialState = values(.initialState)
    options.starts = problem.inputs[.starts]?.integers()
    options.sequenceIDs = problem.inputs[.sequenceIDs]?.integers()
    let map: FeatureMap =
      switch problem.feature {
      case .none: .identity
      case .relu: .relu
      case .elu1: .eluPlusOne
      case .taylor2: .taylor2
      case .softmax: .softmax
      }
    func mapped(_ tensor: CaseTensor) -> [Double] {
      map.mapped(tensor.doubles(), heads: problem.keyHeads, channels: problem.keyChannels)
    }
    return linearAttention(
      q: mapped(problem.q), k: mapped(problem.k), v: problem.v.doubles(),
      dimensions: dimensions(problem), options: options)
  }

  private func stateSpace(_ problem: LinearAttentionCase) -> LinearAttentionOutput {
    var options = StateSpaceOptions()
    options.skip = problem.inputs[.skip]?.doubles()
    options.outputGate = problem.inputs[.outputGate]?.doubles()
    options.timeStepBias = problem.inputs[.timeStepBias]?.doubles()
    options.appliesSoftplus = problem.appliesSoftplus
    options.initialState = problem.inputs[.initialState]?.doubles()
    options.starts = problem.inputs[.starts]?.integers()
    options.sequenceIDs = problem.inputs[.sequenceIDs]?.integers()
    return stateSpaceDuality(
      x: problem.v.doubles(), dt: problem.inputs[.gate]?.doubles() ?? [],
      a: problem.inputs[.rate]?.doubles() ?? [], b: problem.k.doubles(), c: problem.q.doubles(),
      dimensions: dimensions(problem), options: options)
  }
}
