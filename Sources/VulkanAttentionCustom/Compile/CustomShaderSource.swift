internal import ShaderLibrary
internal import VulkanRuntime

/// The text of a kernel of the library with modifications in it: one file, without includes.
struct CustomShaderSource: Sendable {
  private static let generatedPath = "Attention/attention_modifications.glsl"

  let text: String
  let isOptimized: Bool
  /// Whether it is for Vulkan 1.3 and not for 1.2.
  let isNewer: Bool
  private let defines: [String]
  private let path: String
  private let functions: [CustomFunction]
  private let parameters: CustomParameters

  /// - Parameters:
  ///   - shader: the library's own shader, which says the file and the variant.
  ///   - functions: the modifications.
  ///   - isChecked: whether buffers are read inside of their bounds alone.
  ///   - device: what it will run on. For a CPU the compiler's optimiser is left out: a snippet for the row path
  ///     compiles in 0.12 to 0.23 s instead of 0.8 to 1.2 s, and lavapipe's code is as fast (ALiBi 1.01 and 1.00 of
  ///     the built-in, 1.00 and 1.04 with it). What compilers of GPUs make of plain code was not measured.
  /// - Throws: `compilerFailed` where the library's own text is not whole.
  init(
    _ shader: ShaderBinary, _ functions: [CustomFunction], parameters: CustomParameters,
    isChecked: Bool, device: DeviceCapabilities
  ) throws(CustomAttentionError) {
    var defines = ["CUSTOM_ATTENTION"] + functions.map(\.define)
    if isChecked { defines.append("CUSTOM_CHECKED") }
    guard let main = EmbeddedSources.texts[shader.path] else {
      throw .compilerFailed(log: "the library has no text of \(shader.path)")
    }
    var isOptimized = device.kind != .cpu
    var isNewer = false
    for line in Self.lines(of: main) where line.hasPrefix("// @") {
      let words = line.dropFirst(4).split(separator: " ").map(String.init)
      if words == ["spirv-opt", "off"] { isOptimized = false }
      if words.first == "variant", words.dropFirst().first == shader.name {
        isNewer = words.dropFirst(2).first == "vulkan1.3"
        defines += words.dropFirst(isNewer ? 3 : 2)
      }
    }
    self.isOptimized = isOptimized
    self.isNewer = isNewer
    self.defines = defines
    self.functions = functions
    self.parameters = parameters
    path = shader.path
    text = try Self.text(
      path, defines, Self.generated(functions, parameters) { "#line 1 \"\($0.rawValue)\"\n\($1)\n" }
    )
  }

  // MARK: - Text

  private static func text(
    _ path: String, _ defines: [String], _ generated: String
  ) throws(CustomAttentionError) -> String {
    var texts = EmbeddedSources.texts
    texts[generatedPath] = generated
    var included: Set<String> = []
    // The version has to come first; names of files in line directives need their extension.
    return
      """
      #version 460
      #extension GL_GOOGLE_cpp_style_line_directive : require
      \(defines.map { "#define " + $0.replacing("=", with: " ", maxReplacements: 1) + "\n" }.joined())
      """ + (try flatten(path, texts, &included))
  }

