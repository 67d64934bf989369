import CVulkan
import TestSupport
import Testing

@testable import VulkanRuntime

/// Proof that the silence of the validation layers in all other suites means something.
@Suite(.serialized, .timeLimit(.minutes(10)), .needsValidation)
struct ValidationLogTests {
  @Test("A wrong call is heard")
  func wrongCall() throws {
    let (device, log) = try makeDevice()
    let buffer = try device.makeBuffer(byteCount: 64)
    let recorder = try device.makeRecorder()
    let commands = try #require(recorder.slot).commands
    #expect(log.messages.isEmpty)
    // An offset must be a multiple of 4; the recorder's own `fill` refuses this.
    device.logical.calls.vkCmdFillBuffer(commands, buffer.handle, 2, 8, 0)
    let message = try #require(log.messages.first)
    #expect(message.isError)
    #expect(message.identifier.contains("VUID-vkCmdFillBuffer-dstOffset"))
    #expect(message.text.contains("dstOffset"))
    #expect(log.drain().count == 1)
    #expect(log.messages.isEmpty)
  }

  @Test("A missing barrier is heard")
  func missingBarrier() throws {
    let (device, log) = try makeDevice()
    let buffer = try device.makeBuffer(byteCount: 64)
    let recorder = try device.makeRecorder()
    let commands = try #require(recorder.slot).commands
    let offset = UInt64(buffer.offsetInBlock)
    // Two writes with nothing in between; the recorder's own `fill` puts a barrier there.
    for word: UInt32 in [1, 2] {
      device.logical.calls.vkCmdFillBuffer(commands, buffer.handle, offset, 64, word)
    }
    #expect(log.drain().contains { $0.identifier.contains("WRITE-AFTER-WRITE") })
  }

  private func makeDevice() throws -> (ComputeDevice, ValidationLog) {
    let log = ValidationLog()
    var options = ComputeDevice.Options()
    options.validationLog = log
    options.pipelineCacheDirectory = nil
    return (try ComputeDevice.open(options: options), log)
  }
}
