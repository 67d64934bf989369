import AttentionReference
import Foundation
import TestSupport
import Testing

@testable import KernelBenchmarks
@testable import VulkanAttention

/// A request with inputs for everything it reads, and how it is run.
struct OptionProblem: Sendable {
  let request: AttentionRequest
  var inputs: AttentionInputs

  init(_ request: AttentionRequest, inputs: AttentionInputs) {
    self.request = request
    self.inputs = inputs
  }

  /// Random inputs, the same in every run.
  ///
  /// - Parameter starts: where packed sequences begin among queries and keys.
  init(
    _ request: AttentionRequest, seed: UInt64 = 1, starts: (query: [Int32], key: [Int32])? = nil
  ) {
    self.request = request
    inputs = .random(for: request, seed: "\(seed)")
    var random = SplitMix64(seed: seed)
    for operand in request.operands where !operand.kind.isWritten {
      inputs.operands[operand.kind] = Self.contents(of: operand, request, &random)
    }
    if let starts {
      set(.queryStarts, starts.query)
      set(.keyStarts, starts.key)
    }
  }

  private static func contents(
    of operand: AttentionOperand, _ request: AttentionRequest, _ random: inout SplitMix64
  ) -> [UInt8] {
    let count = request.layout(of: operand)?.elementCount ?? 0
    func integers(_ range: ClosedRange<Int32>) -> [UInt8] {
      memory((0..<count).map { _ in Int32.random(in: range, using: &random) })
    }
    let keys = Int32(request.keyTokens)
    switch operand.kind {
    case .mask: return (0..<count).map { _ in UInt8.random(in: 0...2, using: &random) }
    case .maskBits, .treeBits:
      return (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }
    case .querySegments, .keySegments, .blockMap: return integers(0...2)
    case .keyLengths: return integers(keys / 2...keys)
    case .leftPadding: return integers(0...keys / 3)
    case .prefixLengths: return integers(0...keys / 2)
    case .headWindows: return integers(-1...keys / 3)
    case .queryScales: return memory(random.normal(count).map { 1 + abs($0) / 4 })
    case .gates: return memory(random.normal(count).map { $0 < -0.7 ? 0 : $0 })
    case .alibiSlopes: return memory(random.normal(count).map { abs($0) / 8 })
    case .initialSum: return memory(random.normal(count).map { 0.5 + abs($0) })
    case .bias: return memory(random.normal(count), operand.elementType)
    case .queryStarts, .keyStarts: return integers(0...0)
    default: return memory(random.normal(count))
    }
  }

  mutating func set(_ kind: AttentionOperand.Kind, _ values: [Int32]) {
    inputs.operands[kind] = memory(values)
  }

  mutating func set(_ kind: AttentionOperand.Kind, _ values: [Float]) {
    inputs.operands[kind] = memory(values)
  }

  func integers(of kind: AttentionOperand.Kind) -> [Int] {
    KernelBenchmarks.integers(inputs.operands[kind] ?? []).map(Int.init)
  }

  var dimensions: AttentionDimensions {
    AttentionDimensions(
      batch: request.batchSize, queryTokens: request.queryTokens, keyTokens: request.keyTokens,
      queryHeads: request.queryHeads, keyHeads: request.keyHeads, keyChannels: request.headSize,
      valueChannels: request.valueHeadSize)
  }

  var options: AttentionOptions { request.referenceOptions(inputs.operands) }

  /// The exact result; rows outside of packed sequences are NaN.
  func reference() -> AttentionOutput {
    guard let packed = request.packedSequences else {
      return attention(
        q: inputs.query, k: inputs.key, v: inputs.value, dimensions: dimensions, options: options)
    }
    return variableLengthAttention(
      q: inputs.query.map(Double.init), k: inputs.key.map(Double.init),
      v: inputs.value.map(Double.init),
      dimensions: PackedDimensions(
        queryTokens: packed.queryTokens, keyTokens: packed.keyTokens,
        queryStarts: integers(of: .queryStarts), keyStarts: integers(of: .keyStarts),
        queryHeads: request.queryHeads, keyHeads: request.keyHeads, keyChannels: request.headSize,
        valueChannels: request.valueHeadSize), options: options)
  }

  /// The weight of every key in every row, [B, S, H] by [T]; 0 for hidden ones.
  func probabilities() -> [Double] {
    attentionProbabilities(
      q: inputs.query, k: inputs.key, dimensions: dimensions, options: options)
  }

