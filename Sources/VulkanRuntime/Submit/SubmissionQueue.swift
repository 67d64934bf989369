internal import CVulkan
internal import Dispatch
internal import Synchronization

/// An order of work with its timeline: submits, keeps what is in flight alive, wakes who waits.
final class SubmissionQueue: Sendable {
  private struct InFlight: Sendable {
    let value: UInt64
    let work: Work
    /// Of the work that this one waits for on the device.
    let timelines: [Timeline]
    /// Whether it waits for what is not of this queue, and may never come.
    let waitsForOthers: Bool
    let record: SubmissionRecord
  }

  /// What runs, with all that it keeps alive.
  private enum Work: Sendable {
    case once(CommandSlot, retained: [any AnyObject & Sendable])
    case replayed(CommandList)

    var slot: CommandSlot {
      switch self {
      case .once(let slot, _): slot
      case .replayed(let list): list.slot
      }
    }
  }

  private struct Waiter {
    let value: UInt64
    let continuation: CheckedContinuation<Result<Void, VulkanError>, Never>
  }

  private struct State {
    var lastValue: UInt64 = 0
    var inFlight: [InFlight] = []
    var waiters: [UInt64: Waiter] = [:]
    var nextWaiter: UInt64 = 0
    var isWatching = false
  }

  let logical: LogicalDevice
  let timeline: Timeline
  let deviceQueue: DeviceQueue
  let slots: CommandSlots
  private let state = Mutex(State())
  /// Blocks in Vulkan while someone waits, so that no task of Swift's pool has to.
  private let watcher = DispatchQueue(label: "VulkanRuntime.SubmissionQueue")

  /// - Parameter slots: those of all queues of the device.
  init(
    _ logical: LogicalDevice, on deviceQueue: DeviceQueue, slots: CommandSlots
  ) throws(VulkanError) {
    self.logical = logical
    self.deviceQueue = deviceQueue
    self.slots = slots
    timeline = try Timeline(logical)
  }

  deinit {
    let inFlight = state.withLock { $0.inFlight }
    let rest = { @Sendable [logical, timeline, deviceQueue] in
      Self.rest(inFlight, logical, timeline, deviceQueue)
    }
    // What others hold up may be waited for in vain, by the thread that would let it go on.
    let done = try? timeline.value()
    if let done, inFlight.contains(where: { $0.value > done && $0.waitsForOthers }) {
      DispatchQueue.global(qos: .utility).async(execute: rest)
    } else {
      rest()
    }
  }

  /// Waits for the work of a queue that is gone.
  @Sendable
  private static func rest(
    _ inFlight: [InFlight], _ logical: LogicalDevice, _ timeline: Timeline,
    _ deviceQueue: DeviceQueue
  ) {
    defer {
      for case .replayed(let list) in inFlight.map(\.work) { list.timedRun.end() }
    }
    guard let last = inFlight.last else { return }
    // Our own work is enough. A wait for the whole device would need all its queues, other streams' and an app's
    // own, to rest.
    do throws(VulkanError) {
      _ = try timeline.block(until: last.value, nanoseconds: .max)
    } catch {
      // A lost device, most likely. What is destroyed next must not be in use all the same.
      guard !logical.isForeign else { return }
      do throws(VulkanError) {
        try deviceQueue.use { _ = logical.calls.vkQueueWaitIdle($0) }
      } catch {}
    }
  }

  /// A recorder with a command buffer that is free.
  func makeRecorder(isReplayable: Bool) throws(VulkanError) -> Recorder {
    try logical.checkAlive("recording")
    try collect()
    let slot: CommandSlot
    if let free = slots.take() { slot = free } else { slot = try CommandSlot(logical) }
    return try Recorder(logical, slot: slot, isReplayable: isReplayable)
  }

  /// Sends a recorder's commands to the device.
  func submit(
    _ recorder: Recorder, after submissions: [Submission] = [],
    reaching points: [TimelinePoint] = []
  ) throws(VulkanError) -> Submission {
    try logical.checkAlive("submission")
    try logical.checkOwn("recorder", recorder.logical)
    // Else an app that waits elsewhere, for another stream or on the device, keeps all that was ever in flight here.
    try collect()
    let dependencies = try Dependencies(on: submissions, points: points, of: timeline)
    let (slot, retained) = try recorder.finish()
    return try submit(.once(slot, retained: retained), dependencies)
  }

