import AttentionReference
import TestSupport
import Testing

@testable import VulkanAttention

/// A model whose state decays as a whole, with tensors of 16 bits.
enum WholeStateModel: String, Sendable, CaseIterable {
  case linearAttention, normalizedLinearAttention, retNet, normalizedRetNet, lightning, simpleGLA
  case gatedUpdates, mamba2

  var operands: Set<LinearAttentionOperand> {
    switch self {
    case .linearAttention, .normalizedLinearAttention: []
    case .retNet, .normalizedRetNet, .lightning: [.headDecay]
    case .simpleGLA: [.decay]
    case .gatedUpdates: [.decay, .beta, .headDecay]
    case .mamba2: [.timeStep, .rate, .timeStepBias, .skip, .outputGate]
    }
  }

  var normalizer: LinearAttentionNormalizer {
    switch self {
    case .normalizedLinearAttention: .sum(epsilon: 0.1)
    case .normalizedRetNet: .retention
    default: .none
    }
  }

  /// H = 2 heads of v over one of q and k, whose sizes fill no fragment.
  func problem(
    tokens: Int, type: ElementType = .f16, output: ElementType? = nil, sequences: Int? = nil,
    slots: Int? = nil, more: Set<LinearAttentionOperand> = []
  ) throws -> LinearProblem {
    var states: Set<LinearAttentionOperand> = [.initialState, .finalState]
    if normalizer != .none { states.formUnion([.initialSum, .finalSum]) }
    let request = try LinearAttentionRequest(
      tokens: tokens, keyHeads: 1, valueHeads: 2, keyHeadSize: 24, valueHeadSize: 40,
      elementType: type, outputType: output, scale: self == .mamba2 ? 1 : nil,
      appliesSoftplus: self == .mamba2, normalizer: normalizer, packedSequences: sequences,
      stateCount: slots, operands: operands.union(states).union(more))
    var problem = LinearProblem(request)
    if self == .retNet || self == .normalizedRetNet {
      problem.numbers[.headDecay] = try LinearAttentionDecays.retention(heads: 2)
    } else if self == .lightning {
      problem.numbers[.headDecay] = try LinearAttentionDecays.lightning(
        heads: 2, layer: 0, layers: 80)
    }
    if normalizer != .none {
      problem.q = problem.q.map(abs)
      problem.k = problem.k.map(abs)
    }
    return problem.rounded()
  }
}

extension LinearProblem {
  /// The reference's answer, time steps and all.
  func modelReference() -> LinearAttentionOutput {
    guard request.operands.contains(.timeStep) else { return reference() }
    func values(_ operand: LinearAttentionOperand) -> [Double] {
      (numbers[operand] ?? []).map(Double.init)
    }
    var options = StateSpaceOptions()
    options.skip = values(.skip)
    options.outputGate = values(.outputGate)
    options.timeStepBias = values(.timeStepBias)
    options.appliesSoftplus = request.appliesSoftplus
    options.initialState = values(.initialState)
    options.starts = integers[.sequenceStarts]?.map { Int($0) }
    options.sequenceIDs = integers[.sequenceIDs]?.map { Int($0) }
    return stateSpaceDuality(
      x: v.map(Double.init), dt: values(.timeStep), a: values(.rate), b: k.map(Double.init),
      c: q.map(Double.init),
      dimensions: LinearAttentionDimensions(
        batch: request.batchSize, tokens: request.tokens, keyHeads: request.keyHeads,
        valueHeads: request.valueHeads, keyChannels: request.keyHeadSize,
        valueChannels: request.valueHeadSize),
      options: options)
  }

  /// Some tokens of one sequence, of every tensor that has tokens.
  func tokens(_ range: Range<Int>, _ request: LinearAttentionRequest) -> LinearProblem {
    func part(_ values: [Float]) -> [Float] {
      let width = values.count / self.request.tokens
      return Array(values[range.lowerBound * width..<range.upperBound * width])
    }
    var problem = self
    problem.request = request
    (problem.q, problem.k, problem.v) = (part(q), part(k), part(v))
    for operand in numbers.keys where request.view(of: operand) != nil {
      problem.numbers[operand] = numbers[operand].map(part)
    }
    return problem
  }
}

