import Foundation
import KernelBenchmarks
import VulkanAttention

/// ggml's attention on the same device and driver, run by its own benchmark program `test-backend-ops`.
struct GGMLPeer: Peer {
  let name = "ggml"
  /// The program.
  let path: String
  /// The device it has to run on.
  let device: DeviceCapabilities
  /// How long one case may take.
  let secondsAtMost: Int
  /// Tools/vk: a newer driver than the system's needs a loader of its own in front of a program.
  var launcher = ProcessInfo.processInfo.environment["VKATTN_LAUNCHER"]

  func time(_ problem: PeerProblem) throws -> PeerMeasurement {
    guard case .attention(let workload) = problem else {
      throw GGMLError.notComparable("its Vulkan backend has no linear attention of this form")
    }
    let run = try time(GGMLCase(workload))
    let operations = try workload.request().floatingPointOperations
    return PeerMeasurement(gigaflops: operations / run.seconds * 1e-9, platform: run.platform)
  }

  /// The mean time of a case, of prefill or of decode; also says on what.
  func time(_ wanted: GGMLCase) throws(GGMLError) -> (seconds: Double, platform: String) {
    let outcome = try run([
      "perf", "-o", GGMLCase.operation, "-b", "Vulkan0", "-p", wanted.filter,
    ])
    guard !outcome.timedOut else { throw .timedOut(seconds: secondsAtMost) }
    let said = outcome.errors.isEmpty ? outcome.output : outcome.errors
    guard outcome.status == 0, !outcome.wasKilled else {
      // It prints its usage where it does not know an argument.
      throw outcome.output.hasPrefix("Usage: ")
        || !outcome.output.contains("Testing ")
          && !outcome.wasKilled
        ? .wrongProgram(path: path, output: said) : .crashed(status: outcome.status, output: said)
    }
    let output = try GGMLOutput(outcome.output, from: path)
    guard Self.isSame(output.device, device.name) else {
      throw .otherDevice(theirs: output.device, ours: device.name)
    }
    return (try output.seconds(of: wanted), "\(output.device), test-backend-ops")
  }

  private func run(_ arguments: [String]) throws(GGMLError) -> PeerProcess.Outcome {
    guard FileManager.default.isExecutableFile(atPath: path) else {
      throw .programMissing(
        path: path,
        reason: FileManager.default.fileExists(atPath: path)
          ? "it is not executable" : "there is no such file")
    }
    let variables = ProcessInfo.processInfo.environment
    var environment: [String: String?] = [:]
    // Without it, ggml leaves software drivers out. The numbers are the loader's, as ours are.
    if variables["GGML_VK_VISIBLE_DEVICES"] == nil {
      environment["GGML_VK_VISIBLE_DEVICES"] = "\(device.index)"
    }
    let command = [launcher, URL(filePath: path).path].compactMap(\.self)
    do {
      return try PeerProcess(
        program: command[0], arguments: command.dropFirst() + arguments, environment: environment
      ).run(secondsAtMost: Double(secondsAtMost))
    } catch {
      throw .programMissing(path: path, reason: "\(error.localizedDescription)")
    }
  }

  /// Whether two names are one device's. A software driver's name tells its vector width in brackets,
  /// which each program chooses for itself.
  private static func isSame(_ theirs: String, _ ours: String) -> Bool {
    func stem(_ name: String) -> String {
      name.prefix { $0 != "(" }.trimmingCharacters(in: .whitespaces)
    }
    return stem(theirs) == stem(ours)
  }
}
