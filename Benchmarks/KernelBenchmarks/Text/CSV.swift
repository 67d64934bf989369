/// Comma-separated values (RFC 4180) with a first record of names.
public struct CSV: Sendable, Hashable {
  private let names: [String]
  private var records: [[String]] = []

  /// A table without records.
  public init(_ names: [String]) {
    self.names = names
  }

  /// Adds a record, a text for each name.
  public mutating func add(_ record: [String]) {
    precondition(record.count == names.count, "a record has a text for each name")
    records.append(record)
  }

  /// The text, each record ended by a line feed.
  public var text: String {
    ([names] + records).map { $0.map(Self.field).joined(separator: ",") + "\n" }.joined()
  }

  /// A field, in quotes where it needs them.
  private static func field(_ text: String) -> String {
    guard text.unicodeScalars.contains(where: { ",\"\n\r".unicodeScalars.contains($0) }) else {
      return text
    }
    return "\""
      + text.split(separator: "\"", omittingEmptySubsequences: false)
      .joined(separator: "\"\"") + "\""
  }
}
