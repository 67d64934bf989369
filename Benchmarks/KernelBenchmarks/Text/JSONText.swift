/// A JSON value to be printed; the members of an object keep their order.
public enum JSONText: Sendable, Hashable {
  /// One member of an object.
  public struct Member: Sendable, Hashable {
    /// The member's name.
    public let key: String
    /// The member's value.
    public let value: JSONText

    /// Pairs a name with its value.
    public init(_ key: String, _ value: JSONText) {
      self.key = key
      self.value = value
    }
  }

  /// null.
  case null
  /// true or false.
  case bool(Bool)
  /// A whole number.
  case integer(Int)
  /// A number; JSON has no NaN and no infinities, which become null.
  case number(Double)
  /// A text.
  case string(String)
  /// A list.
  case array([JSONText])
  /// Named values.
  case object([Member])

  /// A text, or null.
  public init(_ text: String?) { self = text.map(JSONText.string) ?? .null }
  /// A number, or null.
  public init(_ number: Double?) { self = number.map(JSONText.number) ?? .null }
  /// A whole number, or null.
  public init(_ number: Int?) { self = number.map(JSONText.integer) ?? .null }

  /// The value of an object's member.
  public subscript(key: String) -> JSONText? {
    guard case .object(let members) = self else { return nil }
    return members.first { $0.key == key }?.value
  }

  /// The text, two spaces for each level.
  public var text: String {
    var result = ""
    write(to: &result, indentation: "")
    return result
  }

  private func write(to result: inout String, indentation: String) {
    let inner = indentation + "  "
    switch self {
    case .null: result += "null"
    case .bool(let value): result += value ? "true" : "false"
    case .integer(let value): result += String(value)
    case .number(let value): result += value.isFinite ? "\(value)" : "null"
    case .string(let value): Self.quote(value, to: &result)
    case .array(let values) where values.isEmpty: result += "[]"
    case .object(let members) where members.isEmpty: result += "{}"
    case .array(let values):
      for (index, value) in values.enumerated() {
        result += (index == 0 ? "[\n" : ",\n") + inner
        value.write(to: &result, indentation: inner)
      }
      result += "\n\(indentation)]"
    case .object(let members):
      for (index, member) in members.enumerated() {
        result += (index == 0 ? "{\n" : ",\n") + inner
        Self.quote(member.key, to: &result)
        result += ": "
        member.value.write(to: &result, indentation: inner)
      }
      result += "\n\(indentation)}"
    }
  }

  private static func quote(_ value: String, to result: inout String) {
    result += "\""
    for scalar in value.unicodeScalars {
      switch scalar {
      case "\"": result += "\\\""
      case "\\": result += "\\\\"
      case "\n": result += "\\n"
      case "\t": result += "\\t"
      case ..<" ":
        let digits = String(scalar.value, radix: 16)
        result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      default: result.unicodeScalars.append(scalar)
      }
    }
    result += "\""
  }
}

extension JSONText: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral,
  ExpressibleByBooleanLiteral, ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral
{
  /// A text.
  public init(stringLiteral value: String) { self = .string(value) }
  /// A whole number.
  public init(integerLiteral value: Int) { self = .integer(value) }
  /// true or false.
  public init(booleanLiteral value: Bool) { self = .bool(value) }
  /// A list.
  public init(arrayLiteral elements: JSONText...) { self = .array(elements) }
  /// An object with its members in the order written.
  public init(dictionaryLiteral elements: (String, JSONText)...) {
    self = .object(elements.map { Member($0.0, $0.1) })
  }
}
