import Foundation
import KernelBenchmarks

/// PyTorch's attention on the same machine, run by `Benchmarks/peers/pytorch_sdpa.py` of a checkout.
struct PyTorchPeer {
  /// What one run of the peer measured.
  struct Result: Decodable {
    let id: String
    let secondsMedian: Double
    let gflops: Double

    enum CodingKeys: String, CodingKey {
      case id
      case secondsMedian = "seconds_median"
      case gflops
    }
  }

  private struct Report: Decodable {
    let device: String
    let driver: String
    let results: [Result]
  }

  private let python: String
  private static let script = "Benchmarks/peers/pytorch_sdpa.py"

  /// Finds the script below the current folder and a Python with PyTorch: the one in VKATTN_PYTHON, else
  /// python3, else the checkout's `.venv`.
  init() throws(CommandFailure) {
    guard FileManager.default.fileExists(atPath: Self.script) else {
      throw CommandFailure(
        .wrongInput, "--peers runs \(Self.script), which is not here; call it in a checkout")
    }
    let named = ProcessInfo.processInfo.environment["VKATTN_PYTHON"]
    for candidate in named.map({ [$0] }) ?? ["python3", ".venv/bin/python"] {
      if (try? Self.run(candidate, ["-c", "import torch"]))?.status == 0 {
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

  /// Times one workload; also says on what.
  func time(_ workload: AttentionWorkload) throws -> (result: Result, name: String) {
    let file = FileManager.default.temporaryDirectory
      .appending(path: "vkattn-peer-\(UUID().uuidString).json")
    defer { try? FileManager.default.removeItem(at: file) }
    let shape = "\(workload.shape)".replacingOccurrences(of: "-", with: ",")
    let run = try Self.run(
      python,
      [
        Self.script, "--shape", shape, "--type", workload.elementType.rawValue, "--device", "cpu",
        "--json", file.path,
      ] + (workload.isCausal ? ["--causal"] : []))
    guard run.status == 0 else {
      throw CommandFailure(.failed, "the peer ended with status \(run.status): \(run.output)")
    }
    let report = try JSONDecoder().decode(Report.self, from: Data(contentsOf: file))
    guard let result = report.results.first, result.id == workload.id else {
      throw CommandFailure(.failed, "the peer measured something else than \(workload.id)")
    }
    return (result, "\(report.device), \(report.driver)")
  }

  private static func run(
    _ program: String, _ arguments: [String]
  ) throws -> (status: Int32, output: String) {
    let process = Process()
    process.executableURL = URL(filePath: "/usr/bin/env")
    process.arguments = [program] + arguments
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardError = pipe
    try process.run()
    let output = pipe.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return (process.terminationStatus, String(decoding: output.suffix(2000), as: UTF8.self))
  }
}
