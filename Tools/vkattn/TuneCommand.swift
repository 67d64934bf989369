import ArgumentParser
import KernelBenchmarks
import Synchronization
import VulkanAttention

/// `vkattn tune`.
struct TuneCommand: AsyncParsableCommand {
  /// What is tuned.
  enum Subject: String, ExpressibleByArgument, CaseIterable {
    /// Tiled exact attention: path and tile.
    case attention
    /// Decode steps: path, tile, groups.
    case decode
    /// Linear attention: form, path, tile.
    case linear
  }

  static let configuration = CommandConfiguration(
    commandName: "tune",
    abstract: "Searches for faster tiles on a device, and keeps them for it.",
    discussion: """
      Each workload stands for a class of shapes: its types, head sizes and options, and sizes between the \
      same bounds. From the built-in tile of each path the search goes to neighbours that differ in one \
      number, as long as they are faster. Every tile's result is compared with the reference first. The \
      best one is kept if it is faster than the built-in one by more than the noise: \
      \(PairedComparison.rule).

      What is kept goes to tuning.json in $VKATTN_DATA, else in vulkan-attention in $XDG_DATA_HOME or in \
      ~/.local/share, after each class; for this device, driver and subgroup size alone. vkattn bench and plan \
      take it from there unless --no-tuning is given, programs by TuningStore. Ctrl-C ends the \
      search and leaves what was kept; once more, at once.

        vkattn tune --budget 600
        vkattn tune decode --shape S1,T8192,H32,G8,D128 --type f16 --budget 60
        vkattn tune --list
        vkattn tune --export tiles.json
        vkattn tune --import tiles.json
        vkattn tune --reset

      On a GPU tuning wants a machine that does nothing else. Exit status 130: Ctrl-C.
      """)

  @Argument(help: "What is tuned; everything by default.")
  var subject: Subject?

  @Option(
    help: ArgumentHelp(
      "How long, about; shared by the workloads that are left.", valueName: "seconds"))
  var budget = 300

  @Option(help: AttentionShape.help, transform: AttentionShape.parsed)
  var shape: [AttentionShape] = []

  @Option(help: "The type of the tensors of --shape; may be repeated.")
  var type: [ElementType] = []

  @Flag(help: "With --shape: hides the keys after a query's own position.")
  var causal = false

  @Option(
    help: ArgumentHelp("The recurrence of linear attention with --shape.", valueName: "name"))
  var model: LinearAttentionModel = .lightning

  @Flag(help: "Prints what is kept, for every device.")
  var list = false

  @Option(
    help: ArgumentHelp("Writes what is kept, for every device, to a file.", valueName: "file"))
  var export: String?

  @Option(
    name: .customLong("import"),
    help: ArgumentHelp(
      "Adds what was exported; of a class that both have, it counts.", valueName: "file"))
  var imported: String?

  @Flag(help: "Removes the file with what is kept, whatever is in it.")
  var reset = false

  @Flag(help: "Searches, and keeps nothing.")
  var dryRun = false

  @OptionGroup var device: DeviceOptions

  func validate() throws {
    if budget < 1 { throw ValidationError("--budget is \(budget); allowed: 1 or more") }
    let actions = [list, export != nil, imported != nil, reset].filter { $0 }.count
    if actions > 1 {
      throw ValidationError("--list, --export, --import and --reset exclude each other")
    }
    if actions == 1, subject != nil || !shape.isEmpty || dryRun {
      throw ValidationError("--list, --export, --import and --reset search for nothing")
    }
    if !shape.isEmpty, subject == nil {
      throw ValidationError("--shape needs attention, decode or linear")
    }
    if shape.isEmpty, !type.isEmpty || causal { throw ValidationError("--type needs --shape") }
  }

  func run() async throws {
    do throws(TuningError) {
      let store = try TuningStore.user()
      if list {
        for line in try store.read().lines { Console.current.print(line) }
        return
      }
      if reset {
        try store.reset()
        Console.current.print("removed \(store.path)")
        return
      }
    } catch {
      throw CommandFailure(.wrongInput, "\(error)")
    }
    if let export { return try exportTiles(to: export) }
    if let imported { return try importTiles(from: imported) }
    try await search()
  }

  private func exportTiles(to path: String) throws {
    do throws(TuningError) {
      let file = try TuningStore.user().read()
      try TuningStore(path: path).write(file)
      Console.current.print("\(file.entryCount) tiles of \(file.devices.count) devices to \(path)")
    } catch {
      throw CommandFailure(.wrongInput, "\(error)")
    }
  }

  private func importTiles(from path: String) throws {
    let bytes = try inputFile(path)
    do throws(TuningError) {
      let other = try TuningFile(bytes, path: path)
      let store = try TuningStore.user()
      var file = try store.read()
      file.merge(other)
      try store.write(file)
      Console.current.print(
        "\(other.entryCount) tiles of \(other.devices.count) devices to \(store.path)")
    } catch {
      throw CommandFailure(.wrongInput, "\(error)")
    }
  }

