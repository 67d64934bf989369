import AttentionReference
import RealModule
import Testing

/// A problem with random numbers, as large as tests need it.
struct LinearProblem {
  var sizes: LinearAttentionDimensions
  var q: [Double]
  var k: [Double]
  var v: [Double]
  var options = LinearAttentionOptions()
  private var numbers: SeededNumbers

  init(
    _ seed: UInt64, batch: Int = 1, tokens: Int = 40, keyHeads: Int = 2, valueHeads: Int = 2,
    keyChannels: Int = 6, valueChannels: Int = 5
  ) {
    sizes = LinearAttentionDimensions(
      batch: batch, tokens: tokens, keyHeads: keyHeads, valueHeads: valueHeads,
      keyChannels: keyChannels, valueChannels: valueChannels)
    numbers = SeededNumbers(seed: seed)
    q = numbers.normal(sizes.qCount)
    k = FeatureMap.l2Norm(epsilon: 1e-6).mapped(
      numbers.normal(sizes.kCount), heads: keyHeads, channels: keyChannels)
    v = numbers.normal(sizes.vCount)
  }

  mutating func normal(_ count: Int) -> [Double] { numbers.normal(count) }

  /// Log decays between −1 and 0.
  mutating func decays(_ count: Int) -> [Double] { (0..<count).map { _ in -numbers.uniform() } }

  /// Numbers between 0 and 1.
  mutating func betas(_ count: Int) -> [Double] { (0..<count).map { _ in numbers.uniform() } }

  func run() -> LinearAttentionOutput {
    linearAttention(q: q, k: k, v: v, dimensions: sizes, options: options)
  }
}

/// The kinds of recurrences that invariants are held for.
enum LinearKind: String, CaseIterable, Sendable {
  case plain, head, scalar, keyVector, valueVector, delta, gatedDelta, keyVectorDelta, lowRank
  case before

  func problem(_ seed: UInt64, tokens: Int = 40, batch: Int = 1) -> LinearProblem {
    var problem = LinearProblem(seed, batch: batch, tokens: tokens)
    let gates = problem.sizes.gateCount
    switch self {
    case .plain, .delta: break
    case .head: problem.options.headDecay = problem.decays(2)
    case .scalar, .gatedDelta: problem.options.decay = problem.decays(gates)
    case .keyVector, .keyVectorDelta, .lowRank, .before:
      problem.options.keyDecay = problem.decays(gates * 6)
    case .valueVector: problem.options.valueDecay = problem.decays(gates * 5)
    }
    switch self {
    case .delta, .gatedDelta, .keyVectorDelta:
      problem.options.erases = true
      problem.options.beta = problem.betas(gates)
    case .lowRank:
      let a = FeatureMap.l2Norm(epsilon: 1e-6).mapped(
        problem.normal(gates * 6), heads: 2, channels: 6)
      let strength = problem.betas(gates * 6)
      problem.options.lowRank = .init(a: a.map { -$0 }, b: zip(a, strength).map { $0 * $1 })
    case .before:
      problem.options.readsBeforeUpdate = true
      problem.options.bonus = problem.normal(12)
    default: break
    }
    return problem
  }
}

/// What must hold whatever the numbers are.
@Suite struct LinearInvariantTests {
  private func expectClose(
    _ actual: [Double], _ expected: [Double], sourceLocation: SourceLocation = #_sourceLocation
  ) {
    let measure = ErrorMeasure.relativeRMS(actual: actual, expected: expected)
    #expect(measure.isWithin(1e-12), "\(measure)", sourceLocation: sourceLocation)
  }

  /// (a) The chunked form, by the formulas of GLA and the WY transform, is the recurrence.
  @Test(arguments: [LinearKind.plain, .head, .scalar, .delta, .gatedDelta], [16, 32, 64])
  func chunksAgree(_ kind: LinearKind, _ chunk: Int) {
    let problem = kind.problem(1, tokens: 75)
    let result = problem.run()
    let chunked = ChunkedForm(problem, chunk: chunk)
    expectClose(chunked.o, result.o)
    expectClose(chunked.state, result.state)
  }

