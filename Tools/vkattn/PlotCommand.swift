import ArgumentParser
import Foundation
import KernelBenchmarks

/// `vkattn plot`.
struct PlotCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "plot",
    abstract: "Draws results of bench and schedules of plan decode.",
    discussion: """
      Writes pictures as SVG and PNG, and report.html, which holds them all and needs no other file: rates \
      over the sequence length, the roofline, decode bandwidth over the number of keys, linear beside \
      softmax attention, and the schedule of a decode step. Each is drawn where the files have data for it.

        vkattn bench all --json results.json
        vkattn plan decode --shape S1,H32,G8,D128 --lengths 65536,1024,3000 --explain --json > cuts.json
        vkattn plot results.json cuts.json --out pictures

      Runs \(Self.script) of a checkout with a Python that has matplotlib: the one in VKATTN_PYTHON, else \
      python3, else .venv/bin/python.
      """)

  private static let script = "Benchmarks/plots/plot.py"

  @Argument(help: ArgumentHelp("What bench and plan wrote as JSON.", valueName: "file"))
  var files: [String]

  @Option(
    help: ArgumentHelp("Where the pictures go; made where it is not there.", valueName: "folder"))
  var out: String

  @Flag(help: "Makes a folder with pictures of its own for the results of each device.")
  var byDevice = false

  func validate() throws {
    if files.isEmpty { throw ValidationError("no file to draw") }
  }

  func run() async throws {
    let console = Console.current
    guard FileManager.default.fileExists(atPath: Self.script) else {
      throw CommandFailure(
        .wrongInput, "plot runs \(Self.script), which is not here; call it in a checkout")
    }
    let python = try PythonInterpreter.find(
      importing: "matplotlib", installed: "-r Benchmarks/plots/requirements.txt",
      secondsAtMost: 120)
    let run = try PythonInterpreter(program: python.program, secondsAtMost: 600).run(
      [Self.script, "--out", Self.plain(out)] + (byDevice ? ["--by-device"] : [])
        + files.map(Self.plain))
    for line in run.output.split(separator: "\n") { console.print(String(line)) }
    guard !run.timedOut else { throw CommandFailure(.failed, "drawing took more than 600 s") }
    guard run.status == 0 else {
      let message = run.errors.split(separator: "\n").last.map(String.init) ?? "no reason was given"
      throw CommandFailure(run.status == 2 ? .wrongInput : .failed, message)
    }
  }

  /// A path that no program takes for an option.
  private static func plain(_ path: String) -> String { path.hasPrefix("-") ? "./\(path)" : path }
}
