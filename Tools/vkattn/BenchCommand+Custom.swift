import ArgumentParser
import KernelBenchmarks
import VulkanAttention

extension BenchCommand {
  /// Refuses options that say nothing about modifications.
  func validateCustom() throws {
    let foreign: [(isGiven: Bool, name: String)] = [
      (full, "--full"), (causal, "--causal"), (!model.isEmpty, "--model"), (cold, "--cold"),
      (csv != nil, "--csv"), (compare != nil, "--compare"), (peers, "--peers"),
      (ggml != nil, "--ggml"),
    ]
    for option in foreign where option.isGiven {
      throw ValidationError("bench custom does not take \(option.name)")
    }
  }

  /// `vkattn bench custom`: options and the modifications that say the same, by turns.
  func runCustom() async throws {
    let console = Console.current
    let all =
      shape.isEmpty
      ? quick
        ? CustomWorkload.quick
        : selection.filter.isEmpty
          ? CustomWorkload.standard
          : CustomWorkload.workloads(
            CustomWorkload.options, Set(CustomWorkload.standard.map(\.shape)).map(\.self))
      : CustomWorkload.workloads([.alibi], shape)
    let workloads = all.filter { workload in
      (type.isEmpty || type.contains(workload.elementType))
        && selection.selects(workload.id)
    }
    guard !workloads.isEmpty else {
      throw CommandFailure(
        .wrongInput, "no workload is selected; vkattn bench custom --list prints the ids")
    }
    if list {
      for workload in workloads { console.print(workload.id) }
      return
    }
    if let json { try OutputFile(json).checkWritable() }
    let opened = try device.open()
    let benchmark = CustomBenchmark(on: opened, pairs: samples ?? 15)
    var comparisons: [CustomComparison] = []
    var skips: [String] = []
    var failures: [String] = []
    for (index, workload) in workloads.enumerated() {
      for choice in paths.choices(on: opened.capabilities) {
        console.progress("\(index)/\(workloads.count) \(workload.id) \(choice)")
        do {
          comparisons.append(try await benchmark.run(workload, choice))
        } catch {
          let line = "\(workload.id) on \(choice): \(error)"
          if CustomBenchmark.cannotRun(error) {
            skips.append(line)
          } else {
            failures.append(line)
          }
        }
      }
    }
    console.clearProgress()
    console.print(opened.capabilities.name)
    var table = TextTable(CustomComparison.columns)
    for comparison in comparisons { table.add(comparison.row) }
    if !table.isEmpty { for line in table.lines { console.print(line) } }
    for skip in skips { console.print("skipped: \(skip)") }
    for failure in failures { console.print("FAILED: \(failure)") }
    if let json {
      var report = BenchmarkReport(opened.capabilities, commit: Commit.current())
      report.time = Clock.now
      report.comparisons = comparisons
      report.peers = comparisons.flatMap { $0.peers(report.device) }
      report.skips = skips
      report.failures = failures
      try OutputFile(json).write(report.json.text + "\n")
    }
    if !failures.isEmpty { throw CommandFailure(.failed) }
    if comparisons.isEmpty { throw CommandFailure(.failed, "no workload could run") }
  }
}