  /// (b) Any split of the tokens with the state passed on.
  @Test(arguments: LinearKind.allCases, [1, 17, 39])
  func splitsAgree(_ kind: LinearKind, _ first: Int) {
    let whole = kind.problem(2)
    let expected = whole.run()
    let head = whole.slice(0..<first)
    let headResult = head.run()
    var tail = whole.slice(first..<40)
    tail.options.initialState = headResult.state
    tail.options.initialSum = headResult.sum
    let tailResult = tail.run()
    expectClose(headResult.o + tailResult.o, expected.o)
    expectClose(tailResult.state, expected.state)
    expectClose(tailResult.sum, expected.sum)
  }

  /// (c) Packed sequences are separate problems.
  @Test(arguments: LinearKind.allCases)
  func packedSequences(_ kind: LinearKind) {
    var packed = kind.problem(3)
    packed.options.starts = [1, 6, 6, 30]
    packed.options.initialState = packed.normal(3 * 2 * 30)
    let result = packed.run()
    for (index, tokens) in [1..<6, 6..<6, 6..<30].enumerated() {
      var own = packed.slice(tokens)
      own.options.starts = nil
      own.options.initialState = Array(
        (packed.options.initialState ?? [])[index * 60..<(index + 1) * 60])
      let expected = own.run()
      #expect(Array(result.o[tokens.lowerBound * 10..<tokens.upperBound * 10]) == expected.o)
      #expect(Array(result.state[index * 60..<(index + 1) * 60]) == expected.state)
    }
    #expect(result.o[..<10].allSatisfy { $0 == 0 } && result.o[300...].allSatisfy { $0 == 0 })
  }

  /// (d) A decay of −inf is a new start, even over a state that is not finite.
  @Test func resets() {
    var problem = LinearKind.gatedDelta.problem(4)
    for head in 0..<2 { problem.options.decay?[20 * 2 + head] = -.infinity }
    for channel in 0..<10 { problem.v[19 * 10 + channel] = .nan }
    let result = problem.run()
    let rest = problem.slice(20..<40).run()
    #expect(Array(result.o[200...]) == rest.o && result.state == rest.state)
    // Document numbers do the same.
    var numbered = LinearKind.gatedDelta.problem(4)
    numbered.options.sequenceIDs = (0..<40).map { $0 < 20 ? 0 : 1 }
    #expect(numbered.run().state == numbered.slice(20..<40).run().state)
  }

  /// (e) Without decay and with a beta of 0 a token changes nothing.
  @Test func noStrength() {
    var problem = LinearKind.gatedDelta.problem(5)
    problem.options.decay = problem.options.decay?.map { _ in 0 }
    problem.options.beta = problem.options.beta?.map { _ in 0 }
    problem.options.initialState = problem.normal(60)
    #expect(problem.run().state == problem.options.initialState)
  }

  /// (f) The delta rule recalls what it was told for orthonormal keys.
  @Test func recalls() {
    var problem = LinearProblem(6, tokens: 6, keyHeads: 1, valueHeads: 1)
    problem.options.erases = true
    problem.options.initialState = problem.normal(30)
    problem.k = (0..<36).map { $0 / 6 == $0 % 6 ? 1 : 0 }
    expectClose(problem.run().state, problem.v)
  }

  /// (g) No token sees a later one.
  @Test(arguments: LinearKind.allCases)
  func causality(_ kind: LinearKind) {
    var problem = kind.problem(7)
    let expected = problem.run().o
    for index in 25 * 12..<40 * 12 {
      problem.q[index] = .nan
      problem.k[index] = .nan
    }
    for index in 25 * 10..<40 * 10 { problem.v[index] = .nan }
    let o = problem.run().o
    #expect(o[..<250] == expected[..<250] && o[250...].allSatisfy(\.isNaN))
  }

  /// (h) Value channels are independent of each other.
  @Test(arguments: LinearKind.allCases)
  func valueChannels(_ kind: LinearKind) {
    var problem = kind.problem(8)
    let expected = problem.run().o
    func reversed(_ values: [Double]) -> [Double] {
      values.indices.map { values[$0 / 5 * 5 + 4 - $0 % 5] }
    }
    problem.v = reversed(problem.v)
    problem.options.valueDecay = problem.options.valueDecay.map(reversed)
    #expect(problem.run().o == reversed(expected))
  }

