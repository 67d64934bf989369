import Foundation
import VulkanAttention

/// A Python with torch, and a checkout's scripts that it runs.
struct PythonInterpreter {
  /// The program.
  let program: String
  /// How long one run may take.
  let secondsAtMost: Int

  /// The folder of the scripts.
  static let scripts = "Benchmarks/peers"

  /// Finds the scripts of peers below the current folder and a Python with PyTorch.
  static func findForPeers(secondsAtMost: Int) throws(CommandFailure) -> PythonInterpreter {
    guard FileManager.default.fileExists(atPath: scripts) else {
      throw CommandFailure(
        .wrongInput,
        "--peers runs the scripts of \(scripts), which is not here; call it in a checkout")
    }
    return try find(importing: "torch", installed: "torch numpy", secondsAtMost: secondsAtMost)
  }

  /// Finds a Python that can import a module: the one in VKATTN_PYTHON, else python3, else the checkout's `.venv`.
  ///
  /// - Parameter packages: what pip installs to bring the module.
  static func find(
    importing module: String, installed packages: String, secondsAtMost: Int
  ) throws(CommandFailure) -> PythonInterpreter {
    let named = ProcessInfo.processInfo.environment["VKATTN_PYTHON"]
    for candidate in named.map({ [$0] }) ?? ["python3", ".venv/bin/python"] {
      let found = PythonInterpreter(program: candidate, secondsAtMost: secondsAtMost)
      if found.succeeds("import \(module)") { return found }
    }
    let what =
      named.map { "VKATTN_PYTHON is \($0), which cannot import \(module)" }
      ?? "no Python with \(module) found"
    throw CommandFailure(
      .wrongInput,
      "\(what); install it (python3 -m venv .venv && .venv/bin/pip install \(packages)) or name "
        + "another Python in VKATTN_PYTHON")
  }

  /// The libraries that can be compared with a device, and of each other one why not: on a GPU what runs
  /// on CUDA, where it is; PyTorch on the CPU otherwise.
  func peers(for device: DeviceCapabilities, problems: [PeerProblem]) -> (
    peers: [PythonPeer], skips: [String]
  ) {
    let noCUDA: String? =
      if device.kind == .cpu {
        "it needs CUDA, and \(device.name) is a CPU"
      } else if !succeeds("import sys, torch; sys.exit(not torch.cuda.is_available())") {
        "it needs CUDA, which torch of \(program) does not see"
      } else {
        nil
      }
    var peers = [
      PythonPeer(
        library: .pyTorch, interpreter: self, device: noCUDA == nil ? .cuda : .cpu)
    ]
    var skips: [String] = []
    for library in [PythonLibrary.flashLinearAttention, .flashInfer] {
      let isAsked = problems.contains { library.script(for: $0) != nil }
      guard let module = library.module, isAsked else { continue }
      if let noCUDA {
        skips.append("\(library.name): \(noCUDA)")
      } else if !succeeds("import \(module)") {
        skips.append(
          "\(library.name): \(program) cannot import \(module); install \(library.package) to "
            + "compare with it")
      } else {
        peers.append(PythonPeer(library: library, interpreter: self, device: .cuda))
      }
    }
    return (peers, skips)
  }

  /// Runs the program.
  func run(_ arguments: [String]) throws -> PeerProcess.Outcome {
    try PeerProcess(program: "/usr/bin/env", arguments: [program] + arguments)
      .run(secondsAtMost: Double(secondsAtMost))
  }

  /// What a program says last.
  static func lastLine(_ text: String) -> String {
    text.split(whereSeparator: \.isNewline).last.map { String($0.prefix(200)) }
      ?? "no reason was given"
  }

  /// Whether a line of Python ends well.
  private func succeeds(_ line: String) -> Bool {
    guard let outcome = try? run(["-c", line]) else { return false }
    return outcome.status == 0 && !outcome.wasKilled && !outcome.timedOut
  }
}
