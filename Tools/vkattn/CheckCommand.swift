import ArgumentParser
import KernelBenchmarks
import Synchronization
import VulkanAttention

/// `vkattn check`.
struct CheckCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "check",
    abstract: "Holds kernels against a reference in Double, over a grid of problems.",
    discussion: """
      Outputs start as NaN, and NaN surrounds every tensor: a row that is not written, a write that \
      goes astray and a read that goes too far are all found. The gate of o is RMS(error) / \
      RMS(reference): 1e-5 in f32, 2e-3 in f16, 8e-3 in bf16; tiled attention of 16 bits must also be \
      at most twice as far off as a careful evaluation in that type. The log-sum-exp may be off by \
      1e-3.

        vkattn check --quick
        vkattn check --all-paths --validate
        vkattn check --path matrix:16x16x16 --only f16/B1-S33
        vkattn check statistics
        vkattn check merge --full
        vkattn check decode --all-paths
        vkattn check linear --all-paths
        vkattn check companions
        vkattn check custom --all-paths

      A line for every case, with what it took, then a table of the worst errors. Ctrl-C ends the check \
      with the table so far. Where a path runs with its tuned tile and with another one, as with \
      --all-paths on a device of flexible matrix sizes, the other tile leaves out what --full adds to \
      head sizes and options.

      Statistics and merges have one shader each and take no path. The gates of statistics are 2e-5 \
      (of an entropy 2e-4 absolute), that of a merged log-sum-exp is 1e-5. Linear attention runs in each \
      of its forms where paths are named; its states have the gate of f32. Feature maps, norms with gates \
      and short convolutions are checked with it, each on its only path. Companions run on every path. Custom writes options of \
      attention and decode as GLSL, compiles it with libshaderc and holds it against the options' reference.

      The exit status is 1 where a case fails, and where no case could run; 130 after Ctrl-C.
      """)

  @Argument(help: "The kernels.")
  var subject: CheckSubject = .attention

  @Flag(help: "A few cases, some seconds on a software driver.")
  var quick = false

  @Flag(
    help: "Every pair of lengths, more head sizes and shapes: half an hour on a software driver.")
  var full = false

  @Option(help: ArgumentHelp("Runs only the cases whose id contains the text.", valueName: "text"))
  var only: String?

  @Flag(
    name: .customLong("validate"),
    help: "Turns the Vulkan validation layers on; any message of theirs is a failure.")
  var usesValidationLayers = false

  @Flag(help: "Prints a JSON object.")
  var json = false

  @OptionGroup var paths: PathOptions
  @OptionGroup var device: DeviceOptions

  func validate() throws {
    if quick, full { throw ValidationError("--quick and --full exclude each other") }
    let takesNoPath: [CheckSubject] = [.statistics, .merge, .companions]
    if takesNoPath.contains(subject), paths.allPaths || !paths.path.isEmpty {
      throw ValidationError(
        subject == .companions
          ? "companions run on every path they have, and take none"
          : "\(subject.rawValue) has one shader and takes no path")
    }
  }

  func run() async throws {
    let depth: CheckDepth = full ? .full : quick ? .quick : .standard
    // The paths of an attention are those of the device, which is opened later.
    let attentions = AttentionCheckGrid.cases(depth).filter { isAsked($0.id) }
    func decodes(_ choices: [AttentionPathChoice]) -> [CheckRun] {
      choices.flatMap { DecodeCheck.runs(depth, $0) }.filter { isAsked($0.id) }
    }
    func customs(_ choices: [AttentionPathChoice]) -> [CheckRun] {
      CustomCheck.runs(depth, choices).filter { isAsked($0.id) }
    }
    let named =
      paths.allPaths
      ? AttentionPath.allCases.map { AttentionPathChoice($0) }
      : paths.path.isEmpty ? [.automatic] : paths.path
    let others =
      switch subject {
      case .attention: [CheckRun]()
      case .statistics: AttentionStatisticsCheck.runs(depth).filter { isAsked($0.id) }
      case .merge: StateMergeCheck.runs(depth).filter { isAsked($0.id) }
      case .companions: CompanionCheck.runs(depth).filter { isAsked($0.id) }
      case .decode: decodes(named)
      case .custom: customs(named)
      case .linear:
        (LinearAttentionCheck.runs(depth, paths.linearChoices) + LinearPartsCheck.runs(depth))
          .filter { isAsked($0.id) }
      }
    guard !(subject == .attention ? attentions.isEmpty : others.isEmpty) else {
      throw CommandFailure(.wrongInput, "no case of this grid has \"\(only ?? "")\" in its id")
    }
    let log = usesValidationLayers ? ValidationLog() : nil
    // The devices are closed before the log is read: the layers report what was leaked at their end.
    let (results, name) = try await check(log) { device in
      if subject == .decode { return (decodes(paths.choices(on: device)), []) }
      if subject == .custom { return (customs(paths.choices(on: device)), []) }
      guard subject == .attention else { return (others, []) }
      return AttentionCheck.runs(attentions, paths.choices(on: device), on: device)
    }
    let messages = log?.messages ?? []
    summarize(results, name, messages)
    let report = results.report
    guard report.caseCount > 0 else {
      throw CommandFailure(.failed, "no case could run")
    }
    if !report.failures.isEmpty || !messages.isEmpty { throw CommandFailure(.failed) }
  }

  /// Whether the case is among those that `--only` names.
  private func isAsked(_ id: String) -> Bool { only.map { id.contains($0) } ?? true }

  private func check(
    _ log: ValidationLog?,
    _ plan: (DeviceCapabilities) -> (runs: [CheckRun], skipped: [CheckOutcome])
  ) async throws -> (results: CheckResults, device: String) {
    let console = Console.current
    let first = try device.open(validationLog: log)
    let name = first.capabilities.name
    let (runs, skipped) = plan(first.capabilities)
    var devices = [first]
    let wanted = CheckRunner.deviceCount(first.capabilities, processors: processorCount())
    while devices.count < min(wanted, CheckRunner.batchCount(runs)) {
      devices.append(try device.open(validationLog: log))
    }
    let results = Mutex(CheckResults(runs, skipped: skipped))
    if !json { console.print("\(subject.rawValue) on \(name), \(results.withLock(\.total)) cases") }
    // The devices are busy and cannot be closed: what is known is said, and the process ends.
    let interruption = Interruption {
      // Locked for good: no line of a case may follow.
      results.withLock { results in
        summarize(results, name, log?.messages ?? [])
        endProcessAtOnce(ExitStatus.interrupted.rawValue)
      }
    }
    defer { interruption.cancel() }
    await CheckRunner.run(runs, on: devices) { result in
      results.withLock { results in
        results.add(result)
        for line in results.lines(of: result) { json ? console.error(line) : console.print(line) }
      }
    }
    return (results.withLock { $0 }, name)
  }

  private func summarize(
    _ results: CheckResults, _ device: String, _ messages: [ValidationLog.Message]
  ) {
    if json {
      printJSON(results, device, messages)
    } else {
      printTable(results, messages)
    }
  }

  private func printTable(_ results: CheckResults, _ messages: [ValidationLog.Message]) {
    let console = Console.current
    let report = results.report
    if !report.table.isEmpty { for line in report.table.lines { console.print(line) } }
    for skip in report.skips {
      console.print(
        "skipped: \(skip.path) \(skip.elementType.rawValue), \(skip.caseCount) cases: \(skip.reason)"
      )
    }
    let shown = 20
    for outcome in report.failures.prefix(shown) {
      for line in outcome.failureLines { console.print(line) }
    }
    if report.failures.count > shown {
      console.print("… and \(report.failures.count - shown) more")
    }
    for message in messages.prefix(shown) {
      console.print("VALIDATION: \(message.identifier): \(message.text)")
    }
    if usesValidationLayers { console.print("validation: \(messages.count) messages") }
    let missing = results.total - results.done
    console.print(
      "\(report.caseCount - report.failures.count) of \(report.caseCount) cases passed, "
        + "\(report.skips.reduce(0) { $0 + $1.caseCount }) skipped, "
        + (missing > 0 ? "\(missing) not run, " : "") + Numbers.seconds(results.seconds))
  }

  private func printJSON(
    _ results: CheckResults, _ device: String, _ messages: [ValidationLog.Message]
  ) {
    let report = results.report
    let members: [JSONText.Member] =
      [
        .init("device", .string(device)), .init("seconds", .number(results.seconds)),
        .init("cases", .integer(report.caseCount)),
        .init("not_run", .integer(results.total - results.done)),
      ] + report.json + [
        .init(
          "validation",
          .array(messages.map { .string("\($0.identifier): \($0.text)") }))
      ]
    Console.current.print(JSONText.object(members).text)
  }
}

extension CheckCommand: KernelCommand {
  var includesMatrixPath: Bool { paths.includesMatrixPath }
}
