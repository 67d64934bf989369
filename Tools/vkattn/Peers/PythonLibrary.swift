import KernelBenchmarks
import VulkanAttention

/// A Python library that scripts of a checkout time.
struct PythonLibrary {
  /// Its name, as in tables.
  let name: String
  /// The module that has to be there beside torch; nil for PyTorch itself.
  var module: String?
  /// The package that brings the module.
  let package: String
  /// The script for softmax attention, in `Benchmarks/peers`.
  var attentionScript: String?
  /// The script for linear attention.
  var linearScript: String?

  /// The kernels that PyTorch brings, on the CPU or CUDA.
  static let pyTorch = PythonLibrary(
    name: "PyTorch", package: "torch numpy", attentionScript: "pytorch_sdpa.py",
    linearScript: "pytorch_linear.py")
  /// Triton kernels of linear attention, on CUDA.
  static let flashLinearAttention = PythonLibrary(
    name: "flash-linear-attention", module: "fla", package: "flash-linear-attention",
    linearScript: "fla_linear.py")
  /// CUDA kernels of softmax attention.
  static let flashInfer = PythonLibrary(
    name: "FlashInfer", module: "flashinfer", package: "flashinfer-python",
    attentionScript: "flashinfer_attention.py")

  /// The script for a problem; nil where the library is not compared.
  func script(for problem: PeerProblem) -> String? {
    switch problem {
    case .attention: attentionScript
    case .linear: linearScript
    }
  }
}

/// Why a Python library was not timed.
enum PythonPeerError: PeerError, Hashable {
  /// The script has nothing for the problem.
  case notSupported(reason: String)
  /// The script ended itself or was ended.
  case failed(status: Int32, output: String)
  /// The script was stopped.
  case timedOut(seconds: Int)
  /// The script wrote something else than the results of the problem.
  case wrongReport(wanted: String)

  /// The script's exit status where its library has nothing for the problem.
  static let notSupportedStatus: Int32 = 3

  var consequence: PeerConsequence {
    switch self {
    case .notSupported: .skip
    case .failed, .timedOut, .wrongReport: .fail
    }
  }
}

extension PythonPeerError: CustomStringConvertible {
  /// What happened, and what to do.
  var description: String {
    switch self {
    case .notSupported(let reason): reason
    case .failed(let status, let output): "it ended with status \(status): \(output.suffix(2000))"
    case .timedOut(let seconds):
      "it was stopped after \(seconds) s; allow it more with --peer-timeout"
    case .wrongReport(let wanted): "it wrote no result of \(wanted)"
    }
  }
}
