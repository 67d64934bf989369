import Foundation
import KernelBenchmarks

/// A Python library on the same machine, timed by its scripts.
struct PythonPeer: Peer {
  /// What the library runs on.
  enum Device: String {
    case cpu
    case cuda
  }

  private struct Report: Decodable {
    struct Result: Decodable {
      let id: String
      let gflops: Double
    }

    let device: String
    let driver: String
    let results: [Result]
  }

  let library: PythonLibrary
  let interpreter: PythonInterpreter
  let device: Device

  var name: String {
    library.module == nil && device == .cuda ? "\(library.name) CUDA" : library.name
  }

  func covers(_ problem: PeerProblem) -> Bool { library.script(for: problem) != nil }

  func time(_ problem: PeerProblem) throws -> PeerMeasurement {
    guard let script = library.script(for: problem) else {
      throw PythonPeerError.notSupported(reason: "it is not compared with such problems")
    }
    let file = FileManager.default.temporaryDirectory
      .appending(path: "vkattn-peer-\(UUID().uuidString).json")
    defer { try? FileManager.default.removeItem(at: file) }
    let run = try interpreter.run(
      ["\(PythonInterpreter.scripts)/\(script)"] + Self.arguments(problem)
        + ["--device", device.rawValue, "--json", file.path])
    if run.timedOut { throw PythonPeerError.timedOut(seconds: interpreter.secondsAtMost) }
    if !run.wasKilled, run.status == PythonPeerError.notSupportedStatus {
      throw PythonPeerError.notSupported(reason: PythonInterpreter.lastLine(run.errors))
    }
    guard run.status == 0, !run.wasKilled else {
      throw PythonPeerError.failed(status: run.status, output: run.output + run.errors)
    }
    guard let data = try? Data(contentsOf: file),
      let report = try? JSONDecoder().decode(Report.self, from: data),
      let result = report.results.first, result.id == problem.id
    else { throw PythonPeerError.wrongReport(wanted: problem.id) }
    return PeerMeasurement(
      gigaflops: result.gflops, platform: "\(report.device), \(report.driver)")
  }

  /// The problem as the scripts take it.
  private static func arguments(_ problem: PeerProblem) throws -> [String] {
    func sizes(_ shape: String) -> String { shape.replacingOccurrences(of: "-", with: ",") }
    switch problem {
    case .attention(let workload):
      return [
        "--shape", sizes(workload.shape.description), "--type", workload.elementType.rawValue,
      ] + (workload.isCausal ? ["--causal"] : [])
    case .linear(let workload):
      return [
        "--model", workload.model.rawValue, "--shape", sizes(workload.shape), "--type",
        workload.elementType.rawValue, "--operations",
        "\(try workload.request().floatingPointOperations)",
      ]
    }
  }
}
