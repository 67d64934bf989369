internal import CVulkan
internal import Dispatch
internal import Synchronization

/// The device's queue with its timeline: submits, keeps what is in flight alive, wakes who waits.
final class SubmissionQueue: @unchecked Sendable {
  // Unchecked: the semaphore is set once in `init`, all else is behind the lock.
  private struct InFlight {
    let value: UInt64
    let work: Work
    let record: SubmissionRecord
  }

  /// What runs, with all that it keeps alive.
  private enum Work {
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
    var freeSlots: [CommandSlot] = []
    var waiters: [UInt64: Waiter] = [:]
    var nextWaiter: UInt64 = 0
    var isWatching = false
  }

  let logical: LogicalDevice
  private let semaphore: VkSemaphore
  private let state = Mutex(State())
  /// Blocks in Vulkan while someone waits, so that no task of Swift's pool has to.
  private let watcher = DispatchQueue(label: "VulkanRuntime.SubmissionQueue")

  init(_ logical: LogicalDevice) throws(VulkanError) {
    var type = VkSemaphoreTypeCreateInfo()
    type.sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO
    type.semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE
    var created: VkSemaphore?
    let result = withUnsafePointer(to: type) { type in
      var info = VkSemaphoreCreateInfo()
      info.sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO
      info.pNext = UnsafeRawPointer(type)
      return logical.calls.vkCreateSemaphore(logical.handle, &info, nil, &created)
    }
    try logical.check(result, "vkCreateSemaphore")
    guard let created else {
      throw .callFailed(function: "vkCreateSemaphore", result: .initializationFailed)
    }
    self.logical = logical
    semaphore = created
  }

  deinit {
    if logical.isForeign {
      // A wait for the whole device would need every queue of the app to rest; our own work is enough.
      let last = state.withLock { $0.lastValue }
      do throws(VulkanError) { _ = try block(until: last, nanoseconds: .max) } catch {}
    } else {
      _ = logical.calls.vkDeviceWaitIdle(logical.handle)
    }
    logical.calls.vkDestroySemaphore(logical.handle, semaphore, nil)
  }

  /// A recorder with a command buffer that is free.
  func makeRecorder(isReplayable: Bool) throws(VulkanError) -> Recorder {
    try logical.checkAlive("recording")
    try collect()
    let free = state.withLock { $0.freeSlots.popLast() }
    let slot: CommandSlot
    if let free { slot = free } else { slot = try CommandSlot(logical) }
    return try Recorder(logical, slot: slot, isReplayable: isReplayable)
  }

  /// Sends a recorder's commands to the device.
  func submit(_ recorder: Recorder) throws(VulkanError) -> Submission {
    try logical.checkAlive("submission")
    let (slot, retained) = try recorder.finish()
    return try submit(.once(slot, retained: retained))
  }

  /// Sends a list's commands to the device once more.
  func submit(_ list: CommandList) throws(VulkanError) -> Submission {
    try logical.checkAlive("submission")
    // Reads the timestamps of the last run, if that is done.
    try collect()
    return try submit(.replayed(list))
  }

  private func submit(_ work: Work) throws(VulkanError) -> Submission {
    let record = SubmissionRecord()
    // The app's lock outside of ours: an app may hold its own, recursive one while it submits here.
    let value = try logical.withQueue { () throws(VulkanError) in
      try state.withLock { (state) throws(VulkanError) -> UInt64 in
        if case .replayed(let list) = work, list.slot.timestampCount > 0,
          state.inFlight.contains(where: { $0.work.slot === list.slot })
        {
          throw .limitExceeded(
            what: "runs at a time of a command list with timestamps", requested: 2, allowed: 1)
        }
        let value = state.lastValue + 1
        try submit(work.slot.commands, signalling: value)
        state.lastValue = value
        state.inFlight.append(InFlight(value: value, work: work, record: record))
        return value
      }
    }
    return Submission(queue: self, value: value, record: record)
  }

  private func submit(
    _ commands: VkCommandBuffer, signalling value: UInt64
  ) throws(VulkanError) {
    let result = withUnsafePointer(to: value) { value in
      withUnsafePointer(to: Optional(semaphore)) { semaphore in
        withUnsafePointer(to: Optional(commands)) { commands in
          var timeline = VkTimelineSemaphoreSubmitInfo()
          timeline.sType = VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO
          timeline.signalSemaphoreValueCount = 1
          timeline.pSignalSemaphoreValues = value
          return withUnsafePointer(to: timeline) { timeline in
            var info = VkSubmitInfo()
            info.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO
            info.pNext = UnsafeRawPointer(timeline)
            info.commandBufferCount = 1
            info.pCommandBuffers = commands
            info.signalSemaphoreCount = 1
            info.pSignalSemaphores = semaphore
            return logical.calls.vkQueueSubmit(logical.queue, 1, &info, nil)
          }
        }
      }
    }
    try logical.check(result, "vkQueueSubmit")
  }

  /// Whether the work of that value is done.
  func isComplete(_ value: UInt64) throws(VulkanError) -> Bool {
    try completedValue() >= value
  }

  /// Blocks until the work of that value is done.
  func wait(for value: UInt64, timeout seconds: Double?) throws(VulkanError) {
    let nanoseconds = seconds.map(Self.nanoseconds) ?? .max
    guard try block(until: value, nanoseconds: nanoseconds) else {
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
    if try completedValue() < value {
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
      let value = try completedValue()
      let step = state.withLock { state in
        let done = state.waiters.filter { $0.value.value <= value }
        for id in done.keys { state.waiters[id] = nil }
        if state.waiters.isEmpty { state.isWatching = false }
        return WatchStep(
          woken: Array(done.values), result: .success(()), isLast: state.waiters.isEmpty)
      }
      if step.woken.isEmpty, !step.isLast {
        // One step and not the waiter's own value: an earlier one may be asked for meanwhile.
        _ = try block(until: value + 1, nanoseconds: .max)
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

  /// Waits in Vulkan; false where the time ran out.
  private func block(until value: UInt64, nanoseconds: UInt64) throws(VulkanError) -> Bool {
    let result = withUnsafePointer(to: Optional(semaphore)) { semaphore in
      withUnsafePointer(to: value) { value in
        var info = VkSemaphoreWaitInfo()
        info.sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO
        info.semaphoreCount = 1
        info.pSemaphores = semaphore
        info.pValues = value
        return VulkanResult(logical.calls.vkWaitSemaphores(logical.handle, &info, nanoseconds))
      }
    }
    if result == .timeout { return false }
    try logical.check(result, "vkWaitSemaphores")
    return true
  }

  private func completedValue() throws(VulkanError) -> UInt64 {
    var value: UInt64 = 0
    try logical.check(
      logical.calls.vkGetSemaphoreCounterValue(logical.handle, semaphore, &value),
      "vkGetSemaphoreCounterValue")
    return value
  }

  /// Releases what finished work kept alive and takes its command buffers back.
  private func collect() throws(VulkanError) {
    let value = try completedValue()
    try state.withLock { (state) throws(VulkanError) in
      // In the order of submission. Taken out first: where reading fails, the slot is dropped.
      while let finished = state.inFlight.first, finished.value <= value {
        state.inFlight.removeFirst()
        finished.record.timestamps = try finished.work.slot.readTimestamps()
        if case .once(let slot, _) = finished.work { state.freeSlots.append(slot) }
      }
    }
  }
}
