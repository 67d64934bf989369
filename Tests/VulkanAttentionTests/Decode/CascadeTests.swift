import AttentionReference
import TestSupport
import Testing

@testable import KernelBenchmarks
@testable import VulkanAttention

/// Sequences with a shared prefix: prefix and suffixes apart, merged by their log-sum-exps.
@Suite(.needsDevice, .silentValidation) struct CascadeTests {
  @Test func prefixAndSuffixesMerge() async throws {
    let device = try TestDevice.shared()
    let (sequences, heads, keyHeads, channels, prefix) = (3, 8, 2, 16, 200)
    let suffixes = [40, 1, 129]
    var generator = SplitMix64(seed: "cascade")
    let query = generator.normal(sequences * heads * channels)
    let prefixKeys = generator.normal(prefix * keyHeads * channels)
    let prefixValues = generator.normal(prefix * keyHeads * channels)
    let most = suffixes.max() ?? 0
    let keys = generator.normal(sequences * most * keyHeads * channels)
    let values = generator.normal(sequences * most * keyHeads * channels)

    func partial(
      batch: Int, tokens: Int, capacity: Int, lengths: [Int], _ k: [Float], _ v: [Float]
    ) async throws -> DecodeTensors {
      let cache = try CacheTensor(
        .f32, .contiguous(sequences: batch, capacity: capacity), heads: keyHeads,
        channels: channels)
      let request = try DecodeRequest(
        batchSize: batch, queryTokens: tokens, queryHeads: heads, keyCache: cache,
        valueCache: cache, elementType: .f32, mask: .none, returnsLogSumExp: true)
      let problem = DecodeProblem(request, lengths: lengths, query: query, key: k, value: v)
      let kernel = try DecodeKernel(request, on: device)
      let schedule = try kernel.plan.schedule(lengths: lengths)
      let tensors = try await DecodeTensors(problem, for: kernel.plan, schedule, on: device)
      let recorder = try device.makeRecorder()
      let step = try kernel.prepare(schedule, workspace: tensors.workspace, into: recorder)
      try kernel.record(tensors.buffers, step: step, into: recorder)
      try await device.submit(recorder).completed()
      return tensors
    }
    // The queries of all sequences are the tokens of one, whose keys are the prefix.
    let shared = try await partial(
      batch: 1, tokens: sequences, capacity: prefix, lengths: [prefix], prefixKeys, prefixValues)
    let own = try await partial(
      batch: sequences, tokens: 1, capacity: most, lengths: suffixes, keys, values)

    let merge = try StateMergeKernel(
      try StateMergeRequest(
        rowCount: sequences, headCount: heads, partials: .perRow(2), valueHeadSize: channels),
      on: device)
    let output = try device.makeBuffer(
      byteCount: sequences * heads * channels * 4, label: "output")
    let logSumExp = try device.makeBuffer(byteCount: sequences * heads * 4, label: "lse")
    let recorder = try device.makeRecorder()
    try merge.record(
      AttentionState(
        output: shared.buffers.output, logSumExp: #require(shared.buffers.logSumExp)),
      AttentionState(output: own.buffers.output, logSumExp: #require(own.buffers.logSumExp)),
      output: output, logSumExp: logSumExp, into: recorder)
    try await device.submit(recorder).completed()

    let expected = cascadeAttention(
      q: query.map(Double.init), prefixK: prefixKeys.map(Double.init),
      prefixV: prefixValues.map(Double.init), prefixStarts: [0, prefix],
      prefixOf: Array(repeating: 0, count: sequences), k: keys.map(Double.init),
      v: values.map(Double.init), lengths: suffixes,
      dimensions: AttentionDimensions(
        batch: sequences, queryTokens: 1, keyTokens: most, queryHeads: heads, keyHeads: keyHeads,
        keyChannels: channels, valueChannels: channels))
    expectClose(
      try await device.download(Float.self, from: output), to: expected.o, within: 1e-5, "o")
    expectEach(
      try await device.download(Float.self, from: logSumExp), within: 1e-4, of: expected.lse,
      "lse")
  }
}
