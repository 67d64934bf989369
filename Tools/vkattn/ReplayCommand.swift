import ArgumentParser
import CaseFiles
import KernelBenchmarks
import VulkanAttention

/// `vkattn replay`.
struct ReplayCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "replay",
    abstract: "Runs cases from files and compares with the answers they bring.",
    discussion: """
      A case is a safetensors file with a problem and its expected outputs, made by PyTorch, NumPy or \
      anything else; Tools/cases has scripts that write them.

        vkattn replay                                  (the shipped cases, in a checkout)
        vkattn replay Tests/Cases/attention
        vkattn replay --all-paths case.safetensors

      A path that cannot run a case is a skip. A sound case that asks for something no kernel does \
      (another op, a head size beyond the kernels) is unsupported: it is listed and counted, and fails \
      nothing by itself unless it is one of the shipped. The exit status is 2 where a file is malformed, \
      else 1 where a case fails or none passes, else 0.
      """)

  @Argument(
    help: ArgumentHelp(
      "Case files, or folders of them; those under Tests/Cases if none is named.",
      valueName: "file"))
  var files: [String] = []

  @Flag(help: "Prints a JSON object.")
  var json = false

  @OptionGroup var paths: PathOptions
  @OptionGroup var device: DeviceOptions

  private static let shippedCases = [
    "attention", "attention-options", "attention-varlen", "decode", "paged-decode", "mla-decode",
    "linear-attention", "ssd", "attention-custom",
  ].map { "Tests/Cases/\($0)" }

  /// The files named, with those of the folders among them in the order of their names.
  private func caseFiles() throws(CommandFailure) -> [String] {
    var found: [String] = []
    for path in files.isEmpty ? Self.shippedCases : files {
      guard let names = folderContents(path) else {
        if files.isEmpty {
          throw CommandFailure(
            .wrongInput, "no file named, and there is no folder \(path) here")
        }
        found.append(path)
        continue
      }
      let cases = names.filter { $0.hasSuffix(".safetensors") }.sorted()
      guard !cases.isEmpty else {
        throw CommandFailure(.wrongInput, "\(path): no .safetensors file in this folder")
      }
      found += cases.map { "\(path)/\($0)" }
    }
    return found
  }

  func run() async throws {
    let console = Console.current
    // All files are read before a device is opened: a malformed one is wrong on any machine.
    var cases: [ReplayCase] = []
    var outcomes: [ReplayOutcome] = []
    var malformed: [String] = []
    for file in try caseFiles() {
      do throws(CaseFileError) {
        switch try CaseFile(path: file) {
        case .attention(let attentionCase): cases.append(.attention(attentionCase))
        case .decode(let decodeCase): cases.append(.decode(decodeCase))
        case .latentDecode(let decodeCase): cases.append(.latentDecode(decodeCase))
        case .linearAttention(let linearCase): cases.append(.linearAttention(linearCase))
        }
      } catch {
        if error.isUnsupportedOperation {
          outcomes.append(.unsupported(file, error))
        } else {
          malformed.append("\(error)")
        }
      }
    }
    for message in malformed { console.error("vkattn: \(message)") }

    var name: String?
    if !cases.isEmpty {
      let opened = try device.open()
      name = opened.capabilities.name
      for replayCase in cases {
        for way in replayCase.ways(paths, on: opened) {
          console.progress("\(replayCase.file) \(way.name)")
          let outcome = await way.run()
          outcomes.append(outcome)
          // What no kernel does, no other path does either.
          if case .unsupported = outcome.verdict { break }
        }
      }
    }
    console.clearProgress()
    let tally = ReplayTally(outcomes)
    if json {
      let report: JSONText = [
        "device": JSONText(name), "results": .array(outcomes.map(\.json)),
        "malformed": .array(malformed.map(JSONText.string)),
      ]
      console.print(report.text)
    } else {
      printTable(outcomes, tally, malformed: malformed.count)
    }
    if !malformed.isEmpty { throw CommandFailure(.wrongInput) }
    // There are kernels for all of the shipped cases.
    let missing = files.isEmpty ? tally.unsupported : 0
    if tally.failed + missing > 0 || tally.passed == 0 { throw CommandFailure(.failed) }
  }

  private func printTable(_ outcomes: [ReplayOutcome], _ tally: ReplayTally, malformed: Int) {
    let console = Console.current
    var table = TextTable([
      ("case", .left), ("op", .left), ("path", .left), ("outputs", .left), ("result", .left),
    ])
    for outcome in outcomes {
      let outputs = outcome.outputs.map { output in
        "\(output.name) \(Numbers.scientific(output.error))"
          + " \(output.passes ? "≤" : "≰") \(Numbers.scientific(output.tolerance))"
      }
      let result =
        switch outcome.verdict {
        case .passed: "pass"
        case .failed: "FAIL"
        case .skipped(let reason): "skipped: \(reason)"
        case .unsupported(let reason): "unsupported: \(reason)"
        }
      table.add([
        outcome.name, outcome.operation, outcome.path, outputs.joined(separator: ", "), result,
      ])
    }
    if !table.isEmpty { for line in table.lines { console.print(line) } }
    for outcome in outcomes {
      guard case .failed(let reason) = outcome.verdict else { continue }
      console.print("FAILED: \(outcome.name) on \(outcome.path): \(reason)")
    }
    console.print(
      "\(tally.passed) passed, \(tally.failed) failed, \(tally.skipped) skipped, "
        + "\(tally.unsupported) unsupported, \(malformed) malformed")
  }
}

/// A sound case of an operation that there is a kernel for.
private enum ReplayCase {
  case attention(AttentionCase)
  case decode(DecodeCase)
  case latentDecode(LatentDecodeCase)
  case linearAttention(LinearAttentionCase)

  var file: String {
    switch self {
    case .attention(let attentionCase): attentionCase.file
    case .decode(let decodeCase): decodeCase.file
    case .latentDecode(let decodeCase): decodeCase.file
    case .linearAttention(let linearCase): linearCase.file
    }
  }

  /// One way to run the case.
  struct Way {
    let name: String
    let run: () async -> ReplayOutcome
  }

  /// The ways that the command line asks for.
  func ways(_ paths: PathOptions, on device: ComputeDevice) -> [Way] {
    func each(_ run: @escaping (AttentionPathChoice) async -> ReplayOutcome) -> [Way] {
      paths.choices(on: device.capabilities).map { choice in
        Way(name: "\(choice)") { await run(choice) }
      }
    }
    switch self {
    case .attention(let attentionCase):
      return each { await AttentionReplay(on: device).run(attentionCase, $0) }
    case .decode(let decodeCase):
      return each { await DecodeReplay(on: device).run(decodeCase, $0) }
    case .latentDecode(let decodeCase):
      return each { await DecodeReplay(on: device).run(decodeCase, $0) }
    case .linearAttention(let linearCase):
      return paths.linearChoices.map { choice in
        Way(name: "\(choice)") {
          await LinearAttentionReplay(on: device).run(linearCase, choice)
        }
      }
    }
  }
}

/// How many outcomes ended which way.
private struct ReplayTally {
  var passed = 0
  var failed = 0
  var skipped = 0
  var unsupported = 0

  init(_ outcomes: [ReplayOutcome]) {
    for outcome in outcomes {
      switch outcome.verdict {
      case .passed: passed += 1
      case .failed: failed += 1
      case .skipped: skipped += 1
      case .unsupported: unsupported += 1
      }
    }
  }
}

extension ReplayCommand: KernelCommand {
  var includesMatrixPath: Bool { paths.includesMatrixPath }
}