/// The chunked form on matrix units against the reference, and against itself.
@Suite(.serialized, .timeLimit(.minutes(20)), .needsDevice, .silentValidation)
struct LinearMatrixTests {
  let device: ComputeDevice

  init() throws {
    device = try TestDevice.shared()
  }

  /// The device's own fragments, and those that most GPUs have.
  private static let fragments: [AttentionTileChoice] = [
    .tuned, .fragment(m: 16, n: 16, k: 16),
  ]

  private func plan(
    _ request: LinearAttentionRequest, _ fragment: AttentionTileChoice = .tuned,
    bounds: ((inout LinearAttentionPlan.Bounds) -> Void)? = nil
  ) throws -> LinearAttentionPlan {
    var own = LinearAttentionPlan.Bounds(device.capabilities)
    bounds?(&own)
    if case .failure(let refusal) = AttentionPlan.matrixFragment(on: device.capabilities, fragment)
    {
      try Test.cancel("\(refusal.reason)")
    }
    return try LinearAttentionPlan(
      request, device: device.capabilities, form: nil, path: .matrix, fragment: fragment,
      bounds: own)
  }

  /// Errors that rounding an output to f16 explains, and for what stays in f32.
  private func expectReference(
    _ result: LinearResult, _ problem: LinearProblem, _ what: String,
    sourceLocation: SourceLocation = #_sourceLocation
  ) {
    let expected = problem.modelReference()
    let gate =
      switch problem.request.outputType {
      case .f32: 2e-6
      case .f16: 6e-4
      case .bf16: 3e-3
      }
    expectClose(
      result.o, to: expected.o, within: gate, "\(what): o", sourceLocation: sourceLocation)
    expectClose(
      result.state, to: expected.state, within: 2e-6, "\(what): state",
      sourceLocation: sourceLocation)
    if problem.request.operands.contains(.finalSum) {
      expectClose(
        result.sum, to: expected.sum, within: 2e-6, "\(what): sum", sourceLocation: sourceLocation)
    }
  }

  @Test(arguments: WholeStateModel.allCases, fragments.indices)
  func models(_ model: WholeStateModel, _ fragment: Int) async throws {
    if fragment > 0, model != .simpleGLA, model != .mamba2, !runsFullTests {
      try Test.cancel("\(model) on larger fragments takes VKATTN_FULL_TESTS=1")
    }
    for tokens in [1, 15, 63, 64, 65, 300] {
      let problem = try model.problem(tokens: tokens)
      let plan = try plan(problem.request, Self.fragments[fragment])
      #expect(plan.path == .matrix && plan.form == .chunk)
      expectReference(
        try await problem.run(plan, on: device), problem, "\(model), \(tokens) tokens")
    }
  }

  /// Where o is f32, second products have what rounding to f16 takes.
  @Test(arguments: [(WholeStateModel.lightning, 0), (.mamba2, 1)])
  func singlePrecisionOutputs(_ model: WholeStateModel, _ fragment: Int) async throws {
    let problem = try model.problem(tokens: 130, output: .f32)
    expectReference(
      try await problem.run(plan(problem.request, Self.fragments[fragment]), on: device),
      problem, "\(model), f32")
  }

  /// bf16 has the range that f16 lacks: chunks of any size are multiplied to fit, and their products back.
  @Test(arguments: [Float(1), 0x1p-20, 0x1p16])
  func brainFloats(_ magnitude: Float) async throws {
    for (model, output) in [(WholeStateModel.linearAttention, ElementType.f32), (.mamba2, .bf16)] {
      var problem = try model.problem(tokens: 140, type: .bf16, output: output)
      // q and k as far off as v, and not the same in all chunks.
      problem.k = problem.k.enumerated().map { $1 * ($0 / 24 < 70 ? magnitude : 1) }
      problem.v = problem.v.enumerated().map { $1 * ($0 / 80 < 70 ? 1 : magnitude) }
      problem.q = problem.q.map { $0 / magnitude }
      problem.numbers[.initialState] = problem.numbers[.initialState]?.map { $0 * magnitude }
      problem = problem.rounded()
      expectReference(
        try await problem.run(plan(problem.request), on: device), problem,
        "\(model), \(output), \(magnitude)")
    }
  }

