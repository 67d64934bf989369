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
    /// Modifications in GLSL beside the library's options that say the same.
    case custom
    /// Every family.
    case all
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

      Without --shape the workloads are the plain shapes of a family; --quick takes a few of them, and \
      --full all there are: the plain shapes, the grids of FlashAttention and of \
      flash-linear-attention, ragged batches of servers and the layers of models. --filter takes those \
      whose ids match a pattern, out of all there are; --list prints the ids.

      --compare prints how the results stand to those of an earlier run. The rule, \
      \(BenchmarkComparison.rule).

        vkattn bench --quick
        vkattn bench --filter 'llama-3-8b/*' --filter '*/decode/*int8*'
        vkattn bench --list --filter 'deepseek*'
        vkattn bench --quick --json new.json --csv new.csv --compare old.json
        vkattn bench attention --shape S1024,H8,D64 --type f16 --causal
        vkattn bench --shape S4096,H32,G8,D128 --all-paths --json out.json
        vkattn bench attention --peers --ggml build/bin/test-backend-ops --type f16
        vkattn bench decode --peers
        vkattn bench decode --shape S1,T4096,H32,G8,D128 --type f16 --type f32
        vkattn bench linear --model lightning,kda --shape B1,S4096,H8,D128
        vkattn bench custom --filter 'custom/alibi/*'
        vkattn bench host

      Custom times options of attention beside modifications in GLSL that say the same, by turns in one \
      run, and how long the compiler takes; it has workloads and a table of its own, and --samples are \
      pairs of runs.

      The exit status is 1 where a workload fails, and where none could run.
      """)

  @Argument(
    help: ArgumentHelp(
      """
      What is measured: attention, decode, linear, custom, all, or host. By default attention, and with \
      --filter or --full all.
      """))
  var subject: Subject?

  @Flag(help: "A few workloads, less than a minute on a software driver.")
  var quick = false

  @Flag(help: "Every workload there is; hours on a software driver, and up to 8 GB of the host.")
  var full = false

  @OptionGroup var selection: FilterOptions

  @Flag(help: "Prints the ids of the workloads instead of running them.")
  var list = false

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

  @Flag(help: "Overwrites the device's caches before each sample, with 256 MiB.")
  var cold = false

  @Option(help: ArgumentHelp("Writes the results as one JSON object to a file.", valueName: "file"))
  var json: String?

  @Option(help: ArgumentHelp("Writes the results as comma-separated values.", valueName: "file"))
  var csv: String?

  @Option(
    help: ArgumentHelp(
      "Compares with the JSON of an earlier run; see above for the rule.", valueName: "file"))
  var compare: String?

  @Flag(help: "With --compare: the exit status is 1 where a workload has become slower.")
  var failIfSlower = false

  @Flag(
    help: """
      Runs what Python has on the same shapes by turns and prints the ratios: PyTorch, and beside a \
      GPU with CUDA flash-linear-attention and FlashInfer where they are installed; in a checkout, with \
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
  @OptionGroup var tuning: TuningOptions
  @OptionGroup var device: DeviceOptions

  func validate() throws {
    if let samples, samples < 1 {
      throw ValidationError("--samples is \(samples); allowed: 1 or more")
    }
    if peerTimeout < 1 {
      throw ValidationError("--peer-timeout is \(peerTimeout); allowed: 1 or more")
    }
    if quick, !shape.isEmpty { throw ValidationError("--quick and --shape exclude each other") }
    if quick, full { throw ValidationError("--quick and --full exclude each other") }
    if !shape.isEmpty, full || !selection.filter.isEmpty {
      throw ValidationError("--shape excludes --full and --filter")
    }
    if !shape.isEmpty, subject == .all { throw ValidationError("--shape needs one family") }
    if subject == .host, full || !selection.filter.isEmpty || list {
      throw ValidationError("host has no workloads to select from")
    }
    if subject == .custom { try validateCustom() }
    if failIfSlower, compare == nil { throw ValidationError("--fail-if-slower needs --compare") }
  }

  func run() async throws {
    if subject == .custom { return try await runCustom() }
    let console = Console.current
    // Problems that no device could run are refused before one is opened.
    let workloads = try workloads()
    if list {
      for workload in workloads { console.print(workload.id) }
      return
    }
    for path in [json, csv].compactMap({ $0 }) { try OutputFile(path).checkWritable() }
    let earlier = try compare.map { try ResultFile(path: $0) }
    let python = peers ? try PythonInterpreter.findForPeers(secondsAtMost: peerTimeout) : nil
    let opened = try device.open()
    let ggml = ggml.map {
      GGMLPeer(path: $0, device: opened.capabilities, secondsAtMost: peerTimeout)
    }
    let found = python?.peers(
      for: opened.capabilities, problems: workloads.compactMap(\.problem.forPeers))
    var all: [any Peer] = found?.peers ?? []
    if let ggml { all.append(ggml) }
    var report = BenchmarkReport(opened.capabilities, commit: Commit.current())
    report.skips += found?.skips ?? []
    report.time = Clock.now
    console.progress("host")
    report.host = try await HostTiming.measure(on: opened, paths.path.first ?? .automatic)
    let families = Set(workloads.map(\.problem.family))
    if subject == .host || families.contains(DecodeWorkload.family) {
      report.decodeHost = try await DecodeHostTiming.measure(on: opened, paths.path.first?.path)
    }
    if subject != .host {
      console.progress("ceilings")
      report.ceilings = try DeviceCeilings.measure(on: opened)
    }
    for line in report.heading { console.print(line) }
    await time(workloads, on: opened, &report, beside: PeerGroup(all))
    console.clearProgress()
    if !report.table.isEmpty { for line in report.table.lines { console.print(line) } }
    if !report.peers.isEmpty {
      for line in report.peers.table.lines { console.print(line) }
      for line in report.peers.summary { console.print(line) }
    }
    for skip in report.skips { console.print("skipped: \(skip)") }
    for failure in report.failures { console.print("FAILED: \(failure)") }
    let text = report.json.text + "\n"
    if let json { try OutputFile(json).write(text) }
    if let csv { try OutputFile(csv).write(report.csv.text) }
    var hasSlower = false
    if let earlier {
      let rows = BenchmarkComparison.all(
        old: earlier, new: try ResultFile(Array(text.utf8), name: "this run"))
      console.print(comparison: rows, old: earlier, device: report.device, driver: report.driver)
      hasSlower = rows.contains { $0.verdict == .slower }
    }
    if !report.failures.isEmpty { throw CommandFailure(.failed) }
    if subject != .host, report.results.isEmpty {
      throw CommandFailure(.failed, "no workload could run")
    }
    if failIfSlower, hasSlower { throw CommandFailure(.failed, "a workload has become slower") }
  }

  /// The families that are measured; none for the host alone.
  private var families: Set<String> {
    switch subject {
    case .attention: [AttentionWorkload.family]
    case .decode: [DecodeWorkload.family]
    case .linear: [LinearAttentionWorkload.family]
    case .host, .custom: []
    case .all: Self.everyFamily
    case nil:
      selection.filter.isEmpty && !full && !list ? [AttentionWorkload.family] : Self.everyFamily
    }
  }

  private static let everyFamily: Set<String> = [
    AttentionWorkload.family, DecodeWorkload.family, LinearAttentionWorkload.family,
  ]

  /// The workloads that the command line asks for.
  private func workloads() throws -> [BenchmarkWorkload] {
    guard shape.isEmpty else {
      let workloads = shapedWorkloads
      for workload in workloads { try workload.problem.check() }
      return workloads
    }
    let all: [BenchmarkWorkload] =
      if quick {
        subject == .all || !selection.filter.isEmpty ? BenchmarkWorkload.quick : quickOfEveryFamily
      } else if full || !selection.filter.isEmpty || list {
        BenchmarkWorkload.full
      } else {
        BenchmarkWorkload.standard
      }
    let families = families
    let chosen = all.filter { workload in
      families.contains(workload.problem.family)
        && (type.isEmpty || type.contains(workload.elementType))
        && (!causal || workload.isCausal)
        && selection.selects(workload.id)
        && (model.isEmpty || model.contains { workload.problem.model == $0 })
    }
    if chosen.isEmpty, subject != .host {
      throw CommandFailure(
        .wrongInput, "no workload is selected; vkattn bench --list prints the ids")
    }
    return chosen
  }

  /// The workloads of a quick look at each family.
  private var quickOfEveryFamily: [BenchmarkWorkload] {
    AttentionWorkload.quick.map { BenchmarkWorkload($0) }
      + DecodeWorkload.quick.map { BenchmarkWorkload($0) }
      + LinearAttentionWorkload.quick.map { BenchmarkWorkload($0) }
  }

  /// The workloads of the shapes on the command line.
  private var shapedWorkloads: [BenchmarkWorkload] {
    shape.flatMap { shape -> [BenchmarkWorkload] in
      switch subject {
      case .decode:
        (type.isEmpty ? [.f16] : type).map { BenchmarkWorkload(DecodeWorkload(shape, $0)) }
      case .linear:
        (model.isEmpty ? [.lightning] : model).flatMap { model in
          (type.isEmpty ? [.f32] : type).map { type in
            BenchmarkWorkload(LinearAttentionWorkload(model, shape, type))
          }
        }
      case .attention, .custom, .all, .host, nil:
        (type.isEmpty ? [.f32] : type).map {
          BenchmarkWorkload(AttentionWorkload(shape, $0, isCausal: causal))
        }
      }
    }
  }

  private func time(
    _ workloads: [BenchmarkWorkload], on device: ComputeDevice, _ report: inout BenchmarkReport,
    beside peers: PeerGroup
  ) async {
    var peers = peers
    let benchmark = WorkloadBenchmark(
      on: device, options: timingOptions, tuning: tuning.tuning(for: device.capabilities))
    for (index, workload) in workloads.enumerated() {
      for way in paths.ways(of: workload, on: device.capabilities) {
        Console.current.progress("\(index)/\(workloads.count) \(workload.id) \(way.name)")
        do {
          let first = try await benchmark.run(workload, way.attention, linear: way.linear)
          report.results.append(first)
          if let problem = workload.problem.forPeers {
            try await peers.compare(first, of: problem, in: &report) {
              try await benchmark.run(workload, way.attention, linear: way.linear)
            }
          }
        } catch AttentionError.pathUnavailable(_, let reason) {
          report.skips.append("\(workload.id) on \(way.name): \(reason)")
        } catch {
          report.failures.append("\(workload.id) on \(way.name): \(error)")
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
}

extension BenchmarkWorkload.Problem {
  /// Throws what is wrong with the sizes.
  func check() throws(AttentionError) {
    switch self {
    case .attention(let workload): _ = try workload.request()
    case .decode(let workload): _ = try workload.request()
    case .linear(let workload): _ = try workload.request()
    }
  }

  /// The recurrence of a linear attention.
  fileprivate var model: LinearAttentionModel? {
    if case .linear(let workload) = self { workload.model } else { nil }
  }

  /// The problem as peers have it; nil for what they have not.
  fileprivate var forPeers: PeerProblem? {
    switch self {
    case .attention(let workload): workload.isPlain ? .attention(workload) : nil
    case .decode(let workload): workload.attention.map { .attention($0) }
    case .linear(let workload): workload.isForPeers ? .linear(workload) : nil
    }
  }
}

extension BenchCommand: KernelCommand {
  var includesMatrixPath: Bool { paths.includesMatrixPath }
}
