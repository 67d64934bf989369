import AttentionReference
import TestSupport
import Testing

@testable import VulkanAttention

#if canImport(Darwin)
  import Darwin
#else
  import Glibc
#endif

/// The compositions of the article "Linear attention, model by model" against each paper's kernel of q and k, written
/// out here as weights of a quadratic attention.
@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct FeatureMapModelTests {
  let steps: ModelSteps
  let shape = ModelShape()
  let q: [Float]
  let k: [Float]
  let v: [Float]

  init() throws {
    steps = ModelSteps(device: try TestDevice.shared())
    var random = SplitMix64(seed: 31)
    q = random.normal(20 * 2 * 8)
    k = random.normal(20 * 2 * 8)
    v = random.normal(20 * 2 * 6)
  }

  /// A linear attention over features, with scale 1.
  private func attend(
    _ q: [Float], _ k: [Float], to expected: [Double], causal: Bool = true,
    normalizer: LinearAttentionNormalizer = .sum(epsilon: 1e-12), within gate: Double = 1e-5,
    _ name: String, sourceLocation: SourceLocation = #_sourceLocation
  ) async throws {
    var problem = LinearProblem(
      try LinearAttentionRequest(
        tokens: 20, valueHeads: 2, keyHeadSize: q.count / 40, valueHeadSize: 6, scale: 1,
        isCausal: causal, normalizer: normalizer))
    (problem.q, problem.k, problem.v) = (q, k, v)
    _ = try await steps.attend(
      problem, to: expected, within: gate, name, sourceLocation: sourceLocation)
  }

  private func map(
    _ x: [Float], _ map: AttentionFeatureMap, projection: [Float] = [], outputChannels: Int? = nil
  ) async throws -> [Float] {
    try await steps.features(
      x, map, tokens: 20, heads: 2, projection: projection, outputChannels: outputChannels)
  }

  private func dot(_ t: Int, _ s: Int, _ h: Int) -> Double { shape.dot(q, t, k, s, h, of: 8) }

  /// (1 + s + s² / 2), s = q·k / √D.
  @Test(arguments: AttentionFeatureMap.TaylorPacking.allCases)
  func based(_ packing: AttentionFeatureMap.TaylorPacking) async throws {
    let expected = shape.averaged(v) { t, s, h in
      let x = dot(t, s, h) / 8.0.squareRoot()
      return 1 + x + x * x / 2
    }
    let width = packing == .full ? 80 : 48
    let phi = AttentionFeatureMap.taylor2(packing)
    try await attend(
      map(q, phi, outputChannels: width), map(k, phi, outputChannels: width), to: expected,
      "Based, \(packing)")
  }

  /// Σ_m exp(w_m·q − |q|²/2) exp(w_m·k − |k|²/2), with q and k times D^(−¼): near softmax attention.
  @Test(arguments: [true, false])
  func performer(_ causal: Bool) async throws {
    let features = 64
    var random = SplitMix64(seed: 8)
    let w = random.normal(features * 8)
    func exponents(_ x: [Float], _ t: Int, _ h: Int) -> [Double] {
      let row = (0..<8).map { shape.at(x, t, h, $0, of: 8) / pow(8, 0.25) }
      let half = row.reduce(0) { $0 + $1 * $1 } / 2
      return (0..<features).map { m in
        (0..<8).reduce(-half) { $0 + Double(w[m * 8 + $1]) * row[$1] }
      }
    }
    let expected = shape.averaged(v, causal: causal) { t, s, h in
      zip(exponents(q, t, h), exponents(k, s, h)).reduce(0) { $0 + exp($1.0) * exp($1.1) }
    }
    for stabilizer in [AttentionFeatureMap.FavorStabilizer.sequence, .none] {
      let isNone = stabilizer == .none
      let phiQ = try await map(
        q, .favorPlus(features: features, epsilon: 0, stabilizer: isNone ? .none : .token),
        projection: w)
      let phiK = try await map(
        k, .favorPlus(features: features, epsilon: 0, stabilizer: stabilizer), projection: w)
      try await attend(
        phiQ, phiK, to: expected, causal: causal, normalizer: .sum(epsilon: 1e-30),
        "Performer, \(stabilizer)")
    }
  }

  /// ReLU(q)·ReLU(k) cos(π (i − j) / 2M). A causal row without a positive product would be 0/0: there q and k are
  /// positive.
  @Test(arguments: [true, false])
  func cosFormer(_ causal: Bool) async throws {
    let q = causal ? q.map(abs) : q
    let k = causal ? k.map(abs) : k
    let expected = shape.averaged(v, causal: causal) { t, s, h in
      (0..<8).reduce(0) {
        $0 + max(shape.at(q, t, h, $1, of: 8), 0) * max(shape.at(k, s, h, $1, of: 8), 0)
      } * cos(.pi * Double(t - s) / (2 * 20))
    }
    let phi = AttentionFeatureMap.cosFormer(maximum: 20)
    try await attend(map(q, phi), map(k, phi), to: expected, causal: causal, "cosFormer")
  }

  /// ρ_q(Q) (ρ_k(K)ᵀ V): softmax over channels of queries, over tokens of keys.
  @Test func efficientAttention() async throws {
    func softmax(_ x: [Double]) -> [Double] {
      let weights = x.map { exp($0) }
      return weights.map { $0 / weights.reduce(0, +) }
    }
    let keys = (0..<16).map { c in softmax((0..<20).map { Double(k[$0 * 16 + c]) }) }
    let expected = shape.weighted(v, causal: false) { t, s, h in
      let row = softmax((0..<8).map { shape.at(q, t, h, $0, of: 8) })
      return (0..<8).reduce(0) { $0 + row[$1] * keys[h * 8 + $1][s] }
    }
    try await attend(
      map(q, .softmax), map(k, .tokenSoftmax), to: expected, causal: false, normalizer: .none,
      "efficient attention")
  }

  /// softmax(Q Aᵀ / √D) softmax(A Kᵀ / √D) V for n agents A.
  @Test func agentAttention() async throws {
    let agents = 5
    var random = SplitMix64(seed: 77)
    let a = random.normal(agents * 2 * 8)
    func softmax(_ x: [Double]) -> [Double] {
      let weights = x.map { exp($0 / 8.0.squareRoot()) }
      return weights.map { $0 / weights.reduce(0, +) }
    }
    let gathered = try await steps.softmaxAttention(
      a, k, v, queries: agents, keys: 20, heads: 2, channels: 8, valueChannels: 6)
    let o = try await steps.softmaxAttention(
      q, a, gathered, queries: 20, keys: agents, heads: 2, channels: 8, valueChannels: 6)
    let expected = shape.weighted(v, causal: false) { t, s, h in
      let broadcast = softmax((0..<agents).map { shape.dot(q, t, a, $0, h, of: 8) })
      return (0..<agents).reduce(0) { sum, n in
        sum + broadcast[n] * softmax((0..<20).map { shape.dot(a, n, k, $0, h, of: 8) })[s]
      }
    }
    expectClose(o, to: expected, within: 1e-5, "agent attention")
  }

  /// ReLU(Q) (ReLU(K)ᵀ V) over ReLU(Q) Σ ReLU(K); its depth-wise convolution of V is the caller's.
  @Test func slab() async throws {
    let expected = shape.averaged(v, causal: false) { t, s, h in
      (0..<8).reduce(0) {
        $0 + max(shape.at(q, t, h, $1, of: 8), 0) * max(shape.at(k, s, h, $1, of: 8), 0)
      }
    }
    try await attend(
      map(q, .relu), map(k, .relu), to: expected, causal: false, "SLAB")
  }

  /// (ELU(q) + 1)·(ELU(k) + 1).
  @Test func linearTransformer() async throws {
    func elu(_ x: Double) -> Double { x > 0 ? x + 1 : exp(x) }
    let expected = shape.averaged(v) { t, s, h in
      (0..<8).reduce(0) {
        $0 + elu(shape.at(q, t, h, $1, of: 8)) * elu(shape.at(k, s, h, $1, of: 8))
      }
    }
    try await attend(
      map(q, .eluPlusOne), map(k, .eluPlusOne), to: expected, "linear transformer")
  }
}
