import AttentionReference
import Foundation
import TestSupport
import Testing
import VulkanAttention

/// A file of tuned tiles that is the test's own, where the sample takes the user's.
private enum TuningStore {
  static func user() -> VulkanAttention.TuningStore {
    VulkanAttention.TuningStore(path: "/nonexistent/vulkan-attention/tuning.json")
  }
}

/// What the articles of the families show, run; see `ArticleTextTests`.
@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct FamilyArticleSampleTests {
  let device: ComputeDevice

  init() throws {
    device = try TestDevice.shared()
  }

  private func numbers(_ count: Int, _ seed: String) -> [Float] {
    var random = SplitMix64(seed: seed)
    return random.normal(count)
  }

  @Test("Decode: a step by a page table, beside the reference")
  func decode() async throws {
    struct Layer {
      let buffers: DecodeBuffers
    }
    var lengths = [1, 16, 17, 40, 48, 31, 5, 33]
    // Three pages for each sequence, in another order.
    let pages = try CachePageTable(
      pageSize: 16, pageCount: 4096, indptr: (0...8).map { Int32($0 * 3) },
      indices: (0..<24).reversed().map { Int32($0) },
      lastPageLengths: [Int32](repeating: 16, count: 8))
    let data = numbers(24 * 16 * 8 * 128, "cache").map { Float16($0) }
    let queries = numbers(8 * 32 * 128, "q").map { Float16($0) }
    let query = try await device.makeBuffer(queries)
    let output = try device.makeBuffer(byteCount: 8 * 32 * 128 * 2)

    let cache = try CacheTensor(.f16, .paged(pages: 4096, pageSize: 16), heads: 8, channels: 128)
    let request = try DecodeRequest(
      batchSize: 8, queryHeads: 32, keyCache: cache, valueCache: cache, maxKeyTokens: 65536)
    let kernel = try DecodeKernel(request, on: device)
    var schedule = try kernel.plan.schedule(lengths: lengths)
    let workspace = try device.makeBuffer(byteCount: kernel.plan.maxWorkspaceByteCount ?? 0)

    // Keys that are values as well: one pool serves both.
    let pool = try device.makeBuffer(byteCount: cache.byteCount)
    try await device.upload(data, to: pool)
    let layers = [
      Layer(
        buffers: DecodeBuffers(query: query, keyCache: pool, valueCache: pool, output: output))
    ]
    let recorder = try device.makeRecorder()
    lengths[0] = 2

    _ = try kernel.plan.update(&schedule, lengths: lengths)
    let step = try kernel.prepare(
      schedule, pages: .table(pages), workspace: workspace, into: recorder)
    for layer in layers { try kernel.record(layer.buffers, step: step, into: recorder) }

    try await device.submit(recorder).completed()
    var options = AttentionOptions()
    options.kvLengths = lengths
    let keys = (0..<24).reversed().flatMap { page in
      data[page * 16384..<(page + 1) * 16384].map(Double.init)
    }
    let rows = [0, 33, 100, 255]
    let reference = attention(
      q: queries.map(Double.init), k: keys, v: keys,
      dimensions: AttentionDimensions(
        batch: 8, queryTokens: 1, keyTokens: 48, queryHeads: 32, keyHeads: 8, keyChannels: 128,
        valueChannels: 128), options: options, rows: rows)
    let result = try await device.download(Float16.self, from: output)
    let actual = rows.flatMap { result[$0 * 128..<($0 + 1) * 128].map { Float($0) } }
    expectClose(actual, to: reference.o, within: 2e-3, "o")
  }

  @Test("TunedTiles: a device without tuned tiles has those of the plan")
  func tunedTiles() throws {
    let request = try AttentionRequest(queryTokens: 8, queryHeads: 1, headSize: 16)
    let cache = try CacheTensor(
      .f32, .contiguous(sequences: 1, capacity: 8), heads: 1, channels: 16)
    let decodeRequest = try DecodeRequest(
      batchSize: 1, queryHeads: 1, keyCache: cache, valueCache: cache, elementType: .f32)
    let linearRequest = try LinearAttentionRequest(tokens: 8, valueHeads: 1, keyHeadSize: 16)

    let tuning = try TuningStore.user().tuning(for: device.capabilities)
    let attention = try AttentionKernel(request, on: device, tuning: tuning)
    let decode = try DecodeKernel(decodeRequest, on: device, tuning: tuning)
    let linear = try LinearAttentionKernel(linearRequest, on: device, tuning: tuning)

    #expect(try attention.plan == AttentionPlan(request, device: device.capabilities))
    #expect(try decode.plan == DecodePlan(decodeRequest, device: device.capabilities))
    #expect(try linear.plan == LinearAttentionPlan(linearRequest, device: device.capabilities))
  }

  @Test("Companions: a block of a transformer, beside the reference")
  func companions() async throws {
    let (rows, channels, width) = (6, 32, 24)
    let request = try AttentionRequest(
      queryTokens: rows, queryHeads: 2, headSize: 16, mask: .causal,
      queryStrides: TensorStrides(batch: 0, token: 96, head: 16),
      keyStrides: TensorStrides(batch: 0, token: 96, head: 16),
      valueStrides: TensorStrides(batch: 0, token: 96, head: 16))
    let attention = try AttentionKernel(request, on: device)
    let norm = try NormalizationKernel(
      NormalizationRequest(
        rows: rows, channels: channels, kind: .rootMeanSquare, epsilon: 1e-5), on: device)
    func product(
      _ inputs: Int, _ outputs: Int, hasResidual: Bool = false
    ) throws -> MatrixProductKernel {
      try MatrixProductKernel(
        MatrixProductRequest(
          rows: rows, outputChannels: outputs, inputChannels: inputs, hasResidual: hasResidual),
        on: device)
    }
    let queryKeyValue = try product(channels, 3 * channels)
    let projection = try product(channels, channels, hasResidual: true)
    let gateAndUp = try product(channels, 2 * width)
    let down = try product(width, channels, hasResidual: true)
    let gate = try ElementwiseKernel(
      ElementwiseRequest(
        rows: rows, channels: width, activation: .silu, combination: .multiply,
        firstStride: 2 * width, secondStride: 2 * width), on: device)

    let stream = numbers(rows * channels, "h")
    let norms = [numbers(channels, "first"), numbers(channels, "second")]
    let weights = [
      numbers(3 * channels * channels, "wqkv"), numbers(channels * channels, "wo"),
      numbers(2 * width * channels, "wgu"), numbers(channels * width, "wd"),
    ]
    let h = try await device.makeBuffer(stream)
    let attentionWeight = try await device.makeBuffer(norms[0])
    let feedForwardWeight = try await device.makeBuffer(norms[1])
    let wqkv = try await device.makeBuffer(weights[0])
    let wo = try await device.makeBuffer(weights[1])
    let wgu = try await device.makeBuffer(weights[2])
    let wd = try await device.makeBuffer(weights[3])
    let x = try device.makeBuffer(byteCount: rows * channels * 4)
    let context = try device.makeBuffer(byteCount: rows * channels * 4)
    let qkv = try device.makeBuffer(byteCount: rows * channels * 12)
    let keys = try qkv.slice(channels * 4..<qkv.byteCount)
    let values = try qkv.slice(channels * 8..<qkv.byteCount)
    let both = try device.makeBuffer(byteCount: rows * width * 8)
    let upHalf = try both.slice(width * 4..<both.byteCount)
    let scratch = try device.makeBuffer(byteCount: attention.plan.scratchByteCount)
    let recorder = try device.makeRecorder()
    let inner = try device.makeBuffer(byteCount: rows * width * 4)

    try norm.record(.init(input: h, output: x, weight: attentionWeight), into: recorder)
    try queryKeyValue.record(.init(input: x, weight: wqkv, output: qkv), into: recorder)
    try attention.record(
      AttentionBuffers(query: qkv, key: keys, value: values, output: context, scratch: scratch),
      into: recorder)
    // h += context Wᵀ, in place: the output is the residual.
    try projection.record(.init(input: context, weight: wo, residual: h, output: h), into: recorder)
    try norm.record(.init(input: h, output: x, weight: feedForwardWeight), into: recorder)
    try gateAndUp.record(.init(input: x, weight: wgu, output: both), into: recorder)
    // silu(gate) · up: the halves of the rows of `both`.
    try gate.record(.init(first: both, second: upHalf, output: inner), into: recorder)
    try down.record(.init(input: inner, weight: wd, residual: h, output: h), into: recorder)

    try await device.submit(recorder).completed()

    let w = weights.map { $0.map(Double.init) }
    func normalized(_ x: [Double], _ weight: [Float]) -> [Double] {
      CompanionReference.normalized(
        x, channels: channels, isCentered: false, epsilon: 1e-5, weight: weight.map(Double.init))
    }
    /// Part n of rows of several.
    func part(_ x: [Double], _ n: Int, of count: Int, _ width: Int) -> [Double] {
      var result: [Double] = []
      for row in 0..<rows {
        let start = (row * count + n) * width
        result += x[start..<start + width]
      }
      return result
    }
    var expected = stream.map(Double.init)
    let fused = CompanionReference.matrixProduct(
      normalized(expected, norms[0]), weight: w[0], inputChannels: channels)
    var options = AttentionOptions()
    options.causal = true
    let o = AttentionReference.attention(
      q: part(fused, 0, of: 3, channels), k: part(fused, 1, of: 3, channels),
      v: part(fused, 2, of: 3, channels),
      dimensions: AttentionDimensions(
        batch: 1, queryTokens: rows, keyTokens: rows, queryHeads: 2, keyHeads: 2, keyChannels: 16,
        valueChannels: 16), options: options
    ).o
    expected = CompanionReference.matrixProduct(
      o, weight: w[1], inputChannels: channels, residual: expected)
    let gates = CompanionReference.matrixProduct(
      normalized(expected, norms[1]), weight: w[2], inputChannels: channels)
    let (first, second) = (part(gates, 0, of: 2, width), part(gates, 1, of: 2, width))
    let gated = first.indices.map { first[$0] / (1 + exp(-first[$0])) * second[$0] }
    expected = CompanionReference.matrixProduct(
      gated, weight: w[3], inputChannels: width, residual: expected)
    expectClose(
      try await device.download(Float.self, from: h), to: expected, within: 1e-5, "h")
  }
}
