import ArgumentParser
import KernelBenchmarks
import VulkanAttention

/// `vkattn soak`.
struct SoakCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "soak",
    abstract: "Runs decode steps by the thousand and sees to it that memory stays flat.",
    discussion: """
      Every step is longer than the one before and makes its plan, kernel, buffers, workspace and recorder \
      anew; then devices are opened, used and closed. Memory of the device is what the library has in pools \
      and in buffers, that of the host what Linux says is resident. After a fifth of the steps, and the \
      first ten devices, neither may grow: the device's not by a byte, the host's not by more than 4 MiB in \
      all the steps, nor by more than 4 MiB and 256 KiB for each device in all the devices. Outputs are held against the reference in Double.

        vkattn soak
        vkattn soak --steps 10000 --devices 100

      The exit status is 1 where memory grew or an output is wrong.
      """)

  @Option(help: "Decode steps.")
  var steps = 1000

  @Option(help: "Devices to open, use and close after the steps.")
  var devices = 40

  @Flag(help: "Prints a JSON object.")
  var json = false

  @OptionGroup var device: DeviceOptions

  func validate() throws {
    guard (10...1_000_000).contains(steps) else {
      throw ValidationError("--steps is \(steps); allowed: 10 to 1000000")
    }
    guard (0...10_000).contains(devices) else {
      throw ValidationError("--devices is \(devices); allowed: 0 to 10000")
    }
  }

  func run() async throws {
    let console = Console.current
    var soak = DecodeSoak()
    soak.stepCount = steps
    soak.warmUpCount = steps / 5
    soak.deviceCount = devices
    let options = device
    HostMemory.shareArena()
    let report = try await soak.run { () throws(VulkanError) in
      try options.open()
    } progress: { sample in
      console.progress("\(sample.count) of \(steps)")
    }
    console.clearProgress()
    if json {
      console.print(report.json.text)
    } else {
      for line in report.lines { console.print(line) }
    }
    if !report.problems.isEmpty { throw CommandFailure(.failed) }
  }
}

extension SoakCommand: KernelCommand {
  var includesMatrixPath: Bool { false }
}

extension DecodeSoak.Report {
  /// A line for every sample, then what is wrong.
  fileprivate var lines: [String] {
    func line(_ sample: DecodeSoak.Sample, _ what: String) -> String {
      func mebibytes(_ bytes: Int?) -> String {
        bytes.map { "\(Numbers.significant(Double($0) / Double(1 << 20))) MiB" } ?? "unknown"
      }
      return "\(sample.count) \(what): host \(mebibytes(sample.hostByteCount)), device "
        + "\(mebibytes(sample.reservedByteCount)) in pools, \(sample.allocatedByteCount) bytes in buffers"
    }
    return steps.map { line($0, "steps") } + devices.map { line($0, "devices") }
      + ["worst error of o: \(Numbers.scientific(worstError))"]
      + (problems.isEmpty ? ["memory is flat"] : problems.map { "FAILED: \($0)" })
  }

  fileprivate var json: JSONText {
    func array(_ samples: [DecodeSoak.Sample]) -> JSONText {
      .array(
        samples.map { sample in
          .object([
            .init("count", .integer(sample.count)),
            .init("host_bytes", JSONText(sample.hostByteCount)),
            .init("reserved_bytes", .integer(sample.reservedByteCount)),
            .init("allocated_bytes", .integer(sample.allocatedByteCount)),
          ])
        })
    }
    return .object([
      .init("steps", array(steps)), .init("devices", array(devices)),
      .init("worst_error", .number(worstError)),
      .init("problems", .array(problems.map { .string($0) })),
    ])
  }
}
