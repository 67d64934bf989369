import AttentionReference
import TestSupport
import Testing

@testable import VulkanAttention

/// A model whose blocks are prepared for the matrix units, with tensors of 16 bits.
enum PreparedModel: String, Sendable, CaseIterable {
  case gla, normalizedGLA, rwkv6, delta, gatedDelta, deltaProduct, kda, comba, gatedDelta2, rwkv7

  var operands: Set<LinearAttentionOperand> {
    switch self {
    case .gla, .normalizedGLA: [.keyDecay]
    case .rwkv6: [.keyDecay, .bonus]
    case .delta: [.beta]
    case .gatedDelta: [.beta, .decay]
    case .deltaProduct: [.beta, .decay, .headDecay]
    case .kda: [.beta, .keyDecay]
    case .comba: [.beta, .decay, .eraseKeys]
    case .gatedDelta2: [.keyDecay, .eraseGates, .writeGates]
    case .rwkv7: [.keyDecay, .lowRankA, .lowRankB]
    }
  }

  var erases: Bool {
    ![.gla, .normalizedGLA, .rwkv6, .rwkv7].contains(self)
  }

  /// H = 2 heads of v over one of q and k, whose sizes fill no fragment.
  func problem(
    tokens: Int, type: ElementType = .f16, output: ElementType? = nil, sequences: Int? = nil,
    slots: Int? = nil, keys: Int = 24, values: Int = 40, batch: Int = 1,
    more: Set<LinearAttentionOperand> = []
  ) throws -> LinearProblem {
    var operands = operands.union([.initialState, .finalState]).union(more)
    if self == .normalizedGLA { operands.formUnion([.initialSum, .finalSum]) }
    let request = try LinearAttentionRequest(
      batchSize: batch, tokens: tokens, keyHeads: 1, valueHeads: 2, keyHeadSize: keys,
      valueHeadSize: values, updatesPerToken: self == .deltaProduct ? 3 : 1, elementType: type,
      outputType: output, erases: erases, readsBeforeUpdate: self == .rwkv6,
      normalizer: self == .normalizedGLA ? .sum(epsilon: 0.1) : .none,
      packedSequences: sequences, stateCount: slots, operands: operands)
    var problem = LinearProblem(request)
    if self == .normalizedGLA {
      problem.q = problem.q.map(abs)
      problem.k = problem.k.map(abs)
    }
    return problem.rounded()
  }
}

/// The chunked form on matrix units by prepared blocks against the reference, and against itself.
@Suite(.serialized, .timeLimit(.minutes(30)), .needsDevice, .silentValidation)
struct LinearMatrixBlockTests {
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

  /// Errors that rounding o, A and S to f16 explains, and for what stays in f32.
  private func expectReference(
    _ result: LinearResult, _ problem: LinearProblem, _ what: String,
    sourceLocation: SourceLocation = #_sourceLocation
  ) {
    let expected = problem.reference()
    let gate =
      switch problem.request.outputType {
      case .f32: 3e-6
      case .f16: 7e-4
      case .bf16: 3e-3
      }
    expectClose(
      result.o, to: expected.o, within: gate, "\(what): o", sourceLocation: sourceLocation)
    expectClose(
      result.state, to: expected.state, within: 3e-6, "\(what): state",
      sourceLocation: sourceLocation)
    if problem.request.operands.contains(.finalSum) {
      expectClose(
        result.sum, to: expected.sum, within: 3e-6, "\(what): sum", sourceLocation: sourceLocation)
    }
  }

  @Test(arguments: PreparedModel.allCases)
  func models(_ model: PreparedModel) async throws {
    for tokens in [1, 2, 15, 63, 64, 65, 300] {
      let problem = try model.problem(tokens: tokens)
      let plan = try plan(problem.request)
      #expect(plan.path == .matrix && plan.form == .chunk)
      #expect(plan.tile.matrix?.shaders.prepare != nil)
      let result = try await problem.run(plan, on: device)
      expectReference(result, problem, "\(model), \(tokens) tokens")
    }
  }

  /// Fragments of 16×16×16.
  @Test(arguments: PreparedModel.allCases)
  func largeFragments(_ model: PreparedModel) async throws {
    if ![.gla, .kda].contains(model), !runsFullTests {
      try Test.cancel("\(model) on larger fragments takes VKATTN_FULL_TESTS=1")
    }
    for tokens in [2, 64, 100] {
      let problem = try model.problem(tokens: tokens)
      expectReference(
        try await problem.run(plan(problem.request, Self.fragments[1]), on: device), problem,
        "\(model), \(tokens) tokens")
    }
  }

