internal import Synchronization

/// Work that the device was given.
///
/// Dropping it does not stop the work: what it uses stays alive until the device is done.
public final class Submission: Sendable {
  let queue: SubmissionQueue
  let value: UInt64
  private let record: SubmissionRecord

  init(queue: SubmissionQueue, value: UInt64, record: SubmissionRecord) {
    self.queue = queue
    self.value = value
    self.record = record
  }

  /// Whether the device is done with it.
  public var isComplete: Bool {
    get throws(VulkanError) { try queue.isComplete(value) }
  }

  /// Where it ends on its stream's timeline: what an app's own work on the same `VkDevice` can wait for.
  ///
  /// The semaphore is destroyed with the submission, its stream and what else is under way there: keep the submission
  /// until the app's wait is over.
  public var timelinePoint: TimelinePoint {
    TimelinePoint(semaphore: queue.timeline.semaphore, value: value)
  }

  /// Blocks the thread until the device is done.
  ///
  /// - Parameter seconds: the longest time to wait; nil waits for ever.
  /// - Throws: `timedOut` (the work still runs), `deviceLost`.
  public func wait(timeout seconds: Double? = nil) throws(VulkanError) {
    try queue.wait(for: value, timeout: seconds)
  }

  /// Suspends the task until the device is done.
  ///
  /// - Throws: `cancelled` where the task is (the work still runs), `deviceLost`.
  public func completed() async throws(VulkanError) {
    try await queue.completion(of: value)
  }

  /// The recorder's timestamps in nanoseconds since the first of them, once the work is done.
  public func timestamps() throws(VulkanError) -> [Double] {
    try wait()
    return record.timestamps
  }
}

/// What is known of a submission after its command buffer has gone to other work.
final class SubmissionRecord: Sendable {
  private let storage = Mutex<[Double]>([])

  var timestamps: [Double] {
    get { storage.withLock { $0 } }
    set { storage.withLock { $0 = newValue } }
  }
}
