import AttentionReference
import Foundation
import KernelBenchmarks
import TestSupport
import Testing

@testable import VulkanAttentionCustom

/// The example of the article, against its formula in plain loops.
@Suite(.timeLimit(.minutes(5)))
struct CustomArticleTests {
  @Test("KERPLE's formula in ten lines", .needsDevice, .needsShaderc) func kerple() async throws {
    let device = try TestDevice.shared()
    let request = try CustomRun.request(.f32, mask: .causal)
    let inputs = AttentionInputs.random(for: request, seed: "kerple")
    let numbers: (r1: [Float], r2: [Float]) = ([0.5, 1, 2, 0.25], [1, 0.5, 0.125, 2])
    let r1 = try await device.makeBuffer(numbers.r1, label: "r1")
    let r2 = try await device.makeBuffer(numbers.r2, label: "r2")

    let kerple = try ScoreModification(
      """
      float distance = float(abs(queryIndex + positionOffset - keyIndex));
      return score - r1(head) * log(1.0 + r2(head) * distance);
      """, buffers: [CustomBuffer("r1", .f32), CustomBuffer("r2", .f32)])
    let attention = try await CustomAttention(
      request, score: kerple, on: device, compiler: CustomRun.compiler)
    let result = try await CustomRun.run(
      attention, inputs, buffers: ["r1": r1, "r2": r2])

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
}
