import TestSupport
import Testing

@testable import VulkanRuntime

/// Commands that are recorded once and run more than once.
@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct CommandListTests {
  let gated: GatedDevice
  var device: ComputeDevice { gated.device }

  init() throws {
    gated = try GatedDevice()
  }

  /// A list that multiplies each word by 3.
  private func tripling(_ buffer: DeviceBuffer) throws -> CommandList {
    let recorder = try device.makeRecorder(forReplay: true)
    try MultiplyAdd.record(from: buffer, to: buffer, on: device, into: recorder)
    return try device.makeCommandList(recorder)
  }

  @Test("Each run computes from what lies in the buffers by then")
  func runsAgain() async throws {
    let buffer = try await device.makeBuffer([UInt32](repeating: 2, count: 16))
    let list = try tripling(buffer)
    try await device.submit(list).completed()
    #expect(try await device.download(UInt32.self, from: buffer)[15] == 6)
    try await device.upload([UInt32](repeating: 5, count: 16), to: buffer)
    // Several under way, behind one another.
    for _ in 0..<3 { try device.submit(list) }
    try await device.submit(list).completed()
    #expect(
      try await device.download(UInt32.self, from: buffer) == [UInt32](repeating: 405, count: 16))
  }

  @Test("Runs and other submissions see each other's results in the order of submission")
  func order() async throws {
    let buffer = try device.makeBuffer(byteCount: 64)
    let list = try tripling(buffer)
    for word in [UInt32(7), 11] {
      let recorder = try device.makeRecorder()
      try recorder.fill(buffer, with: word)
      try device.submit(recorder)
      try device.submit(list)
    }
    let copy = try device.makeBuffer(byteCount: 64)
    let recorder = try device.makeRecorder()
    try recorder.copy(from: buffer, to: copy)
    try await device.submit(recorder).completed()
    #expect(
      try await device.download(UInt32.self, from: copy) == [UInt32](repeating: 33, count: 16))
  }

  @Test("A list keeps its buffers while it lives or runs, and no longer")
  func keepsBuffersAlive() throws {
    weak var allocation: Allocation?
    var list: CommandList?
    do {
      let buffer = try device.makeBuffer(byteCount: 64)
      allocation = buffer.allocation
      list = try tripling(buffer)
    }
    try device.submit(#require(list)).wait()
    #expect(allocation != nil)
    gated.closeGate()
    let submission = try device.submit(#require(list))
    list = nil
    #expect(allocation != nil)
    gated.openGate()
    try submission.wait()
    #expect(allocation == nil)
  }

  @Test("Only recorders for replay become lists, and they are used up")
  func refusals() throws {
    let once = try device.makeRecorder()
    #expect(throws: VulkanError.notReplayable) { _ = try device.makeCommandList(once) }
    // It is as good as before.
    try device.submit(once).wait()
    let recorder = try device.makeRecorder(forReplay: true)
    let list = try device.makeCommandList(recorder)
    #expect(throws: VulkanError.alreadySubmitted) { _ = try device.makeCommandList(recorder) }
    #expect(throws: VulkanError.alreadySubmitted) { _ = try device.submit(recorder) }
    let other = try TestDevice.open()
    let name = device.capabilities.name
    #expect(throws: VulkanError.wrongDevice(what: "command list", expected: name, actual: name)) {
      _ = try other.submit(list)
    }
    #expect(throws: VulkanError.wrongDevice(what: "recorder", expected: name, actual: name)) {
      _ = try other.makeCommandList(device.makeRecorder(forReplay: true))
    }
    // One that is for replay may also be submitted once and for all.
    try device.submit(device.makeRecorder(forReplay: true)).wait()
  }

  @Test("Timestamps are each run's own; one run at a time takes them")
  func timestamps() throws {
    let buffer = try device.makeBuffer(byteCount: 64)
    let recorder = try device.makeRecorder(forReplay: true)
    try recorder.timestamp()
    try MultiplyAdd.record(from: buffer, to: buffer, on: device, into: recorder)
    try recorder.timestamp()
    let list = try device.makeCommandList(recorder)
    gated.closeGate()
    let first = try device.submit(list)
    #expect(
      throws: VulkanError.limitExceeded(
        what: "runs at a time of a command list with timestamps", requested: 2, allowed: 1)
    ) { _ = try device.submit(list) }
    gated.openGate()
    #expect(try first.timestamps().count == 2)
    let second = try device.submit(list)
    #expect(try second.timestamps().count == 2)
    #expect(try second.timestamps()[1] > 0)
  }
}
