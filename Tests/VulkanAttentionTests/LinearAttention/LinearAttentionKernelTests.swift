import TestSupport
import Testing

@testable import VulkanAttention

/// Every form on every path against the reference, and against itself.
@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct LinearAttentionKernelTests {
  let device: ComputeDevice

  init() throws {
    device = try TestDevice.shared()
  }

  private func request(
    _ operands: Set<LinearAttentionOperand>, tokens: Int = 21, erases: Bool = false,
    sequences: Int? = nil, slots: Int? = nil, normalizer: LinearAttentionNormalizer = .none,
    isCausal: Bool = true
  ) throws -> LinearAttentionRequest {
    try LinearAttentionRequest(
      tokens: tokens, keyHeads: 1, valueHeads: 2, keyHeadSize: 16, valueHeadSize: 12,
      erases: erases, isCausal: isCausal, normalizer: normalizer, packedSequences: sequences,
      stateCount: slots, operands: operands.union([.finalState]))
  }

  private func expectReference(
    _ result: LinearResult, _ problem: LinearProblem, _ what: String,
    sourceLocation: SourceLocation = #_sourceLocation
  ) {
    let expected = problem.reference()
    expectClose(
      result.o, to: expected.o, within: 1e-5, "\(what): o", sourceLocation: sourceLocation)
    expectClose(
      result.state, to: expected.state, within: 1e-5, "\(what): state",
      sourceLocation: sourceLocation)
  }

  private static let operandSets: [Set<LinearAttentionOperand>] = [
    [], [.headDecay, .initialState], [.decay], [.keyDecay, .initialState], [.valueDecay],
    [.keyDecay, .valueDecay, .decay, .headDecay], [.beta, .writeGates],
  ]

  @Test(arguments: LinearWay.allCases, operandSets.indices)
  func growing(_ way: LinearWay, _ index: Int) async throws {
    let problem = LinearProblem(try request(Self.operandSets[index]))
    let plan = try way.plan(problem.request, on: device.capabilities)
    expectReference(try await problem.run(plan, on: device), problem, "\(Self.operandSets[index])")
  }

  /// Tokens that share a pass over the state: any number of them, and one that clears the state begins another.
  @Test(arguments: 1...9)
  func tokensOfAPass(_ tokens: Int) async throws {
    let sets: [Set<LinearAttentionOperand>] = [
      [.keyDecay, .initialState], [.decay, .initialState, .sequenceIDs],
      [.headDecay, .initialState],
    ]
    for operands in sets {
      for cleared in operands.contains(.keyDecay) ? 0..<1 : 0..<tokens {
        // Wide enough that lanes have two columns each, and some of them none.
        var problem = LinearProblem(
          try LinearAttentionRequest(
            tokens: tokens, keyHeads: 1, valueHeads: 2, keyHeadSize: 20, valueHeadSize: 36,
            operands: operands.union([.finalState])))
        if operands.contains(.sequenceIDs) {
          problem.integers[.sequenceIDs] = (0..<tokens).map { $0 < cleared ? 0 : 1 }
        } else if operands.contains(.decay) {
          problem.numbers[.decay]?[cleared * 2] = -.infinity
        }
        let plan = try LinearWay.recurrentRow.plan(problem.request, on: device.capabilities)
        let result = try await problem.run(plan, on: device)
        expectReference(result, problem, "\(tokens) tokens, cleared at \(cleared): \(operands)")
      }
    }
  }

  /// Decays of one number are put off to a pass's end, as far as values can be divided by them.
  @Test(arguments: [Float](arrayLiteral: -0.01, -9, -13, -14, -27, -40, -90))
  func decaysOfAPass(_ logarithm: Float) async throws {
    for operands: Set<LinearAttentionOperand> in [[.decay], [.headDecay]] {
      var problem = LinearProblem(
        try LinearAttentionRequest(
          tokens: 11, keyHeads: 1, valueHeads: 2, keyHeadSize: 20, valueHeadSize: 36,
          operands: operands.union([.initialState, .finalState])))
      for operand in operands {
        problem.numbers[operand] = problem.numbers[operand]?.map { _ in logarithm }
      }
      let plan = try LinearWay.recurrentRow.plan(problem.request, on: device.capabilities)
      expectReference(try await problem.run(plan, on: device), problem, "\(operands) \(logarithm)")
    }
  }

  /// On a processor q and k of 16 bits become f32 first: heads that share keys, cut anywhere, rows that no whole vectors
  /// make, packed sequences, normalisers.
  @Test(arguments: zip([ElementType.f16, .bf16], [40, 64]))
  func halvesBecomeWide(_ type: ElementType, _ channels: Int) async throws {
    for isPacked in [false, true] {
      var problem = LinearProblem(
        try LinearAttentionRequest(
          batchSize: isPacked ? 1 : 2, tokens: 150, keyHeads: 2, valueHeads: 6,
          keyHeadSize: channels, valueHeadSize: 40, elementType: type, valueType: .f32,
          outputType: .f32, gateType: type, normalizer: .retention,
          packedSequences: isPacked ? 3 : nil,
          operands: [.keyDecay, .initialState, .initialSum, .finalState])
      ).rounded()
      if isPacked { problem.integers[.sequenceStarts] = [0, 70, 71, 150] }
      // Four heads of six, some tokens.
      let plan = try LinearWay.recurrentRow.plan(problem.request, on: device.capabilities) {
        $0.recordBytes = 4 * 64 * channels * 8
      }
      if device.capabilities.kind == .cpu {
        #expect(plan.tile.widensKeys && plan.pieces.contains { $0[0].heads.lowerBound == 4 })
      }
      expectReference(try await problem.run(plan, on: device), problem, "\(isPacked)")
    }
  }

  /// What a pass looks at beside its tokens must not reach the state: the token behind a reset may be anything.
  @Test func nothingOfTheNextSequence() async throws {
    var problem = LinearProblem(
      try LinearAttentionRequest(
        tokens: 8, valueHeads: 1, keyHeadSize: 16, valueHeadSize: 16,
        operands: [.decay, .sequenceIDs, .finalState]))
    problem.integers[.sequenceIDs] = [0, 0, 1, 2, 2, 2, 2, 2]
    // All of sequence 1 is NaN.
    for channel in 2 * 16..<3 * 16 { (problem.k[channel], problem.v[channel]) = (.nan, .nan) }
    let plan = try LinearWay.recurrentRow.plan(problem.request, on: device.capabilities)
    let result = try await problem.run(plan, on: device)
    let expected = problem.reference()
    for token in [0, 1, 3, 4, 5, 6, 7] {
      let own = token * 16..<(token + 1) * 16
      expectClose(
        Array(result.o[own]), to: Array(expected.o[own]), within: 1e-5, "token \(token)")
    }
    expectClose(result.state, to: expected.state, within: 1e-5, "state")
  }

  private static let deltaSets: [Set<LinearAttentionOperand>] = [
    [.beta], [.beta, .decay, .initialState], [.beta, .keyDecay], [.valueDecay, .beta],
    [.eraseKeys, .eraseGates, .writeGates, .beta, .headDecay],
  ]

  @Test(arguments: LinearWay.allCases, deltaSets.indices)
  func erasing(_ way: LinearWay, _ index: Int) async throws {
    let problem = LinearProblem(try request(Self.deltaSets[index], erases: true))
    let plan = try way.plan(problem.request, on: device.capabilities)
    expectReference(try await problem.run(plan, on: device), problem, "\(Self.deltaSets[index])")
  }

  @Test(arguments: LinearWay.allCases)
  func severalUpdates(_ way: LinearWay) async throws {
    let problem = LinearProblem(
      try LinearAttentionRequest(
        tokens: 13, valueHeads: 2, keyHeadSize: 8, valueHeadSize: 12, updatesPerToken: 3,
        erases: true, operands: [.beta, .decay, .finalState, .valueDecay]))
    let plan = try way.plan(problem.request, on: device.capabilities)
    expectReference(try await problem.run(plan, on: device), problem, "three updates")
  }

  @Test(arguments: LinearWay.allCases, [true, false])
  func readingBefore(_ way: LinearWay, _ hasValueDecay: Bool) async throws {
    var operands: Set<LinearAttentionOperand> = [.keyDecay, .bonus, .initialState, .finalState]
    if hasValueDecay { operands.insert(.valueDecay) }
    let problem = LinearProblem(
      try LinearAttentionRequest(
        tokens: 21, valueHeads: 2, keyHeadSize: 8, valueHeadSize: 12, readsBeforeUpdate: true,
        operands: operands))
    let plan = try way.plan(problem.request, on: device.capabilities)
    expectReference(try await problem.run(plan, on: device), problem, "before")
  }

  @Test(arguments: LinearWay.allCases)
  func lowRank(_ way: LinearWay) async throws {
    let problem = LinearProblem(try request([.keyDecay, .lowRankA, .lowRankB, .initialState]))
    let plan = try way.plan(problem.request, on: device.capabilities)
    expectReference(try await problem.run(plan, on: device), problem, "low rank")
  }

  /// A step's invocations own several groups of four columns on a software driver: where all of them are there, pairs
  /// that are loaded as vectors, else the last ones less than all.
  @Test(arguments: [LinearWay.recurrentRow, .recurrentSubgroup], [140, 128, 512])
  func wideStep(_ way: LinearWay, _ columns: Int) async throws {
    let cases: [(erases: Bool, keys: Int, operands: Set<LinearAttentionOperand>)] = [
      (true, 20, [.beta, .decay, .initialState, .finalState, .snapshots]),
      (true, 20, [.beta, .finalState]),
      (false, 18, [.keyDecay, .valueDecay, .initialState, .finalState]),
      (false, 20, [.keyDecay, .lowRankA, .lowRankB, .initialState, .finalState]),
    ]
    for (erases, keys, operands) in cases {
      let problem = LinearProblem(
        try LinearAttentionRequest(
          batchSize: 2, tokens: 1, keyHeads: 1, valueHeads: 2, keyHeadSize: keys,
          valueHeadSize: columns, erases: erases, operands: operands))
      let plan = try way.plan(problem.request, on: device.capabilities)
      let result = try await problem.run(plan, on: device)
      expectReference(result, problem, "a step, \(operands)")
      if operands.contains(.snapshots) {
        expectClose(
          result.snapshots, to: problem.reference().snapshots, within: 1e-5, "snapshots")
      }
    }
  }

  /// A sequence without a token keeps its state, one without a state begins with none.
  @Test(arguments: [LinearWay.recurrentRow, .recurrentSubgroup])
  func stepOfSomeSequences(_ way: LinearWay) async throws {
    var problem = LinearProblem(
      try LinearAttentionRequest(
        tokens: 2, keyHeads: 1, valueHeads: 2, keyHeadSize: 20, valueHeadSize: 128,
        erases: true, packedSequences: 3, longestSequence: 1, stateCount: 4,
        operands: [.beta, .decay, .initialState, .finalState, .stateSlots]))
    problem.integers[.sequenceStarts] = [0, 1, 1, 2]
    problem.integers[.stateSlots] = [2, 3, -1]
    let plan = try way.plan(problem.request, on: device.capabilities)
    let result = try await problem.run(plan, on: device, inPlace: true)
    let initial = problem.numbers[.initialState] ?? []
    let size = initial.count / 4
    var own = problem
    own.numbers[.initialState] = Array(initial[(2 * size)...]) + [Float](repeating: 0, count: size)
    let expected = own.reference()
    expectClose(result.o, to: expected.o, within: 1e-5, "o")
    expectClose(
      Array(result.state[(2 * size)..<(3 * size)]), to: Array(expected.state[..<size]),
      within: 1e-5, "slot 2")
    expectSameBits(
      Array(result.state[..<(2 * size)] + result.state[(3 * size)...]),
      Array(initial[..<(2 * size)] + initial[(3 * size)...]), "other slots")
  }

  /// Rejected drafts are rolled back by taking the state after the last accepted one.
  @Test(arguments: [LinearWay.recurrentRow, .recurrentSubgroup])
  func snapshots(_ way: LinearWay) async throws {
    let problem = LinearProblem(
      try LinearAttentionRequest(
        batchSize: 2, tokens: 5, keyHeads: 1, valueHeads: 2, keyHeadSize: 16, valueHeadSize: 12,
        erases: true, operands: [.beta, .decay, .initialState, .finalState, .snapshots]))
    // Two tokens of a dispatch: states go from one to the next.
    let plan = try way.plan(problem.request, on: device.capabilities) {
      $0.operations = 6 * 16 * 12 * 2 * 2 * 2
    }
    #expect(plan.pieceCount > 1)
    let result = try await problem.run(plan, on: device)
    expectReference(result, problem, "with snapshots")
    expectClose(
      result.snapshots, to: problem.reference().snapshots, within: 1e-5, "snapshots")
    let state = 2 * 16 * 12
    #expect(Array(result.snapshots[4 * state..<5 * state]) == Array(result.state[..<state]))

    // Sequence 0 goes on after two tokens, sequence 1 after four: slots n · L + t.
    var next = LinearProblem(
      try LinearAttentionRequest(
        batchSize: 2, tokens: 1, keyHeads: 1, valueHeads: 2, keyHeadSize: 16, valueHeadSize: 12,
        erases: true, stateCount: 10, operands: [.beta, .decay, .initialState, .stateSlots]),
      seed: 2)
    next.numbers[.initialState] = result.snapshots
    next.integers[.stateSlots] = [1, 5 + 3]
    let after = try await next.run(way.plan(next.request, on: device.capabilities), on: device)
    var separate = LinearProblem(
      try LinearAttentionRequest(
        batchSize: 2, tokens: 1, keyHeads: 1, valueHeads: 2, keyHeadSize: 16, valueHeadSize: 12,
        erases: true, operands: [.beta, .decay, .initialState]), seed: 2)
    for operand in [LinearAttentionOperand.beta, .decay] {
      separate.numbers[operand] = next.numbers[operand]
    }
    (separate.q, separate.k, separate.v) = (next.q, next.k, next.v)
    separate.numbers[.initialState] =
      Array(result.snapshots[state..<2 * state]) + Array(result.snapshots[8 * state..<9 * state])
    expectClose(after.o, to: separate.reference().o, within: 1e-5, "after the roll-back")
  }

  /// A tree of drafts gives each branch what it would give alone; a parent that is none is the initial state.
  @Test(arguments: [LinearWay.recurrentRow, .recurrentSubgroup], [false, true])
  func trees(_ way: LinearWay, _ isPacked: Bool) async throws {
    var problem = LinearProblem(
      try LinearAttentionRequest(
        batchSize: isPacked ? 1 : 2, tokens: 14, keyHeads: 1, valueHeads: 2, keyHeadSize: 16,
        valueHeadSize: 12, packedSequences: isPacked ? 2 : nil, longestSequence: isPacked ? 8 : nil,
        operands: [.keyDecay, .initialState, .finalState, .snapshots, .parents]))
    let tree: [Int32] = [-1, 0, 0, 1, 1, 2, -1, 6, 90, 3, -7, 11, 4, 0]
    problem.integers[.parents] = isPacked ? tree : tree + tree.reversed()
    if isPacked { problem.integers[.sequenceStarts] = [0, 8, 14] }
    let expected = problem.reference()
    for operations: Double in [1e9, 6 * 16 * 12 * 2 * 2 * 3] {
      let plan = try way.plan(problem.request, on: device.capabilities) {
        $0.operations = operations
      }
      let result = try await problem.run(plan, on: device)
      expectReference(result, problem, "tree")
      // Where sequences are packed, the second one's states begin at L tokens of states.
      let state = 2 * 16 * 12
      let first = isPacked ? 8 * state : result.snapshots.count
      expectClose(
        Array(result.snapshots[..<first]), to: Array(expected.snapshots[..<first]), within: 1e-5,
        "snapshots")
      if isPacked {
        expectClose(
          Array(result.snapshots[first..<first + 6 * state]),
          to: Array(expected.snapshots[first...]), within: 1e-5, "snapshots of the second")
      }
    }
    // The branch 0, 1, 3 alone.
    let branch = [0, 1, 3]
    func rows(_ values: [Float], _ width: Int) -> [Float] {
      branch.flatMap { token in Array(values[token * width..<(token + 1) * width]) }
    }
    var alone = LinearProblem(
      try LinearAttentionRequest(
        tokens: 3, keyHeads: 1, valueHeads: 2, keyHeadSize: 16, valueHeadSize: 12,
        operands: [.keyDecay, .initialState]))
    (alone.q, alone.k) = (rows(problem.q, 16), rows(problem.k, 16))
    alone.v = rows(problem.v, 24)
    alone.numbers[.keyDecay] = rows(problem.numbers[.keyDecay] ?? [], 32)
    alone.numbers[.initialState] = Array(problem.numbers[.initialState]?.prefix(2 * 16 * 12) ?? [])
    expectClose(
      rows(expected.o.map { Float($0) }, 24), to: alone.reference().o, within: 1e-6, "branch")
  }

  @Test(
    arguments: LinearWay.allCases,
    [LinearAttentionNormalizer.sum(epsilon: 0.1), .retention])
  func normalizing(_ way: LinearWay, _ normalizer: LinearAttentionNormalizer) async throws {
    var problem = LinearProblem(
      try request(
        [.headDecay, .initialState, .initialSum, .finalSum], normalizer: normalizer))
    problem.q = problem.q.map(abs)
    problem.k = problem.k.map(abs)
    for workgroups in [1, 64] {
      let plan = try way.plan(problem.request, on: device.capabilities) {
        ($0.workgroups, $0.tokensPerPart) = (workgroups, 2)
      }
      let result = try await problem.run(plan, on: device)
      expectReference(result, problem, "normaliser")
      expectClose(result.sum, to: problem.reference().sum, within: 1e-5, "sum")
    }
  }

  @Test(arguments: LinearWay.allCases)
  func notCausal(_ way: LinearWay) async throws {
    let problem = LinearProblem(try request([.decay], isCausal: false))
    let plan = try way.plan(problem.request, on: device.capabilities)
    expectReference(try await problem.run(plan, on: device), problem, "not causal")
  }

  /// Sequences behind one another are problems of their own; what is around them may be NaN.
  @Test(arguments: LinearWay.allCases, [Set<LinearAttentionOperand>(), [.decay, .beta]])
  func packed(_ way: LinearWay, _ operands: Set<LinearAttentionOperand>) async throws {
    var problem = LinearProblem(
      try request(operands.union([.initialState]), erases: operands.contains(.beta), sequences: 4))
    problem.integers[.sequenceStarts] = [1, 4, 4, 15, 19]
    let expected = problem.reference()
    for token in [0, 19, 20] {
      for channel in 0..<16 {
        problem.q[token * 16 + channel] = .nan
        problem.k[token * 16 + channel] = .nan
      }
      for channel in 0..<24 { problem.v[token * 24 + channel] = .nan }
    }
    let plan = try way.plan(problem.request, on: device.capabilities)
    let result = try await problem.run(plan, on: device)
    expectClose(
      Array(result.o[24..<19 * 24]), to: Array(expected.o[24..<19 * 24]), within: 1e-5, "o")
    expectClose(result.state, to: expected.state, within: 1e-5, "state")
    // Tokens of no sequence are not written.
    let isRestNaN = (Array(result.o[..<24]) + Array(result.o[(19 * 24)...])).allSatisfy { $0.isNaN }
    #expect(isRestNaN)
  }

  @Test(arguments: LinearWay.allCases)
  func documents(_ way: LinearWay) async throws {
    var problem = LinearProblem(try request([.decay, .sequenceIDs, .initialState]))
    problem.integers[.sequenceIDs] = (0..<21).map { $0 < 5 ? 3 : $0 < 16 ? 1 : 2 }
    let plan = try way.plan(problem.request, on: device.capabilities)
    expectReference(try await problem.run(plan, on: device), problem, "documents")
  }

  /// A decay of −∞ clears the state exactly, and very strong ones do no harm.
  @Test(arguments: LinearWay.allCases, [Float(-1e30), -Float.infinity, -200])
  func resets(_ way: LinearWay, _ logarithm: Float) async throws {
    for operand in [LinearAttentionOperand.decay, .keyDecay, .valueDecay] {
      var problem = LinearProblem(try request([operand]))
      for index in stride(from: 0, to: problem.numbers[operand]?.count ?? 0, by: 5) {
        problem.numbers[operand]?[index] = logarithm
      }
      let plan = try way.plan(problem.request, on: device.capabilities)
      expectReference(try await problem.run(plan, on: device), problem, operand.rawValue)
    }
  }

  /// Sequences name the slots of their states, some none; in place.
  @Test(arguments: LinearWay.allCases)
  func slots(_ way: LinearWay) async throws {
    var problem = LinearProblem(
      try request([.initialState, .stateSlots, .decay], sequences: 3, slots: 5))
    problem.integers[.sequenceStarts] = [0, 7, 12, 21]
    problem.integers[.stateSlots] = [4, -1, 0]
    let plan = try way.plan(problem.request, on: device.capabilities)
    let result = try await problem.run(plan, on: device, inPlace: true)
    let initial = problem.numbers[.initialState] ?? []
    let size = initial.count / 5
    var own = problem
    own.numbers[.initialState] =
      Array(initial[(4 * size)...]) + [Float](repeating: 0, count: size) + Array(initial[..<size])
    let expected = own.reference()
    expectClose(result.o, to: expected.o, within: 1e-5, "o")
    expectClose(
      Array(result.state[(4 * size)...]), to: Array(expected.state[..<size]), within: 1e-5, "slot 4"
    )
    expectClose(
      Array(result.state[..<size]), to: Array(expected.state[(2 * size)...]), within: 1e-5,
      "slot 0")
    expectSameBits(
      Array(result.state[size..<4 * size]), Array(initial[size..<4 * size]), "other slots")
  }

  /// Cut into pieces by tokens, heads and sequences.
  @Test(arguments: LinearWay.allCases, [true, false])
  func pieces(_ way: LinearWay, _ isCausal: Bool) async throws {
    var problem = LinearProblem(
      try request([.decay, .initialState], tokens: 150, sequences: 2, isCausal: isCausal))
    problem.integers[.sequenceStarts] = [0, 20, 150]
    let whole = try await problem.run(
      way.plan(problem.request, on: device.capabilities), on: device)
    let plan = try way.plan(problem.request, on: device.capabilities) {
      $0.operations = 6 * 16 * 12 * 64
      $0.recordBytes = 10_000
    }
    #expect(plan.pieceCount >= 12)
    let result = try await problem.run(plan, on: device)
    expectReference(result, problem, "pieces")
    // Not the same bits: where blocks begin is the same, but a state that went through memory is.
    expectClose(result.o, to: whole.o.map(Double.init), within: 1e-6, "o")
  }

  /// Parts of a sequence side by side.
  @Test(
    arguments: LinearWay.chunks,
    [[LinearAttentionOperand.decay], [.keyDecay], [.headDecay, .initialState], []])
  func parts(_ way: LinearWay, _ operands: [LinearAttentionOperand]) async throws {
    let problem = LinearProblem(try request(Set(operands), tokens: 200))
    for tokensPerPart in [1, 16, 70] {
      let plan = try way.plan(problem.request, on: device.capabilities) {
        ($0.workgroups, $0.tokensPerPart) = (64, tokensPerPart)
      }
      #expect(plan.partCount > 1)
      expectReference(
        try await problem.run(plan, on: device), problem, "\(plan.partCount) parts")
    }
  }

  /// The scan over the parts takes several workgroups, and does not end with one.
  @Test(arguments: LinearWay.chunks)
  func partsOfLargeStates(_ way: LinearWay) async throws {
    let problem = LinearProblem(
      try LinearAttentionRequest(
        tokens: 150, keyHeads: 1, valueHeads: 1, keyHeadSize: 72, valueHeadSize: 40,
        operands: [.decay, .initialState, .finalState]))
    let plan = try way.plan(problem.request, on: device.capabilities) {
      ($0.workgroups, $0.tokensPerPart) = (64, 16)
    }
    let scan = plan.pieces.joined().first { $0.stage.shaderName.contains("scan") }
    #expect(plan.partCount > 1 && (scan?.groups.x ?? 0) > 1)
    expectReference(
      try await problem.run(plan, on: device), problem, "\(plan.partCount) parts")
  }

  /// A prefill and steps from its state are a longer prefill.
  @Test(arguments: LinearWay.chunks)
  func prefillThenSteps(_ way: LinearWay) async throws {
    let whole = LinearProblem(try request([.decay, .beta], erases: true))
    let prefill = whole.slice(0..<18, try request([.decay, .beta], tokens: 18, erases: true))
    let first = try await prefill.run(
      way.plan(prefill.request, on: device.capabilities), on: device)
    var state = first.state
    var o = first.o
    for token in 18..<21 {
      var step = whole.slice(
        token..<token + 1, try request([.decay, .beta, .initialState], tokens: 1, erases: true))
      step.numbers[.initialState] = state
      let result = try await step.run(
        LinearWay.recurrentRow.plan(step.request, on: device.capabilities), on: device,
        inPlace: true)
      state = result.state
      o += result.o
    }
    expectReference(LinearResult(o: o, state: state, sum: [], snapshots: []), whole, "steps")
  }

  /// No token sees a later one.
  @Test(arguments: LinearWay.allCases)
  func causality(_ way: LinearWay) async throws {
    var problem = LinearProblem(try request([.keyDecay, .beta], erases: true))
    let plan = try way.plan(problem.request, on: device.capabilities)
    let expected = try await problem.run(plan, on: device).o
    for index in 13 * 16..<21 * 16 {
      problem.q[index] = .nan
      problem.k[index] = .nan
    }
    for index in 13 * 24..<21 * 24 { problem.v[index] = .nan }
    let o = try await problem.run(plan, on: device).o
    expectSameBits(Array(o[..<(13 * 24)]), Array(expected[..<(13 * 24)]), "tokens before the NaN")
    let isLaterNaN = o[(13 * 24)...].allSatisfy { $0.isNaN }
    #expect(isLaterNaN)
  }
}

extension LinearProblem {
  /// Some tokens of one sequence.
  func slice(_ tokens: Range<Int>, _ request: LinearAttentionRequest) -> LinearProblem {
    func part(_ values: [Float]) -> [Float] {
      let width = values.count / self.request.tokens
      return Array(values[tokens.lowerBound * width..<tokens.upperBound * width])
    }
    var problem = self
    problem.request = request
    (problem.q, problem.k, problem.v) = (part(q), part(k), part(v))
    for operand in [LinearAttentionOperand.decay, .beta] {
      problem.numbers[operand] = numbers[operand].map(part)
    }
    return problem
  }
}
