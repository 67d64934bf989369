import Foundation

/// A program that is run to its end, or until its time is up.
struct PeerProcess {
  /// What became of it.
  struct Outcome {
    /// The exit status, or the number of the signal that ended it.
    let status: Int32
    /// Whether a signal ended it.
    let wasKilled: Bool
    /// Whether it was stopped because its time was up.
    let timedOut: Bool
    /// What it wrote to stdout.
    let output: String
    /// What it wrote to stderr.
    let errors: String
  }

  /// The program's path.
  let program: String
  let arguments: [String]
  /// Variables to set on top of this process's, and with nil to remove.
  var environment: [String: String?] = [:]

  /// How long a program that was asked to end may take before it is killed.
  private static let gracePeriod = 2.0

  /// Runs the program.
  ///
  /// - Throws: what Foundation throws where it cannot be started.
  func run(secondsAtMost: Double) throws -> Outcome {
    // Files and not pipes: what the program leaves running behind it would keep a pipe open.
    let folder = FileManager.default.temporaryDirectory
      .appending(path: "vkattn-peer-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let files = ["stdout", "stderr"].map { folder.appending(path: $0) }
    for file in files { try Data().write(to: file) }

    let process = Process()
    process.executableURL = URL(filePath: program)
    process.arguments = arguments
    process.environment = environment.reduce(into: ProcessInfo.processInfo.environment) {
      $0[$1.key] = $1.value
    }
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = try FileHandle(forWritingTo: files[0])
    process.standardError = try FileHandle(forWritingTo: files[1])
    let ended = DispatchSemaphore(value: 0)
    process.terminationHandler = { _ in ended.signal() }
    try process.run()
    let timedOut = ended.wait(timeout: .now() + secondsAtMost) == .timedOut
    if timedOut {
      process.terminate()
      if ended.wait(timeout: .now() + Self.gracePeriod) == .timedOut {
        kill(process.processIdentifier, SIGKILL)
        ended.wait()
      }
    }
    let texts = try files.map { String(decoding: try Data(contentsOf: $0), as: UTF8.self) }
    return Outcome(
      status: process.terminationStatus, wasKilled: process.terminationReason == .uncaughtSignal,
      timedOut: timedOut, output: texts[0], errors: texts[1])
  }
}