  /// Larger states than a subgroup's rows, several tiles of columns, batches and rows that are not aligned.
  @Test(arguments: [(16, 16, 1), (64, 64, 2), (128, 128, 1), (256, 72, 1), (7, 9, 2)])
  func sizes(_ keys: Int, _ values: Int, _ batch: Int) async throws {
    let request = try LinearAttentionRequest(
      batchSize: batch, tokens: 100, keyHeads: 1, valueHeads: 2, keyHeadSize: keys,
      valueHeadSize: values, elementType: .f16,
      operands: [.decay, .initialState, .finalState])
    let problem = LinearProblem(request).rounded()
    expectReference(
      try await problem.run(plan(request), on: device), problem, "K=\(keys) V=\(values)")
  }

  /// A prefill is the same whether it is one or two, wherever it is cut.
  @Test(arguments: [WholeStateModel.lightning, .mamba2])
  func splitAnywhere(_ model: WholeStateModel) async throws {
    let whole = try model.problem(tokens: 150)
    let plan = try plan(whole.request)
    let expected = try await whole.run(plan, on: device)
    for cut in [1, 31, 64, 65, 128, 149] {
      let first = whole.tokens(0..<cut, try model.problem(tokens: cut).request)
      let start = try await first.run(self.plan(first.request), on: device)
      var second = whole.tokens(cut..<150, try model.problem(tokens: 150 - cut).request)
      second.numbers[.initialState] = start.state
      let rest = try await second.run(self.plan(second.request), on: device)
      expectClose(
        start.o + rest.o, to: expected.o.map(Double.init), within: 6e-4, "o, cut at \(cut)")
      expectClose(
        rest.state, to: expected.state.map(Double.init), within: 2e-6, "state, cut at \(cut)")
    }
    // Where chunks end anyway, all bits are the same.
    let size = plan.tile.blockRows
    let pieces = try self.plan(whole.request) { $0.operations = 6 * 24 * 40 * 2 * Double(size) }
    #expect(pieces.pieceCount == ceilingDivide(150, size))
    let cut = try await whole.run(pieces, on: device)
    expectSameBits(cut.o, expected.o, "o of pieces")
    expectSameBits(cut.state, expected.state, "state of pieces")
  }

  /// A prefill by matrices and steps token by token are a longer prefill.
  @Test func prefillThenSteps() async throws {
    let whole = try WholeStateModel.mamba2.problem(tokens: 70)
    let prefill = whole.tokens(0..<66, try WholeStateModel.mamba2.problem(tokens: 66).request)
    let first = try await prefill.run(plan(prefill.request), on: device)
    var steps = whole.tokens(66..<70, try WholeStateModel.mamba2.problem(tokens: 4).request)
    steps.numbers[.initialState] = first.state
    let rest = try await steps.run(
      LinearWay.recurrentRow.plan(steps.request, on: device.capabilities), on: device)
    expectReference(
      LinearResult(o: first.o + rest.o, state: rest.state, sum: [], snapshots: []), whole, "steps")
  }

