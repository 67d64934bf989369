import AttentionReference
import KernelBenchmarks
import TestSupport
import Testing

@testable import VulkanAttention

/// The companion kernels on the device: against the reference, in place, and where numbers are not finite.
@Suite(.serialized, .timeLimit(.minutes(20)), .needsDevice, .silentValidation)
struct CompanionKernelTests {
  let device: ComputeDevice

  init() throws {
    device = try TestDevice.shared()
  }

  @Test("Every kernel is the reference in Double")
  func reference() async throws {
    let runs = CompanionCheck.runs(.quick)
    #expect(runs.count > 80)
    await CheckRunner.run(runs, on: [device]) { result in
      #expect(result.outcome.verdict == .passed, "\(result.outcome.id)")
    }
  }

  private func numbers(_ count: Int, _ seed: String) -> [Float] {
    var random = SplitMix64(seed: seed)
    return random.normal(count)
  }

  private func buffer(_ values: [Float], _ label: String) async throws -> GuardedBuffer {
    try await GuardedBuffer(values, label: label, on: device)
  }

  private func poison(_ count: Int, _ label: String) async throws -> GuardedBuffer {
    try await GuardedBuffer(byteCount: count * 4, label: label, on: device)
  }

  private func run(_ record: (Recorder) throws -> Void) async throws {
    let recorder = try device.makeRecorder()
    try record(recorder)
    try await device.submit(recorder).completed()
  }

  private func floats(_ guarded: GuardedBuffer) async throws -> [Float] {
    try await guarded.expectGuardsIntact()
    return try await device.download(Float.self, from: guarded.buffer)
  }

  @Test(
    "A norm over x with its sum over the residual, or with its sum over x, is the same to the bit")
  func normInPlace() async throws {
    let (rows, channels) = (5, 100)
    let kernel = try NormalizationKernel(
      NormalizationRequest(
        rows: rows, channels: channels, kind: .layer, epsilon: 1e-6, residualType: .f32,
        hasBias: true, returnsSum: true), on: device)
    let (x, r) = (numbers(rows * channels, "x"), numbers(rows * channels, "r"))
    let weight = try await buffer(numbers(channels, "w"), "weight").buffer
    let bias = try await buffer(numbers(channels, "b"), "bias").buffer
    func results(
      _ place: (GuardedBuffer, GuardedBuffer) async throws -> (
        y: GuardedBuffer, sum: GuardedBuffer
      )
    ) async throws -> [[Float]] {
      let (input, residual) = (try await buffer(x, "x"), try await buffer(r, "residual"))
      let (output, sum) = try await place(input, residual)
      try await run {
        try kernel.record(
          NormalizationBuffers(
            input: input.buffer, output: output.buffer, residual: residual.buffer, sum: sum.buffer,
            weight: weight, bias: bias), into: $0)
      }
      return [try await floats(output), try await floats(sum)]
    }
    let apart = try await results { _, _ in
      (try await poison(rows * channels, "y"), try await poison(rows * channels, "sum"))
    }
    expectSameBits(apart[1], zip(x, r).map { $0 + $1 }, "sum")
    let overBoth = try await results { ($0, $1) }
    let overInput = try await results { input, _ in
      (try await poison(rows * channels, "y"), input)
    }
    for (index, name) in ["y", "sum"].enumerated() {
      expectSameBits(overBoth[index], apart[index], "\(name) over both")
      expectSameBits(overInput[index], apart[index], "\(name) over x")
    }
  }

