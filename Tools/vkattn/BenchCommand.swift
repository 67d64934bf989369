import ArgumentParser
import KernelBenchmarks
import VulkanAttention

#if canImport(Darwin)
  import Darwin
#elseif canImport(Musl)
  import Musl
#else
  import Glibc
#endif

/// `vkattn bench`.
struct BenchCommand: AsyncParsableCommand {
  /// What is measured.
  enum Subject: String, ExpressibleByArgument, CaseIterable {
    /// Tiled exact attention, with the device's ceilings and the host's time.
    case attention
    /// Decode steps over caches, likewise.
    case decode
    /// Linear attention and its gated kin, likewise.
    case linear
    /// The host's time alone: to plan, record and submit one attention.
    case host
  }

  static let configuration = CommandConfiguration(
    commandName: "bench",
    abstract: "Verifies kernels, then times them.",
    discussion: """
      Each workload is first compared with the reference; a wrong one is not timed. Times are the \
      device's timestamps around the kernel (clock gpu), or the host's clock from submission to \
      completion where these make no sense (clock wall). GFLOP/s count the visible pairs of a query \
      and a key only; GB/s count every tensor once. The share is that of the ceiling which bounds the \
      workload, measured in the same run: copied bytes, f32 multiply-adds, or on the matrix path of a \
      GPU the f16 products of its matrix units.

        vkattn bench --quick
        vkattn bench attention --shape S1024,H8,D64 --type f16 --causal
        vkattn bench --shape S4096,H32,G8,D128 --all-paths --json out.json
        vkattn bench attention --peers --ggml build/bin/test-backend-ops --type f16
        vkattn bench decode --peers
        vkattn bench decode --shape S1,T4096,H32,G8,D128 --type f16 --type f32
        vkattn bench linear --model lightning,kda --shape B1,S4096,H8,D128
        vkattn bench host

      The exit status is 1 where a workload fails, and where none could run.
      """)

  @Argument(help: "What is measured.")
  var subject: Subject = .attention

  @Flag(help: "A few workloads, less than a minute on a software driver.")
  var quick = false

  @Option(help: AttentionShape.help, transform: AttentionShape.parsed)
  var shape: [AttentionShape] = []

  @Option(
    help: """
      The type of the tensors; may be repeated. Without --shape it selects from the standard \
      workloads.
      """)
  var type: [ElementType] = []

  @Flag(help: "Hides the keys after a query's own position. Without --shape it selects, as --type.")
  var causal = false

  @Option(
    help: ArgumentHelp(
      "The recurrences of bench linear, by commas; of its workloads all without --shape.",
      valueName: "names"),
    transform: { text in
      try text.split(separator: ",").map { name in
        guard let model = LinearAttentionModel(rawValue: String(name)) else {
          throw ValidationError(
            "\"\(name)\" is none of "
              + LinearAttentionModel.allCases.map(\.rawValue).joined(separator: ", "))
        }
        return model
      }
    })
  var model: [LinearAttentionModel] = []

  @Option(
    help: ArgumentHelp("The number of samples; at least 15 by default.", valueName: "count"))
  var samples: Int?

  @Flag(help: "Overwrites the device's caches before each sample.")
  var cold = false

  @Option(help: ArgumentHelp("Writes the results as one JSON object to a file.", valueName: "file"))
  var json: String?

  @Flag(
    help: """
      Runs PyTorch's attention on the same shapes by turns and prints the ratios; in a checkout, with \
      a Python that has torch (VKATTN_PYTHON names one).
      """)
  var peers = false

  @Option(
    help: ArgumentHelp(
      """
      Runs ggml's attention on the same shapes, device and driver by turns, by its program \
      test-backend-ops; Benchmarks/peers/README.md says how to build it. With --peers, beside PyTorch.
      """,
      valueName: "path"))
  var ggml: String?

  @Option(
    help: ArgumentHelp(
      "How long a peer may take for one workload, before it is stopped.", valueName: "seconds"))
  var peerTimeout = 600

