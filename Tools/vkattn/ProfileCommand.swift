import ArgumentParser
import KernelBenchmarks
import VulkanAttention

/// `vkattn profile`.
struct ProfileCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "profile",
    abstract: "Shows where the time of a workload goes, on the host and in each dispatch.",
    discussion: """
      Host: making the plan, the pipelines (compiled, or loaded from the cache of an earlier run), the first \
      run, recording, submitting, and waiting for the end. Device: each dispatch by timestamps after every one \
      of them; where dispatches overlap, the later one has what is left. Pipelines: registers, spills and whatever \
      else the driver tells of them, where it has VK_KHR_pipeline_executable_properties.

        vkattn profile --filter 'llama-3-8b/decode/*'
        vkattn profile --filter 'attention/f16/*S1024*D64*' --path row --json
      """)

  @Option(help: ArgumentHelp("How often each phase is measured.", valueName: "count"))
  var samples = 50

  @Flag(help: "Prints a JSON array.")
  var json = false

  @OptionGroup var selection: FilterOptions
  @OptionGroup var paths: PathOptions
  @OptionGroup var tuning: TuningOptions
  @OptionGroup var device: DeviceOptions

  func validate() throws {
    if samples < 1 { throw ValidationError("--samples is \(samples); allowed: 1 or more") }
  }

  func run() async throws {
    let workloads = try selection.workloads()
    let opened = try device.open(keepsPipelineStatistics: true)
    let tiles = tuning.tuning(for: opened.capabilities)
    try await paths.report(
      workloads, on: opened.capabilities, json: json, none: "no workload could run"
    ) { workload, way in
      try await WorkloadProfile.measure(
        workload, on: opened, way.attention, linear: way.linear, tuning: tiles, count: samples)
    }
  }
}

extension ProfileCommand: KernelCommand {
  var includesMatrixPath: Bool { paths.includesMatrixPath }
}