  /// The accessors of parameters and the functions. Names of parameters are macros around a modification, so that
  /// they meet no name of the kernel.
  ///
  /// - Parameter place: writes a snippet, the first argument, with its text into the shader.
  private static func generated(
    _ functions: [CustomFunction], _ parameters: CustomParameters,
    place: (CustomSnippet, String) -> String
  ) -> String {
    var text = ""
    for (index, buffer) in parameters.buffers.enumerated() {
      let loader = buffer.element.loader(index)
      text += "\(loader.type) customBuffer\(index)(int index) { return \(loader.expression); }\n"
    }
    for (index, scalar) in parameters.scalars.enumerated() {
      let load = "customScalars[\(index)]"
      let value = scalar.kind == .float ? "uintBitsToFloat(\(load))" : "int(\(load))"
      text += "\(scalar.kind.rawValue) customScalar\(index)() { return \(value); }\n"
    }
    let loads =
      parameters.buffers.indices.flatMap {
        [
          "customAddresses[\($0)] = CUSTOM_BLOCK.buffers[\($0)].address;",
          "customCounts[\($0)] = CUSTOM_BLOCK.buffers[\($0)].elementCount;",
        ]
      } + parameters.scalars.indices.map { "customScalars[\($0)] = CUSTOM_BLOCK.scalars[\($0)];" }
    text += "void openCustom() {\n\(loads.map { "  \($0)\n" }.joined())}\n"
    for function in functions {
      var defined: [String] = []
      for (index, buffer) in parameters.buffers.enumerated()
      where function.buffers.contains(buffer) {
        text += "#define \(buffer.name)(index) customBuffer\(index)(int(index))\n"
        defined.append(buffer.name)
      }
      for (index, scalar) in parameters.scalars.enumerated()
      where function.scalars.contains(scalar) {
        text += "#define \(scalar.name) customScalar\(index)()\n"
        defined.append(scalar.name)
      }
      text += place(function.declarationsSnippet, function.declarations)
      // The brackets count as the body's, so that a missing return is found there.
      text += "#line 1 \"\(function.bodySnippet.rawValue)\"\n\(function.head) {\n"
      text += place(function.bodySnippet, function.body)
      // Without any return the compiler is to say so.
      let returns = SnippetScanner.tokens(function.body).contains { $0.text == "return" }
      text += returns ? "return \(function.otherwise); }\n" : "}\n"
      text += defined.map { "#undef \($0)\n" }.joined()
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
    for (index, line) in lines(of: text).enumerated() {
      if line.utf8.first != UInt8(ascii: "#") {
        result += line
        result += "\n"
      } else if line.hasPrefix("#version") {
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
        result += line
        result += "\n"
      }
    }
    return result
  }

  /// By bytes: by characters it takes ten times as long, and a kernel has some thousand lines.
  private static func lines(of text: String) -> [Substring] {
    text.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
      .map { Substring($0) }
  }

  // MARK: - Errors

  /// What the compiler's log means for the user.
  ///
  /// - Parameter compile: compiles another text, and gives the log of one that fails.
  func error(
    log: String, library: String, compile: (String) -> String?
  ) -> CustomAttentionError {
    var extensions: [String] = []
    for line in log.split(separator: "\n") {
      if let phrase = line.firstRange(of: "extension not supported: ") {
        let name = line[phrase.upperBound...].prefix { $0.isLetter || $0.isNumber || $0 == "_" }
        if !extensions.contains(String(name)) { extensions.append(String(name)) }
      }
    }
    if !extensions.isEmpty { return .compilerTooOld(extensions: extensions, library: library) }
    let plain = Self.messages(log)
    if plain.isEmpty { return .compilerFailed(log: log) }
    // The compiler names lines alone. With a token in each line, a line is a token.
    var tokens: [CustomSnippet: [SnippetScanner.Token]] = [:]
    let generated = Self.generated(functions, parameters) { snippet, text in
      let found = SnippetScanner.tokens(text)
      tokens[snippet] = found
      // Line 1 is the function's head.
      return "#line 2 \"\(snippet.rawValue)\"\n" + found.map { $0.text + "\n" }.joined()
    }
    let placed =
      (try? Self.text(path, defines, generated)).flatMap(compile).map(Self.messages) ?? []
    let messages = (placed.isEmpty ? plain : placed).map { message in
      guard !placed.isEmpty, let found = tokens[message.snippet] else {
        return CustomCompilerMessage(
          snippet: message.snippet, line: message.line, column: nil, text: message.text)
      }
      let index = message.line - 2
      // Behind the last token is the bracket that ends the function.
      var token = found.indices.contains(index) ? found[index] : index < 0 ? nil : found.last
      // A call is said to be where it ends; the name in the message is where it begins.
      if index >= 0, message.text.hasPrefix("'") {
        let name = message.text.dropFirst().prefix { $0 != "'" }
        token = found.prefix(index + 1).last { $0.text == name } ?? token
      }
      return CustomCompilerMessage(
        snippet: message.snippet, line: token?.line ?? 1, column: token?.column, text: message.text)
    }
    return .notCompiled(messages: messages)
  }

  /// The lines of a log that are about a snippet: `FILE:LINE: error: 'TOKEN' : WORDS`.
  private static func messages(
    _ log: String
  ) -> [(snippet: CustomSnippet, line: Int, text: String)] {
    log.split(separator: "\n").compactMap { line in
      let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
      guard parts.count == 3, let snippet = CustomSnippet(rawValue: String(parts[0])),
        let number = Int(parts[1]), parts[2].hasPrefix(" error: ")
      else { return nil }
      return (snippet, number, String(parts[2].dropFirst(8)))
    }
  }
}
