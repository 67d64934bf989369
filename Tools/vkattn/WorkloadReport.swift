import KernelBenchmarks
import VulkanAttention

/// What a command tells of one workload on one way.
protocol WorkloadReport {
  /// For programs.
  var json: JSONText { get }
  /// For people.
  var lines: [String] { get }
}

extension WorkloadProfile: WorkloadReport {}
extension WorkloadPipelines: WorkloadReport {}

extension PathOptions {
  /// Makes a report of every workload on every way that is asked for, and prints them.
  ///
  /// - Parameters:
  ///   - workloads: what the reports are of.
  ///   - device: whose paths there are.
  ///   - json: prints one array at the end, instead of lines as they come.
  ///   - none: what is wrong where no report could be made.
  ///   - make: makes a report.
  /// - Throws: `CommandFailure` where one failed, or none could be made.
  func report<Report: WorkloadReport>(
    _ workloads: [BenchmarkWorkload], on device: DeviceCapabilities, json: Bool, none: String,
    _ make: (BenchmarkWorkload, Way) async throws -> Report
  ) async throws {
    let console = Console.current
    var reports: [Report] = []
    var failures: [String] = []
    for workload in workloads {
      for way in ways(of: workload, on: device) {
        console.progress(workload.id)
        do {
          let report = try await make(workload, way)
          reports.append(report)
          if !json { for line in report.lines { console.print(line) } }
        } catch AttentionError.pathUnavailable(_, let reason) {
          if !json { console.print("skipped: \(workload.id) on \(way.name): \(reason)") }
        } catch {
          failures.append("\(workload.id) on \(way.name): \(error)")
        }
      }
    }
    console.clearProgress()
    if json { console.print(JSONText.array(reports.map(\.json)).text) }
    for failure in failures { console.error("FAILED: \(failure)") }
    if !failures.isEmpty { throw CommandFailure(.failed) }
    if reports.isEmpty { throw CommandFailure(.failed, none) }
  }
}
