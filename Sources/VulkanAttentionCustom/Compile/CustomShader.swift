internal import ShaderLibrary
internal import VulkanRuntime

/// A plan whose shader has modifications in it.
enum CustomShader {
  /// Plans and compiles, without the paths that the machine's GLSL compiler lacks extensions for where none is forced.
  ///
  /// - Parameters:
  ///   - device: what the shader will run on.
  ///   - makePlan: plans without some paths, and says the plan's path and shader.
  static func choose<Plan: Sendable>(
    _ functions: [CustomFunction], _ parameters: CustomParameters, path: AttentionPath?,
    isChecked: Bool, device: DeviceCapabilities, compiler: CustomCompiler,
    makePlan: ([AttentionPath: String]) throws(AttentionError) -> (Plan, AttentionPath, String)
  ) async throws(CustomAttentionError) -> (Plan, ShaderBinary) {
    var excluded: [AttentionPath: String] = [:]
    while true {
      let (plan, chosen, name) = try wrappingAttentionErrors { () throws(AttentionError) in
        try makePlan(excluded)
      }
      guard let shader = ShaderBinary.named(name) else {
        throw .attention(
          .pathUnavailable(path: chosen, reason: "this build has no shader \(name)"))
      }
      do throws(CustomAttentionError) {
        return (
          plan,
          try await compile(
            shader, functions, parameters, isChecked: isChecked, device: device,
            compiler: compiler)
        )
      } catch .compilerTooOld(let extensions, let library) where path == nil {
        // Each path once: a plan does not choose one that it may not.
        guard excluded[chosen] == nil else {
          throw .compilerTooOld(extensions: extensions, library: library)
        }
        excluded[chosen] =
          "the GLSL compiler \(library) lacks \(extensions.joined(separator: ", "))"
      }
    }
  }

  /// A shader of the library with modifications in it.
  static func compile(
    _ shader: ShaderBinary, _ functions: [CustomFunction], _ parameters: CustomParameters,
    isChecked: Bool, device: DeviceCapabilities, compiler: CustomCompiler
  ) async throws(CustomAttentionError) -> ShaderBinary {
    let source = try CustomShaderSource(
      shader, functions, parameters: parameters, isChecked: isChecked, device: device)
    return try shader.replacing(try await compiler.compile(source))
  }
}

extension ShaderBinary {
  private static let capabilityOpcode: UInt32 = 17
  /// What code asks for that ordinary kernels do not.
  private static let capabilityNames: [UInt32: String] = [
    10: "Float64", 12: "Int64Atomics", 22: "Int16", 39: "Int8", 50: "ImageQuery",
    64: "GroupNonUniformBallot", 68: "GroupNonUniformQuad", 5055: "ShaderClockKHR",
  ]

  /// The numbers of the capabilities that code asks for.
  private static func capabilities(of words: [UInt32]) -> [UInt32] {
    // They come first, behind a header of five words.
    var found: [UInt32] = []
    var index = 5
    while index + 1 < words.count, words[index] == 2 << 16 | Self.capabilityOpcode {
      found.append(words[index + 1])
      index += 2
    }
    return found
  }

  /// This shader's interface with other code, which came of the same file.
  ///
  /// - Throws: `unsupportedCapability` for code that needs more of a device than the kernel does.
  func replacing(_ words: [UInt32]) throws(CustomAttentionError) -> ShaderBinary {
    let own: [UInt32]
    do {
      own = try self.words()
    } catch {
      throw .compilerFailed(log: "\(error)")
    }
    let known = Set(Self.capabilities(of: own))
    for number in Self.capabilities(of: words) where !known.contains(number) {
      throw .unsupportedCapability(name: Self.capabilityNames[number] ?? "number \(number)")
    }
    return ShaderBinary(
      name: name + "_custom", path: path, content: .loaded(words: words),
      contentHash: words.withUnsafeBytes { IdentifiedFile.hash($0) }, pushConstants: pushConstants,
      pushConstantByteCount: pushConstantByteCount,
      specializationConstants: specializationConstants, localSize: localSize,
      capabilities: capabilities, extensions: extensions)
  }
}
