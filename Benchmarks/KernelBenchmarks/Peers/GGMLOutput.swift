/// What `test-backend-ops perf` printed.
public struct GGMLOutput: Sendable, Hashable {
  /// One case that was run.
  public struct Row: Sendable, Hashable {
    /// The names and values of its parameters.
    public let parameters: [String: String]
    /// The mean time of one run; nil where the backend does not support the case.
    public let seconds: Double?
  }

  /// The device of the backend that ran.
  public let device: String
  /// The cases, in their order.
  public let rows: [Row]

  /// Reads what the program wrote to stdout.
  ///
  /// - Parameter path: the program, for messages.
  /// - Throws: ``GGMLError`` where this is another program's output, where no backend ran, and where
  ///   a line of a case has another form.
  public init(_ text: String, from path: String) throws(GGMLError) {
    let lines = Self.withoutColors(text).split(whereSeparator: \.isNewline)
      .map { Self.trimmed($0) }
    guard lines.contains(where: { $0.hasPrefix("Testing ") && $0.hasSuffix(" devices") }) else {
      throw .wrongProgram(path: path, output: text)
    }
    let label = "Device description: "
    guard let device = lines.first(where: { $0.hasPrefix(label) }) else { throw .noDevice }
    self.device = String(device.dropFirst(label.count))
    var rows: [Row] = []
    for line in lines where line.hasPrefix("\(GGMLCase.operation)(") {
      rows.append(try Self.row(line))
    }
    self.rows = rows
  }

  /// The time of a case: of its variants, such as with and without a mask, the fastest.
  ///
  /// - Throws: ``GGMLError/caseMissing(_:)``, ``GGMLError/notSupported(_:)``.
  public func seconds(of wanted: GGMLCase) throws(GGMLError) -> Double {
    let matching = rows.filter { wanted.matches($0.parameters) }
    guard !matching.isEmpty else { throw .caseMissing(wanted) }
    guard let fastest = matching.compactMap(\.seconds).min() else { throw .notSupported(wanted) }
    return fastest
  }

  /// Reads `FLASH_ATTN_EXT(hsk=64,…,nr23=[1,1],…):   47 runs - 408563.30 us/run - …`.
  private static func row(_ line: Substring) throws(GGMLError) -> Row {
    let malformed = GGMLError.malformed(line: String(line))
    let body = line.dropFirst(GGMLCase.operation.count + 1)
    guard let end = body.firstIndex(of: ")"), body[end...].hasPrefix("):"),
      let parameters = parameters(body[..<end])
    else { throw malformed }
    let rest = trimmed(body[end...].dropFirst(2))
    guard !rest.hasPrefix("not supported") else {
      return Row(parameters: parameters, seconds: nil)
    }
    let words = rest.split(separator: " ")
    guard words.count >= 5, words[1] == "runs", words[2] == "-", words[4] == "us/run",
      let runs = Int(words[0]), runs > 0,
      let microseconds = Double(words[3]), microseconds > 0, microseconds.isFinite
    else { throw malformed }
    return Row(parameters: parameters, seconds: microseconds * 1e-6)
  }

  /// Reads `hsk=64,nr23=[1,1]`; the commas of a list do not separate. Nil for another form.
  private static func parameters(_ text: Substring) -> [String: String]? {
    var depth = 0
    let parts = text.split(omittingEmptySubsequences: false) { character in
      if character == "[" { depth += 1 }
      if character == "]" { depth -= 1 }
      return character == "," && depth == 0
    }
    var parameters: [String: String] = [:]
    for part in parts {
      guard let equals = part.firstIndex(of: "="), equals != part.startIndex else { return nil }
      parameters[String(part[..<equals])] = String(part[equals...].dropFirst())
    }
    return depth == 0 ? parameters : nil
  }

  /// The text without the escape sequences that color it.
  private static func withoutColors(_ text: String) -> String {
    var result = ""
    var isEscape = false
    for scalar in text.unicodeScalars {
      if scalar == "\u{1B}" {
        isEscape = true
      } else if isEscape {
        isEscape = !scalar.properties.isAlphabetic
      } else {
        result.unicodeScalars.append(scalar)
      }
    }
    return result
  }

  private static func trimmed(_ text: Substring) -> Substring {
    var text = text.drop(while: \.isWhitespace)
    while text.last?.isWhitespace == true { text.removeLast() }
    return text
  }
}
