import Foundation
import Logging
import ShaderLibrary
import Synchronization
import TestSupport
import Testing

@testable import VulkanRuntime

@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct ComputePipelineTests {
  @Test("The same description is the same pipeline, whoever asks first")
  func shared() async throws {
    let device = try TestDevice.open()
    let pipelines = try await withThrowingTaskGroup(of: ComputePipeline.self) { group in
      for _ in 0..<8 { group.addTask { try device.pipeline(MultiplyAdd.description()) } }
      return try await group.reduce(into: []) { $0.append($1) }
    }
    #expect(pipelines.count == 8)
    #expect(Set(pipelines.map { ObjectIdentifier($0) }).count == 1)
    let other = try device.pipeline(MultiplyAdd.description(factor: 5))
    #expect(other !== pipelines[0])
    #expect(other.name == "multiply_add" && other.pushConstantByteCount == 24)
  }

  @Test func unknownConstantIsRefused() throws {
    let description = PipelineDescription(shader: MultiplyAdd.shader, constants: ["FACTORS": 1])
    let error = VulkanError.shaderMismatch(
      name: "multiply_add", reason: "it has no specialization constant FACTORS")
    #expect(throws: error) { try TestDevice.shared().pipeline(description) }
  }

  @Test("A shader that was left out of the build says why")
  func leftOut() throws {
    let shader = MultiplyAdd.makeShader(
      content: .missing(extensions: ["GL_FOO"], compiler: "glslc 1"))
    let error = #expect(throws: VulkanError.self) {
      try TestDevice.shared().pipeline(PipelineDescription(shader: shader))
    }
    guard case .shaderUnavailable("multiply_add", let reason) = error else {
      Issue.record("another error: \(String(describing: error))")
      return
    }
    #expect(reason.contains("GL_FOO") && reason.contains("glslc 1"))
  }

  @Test func damagedShaderIsRefused() throws {
    let shader = MultiplyAdd.makeShader(content: .compiled(base64: "QUJDRA=="))
    let error = #expect(throws: VulkanError.self) {
      try TestDevice.shared().pipeline(PipelineDescription(shader: shader))
    }
    guard case .shaderUnavailable = error else {
      Issue.record("another error: \(String(describing: error))")
      return
    }
  }

  @Test func tooManyPushConstantsAreRefused() throws {
    let device = try TestDevice.open()
    let allowed = device.capabilities.maxPushConstantBytes
    let shader = MultiplyAdd.makeShader(pushConstantByteCount: allowed + 4)
    let error = VulkanError.limitExceeded(
      what: "bytes of push constants in multiply_add", requested: allowed + 4, allowed: allowed)
    #expect(throws: error) { try device.pipeline(PipelineDescription(shader: shader)) }
    // A failure is not remembered: the right shader of the same name and hash still works.
    _ = try device.pipeline(MultiplyAdd.description())
  }

  @Test("Constants are numbered by the shader's ids")
  func numberedConstants() throws {
    let numbered = try MultiplyAdd.description(factor: 9).numberedConstants()
    #expect(numbered.map(\.id) == [0, 1])
    #expect(numbered.map(\.bits) == [UInt32(MultiplyAdd.workgroupSize), 9])
  }
}

