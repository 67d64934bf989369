/// A JSON value that keeps what the checks need: integers apart from other numbers, and objects
/// whose keys are known to be unique.
enum JSONValue {
  case null
  case bool(Bool)
  case string(String)
  /// A number written without fraction and exponent that fits an Int.
  case integer(Int)
  /// Any other number; always finite.
  case number(Double)
  case array([JSONValue])
  /// Members in the file's order.
  case object([JSONMember])
}

/// One key of a JSON object and its value.
struct JSONMember {
  let key: String
  let value: JSONValue
}

/// `text` as a JSON string, quotes included.
func quotedJSON(_ text: String) -> String {
  var result = "\""
  for scalar in text.unicodeScalars {
    switch scalar {
    case "\"": result += "\\\""
    case "\\": result += "\\\\"
    case "\n": result += "\\n"
    default:
      if scalar.value < 0x20 {
        let digits = String(scalar.value, radix: 16)
        result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      } else {
        result.unicodeScalars.append(scalar)
      }
    }
  }
  return result + "\""
}
