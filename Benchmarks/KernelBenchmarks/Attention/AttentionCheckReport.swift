import VulkanAttention

/// The outcomes of a check, summed up by path, type and group.
public struct AttentionCheckReport: Sendable {
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
    /// The largest error of o; NaN where one was NaN.
    public var outputError = 0.0
    /// The largest gate of o.
    public var outputGate = 0.0
    /// The largest error of the log-sum-exp; NaN where one was NaN.
    public var logSumExpError = 0.0
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
  public private(set) var failures: [AttentionCheckOutcome] = []

  /// A report of nothing.
  public init() {}

  /// Cases that ran.
  public var caseCount: Int { rows.reduce(0) { $0 + $1.caseCount } }

  /// Adds an outcome.
  public mutating func add(_ outcome: AttentionCheckOutcome) {
    let type = outcome.checkCase.elementType
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
      $0.path == outcome.path && $0.elementType == type && $0.group == outcome.checkCase.group
    }
    if found == nil {
      rows.append(Row(path: outcome.path, elementType: type, group: outcome.checkCase.group))
    }
    let index = found ?? rows.count - 1
    rows[index].caseCount += 1
    rows[index].outputGate = max(rows[index].outputGate, outcome.outputGate)
    rows[index].outputError = Self.worse(rows[index].outputError, outcome.outputError)
    rows[index].logSumExpError = Self.worse(rows[index].logSumExpError, outcome.logSumExpError)
    if case .failed = outcome.verdict {
      rows[index].failureCount += 1
      failures.append(outcome)
    }
  }

  /// The larger of two errors; NaN is larger than every number.
  private static func worse(_ first: Double, _ second: Double?) -> Double {
    guard let second else { return first }
    return first.isNaN || second.isNaN ? .nan : max(first, second)
  }

  /// The table of worst errors.
  public var table: TextTable {
    var table = TextTable([
      ("path", .left), ("type", .left), ("cases", .left), ("count", .right), ("worst o", .right),
      ("gate", .right), ("worst lse", .right), ("result", .left),
    ])
    for row in rows {
      table.add([
        row.path, row.elementType.rawValue, row.group, "\(row.caseCount)",
        Numbers.scientific(row.outputError), Numbers.scientific(row.outputGate),
        Numbers.scientific(row.logSumExpError),
        row.failureCount == 0 ? "ok" : "\(row.failureCount) FAILED",
      ])
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
            [
              "path": .string(row.path), "type": .string(row.elementType.rawValue),
              "group": .string(row.group), "cases": .integer(row.caseCount),
              "failures": .integer(row.failureCount), "o_error": .number(row.outputError),
              "o_gate": .number(row.outputGate), "lse_error": .number(row.logSumExpError),
              "lse_gate": .number(AttentionGates.logSumExp),
            ]
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
              "id": .string(outcome.checkCase.id), "path": .string(outcome.path),
              "problems": .array(problems.map(JSONText.string)),
            ]
          })),
    ]
  }
}