  @Test("Results over an operand are the same to the bit")
  func inPlace() async throws {
    let (rows, channels) = (7, 36)
    let (a, b) = (numbers(rows * channels, "a"), numbers(rows * channels, "b"))
    let gate = try ElementwiseKernel(
      ElementwiseRequest(
        rows: rows, channels: channels, activation: .silu, combination: .multiply), on: device)
    let softmax = try SoftmaxKernel(
      SoftmaxRequest(rows: rows, channels: channels), on: device)
    let product = try MatrixProductKernel(
      MatrixProductRequest(
        rows: rows, outputChannels: channels, inputChannels: channels, hasResidual: true),
      on: device)
    let weight = try await buffer(numbers(channels * channels, "w"), "weight").buffer
    func results(over place: Int?) async throws -> [[Float]] {
      var all: [[Float]] = []
      for kernel in 0..<3 {
        let (first, second) = (try await buffer(a, "a"), try await buffer(b, "b"))
        let own = try await poison(rows * channels, "y")
        // A softmax has no second operand, a product can replace its residual alone.
        let place = kernel == 1 ? place.map { _ in 0 } : kernel == 2 ? place.map { _ in 1 } : place
        let output = place == 0 ? first : place == 1 ? second : own
        try await run {
          switch kernel {
          case 0:
            try gate.record(
              ElementwiseBuffers(
                first: first.buffer, second: second.buffer, output: output.buffer), into: $0)
          case 1:
            try softmax.record(
              SoftmaxBuffers(input: first.buffer, output: output.buffer), into: $0)
          default:
            try product.record(
              MatrixProductBuffers(
                input: first.buffer, weight: weight, residual: second.buffer,
                output: output.buffer), into: $0)
          }
        }
        all.append(try await floats(output))
      }
      return all
    }
    let apart = try await results(over: nil)
    expectClose(
      apart[0], to: zip(a, b).map { ActivationFunction.silu(Double($0)) * Double($1) },
      within: 1e-6, "gate")
    for place in [0, 1] {
      for (index, result) in try await results(over: place).enumerated() {
        expectSameBits(result, apart[index], "kernel \(index) over operand \(place)")
      }
    }
  }

  @Test(
    "NaN in an operand reaches the result, and no other row", arguments: MatrixProductPath.allCases)
  func notANumber(path: MatrixProductPath) async throws {
    let (rows, channels) = (9, 40)
    var x = numbers(rows * channels, "x")
    x[4 * channels + 39] = .nan
    let request = try MatrixProductRequest(
      rows: rows, outputChannels: 5, inputChannels: channels, activation: .relu)
    let kernel = try MatrixProductKernel(
      MatrixProductPlan(request, device: device.capabilities, path: path), on: device)
    let (input, weight) = (
      try await buffer(x, "x"), try await buffer(numbers(5 * channels, "w"), "weight")
    )
    let output = try await poison(rows * 5, "y")
    try await run {
      try kernel.record(
        MatrixProductBuffers(input: input.buffer, weight: weight.buffer, output: output.buffer),
        into: $0)
    }
    let y = try await floats(output)
    for row in 0..<rows {
      #expect(y[row * 5..<(row + 1) * 5].allSatisfy { $0.isNaN == (row == 4) }, "row \(row)")
    }
  }

  @Test("A softmax of NaN is NaN, of −∞ alone 0, of one number 1")
  func softmaxOfWhatIsNotFinite() async throws {
    let kernel = try SoftmaxKernel(SoftmaxRequest(rows: 3, channels: 3), on: device)
    let input = try await buffer(
      [1, .nan, 2] + [Float](repeating: -.infinity, count: 3) + [-.infinity, 7, -.infinity], "x")
    let output = try await poison(9, "y")
    try await run {
      try kernel.record(SoftmaxBuffers(input: input.buffer, output: output.buffer), into: $0)
    }
    let y = try await floats(output)
    #expect(y[..<3].allSatisfy { $0.isNaN })
    #expect(Array(y[3...]) == [0, 0, 0, 0, 1, 0])
  }

