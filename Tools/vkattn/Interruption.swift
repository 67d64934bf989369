import Dispatch

#if canImport(Darwin)
  import Darwin
#elseif canImport(Musl)
  import Musl
#else
  import Glibc
#endif

/// Does something else than end the process when Ctrl-C is pressed or a scheduler asks it to end.
final class Interruption: Sendable {
  private static let signals = [SIGINT, SIGTERM]
  // Set once; Dispatch allows any thread to cancel a source.
  nonisolated(unsafe) private let sources: [any DispatchSourceSignal]

  /// - Parameter body: called on a thread of its own.
  init(_ body: @escaping @Sendable () -> Void) {
    sources = Self.signals.map { number in
      signal(number, SIG_IGN)
      let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
      source.setEventHandler(handler: DispatchWorkItem(block: body))
      source.resume()
      return source
    }
  }

  /// Leaves the signals to the system again.
  func cancel() {
    for source in sources { source.cancel() }
    for number in Self.signals { signal(number, SIG_DFL) }
  }
}

/// Ends the process without waiting for anything that runs.
func endProcessAtOnce(_ status: Int32) -> Never {
  _exit(status)
}

/// The processors that the process may use, 1 where the system does not tell.
func processorCount() -> Int {
  max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN)))
}