  /// The kernel, cut into pieces of so many operations if asked.
  func kernel(
    _ variant: PathVariant, on device: ComputeDevice, budget: Double? = nil
  ) throws -> AttentionKernel {
    guard let budget else { return try variant.kernel(request, on: device) }
    return try AttentionKernel(
      AttentionPlan(
        request, device: device.capabilities, path: variant.path,
        tile: variant.tile, operationsPerPiece: budget), on: device)
  }

  /// What a path makes of it; writes outside of the outputs fail.
  func run(
    _ variant: PathVariant, on device: ComputeDevice, budget: Double? = nil,
    mode: RunMode = .run, sourceLocation: SourceLocation = #_sourceLocation
  ) async throws -> AttentionReadback {
    try await run(
      kernel(variant, on: device, budget: budget), on: device, mode: mode,
      sourceLocation: sourceLocation)
  }

  /// What a kernel makes of it; writes outside of the outputs fail.
  func run(
    _ kernel: AttentionKernel, on device: ComputeDevice, mode: RunMode = .run,
    sourceLocation: SourceLocation = #_sourceLocation
  ) async throws -> AttentionReadback {
    let tensors = try await KernelBenchmarks.AttentionTensors(inputs, for: kernel.plan, on: device)
    switch mode {
    case .run: try await kernel.run(tensors.buffers)
    case .record:
      let recorder = try device.makeRecorder()
      try kernel.record(tensors.buffers, into: recorder)
      try await device.submit(recorder).completed()
    }
    let result = try await tensors.read()
    #expect(result.strayWrites.isEmpty, sourceLocation: sourceLocation)
    return result
  }

  /// Runs a path and compares with the reference.
  @discardableResult
  func expectExact(
    _ variant: PathVariant, on device: ComputeDevice, _ what: String,
    sourceLocation: SourceLocation = #_sourceLocation
  ) async throws -> AttentionReadback {
    let result = try await run(variant, on: device, sourceLocation: sourceLocation)
    expectClose(result, to: reference(), what, sourceLocation: sourceLocation)
    return result
  }

  func expectClose(
    _ result: AttentionReadback, to expected: AttentionOutput, _ what: String,
    sourceLocation: SourceLocation = #_sourceLocation
  ) {
    // The matrix path rounds weights to the type of its inputs.
    let gate = max(request.outputType.outputGate, request.elementType.outputGate)
    let inside = expected.lse.indices.filter { !expected.lse[$0].isNaN }
    let channels = request.valueHeadSize
    TestSupport.expectClose(
      inside.flatMap { result.output[$0 * channels..<($0 + 1) * channels] },
      to: inside.flatMap { expected.o[$0 * channels..<($0 + 1) * channels] }, within: gate,
      "o, \(what)", sourceLocation: sourceLocation)
    if let lse = result.logSumExp {
      expectEach(
        inside.map { lse[$0] }, within: 1e-3, of: inside.map { expected.lse[$0] },
        "lse, \(what)", sourceLocation: sourceLocation)
    }
  }
}

/// Fails where two results differ in a bit, the states included.
func expectSameBits(
  _ actual: AttentionReadback, _ expected: AttentionReadback, _ what: String,
  sourceLocation: SourceLocation = #_sourceLocation
) {
  func compare(_ actual: [Float]?, _ expected: [Float]?, _ name: String) {
    expectSameBits(
      actual ?? [], expected ?? [], "\(name), \(what)", sourceLocation: sourceLocation)
  }
  compare(actual.output, expected.output, "o")
  compare(actual.logSumExp, expected.logSumExp, "lse")
  compare(actual.state?.max, expected.state?.max, "final max")
  compare(actual.state?.sum, expected.state?.sum, "final sum")
  compare(actual.state?.output, expected.state?.output, "final output")
}

/// Whether every path takes every test: a matrix pipeline with options takes the software driver seconds to
/// compile.
let runsFullTests = ProcessInfo.processInfo.environment["VKATTN_FULL_TESTS"] == "1"

extension TypedPath {
  /// Every path with one type, f32 or f16 where it takes no other; the matrix paths with fragments of other
  /// devices in full tests alone.
  static let optionPaths = PathVariant.allCases.filter { $0.tile == .tuned || runsFullTests }.map {
    TypedPath(variant: $0, type: $0.types.contains(.f32) ? .f32 : .f16)
  }
}