  /// Blocks of 32 rows, which devices with little shared memory get.
  @Test(arguments: [PreparedModel.gla, .kda])
  func shortBlocks(_ model: PreparedModel) async throws {
    for tokens in [1, 31, 32, 33, 100] {
      let problem = try model.problem(tokens: tokens)
      var small = device.capabilities
      small.maxSharedBytes = 16 << 10
      _ = try plan(problem.request)
      let plan = try LinearAttentionPlan(problem.request, device: small, path: .matrix)
      #expect(plan.tile.blockRows == 32)
      expectReference(
        try await problem.run(plan, on: device), problem, "\(model), \(tokens) tokens, 32 rows")
    }
  }

  /// Where o is f32, second products have what rounding to f16 takes.
  @Test(arguments: [(PreparedModel.gla, 0), (.rwkv6, 0), (.kda, 0), (.gatedDelta2, 1)])
  func singlePrecisionOutputs(_ model: PreparedModel, _ fragment: Int) async throws {
    if fragment > 0, !runsFullTests {
      try Test.cancel("f32 on larger fragments takes VKATTN_FULL_TESTS=1")
    }
    let problem = try model.problem(tokens: 130, output: .f32)
    expectReference(
      try await problem.run(plan(problem.request, Self.fragments[fragment]), on: device),
      problem, "\(model), f32")
  }

  /// bf16 has the range that f16 lacks: blocks of any size are multiplied to fit, and their products back.
  @Test(arguments: [Float(1), 0x1p-20, 0x1p16])
  func brainFloats(_ magnitude: Float) async throws {
    for (model, output) in [(PreparedModel.gla, ElementType.f32), (.kda, .bf16)] {
      var problem = try model.problem(tokens: 140, type: .bf16, output: output)
      // v and q as far off as each other, and not the same in all blocks; keys of a delta rule have length 1.
      if model == .gla { problem.k = problem.k.map { $0 * magnitude } }
      problem.v = problem.v.enumerated().map { $1 * ($0 / 80 < 70 ? 1 : magnitude) }
      problem.q = problem.q.map { $0 / magnitude }
      problem = problem.rounded()
      expectReference(
        try await problem.run(plan(problem.request), on: device), problem,
        "\(model), \(output), \(magnitude)")
    }
  }

  /// Larger states than a subgroup's rows, several tiles of columns, batches and rows that are not aligned.
  @Test(arguments: [(16, 16, 1), (64, 64, 2), (128, 128, 1), (256, 72, 1), (7, 9, 2)])
  func sizes(_ keys: Int, _ values: Int, _ batch: Int) async throws {
    let problem = try PreparedModel.kda.problem(
      tokens: 100, keys: keys, values: values, batch: batch)
    expectReference(
      try await problem.run(plan(problem.request), on: device), problem, "K=\(keys) V=\(values)")
  }

  /// A prefill is the same whether it is one or two, wherever it is cut.
  @Test(arguments: [PreparedModel.gla, .kda, .deltaProduct, .rwkv7])
  func splitAnywhere(_ model: PreparedModel) async throws {
    let whole = try model.problem(tokens: 150)
    let plan = try plan(whole.request)
    let expected = try await whole.run(plan, on: device)
    for cut in [1, 31, 64, 149] {
      let first = whole.tokens(0..<cut, try model.problem(tokens: cut).request)
      let start = try await first.run(self.plan(first.request), on: device)
      var second = whole.tokens(cut..<150, try model.problem(tokens: 150 - cut).request)
      second.numbers[.initialState] = start.state
      let rest = try await second.run(self.plan(second.request), on: device)
      expectClose(
        start.o + rest.o, to: expected.o.map(Double.init), within: 6e-4, "o, cut at \(cut)")
      expectClose(
        rest.state, to: expected.state.map(Double.init), within: 3e-6, "state, cut at \(cut)")
    }
    // Where blocks end anyway, all bits are the same.
    let size = plan.tile.blockRows
    let pieces = try self.plan(whole.request) { $0.operations = 1 }
    #expect(pieces.pieceCount >= ceilingDivide(150, size))
    let cut = try await whole.run(pieces, on: device)
    expectSameBits(cut.o, expected.o, "o of pieces")
    expectSameBits(cut.state, expected.state, "state of pieces")
  }

