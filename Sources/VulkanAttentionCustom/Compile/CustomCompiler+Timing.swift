internal import ShaderLibrary

#if canImport(Glibc)
  internal import Glibc
#elseif canImport(Musl)
  internal import Musl
#else
  internal import Darwin
#endif

extension CustomCompiler {
  /// Seconds from a snippet to its SPIR-V: by the compiler, and from the file that it leaves.
  ///
  /// - Parameters:
  ///   - shaderName: the library's shader that the modifications go into.
  ///   - device: what it is compiled for.
  /// - Throws: `CustomAttentionError`.
  package static func compilationSeconds(
    of shaderName: String, score: ScoreModification?, mask: MaskModification?,
    output: OutputModification?, device: DeviceCapabilities
  ) async throws(CustomAttentionError) -> (first: Double, disk: Double) {
    guard let shader = ShaderBinary.named(shaderName) else {
      throw .compilerFailed(log: "this build has no shader \(shaderName)")
    }
    let functions = [score?.function, mask?.function, output?.function].compactMap(\.self)
    let parameters = try CustomParameters(functions)
    var template = Array("/tmp/vulkan-attention-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else {
      throw .compilerFailed(log: "no folder can be made in /tmp")
    }
    let folder = template.withUnsafeBufferPointer { text in
      text.baseAddress.map { String(cString: $0) } ?? ""
    }
    defer { rmdir(folder) }
    /// As a process does that has not compiled anything yet; the text is put together anew.
    func seconds() async throws(CustomAttentionError) -> (Double, ShaderCacheFile) {
      let clock = ContinuousClock()
      let compiler = CustomCompiler(directory: folder)
      let start = clock.now
      let source = try CustomShaderSource(
        shader, functions, parameters: parameters, isChecked: false, device: device)
      _ = try await compiler.compile(source)
      let parts = (clock.now - start).components
      return (
        Double(parts.seconds) + Double(parts.attoseconds) * 1e-18,
        ShaderCacheFile(directory: folder, identity: try await compiler.identity(of: source))
      )
    }
    let (first, file) = try await seconds()
    defer { unlink(file.path) }
    let (disk, _) = try await seconds()
    return (first, disk)
  }
}
