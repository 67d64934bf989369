import Foundation

/// A `.comp` file and the variants it asks for.
///
/// Lines that begin with `// @` are directives to the build:
///
///     // @variant NAME [vulkan1.3] [DEFINE[=VALUE]…]    one compiled shader, for Vulkan 1.2 or as it says;
///                                                      none means one named as the file
///     // @spirv-opt off                                 leave every variant as the front end made it
struct ShaderSource: Equatable {
  /// One shader to be made from the file.
  struct Variant: Equatable {
    let name: String
    /// `NAME` or `NAME=VALUE`, as for the compiler's `-D`.
    let defines: [String]
    /// What it is compiled for, as for the compiler's `--target-env`.
    var target = ShaderToolchain.targetEnvironment
    /// The line the variant is declared on, for messages.
    let line: Int

    /// The variant's name as a Swift identifier: `attention_row` becomes `attentionRow`.
    var identifier: String {
      let words = name.split(whereSeparator: { $0 == "_" || $0 == "-" })
      return words.enumerated().map { index, word in
        (index == 0 ? word.prefix(1).lowercased() : word.prefix(1).uppercased())
          + word.dropFirst()
      }.joined()
    }
  }

  /// The file's absolute path.
  let path: String
  /// The path inside the shader folder, as kept in the table.
  let relativePath: String
  let variants: [Variant]
  let isOptimized: Bool

  init(path: String, root: String) throws {
    guard let text = try? String(contentsOfFile: path, encoding: .utf8) else {
      throw BuildFailure("\(path):1: error: cannot be read as UTF-8 text")
    }
    try self.init(text: text, path: path, root: root)
  }

  init(text: String, path: String, root: String) throws(BuildFailure) {
    let prefix = root.hasSuffix("/") ? root : root + "/"
    self.path = path
    self.relativePath = path.hasPrefix(prefix) ? String(path.dropFirst(prefix.count)) : path

    var variants: [Variant] = []
    var isOptimized = true
    let lines = text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline)
    for (index, line) in lines.enumerated() where line.hasPrefix("// @") {
      let words = line.dropFirst(4).split(whereSeparator: \.isWhitespace).map(String.init)
      let place = "\(path):\(index + 1)"
      switch words.first {
      case "variant":
        let variant = try Self.variant(words.dropFirst(), line: index + 1, place: place)
        if variants.contains(where: { $0.name == variant.name }) {
          throw BuildFailure("\(place): error: variant '\(variant.name)' is declared twice")
        }
        variants.append(variant)
      case "spirv-opt" where words.count == 2 && words[1] == "off":
        isOptimized = false
      default:
        throw BuildFailure(
          """
          \(place): error: '\(line)' is no directive; there are \
          '// @variant NAME [vulkan1.3] [DEFINE[=VALUE]…]' and '// @spirv-opt off'
          """)
      }
    }
    if variants.isEmpty {
      let name = URL(filePath: path).deletingPathExtension().lastPathComponent
      variants = [try Self.variant([name], line: 1, place: "\(path):1")]
    }
    self.variants = variants
    self.isOptimized = isOptimized
  }

  private static func variant(
    _ words: ArraySlice<String>, line: Int, place: String
  ) throws(BuildFailure) -> Variant {
    guard let name = words.first, isName(name, also: "-") else {
      throw BuildFailure(
        "\(place): error: a variant is named with letters, digits, '_' and '-', first a letter")
    }
    // Extensions that need a newer SPIR-V, on devices that have them.
    let isNewer = words.dropFirst().first == "vulkan1.3"
    let defines = words.dropFirst(isNewer ? 2 : 1)
    for define in defines {
      let macro = String(define.prefix { $0 != "=" })
      guard isName(macro, also: "_") else {
        throw BuildFailure("\(place): error: '\(define)' is neither DEFINE nor DEFINE=VALUE")
      }
    }
    var variant = Variant(name: name, defines: Array(defines), line: line)
    if isNewer { variant.target = "vulkan1.3" }
    return variant
  }

  private static func isName(_ text: String, also extra: Character) -> Bool {
    guard let first = text.first, first.isASCII, first.isLetter || first == extra && extra == "_"
    else { return false }
    return text.allSatisfy {
      $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "_" || $0 == extra)
    }
  }
}
