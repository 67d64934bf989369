import AttentionReference
import Foundation
import KernelBenchmarks
import TestSupport
import Testing

@testable import VulkanAttentionCustom

/// The compiler of the tests, which writes no folder, where a sample takes the shared one.
extension CustomAttention {
  fileprivate init(
    _ request: AttentionRequest, score: ScoreModification, mask: MaskModification? = nil,
    on device: ComputeDevice
  ) async throws(CustomAttentionError) {
    self = try await CustomAttention(
      request, score: score, mask: mask, on: device, compiler: CustomRun.compiler)
  }
}

extension CustomDecode {
  fileprivate init(
    _ request: DecodeRequest, score: ScoreModification, on device: ComputeDevice
  ) async throws(CustomAttentionError) {
    self = try await CustomDecode(
      request, score: score, on: device, compiler: CustomRun.compiler)
  }
}

/// The examples of the articles, which `ArticleTextTests` holds against this text, and their formulas in plain loops.
@Suite(.timeLimit(.minutes(5)))
struct CustomArticleTests {
  @Test("KERPLE's formula in ten lines", .needsDevice, .needsShaderc) func kerple() async throws {
    let device = try TestDevice.shared()
    let request = try CustomRun.request(.f32, mask: .causal)
    let inputs = AttentionInputs.random(for: request, seed: "kerple")
    let numbers: (r1: [Float], r2: [Float]) = ([0.5, 1, 2, 0.25], [1, 0.5, 0.125, 2])
    let r1 = try await device.makeBuffer(numbers.r1, label: "r1")
    let r2 = try await device.makeBuffer(numbers.r2, label: "r2")

    let tensors = try await AttentionTensors(
      inputs, for: AttentionPlan(request, device: device.capabilities), on: device)
    var buffers = tensors.buffers
    // More than any plan of this size needs.
    buffers.scratch = try device.makeBuffer(byteCount: 1 << 20)

    let kerple = try ScoreModification(
      """
      float distance = float(abs(queryIndex + positionOffset - keyIndex));
      return score - r1(head) * log(1.0 + r2(head) * distance);
      """, buffers: [CustomBuffer("r1", .f32), CustomBuffer("r2", .f32)])
    let attention = try await CustomAttention(request, score: kerple, on: device)
    try await attention.run(buffers, userBuffers: ["r1": r1, "r2": r2])

    let result = try await tensors.read()
    #expect(result.strayWrites.isEmpty)
    var expected: [Double] = []
    let (d, e) = (request.headSize, request.valueHeadSize)
    let offset = request.keyTokens - request.queryTokens
    for b in 0..<request.batchSize {
      for i in 0..<request.queryTokens {
        for h in 0..<request.queryHeads {
          let g = h / request.headsPerGroup
          let row = ((b * request.queryTokens + i) * request.queryHeads + h) * d
          var weights = 0.0
          var output = [Double](repeating: 0, count: e)
          for j in 0...i + offset {
            let key = (b * request.keyTokens + j) * request.keyHeads + g
            var score = 0.0
            for c in 0..<d {
              score += Double(inputs.query[row + c]) * Double(inputs.key[key * d + c])
            }
            score /= Double(d).squareRoot()
            score -=
              Double(numbers.r1[h]) * log(1 + Double(numbers.r2[h]) * Double(i + offset - j))
            weights += exp(score)
            for c in 0..<e { output[c] += exp(score) * Double(inputs.value[key * e + c]) }
          }
          expected += output.map { $0 / weights }
        }
      }
    }
    expectClose(result.output, to: expected, within: 1e-5, "o")
  }

