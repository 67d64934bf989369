import TestSupport
import Testing

@testable import VulkanAttention

/// Keys and values that all batch entries share, by a stride of 0.
@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct SharedKeysTests {
  @Test("A batch over shared keys is what each entry is alone", arguments: [8, 256])
  func sharedKeys(queryTokens: Int) async throws {
    let device = try TestDevice.shared()
    let (batches, keyTokens, channels) = (3, 40, 16)
    let rowCount = queryTokens * 2 * channels
    var generator = SplitMix64(seed: 7)
    func values(_ count: Int) -> [Float] {
      (0..<count).map { _ in Float.random(in: -1...1, using: &generator) }
    }
    let (q, k, v) = (
      values(batches * rowCount), values(keyTokens * channels), values(keyTokens * channels)
    )
    let shared = TensorStrides(batch: 0, token: channels, head: channels)
    func run(_ batchSize: Int, _ queries: [Float]) async throws -> [Float] {
      let request = try AttentionRequest(
        batchSize: batchSize, queryTokens: queryTokens, keyTokens: keyTokens, queryHeads: 2,
        keyHeads: 1, headSize: channels, keyStrides: shared, valueStrides: shared)
      let kernel = try AttentionKernel(request, on: device, path: .row)
      let output = try device.makeBuffer(byteCount: request.byteCount(of: .output))
      let buffers = AttentionBuffers(
        query: try await device.makeBuffer(queries), key: try await device.makeBuffer(k),
        value: try await device.makeBuffer(v), output: output,
        scratch: try device.makeBuffer(byteCount: kernel.plan.scratchByteCount))
      try await kernel.run(buffers)
      return try await device.download(Float.self, from: output)
    }
    let together = try await run(batches, q)
    for entry in 0..<batches {
      let rows = entry * rowCount..<(entry + 1) * rowCount
      #expect(try await run(1, Array(q[rows])) == Array(together[rows]))
    }
  }
}
