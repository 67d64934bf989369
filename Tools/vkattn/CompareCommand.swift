import ArgumentParser
import KernelBenchmarks

/// `vkattn compare`.
struct CompareCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "compare",
    abstract: "Compares the results of two runs of bench.",
    discussion: """
      The rule, \(BenchmarkComparison.rule).

        vkattn compare old.json new.json
        vkattn compare old.json new.json --fail-if-slower

      Nothing runs on a device.
      """)

  @Argument(help: ArgumentHelp("The JSON of the earlier run.", valueName: "old"))
  var old: String

  @Argument(help: ArgumentHelp("The JSON of the later run.", valueName: "new"))
  var new: String

  @Flag(help: "The exit status is 1 where a workload has become slower.")
  var failIfSlower = false

  func run() async throws {
    let old = try ResultFile(path: old)
    let new = try ResultFile(path: new)
    let rows = BenchmarkComparison.all(old: old, new: new)
    Console.current.print(comparison: rows, old: old, device: new.device, driver: new.driver)
    if failIfSlower, rows.contains(where: { $0.verdict == .slower }) {
      throw CommandFailure(.failed, "a workload has become slower")
    }
  }
}

extension Console {
  /// Prints how two runs stand to each other.
  func print(
    comparison rows: [BenchmarkComparison], old: ResultFile, device: String, driver: String
  ) {
    print("compared with commit \(old.commit)" + (old.time.map { " of \($0)" } ?? ""))
    if old.device != device || old.driver != driver {
      print("another device: \(old.device), \(old.driver); now \(device), \(driver)")
    }
    for line in rows.table.lines { print(line) }
    print(rows.summary)
    print("\(BenchmarkComparison.rule)")
  }
}
