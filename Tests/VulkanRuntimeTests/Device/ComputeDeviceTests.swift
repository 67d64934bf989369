import TestSupport
import Testing

@testable import VulkanRuntime

@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct ComputeDeviceTests {
  @Test("A device can be opened by each way of naming it")
  func opensByEveryName() throws {
    let known = try TestDevice.shared().capabilities
    for text in ["best", "\(known.index)", known.name, known.deviceUUID] {
      let device = try ComputeDevice.open(
        DeviceSelection(text), options: TestDevice.options())
      #expect(device.capabilities.deviceUUID == known.deviceUUID)
      #expect(!device.isLost)
      #expect(device.reservedByteCount == 0)
    }
  }

  @Test("A device that is not there is an error")
  func unknownDevice() {
    let error = #expect(throws: VulkanError.self) {
      try ComputeDevice.open(.name("no such device"), options: TestDevice.options())
    }
    guard case .noDevice(let requested, let available) = error else {
      Issue.record("another error: \(String(describing: error))")
      return
    }
    #expect(requested.contains("no such device") && !available.isEmpty)
  }

  @Test(
    "A device without a needed feature is refused by name",
    arguments: DeviceCapabilities.requiredFeatures)
  func missingFeature(feature: DeviceCapabilities.Feature) throws {
    let instance = try VulkanInstance()
    var capabilities = try DeviceSelection.best.choose(from: instance.devices())
    capabilities.features.remove(feature)
    let error = VulkanError.missingFeatures(
      device: capabilities.name, features: [feature.rawValue])
    #expect(throws: error) { try makeLogical(instance, capabilities) }
  }

  @Test(
    "A device opens without any optional feature",
    arguments: DeviceCapabilities.Feature.allCases.filter {
      !DeviceCapabilities.requiredFeatures.contains($0)
    })
  func withoutOptionalFeature(feature: DeviceCapabilities.Feature) throws {
    let options = TestDevice.options()
    let instance = try VulkanInstance(validationLog: options.validationLog)
    var capabilities = try DeviceSelection.best.choose(from: instance.devices())
    capabilities.features.remove(feature)
    _ = try makeLogical(instance, capabilities)
  }

  @Test("A device goes while its buffers, pipelines and work are still held")
  func outlivedByItsParts() async throws {
    var device: ComputeDevice? = try TestDevice.open()
    var buffer: DeviceBuffer?
    var pipeline: ComputePipeline?
    var submission: Submission?
    if let device {
      let made = try device.makeBuffer(byteCount: 64)
      buffer = made
      pipeline = try device.pipeline(MultiplyAdd.description())
      submission = try MultiplyAdd.submitSlow(to: made, share: 0.3, on: device)
      let recorder = try device.makeRecorder()
      try recorder.fill(made, with: 77)
      submission = try device.submit(recorder)
    }
    device = nil
    try await submission?.completed()
    if let words = buffer?.withHostBytes({ Set($0.bindMemory(to: UInt32.self)) }) {
      #expect(words == [77])
    }
    submission = nil
    buffer = nil
    #expect(pipeline?.name == "multiply_add")
    pipeline = nil
  }

  @Test("A device goes while work is in flight and no one waits for it")
  func closedInFlight() throws {
    let device = try TestDevice.open()
    let buffer = try device.makeBuffer(byteCount: 64)
    _ = try MultiplyAdd.submitSlow(to: buffer, share: 0.5, on: device)
  }

  private func makeLogical(
    _ instance: VulkanInstance, _ capabilities: DeviceCapabilities
  ) throws -> LogicalDevice {
    try LogicalDevice(
      instance: instance, physical: instance.physicalDevices()[capabilities.index],
      capabilities: capabilities, queueLimit: 1
    ) { _ in }
  }
}

/// Two devices side by side: nothing of one works with the other.
@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct WrongDeviceTests {
  let one: ComputeDevice
  let other: ComputeDevice

  init() throws {
    one = try TestDevice.open()
    other = try TestDevice.open()
  }

  private func expectRefused(
    _ what: String, sourceLocation: SourceLocation = #_sourceLocation, _ body: () throws -> Void
  ) {
    let error = VulkanError.wrongDevice(
      what: what, expected: one.capabilities.name, actual: other.capabilities.name)
    #expect(throws: error, sourceLocation: sourceLocation, performing: body)
  }

  @Test func buffers() throws {
    let mine = try one.makeBuffer(byteCount: 64, label: "mine")
    let theirs = try other.makeBuffer(byteCount: 64, label: "theirs")
    let recorder = try one.makeRecorder()
    expectRefused("buffer theirs") { try recorder.fill(theirs, with: 0) }
    expectRefused("buffer theirs") { try recorder.copy(from: theirs, to: mine) }
    expectRefused("buffer theirs") { try recorder.copy(from: mine, to: theirs) }
    expectRefused("buffer theirs") {
      try MultiplyAdd.record(from: theirs, to: mine, on: one, into: recorder)
    }
    // What was refused has left the recorder usable.
    try recorder.fill(mine, with: 5)
    try one.submit(recorder).wait()
  }

  @Test func pipelines() throws {
    let mine = try one.makeBuffer(byteCount: 64)
    let recorder = try one.makeRecorder()
    expectRefused("pipeline multiply_add") {
      try MultiplyAdd.record(from: mine, to: mine, on: other, into: recorder)
    }
  }

  @Test func recorders() throws {
    let recorder = try other.makeRecorder()
    expectRefused("recorder") { _ = try one.submit(recorder) }
    // It still works where it belongs.
    try other.submit(recorder).wait()
  }

  @Test(
    "A transfer to another device's buffer is refused, staged or not", arguments: [false, true])
  func transfers(forcesStaging: Bool) async throws {
    var options = TestDevice.options()
    options.forcesStaging = forcesStaging
    let device = try ComputeDevice.open(options: options)
    let theirs = try device.makeBuffer(byteCount: 16, label: "theirs")
    let error = VulkanError.wrongDevice(
      what: "buffer theirs", expected: one.capabilities.name, actual: one.capabilities.name)
    await #expect(throws: error) { try await one.upload([UInt32(1)], to: theirs) }
    await #expect(throws: error) { try await one.download(UInt32.self, from: theirs) }
  }
}
