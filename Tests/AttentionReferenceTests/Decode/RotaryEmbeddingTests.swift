import AttentionReference
import Foundation
import Testing

@Suite struct RotaryEmbeddingTests {
  private func near(_ a: [Double], _ b: [Double], _ tolerance: Double = 1e-14) -> Bool {
    a.count == b.count && zip(a, b).allSatisfy { abs($0 - $1) <= tolerance }
  }

  @Test func workedByHand() {
    // θ = 10⁴ and four channels: frequencies 1 and 0.01.
    var rotary = RotaryEmbedding()
    #expect(near(rotary.frequencies(channels: 4), [1, 0.01]))
    let x = [1.0, 0, 0, 1]
    #expect(
      near(
        rotary.rotated(x, positions: [2], heads: 1, channels: 4),
        [cos(2), -sin(0.02), sin(2), cos(0.02)]))
    rotary.pairing = .interleaved
    #expect(
      near(
        rotary.rotated(x, positions: [2], heads: 1, channels: 4),
        [cos(2), sin(2), -sin(0.02), cos(0.02)]))
    rotary.scaling = .linear(factor: 4)
    #expect(
      near(
        rotary.rotated(x, positions: [8], heads: 1, channels: 4),
        [cos(2), sin(2), -sin(0.02), cos(0.02)]))
    rotary.scaling = .none
    rotary.rotaryChannels = 2
    #expect(
      near(
        rotary.rotated(x, positions: [2], heads: 1, channels: 4), [cos(2), sin(2), 0, 1]))
    rotary.theta = 100
    rotary.rotaryChannels = 4
    #expect(near(rotary.frequencies(channels: 6), [1, 0.1]))
  }

  @Test(arguments: RotaryEmbedding.Pairing.allCases)
  func productsDependOnTheDistance(_ pairing: RotaryEmbedding.Pairing) {
    var random = SeededNumbers(seed: 31)
    var rotary = RotaryEmbedding()
    rotary.pairing = pairing
    rotary.rotaryChannels = 6
    var yarn = YarnScaling(factor: 8, originalContext: 64)
    yarn.ramp = .rotations
    for scaling in [RotaryEmbedding.Scaling.none, .linear(factor: 2), .yarn(yarn)] {
      rotary.scaling = scaling
      let (q, k) = (random.normal(8), random.normal(8))
      func product(_ m: Int, _ n: Int) -> Double {
        let a = rotary.rotated(q, positions: [m], heads: 1, channels: 8)
        let b = rotary.rotated(k, positions: [n], heads: 1, channels: 8)
        return zip(a, b).reduce(0) { $0 + $1.0 * $1.1 }
      }
      #expect(abs(product(17, 12) - product(1005, 1000)) < 1e-11)
      #expect(abs(product(17, 12) - product(17, 11)) > 1e-3)
    }
  }

  @Test func tokensAndHeadsHaveTheirOwnPlaces() {
    var random = SeededNumbers(seed: 32)
    let x = random.normal(3 * 2 * 4)
    let rotary = RotaryEmbedding()
    let all = rotary.rotated(x, positions: [5, 0, 9], heads: 2, channels: 4)
    #expect(Array(all[8..<16]) == Array(x[8..<16]))
    #expect(
      Array(all[20...])
        == rotary.rotated(Array(x[20...]), positions: [9], heads: 1, channels: 4))
  }

  @Test func yarnByHand() {
    // 16 channels, L = 4096: pair 16 · ln(4096 / 64π) / (2 ln 10⁴) = 2.6 turns 32 times, pair 5.6 once.
    var rotary = RotaryEmbedding()
    var yarn = YarnScaling(factor: 4, originalContext: 4096)
    rotary.scaling = .yarn(yarn)
    let plain = (0..<8).map { pow(10_000, -Double($0) / 8) }
    let ramp = [0, 0, 0, 0.25, 0.5, 0.75, 1, 1]
    #expect(
      near(
        rotary.frequencies(channels: 16),
        zip(plain, ramp).map { $0 * (1 - $1) + $0 / 4 * $1 }, 1e-15))
    #expect(abs(rotary.attentionFactor - (0.1 * log(4) + 1)) < 1e-15)

    // γ of the paper: linear in the number of turns between 1 and 32.
    yarn.ramp = .rotations
    rotary.scaling = .yarn(yarn)
    let turns = plain.map { 4096 * $0 / (2 * .pi) }
    let kept = turns.map { min(max(($0 - 1) / 31, 0), 1) }
    #expect(kept[2] == 1 && kept[7] == 0 && kept[4] > 0.1 && kept[4] < 0.9)
    #expect(
      near(
        rotary.frequencies(channels: 16), zip(plain, kept).map { $0 * $1 + $0 / 4 * (1 - $1) },
        1e-15))

    yarn.ownAttentionFactor = 1.5
    yarn.factor = 1
    rotary.scaling = .yarn(yarn)
    #expect(near(rotary.frequencies(channels: 16), plain, 1e-15))
    #expect(rotary.rotated([2, 0], positions: [0], heads: 1, channels: 2) == [3, 0])
    #expect(YarnScaling(factor: 1, originalContext: 9).attentionFactor == 1)
  }
}
