import TestSupport
import Testing

@testable import VulkanRuntime

@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct SubmissionTests {
  /// A device of each test's own, whose work is done when the test says so.
  let gated: GatedDevice
  var device: ComputeDevice { gated.device }

  init() throws {
    gated = try GatedDevice()
  }

  /// Work that leaves `word` in the buffer, not seen to be done before the gate opens.
  private func submitGated(_ word: UInt32 = 3, to buffer: DeviceBuffer) throws -> Submission {
    gated.closeGate()
    return try submit(word, to: buffer)
  }

  private func submit(_ word: UInt32, to buffer: DeviceBuffer) throws -> Submission {
    let recorder = try device.makeRecorder()
    try recorder.fill(buffer, with: word)
    return try device.submit(recorder)
  }

  /// Time for tasks to be started and suspended. Where it is not enough, a test takes another way to
  /// the same end.
  private func letTasksWait() async throws {
    try await Task.sleep(for: .milliseconds(20))
  }

  @Test func blockingWait() throws {
    let buffer = try device.makeBuffer(byteCount: 64)
    let submission = try MultiplyAdd.submitSlow(to: buffer, share: 0.1, on: device)
    try submission.wait()
    #expect(try submission.isComplete)
    // Once more, and by every other way, at once.
    try submission.wait(timeout: 0)
  }

  @Test("A wait that ends too early says so, and the work goes on")
  func timeout() async throws {
    let buffer = try device.makeBuffer(byteCount: 64)
    let submission = try submitGated(7, to: buffer)
    #expect(try !submission.isComplete)
    for seconds in [0, 0.001, -5] {
      #expect(throws: VulkanError.timedOut(seconds: seconds)) {
        try submission.wait(timeout: seconds)
      }
    }
    #expect(throws: VulkanError.self) { try submission.wait(timeout: .nan) }
    #expect(!device.isLost)
    gated.openGate()
    try await submission.completed()
    #expect(try submission.isComplete)
    #expect(
      try await device.download(UInt32.self, from: buffer) == [UInt32](repeating: 7, count: 16))
  }

  @Test(
    "No length of time crashes a wait",
    arguments: [1e6, 1e10, 1e300, .infinity, .greatestFiniteMagnitude])
  func longTimeouts(seconds: Double) throws {
    try device.submit(device.makeRecorder()).wait(timeout: seconds)
  }

  @Test("Several tasks wait for one submission, suspended")
  func suspendedWait() async throws {
    let submission = try submitGated(to: device.makeBuffer(byteCount: 64))
    try await withThrowingTaskGroup(of: Void.self) { group in
      for _ in 0..<5 { group.addTask { try await submission.completed() } }
      try await letTasksWait()
      gated.openGate()
      try await group.waitForAll()
    }
    #expect(try submission.isComplete)
    try await submission.completed()
  }

  @Test("Tasks that wait for different work are woken each by its own")
  func order() async throws {
    let buffer = try device.makeBuffer(byteCount: 64)
    let slow = try MultiplyAdd.submitSlow(to: buffer, share: 0.2, on: device)
    let slower = try MultiplyAdd.submitSlow(to: buffer, share: 0.4, on: device)
    async let second: Void = slower.completed()
    try await slow.completed()
    #expect(try slow.isComplete)
    try await second
    #expect(try slower.isComplete)
  }

  @Test("A cancelled wait ends at once; the work runs on with its buffers")
  func cancellation() async throws {
    weak var allocation: Allocation?
    let submission: Submission
    do {
      let buffer = try device.makeBuffer(byteCount: 64)
      allocation = buffer.allocation
      submission = try submitGated(to: buffer)
    }
    let waiting = Task { try await submission.completed() }
    try await letTasksWait()
    waiting.cancel()
    await #expect(throws: VulkanError.cancelled) { try await waiting.value }
    #expect(try !submission.isComplete)
    #expect(allocation != nil)
    gated.openGate()
    try await submission.completed()
    #expect(try submission.isComplete)
    #expect(allocation == nil)
  }

  @Test("A task that is cancelled before it waits does not wait")
  func cancelledBefore() async throws {
    let submission = try submitGated(to: device.makeBuffer(byteCount: 64))
    let waiting = Task {
      withUnsafeCurrentTask { $0?.cancel() }
      try await submission.completed()
    }
    await #expect(throws: VulkanError.cancelled) { try await waiting.value }
    #expect(try !submission.isComplete)
    gated.openGate()
    try submission.wait()
  }

  @Test("One task's cancellation does not touch the others'")
  func cancelsOneOfSeveral() async throws {
    let submission = try submitGated(to: device.makeBuffer(byteCount: 64))
    let patient = Task { try await submission.completed() }
    let hasty = Task { try await submission.completed() }
    try await letTasksWait()
    hasty.cancel()
    await #expect(throws: VulkanError.cancelled) { try await hasty.value }
    gated.openGate()
    try await patient.value
    #expect(try submission.isComplete)
  }

  @Test("A second device is a stream of its own: its work is done while the first's is not")
  func streams() async throws {
    let other = try TestDevice.open()
    let slow = try submitGated(to: device.makeBuffer(byteCount: 64))
    let hasty = Task { try await slow.completed() }
    for round: UInt32 in 0..<3 {
      let buffer = try await other.makeBuffer([UInt32](repeating: round, count: 16))
      let recorder = try other.makeRecorder()
      try MultiplyAdd.record(from: buffer, to: buffer, on: other, into: recorder)
      try await other.submit(recorder).completed()
      #expect(
        try await other.download(UInt32.self, from: buffer)
          == [UInt32](repeating: 3 * round, count: 16))
    }
    #expect(try !slow.isComplete)
    hasty.cancel()
    await #expect(throws: VulkanError.cancelled) { try await hasty.value }
    gated.openGate()
    try await slow.completed()
    #expect(try slow.isComplete)
  }

  @Test("The command buffer of finished work serves again")
  func slotsAreUsedAgain() throws {
    var slot: ObjectIdentifier?
    for round in 0..<5 {
      let recorder = try device.makeRecorder()
      let used = try ObjectIdentifier(#require(recorder.slot))
      if round > 0 { #expect(used == slot) }
      slot = used
      try device.submit(recorder).wait()
    }
  }

  @Test("Nothing holds on to a device whose work was waited for")
  func watcherLetsGo() async throws {
    // A thread that took the device down after its last waiter was woken would do so while the
    // process ends.
    final class Weak {
      weak var queue: SubmissionQueue?
    }
    let queue = Weak()
    func work() async throws {
      var options = ComputeDevice.Options()
      options.pipelineCacheDirectory = nil
      let device = try ComputeDevice.open(options: options)
      queue.queue = device.queue
      let buffer = try device.makeBuffer(byteCount: 1 << 20)
      let recorder = try device.makeRecorder()
      for word: UInt32 in 0..<20 { try recorder.fill(buffer, with: word) }
      try await device.submit(recorder).completed()
    }
    for round in 0..<100 {
      try await work()
      try #require(queue.queue == nil, "round \(round)")
    }
  }

  @Test("Many tasks submit at once")
  func manyTasks() async throws {
    let device = device
    try await withThrowingTaskGroup(of: Void.self) { group in
      for task: UInt32 in 0..<8 {
        group.addTask {
          let buffer = try device.makeBuffer(byteCount: 256)
          let copy = try device.makeBuffer(byteCount: 256)
          for round: UInt32 in 0..<50 {
            let recorder = try device.makeRecorder()
            try recorder.fill(buffer, with: task * 1000 + round)
            try recorder.copy(from: buffer, to: copy)
            let submission = try device.submit(recorder)
            switch round % 3 {
            case 0: try await submission.completed()
            case 1: try submission.wait(timeout: 30)
            default: continue
            }
            #expect(
              try await device.download(UInt32.self, from: copy)
                == [UInt32](repeating: task * 1000 + round, count: 64))
          }
          // What was not waited for is still in flight.
          try await device.submit(device.makeRecorder()).completed()
        }
      }
      try await group.waitForAll()
    }
    #expect(!device.isLost)
  }

  @Test("Work that no one holds or waits for is done all the same")
  func dropped() async throws {
    let buffer = try device.makeBuffer(byteCount: 64)
    _ = try MultiplyAdd.submitSlow(to: buffer, share: 0.2, on: device)
    _ = try submit(11, to: buffer)
    try await device.submit(device.makeRecorder()).completed()
    #expect(
      try await device.download(UInt32.self, from: buffer) == [UInt32](repeating: 11, count: 16))
  }
}
