/// A case file that cannot be used: which file, which field of it, and what is wrong.
public struct CaseFileError: Error, Sendable, Hashable {
  /// The file as it was named by the caller.
  public let file: String
  /// The part of the file, such as `header length`, `tensor k: data_offsets` or
  /// `vkattn.params.softcap`.
  public let field: String
  /// What is wrong with it.
  public let problem: Problem

  /// What can be wrong with a case file.
  public enum Problem: Sendable, Hashable {
    /// The file could not be read; the system's reason.
    case unreadable(String)
    /// The file could not be written; the system's reason. What was there stays.
    case unwritable(String)
    /// The file ends before `needed` bytes; `available` are there.
    case truncated(needed: UInt64, available: UInt64)
    /// A length or a count above what is accepted.
    case tooLarge(UInt64, limit: UInt64)
    /// Text that is not JSON, at this byte.
    case malformedJSON(byte: Int, String)
    /// A value of the wrong kind; what was expected.
    case expected(String)
    /// A value of the right kind that is not allowed; why.
    case invalid(String)
    /// Something that must be there is not.
    case missing
    /// Something that is there and has no meaning; the names that would have.
    case unknown(allowed: [String])
    /// A tensor's data type that case files do not have.
    case unsupportedElementType(String)
    /// A shape that does not fit the others.
    case shape(found: [Int], expected: String)
    /// A format version other than 1.
    case unsupportedVersion(Int)
    /// A valid operation that this build has no kernel for: not a malformed file.
    case unsupportedOperation(String)
  }

  /// Whether the file is sound and only asks for something that this build lacks.
  public var isUnsupportedOperation: Bool {
    if case .unsupportedOperation = problem { return true }
    return false
  }

  init(_ file: String, _ field: String, _ problem: Problem) {
    self.file = file
    self.field = field
    self.problem = problem
  }
}

extension CaseFileError: CustomStringConvertible {
  /// The file, the field and the problem in one line.
  public var description: String {
    "\(printable(file)): \(printable(field)): \(printable(problem.text))"
  }
}

extension CaseFileError.Problem {
  fileprivate var text: String {
    switch self {
    case .unreadable(let reason): "cannot be read: \(reason)"
    case .unwritable(let reason): "cannot be written: \(reason)"
    case .truncated(let needed, let available):
      "truncated: \(needed) bytes are needed, \(available) are there"
    case .tooLarge(let value, let limit): "\(value) is above the limit of \(limit)"
    case .malformedJSON(let byte, let reason): "malformed JSON at byte \(byte): \(reason)"
    case .expected(let what): "expected \(what)"
    case .invalid(let why): why
    case .missing: "missing"
    case .unknown(let allowed): "unknown; allowed are \(allowed.joined(separator: ", "))"
    case .unsupportedElementType(let name):
      "type \(name) is not one of "
        + ElementType.allCases.map(\.rawValue).joined(separator: ", ")
    case .shape(let found, let expected): "shape \(found) where \(expected) is needed"
    case .unsupportedVersion(let version): "version \(version) is not supported, only 1"
    case .unsupportedOperation(let name): "op \(name) is not supported by this build"
    }
  }
}

/// `text` fit for a terminal: control characters escaped (a hostile file chooses its names), and
/// cut to a readable length.
private func printable(_ text: String) -> String {
  var result = ""
  for scalar in text.unicodeScalars.prefix(400) {
    switch scalar.properties.generalCategory {
    case .control, .format, .lineSeparator, .paragraphSeparator:
      result += "\\u{\(String(scalar.value, radix: 16))}"
    default: result.unicodeScalars.append(scalar)
    }
  }
  return result.unicodeScalars.count < text.unicodeScalars.count && text.unicodeScalars.count > 400
    ? result + "…" : result
}