  private func search() async throws {
    let console = Console.current
    let workloads = try workloads()
    let store: TuningStore
    do throws(TuningError) {
      store = try TuningStore.user()
      // A file that cannot be added to is told now and not after minutes.
      _ = try store.read()
    } catch {
      throw CommandFailure(.wrongInput, "\(error)")
    }
    let opened = try device.open()
    console.print(
      "tuning \(opened.capabilities.name), \(workloads.count) workloads in about \(budget) s")
    let flag = StopFlag()
    let interruption = Interruption {
      if flag.raise() > 1 { endProcessAtOnce(ExitStatus.interrupted.rawValue) }
    }
    defer { interruption.cancel() }
    let tuner = Tuner(
      on: opened, time: Clock.now, isInterrupted: { flag.isRaised },
      progress: { console.progress($0) })
    let clock = ContinuousClock()
    let end = clock.now + .seconds(budget)
    var foundCount = 0
    var failedCount = 0
    for (index, workload) in workloads.enumerated() {
      let left = (end - clock.now).inSeconds
      guard left > 0 else {
        console.print("no time was left for \(workloads.count - index) workloads; see --budget")
        break
      }
      guard
        let outcome = await tuner.tune(
          workload, seconds: left / Double(workloads.count - index))
      else { break }
      console.clearProgress()
      for line in outcome.lines { console.print(line) }
      if case .failed = outcome.verdict { failedCount += 1 }
      // Not used, and wrong all the same.
      if !outcome.wrong.isEmpty { failedCount += 1 }
      guard let entry = outcome.entry else { continue }
      foundCount += 1
      guard !dryRun else { continue }
      do throws(TuningError) {
        try store.add(Tuning([outcome.key: entry]), for: opened.capabilities)
      } catch {
        throw CommandFailure(.failed, "\(error)")
      }
    }
    console.clearProgress()
    console.print(
      "\(foundCount) tiles \(dryRun ? "found, none kept (--dry-run)" : "kept in \(store.path)")")
    if flag.isRaised { throw CommandFailure(.interrupted) }
    if failedCount > 0 { throw CommandFailure(.failed) }
  }

  private func workloads() throws -> [BenchmarkWorkload] {
    let all: [BenchmarkWorkload] =
      shape.isEmpty
      ? BenchmarkWorkload.tuningTargets.filter {
        subject == nil || $0.problem.family == subject?.rawValue
      }
      : shape.flatMap { shape in
        (type.isEmpty ? [subject == .linear ? ElementType.f32 : .f16] : type).map { type in
          switch subject {
          case .decode: BenchmarkWorkload(DecodeWorkload(shape, type))
          case .linear:
            BenchmarkWorkload(LinearAttentionWorkload(model, shape, type))
          case .attention, nil:
            BenchmarkWorkload(AttentionWorkload(shape, type, isCausal: causal))
          }
        }
      }
    for workload in all { try workload.problem.check() }
    return all
  }
}

/// Whether Ctrl-C was pressed, and how often.
private final class StopFlag: Sendable {
  private let count = Mutex(0)

  /// Counts one more.
  func raise() -> Int {
    count.withLock {
      $0 += 1
      return $0
    }
  }

  var isRaised: Bool { count.withLock { $0 > 0 } }
}

extension TuningOutcome {
  /// What became of it, in lines.
  fileprivate var lines: [String] {
    let time = builtInSeconds.map { ", built-in \(Numbers.seconds($0))" } ?? ""
    let head =
      switch verdict {
      case .found:
        "\(workload)\(time): \(Numbers.fixed(entry?.speedup ?? 0, decimals: 2)) times as fast with "
          + (entry?.tile.summary ?? "")
      case .kept(let reason): "\(workload)\(time): built-in tile kept, \(reason)"
      case .failed(let reason): "FAILED: \(workload): \(reason)"
      }
    return [head] + wrong.map { "  WRONG, not used: \($0)" }
  }
}

extension TuningFile {
  /// The tiles of all devices.
  fileprivate var entryCount: Int { devices.reduce(0) { $0 + $1.tuning.entries.count } }

  /// What is kept, for people.
  fileprivate var lines: [String] {
    guard entryCount > 0 else { return ["nothing is tuned"] }
    return devices.flatMap { device in
      var table = TextTable([
        ("class of shapes", .left), ("tile", .left), ("speedup", .right), ("when", .left),
      ])
      for (key, entry) in device.tuning.entries.sorted(by: { $0.key < $1.key }) {
        table.add([
          key, entry.tile.summary, Numbers.fixed(entry.speedup, decimals: 2), entry.time,
        ])
      }
      return [
        "\(device.name) · \(device.identity.driverInfo) · subgroups of "
          + "\(device.identity.subgroupSize)"
      ] + table.lines
    }
  }
}

extension TuneCommand: KernelCommand {
  // The matrix path is a candidate of every search on a GPU; on a CPU it loses to wide vectors.
  var includesMatrixPath: Bool { false }
}
