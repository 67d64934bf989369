internal import ShaderLibrary

/// Tiled attention with modifications of its scores and masks, compiled at run time and ready to be recorded.
///
///     o[b,i,h,:] = Σ_j softmax_j(score(scale · q·k, b, h, i, j) if mask(b, h, i, j)) v[b,j,g,:]
///
/// All options of the request hold as well; see ``ScoreModification`` for the order. Rows of which every key is
/// hidden give o = 0 and a log-sum-exp of −∞.
///
/// Safe to share between tasks: it holds a plan and pipelines, no buffers.
public struct CustomAttention: Sendable {
  /// The kernel, whose plan says the path, the pieces and the scratch memory.
  private let kernel: AttentionKernel
  private let parameters: CustomParameters

  /// How the request runs. Give buffers as it asks, scratch memory of its `scratchByteCount` among them.
  public var plan: AttentionPlan { kernel.plan }

  /// Plans a request, compiles its shader with the modifications and prepares its pipeline.
  ///
  /// - Parameters:
  ///   - request: the problem.
  ///   - score: what is done to each score.
  ///   - mask: which keys are seen.
  ///   - device: where it runs.
  ///   - path: forces a path; nil chooses the best.
  ///   - isChecked: whether an index outside of a user's buffer is caught: it then gives NaN, or 0 of integers, and
  ///     the memory is not touched. Unchecked, such a load is undefined behaviour.
  ///   - tuning: tiles that were measured on the device.
  ///   - compiler: what compiles and keeps shaders.
  /// - Throws: `CustomAttentionError`.
  public init(
    _ request: AttentionRequest, score: ScoreModification? = nil, mask: MaskModification? = nil,
    on device: ComputeDevice, path: AttentionPath? = nil, isChecked: Bool = false,
    tuning: Tuning = .none, compiler: CustomCompiler = .shared
  ) async throws(CustomAttentionError) {
    let parameters = try CustomParameters(score, mask)
    let plan = try wrappingAttentionErrors { () throws(AttentionError) in
      try AttentionPlan(
        request, device: device.capabilities, path: path, tuning: tuning,
        customByteCount: CustomBlock.byteCount)
    }
    guard let shader = ShaderBinary.named(plan.shaderName) else {
      throw .attention(
        .pathUnavailable(path: plan.path, reason: "this build has no shader \(plan.shaderName)"))
    }
    let source = try CustomShaderSource(
      shader, score: score, mask: mask, parameters: parameters, isChecked: isChecked)
    let words = try await compiler.compile(source)
    let custom = try shader.replacing(words)
    self.parameters = parameters
    kernel = try wrappingAttentionErrors { () throws(AttentionError) in
      try AttentionKernel(plan, on: device, customShader: custom)
    }
  }

  /// Appends the whole attention to a recorder. It does not submit, wait or allocate.
  ///
  /// - Parameters:
  ///   - buffers: the attention's tensors.
  ///   - userBuffers: the modifications' buffers by their names, each to its end.
  ///   - scalars: the modifications' scalars by their names.
  ///   - recorder: what is appended to.
  /// - Throws: `CustomAttentionError.invalidInputs` or `attention`, before anything is appended.
  public func record(
    _ buffers: AttentionBuffers, userBuffers: [String: DeviceBuffer] = [:],
    scalars: [String: CustomScalar.Value] = [:], into recorder: Recorder
  ) throws(CustomAttentionError) {
    let buffers = try adding(userBuffers, scalars, to: buffers)
    try wrappingAttentionErrors { () throws(AttentionError) in
      try kernel.record(buffers, into: recorder)
    }
  }

  /// Runs the attention piece by piece and returns when the outputs are there, as `AttentionKernel.run` does.
  ///
  /// - Throws: as `record`.
  public func run(
    _ buffers: AttentionBuffers, userBuffers: [String: DeviceBuffer] = [:],
    scalars: [String: CustomScalar.Value] = [:], progress: (@Sendable (Double) -> Void)? = nil
  ) async throws(CustomAttentionError) {
    let buffers = try adding(userBuffers, scalars, to: buffers)
    do {
      try await kernel.run(buffers, progress: progress)
    } catch {
      throw .attention(error)
    }
  }

  private func adding(
    _ userBuffers: [String: DeviceBuffer], _ scalars: [String: CustomScalar.Value],
    to buffers: AttentionBuffers
  ) throws(CustomAttentionError) -> AttentionBuffers {
    var buffers = buffers
    buffers.custom = try CustomBlock.inputs(parameters, buffers: userBuffers, scalars: scalars)
    return buffers
  }
}

extension ShaderBinary {
  private static let capabilityOpcode: UInt32 = 17
  /// The capabilities that the attention kernels have, and what code may ask for beyond them.
  private static let capabilityNames: [UInt32: String] = [
    1: "Shader", 9: "Float16", 10: "Float64", 11: "Int64", 61: "GroupNonUniform",
    62: "GroupNonUniformVote", 63: "GroupNonUniformArithmetic", 65: "GroupNonUniformShuffle",
    4433: "StorageBuffer16BitAccess", 5345: "VulkanMemoryModel",
    5347: "PhysicalStorageBufferAddresses", 6022: "CooperativeMatrixKHR",
  ]

  /// This shader's interface with other code, which came of the same file.
  ///
  /// - Throws: `unsupportedCapability` for code that needs more of a device than the kernel does.
  func replacing(_ words: [UInt32]) throws(CustomAttentionError) -> ShaderBinary {
    // Capabilities come first, behind a header of five words.
    var index = 5
    while index < words.count, words[index] & 0xffff == Self.capabilityOpcode,
      words[index] >> 16 == 2,
      index + 1 < words.count
    {
      let name = Self.capabilityNames[words[index + 1]] ?? "number \(words[index + 1])"
      guard capabilities.contains(name) else { throw .unsupportedCapability(name: name) }
      index += 2
    }
    return ShaderBinary(
      name: name + "_custom", path: path, content: .loaded(words: words),
      contentHash: words.withUnsafeBytes { ShaderCacheFile.hash($0) }, pushConstants: pushConstants,
      pushConstantByteCount: pushConstantByteCount,
      specializationConstants: specializationConstants, localSize: localSize,
      capabilities: capabilities, extensions: extensions)
  }
}
