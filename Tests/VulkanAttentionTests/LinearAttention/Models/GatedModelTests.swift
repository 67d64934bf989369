import AttentionReference
import TestSupport
import Testing

@testable import VulkanAttention

#if canImport(Darwin)
  import Darwin
#else
  import Glibc
#endif

/// The calls of the article "Linear attention, model by model" against each paper's own formula, written out here: for
/// models whose state decays and grows.
@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct GatedModelTests {
  let steps: ModelSteps
  let shape = ModelShape()

  init() throws {
    steps = ModelSteps(device: try TestDevice.shared())
  }

  private func problem(
    _ operands: Set<LinearAttentionOperand>, scale: Float? = nil, before: Bool = false,
    softplus: Bool = false, normalizer: LinearAttentionNormalizer = .none, seed: UInt64 = 1
  ) throws -> LinearProblem {
    LinearProblem(
      try LinearAttentionRequest(
        tokens: shape.tokens, valueHeads: shape.heads, keyHeadSize: shape.keyChannels,
        valueHeadSize: shape.valueChannels, scale: scale, readsBeforeUpdate: before,
        appliesSoftplus: softplus, normalizer: normalizer, operands: operands), seed: seed)
  }

  private func random(_ count: Int, _ seed: UInt64) -> [Float] {
    var random = SplitMix64(seed: seed)
    return random.normal(count)
  }

  private func sigmoid(_ z: Double) -> Double { 1 / (1 + exp(-z)) }

  /// Parallel form: (Q Kᵀ ⊙ D) V with D_ts = γ^(t − s), then the group norm and the SiLU gate.
  @Test(arguments: [LinearAttentionNormalizer.none, .retention])
  func retNet(_ normalizer: LinearAttentionNormalizer) async throws {
    var problem = try problem([.headDecay], normalizer: normalizer)
    problem.numbers[.headDecay] = try LinearAttentionDecays.retention(heads: 2)
    // Large enough that |Σ| is more than 1 for some rows and less for others.
    problem.q = problem.q.map { 6 * $0 }
    func weight(_ t: Int, _ s: Int, _ h: Int) -> Double {
      let gamma = 1 - exp2(-5 - Double(h))
      return pow(gamma, Double(t - s)) * shape.dot(problem.q, t, problem.k, s, h, of: 8)
        / 8.0.squareRoot()
    }
    let plain = shape.weighted(problem.v, weight)
    let expected = shape.output { t, h, j in
      let total = (0...t).reduce(0) { $0 + weight(t, $1, h) }
      return plain[(t * 2 + h) * 6 + j] / (normalizer == .none ? 1 : max(abs(total), 1))
    }
    let o = try await steps.attend(problem, to: expected, "RetNet")
    let z = random(o.count, 3)
    let y = try await steps.norm(
      o, gate: z,
      OutputNormRequest(tokens: 20, heads: 2, channels: 6, norm: .layer, gate: .silu))
    let normed = shape.output { t, h, j in
      let row = (0..<6).map { expected[(t * 2 + h) * 6 + $0] }
      let mean = row.reduce(0, +) / 6
      let variance = row.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / 6
      let gate = shape.at(z, t, h, j, of: 6)
      return (row[j] - mean) / (variance + 1e-6).squareRoot() * gate * sigmoid(gate)
    }
    expectClose(y, to: normed, within: 1e-4, "RetNet, normed")
  }

  /// Σ λ^(t − s) q·k v without a softmax, then SRMSNorm over all heads.
  @Test func transNormer() async throws {
    var problem = try problem([.headDecay], scale: 1)
    let decays = try LinearAttentionDecays.lightning(heads: 2, layer: 1, layers: 4)
    problem.numbers[.headDecay] = decays
    let expected = shape.weighted(problem.v) { t, s, h in
      exp(Double(decays[h]) * Double(t - s)) * shape.dot(problem.q, t, problem.k, s, h, of: 8)
    }
    let o = try await steps.attend(problem, to: expected, "TransNormerLLM")
    let y = try await steps.norm(
      o, OutputNormRequest(tokens: 20, heads: 2, channels: 6, headsPerGroup: 2, epsilon: 0))
    let normed = (0..<expected.count).map { index in
      let row = expected[index / 12 * 12..<index / 12 * 12 + 12]
      return expected[index] / (row.reduce(0) { $0 + $1 * $1 } / 12).squareRoot()
    }
    expectClose(y, to: normed, within: 1e-5, "SRMSNorm")
  }

  /// Lightning Attention-2 by blocks: [(Q Kᵀ) ⊙ M] V within one, Λ Q (KV) across, KV ← λ^B KV + (λ^B Λ⁻¹ K)ᵀ V; then
  /// MiniMax-01's norm over all heads and its sigmoid gate.
  @Test func lightningAttention2() async throws {
    var problem = try problem([.headDecay], scale: 1)
    let decays = try LinearAttentionDecays.lightning(heads: 2, layer: 0, layers: 80)
    problem.numbers[.headDecay] = decays
    let block = 7
    var expected = [Double](repeating: 0, count: 20 * 12)
    for h in 0..<2 {
      let lambda = exp(Double(decays[h]))
      var kv = Matrix(8, 6)
      for start in stride(from: 0, to: 20, by: block) {
        let end = min(start + block, 20)
        func matrix(_ values: [Float], _ columns: Int) -> Matrix {
          Matrix(end - start, columns) { shape.at(values, start + $0, h, $1, of: columns) }
        }
        let (q, k, v) = (matrix(problem.q, 8), matrix(problem.k, 8), matrix(problem.v, 6))
        let mask = Matrix(q.rows, q.rows) { $0 >= $1 ? pow(lambda, Double($0 - $1)) : 0 }
        let scores = Matrix(q.rows, q.rows) { i, j in
          mask[i, j] * (0..<8).reduce(0) { $0 + q[i, $1] * k[j, $1] }
        }
        let rising = Matrix.diagonal((0..<q.rows).map { pow(lambda, Double($0 + 1)) })
        let falling = Matrix.diagonal((0..<q.rows).map { pow(lambda, Double(q.rows - 1 - $0)) })
        let o = scores * v + rising * q * kv
        for i in 0..<o.rows {
          for j in 0..<6 { expected[((start + i) * 2 + h) * 6 + j] = o[i, j] }
        }
        let keys = falling * k
        kv = pow(lambda, Double(q.rows)) * kv + Matrix(8, keys.rows) { keys[$1, $0] } * v
      }
    }
    let o = try await steps.attend(problem, to: expected, "Lightning Attention-2")
    let z = random(o.count, 4)
    let weight = random(12, 5)
    let y = try await steps.norm(
      o, gate: z, weight: weight,
      OutputNormRequest(
        tokens: 20, heads: 2, channels: 6, headsPerGroup: 2, weight: .perHead, gate: .sigmoid))
    let normed = expected.indices.map { index in
      let row = expected[index / 12 * 12..<index / 12 * 12 + 12]
      return expected[index] / (row.reduce(0) { $0 + $1 * $1 } / 12 + 1e-6).squareRoot()
        * Double(weight[index % 12]) * sigmoid(Double(z[index]))
    }
    expectClose(y, to: normed, within: 1e-5, "MiniMax-01's epilogue")
  }

  /// o_t = Σ_s Σ_c q_tc exp(b_tc − b_sc) k_sc v_s, b the sums of log gates; then head-wise norm and SiLU gate.
  @Test func gatedLinearAttention() async throws {
    let problem = try problem([.keyDecay])
    let gates = problem.numbers[.keyDecay] ?? []
    func b(_ t: Int, _ h: Int, _ c: Int) -> Double {
      (0...t).reduce(0) { $0 + shape.at(gates, $1, h, c, of: 8) }
    }
    let expected = shape.weighted(problem.v) { t, s, h in
      (0..<8).reduce(0) {
        $0 + shape.at(problem.q, t, h, $1, of: 8) * shape.at(problem.k, s, h, $1, of: 8)
          * exp(b(t, h, $1) - b(s, h, $1))
      } / 8.0.squareRoot()
    }
    let o = try await steps.attend(problem, to: expected, "GLA")
    let weight = random(6, 8)
    let z = random(o.count, 9)
    let y = try await steps.norm(
      o, gate: z, weight: weight,
      OutputNormRequest(tokens: 20, heads: 2, channels: 6, weight: .perChannel, gate: .silu))
    let normed = expected.indices.map { index in
      let row = expected[index / 6 * 6..<index / 6 * 6 + 6]
      let gate = Double(z[index])
      return expected[index] / (row.reduce(0) { $0 + $1 * $1 } / 6 + 1e-6).squareRoot()
        * Double(weight[index % 6]) * gate * sigmoid(gate)
    }
    expectClose(y, to: normed, within: 1e-5, "GLA's epilogue")
  }

  /// h ← Diag(f) h + (1 − f) iᵀ, o = hᵀ q.
  @Test func hgrn2() async throws {
    var problem = try problem([.keyDecay], scale: 1)
    let gates = problem.numbers[.keyDecay] ?? []
    problem.k = gates.map { Float(-expm1(Double($0))) }
    var expected = [Double](repeating: 0, count: 240)
    for h in 0..<2 {
      var state = Matrix(8, 6)
      for t in 0..<20 {
        let f = (0..<8).map { exp(shape.at(gates, t, h, $0, of: 8)) }
        let i = (0..<6).map { shape.at(problem.v, t, h, $0, of: 6) }
        state = Matrix.diagonal(f) * state + .outer(f.map { 1 - $0 }, i)
        for j in 0..<6 {
          expected[(t * 2 + h) * 6 + j] = (0..<8).reduce(0) {
            $0 + shape.at(problem.q, t, h, $1, of: 8) * state[$1, j]
          }
        }
      }
    }
    _ = try await steps.attend(problem, to: expected, "HGRN-2")
  }

  /// The semiseparable matrix form y = (L ⊙ C Bᵀ) (dt x) + D x of what a short convolution gives, then Mamba-2's norm of
  /// the gated output.
  @Test func mamba2() async throws {
    var problem = try problem(
      [.timeStep, .rate, .timeStepBias, .skip], scale: 1, softplus: true)
    // x, B and C go through one convolution of all their channels.
    let row = 2 * 6 + 2 * 8 + 2 * 8
    var convolution = ShortConvolutionProblem(
      try ShortConvolutionRequest(
        tokens: 20, channels: row, width: 4, hasBias: true, appliesSiLU: true))
    convolution.x = random(20 * row, 2)
    let mixed = try await convolution.run(on: steps.device).y
    let silu = (0..<20 * row).map { index in
      let (t, c) = index.quotientAndRemainder(dividingBy: row)
      let sum = (0..<4).reduce(Double(convolution.bias[c])) {
        t - 3 + $1 < 0
          ? $0
          : $0 + Double(convolution.weight[c * 4 + $1])
            * Double(convolution.x[(t - 3 + $1) * row + c])
      }
      return sum * sigmoid(sum)
    }
    expectClose(mixed, to: silu, within: 1e-6, "convolution")
    func part(_ from: Int, _ count: Int) -> [Float] {
      (0..<20).flatMap { mixed[$0 * row + from..<$0 * row + from + count] }
    }
    (problem.v, problem.k, problem.q) = (part(0, 12), part(12, 16), part(28, 16))
    let numbers = problem.numbers
    func dt(_ t: Int, _ h: Int) -> Double {
      log1p(exp(shape.at(numbers[.timeStep] ?? [], t, h) + Double(numbers[.timeStepBias]?[h] ?? 0)))
    }
    let weighted = shape.weighted(problem.v) { t, s, h in
      let decay = (s + 1..<t + 1).reduce(0) { $0 + dt($1, h) * Double(numbers[.rate]?[h] ?? 0) }
      return shape.dot(problem.q, t, problem.k, s, h, of: 8) * exp(decay) * dt(s, h)
    }
    let expected = shape.output { t, h, j in
      weighted[(t * 2 + h) * 6 + j]
        + Double(numbers[.skip]?[h] ?? 0) * shape.at(problem.v, t, h, j, of: 6)
    }
    let o = try await steps.attend(problem, to: expected, "Mamba-2")
    let z = random(240, 6)
    let weight = random(12, 7)
    let y = try await steps.norm(
      o, gate: z, weight: weight,
      OutputNormRequest(
        tokens: 20, heads: 2, channels: 6, headsPerGroup: 2, weight: .perHead, gate: .silu,
        gatesBeforeNorm: true))
    let gated = zip(expected, z).map { $0 * Double($1) * sigmoid(Double($1)) }
    let normed = gated.indices.map { index in
      let row = gated[index / 12 * 12..<index / 12 * 12 + 12]
      return gated[index] / (row.reduce(0) { $0 + $1 * $1 } / 12 + 1e-6).squareRoot()
        * Double(weight[index % 12])
    }
    expectClose(y, to: normed, within: 1e-5, "Mamba-2's norm")
  }

  /// wkv_t = Diag(u) k_tᵀ v_t + Σ_{s<t} Diag(Π_{s<r<t} w_r) k_sᵀ v_s.
  @Test func rwkv6() async throws {
    let problem = try problem([.keyDecay, .bonus], scale: 1, before: true)
    let w = problem.numbers[.keyDecay] ?? []
    let expected = shape.weighted(problem.v) { t, s, h in
      (0..<8).reduce(0) { sum, c in
        let product =
          s == t
          ? Double(problem.numbers[.bonus]?[h * 8 + c] ?? 0)
          : exp((s + 1..<t).reduce(0) { $0 + shape.at(w, $1, h, c, of: 8) })
        return sum + shape.at(problem.q, t, h, c, of: 8) * product
          * shape.at(problem.k, s, h, c, of: 8)
      }
    }
    _ = try await steps.attend(problem, to: expected, "RWKV-6")
  }

  /// K̃ and Ṽ are sums of keys and values over slots, o = Ṽᵀ softmax(K̃ q).
  @Test func gatedSlotAttention() async throws {
    let slots = 5
    let decay = random(20 * 2 * slots, 12).map { -abs($0) }
    let written = decay.map { Float(-expm1(Double($0))) }
    let q = random(20 * 2 * 8, 13)
    let k = random(20 * 2 * 8, 14)
    let v = random(20 * 2 * 6, 15)
    /// What slot m holds of token s at token t.
    func share(_ t: Int, _ s: Int, _ h: Int, _ m: Int) -> Double {
      shape.at(written, s, h, m, of: slots)
        * exp((s + 1..<t + 1).reduce(0) { $0 + shape.at(decay, $1, h, m, of: slots) })
    }
    let scores = (0..<20).flatMap { t in
      (0..<2).flatMap { h in
        (0..<slots).map { m in
          (0...t).reduce(0) { $0 + share(t, $1, h, m) * shape.dot(q, t, k, $1, h, of: 8) }
            / 8.0.squareRoot()
        }
      }
    }
    var first = LinearProblem(
      try LinearAttentionRequest(
        tokens: 20, valueHeads: 2, keyHeadSize: 8, valueHeadSize: slots, operands: [.valueDecay]))
    (first.q, first.k, first.v) = (q, k, written)
    first.numbers[.valueDecay] = decay
    let logits = try await steps.attend(first, to: scores, "GSA, scores")
    let p = try await steps.features(logits, .softmax, tokens: 20, heads: 2)
    var second = LinearProblem(
      try LinearAttentionRequest(
        tokens: 20, valueHeads: 2, keyHeadSize: slots, valueHeadSize: 6, scale: 1,
        operands: [.keyDecay]))
    (second.q, second.k, second.v) = (p, written, v)
    second.numbers[.keyDecay] = decay
    let expected = shape.weighted(v) { t, s, h in
      let row = scores[(t * 2 + h) * slots..<(t * 2 + h + 1) * slots].map { exp($0) }
      let total = row.reduce(0, +)
      return (0..<slots).reduce(0) { $0 + row[$1] / total * share(t, s, h, $1) }
    }
    _ = try await steps.attend(second, to: expected, "GSA")
  }

  /// o_t = Σ_s exp(g_{s+1} + … + g_t) q_t·k_s v_s.
  @Test func simpleGatedLinearAttention() async throws {
    let problem = try problem([.decay])
    let gates = problem.numbers[.decay] ?? []
    let expected = shape.weighted(problem.v) { t, s, h in
      exp((s + 1..<t + 1).reduce(0) { $0 + shape.at(gates, $1, h) })
        * shape.dot(problem.q, t, problem.k, s, h, of: 8) / 8.0.squareRoot()
    }
    _ = try await steps.attend(problem, to: expected, "simple GLA")
  }

  /// Q (Kᵀ V), every token with every other.
  @Test func bidirectional() async throws {
    let problem = LinearProblem(
      try LinearAttentionRequest(
        tokens: 20, valueHeads: 2, keyHeadSize: 8, valueHeadSize: 6, isCausal: false))
    let expected = shape.weighted(problem.v, causal: false) { t, s, h in
      shape.dot(problem.q, t, problem.k, s, h, of: 8) / 8.0.squareRoot()
    }
    _ = try await steps.attend(problem, to: expected, "bidirectional")
  }
}
