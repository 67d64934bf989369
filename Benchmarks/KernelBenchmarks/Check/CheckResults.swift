/// The outcomes of a check so far.
public struct CheckResults: Sendable {
  /// Outcomes that are to come, and those that are there.
  public let total: Int
  /// Outcomes that are there.
  public private(set) var done = 0
  private var results: [CheckRunner.Result] = []
  private let skipped: [CheckOutcome]
  private let start = ContinuousClock.now

  /// No outcomes yet, but what is known not to run.
  public init(_ runs: [CheckRun], skipped: [CheckOutcome]) {
    total = runs.reduce(0) { $0 + $1.outcomeCount }
    self.skipped = skipped
  }

  /// Adds an outcome.
  public mutating func add(_ result: CheckRunner.Result) {
    done += 1
    results.append(result)
  }

  /// How long it took so far.
  public var seconds: Double { (ContinuousClock.now - start).inSeconds }

  /// What a watcher is told of the outcome that was just added.
  public func lines(of result: CheckRunner.Result) -> [String] {
    let outcome = result.outcome
    let count = "\(done)"
    let width = "\(total)".count
    let errors = outcome.errors.map { "\($0.name) \(Numbers.scientific($0.value))" }
    let line =
      ["[\(String(repeating: " ", count: max(0, width - count.count)))\(count)/\(total)]"]
      + [outcome.path, outcome.id] + errors
    let time = Numbers.seconds(result.seconds)
    guard case .failed = outcome.verdict else {
      return [(line + ["ok", time]).joined(separator: "  ")]
    }
    return [(line + ["FAILED", time]).joined(separator: "  ")] + outcome.failureLines.dropFirst()
  }

  /// The report: paths one after the other, the cases of each in the order of the grid.
  public var report: CheckReport {
    var report = CheckReport()
    for result in results.sorted(by: { ($0.place, $0.run) < ($1.place, $1.run) }) {
      report.add(result.outcome)
    }
    for outcome in skipped { report.add(outcome) }
    return report
  }
}

extension CheckOutcome {
  /// The case and what was wrong with it; nothing where all was right.
  public var failureLines: [String] {
    guard case .failed(let problems) = verdict else { return [] }
    return ["FAILED: \(id) on \(path)"] + problems.map { "  \($0)" }
  }
}
