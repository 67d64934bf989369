import Synchronization

#if canImport(Darwin)
  import Darwin
#elseif canImport(Musl)
  import Musl
#else
  import Glibc
#endif

/// Where a command writes. Tests put a recording one in its place.
final class Console: Sendable {
  /// The console of the running command.
  @TaskLocal static var current = Console(isRecording: false)

  private let isRecording: Bool
  private let recorded = Mutex((output: "", errors: ""))
  /// Whether progress is shown: only to someone who watches.
  let showsProgress: Bool

  /// - Parameter isRecording: keeps what is written instead of writing it.
  init(isRecording: Bool) {
    self.isRecording = isRecording
    showsProgress = !isRecording && isatty(STDERR_FILENO) == 1
  }

  /// What a recording console was given for stdout.
  var output: String { recorded.withLock { $0.output } }
  /// What a recording console was given for stderr.
  var errors: String { recorded.withLock { $0.errors } }

  /// Writes a line to stdout.
  func print(_ line: String = "") {
    if isRecording {
      recorded.withLock { $0.output += line + "\n" }
    } else {
      clearProgress()
      write(line + "\n", to: STDOUT_FILENO)
    }
  }

  /// Writes a line to stderr.
  func error(_ line: String) {
    if isRecording {
      recorded.withLock { $0.errors += line + "\n" }
    } else {
      clearProgress()
      write(line + "\n", to: STDERR_FILENO)
    }
  }

  /// Replaces the line of progress.
  func progress(_ text: String) {
    guard showsProgress else { return }
    // Longer lines would wrap and could not be replaced.
    write("\r\u{1B}[K\(text.prefix(78))", to: STDERR_FILENO)
  }

  /// Takes the line of progress away.
  func clearProgress() {
    if showsProgress { write("\r\u{1B}[K", to: STDERR_FILENO) }
  }

  /// Writes all of a text at once, so that lines of two tasks do not mix. What nobody can read (a
  /// closed pipe, a full disk) is dropped.
  private func write(_ text: String, to descriptor: Int32) {
    var rest = Array(text.utf8)[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { bytes in
        systemWrite(descriptor, bytes.baseAddress, bytes.count)
      }
      if count < 0 && errno == EINTR { continue }
      if count <= 0 { return }
      rest = rest.dropFirst(count)
    }
  }
}

private let systemWrite = write

/// Makes writing to a closed pipe an error instead of the end of the process.
func ignoreClosedPipes() {
  signal(SIGPIPE, SIG_IGN)
}

/// Ends the process; its name keeps it apart from the argument parser's `exit`.
func endProcess(_ status: Int32) -> Never {
  exit(status)
}
