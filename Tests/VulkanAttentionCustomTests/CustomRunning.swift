import KernelBenchmarks
import TestSupport
import Testing

@testable import VulkanAttentionCustom

/// A path with an element type that it takes.
struct CustomPath: Sendable, CustomTestStringConvertible {
  let path: AttentionPath
  let type: ElementType
  var testDescription: String { path.rawValue }

  static let all = [
    CustomPath(path: .row, type: .f32), CustomPath(path: .subgroup, type: .f32),
    CustomPath(path: .matrix, type: .f16), CustomPath(path: .matrix2, type: .f16),
  ]
}

/// What the suites that run kernels have in common.
enum CustomRun {
  static let compiler = CustomCompiler(directory: nil)

  static func request(
    _ type: ElementType, mask: AttentionMask = .none, scores: AttentionScores = AttentionScores(),
    operands: [AttentionOperand] = [], queryTokens: Int = 37, keyTokens: Int = 53
  ) throws -> AttentionRequest {
    try AttentionRequest(
      batchSize: 2, queryTokens: queryTokens, keyTokens: keyTokens, queryHeads: 4, keyHeads: 2,
      headSize: 16, valueHeadSize: 24, elementType: type, mask: mask, scores: scores,
      operands: operands, returnsLogSumExp: true)
  }

  /// What a body makes; cancels the test, visibly, where the path or its compiler is not there.
  static func orCancel<Kernel>(
    _ path: AttentionPath, _ body: () async throws -> Kernel
  ) async throws -> Kernel {
    do {
      return try await body()
    } catch CustomAttentionError.compilerTooOld(let extensions, let library)
      where path == .matrix || path == .matrix2
    {
      #expect(extensions.contains("GL_KHR_cooperative_matrix"))
      try Test.cancel("\(library) lacks \(extensions)")
    } catch CustomAttentionError.attention(.pathUnavailable(let path, let reason))
      where path != .row
    {
      try Test.cancel("\(path): \(reason)")
    }
  }

  static func kernel(
    _ request: AttentionRequest, _ path: AttentionPath, score: ScoreModification? = nil,
    mask: MaskModification? = nil, output: OutputModification? = nil, isChecked: Bool = false
  ) async throws -> CustomAttention {
    try await orCancel(path) {
      try await CustomAttention(
        request, score: score, mask: mask, output: output, on: TestDevice.shared(), path: path,
        isChecked: isChecked, compiler: compiler)
    }
  }

  static func run(
    _ kernel: CustomAttention, _ inputs: AttentionInputs,
    buffers: [String: DeviceBuffer] = [:], scalars: [String: CustomScalar.Value] = [:]
  ) async throws -> AttentionReadback {
    let tensors = try await AttentionTensors(inputs, for: kernel.plan, on: TestDevice.shared())
    try await kernel.run(tensors.buffers, userBuffers: buffers, scalars: scalars)
    let result = try await tensors.read()
    #expect(result.strayWrites.isEmpty)
    return result
  }

  /// What the library's own option gives.
  static func builtIn(
    _ request: AttentionRequest, _ path: AttentionPath, _ inputs: AttentionInputs
  ) async throws -> AttentionReadback {
    let device = try TestDevice.shared()
    let kernel = try AttentionKernel(request, on: device, path: path)
    let tensors = try await AttentionTensors(inputs, for: kernel.plan, on: device)
    try await kernel.run(tensors.buffers)
    return try await tensors.read()
  }

  static func expectSame(
    _ actual: AttentionReadback, as expected: AttentionReadback, _ type: ElementType, _ what: String
  ) throws {
    expectClose(
      actual.output, to: expected.output.map(Double.init), within: type == .f32 ? 1e-5 : 2e-3,
      "o, \(what)")
    expectEach(
      try #require(actual.logSumExp), within: 1e-4,
      of: try #require(expected.logSumExp).map(Double.init), "lse, \(what)")
  }
}
