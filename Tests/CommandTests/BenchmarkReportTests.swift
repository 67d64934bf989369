import Testing
import VulkanAttention

@testable import KernelBenchmarks

@Suite struct BenchmarkReportTests {
  private func report() throws -> BenchmarkReport {
    let workload = AttentionWorkload(
      AttentionShape(queryTokens: 1024, queryHeads: 8, headSize: 64), .f32)
    let request = try workload.request()
    let timing = try #require(Timing(gpu: [0.01, 0.02, 0.03], wall: [0.011, 0.021, 0.031]))
    var report = BenchmarkReport(device: "a device", driver: "a driver 1.0", commit: "abc")
    report.ceilings = DeviceCeilings(
      copyBytesPerSecond: 10e9, fmaOperationsPerSecond: 200e9, matrixOperationsPerSecond: nil)
    report.results = [
      BenchmarkResult(
        id: workload.id, family: "attention", shape: workload.shape.description, type: "f32",
        isCausal: false, path: "row", tile: "rows=8", timing: timing,
        operations: request.floatingPointOperations, bytes: request.compulsoryBytes,
        maxError: 1e-6, relativeError: 2e-7, verifiedRows: 10)
    ]
    return report
  }

  @Test func jsonHasEveryPromisedField() throws {
    let json = try report().json
    #expect(json["device"] == "a device")
    #expect(json["driver"] == "a driver 1.0")
    #expect(json["commit"] == "abc")
    guard case .array(let results)? = json["results"], let result = results.first else {
      Issue.record("no results")
      return
    }
    #expect(result["id"] == "attention/f32/B1-S1024-T1024-H8-G8-D64-E64")
    #expect(result["family"] == "attention")
    #expect(result["shape"] == "B1-S1024-T1024-H8-G8-D64-E64")
    #expect(result["type"] == "f32")
    #expect(result["path"] == "row")
    #expect(result["seconds_median"] == .number(0.02))
    #expect(result["max_error"] == .number(1e-6))
    for key in ["seconds_p10", "seconds_p90", "gflops", "gbps"] {
      guard case .number? = result[key] else {
        Issue.record("\(key) is no number")
        continue
      }
    }
  }

  @Test func ratesFollowFromWorkAndTime() throws {
    let report = try report()
    let result = report.results[0]
    // 4·H·S·T·D = 2.147 GFLOP in 20 ms; four tensors of 2 MiB.
    #expect(abs(result.gigaflops - 4 * 8 * 1024.0 * 1024 * 64 / 0.02 * 1e-9) < 1e-9)
    #expect(abs(result.gigabytes - 4 * 2 * 1024 * 1024.0 / 0.02 * 1e-9) < 1e-9)
    let share = try #require(report.share(result))
    #expect(share.of == "fma")
    #expect(abs(share.share - result.gigaflops / 200) < 1e-12)
    #expect(report.table.lines.count == 3)
  }
}

@Suite struct CheckReportTests {
  private func outcome(
    _ verdict: CheckOutcome.Verdict, error: Double? = nil
  ) -> CheckOutcome {
    CheckOutcome(
      id: "a", group: "lengths", elementType: .f32, path: "row", verdict: verdict,
      errors: error.map { [CheckError("o", $0, gate: 1e-5), CheckError("lse", $0, gate: 1e-3)] }
        ?? [])
  }

  @Test func keepsTheWorst() {
    var report = CheckReport()
    report.add(outcome(.passed, error: 3e-7))
    report.add(outcome(.passed, error: 1e-7))
    #expect(report.rows.count == 1 && report.rows[0].errors[0].value == 3e-7)
    #expect(report.caseCount == 2 && report.failures.isEmpty)
    report.add(outcome(.failed(["o: NaN"]), error: .nan))
    report.add(outcome(.passed, error: 1e-7))
    #expect(report.rows[0].errors[0].value.isNaN && report.rows[0].failureCount == 1)
    #expect(report.table.lines.last?.contains("1 FAILED") == true)
    #expect(report.table.lines.first?.contains("worst lse") == true)
    let rows = JSONText.object(report.json)["rows"]
    guard case .array(let values)? = rows else { return #expect(Bool(false), "no rows") }
    #expect(values[0]["lse_gate"] == .number(1e-3) && values[0]["o_gate"] == .number(1e-5))
  }

  @Test func skipsAreCountedByReason() {
    var report = CheckReport()
    report.add(outcome(.skipped("no matrix")))
    report.add(outcome(.skipped("no matrix")))
    report.add(outcome(.skipped("no shader")))
    #expect(report.caseCount == 0)
    #expect(report.skips.map(\.caseCount) == [2, 1])
  }
}
