package import ShaderLibrary

extension ShaderBinary {
  /// A shader that a plan without a choice of paths must have.
  ///
  /// - Throws: `AttentionError.noPath` where this build left it out.
  package static func required(_ name: String) throws(AttentionError) -> ShaderBinary {
    guard let shader = ShaderBinary.named(name) else {
      throw .noPath(reasons: ["this build has no shader \(name)"])
    }
    return shader
  }
}