  /// (i) General forms with equal numbers are the special ones.
  @Test func specialCases() {
    let head = LinearKind.head.problem(9)
    let rates = head.options.headDecay ?? []
    func expectSame(_ change: (inout LinearAttentionOptions) -> Void) {
      var other = head
      other.options.headDecay = nil
      change(&other.options)
      expectClose(other.run().o, head.run().o)
    }
    expectSame { $0.decay = (0..<80).map { rates[$0 % 2] } }
    expectSame { $0.keyDecay = (0..<480).map { rates[$0 / 6 % 2] } }
    expectSame { $0.valueDecay = (0..<400).map { rates[$0 / 5 % 2] } }
    // Erasing with strength 0 is not erasing.
    expectSame {
      $0.headDecay = rates
      $0.erases = true
      $0.eraseGates = Array(repeating: 0, count: 480)
    }

    // Channel gates that equal beta are beta.
    let delta = LinearKind.keyVectorDelta.problem(10)
    let beta = delta.options.beta ?? []
    var gated = delta
    gated.options.beta = nil
    gated.options.eraseGates = (0..<480).map { beta[$0 / 6] }
    gated.options.writeGates = (0..<400).map { beta[$0 / 5] }
    expectClose(gated.run().o, delta.run().o)

    // The delta rule as a low-rank change: S += −beta k (kᵀ S) reads the state before the decay.
    let plain = LinearKind.delta.problem(11)
    var low = plain
    let strength = plain.options.beta ?? []
    low.options.erases = false
    low.options.lowRank = .init(
      a: plain.k, b: plain.k.indices.map { -strength[$0 / 6] * plain.k[$0] })
    expectClose(low.run().o, plain.run().o)
  }

  /// More value heads than key heads are repeated key heads.
  @Test func groupedValues() {
    var grouped = LinearProblem(12, keyHeads: 2, valueHeads: 4)
    grouped.options.decay = grouped.decays(160)
    grouped.options.erases = true
    var repeated = LinearProblem(12, keyHeads: 4, valueHeads: 4)
    func repeatHeads(_ x: [Double]) -> [Double] {
      (0..<960).map { (index: Int) -> Double in
        let (token, head, channel) = (index / 24, index / 12 % 2, index % 6)
        return x[token * 12 + head * 6 + channel]
      }
    }
    repeated.q = repeatHeads(grouped.q)
    repeated.k = repeatHeads(grouped.k)
    repeated.v = grouped.v
    repeated.options = grouped.options
    #expect(grouped.run().o == repeated.run().o)
  }

  /// Packed and symmetric: softmax attention's series, normalised, is a convex mix of the values.
  @Test func normalizedWeightsSumToOne() {
    var problem = LinearProblem(13, keyHeads: 1, valueHeads: 1)
    problem.q = FeatureMap.taylor2.mapped(problem.q, heads: 1, channels: 6)
    problem.k = FeatureMap.taylor2.mapped(problem.k, heads: 1, channels: 6)
    problem.sizes = LinearAttentionDimensions(
      tokens: 40, valueHeads: 1, keyChannels: 43, valueChannels: 5)
    problem.v = Array(repeating: 3, count: 200)
    problem.options.normalizer = .sum(epsilon: 0)
    expectClose(problem.run().o, Array(repeating: 3, count: 200))
  }

  /// Batch entries share nothing.
  @Test(arguments: LinearKind.allCases)
  func batches(_ kind: LinearKind) {
    let both = kind.problem(14, tokens: 10, batch: 2)
    let result = both.run()
    var second = kind.problem(14, tokens: 20)
    second = second.slice(10..<20)
    #expect(Array(result.o[100...]) == second.run().o)
  }
}

