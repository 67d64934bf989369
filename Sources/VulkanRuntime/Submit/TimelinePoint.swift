internal import CVulkan

/// A value of a timeline semaphore, of an app's own or of a ``Submission``: how work here and work of the app's
/// on the same `VkDevice` wait for each other, without the host between them.
public struct TimelinePoint: @unchecked Sendable, Hashable {
  // Unchecked: a handle that Vulkan allows any thread to wait for.

  /// The `VkSemaphore`, of type `VK_SEMAPHORE_TYPE_TIMELINE`.
  public var semaphore: OpaquePointer
  /// The value that it has, or a greater one, when the work is done.
  public var value: UInt64

  /// Names a point.
  public init(semaphore: OpaquePointer, value: UInt64) {
    self.semaphore = semaphore
    self.value = value
  }
}

/// What work waits for on the device: points on timelines, and those of them that are this library's.
struct Dependencies {
  private(set) var points: [TimelinePoint] = []
  /// Kept until the wait is over.
  private(set) var timelines: [Timeline] = []

  /// - Parameters:
  ///   - submissions: work that was submitted before.
  ///   - points: points on an app's own timelines.
  ///   - own: the timeline of the queue that will wait, whose work comes in order anyway.
  init(
    on submissions: [Submission], points: [TimelinePoint], of own: Timeline
  ) throws(VulkanError) {
    var latest: [ObjectIdentifier: Int] = [:]
    for submission in submissions where submission.queue.timeline !== own {
      let timeline = submission.queue.timeline
      guard timeline.logical === own.logical else {
        throw .wrongDevice(
          what: "submission to wait for", expected: own.logical.capabilities.name,
          actual: timeline.logical.capabilities.name)
      }
      if let index = latest[ObjectIdentifier(timeline)] {
        self.points[index].value = max(self.points[index].value, submission.value)
      } else {
        latest[ObjectIdentifier(timeline)] = self.points.count
        self.points.append(TimelinePoint(semaphore: timeline.semaphore, value: submission.value))
        timelines.append(timeline)
      }
    }
    self.points += points
  }
}