  /// Sequences behind one another are problems of their own; what is around them may be NaN.
  @Test(arguments: [WholeStateModel.linearAttention, .simpleGLA, .mamba2])
  func packed(_ model: WholeStateModel) async throws {
    var problem = try model.problem(tokens: 220, sequences: 5)
    problem.integers[.sequenceStarts] = [1, 4, 4, 70, 200, 217]
    let expected = problem.modelReference()
    for token in [0, 217, 218, 219] {
      for channel in 0..<24 {
        problem.q[token * 24 + channel] = .nan
        problem.k[token * 24 + channel] = .nan
      }
      for channel in 0..<80 { problem.v[token * 80 + channel] = .nan }
    }
    let result = try await problem.run(plan(problem.request), on: device)
    expectClose(
      Array(result.o[80..<217 * 80]), to: Array(expected.o[80..<217 * 80]), within: 6e-4, "o")
    expectClose(result.state, to: expected.state, within: 2e-6, "state")
    let isRestNaN = (Array(result.o[..<80]) + Array(result.o[(217 * 80)...])).allSatisfy {
      $0.isNaN
    }
    #expect(isRestNaN)
    // One of them alone, in the same chunks.
    let state = 24 * 40 * 2
    var alone = problem.tokens(70..<200, try model.problem(tokens: 130).request)
    alone.numbers[.initialState] = Array(
      problem.numbers[.initialState]?[3 * state..<4 * state] ?? [])
    let separate = try await alone.run(plan(alone.request), on: device)
    expectSameBits(separate.o, Array(result.o[70 * 80..<200 * 80]), "o of a sequence alone")
    expectSameBits(
      separate.state, Array(result.state[3 * state..<4 * state]), "state of a sequence alone")
  }

  /// Documents are cleared apart, and decays of −∞ and nearly so clear exactly.
  @Test(arguments: [Float(-1e30), -Float.infinity, -200, -80])
  func resets(_ logarithm: Float) async throws {
    var problem = try WholeStateModel.simpleGLA.problem(
      tokens: 150, output: .f32, more: [.sequenceIDs])
    problem.integers[.sequenceIDs] = (0..<150).map { $0 < 5 ? 3 : $0 < 70 ? 1 : 2 }
    for index in stride(from: 0, to: 300, by: 37) { problem.numbers[.decay]?[index] = logarithm }
    expectReference(
      try await problem.run(plan(problem.request), on: device), problem, "resets \(logarithm)")
    var constant = try WholeStateModel.lightning.problem(tokens: 70, output: .f32)
    constant.numbers[.headDecay] = [logarithm, -1]
    expectReference(
      try await constant.run(plan(constant.request), on: device), constant, "head \(logarithm)")
  }

  /// Decays so strong that the sums of their logarithms have few digits left.
  @Test func strongDecays() async throws {
    var problem = try WholeStateModel.simpleGLA.problem(tokens: 200, output: .f32)
    problem.numbers[.decay] = problem.numbers[.decay]?.enumerated().map { index, value in
      index % 7 < 4 ? 60 * value : 0.01 * value
    }
    expectReference(try await problem.run(plan(problem.request), on: device), problem, "strong")
  }

  /// Scores, states and weighted values that f16 cannot hold, and ones that it holds badly.
  @Test(arguments: [
    (Float(300), Float(300), Float(2000)), (0x1p-11, 0x1p-11, 0x1p-11), (1, 1, 0x1p-12),
  ])
  func magnitudes(_ q: Float, _ k: Float, _ v: Float) async throws {
    for model in [WholeStateModel.linearAttention, .gatedUpdates] {
      var problem = try model.problem(tokens: 140, output: .f32)
      problem.q = problem.q.map { $0 * q }
      problem.k = problem.k.map { $0 * k }
      problem.v = problem.v.map { $0 * v }
      problem.numbers[.initialState] = problem.numbers[.initialState]?.map { $0 * k * v }
      problem.numbers[.beta] = problem.numbers[.beta]?.map { $0 * 50 }
      problem = problem.rounded()
      expectReference(
        try await problem.run(plan(problem.request), on: device), problem,
        "\(model), \(q) \(k) \(v)")
    }
  }