  @Test("A number outside of its table makes a row of NaN, and no access outside")
  func embeddingOutside() async throws {
    let kernel = try EmbeddingKernel(
      EmbeddingRequest(rows: 5, channels: 8, entries: [3, 2]), on: device)
    let tables = [
      try await buffer(numbers(24, "t"), "tokens"), try await buffer(numbers(16, "p"), "positions"),
    ]
    let places: [[Int32]] = [[0, 3, -1, 2, .max], [1, 1, 0, 0, 1]]
    let own = [
      try await GuardedBuffer(places[0], label: "numbers", on: device),
      try await GuardedBuffer(places[1], label: "numbers", on: device),
    ]
    let output = try await poison(40, "y")
    try await run {
      try kernel.record(
        EmbeddingBuffers(
          tables: zip(tables, own).map { .init(entries: $0.buffer, numbers: $1.buffer) },
          output: output.buffer), into: $0)
    }
    let y = try await floats(output)
    for row in 0..<5 {
      let isOutside = [1, 2, 4].contains(row)
      #expect(y[row * 8..<(row + 1) * 8].allSatisfy { $0.isNaN == isOutside }, "row \(row)")
    }
  }

  private func sampled(
    _ rows: [[Float]], _ method: SamplingRequest.Method, _ uniform: Float = 0
  ) async throws -> [Int32] {
    let kernel = try SamplingKernel(
      SamplingRequest(rows: rows.count, vocabulary: rows[0].count, method: method), on: device)
    let logits = try await buffer(rows.flatMap { $0 }, "logits")
    let uniforms = try await buffer([Float](repeating: uniform, count: rows.count), "uniforms")
    let tokens = try await poison(rows.count, "tokens")
    try await run {
      try kernel.record(
        SamplingBuffers(
          logits: logits.buffer, uniforms: method == .greedy ? nil : uniforms.buffer,
          tokens: tokens.buffer), into: $0)
    }
    try await tokens.expectGuardsIntact()
    return try await device.download(Int32.self, from: tokens.buffer)
  }