  /// A prefill by matrices and steps token by token are a longer prefill.
  @Test(arguments: [PreparedModel.kda, .rwkv6])
  func prefillThenSteps(_ model: PreparedModel) async throws {
    let whole = try model.problem(tokens: 70)
    let prefill = whole.tokens(0..<66, try model.problem(tokens: 66).request)
    let first = try await prefill.run(plan(prefill.request), on: device)
    var steps = whole.tokens(66..<70, try model.problem(tokens: 4).request)
    steps.numbers[.initialState] = first.state
    let rest = try await steps.run(
      LinearWay.recurrentRow.plan(steps.request, on: device.capabilities), on: device)
    expectReference(
      LinearResult(o: first.o + rest.o, state: rest.state, sum: [], snapshots: []), whole, "steps")
  }

  /// Sequences behind one another are problems of their own; what is around them may be NaN.
  @Test(arguments: [PreparedModel.gla, .rwkv6, .kda, .gatedDelta2])
  func packed(_ model: PreparedModel) async throws {
    var problem = try model.problem(tokens: 220, sequences: 5)
    problem.integers[.sequenceStarts] = [1, 4, 4, 70, 200, 217]
    let expected = problem.reference()
    for token in [0, 217, 218, 219] {
      for channel in 0..<24 {
        problem.q[token * 24 + channel] = .nan
        problem.k[token * 24 + channel] = .nan
      }
      for channel in 0..<80 { problem.v[token * 80 + channel] = .nan }
      for operand in problem.numbers.keys {
        guard let view = problem.request.view(of: operand) else { continue }
        let width = view.heads * view.channels
        for channel in 0..<width { problem.numbers[operand]?[token * width + channel] = .nan }
      }
    }
    let result = try await problem.run(plan(problem.request), on: device)
    expectClose(
      Array(result.o[80..<217 * 80]), to: Array(expected.o[80..<217 * 80]), within: 6e-4, "o")
    expectClose(result.state, to: expected.state, within: 3e-6, "state")
    let isRestNaN = (Array(result.o[..<80]) + Array(result.o[(217 * 80)...])).allSatisfy {
      $0.isNaN
    }
    #expect(isRestNaN)
    // One of them alone, in the same blocks.
    let state = 24 * 40 * 2
    var alone = problem.tokens(70..<200, try model.problem(tokens: 130).request)
    alone.numbers[.initialState] = Array(
      problem.numbers[.initialState]?[3 * state..<4 * state] ?? [])
    let separate = try await alone.run(plan(alone.request), on: device)
    expectSameBits(separate.o, Array(result.o[70 * 80..<200 * 80]), "o of a sequence alone")
    expectSameBits(
      separate.state, Array(result.state[3 * state..<4 * state]), "state of a sequence alone")
  }

  /// Documents are cleared apart, decays of −∞ and nearly so clear exactly, and strong ones do no harm.
  @Test(arguments: [Float(-1e30), -Float.infinity, -200, -50])
  func resets(_ logarithm: Float) async throws {
    for model in [PreparedModel.gla, .kda] {
      var problem = try model.problem(tokens: 150, output: .f32, more: [.sequenceIDs])
      problem.integers[.sequenceIDs] = (0..<150).map { $0 < 5 ? 3 : $0 < 70 ? 1 : 2 }
      // Whole tokens, single channels, and four tokens in a row.
      for index in 0..<150 * 48 where index / 48 % 37 == 9 || index % 11 == 0 || index / 48 / 4 == 5
      {
        problem.numbers[.keyDecay]?[index] = logarithm
      }
      expectReference(
        try await problem.run(plan(problem.request), on: device), problem,
        "\(model), resets \(logarithm)")
    }
  }

  /// Decays so strong that no power of them from a block's start to a row can be divided by another.
  @Test func strongDecays() async throws {
    for model in [PreparedModel.gla, .kda, .rwkv7] {
      var problem = try model.problem(tokens: 200, output: .f32)
      problem.numbers[.keyDecay] = problem.numbers[.keyDecay]?.enumerated().map { index, value in
        index / 48 % 7 < 4 || index % 3 == 0 ? 50 * value : 0.01 * value
      }
      expectReference(
        try await problem.run(plan(problem.request), on: device), problem, "\(model), strong")
    }
  }

