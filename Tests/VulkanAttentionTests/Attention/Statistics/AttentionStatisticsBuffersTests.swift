import TestSupport
import Testing

@testable import VulkanAttention
@testable import VulkanRuntime

/// Buffers that do not fit statistics are refused before anything is recorded.
@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct AttentionStatisticsBuffersTests {
  let device: ComputeDevice
  /// 4 queries and 6 keys of 2 heads of 16 channels with ALiBi: q 512 bytes, k 768, lse and entropy 32,
  /// key sums 48, 3 rows of probabilities 144, 2 top keys 64 each.
  let kernel: AttentionStatisticsKernel
  let entropy: AttentionStatisticsKernel
  let whole: DeviceBuffer

  init() throws {
    let device = try TestDevice.shared()
    self.device = device
    let attention = try AttentionRequest(
      queryTokens: 4, keyTokens: 6, queryHeads: 2, headSize: 16,
      operands: [AttentionOperand(.alibiSlopes)], returnsLogSumExp: true)
    kernel = try AttentionStatisticsKernel(
      AttentionStatisticsRequest(
        attention,
        statistics: [
          .keySums(lastRows: nil), .entropy, .probabilities(rowCount: 3), .topKeys(2),
        ]), on: device)
    entropy = try AttentionStatisticsKernel(
      AttentionStatisticsRequest(attention, statistics: [.entropy]), on: device)
    whole = try device.makeBuffer(byteCount: 32768, label: "whole")
    let recorder = try device.makeRecorder()
    try recorder.fill(whole, with: 0)
    try device.submit(recorder).wait()
  }

  /// Everything at multiples of 1024 bytes.
  private func buffers() throws -> AttentionStatisticsBuffers {
    func part(_ index: Int, _ byteCount: Int) throws -> DeviceBuffer {
      try whole.slice(index * 1024..<index * 1024 + byteCount)
    }
    var buffers = AttentionStatisticsBuffers(
      AttentionBuffers(
        query: try part(0, 512), key: try part(1, 768), value: try part(2, 768),
        output: try part(3, 512), logSumExp: try part(4, 32),
        operands: [.alibiSlopes: try part(5, 8)],
        scratch: try part(6, kernel.plan.scratchByteCount)))
    buffers.keySums = try part(8, 48)
    buffers.entropy = try part(9, 32)
    buffers.queryRows = try part(10, 12)
    buffers.probabilities = try part(11, 144)
    buffers.topKeyIndices = try part(12, 64)
    buffers.topKeyProbabilities = try part(13, 64)
    return buffers
  }

  private func expectRefused(
    _ expected: AttentionError, _ kernel: AttentionStatisticsKernel? = nil,
    sourceLocation: SourceLocation = #_sourceLocation,
    _ change: (inout AttentionStatisticsBuffers) throws -> Void
  ) throws {
    var buffers = try buffers()
    try change(&buffers)
    let recorder = try device.makeRecorder()
    #expect(throws: expected, sourceLocation: sourceLocation) {
      try (kernel ?? self.kernel).record(buffers, into: recorder)
    }
    // Nothing was appended: the recorder holds nothing.
    #expect(recorder.retained.isEmpty, sourceLocation: sourceLocation)
  }

  @Test func fittingBuffersAreTaken() async throws {
    #expect(kernel.plan.scratchByteCount > 0 && kernel.plan.scratchByteCount <= 2048)
    let recorder = try device.makeRecorder()
    try kernel.record(buffers(), into: recorder)
    // The values and the output of the attention are not touched, so results may lie there.
    var buffers = try buffers()
    buffers.probabilities = try whole.slice(2048..<4096)
    try kernel.record(buffers, into: recorder)
    try await device.submit(recorder).completed()
  }

  @Test func missing() throws {
    try expectRefused(.missingLogSumExpBuffer) { $0.logSumExp = nil }
    try expectRefused(.missingOperandBuffer(operand: .alibiSlopes)) { $0.operands = [:] }
    try expectRefused(.missingScratchBuffer(requiredBytes: kernel.plan.scratchByteCount)) {
      $0.scratch = nil
    }
    func missing(_ name: String, _ bytes: Int) -> AttentionError {
      .invalidArgument(
        name: name, value: "nil",
        allowed: "a buffer of \(bytes) bytes, for the request asks for the statistic")
    }
    try expectRefused(missing("keySums", 48)) { $0.keySums = nil }
    try expectRefused(missing("entropy", 32)) { $0.entropy = nil }
    try expectRefused(missing("queryRows", 12)) { $0.queryRows = nil }
    try expectRefused(missing("probabilities", 144)) { $0.probabilities = nil }
    try expectRefused(missing("topKeyIndices", 64)) { $0.topKeyIndices = nil }
    try expectRefused(missing("topKeyProbabilities", 64)) { $0.topKeyProbabilities = nil }
  }

  @Test func notAskedFor() throws {
    try expectRefused(
      .invalidArgument(
        name: "keySums", value: "a buffer",
        allowed: "nil where the request does not ask for keySums"), entropy
    ) { _ in }
    try expectRefused(
      .invalidArgument(
        name: "operands.bias", value: "a buffer",
        allowed: "only what the attention names among its operands")
    ) { $0.operands[.bias] = $0.query }
  }

  @Test func tooSmall() throws {
    for (name, bytes, path) in [
      ("query", 512, \AttentionStatisticsBuffers.query), ("key", 768, \.key),
    ] {
      try expectRefused(
        .bufferTooSmall(tensor: name, requiredBytes: bytes, availableBytes: bytes - 1)
      ) { $0[keyPath: path] = try $0[keyPath: path].slice(0..<bytes - 1) }
    }
    for (name, bytes, path) in [
      ("logSumExp", 32, \AttentionStatisticsBuffers.logSumExp), ("keySums", 48, \.keySums),
      ("entropy", 32, \.entropy), ("queryRows", 12, \.queryRows),
      ("probabilities", 144, \.probabilities), ("topKeyIndices", 64, \.topKeyIndices),
      ("topKeyProbabilities", 64, \.topKeyProbabilities),
      ("scratch", kernel.plan.scratchByteCount, \.scratch),
    ] {
      try expectRefused(
        .bufferTooSmall(tensor: name, requiredBytes: bytes, availableBytes: bytes - 1)
      ) { $0[keyPath: path] = try $0[keyPath: path]?.slice(0..<bytes - 1) }
    }
  }

  @Test func misaligned() throws {
    try expectRefused(
      .misaligned(tensor: "query", address: whole.address + 4, requiredAlignment: 16)
    ) { $0.query = try whole.slice(4..<516) }
    try expectRefused(
      .misaligned(tensor: "entropy", address: whole.address + 9218, requiredAlignment: 4)
    ) { $0.entropy = try whole.slice(9218..<9250) }
  }

  @Test func overlapping() throws {
    try expectRefused(.overlappingOutput(output: "keySums", with: "query")) {
      $0.keySums = try whole.slice(508..<556)
    }
    try expectRefused(.overlappingOutput(output: "entropy", with: "logSumExp")) {
      $0.entropy = $0.logSumExp
    }
    try expectRefused(.overlappingOutput(output: "topKeyIndices", with: "topKeyProbabilities")) {
      $0.topKeyProbabilities = $0.topKeyIndices
    }
    try expectRefused(.overlappingOutput(output: "scratch", with: "key")) {
      $0.scratch = try whole.slice(1024..<4096)
    }
  }
}
