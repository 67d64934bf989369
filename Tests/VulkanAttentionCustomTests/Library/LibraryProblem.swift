import AttentionReference
import KernelBenchmarks
import TestSupport
import Testing

@testable import VulkanAttentionCustom

/// A buffer of a modification on the host.
enum LibraryBuffer {
  case floats([Float])
  case integers([Int32])
  case bytes([UInt8])
}

/// A small odd problem of two batch entries, four query heads and two key heads, for the library's modifications.
struct LibraryProblem {
  /// Where modifications are held against what they should be. Loads are checked on the first path alone.
  static let paths: [AttentionPath] = [.row, .subgroup]
  /// Fewer queries than keys, and more: the first queries stand before all keys then.
  static let shapes = [(queries: 37, keys: 53), (queries: 53, keys: 37)]

  static let batchSize = 2
  static let queryHeads = 4
  static let keyHeads = 2

  private static let compiler = CustomCompiler(directory: nil)

  let request: AttentionRequest
  var inputs: AttentionInputs

  init(
    queries: Int, keys: Int, batchSize: Int = Self.batchSize, mask: AttentionMask = .none,
    scores: AttentionScores = AttentionScores(), operands: [AttentionOperand] = [],
    scale: Float? = nil, headSize: Int = 16, queryDeviation: Float = 1
  ) throws {
    request = try AttentionRequest(
      batchSize: batchSize, queryTokens: queries, keyTokens: keys, queryHeads: Self.queryHeads,
      keyHeads: Self.keyHeads, headSize: headSize, valueHeadSize: 24, scale: scale, mask: mask,
      scores: scores, operands: operands, returnsLogSumExp: true)
    inputs = AttentionInputs.random(
      for: request, seed: "library", queryDeviation: queryDeviation)
  }

  /// T − S, what is added to a query's number for its position.
  var positionOffset: Int { request.keyTokens - request.queryTokens }

  // MARK: - Runs

  /// The attention with modifications. Cancels the test, visibly, where the path is not there.
  func run(
    _ path: AttentionPath, score: ScoreModification? = nil, mask: MaskModification? = nil,
    buffers: [String: LibraryBuffer] = [:], scalars: [String: CustomScalar.Value] = [:]
  ) async throws -> AttentionReadback {
    let device = try TestDevice.shared()
    do {
      let kernel = try await CustomAttention(
        request, score: score, mask: mask, on: device, path: path, isChecked: path == .row,
        compiler: Self.compiler)
      #expect(kernel.plan.path == path)
      var userBuffers: [String: DeviceBuffer] = [:]
      for (name, buffer) in buffers {
        userBuffers[name] =
          switch buffer {
          case .floats(let values): try await device.makeBuffer(values, label: name)
          case .integers(let values): try await device.makeBuffer(values, label: name)
          case .bytes(let values): try await device.makeBuffer(values, label: name)
          }
      }
      let tensors = try await AttentionTensors(inputs, for: kernel.plan, on: device)
      try await kernel.run(tensors.buffers, userBuffers: userBuffers, scalars: scalars)
      let result = try await tensors.read()
      #expect(result.strayWrites.isEmpty)
      return result
    } catch CustomAttentionError.attention(.pathUnavailable(let path, let reason))
      where path != .row
    {
      try Test.cancel("\(path): \(reason)")
    }
  }

  /// The attention as the library's own options have it.
  func runBuiltIn(_ path: AttentionPath) async throws -> AttentionReadback {
    let device = try TestDevice.shared()
    let kernel = try AttentionKernel(request, on: device, path: path)
    let tensors = try await AttentionTensors(inputs, for: kernel.plan, on: device)
    try await kernel.run(tensors.buffers)
    return try await tensors.read()
  }

  /// The attention in Double; the options begin with the request's scale and causal mask.
  func reference(_ change: (inout AttentionOptions) -> Void) -> AttentionOutput {
    var options = AttentionOptions(scale: Double(request.scale), causal: request.mask.isCausal)
    change(&options)
    return attention(
      q: inputs.query, k: inputs.key, v: inputs.value,
      dimensions: AttentionDimensions(
        batch: request.batchSize, queryTokens: request.queryTokens, keyTokens: request.keyTokens,
        queryHeads: request.queryHeads, keyHeads: request.keyHeads,
        keyChannels: request.headSize, valueChannels: request.valueHeadSize),
      options: options)
  }

  // MARK: - Comparisons

  /// Fails where outputs or log-sum-exps differ, or where not just `emptyTokens` query tokens see no key in any head
  /// of any batch entry.
  func expectEqual(
    _ actual: AttentionReadback, o: [Double], lse: [Double], emptyTokens: Int, _ what: String,
    within tolerance: Double = 1e-5, sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    expectClose(
      actual.output, to: o, within: tolerance, "o, \(what)",
      sourceLocation: sourceLocation)
    let logSumExp = try #require(actual.logSumExp)
    expectEach(
      logSumExp, within: 10 * tolerance, of: lse, "lse, \(what)",
      sourceLocation: sourceLocation)
    let empty = logSumExp.indices.filter { logSumExp[$0] == -.infinity }
    #expect(
      empty.count == emptyTokens * request.batchSize * request.queryHeads, "\(what)",
      sourceLocation: sourceLocation)
    let width = request.valueHeadSize
    #expect(
      empty.allSatisfy { actual.output[$0 * width..<($0 + 1) * width].allSatisfy { $0 == 0 } },
      "o of rows that see nothing, \(what)", sourceLocation: sourceLocation)
  }

  /// The same against the reference.
  func expectEqual(
    _ actual: AttentionReadback, _ expected: AttentionOutput, emptyTokens: Int, _ what: String,
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    try expectEqual(
      actual, o: expected.o, lse: expected.lse, emptyTokens: emptyTokens, what,
      sourceLocation: sourceLocation)
  }

  /// The same against what a kernel of the library gave.
  func expectEqual(
    _ actual: AttentionReadback, _ expected: AttentionReadback, emptyTokens: Int, _ what: String,
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let lse = try #require(expected.logSumExp).map(Double.init)
    try expectEqual(
      actual, o: expected.output.map(Double.init), lse: lse, emptyTokens: emptyTokens, what,
      sourceLocation: sourceLocation)
  }
}

/// Numbers of a test's own, as f32 and as the reference takes them.
func libraryNumbers(_ count: Int, seed: String, deviation: Float = 1) -> [Float] {
  var generator = SplitMix64(seed: seed)
  return generator.normal(count, deviation: deviation)
}

/// Bytes as an operand's memory.
func libraryMemory<Element: BitwiseCopyable>(_ values: [Element]) -> [UInt8] {
  values.withUnsafeBytes { Array($0) }
}
