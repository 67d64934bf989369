import TestSupport
import Testing

@testable import VulkanRuntime

/// Copies between host and device, direct and through staging buffers.
@Suite(
  .serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct TransferTests {
  private func open(forcesStaging: Bool) throws -> ComputeDevice {
    var options = TestDevice.options()
    options.forcesStaging = forcesStaging
    return try ComputeDevice.open(options: options)
  }

  private static let piece = ComputeDevice.stagingByteCount / 8

  @Test(
    "What goes up comes down",
    arguments: [0, 1, 1000, piece - 1, piece, piece + 1, 3 * piece + 5], [false, true])
  func roundTrip(count: Int, forcesStaging: Bool) async throws {
    let device = try open(forcesStaging: forcesStaging)
    // A block of random numbers again and again, of a length that no staging buffer is a multiple of.
    var random = SplitMix64(seed: UInt64(count))
    let block = (0..<997).map { _ in random.next() }
    var numbers: [UInt64] = []
    numbers.reserveCapacity(count)
    while numbers.count < count { numbers += block.prefix(count - numbers.count) }
    let buffer = try await device.makeBuffer(numbers)
    #expect(buffer.byteCount == count * 8)
    #expect(!(forcesStaging && buffer.isHostVisible))
    expectSameBits(try await device.download(UInt64.self, from: buffer), numbers, "round trip")
  }

  @Test("Odd sizes and offsets", arguments: [false, true])
  func oddSizes(forcesStaging: Bool) async throws {
    let device = try open(forcesStaging: forcesStaging)
    let whole = try await device.makeBuffer([UInt8](repeating: 9, count: 20))
    try await device.upload([1, 2, 3] as [UInt8], to: whole.slice(5..<10))
    #expect(
      try await device.download(UInt8.self, from: whole)
        == [9, 9, 9, 9, 9, 1, 2, 3, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9])
    // As many whole elements as there are.
    #expect(try await device.download(UInt64.self, from: whole).count == 2)
    #expect(try await device.download(UInt64.self, from: whole.slice(0..<7)).isEmpty)
  }

  @Test("An upload that is too large is refused and writes nothing", arguments: [false, true])
  func tooLarge(forcesStaging: Bool) async throws {
    let device = try open(forcesStaging: forcesStaging)
    let buffer = try device.makeBuffer(byteCount: 7, label: "small")
    let error = VulkanError.outOfBounds(
      what: "an upload to small", requestedBytes: 8, availableBytes: 7)
    await #expect(throws: error) { try await device.upload([UInt32(1), 2], to: buffer) }
  }

  @Test("Tasks transfer at the same time", arguments: [false, true])
  func concurrentTransfers(forcesStaging: Bool) async throws {
    let device = try open(forcesStaging: forcesStaging)
    try await withThrowingTaskGroup(of: Void.self) { group in
      for task in 0..<8 {
        group.addTask {
          for round in 0..<10 {
            let numbers = [Int](repeating: task * 100 + round, count: 1000 + round)
            let buffer = try await device.makeBuffer(numbers)
            #expect(try await device.download(Int.self, from: buffer) == numbers)
          }
        }
      }
      try await group.waitForAll()
    }
  }

  @Test("A download sees what submitted work left", arguments: [false, true])
  func downloadAfterWork(forcesStaging: Bool) async throws {
    let device = try open(forcesStaging: forcesStaging)
    let buffer = try device.makeBuffer(byteCount: 1024)
    let recorder = try device.makeRecorder()
    try recorder.fill(buffer, with: 2)
    try MultiplyAdd.record(from: buffer, to: buffer, on: device, into: recorder)
    try await device.submit(recorder).completed()
    #expect(
      try await device.download(UInt32.self, from: buffer) == [UInt32](repeating: 6, count: 256))
  }
}
