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

  @Test(arguments: [LinearWay.recurrentRow, .recurrentSubgroup])
  func lowRank(_ way: LinearWay) async throws {
    let problem = LinearProblem(try request([.keyDecay, .lowRankA, .lowRankB, .initialState]))
    let plan = try way.plan(problem.request, on: device.capabilities)
    expectReference(try await problem.run(plan, on: device), problem, "low rank")
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
  @Test(arguments: [[LinearAttentionOperand.decay], [.keyDecay], [.headDecay, .initialState], []])
  func parts(_ operands: [LinearAttentionOperand]) async throws {
    let problem = LinearProblem(try request(Set(operands), tokens: 200))
    for tokensPerPart in [1, 16, 70] {
      let plan = try LinearWay.chunkRow.plan(problem.request, on: device.capabilities) {
        ($0.workgroups, $0.tokensPerPart) = (64, tokensPerPart)
      }
      #expect(plan.partCount > 1)
      expectReference(
        try await problem.run(plan, on: device), problem, "\(plan.partCount) parts")
    }
  }

  /// A prefill and steps from its state are a longer prefill.
  @Test func prefillThenSteps() async throws {
    let whole = LinearProblem(try request([.decay, .beta], erases: true))
    let prefill = whole.slice(0..<18, try request([.decay, .beta], tokens: 18, erases: true))
    let first = try await prefill.run(
      LinearWay.chunkRow.plan(prefill.request, on: device.capabilities), on: device)
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
    expectReference(LinearResult(o: o, state: state, sum: []), whole, "steps")
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
