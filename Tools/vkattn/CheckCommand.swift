import ArgumentParser
import KernelBenchmarks
import VulkanAttention

/// `vkattn check`.
struct CheckCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "check",
    abstract: "Holds kernels against a reference in Double, over a grid of problems.",
    discussion: """
      Outputs start as NaN, and NaN surrounds every tensor: a row that is not written, a write that \
      goes astray and a read that goes too far are all found. The gate of o is RMS(error) / \
      RMS(reference): 1e-5 in f32, 2e-3 in f16, 8e-3 in bf16; 16 bits must also be at most twice \
      as far off as a careful evaluation in that type. The log-sum-exp may be off by 1e-3.

        vkattn check --quick
        vkattn check --all-paths --validate
        vkattn check --path matrix:16x16x16 --only f16/B1-S33
        vkattn check statistics
        vkattn check merge --full
        vkattn check linear --all-paths

      Statistics and merges have one shader each and take no path. The gates of statistics are 2e-5 \
      (of an entropy 2e-4 absolute), that of a merged log-sum-exp is 1e-5. Linear attention runs in each \
      of its forms where paths are named; its states have the gate of f32.

      The exit status is 1 where a case fails, and where no case could run.
      """)

  @Argument(help: "The kernels.")
  var subject: CheckSubject = .attention

  @Flag(help: "A few cases, some seconds on a software driver.")
  var quick = false

  @Flag(help: "Every pair of lengths and every head size: many minutes on a software driver.")
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
    if subject == .statistics || subject == .merge, paths.allPaths || !paths.path.isEmpty {
      throw ValidationError("\(subject.rawValue) has one shader and takes no path")
    }
  }

  func run() async throws {
    let depth: CheckDepth = full ? .full : quick ? .quick : .standard
    // The paths of an attention are those of the device, which is opened later.
    let attentions = AttentionCheckGrid.cases(depth).filter { isAsked($0.id) }
    let others =
      switch subject {
      case .attention: [CheckRun]()
      case .statistics: AttentionStatisticsCheck.runs(depth).filter { isAsked($0.id) }
      case .merge: StateMergeCheck.runs(depth).filter { isAsked($0.id) }
      case .linear:
        LinearAttentionCheck.runs(depth, paths.linearChoices).filter { isAsked($0.id) }
      }
    guard !(subject == .attention ? attentions.isEmpty : others.isEmpty) else {
      throw CommandFailure(.wrongInput, "no case of this grid has \"\(only ?? "")\" in its id")
    }
    let log = usesValidationLayers ? ValidationLog() : nil
    let start = ContinuousClock.now
    // The device is closed before the log is read: the layers report what was leaked at its end.
    let (report, name) = try await check(log) { device in
      if subject != .attention { return others }
      let check = AttentionCheck(on: device)
      return paths.choices(on: device.capabilities).flatMap { choice in
        attentions.map { checkCase in
          CheckRun(id: "\(choice) \(checkCase.id)") { _ in await check.run(checkCase, choice) }
        }
      }
    }
    let seconds = (ContinuousClock.now - start).inSeconds
    let messages = log?.messages ?? []
    if json {
      printJSON(report, name, seconds, messages)
    } else {
      printTable(report, name, seconds, messages)
    }
    guard report.caseCount > 0 else {
      throw CommandFailure(.failed, "no case could run")
    }
    if !report.failures.isEmpty || !messages.isEmpty { throw CommandFailure(.failed) }
  }

  /// Whether the case is among those that `--only` names.
  private func isAsked(_ id: String) -> Bool { only.map { id.contains($0) } ?? true }

  private func check(
    _ log: ValidationLog?, _ runs: (ComputeDevice) -> [CheckRun]
  ) async throws -> (report: CheckReport, device: String) {
    let console = Console.current
    let opened = try device.open(validationLog: log)
    let runs = runs(opened)
    var outcomes = [CheckOutcome?](repeating: nil, count: runs.count)
    // Two at a time: while one pipeline compiles on one core, another case runs.
    await withTaskGroup(of: (Int, CheckOutcome).self) { group in
      for index in runs.indices {
        if index >= 2, let (done, outcome) = await group.next() { outcomes[done] = outcome }
        console.progress("\(index)/\(runs.count) \(runs[index].id)")
        group.addTask { (index, await runs[index].run(on: opened)) }
      }
      for await (done, outcome) in group { outcomes[done] = outcome }
    }
    console.clearProgress()
    var report = CheckReport()
    for case let outcome? in outcomes { report.add(outcome) }
    return (report, opened.capabilities.name)
  }

  private func printTable(
    _ report: CheckReport, _ device: String, _ seconds: Double,
    _ messages: [ValidationLog.Message]
  ) {
    let console = Console.current
    console.print("\(subject.rawValue) on \(device)")
    if !report.table.isEmpty { for line in report.table.lines { console.print(line) } }
    for skip in report.skips {
      console.print(
        "skipped: \(skip.path) \(skip.elementType.rawValue), \(skip.caseCount) cases: \(skip.reason)"
      )
    }
    let shown = 20
    for outcome in report.failures.prefix(shown) {
      console.print("FAILED: \(outcome.id) on \(outcome.path)")
      if case .failed(let problems) = outcome.verdict {
        for problem in problems { console.print("  \(problem)") }
      }
    }
    if report.failures.count > shown {
      console.print("… and \(report.failures.count - shown) more")
    }
    for message in messages.prefix(shown) {
      console.print("VALIDATION: \(message.identifier): \(message.text)")
    }
    if usesValidationLayers { console.print("validation: \(messages.count) messages") }
    console.print(
      "\(report.caseCount - report.failures.count) of \(report.caseCount) cases passed, "
        + "\(report.skips.reduce(0) { $0 + $1.caseCount }) skipped, \(Numbers.seconds(seconds))")
  }

  private func printJSON(
    _ report: CheckReport, _ device: String, _ seconds: Double,
    _ messages: [ValidationLog.Message]
  ) {
    let members: [JSONText.Member] =
      [
        .init("device", .string(device)), .init("seconds", .number(seconds)),
        .init("cases", .integer(report.caseCount)),
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