  /// Sends a list's commands to the device once more.
  func submit(
    _ list: CommandList, after submissions: [Submission], reaching points: [TimelinePoint]
  ) throws(VulkanError) -> Submission {
    try logical.checkAlive("submission")
    try logical.checkOwn("command list", list.logical)
    try collect()
    let dependencies = try Dependencies(on: submissions, points: points, of: timeline)
    guard list.slot.timestampCount > 0 else { return try submit(.replayed(list), dependencies) }
    // Reads the timestamps of the last run, if that is done.
    try list.timedRun.queue?.collect()
    guard list.timedRun.begin(on: self) else {
      throw .limitExceeded(
        what: "runs at a time of a command list with timestamps", requested: 2, allowed: 1)
    }
    do throws(VulkanError) {
      return try submit(.replayed(list), dependencies)
    } catch {
      list.timedRun.end()
      throw error
    }
  }

  private func submit(
    _ work: Work, _ dependencies: Dependencies
  ) throws(VulkanError) -> Submission {
    let record = SubmissionRecord()
    // The app's lock outside of ours: an app may hold its own, recursive one while it submits here.
    let value = try logical.withQueueAccess { () throws(VulkanError) in
      try deviceQueue.use { (queue) throws(VulkanError) in
        try state.withLock { (state) throws(VulkanError) -> UInt64 in
          let value = state.lastValue + 1
          try submit(work.slot.commands, to: queue, after: dependencies.points, signalling: value)
          state.lastValue = value
          state.inFlight.append(
            InFlight(
              value: value, work: work, timelines: dependencies.timelines,
              waitsForOthers: !dependencies.points.isEmpty, record: record))
          return value
        }
      }
    }
    return Submission(queue: self, value: value, record: record)
  }

  private func submit(
    _ commands: VkCommandBuffer, to queue: VkQueue, after points: [TimelinePoint],
    signalling value: UInt64
  ) throws(VulkanError) {
    let waited = points.map { VkSemaphore?($0.semaphore) }
    let values = points.map(\.value)
    // All that a recorder has commands for.
    let stages = [VkPipelineStageFlags](repeating: Recorder.work, count: points.count)
    let result = withUnsafePointer(to: value) { value in
      withUnsafePointer(to: Optional(timeline.semaphore)) { semaphore in
        withUnsafePointer(to: Optional(commands)) { commands in
          waited.withUnsafeBufferPointer { waited in
            values.withUnsafeBufferPointer { values in
              stages.withUnsafeBufferPointer { stages in
                var timelines = VkTimelineSemaphoreSubmitInfo()
                timelines.sType = VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO
                timelines.waitSemaphoreValueCount = UInt32(values.count)
                timelines.pWaitSemaphoreValues = values.baseAddress
                timelines.signalSemaphoreValueCount = 1
                timelines.pSignalSemaphoreValues = value
                return withUnsafePointer(to: timelines) { timelines in
                  var info = VkSubmitInfo()
                  info.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO
                  info.pNext = UnsafeRawPointer(timelines)
                  info.waitSemaphoreCount = UInt32(waited.count)
                  info.pWaitSemaphores = waited.baseAddress
                  info.pWaitDstStageMask = stages.baseAddress
                  info.commandBufferCount = 1
                  info.pCommandBuffers = commands
                  info.signalSemaphoreCount = 1
                  info.pSignalSemaphores = semaphore
                  return logical.calls.vkQueueSubmit(queue, 1, &info, nil)
                }
              }
            }
          }
        }
      }
    }
    try logical.check(result, "vkQueueSubmit")
  }

  /// Whether the work of that value is done.
  func isComplete(_ value: UInt64) throws(VulkanError) -> Bool {
    try timeline.value() >= value
  }

  /// Blocks until the work of that value is done.
  func wait(for value: UInt64, timeout seconds: Double?) throws(VulkanError) {
    let nanoseconds = seconds.map(Self.nanoseconds) ?? .max
    guard try timeline.block(until: value, nanoseconds: nanoseconds) else {
      throw .timedOut(seconds: seconds ?? 0)
    }
    try collect()
  }

