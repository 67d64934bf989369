import AttentionReference
import Testing

/// The references of the companion kernels against cases worked by hand, and numbers of PyTorch 2.15 in float64.
@Suite struct CompanionReferenceTests {
  private func expectEqual(
    _ actual: [Double], _ expected: [Double], within tolerance: Double = 1e-12,
    sourceLocation: SourceLocation = #_sourceLocation
  ) {
    #expect(actual.count == expected.count, sourceLocation: sourceLocation)
    for (index, (a, b)) in zip(actual, expected).enumerated() {
      #expect(abs(a - b) <= tolerance, "\(index)", sourceLocation: sourceLocation)
    }
  }

  @Test("Activations at -1.5, 0.5 and 3: torch.nn.functional")
  func activations() {
    let x = [-1.5, 0.5, 3]
    let expected: [ActivationFunction: [Double]] = [
      .none: x, .relu: [0, 0.5, 3],
      .silu: [-0.27363829, 0.31122967, 2.85772238],
      .geluTanh: [-0.10042842, 0.34571401, 2.99636261],
      .geluErf: [-0.10021080, 0.34573123, 2.99595031],
    ]
    #expect(expected.count == ActivationFunction.allCases.count)
    for (function, values) in expected {
      expectEqual(x.map { function($0) }, values, within: 1e-8)
    }
  }

  @Test func normalisation() {
    // mean 2, variance 2; mean square 6.
    let x = [0.0, 2, 2, 4]
    expectEqual(
      CompanionReference.normalized(x, channels: 4, isCentered: true, epsilon: 2),
      [-1, 0, 0, 1])
    expectEqual(
      CompanionReference.normalized(
        x, channels: 4, isCentered: false, epsilon: 3, weight: [1, 3, 6, 9], bias: [5, 0, 0, 1]),
      [5, 2, 4, 13])
    // Rows are apart.
    expectEqual(
      CompanionReference.normalized(
        [3, 4, 0, 5], channels: 2, isCentered: false, epsilon: 0, weight: [1, 2]),
      [3 / 12.5.squareRoot(), 8 / 12.5.squareRoot(), 0, 10 / 12.5.squareRoot()])
  }

  @Test func product() {
    // [1 2; 3 4] times the transpose of [1 0; 0 -1; 1 1].
    let y = CompanionReference.matrixProduct(
      [1, 2, 3, 4], weight: [1, 0, 0, -1, 1, 1], inputChannels: 2)
    expectEqual(y, [1, -2, 3, 3, -4, 7])
    expectEqual(
      CompanionReference.matrixProduct(
        [1, 2, 3, 4], weight: [1, 0, 0, -1, 1, 1], inputChannels: 2, bias: [0, 3, -4],
        activation: .relu, residual: [10, 20, 30, 40, 50, 60]),
      [11, 21, 30, 43, 50, 63])
  }

  @Test func softmax() {
    let e = Double.exp(1)
    expectEqual(
      CompanionReference.softmax([0, 0, 2, 0, -.infinity, -.infinity], channels: 2, scale: 0.5),
      [0.5, 0.5, e / (e + 1), 1 / (e + 1), 0, 0])
    #expect(CompanionReference.softmax([.nan, 1], channels: 2).allSatisfy { $0.isNaN })
  }

  @Test func embedding() {
    let y = CompanionReference.embedded(
      [([1, 2, 3, 4], [1, 0]), ([10, 20], [0, 0])], channels: 2, scale: 2)
    expectEqual(y, [26, 48, 22, 44])
    let outside = CompanionReference.embedded([([1, 2], [0, 1, -1])], channels: 2)
    #expect(outside[..<2] == [1, 2] && outside[2...].allSatisfy { $0.isNaN })
  }

  @Test("Draws from 1/8, 1/2, 1/8, 1/4, cut in every way")
  func draws() {
    let logits = [1.0, 4, 1, 2].map { Double.log($0) }
    func tokens(_ distribution: TokenDistribution) -> [Int?] {
      [0, 0.124, 0.126, 0.624, 0.626, 0.749, 0.751, 0.999].map { distribution.token(uniform: $0) }
    }
    #expect(tokens(TokenDistribution(logits: logits)) == [0, 0, 1, 1, 2, 2, 3, 3])
    // Weights 1, 16, 1, 4 of 22.
    let cold = TokenDistribution(logits: logits, temperature: 0.5)
    expectEqual(cold.cumulative, [1, 17, 18, 22].map { $0 / 22 })
    // Of the two least, the one of the smaller number is kept.
    #expect(TokenDistribution(logits: logits, topTokens: 3).tokens == [0, 1, 3])
    #expect(TokenDistribution(logits: logits, topTokens: 2).tokens == [1, 3])
    #expect(TokenDistribution(logits: logits, topMass: 0.4).tokens == [1])
    #expect(TokenDistribution(logits: logits, topMass: 0.74).tokens == [1, 3])
    #expect(TokenDistribution(logits: logits, topMass: 0.8).tokens == [0, 1, 3])
    // Of the three kept by number, 4 of 7 are the mass of the first.
    #expect(TokenDistribution(logits: logits, topTokens: 3, topMass: 0.56).tokens == [1])
    #expect(TokenDistribution(logits: [-.infinity, .nan, 0]).tokens == [2])
    #expect(TokenDistribution(logits: [-.infinity, .nan]).token(uniform: 0.5) == nil)
    #expect(
      abs(TokenDistribution(logits: logits).distanceToBorder(uniform: 0.6) - 0.025) < 1e-12)
  }
}
