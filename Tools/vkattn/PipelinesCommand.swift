import ArgumentParser
import KernelBenchmarks
import VulkanAttention

/// `vkattn pipelines`.
struct PipelinesCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "pipelines",
    abstract:
      "Shows what the driver's compiler makes of the pipelines: registers, spills, occupancy.",
    discussion: """
      Compiles the pipelines of workloads and runs none of them. Needs a driver with \
      VK_KHR_pipeline_executable_properties, which Mesa's lavapipe is not; what the figures are called and \
      mean is the driver's affair. A compiler needs no hardware: Mesa's RADV before version 26 makes a device \
      for it with RADV_FORCE_FAMILY=navi31 and the like.

        vkattn pipelines --filter 'attention/f16/*S1024*' --all-paths
        vkattn pipelines --filter 'llama-3-8b/decode/*' --json
      """)

  @Flag(help: "Prints a JSON array.")
  var json = false

  @OptionGroup var selection: FilterOptions
  @OptionGroup var paths: PathOptions
  @OptionGroup var tuning: TuningOptions
  @OptionGroup var device: DeviceOptions

  func run() async throws {
    let workloads = try selection.workloads()
    let capabilities = try device.capabilities()
    guard capabilities.has(.pipelineStatistics) else {
      throw CommandFailure(
        .noDevice,
        "\(capabilities.name) tells nothing of its pipelines: it lacks VK_KHR_pipeline_executable_properties"
      )
    }
    let tiles = tuning.tuning(for: capabilities)
    try await paths.report(
      workloads, on: capabilities, json: json, none: "no workload could be compiled"
    ) { workload, way in
      // A device of its own: its pipelines are this workload's.
      let opened = try device.open(keepsPipelineStatistics: true, compilesOnly: true)
      return try WorkloadPipelines.compile(
        workload, on: opened, way.attention, linear: way.linear, tuning: tiles)
    }
  }
}

extension PipelinesCommand: KernelCommand {
  var includesMatrixPath: Bool { paths.includesMatrixPath }
}
