/// A table for a terminal: columns padded with spaces, a rule below the head.
public struct TextTable: Sendable {
  /// Where a column's text stands.
  public enum Alignment: Sendable {
    /// Text.
    case left
    /// Numbers.
    case right
  }

  private let columns: [(title: String, alignment: Alignment)]
  private var rows: [[String]] = []

  /// A table without rows.
  public init(_ columns: [(title: String, alignment: Alignment)]) {
    self.columns = columns
  }

  /// Whether there are no rows.
  public var isEmpty: Bool { rows.isEmpty }

  /// Adds a row, a text for each column.
  public mutating func add(_ row: [String]) {
    precondition(row.count == columns.count, "a row has a text for each column")
    rows.append(row)
  }

  /// The lines of the table.
  public var lines: [String] {
    let widths = columns.indices.map { column in
      max(columns[column].title.count, rows.map { $0[column].count }.max() ?? 0)
    }
    func line(_ cells: [String]) -> String {
      var line = ""
      for (column, cell) in cells.enumerated() {
        let padding = String(repeating: " ", count: widths[column] - cell.count)
        line += column == 0 ? "" : "  "
        line += columns[column].alignment == .left ? cell + padding : padding + cell
      }
      while line.last == " " { line.removeLast() }
      return line
    }
    return [line(columns.map(\.title)), line(widths.map { String(repeating: "─", count: $0) })]
      + rows.map(line)
  }
}
