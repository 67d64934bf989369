/// Why ggml's attention could not be timed, and what to do.
public enum GGMLError: PeerError, Hashable, Sendable {
  /// The file is not there or is no program.
  case programMissing(path: String, reason: String)
  /// The program is something else than `test-backend-ops`, or too old.
  case wrongProgram(path: String, output: String)
  /// The program runs, but sees no Vulkan device.
  case noDevice
  /// The program ran on another device than ours.
  case otherDevice(theirs: String, ours: String)
  /// The case is not among those compiled into the program.
  case caseMissing(GGMLCase)
  /// The program's backend does not take the case.
  case notSupported(GGMLCase)
  /// ggml has nothing that computes the same.
  case notComparable(String)
  /// A line of the output could not be read.
  case malformed(line: String)
  /// The program ended itself or was ended.
  case crashed(status: Int32, output: String)
  /// The program was stopped.
  case timedOut(seconds: Int)

  /// What becomes of the run of the benchmark.
  public var consequence: PeerConsequence {
    switch self {
    case .caseMissing, .notSupported, .notComparable: .skip
    case .malformed, .crashed: .fail
    case .programMissing, .wrongProgram, .noDevice, .otherDevice, .timedOut: .giveUp
    }
  }
}

extension GGMLError: CustomStringConvertible {
  /// What happened, and what to do.
  public var description: String {
    switch self {
    case .programMissing(let path, let reason):
      "\(path) cannot be run: \(reason); build ggml's test-backend-ops and name it with --ggml"
    case .wrongProgram(let path, let output):
      "\(path) is not a test-backend-ops that takes perf, -o, -b and -p; name that program of a "
        + "ggml from 2025 or later with --ggml\(Self.quoted(output))"
    case .noDevice:
      "it has no Vulkan device Vulkan0; build it with GGML_VULKAN=ON, and run vkattn through Tools/vk"
    case .otherDevice(let theirs, let ours):
      "it ran on \(theirs) and not on \(ours); set GGML_VK_VISIBLE_DEVICES to the device's number"
    case .caseMissing(let missing):
      "its test-backend-ops has no such case; add \(missing) to its performance cases, as "
        + "Benchmarks/peers/README.md says"
    case .notSupported(let refused):
      "its Vulkan backend does not support \(refused)"
    case .notComparable(let reason): reason
    case .malformed(let line):
      "its output has changed: \"\(line)\" cannot be read; use a ggml of the version that "
        + "Benchmarks/peers/README.md names"
    case .crashed(let status, let output):
      "it ended with status \(status); run it by itself to see why\(Self.quoted(output))"
    case .timedOut(let seconds):
      "it was stopped after \(seconds) s; allow it more with --peer-timeout"
    }
  }

  private static func quoted(_ output: String) -> String {
    guard let line = output.split(whereSeparator: \.isNewline).last else { return "" }
    return ": \"\(line.prefix(200))\""
  }
}
