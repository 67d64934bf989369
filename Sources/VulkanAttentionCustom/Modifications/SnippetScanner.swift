/// Looks a snippet through before it becomes part of a shader, for what would reach outside of its function.
enum SnippetScanner {
  /// Words that change the shader around a snippet, or that hang a workgroup whose lanes do not all come by.
  static let forbidden: Set<String> = [
    "main", "layout", "uniform", "buffer", "shared", "barrier", "memoryBarrier",
    "groupMemoryBarrier",
    "discard",
  ]
  /// Words of GLSL that a parameter might be named.
  static let reserved: Set<String> = forbidden.union([
    "float", "int", "uint", "bool", "double", "void", "vec2", "vec3", "vec4", "if", "else", "for",
    "while",
    "do", "return", "break", "continue", "const", "in", "out", "inout", "struct", "true", "false",
    "switch",
    "case", "default", "precision", "sampler", "image",
  ])

  private static let closers: [UInt8: UInt8] = [
    UInt8(ascii: "{"): UInt8(ascii: "}"), UInt8(ascii: "("): UInt8(ascii: ")"),
    UInt8(ascii: "["): UInt8(ascii: "]"),
  ]

  static func isLetter(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "_"):
      true
    default: false
    }
  }

  static func isDigit(_ byte: UInt8) -> Bool {
    (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
  }

  /// A word, a number or an operator, and where it stands, from 1.
  struct Token: Hashable {
    let text: String
    let line: Int
    let column: Int
  }

  /// Operators of more than one character, the longest first.
  private static let operators: [[UInt8]] = [
    "<<=", ">>=", "++", "--", "<<", ">>", "<=", ">=", "==", "!=", "&&", "||", "^^", "+=", "-=",
    "*=", "/=", "%=", "&=", "|=", "^=",
  ].map { Array($0.utf8) }

  /// The tokens of a snippet that has been checked, without its comments.
  static func tokens(_ text: String) -> [Token] {
    let bytes = Array(text.utf8)
    var tokens: [Token] = []
    var line = 1
    var lineStart = 0
    var index = 0
    func isAt(_ pattern: [UInt8]) -> Bool { bytes[index...].starts(with: pattern) }
    while index < bytes.count {
      let byte = bytes[index]
      if byte == UInt8(ascii: "\n") {
        line += 1
        lineStart = index + 1
        index += 1
      } else if byte <= UInt8(ascii: " ") {
        index += 1
      } else if isAt([UInt8(ascii: "/"), UInt8(ascii: "/")]) {
        while index < bytes.count, bytes[index] != UInt8(ascii: "\n") { index += 1 }
      } else if isAt([UInt8(ascii: "/"), UInt8(ascii: "*")]) {
        index += 2
        while index < bytes.count, !isAt([UInt8(ascii: "*"), UInt8(ascii: "/")]) {
          if bytes[index] == UInt8(ascii: "\n") {
            line += 1
            lineStart = index + 1
          }
          index += 1
        }
        index += 2
      } else {
        let start = index
        let isNumber =
          isDigit(byte)
          || byte == UInt8(ascii: ".") && index + 1 < bytes.count && isDigit(bytes[index + 1])
        if isNumber {
          let isHexadecimal = isAt(Array("0x".utf8)) || isAt(Array("0X".utf8))
          while index < bytes.count {
            let isSign =
              [UInt8(ascii: "+"), UInt8(ascii: "-")].contains(bytes[index]) && !isHexadecimal
              && [UInt8(ascii: "e"), UInt8(ascii: "E")].contains(bytes[index - 1])
            guard
              isLetter(bytes[index]) || isDigit(bytes[index]) || bytes[index] == UInt8(ascii: ".")
                || index > start && isSign
            else { break }
            index += 1
          }
        } else if isLetter(byte) {
          while index < bytes.count, isLetter(bytes[index]) || isDigit(bytes[index]) { index += 1 }
        } else {
          index += operators.first(where: isAt)?.count ?? 1
        }
        tokens.append(
          Token(
            text: String(decoding: bytes[start..<index], as: UTF8.self), line: line,
            column: start - lineStart + 1))
      }
    }
    return tokens
  }

  /// - Throws: `snippetTooLarge`, or `refused` with the line and the column of the first thing that is wrong.
  static func check(_ text: String, _ snippet: CustomSnippet) throws(CustomAttentionError) {
    let bytes = Array(text.utf8)
    guard bytes.count <= CustomSnippet.largestByteCount else {
      throw .snippetTooLarge(
        snippet: snippet, byteCount: bytes.count, allowed: CustomSnippet.largestByteCount)
    }
    var line = 1
    var lineStart = 0
    func refusal(at index: Int, _ reason: String) -> CustomAttentionError {
      .refused(snippet: snippet, line: line, column: index - lineStart + 1, reason: reason)
    }
    func next(_ index: Int) -> UInt8? { index + 1 < bytes.count ? bytes[index + 1] : nil }

    // First, in comments too: the compiler joins and ends lines by these, so a comment would be longer or
    // shorter for it than it looks here.
    for (index, byte) in bytes.enumerated() {
      switch byte {
      case UInt8(ascii: "\n"):
        line += 1
        lineStart = index + 1
      case UInt8(ascii: "\\"): throw refusal(at: index, "a backslash")
      case UInt8(ascii: "\r") where next(index) != UInt8(ascii: "\n"):
        throw refusal(at: index, "a carriage return without a line feed")
      case 0: throw refusal(at: index, "a control character")
      default: break
      }
    }
    line = 1
    lineStart = 0

    var open: [(closer: UInt8, line: Int, column: Int)] = []
    var index = 0
    while index < bytes.count {
      let byte = bytes[index]
      switch byte {
      case UInt8(ascii: "\n"):
        line += 1
        lineStart = index + 1
      case UInt8(ascii: "/") where next(index) == UInt8(ascii: "/"):
        while index < bytes.count, bytes[index] != UInt8(ascii: "\n") { index += 1 }
        continue
      case UInt8(ascii: "/") where next(index) == UInt8(ascii: "*"):
        let start = (line, index - lineStart + 1)
        index += 2
        while index < bytes.count,
          bytes[index] != UInt8(ascii: "*") || next(index) != UInt8(ascii: "/")
        {
          if bytes[index] == UInt8(ascii: "\n") {
            line += 1
            lineStart = index + 1
          }
          index += 1
        }
        guard index < bytes.count else {
          throw .refused(
            snippet: snippet, line: start.0, column: start.1, reason: "a comment without an end")
        }
        index += 1
      case UInt8(ascii: "#"):
        throw refusal(
          at: index, "a preprocessor directive; a constant is declared with const instead")
      case UInt8(ascii: "{"), UInt8(ascii: "("), UInt8(ascii: "["):
        if let closer = closers[byte] { open.append((closer, line, index - lineStart + 1)) }
      case UInt8(ascii: "}"), UInt8(ascii: ")"), UInt8(ascii: "]"):
        guard open.popLast()?.closer == byte else {
          throw refusal(
            at: index, "a '\(Character(Unicode.Scalar(byte)))' that closes nothing")
        }
      case UInt8(ascii: "\t"), UInt8(ascii: "\r"):
        break
      case 0..<32, 127:
        throw refusal(at: index, "a control character")
      case 128...:
        throw refusal(at: index, "a character outside of ASCII; comments alone may have those")
      case _ where isLetter(byte):
        let start = index
        while index < bytes.count, isLetter(bytes[index]) || isDigit(bytes[index]) { index += 1 }
        let word = String(decoding: bytes[start..<index], as: UTF8.self)
        if forbidden.contains(word) {
          throw refusal(at: start, "the word '\(word)', which a modification must not have")
        }
        continue
      default:
        break
      }
      index += 1
    }
    if let last = open.last {
      throw .refused(
        snippet: snippet, line: last.line, column: last.column,
        reason: "a bracket without its '\(Character(Unicode.Scalar(last.closer)))'")
    }
  }
}
