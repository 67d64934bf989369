import AttentionReference
import TestSupport
import Testing

@testable import VulkanAttention

#if canImport(Darwin)
  import Darwin
#else
  import Glibc
#endif

/// The calls of the article "Linear attention, model by model" against each paper's transition written as a product of
/// matrices: for models that erase.
@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct DeltaModelTests {
  let steps: ModelSteps
  let shape = ModelShape()

  init() throws {
    steps = ModelSteps(device: try TestDevice.shared())
  }

  private func problem(
    _ operands: Set<LinearAttentionOperand>, erases: Bool = true, scale: Float? = nil
  ) throws -> LinearProblem {
    LinearProblem(
      try LinearAttentionRequest(
        tokens: shape.tokens, valueHeads: shape.heads, keyHeadSize: shape.keyChannels,
        valueHeadSize: shape.valueChannels, scale: scale, erases: erases, operands: operands))
  }

  /// S_t = A_t S_{t−1} + B_t and o_t = scale S_tᵀ q_t.
  private func recurrence(
    _ problem: LinearProblem, scale: Double = 1 / 8.0.squareRoot(),
    _ step: (_ t: Int, _ h: Int) -> (transition: Matrix, added: Matrix)
  ) -> [Double] {
    var o = [Double](repeating: 0, count: 240)
    for h in 0..<2 {
      var state = Matrix(8, 6)
      for t in 0..<20 {
        let (transition, added) = step(t, h)
        state = transition * state + added
        for j in 0..<6 {
          o[(t * 2 + h) * 6 + j] = (0..<8).reduce(0) {
            $0 + scale * shape.at(problem.q, t, h, $1, of: 8) * state[$1, j]
          }
        }
      }
    }
    return o
  }

  private func row(_ values: [Float], _ t: Int, _ h: Int, _ channels: Int) -> [Double] {
    (0..<channels).map { shape.at(values, t, h, $0, of: channels) }
  }

  /// I − β k kᵀ, and β k vᵀ.
  private func householder(
    _ problem: LinearProblem, _ t: Int, _ h: Int
  ) -> (transition: Matrix, added: Matrix) {
    let k = row(problem.k, t, h, 8)
    let beta = shape.at(problem.numbers[.beta] ?? [], t, h)
    return (
      .identity(8) - beta * Matrix.outer(k, k), beta * Matrix.outer(k, row(problem.v, t, h, 6))
    )
  }

  /// S_t = (I − β k kᵀ) S_{t−1} + β k vᵀ.
  @Test func deltaNet() async throws {
    let problem = try problem([.beta])
    let expected = recurrence(problem) { t, h in householder(problem, t, h) }
    _ = try await steps.attend(problem, to: expected, "DeltaNet")
  }

  /// S_t = α (I − β k kᵀ) S_{t−1} + β k vᵀ, k of length 1 by the kernel of feature maps.
  @Test func gatedDeltaNet() async throws {
    var problem = try problem([.beta, .decay])
    problem.k = try await steps.features(
      problem.q, .l2Norm(epsilon: 0), tokens: 20, heads: 2)
    let unit = (0..<320).map { index in
      let row = row(problem.q, index / 16, index / 8 % 2, 8)
      return row[index % 8] / row.reduce(0) { $0 + $1 * $1 }.squareRoot()
    }
    expectClose(problem.k, to: unit, within: 1e-6, "keys of length 1")
    let expected = recurrence(problem) { t, h in
      let (transition, added) = householder(problem, t, h)
      return (exp(shape.at(problem.numbers[.decay] ?? [], t, h)) * transition, added)
    }
    _ = try await steps.attend(problem, to: expected, "Gated DeltaNet")
  }

  /// S_t = (I − β k kᵀ) Diag(α) S_{t−1} + β k vᵀ.
  @Test func kimiDeltaAttention() async throws {
    let problem = try problem([.beta, .keyDecay])
    let expected = recurrence(problem) { t, h in
      let (transition, added) = householder(problem, t, h)
      let alpha = row(problem.numbers[.keyDecay] ?? [], t, h, 8).map { exp($0) }
      return (transition * .diagonal(alpha), added)
    }
    _ = try await steps.attend(problem, to: expected, "KDA")
  }

  /// S_t = (Diag(w) − κ̂ (a ⊙ κ̂)ᵀ)ᵀ S_{t−1} + k̃ vᵀ: the paper's state is transposed.
  @Test func rwkv7() async throws {
    var problem = try problem(
      [.keyDecay, .lowRankA, .lowRankB], erases: false, scale: 1)
    var random = SplitMix64(seed: 21)
    let removal = problem.k
    let rate = (0..<removal.count).map { _ in Float(random.next() >> 40) * 0x1p-24 }
    problem.k = random.normal(removal.count)
    problem.numbers[.lowRankA] = removal.map { -$0 }
    problem.numbers[.lowRankB] = zip(removal, rate).map { $0 * $1 }
    let expected = recurrence(problem, scale: 1) { t, h in
      let kappa = row(removal, t, h, 8)
      let scaled = zip(kappa, row(rate, t, h, 8)).map { $0 * $1 }
      let w = row(problem.numbers[.keyDecay] ?? [], t, h, 8).map { exp($0) }
      let paper = Matrix.diagonal(w) - .outer(kappa, scaled)
      return (
        Matrix(8, 8) { paper[$1, $0] },
        .outer(row(problem.k, t, h, 8), row(problem.v, t, h, 6))
      )
    }
    _ = try await steps.attend(problem, to: expected, "RWKV-7")
  }

  /// S ← α S, then S ← (I − β_u k_u k_uᵀ) S + β_u k_u v_uᵀ for both updates of a token.
  @Test func gatedDeltaProduct() async throws {
    let problem = LinearProblem(
      try LinearAttentionRequest(
        tokens: 20, valueHeads: 2, keyHeadSize: 8, valueHeadSize: 6, updatesPerToken: 2,
        erases: true, operands: [.beta, .decay]))
    let expected = recurrence(problem) { t, h in
      let (first, added) = householder(problem, 2 * t, h)
      let (second, addedLast) = householder(problem, 2 * t + 1, h)
      let alpha = exp(shape.at(problem.numbers[.decay] ?? [], t, h))
      return (alpha * (second * first), second * added + addedLast)
    }
    _ = try await steps.attend(problem, to: expected, "Gated DeltaProduct")
  }

  /// S_t = α (I − β k pᵀ) S_{t−1} + β k vᵀ.
  @Test func comba() async throws {
    let problem = try problem([.beta, .decay, .eraseKeys])
    let expected = recurrence(problem) { t, h in
      let beta = shape.at(problem.numbers[.beta] ?? [], t, h)
      let p = row(problem.numbers[.eraseKeys] ?? [], t, h, 8)
      let alpha = exp(shape.at(problem.numbers[.decay] ?? [], t, h))
      return (
        alpha * (.identity(8) - beta * Matrix.outer(row(problem.k, t, h, 8), p)),
        householder(problem, t, h).added
      )
    }
    _ = try await steps.attend(problem, to: expected, "Comba")
  }

  /// S_t = (I − k (b ⊙ k)ᵀ) Diag(α) S_{t−1} + k (w ⊙ v)ᵀ.
  @Test func gatedDeltaNet2() async throws {
    let problem = try problem([.keyDecay, .eraseGates, .writeGates])
    let expected = recurrence(problem) { t, h in
      let k = row(problem.k, t, h, 8)
      let erased = zip(k, row(problem.numbers[.eraseGates] ?? [], t, h, 8)).map { $0 * $1 }
      let written = zip(
        row(problem.v, t, h, 6), row(problem.numbers[.writeGates] ?? [], t, h, 6)
      ).map { $0 * $1 }
      let alpha = row(problem.numbers[.keyDecay] ?? [], t, h, 8).map { exp($0) }
      return (
        (.identity(8) - Matrix.outer(k, erased)) * .diagonal(alpha), .outer(k, written)
      )
    }
    _ = try await steps.attend(problem, to: expected, "Gated DeltaNet-2")
  }
}
