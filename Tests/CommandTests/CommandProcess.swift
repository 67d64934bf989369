import Foundation

/// The built `vkattn` in a process of its own, on the driver of the tests.
///
/// - Returns: the process, not started yet, and what it will write to stdout.
func commandProcess(_ arguments: [String]) -> (process: Process, output: Pipe) {
  let program = URL(filePath: CommandLine.arguments[0]).deletingLastPathComponent()
    .appending(path: "vkattn").path
  let launcher = ProcessInfo.processInfo.environment["VKATTN_LAUNCHER"]
  let process = Process()
  process.executableURL = URL(filePath: launcher ?? program)
  process.arguments = (launcher == nil ? [] : [program]) + arguments
  let output = Pipe()
  process.standardOutput = output
  return (process, output)
}