  @OptionGroup var paths: PathOptions
  @OptionGroup var device: DeviceOptions

  func validate() throws {
    if let samples, samples < 1 {
      throw ValidationError("--samples is \(samples); allowed: 1 or more")
    }
    if peerTimeout < 1 {
      throw ValidationError("--peer-timeout is \(peerTimeout); allowed: 1 or more")
    }
    if quick, !shape.isEmpty { throw ValidationError("--quick and --shape exclude each other") }
  }

  func run() async throws {
    let console = Console.current
    // Problems that no device could run are refused before one is opened.
    let workloads = subject == .attention ? try workloads() : []
    let steps = subject == .decode ? try decodeWorkloads() : []
    if let json { try JSONFile(json).checkWritable() }
    let pyTorch = peers ? try PyTorchPeer(secondsAtMost: peerTimeout) : nil
    let opened = try device.open()
    let ggml = ggml.map {
      GGMLPeer(path: $0, device: opened.capabilities, secondsAtMost: peerTimeout)
    }
    let all: [(any Peer)?] = [pyTorch, ggml]
    var report = BenchmarkReport(opened.capabilities, commit: Commit.current())
    console.progress("host")
    report.host = try await HostTiming.measure(on: opened, paths.path.first ?? .automatic)
    if subject != .attention {
      report.decodeHost = try await DecodeHostTiming.measure(on: opened, paths.path.first?.path)
    }
    if subject != .host {
      console.progress("ceilings")
      report.ceilings = try DeviceCeilings.measure(on: opened)
    }
    for line in report.heading { console.print(line) }
    let group = PeerGroup(all.compactMap { $0 })
    await time(workloads, on: opened, &report, beside: group)
    await time(steps, on: opened, &report, beside: group)
    if subject == .linear { await time(linearWorkloads, on: opened, &report) }
    console.clearProgress()
    if !report.table.isEmpty { for line in report.table.lines { console.print(line) } }
    if !report.peers.isEmpty {
      for line in report.peers.table.lines { console.print(line) }
      for line in report.peers.summary { console.print(line) }
    }
    for skip in report.skips { console.print("skipped: \(skip)") }
    for failure in report.failures { console.print("FAILED: \(failure)") }
    if let json { try JSONFile(json).write(report.json.text + "\n") }
    if !report.failures.isEmpty { throw CommandFailure(.failed) }
    if subject != .host, report.results.isEmpty {
      throw CommandFailure(.failed, "no workload could run")
    }
  }

  /// The workloads that the command line asks for.
  private func workloads() throws -> [AttentionWorkload] {
    guard shape.isEmpty else {
      let types = type.isEmpty ? [.f32] : type
      let workloads = shape.flatMap { shape in
        types.map { AttentionWorkload(shape, $0, isCausal: causal) }
      }
      for workload in workloads { _ = try workload.request() }
      return workloads
    }
    return (quick ? AttentionWorkload.quick : AttentionWorkload.standard).filter { workload in
      (type.isEmpty || type.contains(workload.elementType)) && (!causal || workload.isCausal)
    }
  }

  /// The decode steps that the command line asks for.
  private func decodeWorkloads() throws -> [DecodeWorkload] {
    guard shape.isEmpty else {
      let types = type.isEmpty ? [.f16] : type
      let workloads = shape.flatMap { shape in types.map { DecodeWorkload(shape, $0) } }
      for workload in workloads { _ = try workload.request() }
      return workloads
    }
    return (quick ? DecodeWorkload.quick : DecodeWorkload.standard).filter {
      type.isEmpty || type.contains($0.elementType)
    }
  }