  /// Vulkan's unit: what is not above 0, NaN included, is no time; what does not fit is for ever.
  private static func nanoseconds(_ seconds: Double) -> UInt64 {
    guard seconds > 0 else { return 0 }
    return seconds < 1e10 ? UInt64(seconds * 1e9) : .max
  }

  /// Suspends until the work of that value is done, or the task is cancelled.
  func completion(of value: UInt64) async throws(VulkanError) {
    try logical.checkAlive("waiting")
    if try timeline.value() < value {
      let id = state.withLock { state in
        state.nextWaiter += 1
        return state.nextWaiter
      }
      let result = await withTaskCancellationHandler {
        await withCheckedContinuation { continuation in
          let waiter = Waiter(value: value, continuation: continuation)
          let startsWatching = state.withLock { state in
            state.waiters[id] = waiter
            defer { state.isWatching = true }
            return !state.isWatching
          }
          // The handler may have run before there was a waiter to cancel.
          if Task.isCancelled { resume(id, with: .failure(.cancelled)) }
          if startsWatching { watcher.async(execute: Watch(self).run) }
        }
      } onCancel: {
        resume(id, with: .failure(.cancelled))
      }
      try result.get()
    }
    try collect()
  }

  private func resume(_ id: UInt64, with result: Result<Void, VulkanError>) {
    let waiter = state.withLock { $0.waiters.removeValue(forKey: id) }
    waiter?.continuation.resume(returning: result)
  }

  /// What the watcher found: who is to be woken with what, and whether no one waits any more.
  private struct WatchStep {
    let woken: [Waiter]
    let result: Result<Void, VulkanError>
    let isLast: Bool
  }

  /// The watcher's hold on the queue.
  ///
  /// It lets go before it wakes the last who waits. Otherwise the queue, and the device with it,
  /// could be taken down on the watcher's thread while the woken task ends the process.
  private final class Watch: @unchecked Sendable {
    // Unchecked: used on the watcher's thread alone.
    private var queue: SubmissionQueue?

    init(_ queue: SubmissionQueue) {
      self.queue = queue
    }

    @Sendable
    func run() {
      while let step = queue?.watchStep() {
        if step.isLast { queue = nil }
        for waiter in step.woken { waiter.continuation.resume(returning: step.result) }
      }
    }
  }

  /// Takes out whose work is done; where that is no one, waits for the timeline's next step.
  private func watchStep() -> WatchStep {
    do throws(VulkanError) {
      let value = try timeline.value()
      let step = state.withLock { state in
        let done = state.waiters.filter { $0.value.value <= value }
        for id in done.keys { state.waiters[id] = nil }
        if state.waiters.isEmpty { state.isWatching = false }
        return WatchStep(
          woken: Array(done.values), result: .success(()), isLast: state.waiters.isEmpty)
      }
      if step.woken.isEmpty, !step.isLast {
        // One step and not the waiter's own value: an earlier one may be asked for meanwhile.
        _ = try timeline.block(until: value + 1, nanoseconds: .max)
      }
      return step
    } catch {
      return state.withLock { state in
        defer { state.waiters = [:] }
        state.isWatching = false
        return WatchStep(
          woken: Array(state.waiters.values), result: .failure(error), isLast: true)
      }
    }
  }

  /// Releases what finished work kept alive and takes its command buffers back.
  private func collect() throws(VulkanError) {
    let value = try timeline.value()
    // It goes outside of the lock: with it go buffers, which call functions of an app, and these may come back here.
    let (finished, failure) = state.withLock { state -> ([InFlight], VulkanError?) in
      var failure: VulkanError?
      // In the order of submission.
      let finished = Array(state.inFlight.prefix { $0.value <= value })
      state.inFlight.removeFirst(finished.count)
      for one in finished {
        do throws(VulkanError) {
          one.record.timestamps = try one.work.slot.readTimestamps()
          // Where reading fails, the slot is dropped.
          if case .once(let slot, _) = one.work { slots.give(slot) }
        } catch {
          failure = failure ?? error
        }
        if case .replayed(let list) = one.work { list.timedRun.end() }
      }
      return (finished, failure)
    }
    withExtendedLifetime(finished) {}
    if let failure { throw failure }
  }
}
