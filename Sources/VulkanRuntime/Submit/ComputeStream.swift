/// An order of work of its own on a device, beside the device's own order and those of other streams.
///
/// Work of one stream starts in the order of its submission and sees what the stream's earlier work wrote. Work of
/// two streams may run at the same time, and neither sees what the other writes, unless one waits for the other:
///
///     let stream = try device.makeStream()
///     let cache = try stream.submit(appends)             // beside what the device is at
///     try device.submit(attention, after: [cache])       // and not before that is done
///
/// A recorder, or a command list, of the device goes to any of its streams. Streams use the queues of
/// ``ComputeDevice/queueCount``, in turn; where there are more streams than queues they share, and their work is then
/// ordered more than it has to be. Safe to share between tasks.
///
/// The last reference to a stream and its submissions waits for its work, but for work that waits for another stream or
/// for an app's point: that goes on by itself, and what it uses lives until it is done.
public struct ComputeStream: Sendable {
  let queue: SubmissionQueue

  init(_ queue: SubmissionQueue) {
    self.queue = queue
  }

  /// Sends a recorder's commands to the device; the recorder is used up.
  ///
  /// - Parameters:
  ///   - recorder: one of the stream's device.
  ///   - dependencies: work of any stream of the device that must be done before.
  ///   - points: points on an app's own timelines that must be reached before. Where they never are, streams that
  ///     share the queue are held up with this one.
  /// - Throws: `alreadySubmitted`, `wrongDevice`, `deviceLost`, `outOfMemory`. Nothing is used up then but for a
  ///   failed call of Vulkan.
  @discardableResult
  public func submit(
    _ recorder: Recorder, after dependencies: [Submission] = [],
    reaching points: [TimelinePoint] = []
  ) throws(VulkanError) -> Submission {
    try queue.submit(recorder, after: dependencies, reaching: points)
  }

  /// Sends a list's commands to the device, again or for the first time.
  ///
  /// - Parameters:
  ///   - list: one of the stream's device.
  ///   - dependencies: work of any stream of the device that must be done before.
  ///   - points: points on an app's own timelines that must be reached before.
  /// - Throws: `wrongDevice`, `deviceLost`, `outOfMemory`; `limitExceeded` for a list with timestamps whose last run
  ///   is under way, in whatever stream.
  @discardableResult
  public func submit(
    _ list: CommandList, after dependencies: [Submission] = [],
    reaching points: [TimelinePoint] = []
  ) throws(VulkanError) -> Submission {
    try queue.submit(list, after: dependencies, reaching: points)
  }
}

extension ComputeDevice {
  /// The number of queues that streams of the device share, its own among them; 0 for a device that only compiles.
  public var queueCount: Int { queue == nil ? 0 : logical.queues.count }

  /// Makes a stream: on the device's queues in turn, beginning behind the one that the device submits to itself.
  ///
  /// - Throws: `missingFeatures` for a device that only compiles, `deviceLost`, or the failed call.
  public func makeStream() throws(VulkanError) -> ComputeStream {
    let slots = try usableQueue().slots
    try logical.checkAlive("a stream")
    return ComputeStream(try SubmissionQueue(logical, on: logical.nextQueue(), slots: slots))
  }

  /// The device's own order.
  ///
  /// - Throws: `missingFeatures` for a device that only compiles.
  package func ownStream() throws(VulkanError) -> ComputeStream {
    ComputeStream(try usableQueue())
  }

  /// Sends a recorder's commands to the device in its own order; see
  /// ``ComputeStream``.
  ///
  /// - Parameters:
  ///   - recorder: one of the device's, used up.
  ///   - dependencies: work of streams of the device that must be done before.
  ///   - points: points on an app's own timelines that must be reached before.
  /// - Throws: `alreadySubmitted`, `wrongDevice`, `deviceLost`, `outOfMemory`.
  @discardableResult
  public func submit(
    _ recorder: Recorder, after dependencies: [Submission] = [],
    reaching points: [TimelinePoint] = []
  ) throws(VulkanError) -> Submission {
    try ownStream().submit(recorder, after: dependencies, reaching: points)
  }

  /// Sends a list's commands to the device in its own order, again or for the first time.
  ///
  /// - Parameters:
  ///   - list: one of the device's.
  ///   - dependencies: work of streams of the device that must be done before.
  ///   - points: points on an app's own timelines that must be reached before.
  /// - Throws: `wrongDevice`, `deviceLost`, `outOfMemory`; `limitExceeded` for a list with timestamps whose last run
  ///   is under way, because there is one place for each of them.
  @discardableResult
  public func submit(
    _ list: CommandList, after dependencies: [Submission] = [],
    reaching points: [TimelinePoint] = []
  ) throws(VulkanError) -> Submission {
    try ownStream().submit(list, after: dependencies, reaching: points)
  }
}
