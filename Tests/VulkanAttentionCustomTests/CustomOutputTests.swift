import KernelBenchmarks
import TestSupport
import Testing

@testable import VulkanAttentionCustom

/// Modifications of the output, and normalisers of the request over a modified score.
@Suite(.serialized, .timeLimit(.minutes(15)))
struct CustomOutputTests {
  @Test(
    "Each number of the output is modified with its own place, once, and the log-sum-exp is not",
    .needsDevice, .needsShaderc, arguments: CustomPath.all)
  func places(path: CustomPath) async throws {
    let plain = try CustomRun.request(path.type, mask: .causal)
    let (batch, rows, heads) = (plain.batchSize, plain.queryTokens, plain.queryHeads)
    let width = plain.valueHeadSize
    // Factors that are exact in f16, another one for each of neighbours along every axis.
    let factors = (0..<batch * rows * heads * width).map { Float(1 + $0 % 7) * 0.25 }
    let output = try OutputModification(
      """
      int row = (batch * int(queryTokens) + queryIndex) * heads + head;
      return value * factors(row * width + channel) + shift;
      """, buffers: [CustomBuffer("factors", .f32)],
      scalars: [
        CustomScalar("heads", .int), CustomScalar("width", .int), CustomScalar("shift", .float),
      ])
    let kernel = try await CustomRun.kernel(
      plain, path.path, output: output, isChecked: true)
    let inputs = AttentionInputs.random(for: plain, seed: "output")
    let buffer = try await TestDevice.shared().makeBuffer(factors, label: "factors")
    let result = try await CustomRun.run(
      kernel, inputs, buffers: ["factors": buffer],
      scalars: ["heads": .int(Int32(heads)), "width": .int(Int32(width)), "shift": .float(2)])
    let own = try await CustomRun.builtIn(plain, path.path, inputs)
    let expected = zip(own.output, factors).map { Double($0 * $1 + 2) }
    expectClose(
      result.output, to: expected, within: path.type == .f32 ? 1e-6 : 1e-3, "\(path.path)")
    #expect(result.logSumExp == own.logSumExp)
  }

  @Test(
    "Rows that see no key come to the output's modification with 0", .needsDevice, .needsShaderc)
  func hiddenRows() async throws {
    let plain = try CustomRun.request(.f32)
    for path in [AttentionPath.row, .subgroup] {
      let kernel = try await CustomRun.kernel(
        plain, path, mask: MaskModification("return queryIndex != 3;"),
        output: OutputModification("return value == 0.0 ? 5.0 : value;"))
      let result = try await CustomRun.run(
        kernel, AttentionInputs.random(for: plain, seed: "hidden rows"))
      let row = plain.queryHeads * plain.valueHeadSize
      #expect(result.output[3 * row..<4 * row].allSatisfy { $0 == 5 }, "\(path)")
      #expect(result.output[..<(3 * row)].allSatisfy { $0 != 5 && $0.isFinite }, "\(path)")
      let lse = try #require(result.logSumExp)
      #expect(lse[3 * plain.queryHeads..<4 * plain.queryHeads].allSatisfy { $0 == -.infinity })
    }
  }

  @Test(
    "The request's normaliser takes the modified score", .needsDevice, .needsShaderc,
    arguments: CustomPath.all,
    [AttentionNormalizer.reluMean, .sigmoid(bias: -1)])
  func normalizers(path: CustomPath, normalizer: AttentionNormalizer) async throws {
    let slopes: [Float] = [0.5, 0.25, 0.125, 0.0625]
    var scores = AttentionScores()
    scores.normalizer = normalizer
    let plain = try CustomRun.request(path.type, mask: .causal, scores: scores)
    let score = try ScoreModification(
      "return score - slopes(head) * float(abs(keyIndex - queryIndex - positionOffset));",
      buffers: [CustomBuffer("slopes", .f32)])
    let kernel = try await CustomRun.kernel(plain, path.path, score: score)
    var inputs = AttentionInputs.random(for: plain, seed: "normalizer")
    let buffer = try await TestDevice.shared().makeBuffer(slopes, label: "slopes")
    let result = try await CustomRun.run(kernel, inputs, buffers: ["slopes": buffer])
    inputs.operands[.alibiSlopes] = slopes.flatMap { withUnsafeBytes(of: $0) { Array($0) } }
    let expected = try await CustomRun.builtIn(
      try CustomRun.request(
        path.type, mask: .causal, scores: scores,
        operands: [AttentionOperand(.alibiSlopes, shared: .batch)]),
      path.path, inputs)
    #expect(expected.output.contains { $0 != 0 })
    try CustomRun.expectSame(result, as: expected, path.type, "\(path.path), \(normalizer)")
  }
}
