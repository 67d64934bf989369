import Foundation
import KernelBenchmarks

/// PyTorch on the same machine, run by scripts of a checkout: its attention by `Benchmarks/peers/pytorch_sdpa.py`,
/// linear attention in its batched products by `Benchmarks/peers/pytorch_linear.py`.
struct PyTorchPeer: Peer {
  private struct Report: Decodable {
    struct Result: Decodable {
      let id: String
      let gflops: Double
    }

    let device: String
    let driver: String
    let results: [Result]
  }

  let name = "PyTorch"
  private let python: String
  private let secondsAtMost: Int
  private static let script = "Benchmarks/peers/pytorch_sdpa.py"
  private static let linearScript = "Benchmarks/peers/pytorch_linear.py"

  /// Finds the script below the current folder and a Python with PyTorch: the one in VKATTN_PYTHON, else
  /// python3, else the checkout's `.venv`.
  init(secondsAtMost: Int) throws(CommandFailure) {
    self.secondsAtMost = secondsAtMost
    guard FileManager.default.fileExists(atPath: Self.script) else {
      throw CommandFailure(
        .wrongInput, "--peers runs \(Self.script), which is not here; call it in a checkout")
    }
    let named = ProcessInfo.processInfo.environment["VKATTN_PYTHON"]
    for candidate in named.map({ [$0] }) ?? ["python3", ".venv/bin/python"] {
      let run = try? Self.process(candidate, ["-c", "import torch"])
        .run(secondsAtMost: Double(secondsAtMost))
      if let run, run.status == 0, !run.timedOut {
        python = candidate
        return
      }
    }
    throw CommandFailure(
      .wrongInput,
      named.map { "VKATTN_PYTHON is \($0), which cannot import torch" }
        ?? "no Python with torch found; install it (python3 -m venv .venv && .venv/bin/pip install "
        + "torch numpy) or name one in VKATTN_PYTHON")
  }

  func time(_ problem: PeerProblem) throws -> PeerMeasurement {
    let arguments: [String]
    switch problem {
    case .attention(let workload):
      arguments =
        [
          Self.script, "--shape", Self.sizes(workload.shape.description), "--type",
          workload.elementType.rawValue,
        ] + (workload.isCausal ? ["--causal"] : [])
    case .linear(let workload):
      arguments = [
        Self.linearScript, "--model", workload.model.rawValue, "--shape",
        Self.sizes(workload.shape), "--type", workload.elementType.rawValue, "--operations",
        "\(try workload.request().floatingPointOperations)",
      ]
    }
    let file = FileManager.default.temporaryDirectory
      .appending(path: "vkattn-peer-\(UUID().uuidString).json")
    defer { try? FileManager.default.removeItem(at: file) }
    let run = try Self.process(
      python, arguments + ["--device", "cpu", "--json", file.path]
    ).run(secondsAtMost: Double(secondsAtMost))
    guard !run.timedOut else {
      throw CommandFailure(
        .failed, "it was stopped after \(secondsAtMost) s; allow it more with --peer-timeout")
    }
    guard run.status == 0 else {
      throw CommandFailure(
        .failed, "it ended with status \(run.status): \((run.output + run.errors).suffix(2000))")
    }
    let report = try JSONDecoder().decode(Report.self, from: Data(contentsOf: file))
    guard let result = report.results.first, result.id == problem.id else {
      throw CommandFailure(.failed, "it measured something else than \(problem.id)")
    }
    return PeerMeasurement(
      gigaflops: result.gflops, platform: "\(report.device), \(report.driver)")
  }

  /// Sizes as the scripts take them.
  private static func sizes(_ shape: String) -> String {
    shape.replacingOccurrences(of: "-", with: ",")
  }

  private static func process(_ program: String, _ arguments: [String]) -> PeerProcess {
    PeerProcess(program: "/usr/bin/env", arguments: [program] + arguments)
  }
}