  /// Rows, states and values that f16 cannot hold, and ones that it holds badly.
  @Test(arguments: [
    (Float(300), Float(300), Float(2000)), (0x1p-11, 0x1p-11, 0x1p-11), (1, 1, 0x1p-12),
  ])
  func magnitudes(_ q: Float, _ k: Float, _ v: Float) async throws {
    for model in [PreparedModel.gla, .gatedDelta2] {
      var problem = try model.problem(tokens: 140, output: .f32)
      problem.q = problem.q.map { $0 * q }
      problem.v = problem.v.map { $0 * v }
      // The delta rule's own keys stay bounded.
      let key = model == .gla ? k : 1
      problem.k = problem.k.map { $0 * key }
      problem.numbers[.initialState] = problem.numbers[.initialState]?.map { $0 * key * v }
      problem = problem.rounded()
      expectReference(
        try await problem.run(plan(problem.request), on: device), problem,
        "\(model), \(q) \(k) \(v)")
    }
  }

  /// Sequences name the slots of their states, some none; in place.
  @Test func slots() async throws {
    var problem = try PreparedModel.kda.problem(
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
      Array(result.state[(4 * size)...]), to: Array(expected.state[..<size]), within: 3e-6,
      "slot 4")
    expectClose(
      Array(result.state[..<size]), to: Array(expected.state[(2 * size)...]), within: 3e-6,
      "slot 0")
    expectSameBits(
      Array(result.state[size..<4 * size]), Array(initial[size..<4 * size]), "other slots")
  }

  @Test func notCausal() async throws {
    let request = try LinearAttentionRequest(
      tokens: 100, keyHeads: 1, valueHeads: 2, keyHeadSize: 24, valueHeadSize: 40,
      elementType: .f16, isCausal: false, normalizer: .sum(epsilon: 0.1), operands: [.keyDecay])
    var problem = LinearProblem(request).rounded()
    (problem.q, problem.k) = (problem.q.map(abs), problem.k.map(abs))
    let result = try await problem.run(plan(request), on: device)
    expectClose(result.o, to: problem.reference().o, within: 6e-4, "not causal")
    let erasing = try LinearAttentionRequest(
      tokens: 100, keyHeads: 1, valueHeads: 2, keyHeadSize: 24, valueHeadSize: 40,
      elementType: .f16, erases: true, isCausal: false, operands: [.beta, .keyDecay])
    problem = LinearProblem(erasing).rounded()
    expectClose(
      try await problem.run(plan(erasing), on: device).o, to: problem.reference().o, within: 6e-4,
      "not causal, erasing")
  }

  /// Parts of a sequence side by side, of several lengths; with the delta rule a sequence is one.
  @Test(arguments: [PreparedModel.gla, .normalizedGLA])
  func parts(_ model: PreparedModel) async throws {
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
    let erasing = try PreparedModel.kda.problem(tokens: 450).request
    let plan = try plan(erasing) { ($0.workgroups, $0.tokensPerPart) = (64, 1) }
    #expect(plan.partCount == 1)
  }

  /// No token sees a later one, whatever that holds, and not the columns of v beside its own.
  @Test(arguments: fragments.indices, [Float.nan, .infinity])
  func causality(_ fragment: Int, _ bad: Float) async throws {
    for model in [PreparedModel.gla, .kda] {
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
      let isSpoilt = differs.allSatisfy { !o[$0].isFinite }
      #expect(isSpoilt)
      // A query is its own row's affair, and a key that of the rows from its own on.
      problem = clean
      problem.q[70 * 24 + 5] = bad
      let rows = try await problem.run(plan, on: device).o
      let spoilt = rows.indices.filter { rows[$0].bitPattern != expected[$0].bitPattern }
      #expect(spoilt == Array(70 * 80..<71 * 80))
      problem = clean
      problem.k[70 * 24 + 5] = bad
      let behind = try await problem.run(plan, on: device).o
      expectSameBits(Array(behind[..<(70 * 80)]), Array(expected[..<(70 * 80)]), "before a key")
      let isBehindBad = behind[(70 * 80)...].allSatisfy { !$0.isFinite }
      #expect(isBehindBad)
    }
  }
}
