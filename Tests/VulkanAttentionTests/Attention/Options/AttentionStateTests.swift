import KernelBenchmarks
import TestSupport
import Testing

@testable import VulkanAttention

/// Running states: what one attention leaves, another goes on from.
@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct AttentionStateTests {
  let device: ComputeDevice
  private static let (batch, queries, keys, heads, channels, width) = (2, 9, 150, 4, 16, 24)

  init() throws {
    device = try TestDevice.shared()
  }

  private static func request(
    _ type: ElementType, _ normalizer: AttentionNormalizer = .softmax, keys: Int = keys,
    resumes: Bool = false, returnsState: Bool = false, mask: AttentionMask = .none
  ) throws -> AttentionRequest {
    var scores = AttentionScores()
    scores.normalizer = normalizer
    return try AttentionRequest(
      batchSize: batch, queryTokens: queries, keyTokens: keys, queryHeads: heads, keyHeads: 2,
      headSize: channels, valueHeadSize: width, elementType: type, outputType: .f32, mask: mask,
      scores: scores, returnsLogSumExp: true, resumes: resumes, returnsState: returnsState)
  }

  /// The problem of some of the keys, going on from a state.
  private static func part(
    _ whole: OptionProblem, _ range: Range<Int>, _ normalizer: AttentionNormalizer,
    from state: (max: [Float], sum: [Float], output: [Float])?, returnsState: Bool
  ) throws -> OptionProblem {
    func tokens(_ values: [Float], _ channels: Int) -> [Float] {
      let token = 2 * channels
      return (0..<batch).flatMap { b -> [Float] in
        let first = (b * keys + range.lowerBound) * token
        return Array(values[first..<first + range.count * token])
      }
    }
    var part = OptionProblem(
      try request(
        whole.request.elementType, normalizer, keys: range.count, resumes: state != nil,
        returnsState: returnsState),
      inputs: AttentionInputs(
        query: whole.inputs.query, key: tokens(whole.inputs.key, channels),
        value: tokens(whole.inputs.value, width)))
    if let state {
      part.set(.initialMax, state.max)
      part.set(.initialSum, state.sum)
      part.set(.initialOutput, state.output)
    }
    return part
  }

  /// Softmax on every path; what follows the last key is the same code on all of them.
  private static let normalizers = TypedPath.optionPaths.flatMap { path in
    let others: [AttentionNormalizer] = [.softmaxOffByOne, .sigmoid(bias: -5), .reluSum]
    return ([.softmax] + (path.variant == .row || runsFullTests ? others : [])).map { (path, $0) }
  }

  @Test("Keys in parts, resumed, are all keys at once", arguments: normalizers)
  func resumed(path: TypedPath, normalizer: AttentionNormalizer) async throws {
    let whole = OptionProblem(try Self.request(path.type, normalizer))
    let expected = whole.reference()
    for cuts in [[0, 1, 150], [0, 64, 150], [0, 33, 66, 149, 150]] {
      var state: (max: [Float], sum: [Float], output: [Float])?
      for (start, end) in zip(cuts, cuts.dropFirst()) {
        let part = try Self.part(
          whole, start..<end, normalizer, from: state, returnsState: end < Self.keys)
        let result = try await part.run(path.variant, on: device)
        state = result.state
        if end == Self.keys { whole.expectClose(result, to: expected, "\(cuts)") }
      }
    }
  }

  @Test("A state is updated in place", arguments: TypedPath.optionPaths)
  func inPlace(path: TypedPath) async throws {
    let whole = OptionProblem(try Self.request(path.type))
    let first = try await Self.part(whole, 0..<70, .softmax, from: nil, returnsState: true)
      .run(path.variant, on: device)
    let second = try Self.part(
      whole, 70..<150, .softmax, from: first.state, returnsState: true)
    let apart = try await second.run(path.variant, on: device)
    let expected = try #require(apart.state)
    // As one piece, and as pieces along the keys that read the state only at first.
    for budget in [Double?.none, 1000] {
      let kernel = try second.kernel(path.variant, on: device, budget: budget)
      #expect(kernel.plan.pieces.contains { $0.keys != nil } == (budget != nil))
      let tensors = try await KernelBenchmarks.AttentionTensors(
        second.inputs, for: kernel.plan, on: device)
      var buffers = tensors.buffers
      buffers.operands[.finalMax] = buffers.operands[.initialMax]
      buffers.operands[.finalSum] = buffers.operands[.initialSum]
      buffers.operands[.finalOutput] = buffers.operands[.initialOutput]
      try await kernel.run(buffers)
      for (kind, values) in [
        (AttentionOperand.Kind.finalMax, expected.max), (.finalSum, expected.sum),
        (.finalOutput, expected.output),
      ] {
        let buffer = try #require(buffers.operands[kind])
        expectSameBits(
          try await device.download(Float.self, from: buffer), values,
          "\(kind.rawValue), budget \(String(describing: budget))")
      }
      expectSameBits(try await tensors.read().output, apart.output, "o")
    }
  }

  @Test("A row that sees nothing leaves an empty state, and an empty state is none")
  func emptyState() async throws {
    for path in TypedPath.optionPaths {
      // The first 4 of 9 queries see none of 5 keys.
      let hidden = OptionProblem(
        try Self.request(path.type, keys: 5, returnsState: true, mask: .causal))
      let state = try #require(try await hidden.run(path.variant, on: device).state)
      for row in 0..<Self.batch * Self.queries * Self.heads {
        let isHidden = row / Self.heads % Self.queries < 4
        #expect((state.max[row] == -.infinity) == isHidden)
        #expect((state.sum[row] == 0) == isHidden)
        let output = state.output[row * Self.width..<(row + 1) * Self.width]
        #expect(output.allSatisfy { $0 == 0 } == isHidden)
      }
      let count = Self.batch * Self.queries * Self.heads
      let whole = OptionProblem(try Self.request(path.type))
      let plain = try await whole.run(path.variant, on: device)
      // What an empty state holds besides its maximum does not matter.
      let resumed = try await Self.part(
        whole, 0..<Self.keys, .softmax,
        from: (
          [Float](repeating: -.infinity, count: count), [Float](repeating: .nan, count: count),
          [Float](repeating: .nan, count: count * Self.width)
        ), returnsState: false
      ).run(path.variant, on: device)
      expectSameBits(resumed.output, plain.output, "o, \(path.testDescription)")
      expectSameBits(resumed.logSumExp ?? [], plain.logSumExp ?? [], "lse, \(path.testDescription)")
    }
  }

  @Test("Merged partial results are the resumed chain", arguments: TypedPath.optionPaths)
  func merged(path: TypedPath) async throws {
    let whole = OptionProblem(try Self.request(path.type))
    let first = try await Self.part(whole, 0..<70, .softmax, from: nil, returnsState: true)
      .run(path.variant, on: device)
    let other = try await Self.part(whole, 70..<150, .softmax, from: nil, returnsState: false)
      .run(path.variant, on: device)
    let chain = try await Self.part(
      whole, 70..<150, .softmax, from: first.state, returnsState: false
    ).run(path.variant, on: device)
    let rows = Self.batch * Self.queries
    let merge = try StateMergeKernel(
      StateMergeRequest(
        rowCount: rows, headCount: Self.heads, partials: .perRow(2), valueHeadSize: Self.width),
      on: device)
    func state(_ part: AttentionReadback) async throws -> VulkanAttention.AttentionState {
      VulkanAttention.AttentionState(
        output: try await device.makeBuffer(part.output),
        logSumExp: try await device.makeBuffer(part.logSumExp ?? []))
    }
    let output = try device.makeBuffer(byteCount: merge.request.outputByteCount)
    let logSumExp = try device.makeBuffer(byteCount: merge.request.logSumExpByteCount)
    let recorder = try device.makeRecorder()
    try merge.record(
      try await state(first), try await state(other), output: output, logSumExp: logSumExp,
      into: recorder)
    try await device.submit(recorder).completed()
    expectClose(
      try await device.download(Float.self, from: output), to: chain.output.map(Double.init),
      within: path.type.outputGate, "o")
    expectEach(
      try await device.download(Float.self, from: logSumExp), within: 1e-4,
      of: (chain.logSumExp ?? []).map(Double.init), "lse")
  }
}
