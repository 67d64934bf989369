import TestSupport
import Testing

@testable import VulkanRuntime

@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct RecorderTests {
  let device: ComputeDevice

  init() throws {
    device = try TestDevice.shared()
  }

  private func words(_ buffer: DeviceBuffer) async throws -> [UInt32] {
    try await device.download(UInt32.self, from: buffer)
  }

  @Test("A chain of fills and copies in one recorder runs in order")
  func chain() async throws {
    let buffers = try (0..<4).map { try device.makeBuffer(byteCount: 64, label: "chain \($0)") }
    let recorder = try device.makeRecorder()
    try recorder.fill(buffers[0], with: 7)
    for index in 1..<4 { try recorder.copy(from: buffers[index - 1], to: buffers[index]) }
    // Written after it was read.
    try recorder.fill(buffers[0], with: 8)
    try recorder.fill(buffers[3].slice(0..<4), with: 9)
    try await device.submit(recorder).completed()
    #expect(try await words(buffers[0]) == [UInt32](repeating: 8, count: 16))
    #expect(try await words(buffers[2]) == [UInt32](repeating: 7, count: 16))
    #expect(try await words(buffers[3]) == [9] + [UInt32](repeating: 7, count: 15))
  }

  @Test("A chain of submissions runs in order")
  func submissions() async throws {
    let buffer = try device.makeBuffer(byteCount: 64)
    let copy = try device.makeBuffer(byteCount: 64)
    var last: Submission?
    for word: UInt32 in 1...20 {
      let recorder = try device.makeRecorder()
      try recorder.fill(buffer, with: word)
      last = try device.submit(recorder)
      let second = try device.makeRecorder()
      try second.copy(from: buffer, to: copy)
      last = try device.submit(second)
    }
    try await last?.completed()
    #expect(try await words(copy) == [UInt32](repeating: 20, count: 16))
  }

  @Test("Dispatches see what earlier commands wrote")
  func dispatches() async throws {
    let count = 1000
    let first = try device.makeBuffer(byteCount: count * 4)
    let second = try device.makeBuffer(byteCount: count * 4)
    let recorder = try device.makeRecorder()
    try recorder.fill(first, with: 1)
    for _ in 0..<5 {
      try MultiplyAdd.record(from: first, to: second, on: device, into: recorder)
      try MultiplyAdd.record(from: second, to: first, on: device, into: recorder)
    }
    try recorder.copy(from: first, to: second)
    try await device.submit(recorder).completed()
    #expect(try await words(second) == [UInt32](repeating: 59049, count: count))
  }

  @Test("Specialization constants reach the shader; what is not named keeps its default")
  func constants() async throws {
    let buffer = try await device.makeBuffer([UInt32](1...100))
    for (factor, expected): (UInt32?, UInt32) in [(nil, 3), (10, 10), (0, 0)] {
      let result = try device.makeBuffer(byteCount: 400)
      let recorder = try device.makeRecorder()
      try MultiplyAdd.record(
        from: buffer, to: result, factor: factor, on: device, into: recorder)
      try await device.submit(recorder).completed()
      #expect(try await words(result) == (1...100).map { $0 * expected })
    }
  }

  @Test func emptyCommandsDoNothing() async throws {
    let buffer = try await device.makeBuffer([UInt32(5)])
    let empty = try buffer.slice(0..<0)
    let recorder = try device.makeRecorder()
    try recorder.fill(empty, with: 1)
    try recorder.copy(from: empty, to: buffer)
    try recorder.copy(from: empty, to: empty)
    for groups in [WorkgroupCount(x: 0), .init(x: 1, y: 0), .init(x: 1, y: 1, z: 0)] {
      try recorder.dispatch(
        device.pipeline(MultiplyAdd.description()),
        pushConstants: MultiplyAdd.PushConstants(from: buffer, to: buffer), groups: groups,
        accesses: [.readWrite(buffer)])
    }
    try await device.submit(recorder).completed()
    #expect(try await words(buffer) == [5])
  }

  @Test("Copies and fills that do not fit are refused and change nothing")
  func misfits() async throws {
    let small = try await device.makeBuffer([UInt32](repeating: 1, count: 2), label: "small")
    let large = try device.makeBuffer(byteCount: 12, label: "large")
    let recorder = try device.makeRecorder()
    #expect(
      throws: VulkanError.outOfBounds(
        what: "a copy to small", requestedBytes: 12, availableBytes: 8)
    ) { try recorder.copy(from: large, to: small) }
    #expect(throws: VulkanError.self) { try recorder.fill(large.slice(0..<10), with: 0) }
    #expect(throws: VulkanError.self) { try recorder.fill(large.slice(2..<10), with: 0) }
    try await device.submit(recorder).completed()
    #expect(try await words(small) == [1, 1])
  }

  @Test("A copy onto itself is refused")
  func overlappingCopy() throws {
    let buffer = try device.makeBuffer(byteCount: 64, label: "same")
    let recorder = try device.makeRecorder()
    #expect(throws: VulkanError.overlappingCopy(source: "same", destination: "same")) {
      try recorder.copy(from: buffer.slice(0..<32), to: buffer.slice(16..<64))
    }
    // Side by side is fine.
    try recorder.copy(from: buffer.slice(0..<32), to: buffer.slice(32..<64))
    try device.submit(recorder).wait()
  }

  @Test("Push constants of the wrong size are refused")
  func wrongPushConstants() throws {
    let recorder = try device.makeRecorder()
    let pipeline = try device.pipeline(MultiplyAdd.description())
    let error = #expect(throws: VulkanError.self) {
      try recorder.dispatch(
        pipeline, pushConstants: UInt64(0), groups: WorkgroupCount(x: 1), accesses: [])
    }
    guard case .shaderMismatch("multiply_add", let reason) = error else {
      Issue.record("another error: \(String(describing: error))")
      return
    }
    #expect(reason.contains("24") && reason.contains("8"))
  }

  @Test("A grid beyond the device's limits is refused", arguments: [0, 1, 2])
  func wrongGrid(axis: Int) throws {
    let buffer = try device.makeBuffer(byteCount: 4)
    let recorder = try device.makeRecorder()
    let allowed = device.capabilities.maxWorkgroupCount[axis]
    for count in [allowed + 1, Int.max, -1, Int.min] {
      var counts = [1, 1, 1]
      counts[axis] = count
      let error = VulkanError.limitExceeded(
        what: "workgroups of multiply_add along axis \(axis)", requested: count, allowed: allowed)
      #expect(throws: error) {
        try recorder.dispatch(
          device.pipeline(MultiplyAdd.description()),
          pushConstants: MultiplyAdd.PushConstants(from: buffer, to: buffer),
          groups: WorkgroupCount(x: counts[0], y: counts[1], z: counts[2]), accesses: [])
      }
    }
  }

  @Test("A recorder is used up by its submission")
  func usedUp() throws {
    let buffer = try device.makeBuffer(byteCount: 8)
    let recorder = try device.makeRecorder()
    let submission = try device.submit(recorder)
    #expect(throws: VulkanError.alreadySubmitted) { _ = try device.submit(recorder) }
    #expect(throws: VulkanError.alreadySubmitted) { try recorder.fill(buffer, with: 0) }
    #expect(throws: VulkanError.alreadySubmitted) { try recorder.copy(from: buffer, to: buffer) }
    #expect(throws: VulkanError.alreadySubmitted) { try recorder.timestamp() }
    #expect(throws: VulkanError.alreadySubmitted) {
      try MultiplyAdd.record(from: buffer, to: buffer, on: device, into: recorder)
    }
    try submission.wait()
  }

  @Test("Recorders that are never submitted leave nothing behind")
  func dropped() throws {
    // A device of its own: closing it makes the layers look for what was left.
    let device = try TestDevice.open()
    weak var allocation: Allocation?
    for _ in 0..<50 {
      let recorder = try device.makeRecorder()
      let buffer = try device.makeBuffer(byteCount: 64)
      try recorder.fill(buffer, with: 1)
      try recorder.timestamp()
      try MultiplyAdd.record(from: buffer, to: buffer, on: device, into: recorder)
      allocation = buffer.allocation
    }
    #expect(allocation == nil)
    try device.submit(device.makeRecorder()).wait()
  }

  @Test("A recorder keeps its buffers alive until the work is done")
  func keepsBuffersAlive() throws {
    weak var allocation: Allocation?
    let recorder = try device.makeRecorder()
    do {
      let buffer = try device.makeBuffer(byteCount: 64)
      allocation = buffer.allocation
      try recorder.fill(buffer, with: 1)
    }
    #expect(allocation != nil)
    try device.submit(recorder).wait()
  }

  @Test("Timestamps rise, in the order in which they were recorded")
  func timestamps() async throws {
    try #require(device.capabilities.timestampPeriod > 0)
    let buffer = try device.makeBuffer(byteCount: 1 << 20)
    let recorder = try device.makeRecorder()
    for word: UInt32 in 0..<10 {
      try recorder.timestamp()
      try recorder.fill(buffer, with: word)
    }
    try recorder.timestamp()
    let submission = try device.submit(recorder)
    let times = try submission.timestamps()
    #expect(times.count == 11)
    #expect(zip(times, times.dropFirst()).allSatisfy { $0 <= $1 })
    #expect(try #require(times.last) > times[0])
    // They stay, though the command buffer has gone to other work.
    for _ in 0..<3 { try device.submit(device.makeRecorder()).wait() }
    #expect(try submission.timestamps() == times)
    // A recorder without any has none, on a command buffer that had some.
    #expect(try device.submit(device.makeRecorder()).timestamps() == [])
  }

  @Test("A recorder has room for 64 timestamps and says so")
  func tooManyTimestamps() throws {
    try #require(device.capabilities.timestampPeriod > 0)
    let recorder = try device.makeRecorder()
    for _ in 0..<64 { try recorder.timestamp() }
    let error = VulkanError.limitExceeded(
      what: "timestamps in one recorder", requested: 65, allowed: 64)
    #expect(throws: error) { try recorder.timestamp() }
    #expect(try device.submit(recorder).timestamps().count == 64)
  }

  @Test("An update's bytes arrive, in order with what is before and after it")
  func update() async throws {
    let count = 4096
    let buffer = try device.makeBuffer(byteCount: 16 + count * 4 + 16)
    let copy = try device.makeBuffer(byteCount: 16 + count * 4 + 16)
    let recorder = try device.makeRecorder()
    try recorder.fill(buffer, with: 5)
    let part = try buffer.slice(16..<16 + count * 4)
    func bytes(_ factor: UInt32) -> [UInt8] {
      (0..<UInt32(count)).map { $0 * factor }.withUnsafeBytes { Array($0) }
    }
    try recorder.update(part, with: bytes(1))
    // A dispatch reads it, and it is written again behind the dispatch.
    let target = try copy.slice(16..<16 + count * 4)
    try recorder.fill(copy, with: 6)
    try MultiplyAdd.record(from: part, to: target, on: device, into: recorder)
    try recorder.update(part, with: bytes(7))
    try recorder.update(buffer, with: [])
    // As many bytes as there are, and no more.
    try recorder.update(buffer, with: [1, 0, 0, 0])
    try await device.submit(recorder).completed()
    #expect(
      try await words(buffer) == [1, 5, 5, 5] + (0..<UInt32(count)).map { $0 * 7 } + [5, 5, 5, 5])
    #expect(
      try await words(copy) == [6, 6, 6, 6] + (0..<UInt32(count)).map { $0 * 3 } + [6, 6, 6, 6])
  }

  @Test("The largest update is taken and a larger one refused")
  func largestUpdate() async throws {
    let limit = Recorder.updateByteLimit
    let buffer = try device.makeBuffer(byteCount: limit + 4, label: "table")
    let recorder = try device.makeRecorder()
    try recorder.fill(buffer, with: 9)
    #expect(
      throws: VulkanError.limitExceeded(
        what: "bytes of an update of table", requested: limit + 4, allowed: limit)
    ) { try recorder.update(buffer, with: [UInt8](repeating: 0, count: limit + 4)) }
    try recorder.update(buffer, with: [UInt8](repeating: 1, count: limit))
    try await device.submit(recorder).completed()
    #expect(
      try await words(buffer) == [UInt32](repeating: 0x0101_0101, count: limit / 4) + [9])
  }

  @Test("Updates that do not fit are refused and change nothing")
  func wrongUpdates() async throws {
    let buffer = try await device.makeBuffer([UInt32](repeating: 3, count: 4), label: "small")
    let recorder = try device.makeRecorder()
    func refused(_ bytes: Int, _ requested: Int, of part: DeviceBuffer, available: Int) {
      #expect(
        throws: VulkanError.outOfBounds(
          what: "an update of small by 4-byte words", requestedBytes: requested,
          availableBytes: available)
      ) { try recorder.update(part, with: [UInt8](repeating: 0, count: bytes)) }
    }
    refused(20, 20, of: buffer, available: 16)
    refused(6, 8, of: buffer, available: 16)
    refused(4, 4, of: try buffer.slice(2..<16), available: 14)
    let theirs = try TestDevice.open().makeBuffer(byteCount: 16, label: "theirs")
    let error = #expect(throws: VulkanError.self) {
      try recorder.update(theirs, with: [0, 0, 0, 0])
    }
    guard case .wrongDevice = error else {
      Issue.record("another error: \(String(describing: error))")
      return
    }
    #expect(recorder.retained.isEmpty)
    try await device.submit(recorder).completed()
    #expect(try await words(buffer) == [3, 3, 3, 3])
    #expect(throws: VulkanError.alreadySubmitted) { try recorder.update(buffer, with: []) }
  }
}
