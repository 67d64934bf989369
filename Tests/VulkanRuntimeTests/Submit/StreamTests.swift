import TestSupport
import Testing

@testable import VulkanRuntime

/// Two streams of work: two devices over one physical device, each with a queue of its own.
@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct StreamTests {
  @Test("Work of one stream is done while the other's still runs")
  func streamsRunAtTheSameTime() async throws {
    let streams = try (0..<2).map { _ in try TestDevice.open() }
    let long = try streams[0].makeBuffer(byteCount: 64)
    let slow = try MultiplyAdd.submitSlow(to: long, share: 2, on: streams[0])
    for round: UInt32 in 0..<3 {
      let buffer = try await streams[1].makeBuffer([UInt32](repeating: round, count: 16))
      let recorder = try streams[1].makeRecorder()
      try MultiplyAdd.record(from: buffer, to: buffer, on: streams[1], into: recorder)
      try await streams[1].submit(recorder).completed()
      #expect(
        try await streams[1].download(UInt32.self, from: buffer)
          == [UInt32](repeating: 3 * round, count: 16))
    }
    #expect(try !slow.isComplete)
    try await slow.completed()
    #expect(try slow.isComplete)
  }

  @Test("A wait in one stream can be cancelled while the other is waited for")
  func cancelsOneStream() async throws {
    let streams = try (0..<2).map { _ in try TestDevice.open() }
    let submissions = try streams.map { device in
      try MultiplyAdd.submitSlow(to: device.makeBuffer(byteCount: 64), share: 1, on: device)
    }
    let (first, second) = (submissions[0], submissions[1])
    let hasty = Task { try await first.completed() }
    let patient = Task { try await second.completed() }
    hasty.cancel()
    await #expect(throws: VulkanError.cancelled) { try await hasty.value }
    try await patient.value
    #expect(try second.isComplete)
    try await first.completed()
  }
}
