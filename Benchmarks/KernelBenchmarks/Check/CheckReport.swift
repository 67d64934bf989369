import VulkanAttention

/// The outcomes of a check, summed up by path, type and group.
public struct CheckReport: Sendable {
  /// One row of the table.
  public struct Row: Sendable, Hashable {
    /// The path that ran.
    public let path: String
    /// The type of the tensors.
    public let elementType: ElementType
    /// The group of cases.
    public let group: String
    /// Cases that ran.
    public var caseCount = 0
    /// Cases that failed.
    public var failureCount = 0
    /// The largest error of each result, NaN where one was NaN, and the largest gate.
    public var errors: [CheckError] = []
  }

  /// Cases that a path could not run for one reason.
  public struct Skip: Sendable, Hashable {
    /// The path that was asked for.
    public let path: String
    /// The type of the tensors.
    public let elementType: ElementType
    /// Why it cannot run.
    public let reason: String
    /// How many cases.
    public var caseCount = 0
  }

  /// The rows in the order of their first outcome.
  public private(set) var rows: [Row] = []
  /// What did not run.
  public private(set) var skips: [Skip] = []
  /// The outcomes that failed.
  public private(set) var failures: [CheckOutcome] = []

  /// A report of nothing.
  public init() {}

  /// Cases that ran.
  public var caseCount: Int { rows.reduce(0) { $0 + $1.caseCount } }

  /// Adds an outcome.
  public mutating func add(_ outcome: CheckOutcome) {
    let type = outcome.elementType
    if case .skipped(let reason) = outcome.verdict {
      let found = skips.firstIndex {
        $0.path == outcome.path && $0.elementType == type && $0.reason == reason
      }
      if found == nil {
        skips.append(Skip(path: outcome.path, elementType: type, reason: reason))
      }
      skips[found ?? skips.count - 1].caseCount += 1
      return
    }
    let found = rows.firstIndex {
      $0.path == outcome.path && $0.elementType == type && $0.group == outcome.group
    }
    if found == nil {
      rows.append(Row(path: outcome.path, elementType: type, group: outcome.group))
    }
    let index = found ?? rows.count - 1
    rows[index].caseCount += 1
    for error in outcome.errors {
      guard let place = rows[index].errors.firstIndex(where: { $0.name == error.name }) else {
        rows[index].errors.append(error)
        continue
      }
      let before = rows[index].errors[place]
      rows[index].errors[place] = CheckError(
        error.name, Self.worse(before.value, error.value), gate: max(before.gate, error.gate))
    }
    if case .failed = outcome.verdict {
      rows[index].failureCount += 1
      failures.append(outcome)
    }
  }

  /// The larger of two errors; NaN is larger than every number.
  private static func worse(_ first: Double, _ second: Double) -> Double {
    first.isNaN || second.isNaN ? .nan : max(first, second)
  }

  /// The names of all results, in the order of their first appearance.
  private var names: [String] {
    rows.reduce(into: []) { names, row in
      for error in row.errors where !names.contains(error.name) { names.append(error.name) }
    }
  }

  /// The table of worst errors.
  public var table: TextTable {
    let names = names
    var table = TextTable(
      [("path", .left), ("type", .left), ("cases", .left), ("count", .right)]
        + names.flatMap { [("worst \($0)", .right), ("gate", .right)] } + [("result", .left)])
    for row in rows {
      let errors = names.flatMap { name in
        guard let error = row.errors.first(where: { $0.name == name }) else { return ["", ""] }
        return [Numbers.scientific(error.value), Numbers.scientific(error.gate)]
      }
      table.add(
        [row.path, row.elementType.rawValue, row.group, "\(row.caseCount)"] + errors
          + [row.failureCount == 0 ? "ok" : "\(row.failureCount) FAILED"])
    }
    return table
  }

  /// The report as JSON: `rows`, `skips` and `failures`.
  public var json: [JSONText.Member] {
    [
      .init(
        "rows",
        .array(
          rows.map { row in
            .object(
              [
                .init("path", .string(row.path)), .init("type", .string(row.elementType.rawValue)),
                .init("group", .string(row.group)), .init("cases", .integer(row.caseCount)),
                .init("failures", .integer(row.failureCount)),
              ]
                + row.errors.flatMap { error in
                  [
                    JSONText.Member("\(error.name)_error", .number(error.value)),
                    JSONText.Member("\(error.name)_gate", .number(error.gate)),
                  ]
                })
          })),
      .init(
        "skips",
        .array(
          skips.map { skip in
            [
              "path": .string(skip.path), "type": .string(skip.elementType.rawValue),
              "cases": .integer(skip.caseCount), "reason": .string(skip.reason),
            ]
          })),
      .init(
        "failures",
        .array(
          failures.map { outcome in
            var problems: [String] = []
            if case .failed(let lines) = outcome.verdict { problems = lines }
            return [
              "id": .string(outcome.id), "path": .string(outcome.path),
              "problems": .array(problems.map(JSONText.string)),
            ]
          })),
    ]
  }
}
