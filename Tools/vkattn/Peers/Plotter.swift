import Foundation
import KernelBenchmarks

/// Draws pictures by the checkout's script.
enum Plotter {
  static let script = "Benchmarks/plots/plot.py"

  /// Draws files into a folder, and prints what was drawn.
  ///
  /// - Parameters:
  ///   - files: what commands wrote as JSON.
  ///   - folder: where the pictures go.
  ///   - byDevice: makes a folder with pictures of its own for the results of each device.
  static func draw(
    _ files: [String], into folder: String, byDevice: Bool = false
  ) throws(CommandFailure) {
    let console = Console.current
    guard FileManager.default.fileExists(atPath: script) else {
      throw CommandFailure(
        .wrongInput, "pictures are drawn by \(script), which is not here; call it in a checkout")
    }
    let python = try PythonInterpreter.find(
      importing: "matplotlib", installed: "-r Benchmarks/plots/requirements.txt",
      secondsAtMost: 120)
    let run: PeerProcess.Outcome
    do {
      run = try PythonInterpreter(program: python.program, secondsAtMost: 600).run(
        [script, "--out", plain(folder)] + (byDevice ? ["--by-device"] : []) + files.map(plain))
    } catch {
      throw CommandFailure(.failed, "\(error)")
    }
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