  @Test("Of equal logits the first; never NaN or −∞; −1 where there is nothing")
  func samplingEdges() async throws {
    let none = [Float](repeating: -.infinity, count: 20)
    var nan = none
    nan[3] = .nan
    var ties = [Float](repeating: 0, count: 20)
    ties[0] = -0.0
    var infinite = ties
    infinite[13] = .infinity
    var single = none
    single[17] = -3e38
    let rows = [none, nan, ties, infinite, single]
    let methods: [SamplingRequest.Method] = [
      .greedy, .draw(temperature: 1, topTokens: 1), .draw(temperature: 1, topMass: 1e-6),
      .draw(temperature: 2, topTokens: 3, topMass: 0.1),
    ]
    for method in methods {
      for uniform in [0, 0.5, 0.999] as [Float] {
        #expect(
          try await sampled(rows, method, uniform) == [-1, -1, 0, 13, 17], "\(method) \(uniform)")
      }
    }
    // 20 equal ones, of which cuts keep the first.
    for (method, kept) in [
      (SamplingRequest.Method.draw(temperature: 1), 20), (.draw(temperature: 1, topTokens: 4), 4),
      (.draw(temperature: 1, topMass: 0.25), 5),
      (.draw(temperature: 1, topTokens: 10, topMass: 0.5), 5),
    ] {
      for place in 0..<kept {
        let uniform = (Float(place) + 0.5) / Float(kept)
        #expect(
          try await sampled([ties], method, uniform) == [Int32(place)], "\(method) \(uniform)")
      }
    }
  }

  @Test("Draws are as frequent as they are probable")
  func frequencies() async throws {
    // Evenly spread numbers: a token of probability p is drawn p · 1000 times, give or take 1.
    let logits = numbers(50, "logits")
    let rows = 1000
    let method = SamplingRequest.Method.draw(temperature: 0.7, topTokens: 20, topMass: 0.9)
    let kernel = try SamplingKernel(
      SamplingRequest(rows: rows, vocabulary: 50, method: method), on: device)
    let input = try await buffer((0..<rows).flatMap { _ in logits }, "logits")
    let uniforms = try await buffer((0..<rows).map { (Float($0) + 0.5) / Float(rows) }, "uniforms")
    let tokens = try await poison(rows, "tokens")
    try await run {
      try kernel.record(
        SamplingBuffers(
          logits: input.buffer, uniforms: uniforms.buffer, tokens: tokens.buffer), into: $0)
    }
    let drawn = try await device.download(Int32.self, from: tokens.buffer)
    let distribution = TokenDistribution(
      logits: logits.map(Double.init), temperature: 0.7, topTokens: 20, topMass: 0.9)
    var before = 0.0
    for (token, cumulative) in zip(distribution.tokens, distribution.cumulative) {
      let count = drawn.count { $0 == Int32(token) }
      #expect(abs(Double(count) - (cumulative - before) * Double(rows)) <= 1, "token \(token)")
      before = cumulative
    }
    #expect(distribution.tokens.count > 3 && distribution.tokens.count < 20)
  }

  @Test("Buffers that do not fit are refused before anything is recorded")
  func refusedBuffers() async throws {
    let product = try MatrixProductKernel(
      MatrixProductRequest(
        rows: 2, outputChannels: 4, inputChannels: 8, biasType: .f32), on: device)
    let whole = try device.makeBuffer(byteCount: 4096, label: "whole")
    func part(_ start: Int, _ count: Int) throws -> DeviceBuffer {
      try whole.slice(start..<start + count)
    }
    let fitting = MatrixProductBuffers(
      input: try part(0, 64), weight: try part(256, 128), bias: try part(512, 16),
      output: try part(1024, 32))
    func expectRefused(
      _ expected: AttentionError, sourceLocation: SourceLocation = #_sourceLocation,
      _ change: (inout MatrixProductBuffers) throws -> Void
    ) throws {
      var buffers = fitting
      try change(&buffers)
      let changed = buffers
      let recorder = try device.makeRecorder()
      #expect(throws: expected, sourceLocation: sourceLocation) {
        try product.record(changed, into: recorder)
      }
    }
    func small(_ tensor: String, _ bytes: Int) -> AttentionError {
      .bufferTooSmall(tensor: tensor, requiredBytes: bytes, availableBytes: bytes - 4)
    }
    try expectRefused(small("x", 64)) { $0.input = try part(0, 60) }
    try expectRefused(small("weight", 128)) { $0.weight = try part(256, 124) }
    try expectRefused(small("bias", 16)) { $0.bias = try part(512, 12) }
    try expectRefused(small("y", 32)) { $0.output = try part(1024, 28) }
    try expectRefused(
      .misaligned(tensor: "x", address: whole.address + 4, requiredAlignment: 16)
    ) { $0.input = try part(4, 64) }
    try expectRefused(.overlappingOutput(output: "y", with: "x")) { $0.output = try part(32, 32) }
    try expectRefused(
      .invalidArgument(
        name: "bias", value: "no buffer", allowed: "a buffer, for the request has bias")
    ) { $0.bias = nil }
    try expectRefused(
      .invalidArgument(
        name: "residual", value: "a buffer", allowed: "none, for the request has no residual")
    ) { $0.residual = try part(2048, 32) }
    let norm = try NormalizationKernel(
      NormalizationRequest(
        rows: 2, channels: 8, kind: .layer, epsilon: 0, residualType: .f16, returnsSum: true),
      on: device)
    func expectNormRefused(
      _ expected: AttentionError, output: Int, sum: Int?,
      sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
      let buffers = NormalizationBuffers(
        input: try part(0, 64), output: try part(output, 64), residual: try part(256, 32),
        sum: try sum.map { try part($0, 32) }, weight: try part(512, 32))
      let recorder = try device.makeRecorder()
      #expect(throws: expected, sourceLocation: sourceLocation) {
        try norm.record(buffers, into: recorder)
      }
    }
    // A sum of f16 over x of f32 would write what another invocation has yet to read.
    try expectNormRefused(.overlappingOutput(output: "sum", with: "x"), output: 1024, sum: 0)
    try expectNormRefused(.overlappingOutput(output: "y", with: "sum"), output: 1024, sum: 1024)
    try expectNormRefused(
      .invalidArgument(
        name: "sum", value: "no buffer", allowed: "a buffer, for the request returns the sum"),
      output: 1024, sum: nil)
  }
}
