import TestSupport
import Testing

@testable import VulkanAttention

/// An attention whose keys are cut into parts and whose partial results are merged is the attention over
/// all keys.
@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct SplitAttentionTests {
  let device: ComputeDevice
  static let shape = AttentionCase(b: 2, s: 9, t: 67, h: 4, g: 2, d: 64, e: 40)

  init() throws {
    device = try TestDevice.shared()
  }

  /// Where the keys are cut; some parts have no key at all.
  static let cuts = [
    [0, 67], [0, 1, 67], [0, 33, 67], [0, 0, 40, 40, 66, 67], [0, 5, 10, 15, 20, 67],
  ]

  @Test("Cut anywhere and merged", arguments: ElementType.allCases, cuts)
  func splitAndMerged(type: ElementType, cuts: [Int]) async throws {
    let shape = Self.shape
    let tensors = AttentionTensors(shape, type)
    let rows = shape.batch * shape.queryTokens
    let n = cuts.count - 1
    let memory = TypedMemory(device: device)
    let q = try await memory.upload(tensors.q, as: type, "q")
    let k = try await memory.upload(tensors.k, as: type, "k")
    let v = try await memory.upload(tensors.v, as: type, "v")
    let merging = try StateMergeKernel(
      StateMergeRequest(
        rowCount: rows, headCount: shape.queryHeads, partials: .perRow(n),
        valueHeadSize: shape.valueHeadSize, elementType: type), on: device)
    let request = merging.request
    let partials = try await GuardedBuffer(
      byteCount: request.partialOutputByteCount, label: "partial outputs", on: device)
    let partialLogSumExps = try await GuardedBuffer(
      byteCount: request.partialLogSumExpByteCount, label: "partial lses", on: device)
    let output = try await GuardedBuffer(
      byteCount: request.outputByteCount, label: "output", on: device)
    let logSumExp = try await GuardedBuffer(
      byteCount: request.logSumExpByteCount, label: "lse", on: device)

    // All in one recorder: barriers follow from what is read and written.
    let recorder = try device.makeRecorder()
    for (index, (start, end)) in zip(cuts, cuts.dropFirst()).enumerated() {
      let part = try AttentionRequest(
        batchSize: shape.batch, queryTokens: shape.queryTokens, keyTokens: end - start,
        queryHeads: shape.queryHeads, keyHeads: shape.keyHeads, headSize: shape.headSize,
        valueHeadSize: shape.valueHeadSize, elementType: type, returnsLogSumExp: true,
        keyStrides: .tokenMajor(
          tokens: shape.keyTokens, heads: shape.keyHeads, channels: shape.headSize),
        valueStrides: .tokenMajor(
          tokens: shape.keyTokens, heads: shape.keyHeads, channels: shape.valueHeadSize))
      func keys(_ guarded: GuardedBuffer, channels: Int) throws -> DeviceBuffer {
        let first = start * shape.keyHeads * channels * type.byteCount
        return try guarded.buffer.slice(
          min(first, guarded.buffer.byteCount)..<guarded.buffer.byteCount)
      }
      let (bytes, lseBytes) = (request.outputByteCount, request.logSumExpByteCount)
      let attention = try AttentionKernel(part, on: device)
      try attention.record(
        AttentionBuffers(
          query: q.buffer, key: keys(k, channels: shape.headSize),
          value: keys(v, channels: shape.valueHeadSize),
          output: partials.buffer.slice(index * bytes..<(index + 1) * bytes),
          logSumExp: partialLogSumExps.buffer.slice(index * lseBytes..<(index + 1) * lseBytes),
          scratch: attention.plan.scratchByteCount > 0
            ? device.makeBuffer(byteCount: attention.plan.scratchByteCount) : nil),
        into: recorder)
    }
    try merging.record(
      StateMergeBuffers(
        AttentionState(output: partials.buffer, logSumExp: partialLogSumExps.buffer),
        output: output.buffer, logSumExp: logSumExp.buffer), into: recorder)
    try await device.submit(recorder).completed()
    for guarded in [q, k, v, partials, partialLogSumExps, output, logSumExp] {
      try await guarded.expectGuardsIntact()
    }

    let whole = tensors.reference()
    expectClose(
      try await memory.download(type, output), to: whole.o, within: type.outputGate, "o, \(cuts)")
    expectEach(
      try await memory.download(.f32, logSumExp), within: 1e-4, of: whole.lse, "lse, \(cuts)")
  }

  @Test("Merging is a chain in place as well as all at once")
  func chained() async throws {
    let tensors = StateMergeTensors(n: 6, rows: 10, heads: 3, e: 40, .f32)
    let pair = try StateMergeKernel(
      StateMergeRequest(rowCount: 10, headCount: 3, partials: .perRow(2), valueHeadSize: 40),
      on: device)
    let memory = TypedMemory(device: device)
    let outputs = try await memory.upload(tensors.outputs, as: .f32, "outputs")
    let logSumExps = try await memory.upload(tensors.logSumExps, as: .f32, "lses")
    func state(_ index: Int) throws -> AttentionState {
      AttentionState(
        output: try outputs.buffer.slice(index * 4800..<(index + 1) * 4800),
        logSumExp: try logSumExps.buffer.slice(index * 120..<(index + 1) * 120))
    }
    let first = try state(0)
    let recorder = try device.makeRecorder()
    for index in 1..<6 {
      try pair.record(
        first, state(index), output: first.output, logSumExp: first.logSumExp, into: recorder)
    }
    try await device.submit(recorder).completed()
    let expected = tensors.reference()
    expectClose(
      try await device.download(Float.self, from: first.output), to: expected.o, within: 1e-5, "o")
    expectEach(
      try await device.download(Float.self, from: first.logSumExp), within: 1e-5,
      of: expected.lse, "lse")
  }
}
