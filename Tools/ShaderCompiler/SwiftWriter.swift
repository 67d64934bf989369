import Foundation

/// Writes the Swift that carries the shaders into the library.
///
/// The SPIR-V is one base64 `StaticString` per shader: the compiler takes minutes over array
/// literals of this size, and the text needs no Foundation to be read.
enum SwiftWriter {
  private static let header = "// Made by ShaderCompiler from"

  static func file(for source: ShaderSource, declarations: [String]) -> String {
    """
    \(header) \(source.relativePath); a change here is lost.

    extension ShaderBinary {
    \(declarations.joined(separator: "\n\n"))
    }

    """
  }

  static func declaration(
    of variant: ShaderSource.Variant, of source: ShaderSource, result: CompiledVariant
  ) -> String {
    var fields = ["name: \(literal(variant.name))", "path: \(literal(source.relativePath))"]
    switch result {
    case .missing(let extensions, let compiler):
      fields.append(
        "content: .missing(extensions: \(list(extensions.map(literal))), "
          + "compiler: \(literal(compiler)))")
    case .compiled(let spirv, let reflection):
      let base64 = spirv.base64EncodedString()
      fields.append("content: .compiled(base64: \"\(base64)\")")
      fields.append("contentHash: 0x\(String(fnv1a(base64.utf8), radix: 16))")
      fields += interface(reflection)
    }
    return """
        /// The shader `\(variant.name)` of `\(source.relativePath)`.
        public static let `\(variant.identifier)` = ShaderBinary(
          \(fields.joined(separator: ",\n      ")))
      """
  }

  private static func interface(_ reflection: ShaderReflection) -> [String] {
    let members = reflection.pushConstants.map {
      "PushConstantMember(name: \(literal($0.name)), type: \(literal($0.type)), "
        + "byteOffset: \($0.byteOffset), byteCount: \($0.byteCount))"
    }
    let constants = reflection.specializationConstants.map {
      "SpecializationConstant(id: \($0.id), name: \(literal($0.name)), "
        + "type: \(literal($0.type)), defaultBits: \($0.defaultBits))"
    }
    let sizes = reflection.localSize.map {
      switch $0 {
      case .fixed(let size): ".fixed(\(size))"
      case .specialized(let id): ".specialized(id: \(id))"
      }
    }
    return [
      "pushConstants: \(list(members))",
      "pushConstantByteCount: \(reflection.pushConstantByteCount)",
      "specializationConstants: \(list(constants))",
      "localSize: \(list(sizes))",
      "capabilities: \(list(reflection.capabilities.map(literal)))",
      "extensions: \(list(reflection.extensions.map(literal)))",
    ]
  }

  /// The table of all shaders, by name.
  static func table(of sources: [ShaderSource]) throws(BuildFailure) -> String {
    // These are `ShaderBinary`'s own; a shader of that name would be declared twice.
    var places = ["all": "the table", "named": "the table"]
    var identifiers: [(name: String, identifier: String)] = []
    for source in sources {
      for variant in source.variants {
        let place = "\(source.path):\(variant.line)"
        if let other = places.updateValue(place, forKey: variant.identifier) {
          throw BuildFailure(
            "\(place): error: shader variant '\(variant.name)' has the name of \(other)")
        }
        identifiers.append((variant.name, variant.identifier))
      }
    }
    let entries = identifiers.sorted { $0.name < $1.name }.map { "    .`\($0.identifier)`,\n" }
    return """
      \(header) the folder's .comp files; a change here is lost.

      extension ShaderBinary {
        /// Every shader of the folder, by name, with those this build left out.
        public static let all: [ShaderBinary] = [\(entries.isEmpty ? "" : "\n" + entries.joined() + "  ")]
      }

      """
  }

  /// The texts of GLSL files by their paths inside the folder, for what compiles them at run time.
  static func sources(root: String, paths: [String]) throws(BuildFailure) -> String {
    let prefix = root.hasSuffix("/") ? root : root + "/"
    var entries: [String] = []
    var macros: Set<String> = []
    for path in paths.sorted() {
      guard let text = try? String(contentsOfFile: path, encoding: .utf8) else {
        throw BuildFailure("\(path):1: error: cannot be read as UTF-8 text")
      }
      let name = path.hasPrefix(prefix) ? String(path.dropFirst(prefix.count)) : path
      let code = codeLines(of: text)
      entries.append("    \(literal(name)): \(literal(code.joined(separator: "\n"))),\n")
      for line in code where line.hasPrefix("#define ") {
        macros.insert(String(line.dropFirst(8).prefix { $0.isLetter || $0.isNumber || $0 == "_" }))
      }
    }
    let names = macros.sorted().map { "    \(literal($0)),\n" }.joined()
    return """
      \(header) the folder's GLSL files; a change here is lost.

      /// The library's GLSL.
      enum EmbeddedSources {
        /// The texts by their paths inside the folder `Shaders`, without comments but for directives of the build.
        static let texts: [String: String] = [\(entries.isEmpty ? ":" : "\n" + entries.joined() + "  ")]

        /// The names that the texts define as macros.
        static let macros: Set<String> = [\(names.isEmpty ? "" : "\n" + names + "  ")]
      }

      """
  }

  /// The lines of a GLSL file, each in its place, without comments: they are a third of the text, which is read anew by
  /// every program that compiles it. Lines `// @…` tell the build something and stay.
  static func codeLines(of text: String) -> [String] {
    text.split(separator: "\n", omittingEmptySubsequences: false).map { line in
      if line.hasPrefix("// @") { return String(line) }
      var code = line.firstRange(of: "//").map { line[..<$0.lowerBound] } ?? line
      while code.last == " " { code.removeLast() }
      return String(code)
    }
  }

  /// The 64-bit FNV-1a hash: small, stable, and good enough to tell builds of a shader apart.
  static func fnv1a(_ bytes: some Sequence<UInt8>) -> UInt64 {
    bytes.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
  }

  private static func list(_ items: [String]) -> String {
    items.isEmpty ? "[]" : "[\n        \(items.joined(separator: ",\n        ")),\n      ]"
  }

  static func literal(_ text: String) -> String {
    let escaped = text.unicodeScalars.map { scalar in
      switch scalar {
      case "\\", "\"": "\\\(scalar)"
      case let scalar where scalar.value < 0x20: "\\u{\(String(scalar.value, radix: 16))}"
      default: String(scalar)
      }
    }
    return "\"\(escaped.joined())\""
  }
}
