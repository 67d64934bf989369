/// Reads what the GLSL compiler said when it failed.
enum CompilerMessages {
  /// The extensions that the compiler does not know, each once, in the order of the messages.
  ///
  /// Only errors count: a shader that says `#extension X : enable` gets a warning and is expected
  /// to do without, so whatever fails afterwards is the shader's own mistake.
  static func unsupportedExtensions(in output: String) -> [String] {
    var names: [String] = []
    for line in output.split(whereSeparator: \.isNewline) {
      guard let error = line.firstRange(of: ": error: "),
        let phrase = line.firstRange(of: "extension not supported: "),
        error.upperBound <= phrase.lowerBound
      else { continue }
      let name = String(
        line[phrase.upperBound...].prefix { $0.isLetter || $0.isNumber || $0 == "_" })
      if !name.isEmpty, !names.contains(name) { names.append(name) }
    }
    return names
  }
}
