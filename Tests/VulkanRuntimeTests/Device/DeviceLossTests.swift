import CVulkan
import TestSupport
import Testing

@testable import VulkanRuntime

/// A lost device, played by functions that say so.
@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct DeviceLossTests {
  @Test("A failing submission poisons the device and nothing else")
  func lostInSubmission() async throws {
    let device = try open { calls in
      calls.vkQueueSubmit = { _, _, _, _ in VK_ERROR_DEVICE_LOST }
    }
    let healthy = try TestDevice.open()
    let buffer = try device.makeBuffer(byteCount: 64, label: "data")
    let recorder = try device.makeRecorder()
    let spare = try device.makeRecorder()
    try recorder.fill(buffer, with: 1)
    #expect(!device.isLost)
    let name = device.capabilities.name
    #expect(throws: VulkanError.deviceLost(device: name, during: "vkQueueSubmit")) {
      _ = try device.submit(recorder)
    }
    #expect(device.isLost)

    func lost(_ during: String) -> VulkanError { .deviceLost(device: name, during: during) }
    #expect(throws: lost("allocation")) { _ = try device.makeBuffer(byteCount: 8) }
    #expect(throws: lost("recording")) { _ = try device.makeRecorder() }
    #expect(throws: lost("submission")) { _ = try device.submit(spare) }
    #expect(throws: lost("pipeline creation")) {
      _ = try device.pipeline(MultiplyAdd.description())
    }
    await #expect(throws: lost("upload")) { try await device.upload([UInt8(1)], to: buffer) }
    await #expect(throws: lost("download")) {
      try await device.download(UInt8.self, from: buffer)
    }

    let other = try await healthy.makeBuffer([UInt32(7)])
    #expect(try await healthy.download(UInt32.self, from: other) == [7])
    #expect(!healthy.isLost)
  }

  @Test("A device lost while someone blocks")
  func lostInWait() throws {
    let device = try open { calls in
      calls.vkWaitSemaphores = { _, _, _ in VK_ERROR_DEVICE_LOST }
    }
    let submission = try device.submit(device.makeRecorder())
    let error = VulkanError.deviceLost(
      device: device.capabilities.name, during: "vkWaitSemaphores")
    #expect(throws: error) { try submission.wait() }
    #expect(device.isLost)
    #expect(throws: VulkanError.self) { try submission.timestamps() }
  }

  @Test("A device lost while tasks are suspended wakes all of them")
  func lostInCompletion() async throws {
    let device = try open { calls in
      // Never done, and then lost.
      calls.vkGetSemaphoreCounterValue = { _, _, value in
        value?.pointee = 0
        return VK_SUCCESS
      }
      calls.vkWaitSemaphores = { _, _, _ in VK_ERROR_DEVICE_LOST }
    }
    let submissions = try (0..<3).map { _ in try device.submit(device.makeRecorder()) }
    let errors = await withTaskGroup(of: VulkanError?.self) { group in
      for submission in submissions {
        group.addTask {
          do throws(VulkanError) {
            try await submission.completed()
            return nil
          } catch {
            return error
          }
        }
      }
      return await group.reduce(into: [VulkanError?]()) { $0.append($1) }
    }
    #expect(errors.count == 3)
    for error in errors {
      guard case .deviceLost = error else {
        Issue.record("another error: \(String(describing: error))")
        continue
      }
    }
    #expect(device.isLost)
  }

  @Test("A query of a lost device's progress is an error")
  func lostInQuery() async throws {
    let device = try open { calls in
      calls.vkGetSemaphoreCounterValue = { _, _, _ in VK_ERROR_DEVICE_LOST }
    }
    // Even the first recorder looks for finished work.
    #expect(throws: VulkanError.self) { _ = try device.makeRecorder() }
    #expect(device.isLost)
  }

  @Test("Any other failure is an error that names the call and loses nothing")
  func otherFailures() throws {
    let device = try open { calls in
      calls.vkQueueSubmit = { _, _, _, _ in VK_ERROR_UNKNOWN }
    }
    let error = VulkanError.callFailed(
      function: "vkQueueSubmit", result: VulkanResult(rawValue: VK_ERROR_UNKNOWN.rawValue))
    #expect(throws: error) { _ = try device.submit(device.makeRecorder()) }
    #expect(!device.isLost)
  }

  private func open(_ adjustCalls: (inout DeviceCalls) -> Void) throws -> ComputeDevice {
    try ComputeDevice.open(.best, options: TestDevice.options(), adjustCalls: adjustCalls)
  }
}
