import CVulkan
import Foundation
import Synchronization
import TestSupport
import Testing

@testable import VulkanRuntime

/// Devices of an app's own, made by Vulkan's C interface alone.
@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct ForeignDeviceTests {
  let raw: RawVulkan
  let name: String
  let options: ComputeDevice.Options

  init() throws {
    let known = try TestDevice.shared().capabilities
    raw = try RawVulkan(index: known.index)
    name = known.name
    var options = ComputeDevice.Options()
    options.pipelineCacheDirectory = nil
    self.options = options
  }

  private func open(
    _ change: (inout ForeignDevice) -> Void = { _ in }
  ) throws -> ComputeDevice {
    var foreign = raw.foreign()
    change(&foreign)
    return try ComputeDevice(adopting: foreign, options: options)
  }

  /// Holds what the validation layers of the app's own instance said against nothing.
  private func expectSilence(sourceLocation: SourceLocation = #_sourceLocation) {
    #expect(RawVulkan.drainMessages() == [], sourceLocation: sourceLocation)
  }

  @Test("Kernels run on an app's device, which lives on")
  func runsAndLeavesAlone() async throws {
    let releases = Atomic(0)
    do {
      let device = try open { $0.released = { releases.add(1, ordering: .relaxed) } }
      #expect(device.capabilities.features.isSuperset(of: DeviceCapabilities.requiredFeatures))
      let source = try await device.makeBuffer([UInt32](0..<1000))
      let target = try device.makeBuffer(byteCount: 4000)
      let recorder = try device.makeRecorder()
      try MultiplyAdd.record(from: source, to: target, on: device, into: recorder)
      try await device.submit(recorder).completed()
      #expect(
        try await device.download(UInt32.self, from: target) == (0..<1000).map { $0 * 3 })
      #expect(releases.load(ordering: .relaxed) == 0)
    }
    #expect(releases.load(ordering: .relaxed) == 1)
    let buffer = try raw.makeBuffer(byteCount: 64)
    try raw.fill(buffer, with: 0x0102_0304)
    #expect(buffer.mapped.loadUnaligned(fromByteOffset: 60, as: UInt32.self) == 0x0102_0304)
    try raw.destroy(buffer)
    // And it can be adopted again.
    let again = try open()
    try again.submit(again.makeRecorder()).wait()
    expectSilence()
  }

  @Test("Work in flight is done before the handles are said to be free")
  func releasedBehindTheWork() throws {
    let word = Mutex<UInt32?>(nil)
    let target = try raw.makeBuffer(byteCount: 8192, filledWith: 0xFF)
    do {
      var foreign = raw.foreign()
      let address = UInt(bitPattern: target.mapped)
      foreign.released = {
        // What the device has written by now.
        let bytes = UnsafeRawPointer(bitPattern: address)
        word.withLock { $0 = bytes?.loadUnaligned(as: UInt32.self) }
      }
      let device = try ComputeDevice(adopting: foreign, options: options)
      let buffer = try device.adopt(
        ForeignBuffer(
          target.handle, bufferByteCount: target.byteCount, usage: target.usage, byteCount: 64))
      _ = try MultiplyAdd.submitSlow(to: buffer, share: 0.3, on: device)
      let recorder = try device.makeRecorder()
      try recorder.fill(buffer, with: 77)
      _ = try device.submit(recorder)
    }
    #expect(word.withLock { $0 } == 77)
    try raw.destroy(target)
    expectSilence()
  }

  @Test("What the app did not enable is not used")
  func featuresAreThoseTold() throws {
    let capabilities = try open().capabilities
    #expect(!capabilities.has(.float16))
    #expect(!capabilities.has(.coopmat))
    #expect(capabilities.matrixShapes == [])
    let known = try TestDevice.shared().capabilities
    #expect(capabilities.has(.subgroupVote) == known.has(.subgroupVote))
    #expect(capabilities.deviceUUID == known.deviceUUID)
  }

  @Test(
    "Null handles are refused by name",
    arguments: ["VkInstance", "VkPhysicalDevice", "VkDevice", "VkQueue"])
  func nullHandles(what: String) {
    let error = VulkanError.notAdoptable(what: "the \(what)", reason: "the handle is null")
    #expect(throws: error) {
      try open { foreign in
        switch what {
        case "VkInstance": foreign.instance = nil
        case "VkPhysicalDevice": foreign.physicalDevice = nil
        case "VkDevice": foreign.device = nil
        default: foreign.queue = nil
        }
      }
    }
  }

  @Test("A physical device of another instance is refused")
  func otherInstance() throws {
    let other = try RawVulkan(index: TestDevice.shared().capabilities.index)
    let error = VulkanError.notAdoptable(
      what: "the VkPhysicalDevice", reason: "it is not among those of the VkInstance")
    #expect(throws: error) { try open { $0.physicalDevice = other.physicalDevice } }
  }

  @Test(
    "A needed feature that the app did not enable is named",
    arguments: DeviceCapabilities.requiredFeatures)
  func missingFeature(feature: DeviceCapabilities.Feature) {
    let error = VulkanError.missingFeatures(device: name, features: [feature.rawValue])
    #expect(throws: error) { try open { $0.enabledFeatures.remove(feature) } }
  }

  @Test("Features and extensions that do not go together are named")
  func impossibleFeatures() throws {
    func missing(_ features: String...) -> VulkanError {
      .missingFeatures(device: name, features: features)
    }
    #expect(throws: missing("VK_EXT_none", "VK_KHR_none")) {
      try open { $0.enabledExtensions = ["VK_KHR_none", "VK_EXT_none"] }
    }
    #expect(throws: missing("Vulkan 1.2")) { try open { $0.apiVersion = 1 << 22 | 1 << 12 } }
    let known = try TestDevice.shared().capabilities
    if known.has(.coopmat) {
      #expect(throws: missing("VK_KHR_cooperative_matrix for coopmat")) {
        try open { $0.enabledFeatures.insert(.coopmat) }
      }
    } else {
      #expect(throws: missing("coopmat", "VK_KHR_cooperative_matrix for coopmat")) {
        try open { $0.enabledFeatures.insert(.coopmat) }
      }
    }
    if known.has(.coopmat2Reductions) {
      let feature = DeviceCapabilities.Feature.coopmat2Reductions
      #expect(
        throws: missing(
          "VK_NV_cooperative_matrix2 for coopmat2Reductions", "coopmat for coopmat2Reductions",
          "Vulkan 1.3 for coopmat2Reductions")
      ) {
        try open {
          $0.enabledFeatures.insert(feature)
          $0.apiVersion = 1 << 22 | 2 << 12
        }
      }
    }
    if known.has(.subgroupSizeControl) {
      #expect(throws: missing("VK_EXT_subgroup_size_control for subgroupSizeControl")) {
        try open { $0.enabledFeatures.insert(.subgroupSizeControl) }
      }
    }
  }

  @Test("A queue family that is none is refused")
  func queueFamily() throws {
    let error = #expect(throws: VulkanError.self) { try open { $0.queueFamilyIndex = 4711 } }
    guard case .limitExceeded("the queue family's index", 4711, _) = error else {
      Issue.record("another error: \(String(describing: error))")
      return
    }
  }

  @Test("Validation layers are the business of the instance's owner")
  func validationLog() {
    var options = options
    options.validationLog = ValidationLog()
    let error = #expect(throws: VulkanError.self) {
      try ComputeDevice(adopting: raw.foreign(), options: options)
    }
    guard case .notAdoptable("the VkInstance", _) = error else {
      Issue.record("another error: \(String(describing: error))")
      return
    }
  }

  @Test("The app's own function finds the others")
  func ownLoader() throws {
    let device = try open { $0.getInstanceProcAddress = raw.getInstanceProcAddress }
    try device.submit(device.makeRecorder()).wait()
    expectSilence()
  }

  @Test("Every submission goes by the app's lock, and no other call")
  func queueAccess() async throws {
    let calls = Atomic(0)
    let device = try open {
      $0.queueAccess = { body in
        calls.add(1, ordering: .relaxed)
        body()
      }
    }
    let buffer = try await device.makeBuffer([UInt32](repeating: 1, count: 16))
    let before = calls.load(ordering: .relaxed)
    for _ in 0..<5 {
      let recorder = try device.makeRecorder()
      try recorder.fill(buffer, with: 2)
      try await device.submit(recorder).completed()
    }
    #expect(calls.load(ordering: .relaxed) == before + 5)
    expectSilence()
  }

  @Test("An access that calls nothing is an error, one that calls twice submits once")
  func wrongQueueAccess() async throws {
    let silent = try open { $0.queueAccess = { _ in } }
    let error = #expect(throws: VulkanError.self) {
      try silent.submit(silent.makeRecorder())
    }
    guard case .notAdoptable("the queue", _) = error else {
      Issue.record("another error: \(String(describing: error))")
      return
    }
    let eager = try open {
      $0.queueAccess = { body in
        body()
        body()
      }
    }
    // Words that count how often they went through the shader.
    let buffer = try await eager.makeBuffer([UInt32](repeating: 1, count: 16))
    let recorder = try eager.makeRecorder()
    try MultiplyAdd.record(from: buffer, to: buffer, on: eager, into: recorder)
    try await eager.submit(recorder).completed()
    #expect(
      try await eager.download(UInt32.self, from: buffer) == [UInt32](repeating: 3, count: 16))
    expectSilence()
  }

  @Test("Two devices share an app's queue under its lock")
  func sharedQueue() async throws {
    final class Gate: Sendable {
      private let lock = Mutex(())
      let inside = Atomic(0)
      let most = Atomic(0)

      func pass(_ body: () -> Void) {
        lock.withLock { _ in
          let count = inside.add(1, ordering: .relaxed).newValue
          most.max(count, ordering: .relaxed)
          body()
          inside.subtract(1, ordering: .relaxed)
        }
      }
    }
    let gate = Gate()
    let devices = try (0..<2).map { _ in
      try open { $0.queueAccess = { gate.pass($0) } }
    }
    try await withThrowingTaskGroup(of: Void.self) { group in
      for (task, device) in (devices + devices).enumerated() {
        group.addTask {
          let buffer = try device.makeBuffer(byteCount: 256)
          for round in 0..<20 {
            let recorder = try device.makeRecorder()
            try recorder.fill(buffer, with: UInt32(task * 100 + round))
            try await device.submit(recorder).completed()
            #expect(
              try await device.download(UInt32.self, from: buffer)
                == [UInt32](repeating: UInt32(task * 100 + round), count: 64))
          }
        }
      }
      try await group.waitForAll()
    }
    #expect(gate.most.load(ordering: .relaxed) == 1)
    expectSilence()
  }

  @Test("Streams take an app's further queues in turn, each queue once")
  func streamQueues() throws {
    // Handles that are never submitted to.
    let further = [4096, 8192].compactMap { OpaquePointer(bitPattern: $0) }
    let device = try open { $0.streamQueues = [raw.queue] + further + further }
    #expect(device.queueCount == 3)
    let queues = device.logical.queues
    let streams = try (0..<4).map { _ in try device.makeStream() }
    for (stream, queue) in zip(streams, [1, 2, 0, 1]) {
      #expect(stream.queue.deviceQueue === queues[queue])
    }
    #expect(device.queue?.deviceQueue === queues[0])
    // The third is on the queue that there is.
    try streams[2].submit(device.makeRecorder()).wait()
    expectSilence()
  }

  @Test("Work waits for a point on an app's timeline, and the app for work")
  func timelinePoints() async throws {
    let semaphore = try raw.makeTimeline()
    do {
      let device = try open()
      let stream = try device.makeStream()
      let buffer = try await device.makeBuffer([UInt32](repeating: 1, count: 64))
      let point = TimelinePoint(semaphore: semaphore, value: 5)
      let recorder = try device.makeRecorder()
      try recorder.fill(buffer, with: 7)
      let submission = try stream.submit(recorder, reaching: [point])
      try raw.signal(TimelinePoint(semaphore: semaphore, value: 4))
      #expect(throws: VulkanError.timedOut(seconds: 0.05)) { try submission.wait(timeout: 0.05) }
      #expect(try await device.download(UInt32.self, from: buffer)[0] == 1)
      try raw.signal(point)
      try raw.wait(for: submission.timelinePoint)
      #expect(try submission.isComplete)
      #expect(try await device.download(UInt32.self, from: buffer)[0] == 7)
      // The device's own order takes points as well.
      try device.submit(device.makeRecorder(), after: [submission], reaching: [point]).wait()
    }
    try raw.destroy(timeline: semaphore)
    expectSilence()
  }

  @Test(
    "A stream that waits for an app's point is dropped at once, and its work is done when the point is reached"
  )
  func droppedBeforeThePoint() throws {
    let semaphore = try raw.makeTimeline()
    let target = try raw.makeBuffer(byteCount: 8192, filledWith: 0xFF)
    let point = TimelinePoint(semaphore: semaphore, value: 1)
    let flag = ReleaseFlag()
    let word = { target.mapped.loadUnaligned(as: UInt32.self) }
    do {
      var foreign = raw.foreign()
      foreign.released = { flag.set() }
      let device = try ComputeDevice(adopting: foreign, options: options)
      let buffer = try device.adopt(
        ForeignBuffer(
          target.handle, bufferByteCount: target.byteCount, usage: target.usage, byteCount: 64))
      let recorder = try device.makeRecorder()
      try recorder.fill(buffer, with: 77)
      try device.makeStream().submit(recorder, reaching: [point])
    }
    #expect(!flag.isSet && word() == 0xFFFF_FFFF)
    try raw.signal(point)
    while !flag.isSet { usleep(200) }
    #expect(word() == 77)
    try raw.destroy(target)
    try raw.destroy(timeline: semaphore)
    expectSilence()
  }

  @Test("Where a device is not adopted, its end is not told")
  func failedAdoption() throws {
    let flag = ReleaseFlag()
    var foreign = raw.foreign()
    foreign.released = { flag.set() }
    #expect(throws: VulkanError.self) {
      _ = try ComputeDevice(adopting: foreign, options: options) { calls in
        calls.vkCreateSemaphore = { _, _, _, _ in VK_ERROR_OUT_OF_HOST_MEMORY }
      }
    }
    #expect(!flag.isSet)
  }
}

/// Whether an app was told that its handles are free.
private final class ReleaseFlag: Sendable {
  private let value = Atomic(false)

  var isSet: Bool { value.load(ordering: .acquiring) }

  func set() { value.store(true, ordering: .releasing) }
}
