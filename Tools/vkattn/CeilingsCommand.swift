import ArgumentParser
import KernelBenchmarks
import VulkanAttention

/// `vkattn ceilings`.
struct CeilingsCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "ceilings",
    abstract: "Measures what a device reaches at best.",
    discussion: """
      copy: bytes read plus bytes written by a copy larger than the caches, the better of the driver's \
      command and a shader. fma: f32 multiplications and additions outside of matrix units. matrix: \
      f16 products summed up in f32 by matrix units; none on a CPU, though its driver may run such \
      shaders. Each the best of 15 samples and more, as vkattn bench measures them before its workloads.

        vkattn ceilings
        vkattn ceilings --json
      """)

  @Flag(help: "Prints a JSON object.")
  var json = false

  @OptionGroup var device: DeviceOptions

  func run() async throws {
    let console = Console.current
    let opened = try device.open()
    var report = BenchmarkReport(opened.capabilities, commit: Commit.current())
    report.time = Clock.now
    console.progress("ceilings")
    let ceilings = try DeviceCeilings.measure(on: opened)
    report.ceilings = ceilings
    console.clearProgress()
    if json {
      console.print(report.json.text)
      return
    }
    console.print("\(report.device) · \(report.driver)")
    func row(_ name: String, _ rate: Double?, _ unit: String, _ what: String) {
      let value = rate.map { "\(Numbers.significant($0 * 1e-9)) \(unit)" } ?? "none"
      console.print(
        name + String(repeating: " ", count: 8 - name.count)
          + String(repeating: " ", count: max(0, 16 - value.count)) + value + "  \(what)")
    }
    row("copy", ceilings.copyBytesPerSecond, "GB/s", "read plus written")
    row("fma", ceilings.fmaOperationsPerSecond, "GFLOP/s", "f32")
    row("matrix", ceilings.matrixOperationsPerSecond, "GFLOP/s", "f16 products, f32 sums")
    if let fma = ceilings.fmaOperationsPerSecond {
      console.print(
        "balance \(Numbers.significant(fma / ceilings.copyBytesPerSecond)) f32 operations for each "
          + "byte copied")
    }
  }
}

extension CeilingsCommand: KernelCommand {
  var includesMatrixPath: Bool { false }
}
