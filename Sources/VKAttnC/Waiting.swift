internal import Dispatch
internal import Synchronization
internal import VulkanAttention

/// Runs asynchronous work and blocks the calling thread until it is done, and holds nothing any more.
///
/// Where the work fails, the device may still be at pieces that were submitted; this returns behind them,
/// so that the caller can free and read its buffers.
func wait(
  on device: ComputeDevice, _ body: @escaping @Sendable () async throws(AttentionError) -> Void
) throws(Failure) {
  let outcome = Outcome()
  let work = Work(body)
  let done = DispatchSemaphore(value: 0)
  Task.detached {
    await work.run(outcome)
    done.signal()
  }
  done.wait()
  guard let error = outcome.error else { return }
  if !device.isLost {
    do throws(VulkanError) {
      try device.submit(device.makeRecorder()).wait()
    } catch {
      // What the work itself failed with says more.
    }
  }
  throw Failure(error)
}

/// Work that is given up when it is done.
///
/// A task lets go of its closure some time after that has run: what the closure holds would be alive when the caller
/// has freed it (seen in a fifth of the runs, where the caller counts what is released).
private final class Work: Sendable {
  typealias Body = @Sendable () async throws(AttentionError) -> Void
  private let body: Mutex<Body?>

  init(_ body: @escaping Body) {
    self.body = Mutex(body)
  }

  func run(_ outcome: Outcome) async {
    guard let body = take() else { return }
    do throws(AttentionError) {
      try await body()
    } catch {
      outcome.error = error
    }
  }

  private func take() -> Body? {
    body.withLock { body in
      defer { body = nil }
      return body
    }
  }
}

/// What asynchronous work leaves.
private final class Outcome: Sendable {
  private let storage = Mutex<AttentionError?>(nil)

  var error: AttentionError? {
    get { storage.withLock { $0 } }
    set { storage.withLock { $0 = newValue } }
  }
}