extension LinearProblem {
  /// Some tokens of a problem with one batch entry.
  func slice(_ tokens: Range<Int>) -> LinearProblem {
    func part(_ values: [Double]?) -> [Double]? {
      values.map { values in
        let width = values.count / sizes.tokens
        return Array(values[tokens.lowerBound * width..<tokens.upperBound * width])
      }
    }
    var problem = self
    problem.sizes = LinearAttentionDimensions(
      tokens: tokens.count, keyHeads: sizes.keyHeads, valueHeads: sizes.valueHeads,
      keyChannels: sizes.keyChannels, valueChannels: sizes.valueChannels)
    problem.q = part(q) ?? []
    problem.k = part(k) ?? []
    problem.v = part(v) ?? []
    problem.options.decay = part(options.decay)
    problem.options.keyDecay = part(options.keyDecay)
    problem.options.valueDecay = part(options.valueDecay)
    problem.options.beta = part(options.beta)
    problem.options.lowRank = options.lowRank.map { low in
      .init(a: part(low.a) ?? [], b: part(low.b) ?? [])
    }
    problem.options.sequenceIDs = options.sequenceIDs.map { Array($0[tokens]) }
    return problem
  }
}

/// The chunked form with a decay per head and token, and the delta rule by forward substitution:
///
///     D[i, j] = exp(G_i − G_j)    X = (I + tril(diag(beta) (K Kᵀ ⊙ D), −1))⁻¹ diag(beta) (V − e^G K S)
///     O = e^G Q S + tril((Q Kᵀ) ⊙ D) X        S' = e^{G_C} S + (K e^{G_C − G})ᵀ X
///
/// (Yang et al. 2024, arXiv:2406.06484 and 2412.06464; without the rule X = V.)
private struct ChunkedForm {
  var o: [Double]
  var state: [Double] = []

  init(_ problem: LinearProblem, chunk: Int) {
    let (sizes, options) = (problem.sizes, problem.options)
    let (heads, rows, columns) = (sizes.valueHeads, sizes.keyChannels, sizes.valueChannels)
    let scale = 1 / Double(rows).squareRoot()
    o = [Double](repeating: 0, count: sizes.oCount)
    for head in 0..<heads {
      func row(_ x: [Double], _ t: Int, _ width: Int) -> ArraySlice<Double> {
        x[(t * heads + head) * width..<(t * heads + head + 1) * width]
      }
      func dot(_ a: ArraySlice<Double>, _ b: ArraySlice<Double>) -> Double {
        zip(a, b).reduce(0) { $0 + $1.0 * $1.1 }
      }
      var s = [[Double]](repeating: Array(repeating: 0, count: columns), count: rows)
      for start in stride(from: 0, to: sizes.tokens, by: chunk) {
        let tokens = Array(start..<min(start + chunk, sizes.tokens))
        var g: [Double] = []
        for t in tokens {
          let own =
            (options.decay?[t * heads + head] ?? 0) + (options.headDecay?[head] ?? 0)
          g.append((g.last ?? 0) + own)
        }
        func readState(_ x: ArraySlice<Double>, _ i: Int) -> [Double] {
          (0..<columns).map { c in
            Double.exp(g[i]) * zip(x, s).reduce(0) { $0 + $1.0 * $1.1[c] }
          }
        }
        var x: [[Double]] = []
        for (i, t) in tokens.enumerated() {
          var own = Array(row(problem.v, t, columns))
          let key = row(problem.k, t, rows)
          let beta = options.beta?[t * heads + head] ?? 1
          if options.erases {
            let held = readState(key, i)
            for c in 0..<columns { own[c] = beta * (own[c] - held[c]) }
            for j in 0..<i {
              let l = beta * dot(key, row(problem.k, tokens[j], rows)) * .exp(g[i] - g[j])
              for c in 0..<columns { own[c] -= l * x[j][c] }
            }
          }
          x.append(own)
          let query = row(problem.q, t, rows)
          var out = readState(query, i)
          for j in 0...i {
            let a = dot(query, row(problem.k, tokens[j], rows)) * .exp(g[i] - g[j])
            for c in 0..<columns { out[c] += a * x[j][c] }
          }
          for c in 0..<columns { o[(t * heads + head) * columns + c] = scale * out[c] }
        }
        let last = g[g.count - 1]
        for d in 0..<rows {
          for c in 0..<columns {
            s[d][c] *= .exp(last)
            for (j, t) in tokens.enumerated() {
              s[d][c] +=
                problem.k[(t * heads + head) * rows + d] * .exp(last - g[j]) * x[j][c]
            }
          }
        }
      }
      state += s.flatMap { $0 }
    }
  }
}
