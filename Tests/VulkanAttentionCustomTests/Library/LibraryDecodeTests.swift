import AttentionReference
import TestSupport
import Testing

@testable import VulkanAttentionCustom

/// Modifications of the library in decode steps, where positions begin at each sequence's own length.
@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .needsShaderc)
struct LibraryDecodeTests {
  private static let lengths = [70, 0, 33]
  private static let capacity = 80

  /// Numbers between −1 and 1 with few bits.
  private func numbers(_ byteCount: Int, _ step: Int) -> [Float] {
    (0..<byteCount / 4).map { Float(($0 * step) % 17 - 8) / 8 }
  }

  @Test("Decay between documents, by positions in the cache", arguments: LibraryProblem.paths)
  func decayAndDocuments(path: AttentionPath) async throws {
    let device = try TestDevice.shared()
    let capacity = Self.capacity
    let lengths = Self.lengths
    let cache = try CacheTensor(
      .element(.f32), .contiguous(sequences: 3, capacity: capacity), heads: 2, channels: 16)
    let request = try DecodeRequest(
      batchSize: 3, queryTokens: 2, queryHeads: 4, keyCache: cache, valueCache: cache,
      maxKeyTokens: capacity, elementType: .f32, mask: .causal, returnsLogSumExp: true)
    let kernel = try await CustomRun.orCancel(path) {
      try await CustomDecode(
        request, score: .decay(heads: 4), mask: .documents, on: device, path: path,
        compiler: CustomRun.compiler)
    }
    #expect(kernel.plan.path == path)

    let attention = request.attention
    let (q, k, v) = (
      numbers(attention.byteCount(of: .query), 5), numbers(cache.byteCount, 7),
      numbers(cache.byteCount, 11)
    )
    let decay = (0..<3 * 4 * capacity).map { -Float($0 % capacity * ($0 / capacity + 1)) / 64 }
    let documents = (0..<3 * capacity).map { Int32($0 % capacity / (10 + $0 / capacity)) }
    let output = try device.makeBuffer(byteCount: attention.byteCount(of: .output), label: "o")
    let logSumExp = try device.makeBuffer(
      byteCount: attention.logSumExpByteCount, label: "lse")
    let buffers = DecodeBuffers(
      query: try await device.makeBuffer(q, label: "q"),
      keyCache: try await device.makeBuffer(k, label: "k"),
      valueCache: try await device.makeBuffer(v, label: "v"), output: output,
      logSumExp: logSumExp)
    let schedule = try kernel.plan.schedule(lengths: lengths)
    let workspace = try device.makeBuffer(
      byteCount: kernel.plan.workspaceByteCount(for: schedule), label: "workspace")
    let recorder = try device.makeRecorder()
    let step = try kernel.prepare(
      schedule,
      userBuffers: [
        "decay": try await device.makeBuffer(decay, label: "decay"),
        "documents": try await device.makeBuffer(documents, label: "documents"),
      ], scalars: ["keyCapacity": .int(Int32(capacity))], workspace: workspace, into: recorder)
    try kernel.record(buffers, step: step, into: recorder)
    try await device.submit(recorder).completed()

    var options = AttentionOptions(scale: Double(attention.scale), causal: true)
    options.kvLengths = lengths
    options.scoreModification = { score, b, h, i, j in
      let row = (b * 4 + h) * capacity
      return score + Double(decay[row + lengths[b] - 2 + i]) - Double(decay[row + j])
    }
    options.maskModification = { b, _, i, j in
      documents[b * capacity + lengths[b] - 2 + i] == documents[b * capacity + j]
    }
    let expected = AttentionReference.attention(
      q: q, k: k, v: v,
      dimensions: AttentionDimensions(
        batch: 3, queryTokens: 2, keyTokens: capacity, queryHeads: 4, keyHeads: 2,
        keyChannels: 16, valueChannels: 16), options: options)
    let lse = try await device.download(Float.self, from: logSumExp)
    expectClose(
      try await device.download(Float.self, from: output), to: expected.o, within: 1e-5,
      "o, \(path)")
    expectEach(lse, within: 1e-4, of: expected.lse, "lse, \(path)")
    // The sequence without keys: four heads of two tokens.
    #expect(lse.indices.filter { lse[$0] == -.infinity } == Array(8..<16))
  }
}
