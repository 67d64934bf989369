import AttentionReference
import Testing

#if canImport(Darwin)
  import Darwin
#else
  import Glibc
#endif

/// Feature maps, norms and short convolutions small enough to be done by hand.
@Suite struct HandWorkedPartsTests {
  private func close(_ actual: [Double], _ expected: [Double]) -> Bool {
    actual.count == expected.count
      && zip(actual, expected).allSatisfy { ($0 - $1).magnitude < 1e-12 }
  }

  @Test func symmetricSeries() {
    let half = 0.5.squareRoot()
    #expect(
      close(
        FeatureMap.symmetricTaylor2.mapped([2, 3, 5], heads: 1, channels: 3, scale: 1),
        [1, 2, 3, 5, 4 * half, 6, 10, 9 * half, 15, 25 * half]))
    #expect(FeatureMap.symmetricTaylor2.channels(from: 16) == 153)
    // The scale that nobody names is D^(−¼).
    #expect(
      close(
        FeatureMap.symmetricTaylor2.mapped([3], heads: 1, channels: 1), [1, 3, 9 * half]))
    #expect(
      close(
        Array(FeatureMap.taylor2.mapped([2, 2, 2, 2], heads: 1, channels: 4)[1...4]),
        [Double](repeating: 2 / 2.0.squareRoot(), count: 4)))
  }

  @Test func scales() {
    #expect(FeatureMap.relu.mapped([-1, 2], heads: 1, channels: 2, scale: -3) == [3, 0])
    #expect(close(FeatureMap.exponential.mapped([0, 1], heads: 1, channels: 2), [1, exp(1)]))
  }

  /// Two tokens of one head with one channel, w = (1, −2): exponents (x − x²/2, −2x − x²/2).
  @Test func stabilizedRandomFeatures() {
    let x = [2.0, -1]
    // (0, −6) and (−1.5, 1.5).
    func mapped(_ stabilizer: FeatureMap.Stabilizer) -> [Double] {
      FeatureMap.favorPlus(projection: [1, -2], epsilon: 0.25, stabilizer: stabilizer).mapped(
        x, heads: 1, channels: 1
      ).map { $0 * 2.0.squareRoot() }
    }
    #expect(close(mapped(.none), [1.25, exp(-6) + 0.25, exp(-1.5) + 0.25, exp(1.5) + 0.25]))
    #expect(close(mapped(.token), [1.25, exp(-6) + 0.25, exp(-3) + 0.25, 1.25]))
    #expect(
      close(mapped(.sequence), [exp(-1.5) + 0.25, exp(-7.5) + 0.25, exp(-3) + 0.25, 1.25]))
    // Two heads have a maximum each.
    let heads = FeatureMap.favorPlus(projection: [1], stabilizer: .sequence).mapped(
      [2, 1, 0, 1], heads: 2, channels: 1)
    #expect(close(heads, [1, 1, 1, 1]))
  }

  @Test func softmaxOfNothing() {
    let infinity = Double.infinity
    #expect(
      FeatureMap.softmax.mapped([-infinity, -infinity, 0, -infinity], heads: 1, channels: 2)
        == [0, 0, 1, 0])
  }

  @Test func norms() {
    var options = OutputNormOptions()
    options.epsilon = 0
    // Root mean squares 5 and 1.
    #expect(
      close(
        outputNorm([1, 7, 1, -1], heads: 2, channels: 2, options: options), [0.2, 1.4, 1, -1]))
    options.headsPerGroup = 2
    options.epsilon = 3
    // (1 + 49 + 1 + 1) / 4 + 3 = 16.
    options.weight = [4, 8]
    #expect(
      close(outputNorm([1, 7, 1, -1], heads: 2, channels: 2, options: options), [1, 14, 1, -2]))
    options = OutputNormOptions()
    options.norm = .layer
    options.epsilon = 0
    options.bias = [10, 20]
    // Mean 4, deviation 3.
    #expect(close(outputNorm([1, 7], heads: 1, channels: 2, options: options), [9, 21]))
    options.bias = nil
    options.gate = [0, 100]
    #expect(close(outputNorm([1, 7], heads: 1, channels: 2, options: options), [0, 100]))
    options.gateActivation = .sigmoid
    #expect(close(outputNorm([1, 7], heads: 1, channels: 2, options: options), [-0.5, 1]))
    options.norm = .rms
    options.gatesBeforeNorm = true
    // (3, 4) of (6, 4): root mean square √12.5.
    #expect(
      close(
        outputNorm([6, 4], heads: 1, channels: 2, options: options),
        [3 / 12.5.squareRoot(), 4 / 12.5.squareRoot()]))
  }

  @Test func convolutions() {
    // Two channels, width 3.
    let weight = [1.0, 10, 100, 0, 1, -1]
    let first = shortConvolution([1, 5, 2, 6], channels: 2, weight: weight, bias: [0.5, 0])
    #expect(first.y == [100.5, -5, 210.5, -1] && first.state == [1, 2, 5, 6])
    let second = shortConvolution([3, 7], channels: 2, weight: weight, state: first.state)
    #expect(second.y == [1 + 20 + 300, 6 - 7] && second.state == [2, 3, 6, 7])
    let empty = shortConvolution([], channels: 2, weight: weight, state: first.state)
    #expect(empty.y.isEmpty && empty.state == first.state)
    let silu = shortConvolution([2], channels: 1, weight: [0, 1], appliesSiLU: true)
    #expect(close(silu.y, [2 / (1 + exp(-2))]))
  }
}
