import ArgumentParser
import Foundation
import KernelBenchmarks

/// `vkattn plot`.
struct PlotCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "plot",
    abstract: "Draws results of bench, schedules of plan decode and maps of masks.",
    discussion: """
      Writes pictures as SVG and PNG, and report.html, which holds them all and needs no other file: rates \
      over the sequence length, the roofline, decode bandwidth over the number of keys, linear beside \
      softmax attention, the schedule of a decode step, and the blocks that a mask hides. Each is drawn where the files have data for it.

        vkattn bench all --json results.json
        vkattn plan decode --shape S1,H32,G8,D128 --lengths 65536,1024,3000 --explain --json > cuts.json
        vkattn mask 'keyIndex <= queryIndex' --json > mask.json
        vkattn plot results.json cuts.json mask.json --out pictures

      Runs \(Plotter.script) of a checkout with a Python that has matplotlib: the one in VKATTN_PYTHON, else \
      python3, else .venv/bin/python.
      """)

  @Argument(help: ArgumentHelp("What bench, plan and mask wrote as JSON.", valueName: "file"))
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
    try Plotter.draw(files, into: out, byDevice: byDevice)
  }
}