  /// Sequences name the slots of their states, some none; in place.
  @Test func slots() async throws {
    var problem = try WholeStateModel.simpleGLA.problem(
      tokens: 100, sequences: 3, slots: 5, more: [.stateSlots])
    problem.integers[.sequenceStarts] = [0, 7, 12, 100]
    problem.integers[.stateSlots] = [4, -1, 0]
    let result = try await problem.run(plan(problem.request), on: device, inPlace: true)
    let initial = problem.numbers[.initialState] ?? []
    let size = initial.count / 5
    var own = problem
    own.numbers[.initialState] =
      Array(initial[(4 * size)...]) + [Float](repeating: 0, count: size) + Array(initial[..<size])
    let expected = own.reference()
    expectClose(result.o, to: expected.o, within: 6e-4, "o")
    expectClose(
      Array(result.state[(4 * size)...]), to: Array(expected.state[..<size]), within: 2e-6,
      "slot 4")
    expectClose(
      Array(result.state[..<size]), to: Array(expected.state[(2 * size)...]), within: 2e-6,
      "slot 0")
    expectSameBits(
      Array(result.state[size..<4 * size]), Array(initial[size..<4 * size]), "other slots")
  }

  @Test func notCausal() async throws {
    let request = try LinearAttentionRequest(
      tokens: 100, keyHeads: 1, valueHeads: 2, keyHeadSize: 24, valueHeadSize: 40,
      elementType: .f16, isCausal: false, normalizer: .sum(epsilon: 0.1), operands: [.decay])
    var problem = LinearProblem(request).rounded()
    (problem.q, problem.k) = (problem.q.map(abs), problem.k.map(abs))
    let result = try await problem.run(plan(request), on: device)
    expectClose(result.o, to: problem.reference().o, within: 6e-4, "not causal")
  }

  /// Parts of a sequence side by side, of several lengths.
  @Test(arguments: [WholeStateModel.normalizedRetNet, .mamba2, .linearAttention])
  func parts(_ model: WholeStateModel) async throws {
    for tokensPerPart in [1, 70] {
      var problem = try model.problem(tokens: 450, output: .f32, sequences: 2)
      problem.integers[.sequenceStarts] = [0, 50, 450]
      let plan = try plan(problem.request) {
        ($0.workgroups, $0.tokensPerPart) = (64, tokensPerPart)
      }
      #expect(plan.partCount > 1)
      expectReference(
        try await problem.run(plan, on: device), problem, "\(model), \(plan.partCount) parts")
    }
  }

  /// No token sees a later one, whatever that holds, and not the columns of v beside its own.
  @Test(arguments: fragments.indices, [Float.nan, .infinity])
  func causality(_ fragment: Int, _ bad: Float) async throws {
    for model in [WholeStateModel.linearAttention, .mamba2] {
      let clean = try model.problem(tokens: 140)
      let plan = try plan(clean.request, Self.fragments[fragment])
      let expected = try await clean.run(plan, on: device).o
      for first in [13, 77] {
        var problem = clean
        for index in first * 24..<140 * 24 {
          problem.q[index] = bad
          problem.k[index] = bad
        }
        for index in first * 80..<140 * 80 { problem.v[index] = bad }
        let o = try await problem.run(plan, on: device).o
        expectSameBits(
          Array(o[..<(first * 80)]), Array(expected[..<(first * 80)]), "\(model) before \(first)")
        let isLaterBad = o[(first * 80)...].allSatisfy { !$0.isFinite }
        #expect(isLaterBad)
      }
      // One number of v spoils its own column from its token on, and no other.
      var problem = clean
      problem.v[70 * 80 + 5] = bad
      let o = try await problem.run(plan, on: device).o
      let differs = o.indices.filter { o[$0].bitPattern != expected[$0].bitPattern }
      #expect(differs == (70..<140).map { $0 * 80 + 5 })
      let isSpoilt = differs.allSatisfy { bad.isNaN ? o[$0].isNaN : !o[$0].isFinite }
      #expect(isSpoilt)
      // A query is its own row's affair.
      problem = clean
      problem.q[70 * 24 + 5] = bad
      let rows = try await problem.run(plan, on: device).o
      let spoilt = rows.indices.filter { rows[$0].bitPattern != expected[$0].bitPattern }
      #expect(spoilt == Array(70 * 80..<71 * 80))
    }
  }
}
