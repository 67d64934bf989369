import TestSupport
import Testing

@testable import VulkanAttention
@testable import VulkanRuntime

/// Buffers that do not fit a request are refused before anything is recorded.
@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct AttentionBuffersTests {
  let device: ComputeDevice
  let request: AttentionRequest
  let kernel: AttentionKernel
  let good: AttentionBuffers

  init() throws {
    device = try TestDevice.shared()
    request = try AttentionRequest(
      queryTokens: 4, keyTokens: 6, queryHeads: 2, headSize: 8, valueHeadSize: 16,
      returnsLogSumExp: true)
    kernel = try AttentionKernel(request, on: device)
    good = AttentionBuffers(
      query: try device.makeBuffer(byteCount: 256, label: "q"),
      key: try device.makeBuffer(byteCount: 384, label: "k"),
      value: try device.makeBuffer(byteCount: 768, label: "v"),
      output: try device.makeBuffer(byteCount: 512, label: "o"),
      logSumExp: try device.makeBuffer(byteCount: 32, label: "lse"))
  }

  private func expectRefused(
    _ expected: AttentionError, sourceLocation: SourceLocation = #_sourceLocation,
    _ change: (inout AttentionBuffers) throws -> Void
  ) async throws {
    var buffers = good
    try change(&buffers)
    let recorder = try device.makeRecorder()
    #expect(throws: expected, sourceLocation: sourceLocation) {
      try kernel.record(buffers, into: recorder)
    }
    await #expect(throws: expected, sourceLocation: sourceLocation) {
      try await kernel.run(buffers)
    }
    // Nothing was appended: the recorder holds nothing.
    #expect(recorder.retained.isEmpty, sourceLocation: sourceLocation)
  }

  @Test func fittingBuffersAreTaken() async throws {
    try await kernel.run(good)
    // Larger is fine, and so is a slice at a multiple of 16 bytes.
    var buffers = good
    let large = try device.makeBuffer(byteCount: 4096)
    buffers.query = large
    buffers.output = try device.makeBuffer(byteCount: 4096).slice(16..<2048)
    try await kernel.run(buffers)
  }

  @Test(arguments: AttentionRequest.Tensor.allCases)
  func tooSmall(tensor: AttentionRequest.Tensor) async throws {
    let required = request.byteCount(of: tensor)
    let small = try device.makeBuffer(byteCount: required - 1)
    try await expectRefused(
      .bufferTooSmall(
        tensor: tensor.rawValue, requiredBytes: required, availableBytes: required - 1)
    ) { $0.set(tensor, small) }
  }

  @Test func tooSmallLogSumExp() async throws {
    try await expectRefused(
      .bufferTooSmall(tensor: "logSumExp", requiredBytes: 32, availableBytes: 31)
    ) { $0.logSumExp = try good.logSumExp?.slice(0..<31) }
  }

  @Test(arguments: AttentionRequest.Tensor.allCases, [1, 4, 8])
  func misaligned(tensor: AttentionRequest.Tensor, offset: Int) async throws {
    let whole = try device.makeBuffer(byteCount: 2048)
    let slice = try whole.slice(offset..<1024)
    try await expectRefused(
      .misaligned(tensor: tensor.rawValue, address: slice.address, requiredAlignment: 16)
    ) { $0.set(tensor, slice) }
  }

  @Test func misalignedLogSumExp() async throws {
    let slice = try device.makeBuffer(byteCount: 64).slice(2..<64)
    try await expectRefused(
      .misaligned(tensor: "logSumExp", address: slice.address, requiredAlignment: 4)
    ) { $0.logSumExp = slice }
  }

  @Test(arguments: [AttentionRequest.Tensor.query, .key, .value])
  func overlappingOutput(tensor: AttentionRequest.Tensor) async throws {
    let whole = try device.makeBuffer(byteCount: 4096)
    let output = try whole.slice(512..<1024)
    // One byte into the output.
    let input = try whole.slice(1008..<4096)
    try await expectRefused(.overlappingOutput(output: "output", with: tensor.rawValue)) {
      $0.output = output
      $0.set(tensor, input)
    }
    // Side by side is fine.
    var buffers = good
    buffers.output = output
    buffers.set(tensor, try whole.slice(1024..<4096))
    try await kernel.run(buffers)
  }

  @Test(arguments: AttentionRequest.Tensor.allCases)
  func overlappingLogSumExp(tensor: AttentionRequest.Tensor) async throws {
    let whole = try device.makeBuffer(byteCount: 4096)
    let error: AttentionError =
      tensor == .output
      ? .overlappingOutput(output: "output", with: "logSumExp")
      : .overlappingOutput(output: "logSumExp", with: tensor.rawValue)
    try await expectRefused(error) {
      $0.logSumExp = try whole.slice(1000..<2000)
      $0.set(tensor, try whole.slice(1024..<4096))
    }
  }

  @Test func missingLogSumExp() async throws {
    try await expectRefused(.missingLogSumExpBuffer) { $0.logSumExp = nil }
  }

  @Test("Scratch memory is checked where a plan needs it")
  func scratch() async throws {
    // Enough query rows that the row path packs keys and values.
    let request = try AttentionRequest(
      queryTokens: 256, keyTokens: 6, queryHeads: 2, headSize: 8, valueHeadSize: 16,
      returnsLogSumExp: true)
    let kernel = try AttentionKernel(request, on: device, path: .row)
    let required = kernel.plan.scratchByteCount
    try #require(required > 0)
    var buffers = good
    buffers.query = try device.makeBuffer(byteCount: request.byteCount(of: .query))
    buffers.output = try device.makeBuffer(byteCount: request.byteCount(of: .output))
    buffers.logSumExp = try device.makeBuffer(byteCount: request.logSumExpByteCount)
    let whole = try device.makeBuffer(byteCount: 2 * required + 16)
    let wrong: [(AttentionError, DeviceBuffer?)] = [
      (.missingScratchBuffer(requiredBytes: required), nil),
      (
        .bufferTooSmall(
          tensor: "scratch", requiredBytes: required, availableBytes: required - 1),
        try whole.slice(0..<required - 1)
      ),
      (
        .misaligned(tensor: "scratch", address: whole.address + 8, requiredAlignment: 16),
        try whole.slice(8..<8 + required)
      ),
      (.overlappingOutput(output: "output", with: "scratch"), buffers.output),
      (.overlappingOutput(output: "scratch", with: "query"), buffers.query),
    ]
    // Refused before keys and values are packed.
    let theirs = try TestDevice.open().makeBuffer(byteCount: 1 << 16, label: "theirs")
    var foreign = buffers
    foreign.scratch = try whole.slice(0..<required)
    foreign.output = theirs
    let recorder = try device.makeRecorder()
    let name = device.capabilities.name
    #expect(
      throws: AttentionError.device(
        .wrongDevice(what: "buffer theirs", expected: name, actual: name))
    ) { try kernel.record(foreign, into: recorder) }
    #expect(recorder.retained.isEmpty)
    for (error, scratch) in wrong {
      buffers.scratch = scratch
      let recorder = try device.makeRecorder()
      #expect(throws: error) { try kernel.record(buffers, into: recorder) }
      #expect(recorder.retained.isEmpty)
    }
    buffers.scratch = try whole.slice(0..<required)
    try await kernel.run(buffers)
  }

  @Test("A log-sum-exp that is not returned needs no buffer")
  func needlessLogSumExp() async throws {
    let request = try AttentionRequest(
      queryTokens: 4, keyTokens: 6, queryHeads: 2, headSize: 8, valueHeadSize: 16)
    let kernel = try AttentionKernel(request, on: device)
    var buffers = good
    buffers.logSumExp = nil
    try await kernel.run(buffers)
  }

  @Test("Inputs may be the same memory")
  func sharedInputs() async throws {
    var buffers = good
    buffers.query = good.value
    buffers.key = good.value
    try await kernel.run(buffers)
  }

  @Test(arguments: AttentionRequest.Tensor.allCases)
  func wrongDevice(tensor: AttentionRequest.Tensor) async throws {
    let other = try TestDevice.open()
    let theirs = try other.makeBuffer(byteCount: 1024, label: "theirs")
    let name = device.capabilities.name
    try await expectRefused(
      .device(.wrongDevice(what: "buffer theirs", expected: name, actual: name))
    ) { $0.set(tensor, theirs) }
  }

  @Test func wrongRecorder() throws {
    let other = try TestDevice.open()
    let recorder = try other.makeRecorder()
    let error = #expect(throws: AttentionError.self) {
      try kernel.record(good, into: recorder)
    }
    guard case .device(.wrongDevice) = error else {
      Issue.record("another error: \(String(describing: error))")
      return
    }
  }

  @Test func usedUpRecorder() throws {
    let recorder = try device.makeRecorder()
    try device.submit(recorder).wait()
    #expect(throws: AttentionError.device(.alreadySubmitted)) {
      try kernel.record(good, into: recorder)
    }
  }
}

extension AttentionBuffers {
  fileprivate mutating func set(_ tensor: AttentionRequest.Tensor, _ buffer: DeviceBuffer) {
    switch tensor {
    case .query: query = buffer
    case .key: key = buffer
    case .value: value = buffer
    case .output: output = buffer
    }
  }
}
