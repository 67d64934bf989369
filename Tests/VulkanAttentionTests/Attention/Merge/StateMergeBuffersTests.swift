import TestSupport
import Testing

@testable import VulkanAttention
@testable import VulkanRuntime

/// Buffers that do not fit a merge are refused before anything is recorded.
@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct StateMergeBuffersTests {
  let device: ComputeDevice
  /// 3 partials of 4 rows of 2 heads of 16 channels: 512 and 32 bytes each.
  let kernel: StateMergeKernel
  let pair: StateMergeKernel
  let listed: StateMergeKernel
  let whole: DeviceBuffer

  init() throws {
    let device = try TestDevice.shared()
    self.device = device
    func prepared(_ partials: StateMergeRequest.Partials) throws -> StateMergeKernel {
      try StateMergeKernel(
        StateMergeRequest(
          rowCount: 4, headCount: 2, partials: partials, valueHeadSize: 16), on: device)
    }
    kernel = try prepared(.perRow(3))
    pair = try prepared(.perRow(2))
    listed = try prepared(.total(3))
    whole = try device.makeBuffer(byteCount: 16384, label: "whole")
    // Bytes that are floats, and starts that are 0.
    let recorder = try device.makeRecorder()
    try recorder.fill(whole, with: 0)
    try device.submit(recorder).wait()
  }

  /// Outputs from byte 0, log-sum-exps from 4096, the results from 8192 and 12288, starts from 16000.
  private func strided(starts: Bool = false) throws -> StateMergeBuffers {
    StateMergeBuffers(
      AttentionState(
        output: try whole.slice(0..<1536), logSumExp: try whole.slice(4096..<4192)),
      partialStarts: starts ? try whole.slice(16000..<16020) : nil,
      output: try whole.slice(8192..<8704), logSumExp: try whole.slice(12288..<12320))
  }

  private func separate() throws -> StateMergeBuffers {
    StateMergeBuffers(
      AttentionState(output: try whole.slice(0..<512), logSumExp: try whole.slice(4096..<4128)),
      AttentionState(
        output: try whole.slice(1024..<1536), logSumExp: try whole.slice(4160..<4192)),
      output: try whole.slice(8192..<8704), logSumExp: try whole.slice(12288..<12320))
  }

  private func expectRefused(
    _ expected: AttentionError, _ kernel: StateMergeKernel, _ buffers: StateMergeBuffers,
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let recorder = try device.makeRecorder()
    #expect(throws: expected, sourceLocation: sourceLocation) {
      try kernel.record(buffers, into: recorder)
    }
    // Nothing was appended: the recorder holds nothing.
    #expect(recorder.retained.isEmpty, sourceLocation: sourceLocation)
  }

  private func expectTaken(
    _ kernel: StateMergeKernel, _ buffers: StateMergeBuffers,
    sourceLocation: SourceLocation = #_sourceLocation
  ) async throws {
    let recorder = try device.makeRecorder()
    #expect(throws: Never.self, sourceLocation: sourceLocation) {
      try kernel.record(buffers, into: recorder)
    }
    try await device.submit(recorder).completed()
  }

  @Test func fittingBuffersAreTaken() async throws {
    try await expectTaken(kernel, strided())
    try await expectTaken(pair, strided())
    try await expectTaken(pair, separate())
    try await expectTaken(listed, strided(starts: true))
    // Larger ones are, and what they hold beyond the tensors may be shared.
    var buffers = try strided()
    buffers.output = try whole.slice(8192..<16384)
    try await expectTaken(kernel, buffers)
    // Both states may be one.
    buffers = try separate()
    guard case .separate(let first, _) = buffers.partials else {
      Issue.record("other partials")
      return
    }
    buffers.partials = .separate(first, first)
    try await expectTaken(pair, buffers)
  }

  @Test func tooSmall() throws {
    var buffers = try strided()
    buffers.output = try whole.slice(8192..<8703)
    try expectRefused(
      .bufferTooSmall(tensor: "output", requiredBytes: 512, availableBytes: 511), kernel, buffers)
    buffers = try strided()
    buffers.logSumExp = try whole.slice(12288..<12319)
    try expectRefused(
      .bufferTooSmall(tensor: "logSumExp", requiredBytes: 32, availableBytes: 31), kernel, buffers)
    buffers = try strided()
    buffers.partials = .strided(
      AttentionState(output: try whole.slice(0..<1535), logSumExp: try whole.slice(4096..<4192)))
    try expectRefused(
      .bufferTooSmall(tensor: "partialOutputs", requiredBytes: 1536, availableBytes: 1535),
      kernel, buffers)
    buffers.partials = .strided(
      AttentionState(output: try whole.slice(0..<1536), logSumExp: try whole.slice(4096..<4191)))
    try expectRefused(
      .bufferTooSmall(tensor: "partialLogSumExps", requiredBytes: 96, availableBytes: 95),
      kernel, buffers)
    buffers = try separate()
    guard case .separate(let first, let second) = buffers.partials else {
      Issue.record("other partials")
      return
    }
    buffers.partials = .separate(
      first, AttentionState(output: try second.output.slice(0..<508), logSumExp: second.logSumExp))
    try expectRefused(
      .bufferTooSmall(tensor: "secondOutput", requiredBytes: 512, availableBytes: 508), pair,
      buffers)
    buffers = try strided(starts: true)
    buffers.partialStarts = try whole.slice(16000..<16016)
    try expectRefused(
      .bufferTooSmall(tensor: "partialStarts", requiredBytes: 20, availableBytes: 16), listed,
      buffers)
  }

  @Test func misaligned() throws {
    var buffers = try strided()
    buffers.output = try whole.slice(8200..<9000)
    try expectRefused(
      .misaligned(tensor: "output", address: whole.address + 8200, requiredAlignment: 16), kernel,
      buffers)
    buffers = try strided()
    buffers.partials = .strided(
      AttentionState(output: try whole.slice(4..<2048), logSumExp: try whole.slice(4096..<4192)))
    try expectRefused(
      .misaligned(tensor: "partialOutputs", address: whole.address + 4, requiredAlignment: 16),
      kernel, buffers)
    buffers = try strided()
    buffers.logSumExp = try whole.slice(12290..<13000)
    try expectRefused(
      .misaligned(tensor: "logSumExp", address: whole.address + 12290, requiredAlignment: 4),
      kernel, buffers)
  }

  @Test("Rows of any number of channels begin at any element")
  func elementAlignment() async throws {
    let request = try StateMergeRequest(
      rowCount: 3, partials: .perRow(2), valueHeadSize: 5, elementType: .f16)
    let kernel = try StateMergeKernel(request, on: device)
    var buffers = try separate()
    buffers.partials = .strided(
      AttentionState(output: try whole.slice(2..<62), logSumExp: try whole.slice(4096..<4120)))
    buffers.output = try whole.slice(8198..<8228)
    try await expectTaken(kernel, buffers)
    buffers.output = try whole.slice(8199..<8229)
    try expectRefused(
      .misaligned(tensor: "output", address: whole.address + 8199, requiredAlignment: 2), kernel,
      buffers)
  }

  @Test("Results may be the first partial and nothing else")
  func overlaps() async throws {
    // Exactly in place: the whole of a larger buffer will do.
    var buffers = try strided()
    buffers.output = whole
    try await expectTaken(kernel, buffers)
    buffers.logSumExp = try whole.slice(4096..<4192)
    try await expectTaken(kernel, buffers)
    // 16 bytes further; the second partial; the last byte of the last partial.
    for start in [16, 512, 1024, 1520] {
      buffers = try strided()
      buffers.output = try whole.slice(start..<start + 512)
      try expectRefused(
        .overlappingOutput(output: "output", with: "partialOutputs"), kernel, buffers)
    }
    for start in [4100, 4128, 4188] {
      buffers = try strided()
      buffers.logSumExp = try whole.slice(start..<start + 32)
      try expectRefused(
        .overlappingOutput(output: "logSumExp", with: "partialLogSumExps"), kernel, buffers)
    }
    buffers = try strided()
    buffers.output = try whole.slice(4096..<4608)
    try expectRefused(
      .overlappingOutput(output: "output", with: "partialLogSumExps"), kernel, buffers)
    buffers = try strided()
    buffers.logSumExp = try whole.slice(0..<32)
    try expectRefused(
      .overlappingOutput(output: "logSumExp", with: "partialOutputs"), kernel, buffers)
    buffers = try strided()
    buffers.logSumExp = try whole.slice(8672..<8704)
    try expectRefused(.overlappingOutput(output: "output", with: "logSumExp"), kernel, buffers)

    buffers = try separate()
    buffers.output = try whole.slice(0..<512)
    buffers.logSumExp = try whole.slice(4096..<4128)
    try await expectTaken(pair, buffers)
    buffers = try separate()
    buffers.output = try whole.slice(1024..<1536)
    try expectRefused(.overlappingOutput(output: "output", with: "secondOutput"), pair, buffers)
    buffers = try separate()
    buffers.logSumExp = try whole.slice(4160..<4192)
    try expectRefused(
      .overlappingOutput(output: "logSumExp", with: "secondLogSumExp"), pair, buffers)

    buffers = try strided(starts: true)
    buffers.output = try whole.slice(0..<512)
    try expectRefused(
      .overlappingOutput(output: "output", with: "partialOutputs"), listed, buffers)
    buffers = try strided(starts: true)
    buffers.logSumExp = try whole.slice(15984..<16016)
    try expectRefused(
      .overlappingOutput(output: "logSumExp", with: "partialStarts"), listed, buffers)
  }

  @Test("In place, the first partial must lie as the result does")
  func inPlaceLayouts() async throws {
    let rowMajor = StateStrides.rowMajor(partials: 3, heads: 2, channels: 16)
    let tooClose = StateStrides(partial: 32, row: 32, head: 16)
    let apart = StateStrides(partial: 512, row: 32, head: 16)
    for (strides, merged, isTaken) in [
      (rowMajor, ElementType.f32, false), (tooClose, .f32, false), (apart, .f16, false),
      (apart, .f32, true),
    ] {
      let kernel = try StateMergeKernel(
        StateMergeRequest(
          rowCount: 4, headCount: 2, partials: .perRow(3), valueHeadSize: 16,
          mergedElementType: merged, outputStrides: strides), on: device)
      var buffers = try strided()
      buffers.output = try whole.slice(0..<512)
      buffers.partials = .strided(
        AttentionState(
          output: try whole.slice(0..<5000), logSumExp: try whole.slice(6000..<6096)))
      if isTaken {
        try await expectTaken(kernel, buffers)
      } else {
        try expectRefused(
          .overlappingOutput(output: "output", with: "partialOutputs"), kernel, buffers)
      }
    }
  }

  @Test("Partials and starts must be those that the request speaks of")
  func wrongPartials() throws {
    var withoutLogSumExp = try strided()
    withoutLogSumExp.logSumExp = nil
    try expectRefused(.missingLogSumExpBuffer, kernel, withoutLogSumExp)
    try expectRefused(
      .invalidArgument(
        name: "partials", value: "perRow(3)",
        allowed: "perRow(2) for two states in buffers of their own"), kernel, separate())
    try expectRefused(
      .invalidArgument(
        name: "partialStarts", value: "nil",
        allowed: "a buffer of 5 Int32 for a request with a total of partials"), listed, strided())
    try expectRefused(
      .invalidArgument(
        name: "partialStarts", value: "a buffer",
        allowed: "nil where every row has the same number of partials"), kernel,
      strided(starts: true))
  }

  @Test func wrongDevice() throws {
    // Too small as well, which is not what is wrong with it.
    let theirs = try TestDevice.open().makeBuffer(byteCount: 16, label: "theirs")
    let name = device.capabilities.name
    let error = AttentionError.device(
      .wrongDevice(what: "buffer theirs", expected: name, actual: name))
    var buffers = try strided()
    buffers.output = theirs
    try expectRefused(error, kernel, buffers)
    buffers = try strided()
    buffers.logSumExp = theirs
    try expectRefused(error, kernel, buffers)
    buffers = try strided()
    guard case .strided(let state) = buffers.partials else {
      Issue.record("other partials")
      return
    }
    buffers.partials = .strided(AttentionState(output: theirs, logSumExp: state.logSumExp))
    try expectRefused(error, kernel, buffers)
    buffers.partials = .strided(AttentionState(output: state.output, logSumExp: theirs))
    try expectRefused(error, kernel, buffers)
    buffers = try strided(starts: true)
    buffers.partialStarts = theirs
    try expectRefused(error, listed, buffers)
  }

  @Test func usedUpRecorder() throws {
    let recorder = try device.makeRecorder()
    try device.submit(recorder).wait()
    #expect(throws: AttentionError.device(.alreadySubmitted)) {
      try kernel.record(strided(), into: recorder)
    }
  }
}
