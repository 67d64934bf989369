import Foundation
import TestSupport
import Testing

@testable import VulkanRuntime

/// Orders of work beside each other on one device.
@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct ComputeStreamTests {
  let gated: GatedDevice
  var device: ComputeDevice { gated.device }

  init() throws {
    gated = try GatedDevice()
  }

  /// A recorder that multiplies each word by 3.
  private func tripling(_ buffer: DeviceBuffer) throws -> Recorder {
    let recorder = try device.makeRecorder()
    try MultiplyAdd.record(from: buffer, to: buffer, on: device, into: recorder)
    return recorder
  }

  private func first(_ buffer: DeviceBuffer) async throws -> UInt32 {
    try await device.download(UInt32.self, from: buffer)[0]
  }

  @Test("A stream waits for another one, and the device for both")
  func order() async throws {
    let streams = try (0..<3).map { _ in try device.makeStream() }
    let buffer = try await device.makeBuffer([UInt32](repeating: 1, count: 64))
    var last = try device.submit(tripling(buffer))
    for round in 0..<30 {
      last = try streams[round % 3].submit(tripling(buffer), after: [last])
      // Powers of three wrap around only behind 2^32.
      if round % 12 == 11 {
        let recorder = try device.makeRecorder()
        try recorder.fill(buffer, with: 1)
        last = try device.submit(recorder, after: [last])
      }
    }
    try await device.submit(tripling(buffer), after: [last]).completed()
    #expect(try await first(buffer) == 2187)
  }

  @Test("What a stream submits after itself comes in order without a wait")
  func ownOrder() async throws {
    let stream = try device.makeStream()
    let buffer = try await device.makeBuffer([UInt32](repeating: 1, count: 64))
    let one = try stream.submit(tripling(buffer))
    let dependencies = try Dependencies(on: [one], points: [], of: stream.queue.timeline)
    #expect(dependencies.points.isEmpty)
    try await stream.submit(tripling(buffer), after: [one]).completed()
    #expect(try await first(buffer) == 9)
  }

  @Test("Of several submissions of one stream, the last is waited for")
  func lastOfSeveral() throws {
    let (one, other) = (try device.makeStream(), try device.makeStream())
    let earlier = try one.submit(device.makeRecorder())
    let later = try one.submit(device.makeRecorder())
    let own = try device.submit(device.makeRecorder())
    let dependencies = try Dependencies(
      on: [later, earlier, own, earlier], points: [], of: other.queue.timeline)
    #expect(dependencies.points == [later.timelinePoint, own.timelinePoint])
    #expect(dependencies.timelines.count == 2)
  }

  @Test("A stream that is dropped leaves its work to be done and waited for")
  func dropped() async throws {
    let buffer = try await device.makeBuffer([UInt32](repeating: 1, count: 64))
    weak var timeline: Timeline?
    let last: Submission
    do {
      let stream = try device.makeStream()
      timeline = stream.queue.timeline
      last = try device.submit(tripling(buffer), after: [stream.submit(tripling(buffer))])
    }
    try await last.completed()
    #expect(try await first(buffer) == 9)
    #expect(timeline == nil)
  }

  @Test("The timeline of a dropped stream lives as long as someone waits for it on the device")
  func timelineKept() throws {
    weak var timeline: Timeline?
    let last: Submission
    do {
      let stream = try device.makeStream()
      timeline = stream.queue.timeline
      let submission = try stream.submit(device.makeRecorder())
      try submission.wait()
      gated.closeGate()
      last = try device.submit(device.makeRecorder(), after: [submission])
      // The stream waits for its own work when it goes, which is not seen to be done while the gate is closed.
      gated.openGate()
    }
    #expect(timeline != nil)
    try last.wait()
    #expect(timeline == nil)
  }

  @Test(
    "A stream that no one waits for lets go of what is done, and its command buffers come again")
  func collects() throws {
    let stream = try device.makeStream()
    weak var allocation: Allocation?
    do {
      let buffer = try device.makeBuffer(byteCount: 64)
      allocation = buffer.allocation
      let recorder = try device.makeRecorder()
      try recorder.fill(buffer, with: 1)
      try device.submit(device.makeRecorder(), after: [stream.submit(recorder)]).wait()
    }
    #expect(allocation != nil)
    try stream.submit(device.makeRecorder())
    #expect(allocation == nil)
    for _ in 0..<20 { try stream.submit(device.makeRecorder()).wait() }
    let slots = try device.usableQueue().slots
    var count = 0
    while slots.take() != nil { count += 1 }
    #expect((1...5).contains(count))
  }

  @Test("A list with timestamps runs in one stream at a time")
  func timedList() throws {
    let recorder = try device.makeRecorder(forReplay: true)
    try recorder.timestamp()
    try recorder.timestamp()
    let list = try device.makeCommandList(recorder)
    let (one, other) = (try device.makeStream(), try device.makeStream())
    gated.closeGate()
    let first = try one.submit(list)
    for submit in [other.submit, one.submit]
      as [(CommandList, [Submission], [TimelinePoint]) throws -> Submission]
    {
      #expect(
        throws: VulkanError.limitExceeded(
          what: "runs at a time of a command list with timestamps", requested: 2, allowed: 1)
      ) { _ = try submit(list, [], []) }
    }
    gated.openGate()
    while try !first.isComplete { usleep(200) }
    // Done, though no one has waited for it.
    let second = try other.submit(list)
    #expect(try first.timestamps().count == 2)
    #expect(try second.timestamps().count == 2)
  }

  @Test("A timed run in a stream that is gone does not hold the list")
  func timedListOfDroppedStream() throws {
    let recorder = try device.makeRecorder(forReplay: true)
    try recorder.timestamp()
    let list = try device.makeCommandList(recorder)
    try device.makeStream().submit(list)
    #expect(try device.submit(list).timestamps() == [0])
  }

  @Test("Nothing of another device is waited for or submitted, and nothing is used up by that")
  func wrongDevice() throws {
    let other = try TestDevice.open()
    let stream = try device.makeStream()
    let name = device.capabilities.name
    let foreign = try other.submit(other.makeRecorder())
    let recorder = try device.makeRecorder()
    #expect(
      throws: VulkanError.wrongDevice(
        what: "submission to wait for", expected: name, actual: name)
    ) { _ = try stream.submit(recorder, after: [foreign]) }
    #expect(throws: VulkanError.wrongDevice(what: "recorder", expected: name, actual: name)) {
      _ = try stream.submit(other.makeRecorder())
    }
    #expect(throws: VulkanError.wrongDevice(what: "command list", expected: name, actual: name)) {
      _ = try stream.submit(other.makeCommandList(other.makeRecorder(forReplay: true)))
    }
    try stream.submit(recorder).wait()
    #expect(throws: VulkanError.alreadySubmitted) { _ = try stream.submit(recorder) }
  }

  @Test("Tasks submit to streams of their own and to a common one at the same time")
  func tasks() async throws {
    let device = device
    let common = try device.makeStream()
    try await withThrowingTaskGroup(of: Void.self) { group in
      for task in 0..<4 {
        group.addTask {
          let stream = try device.makeStream()
          let buffer = try device.makeBuffer(byteCount: 256)
          for round in 0..<10 {
            let word = UInt32(task * 100 + round)
            let recorder = try device.makeRecorder()
            try recorder.fill(buffer, with: word)
            let filled = try stream.submit(recorder)
            let second = try device.makeRecorder()
            try MultiplyAdd.record(from: buffer, to: buffer, on: device, into: second)
            try await common.submit(second, after: [filled]).completed()
            #expect(try await device.download(UInt32.self, from: buffer)[63] == word * 3)
          }
        }
      }
      try await group.waitForAll()
    }
  }

  @Test("A device takes as many queues as it may and has")
  func queueCount() throws {
    var options = TestDevice.options()
    options.queueLimit = 1
    #expect(try ComputeDevice.open(.best, options: options).queueCount == 1)
    // Not fewer than one.
    options.queueLimit = -3
    #expect(try ComputeDevice.open(.best, options: options).queueCount == 1)
    options.queueLimit = .max
    let instance = try VulkanInstance()
    let many = try ComputeDevice.open(.best, options: options)
    let families = LogicalDevice.queueFamilies(
      of: try instance.physicalDevices()[many.capabilities.index], calls: instance.calls)
    #expect(many.queueCount == Int(families[Int(many.logical.queueFamily)].queueCount))
    #expect(many.queueCount >= device.queueCount)
  }

  @Test("A device that only compiles has no streams")
  func compilesOnly() throws {
    var options = TestDevice.options()
    options.compilesOnly = true
    let device = try ComputeDevice.open(.best, options: options)
    #expect(device.queueCount == 0)
    #expect(throws: VulkanError.self) { _ = try device.makeStream() }
  }
}
