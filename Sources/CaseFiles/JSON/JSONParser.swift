/// What is wrong with a JSON text, and at which byte.
struct JSONError: Error {
  let byte: Int
  let reason: String
}

/// A strict reader of JSON (RFC 8259) for text that cannot be trusted.
///
/// Own code because the system's parser accepts repeated keys, which two readers of one file may
/// understand differently, and because it does not keep booleans and numbers apart everywhere.
/// Nesting is limited, so the recursion is too.
struct JSONParser {
  private let bytes: ArraySlice<UInt8>
  private var position: Int
  private static let deepest = 32
  private static let digits = UInt8(ascii: "0")...UInt8(ascii: "9")

  /// Reads the one value that `bytes` is to contain, with white space around it.
  static func parse(_ bytes: ArraySlice<UInt8>) throws(JSONError) -> JSONValue {
    var parser = JSONParser(bytes: bytes, position: bytes.startIndex)
    let value = try parser.value(depth: 0)
    parser.skipSpace()
    if parser.position != bytes.endIndex { throw parser.error("text after the value") }
    return value
  }

  private func error(_ reason: String) -> JSONError {
    JSONError(byte: position - bytes.startIndex, reason: reason)
  }

  private var next: UInt8? { position < bytes.endIndex ? bytes[position] : nil }

  private mutating func skipSpace() {
    while let byte = next, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 {
      position += 1
    }
  }

  private mutating func accept(_ character: Unicode.Scalar) -> Bool {
    skipSpace()
    guard next == UInt8(ascii: character) else { return false }
    position += 1
    return true
  }

  private mutating func expect(_ character: Unicode.Scalar) throws(JSONError) {
    if !accept(character) { throw error("expected '\(character)'") }
  }

  private mutating func value(depth: Int) throws(JSONError) -> JSONValue {
    skipSpace()
    switch next {
    case UInt8(ascii: "{"): return try object(depth: depth + 1)
    case UInt8(ascii: "["): return try array(depth: depth + 1)
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "t"): return try word("true", .bool(true))
    case UInt8(ascii: "f"): return try word("false", .bool(false))
    case UInt8(ascii: "n"): return try word("null", .null)
    case nil: throw error("unexpected end")
    case let byte? where byte == UInt8(ascii: "-") || Self.digits.contains(byte):
      return try number()
    default: throw error("unexpected character")
    }
  }

  private mutating func word(_ word: String, _ value: JSONValue) throws(JSONError) -> JSONValue {
    for byte in word.utf8 {
      if next != byte { throw error("expected \(word)") }
      position += 1
    }
    return value
  }

  private mutating func object(depth: Int) throws(JSONError) -> JSONValue {
    if depth > Self.deepest { throw error("nested too deeply") }
    try expect("{")
    var members: [JSONMember] = []
    var keys: Set<String> = []
    if accept("}") { return .object([]) }
    repeat {
      skipSpace()
      let start = position
      let key = try string()
      if !keys.insert(key).inserted {
        position = start
        throw error("the key \(quotedJSON(key)) appears twice")
      }
      try expect(":")
      members.append(JSONMember(key: key, value: try value(depth: depth)))
    } while accept(",")
    try expect("}")
    return .object(members)
  }

  private mutating func array(depth: Int) throws(JSONError) -> JSONValue {
    if depth > Self.deepest { throw error("nested too deeply") }
    try expect("[")
    var values: [JSONValue] = []
    if accept("]") { return .array([]) }
    repeat { values.append(try value(depth: depth)) } while accept(",")
    try expect("]")
    return .array(values)
  }

  private mutating func skipDigits() throws(JSONError) {
    let start = position
    while let byte = next, Self.digits.contains(byte) { position += 1 }
    if position == start { throw error("expected a digit") }
  }

  private mutating func number() throws(JSONError) -> JSONValue {
    let start = position
    if next == UInt8(ascii: "-") { position += 1 }
    let leading = position
    try skipDigits()
    if bytes[leading] == UInt8(ascii: "0") && position > leading + 1 {
      throw error("a number with a leading zero")
    }
    var isInteger = true
    if next == UInt8(ascii: ".") {
      isInteger = false
      position += 1
      try skipDigits()
    }
    if next == UInt8(ascii: "e") || next == UInt8(ascii: "E") {
      isInteger = false
      position += 1
      if next == UInt8(ascii: "+") || next == UInt8(ascii: "-") { position += 1 }
      try skipDigits()
    }
    let text = String(decoding: bytes[start..<position], as: UTF8.self)
    if isInteger, let value = Int(text) { return .integer(value) }
    guard let value = Double(text), value.isFinite else { throw error("a number out of range") }
    return .number(value)
  }

  private mutating func string() throws(JSONError) -> String {
    try expect("\"")
    var text: [UInt8] = []
    while let byte = next {
      position += 1
      switch byte {
      case UInt8(ascii: "\""):
        guard let string = String(validating: text, as: UTF8.self) else {
          throw error("text that is not UTF-8")
        }
        return string
      case UInt8(ascii: "\\"): text += String(try escape()).utf8
      case 0..<0x20: throw error("a control character in a string")
      default: text.append(byte)
      }
    }
    throw error("a string without end")
  }

  /// Reads what follows a backslash.
  private mutating func escape() throws(JSONError) -> Character {
    guard let byte = next else { throw error("a string without end") }
    position += 1
    switch byte {
    case UInt8(ascii: "\""): return "\""
    case UInt8(ascii: "\\"): return "\\"
    case UInt8(ascii: "/"): return "/"
    case UInt8(ascii: "b"): return "\u{8}"
    case UInt8(ascii: "f"): return "\u{C}"
    case UInt8(ascii: "n"): return "\n"
    case UInt8(ascii: "r"): return "\r"
    case UInt8(ascii: "t"): return "\t"
    case UInt8(ascii: "u"): return Character(try unicodeEscape())
    default: throw error("an unknown escape")
    }
  }

  private mutating func unicodeEscape() throws(JSONError) -> Unicode.Scalar {
    let first = try fourHexDigits()
    if let scalar = Unicode.Scalar(first) { return scalar }
    // A code point above U+FFFF is written as two surrogates.
    guard first < 0xDC00, next == UInt8(ascii: "\\") else { throw error("a lone surrogate") }
    position += 1
    guard next == UInt8(ascii: "u") else { throw error("a lone surrogate") }
    position += 1
    let second = try fourHexDigits()
    guard (0xDC00..<0xE000).contains(second),
      let scalar = Unicode.Scalar(0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00))
    else { throw error("a lone surrogate") }
    return scalar
  }

  private mutating func fourHexDigits() throws(JSONError) -> UInt32 {
    var value: UInt32 = 0
    for _ in 0..<4 {
      guard let byte = next, let digit = Character(Unicode.Scalar(byte)).hexDigitValue else {
        throw error("expected four hexadecimal digits")
      }
      value = value << 4 | UInt32(digit)
      position += 1
    }
    return value
  }
}