  @Test("KERPLE in a decode step", .needsDevice, .needsShaderc) func kerpleDecode() async throws {
    let device = try TestDevice.shared()
    let cache = try CacheTensor(
      .f32, .contiguous(sequences: 2, capacity: 32), heads: 2, channels: 16)
    let request = try DecodeRequest(
      batchSize: 2, queryHeads: 4, keyCache: cache, valueCache: cache, elementType: .f32)
    let lengths = [9, 30]
    var random = SplitMix64(seed: "kerple")
    let (query, keys) = (random.normal(2 * 4 * 16), random.normal(2 * 32 * 2 * 16))
    let values = random.normal(2 * 32 * 2 * 16)
    let numbers: (r1: [Float], r2: [Float]) = ([0.5, 1, 2, 0.25], [1, 0.5, 0.125, 2])
    let r1 = try await device.makeBuffer(numbers.r1, label: "r1")
    let r2 = try await device.makeBuffer(numbers.r2, label: "r2")
    let kerple = try ScoreModification(
      """
      float distance = float(abs(queryIndex + positionOffset - keyIndex));
      return score - r1(head) * log(1.0 + r2(head) * distance);
      """, buffers: [CustomBuffer("r1", .f32), CustomBuffer("r2", .f32)])
    let layers = [
      DecodeBuffers(
        query: try await device.makeBuffer(query), keyCache: try await device.makeBuffer(keys),
        valueCache: try await device.makeBuffer(values),
        output: try device.makeBuffer(byteCount: 2 * 4 * 16 * 4))
    ]
    let workspace = try device.makeBuffer(byteCount: 1 << 20)
    let recorder = try device.makeRecorder()

    let decode = try await CustomDecode(request, score: kerple, on: device)
    let schedule = try decode.plan.schedule(lengths: lengths)
    let step = try decode.prepare(
      schedule, userBuffers: ["r1": r1, "r2": r2], workspace: workspace, into: recorder)
    for layer in layers { try decode.record(layer, step: step, into: recorder) }

    try await device.submit(recorder).completed()
    var options = AttentionOptions()
    options.kvLengths = lengths
    options.scoreModification = { score, b, h, _, j in
      score - Double(numbers.r1[h]) * log(1 + Double(numbers.r2[h]) * Double(lengths[b] - 1 - j))
    }
    let reference = attention(
      q: query, k: keys, v: values,
      dimensions: AttentionDimensions(
        batch: 2, queryTokens: 1, keyTokens: 32, queryHeads: 4, keyHeads: 2, keyChannels: 16,
        valueChannels: 16), options: options)
    let actual = try await device.download(Float.self, from: layers[0].output)
    expectClose(actual, to: reference.o, within: 1e-5, "o")
  }

  @Test("Two of the library, with room for keys to come", .needsDevice, .needsShaderc)
  func library() async throws {
    let device = try TestDevice.shared()
    let request = try AttentionRequest(
      batchSize: 2, queryTokens: 24, queryHeads: 16, headSize: 16, mask: .causal)
    let count = 2 * 24 * 16 * 16
    var random = SplitMix64(seed: "library")
    let (q, k, v) = (random.normal(count), random.normal(count), random.normal(count))
    let sums = random.normal(2 * 16 * 4096)
    let numbers = (0..<2 * 4096).map { Int32($0 % 4096 / 7) }
    let decay = try await device.makeBuffer(sums)
    let documents = try await device.makeBuffer(numbers)
    let buffers = AttentionBuffers(
      query: try await device.makeBuffer(q), key: try await device.makeBuffer(k),
      value: try await device.makeBuffer(v), output: try device.makeBuffer(byteCount: count * 4),
      scratch: try device.makeBuffer(byteCount: 1 << 20))

    let kernel = try await CustomAttention(
      request, score: .decay(heads: 16), mask: .documents, on: device)
    try await kernel.run(
      buffers, userBuffers: ["decay": decay, "documents": documents],
      scalars: ["keyCapacity": .int(4096)])

    var options = AttentionOptions()
    options.causal = true
    options.scoreModification = { score, b, h, i, j in
      let row = (b * 16 + h) * 4096
      return score + Double(sums[row + i]) - Double(sums[row + j])
    }
    options.maskModification = { b, _, i, j in numbers[b * 4096 + i] == numbers[b * 4096 + j] }
    let reference = attention(
      q: q, k: k, v: v,
      dimensions: AttentionDimensions(
        batch: 2, queryTokens: 24, keyTokens: 24, queryHeads: 16, keyHeads: 16, keyChannels: 16,
        valueChannels: 16), options: options)
    let actual = try await device.download(Float.self, from: buffers.output)
    expectClose(actual, to: reference.o, within: 1e-5, "o")
  }
}
