internal import Dispatch
internal import Synchronization
internal import VulkanAttention

/// Runs asynchronous work and blocks the calling thread until it is done.
///
/// Where the work fails, the device may still be at pieces that were submitted; this returns behind them,
/// so that the caller can free and read its buffers.
func wait(
  on device: ComputeDevice, _ body: @escaping @Sendable () async throws(AttentionError) -> Void
) throws(Failure) {
  let outcome = Outcome()
  let done = DispatchSemaphore(value: 0)
  Task.detached {
    do throws(AttentionError) {
      try await body()
    } catch {
      outcome.error = error
    }
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

/// What asynchronous work leaves.
private final class Outcome: Sendable {
  private let storage = Mutex<AttentionError?>(nil)

  var error: AttentionError? {
    get { storage.withLock { $0 } }
    set { storage.withLock { $0 = newValue } }
  }
}
