internal import ShaderLibrary

/// The text of a kernel of the library with modifications in it: one file, without includes.
struct CustomShaderSource: Sendable {
  private static let generatedPath = "Attention/attention_modifications.glsl"

  let text: String
  let isOptimized: Bool
  private let snippets: [CustomSnippet: String]

  /// - Parameters:
  ///   - shader: the library's own shader, which says the file and the variant.
  ///   - isChecked: whether buffers are read inside of their bounds alone.
  /// - Throws: `compilerFailed` where the library's own text is not whole.
  init(
    _ shader: ShaderBinary, score: ScoreModification?, mask: MaskModification?,
    parameters: CustomParameters, isChecked: Bool
  ) throws(CustomAttentionError) {
    var defines = ["CUSTOM_ATTENTION"]
    if score != nil { defines.append("CUSTOM_SCORE") }
    if mask != nil { defines.append("CUSTOM_MASK") }
    if isChecked { defines.append("CUSTOM_CHECKED") }
    guard let main = EmbeddedSources.texts[shader.path] else {
      throw .compilerFailed(log: "the library has no text of \(shader.path)")
    }
    var isOptimized = true
    for line in main.split(separator: "\n") where line.hasPrefix("// @") {
      let words = line.dropFirst(4).split(separator: " ").map(String.init)
      if words == ["spirv-opt", "off"] { isOptimized = false }
      if words.first == "variant", words.dropFirst().first == shader.name {
        defines += words.dropFirst(2)
      }
    }
    var texts = EmbeddedSources.texts
    texts[Self.generatedPath] = Self.functions(score, mask, parameters)
    var included: Set<String> = []
    let body = try Self.flatten(shader.path, texts, &included)
    // The version has to come first; names of files in line directives need their extension.
    text =
      """
      #version 460
      #extension GL_GOOGLE_cpp_style_line_directive : require
      \(defines.map { "#define " + $0.replacing("=", with: " ", maxReplacements: 1) + "\n" }.joined())
      """ + body
    self.isOptimized = isOptimized
    snippets = [
      .score: score?.body ?? "", .scoreDeclarations: score?.declarations ?? "",
      .mask: mask?.body ?? "", .maskDeclarations: mask?.declarations ?? "",
    ]
  }

  // MARK: - Text

  /// The accessors of parameters and the two functions. Names of parameters are macros around a modification, so
  /// that they meet no name of the kernel.
  private static func functions(
    _ score: ScoreModification?, _ mask: MaskModification?, _ parameters: CustomParameters
  ) -> String {
    var text = ""
    for (place, buffer) in parameters.buffers.enumerated() {
      let loader = buffer.element.loader(place)
      text += "\(loader.type) customBuffer\(place)(int index) { return \(loader.expression); }\n"
    }
    func function(
      _ head: String, _ body: (CustomSnippet, String), _ declarations: (CustomSnippet, String),
      _ buffers: [CustomBuffer], _ scalars: [CustomScalar]
    ) -> String {
      var defined: [String] = []
      var text = ""
      for (place, buffer) in parameters.buffers.enumerated() where buffers.contains(buffer) {
        text += "#define \(buffer.name)(index) customBuffer\(place)(int(index))\n"
        defined.append(buffer.name)
      }
      for (place, scalar) in parameters.scalars.enumerated() where scalars.contains(scalar) {
        let load = "CUSTOM_BLOCK.scalars[\(place)]"
        let value = scalar.kind == .float ? "uintBitsToFloat(\(load))" : "int(\(load))"
        text += "#define \(scalar.name) (\(value))\n"
        defined.append(scalar.name)
      }
      text += "#line 1 \"\(declarations.0.rawValue)\"\n\(declarations.1)\n"
      // The brackets count as the body's, so that a missing return is found there.
      text += "#line 1 \"\(body.0.rawValue)\"\n\(head) {\n"
      text += "#line 1 \"\(body.0.rawValue)\"\n\(body.1)\n}\n"
      return text + defined.map { "#undef \($0)\n" }.joined()
    }
    if let score {
      text += function(
        "float customScore(float score, int batch, int head, int queryIndex, int keyIndex)",
        (.score, score.body), (.scoreDeclarations, score.declarations), score.buffers,
        score.scalars)
    }
    if let mask {
      text += function(
        "bool customMask(int batch, int head, int queryIndex, int keyIndex)", (.mask, mask.body),
        (.maskDeclarations, mask.declarations), mask.buffers, mask.scalars)
    }
    return text
  }

  /// A file with its includes in their places, each once, as their guards would have it.
  private static func flatten(
    _ path: String, _ texts: [String: String], _ included: inout Set<String>
  ) throws(CustomAttentionError) -> String {
    guard let text = texts[path] else {
      throw .compilerFailed(log: "the library has no text of \(path)")
    }
    included.insert(path)
    let folder = path.split(separator: "/").dropLast()
    var result = "#line 1 \"\(path)\"\n"
    for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated()
    {
      if line.hasPrefix("#version") {
        result += "\n"
      } else if line.hasPrefix("#include \"") {
        let name = line.dropFirst(10).prefix { $0 != "\"" }
        var parts = folder.map(String.init)
        for part in name.split(separator: "/") {
          if part == ".." {
            _ = parts.popLast()
          } else {
            parts.append(String(part))
          }
        }
        let target = parts.joined(separator: "/")
        if !included.contains(target) {
          result += try flatten(target, texts, &included)
        }
        result += "#line \(index + 2) \"\(path)\"\n"
      } else {
        result += line + "\n"
      }
    }
    return result
  }

  // MARK: - Errors

  /// What the compiler's log means for the user.
  func error(log: String, library: String) -> CustomAttentionError {
    var messages: [CustomCompilerMessage] = []
    var extensions: [String] = []
    for line in log.split(separator: "\n") {
      if let phrase = line.firstRange(of: "extension not supported: ") {
        let name = line[phrase.upperBound...].prefix { $0.isLetter || $0.isNumber || $0 == "_" }
        if !extensions.contains(String(name)) { extensions.append(String(name)) }
      }
      if let message = message(line) { messages.append(message) }
    }
    if !extensions.isEmpty { return .compilerTooOld(extensions: extensions, library: library) }
    return messages.isEmpty ? .compilerFailed(log: log) : .notCompiled(messages: messages)
  }

  /// One line of the log, `FILE:LINE: error: 'TOKEN' : WORDS`; nil where it is about no snippet.
  private func message(_ line: Substring) -> CustomCompilerMessage? {
    let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
    guard parts.count == 3, let snippet = CustomSnippet(rawValue: String(parts[0])),
      let number = Int(parts[1]), parts[2].hasPrefix(" error: ")
    else { return nil }
    let words = parts[2].dropFirst(8)
    var column: Int?
    let rows = (snippets[snippet] ?? "").split(
      omittingEmptySubsequences: false, whereSeparator: \.isNewline)
    let token = words.hasPrefix("'") ? words.dropFirst().prefix { $0 != "'" } : ""
    if !token.isEmpty, number >= 1, number <= rows.count {
      let row = rows[number - 1]
      if let place = row.firstRange(of: token) {
        column = row.utf8.distance(from: row.startIndex, to: place.lowerBound) + 1
      }
    }
    return CustomCompilerMessage(
      snippet: snippet, line: number, column: column, text: String(words))
  }
}
