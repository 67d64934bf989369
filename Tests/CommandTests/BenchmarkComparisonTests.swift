import Testing

@testable import KernelBenchmarks

@Suite struct BenchmarkComparisonTests {
  private typealias Seconds = (p10: Double, median: Double, p90: Double)

  @Test func verdictsNeedDisjointRangesAndThreePercent() {
    func verdict(_ old: Seconds, _ new: Seconds) -> BenchmarkComparison.Verdict {
      BenchmarkComparison.verdict(old: old, new: new)
    }
    #expect(verdict((0.9, 1, 1.1), (0.4, 0.5, 0.6)) == .faster)
    #expect(verdict((0.4, 0.5, 0.6), (0.9, 1, 1.1)) == .slower)
    // Twice as fast, but the ranges overlap.
    #expect(verdict((0.5, 1, 1.1), (0.4, 0.5, 0.6)) == .same)
    #expect(verdict((0.4, 0.5, 0.6), (0.6, 1, 1.1)) == .same)
    // Disjoint, but 2 % are no change.
    #expect(verdict((0.995, 1, 1.005), (0.975, 0.98, 0.985)) == .same)
    #expect(verdict((0.995, 1, 1.005), (1.015, 1.02, 1.025)) == .same)
    #expect(verdict((.nan, .nan, .nan), (0.4, 0.5, 0.6)) == .same)
  }

  private func file(
    _ results: String, version: Int? = 2, commit: String = "a"
  ) throws(ResultFileError) -> ResultFile {
    let head = version.map { "\"version\": \($0), " } ?? ""
    let text =
      "{\(head)\"device\": \"d\", \"driver\": \"e\", \"commit\": \"\(commit)\", \"results\": [\(results)]}"
    return try ResultFile(Array(text.utf8), name: "file.json")
  }

  private func result(
    _ id: String, _ seconds: Double, path: String = "row", mode: String = "warm",
    clock: String = "gpu"
  ) -> String {
    """
    {"id": "\(id)", "path": "\(path)", "mode": "\(mode)", "clock": "\(clock)",
     "seconds_median": \(seconds), "seconds_p10": \(seconds), "seconds_p90": \(seconds)}
    """
  }

  @Test func rowsAreMatchedByIdPathAndMode() throws {
    let old = try file(
      [
        result("a", 2), result("a", 8, mode: "cold"), result("b", 1), result("gone", 1),
        result("c", 1, clock: "wall"),
      ].joined(separator: ","))
    let new = try file(
      [
        result("a", 1), result("a", 8, mode: "cold"), result("b", 3),
        result("b", 1, path: "matrix"),
        result("c", 1),
      ].joined(separator: ","))
    let rows = BenchmarkComparison.all(old: old, new: new)
    #expect(rows.map(\.verdict) == [.faster, .same, .slower, .added, .incomparable, .removed])
    #expect(rows.map(\.id) == ["a", "a", "b", "b", "c", "gone"])
    #expect(rows[0].ratio == 2 && rows[3].ratio == nil && rows[4].ratio == nil)
    #expect(rows.table.lines.count == 8)
    #expect(rows.summary.hasPrefix("1 faster, 1 slower, 1 same, 1 other clock, 1 only new"))
    // The geometric mean of 2, 1 and 1/3.
    #expect(rows.summary.hasSuffix("geometric mean of old/new 0.87"), "\(rows.summary)")
  }

  @Test func filesWithoutVersionAreRead() throws {
    let old = try file(
      #"{"id": "a", "path": "row", "seconds_median": 1, "seconds_p10": 1, "seconds_p90": 1}"#,
      version: nil)
    #expect(old.version == nil && old.results[0].mode == nil)
    let rows = BenchmarkComparison.all(old: old, new: try file(result("a", 2)))
    #expect(rows.map(\.verdict) == [.slower])
  }

  @Test func otherFilesAreNamed() {
    for (text, word) in [
      ("", "malformed"), ("[1, 2]", "another kind"), ("{}", "no \"device\""),
      (#"{"device": 1}"#, "device"), ("\u{0}\u{1}", "malformed"),
    ] {
      let error = #expect(throws: ResultFileError.self) {
        try ResultFile(Array(text.utf8), name: "x.json")
      }
      let message = error?.description ?? ""
      #expect(message.hasPrefix("x.json") && message.contains(word), "\(text): \(message)")
    }
    let error = #expect(throws: ResultFileError.self) { try file("", version: 99) }
    #expect(error?.description.contains("version 99") == true)
  }

  @Test func reportsAreReadBack() throws {
    let timing = try #require(Timing(gpu: [1, 2, 3], wall: [2, 3, 4]))
    var report = BenchmarkReport(device: "a device", driver: "a driver", commit: "abc")
    report.ceilings = DeviceCeilings(
      copyBytesPerSecond: 4e9, fmaOperationsPerSecond: 8e9, matrixOperationsPerSecond: nil)
    report.results = [
      BenchmarkResult(
        id: "x", family: "attention", shape: "s", type: "f16", isCausal: true, path: "row",
        tile: "rows=8, more", timing: timing, operations: 4e9, bytes: 2e9, maxError: 0,
        relativeError: 0, verifiedRows: 1, plan: "a plan", isCold: true, firstSeconds: 5)
    ]
    let file = try ResultFile(Array(report.json.text.utf8), name: "this")
    #expect(file.version == BenchmarkReport.formatVersion && file.device == "a device")
    #expect(file.results[0].mode == "cold" && file.results[0].secondsMedian == 2)
    let shares = try #require(report.shares(report.results[0]))
    #expect(shares.copy == 0.25 && shares.fma == 0.25 && shares.matrix == nil)

    let lines = report.csv.text.split(separator: "\n")
    #expect(lines.count == 2)
    let names = lines[0].split(separator: ",").map(String.init)
    // The one quoted field holds a comma, which splits it once more.
    let fields = lines[1].split(separator: ",", omittingEmptySubsequences: false).map(String.init)
    #expect(fields.count == names.count + 1)
    #expect(fields[try #require(names.firstIndex(of: "seconds_median"))] == "2.0")
    #expect(fields[try #require(names.firstIndex(of: "mode"))] == "cold")
    #expect(lines[1].contains("\"rows=8, more\""))
  }
}