/// Pipelines on disk, with a real driver's data.
@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct PipelineStoreTests {
  private let folder: TemporaryFolder

  init() throws {
    folder = try TemporaryFolder()
  }

  private func open(_ directory: String, log: LogCapture? = nil) throws -> ComputeDevice {
    var options = TestDevice.options()
    options.pipelineCacheDirectory = directory
    if let log { options.logger = log.logger }
    return try ComputeDevice.open(options: options)
  }

  private func file(_ device: ComputeDevice) -> PipelineCacheFile {
    PipelineCacheFile(directory: folder.path, capabilities: device.capabilities)
  }

  @Test("Pipelines are written on request and when the device is closed")
  func written() throws {
    var device: ComputeDevice? = try open(folder.path)
    let file = file(try #require(device))
    // Nothing new, nothing written.
    try device?.savePipelines()
    #expect(file.read() == .absent)
    _ = try device?.pipeline(MultiplyAdd.description())
    try device?.savePipelines()
    guard case .valid(let first) = file.read() else {
      Issue.record("nothing was written: \(file.read())")
      return
    }
    #expect(first.count >= 32)
    // What the file holds already is not written again.
    _ = try device?.pipeline(MultiplyAdd.description())
    try FileManager.default.removeItem(atPath: file.path)
    try device?.savePipelines()
    #expect(file.read() == .absent)
    device = nil

    let closed = folder.path + "/closed"
    var second: ComputeDevice? = try open(closed)
    let closedFile = PipelineCacheFile(
      directory: closed, capabilities: try #require(second).capabilities)
    _ = try second?.pipeline(MultiplyAdd.description())
    second = nil
    guard case .valid = closedFile.read() else {
      Issue.record("closing wrote nothing: \(closedFile.read())")
      return
    }
    // And is taken up again.
    let again = try open(closed)
    _ = try again.pipeline(MultiplyAdd.description())
  }

  @Test("What the device lacks is refused before the driver sees it")
  func limits() throws {
    let device = try open(folder.path)
    let capabilities = device.capabilities
    let tooLarge = capabilities.maxSubgroupSize * 2
    #expect(throws: VulkanError.self) {
      try device.pipeline(
        PipelineDescription(shader: MultiplyAdd.description().shader, subgroupSize: tooLarge))
    }
    #expect(throws: VulkanError.self) {
      try device.pipeline(
        PipelineDescription(shader: MultiplyAdd.description().shader, subgroupSize: -8))
    }
    var veto = capabilities
    veto.features.remove(.coopmat)
    let matrix = ShaderBinary(
      name: "matrix", path: "", content: .compiled(base64: ""),
      capabilities: ["Shader", "CooperativeMatrixKHR"])
    #expect(veto.missingFeatures(for: matrix) == [.coopmat])
  }

  @Test("A damaged file is ignored, reported and replaced")
  func damaged() throws {
    let log = LogCapture()
    let device = try open(folder.path)
    let file = file(device)
    _ = try device.pipeline(MultiplyAdd.description())
    try device.savePipelines()
    var bytes = try Data(contentsOf: URL(filePath: file.path))
    bytes[bytes.count - 1] ^= 1
    try bytes.write(to: URL(filePath: file.path))

    let second = try open(folder.path, log: log)
    #expect(log.warnings.contains { $0.contains(file.path) && $0.contains("checksum") })
    _ = try second.pipeline(MultiplyAdd.description())
    try second.savePipelines()
    guard case .valid = file.read() else {
      Issue.record("it was not replaced: \(file.read())")
      return
    }
  }

  @Test("A folder that cannot be written is an error of saving and of nothing else")
  func unwritable() async throws {
    let obstacle = folder.path + "/obstacle"
    try Data([1]).write(to: URL(filePath: obstacle))
    let log = LogCapture()
    var device: ComputeDevice? = try open(obstacle + "/cache", log: log)
    let buffer = try #require(try await device?.makeBuffer([UInt32(4)]))
    let recorder = try #require(try device?.makeRecorder())
    if let device {
      try MultiplyAdd.record(from: buffer, to: buffer, on: device, into: recorder)
    }
    try await device?.submit(recorder).completed()
    #expect(try await device?.download(UInt32.self, from: buffer) == [12])
    // Asked twice, refused twice: what was not written is still to be written.
    for _ in 0..<2 {
      let error = #expect(throws: VulkanError.self) { try device?.savePipelines() }
      guard case .cacheNotWritable(let path, _) = error else {
        Issue.record("another error: \(String(describing: error))")
        return
      }
      #expect(path == obstacle + "/cache")
    }
    #expect(log.warnings.isEmpty)
    device = nil
    #expect(log.warnings.contains { $0.contains(obstacle) })
  }
}

/// Keeps what is logged.
private final class LogCapture: Sendable {
  private let storage = Mutex<[String]>([])

  var warnings: [String] { storage.withLock { $0 } }

  var logger: Logger { Logger(label: "test") { _ in Handler(capture: self) } }

  private struct Handler: LogHandler {
    let capture: LogCapture
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.warning

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
      get { metadata[key] }
      set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
      capture.storage.withLock { $0.append("\(event.message)") }
    }
  }
}