  private func time(
    _ workloads: [DecodeWorkload], on device: ComputeDevice, _ report: inout BenchmarkReport,
    beside peers: PeerGroup
  ) async {
    var peers = peers
    let benchmark = DecodeBenchmark(on: device, options: timingOptions)
    for (index, workload) in workloads.enumerated() {
      for choice in paths.choices(on: device.capabilities) {
        Console.current.progress("\(index)/\(workloads.count) \(workload.id) \(choice)")
        do {
          let first = try await benchmark.run(workload, choice)
          report.results.append(first)
          if let attention = workload.attention {
            try await peers.compare(first, of: attention, in: &report) {
              try await benchmark.run(workload, choice)
            }
          }
        } catch AttentionError.pathUnavailable(let path, let reason) {
          report.skips.append("\(workload.id) on \(path.rawValue): \(reason)")
        } catch {
          report.failures.append("\(workload.id) on \(choice): \(error)")
        }
      }
    }
  }

  private var linearWorkloads: [LinearAttentionWorkload] {
    guard shape.isEmpty else {
      let models = model.isEmpty ? [.lightning] : model
      return shape.flatMap { shape in
        models.flatMap { model in
          (type.isEmpty ? [.f32] : type).map { type in
            LinearAttentionWorkload(
              model, batch: shape.batchSize, tokens: shape.queryTokens, heads: shape.queryHeads,
              headSize: shape.headSize, type)
          }
        }
      }
    }
    return (quick ? LinearAttentionWorkload.quick : LinearAttentionWorkload.standard).filter {
      (type.isEmpty || type.contains($0.elementType)) && (model.isEmpty || model.contains($0.model))
    }
  }

  private func time(
    _ workloads: [LinearAttentionWorkload], on device: ComputeDevice,
    _ report: inout BenchmarkReport
  ) async {
    let benchmark = LinearAttentionBenchmark(on: device, options: timingOptions)
    for (index, workload) in workloads.enumerated() {
      for choice in paths.linearChoices {
        Console.current.progress("\(index)/\(workloads.count) \(workload.id) \(choice)")
        do {
          report.results.append(try await benchmark.run(workload, choice))
        } catch AttentionError.pathUnavailable(_, let reason) {
          report.skips.append("\(workload.id) on \(choice): \(reason)")
        } catch {
          report.failures.append("\(workload.id) on \(choice): \(error)")
        }
      }
    }
  }

  private var timingOptions: TimingOptions {
    var options = TimingOptions()
    options.samples = samples
    options.isCold = cold
    return options
  }

  private func time(
    _ workloads: [AttentionWorkload], on device: ComputeDevice, _ report: inout BenchmarkReport,
    beside peers: PeerGroup
  ) async {
    let console = Console.current
    var peers = peers
    let benchmark = AttentionBenchmark(on: device, options: timingOptions)
    let choices = paths.choices(on: device.capabilities)
    for (index, workload) in workloads.enumerated() {
      for choice in choices {
        console.progress("\(index)/\(workloads.count) \(workload.id) \(choice)")
        do {
          let first = try await benchmark.run(workload, choice)
          report.results.append(first)
          try await peers.compare(first, of: workload, in: &report) {
            try await benchmark.run(workload, choice)
          }
        } catch AttentionError.pathUnavailable(let path, let reason) {
          report.skips.append("\(workload.id) on \(path.rawValue): \(reason)")
        } catch {
          report.failures.append("\(workload.id) on \(choice): \(error)")
        }
      }
    }
  }
}

/// The file that `--json` names.
private struct JSONFile {
  let path: String

  init(_ path: String) {
    self.path = path
  }

  /// Fails now rather than after minutes of measuring; leaves no file that was not there.
  func checkWritable() throws(CommandFailure) {
    let existed = access(path, F_OK) == 0
    guard let file = fopen(path, "a") else { throw failure() }
    fclose(file)
    if !existed { unlink(path) }
  }

  func write(_ text: String) throws(CommandFailure) {
    guard let file = fopen(path, "w") else { throw failure() }
    let isWritten = fputs(text, file) >= 0
    guard fclose(file) == 0, isWritten else { throw failure() }
  }

  private func failure() -> CommandFailure {
    let reason = strerror(errno).map { String(cString: $0) } ?? "error \(errno)"
    return CommandFailure(.wrongInput, "\(path) cannot be written: \(reason)")
  }
}

extension BenchCommand: KernelCommand {
  var includesMatrixPath: Bool { paths.includesMatrixPath }
}
