import RealModule

/// Linear attention and its gated kin in Double: the definition every kernel is held against.
///
/// One token changes the state S [K, V] of its head, then reads it:
///
///     S   ← Diag(d_k) S Diag(d_v)          decay: none, per head, token, key channel, value channel
///     x   = beta · (w ⊙ v) − Sᵀ e          e = 0, or with the delta rule e = beta · (g ⊙ p), p = k by default
///     S   ← S + k xᵀ  (+ b (aᵀ S'))        S' the state before the decay
///     o   = scale · Sᵀ q
///
/// or reads before it changes: o = scale · (S' + Diag(u) k xᵀ)ᵀ q. Without `causal` every token of a
/// sequence reads the last state.
///
/// Linear attention arXiv:2006.16236, RetNet 2307.08621, Lightning Attention 2401.04658, GLA 2312.06635,
/// HGRN-2 2404.07904, RWKV-6 2404.05892, RWKV-7 2503.14456, DeltaNet 2406.06484, Gated DeltaNet 2412.06464,
/// Gated DeltaProduct 2502.10297, Kimi Delta Attention 2510.26692, Comba 2506.02475.
///
/// - Parameters:
///   - q: queries, `[B, T, G, K]`, row-major.
///   - k: keys, `[B, T, U, G, K]`, row-major.
///   - v: values, `[B, T, U, H, V]`, row-major.
///   - dimensions: the sizes.
///   - options: decays, gates, states and the rest.
/// - Precondition: the arrays have the sizes' element counts.
public func linearAttention(
  q: [Double], k: [Double], v: [Double], dimensions: LinearAttentionDimensions,
  options: LinearAttentionOptions = LinearAttentionOptions()
) -> LinearAttentionOutput {
  let problem = LinearAttentionProblem(q: q, k: k, v: v, dimensions: dimensions, options: options)
  let sizes = dimensions
  // Heads of sequences share nothing but what they read.
  let runs = mapConcurrently(problem.sequences.count * sizes.valueHeads) { index in
    let (sequence, head) = index.quotientAndRemainder(dividingBy: sizes.valueHeads)
    var run = LinearAttentionRun(problem, sequence: sequence, head: head)
    run.evaluate()
    return run
  }
  var o = [Double](repeating: 0, count: sizes.oCount)
  var snapshots = [Double](
    repeating: 0, count: options.keepsSnapshots ? sizes.gateCount * sizes.stateCount : 0)
  for run in runs {
    for (token, own) in zip(run.sequence, run.outputs) {
      let place = (token * sizes.valueHeads + run.head) * sizes.valueChannels
      o.replaceSubrange(place..<place + sizes.valueChannels, with: own)
    }
    for (token, state) in zip(run.sequence, run.snapshots) where options.keepsSnapshots {
      let place = (token * sizes.valueHeads + run.head) * sizes.stateCount
      snapshots.replaceSubrange(place..<place + sizes.stateCount, with: state)
    }
  }
  return LinearAttentionOutput(
    o: o, state: runs.flatMap(\.state), sum: runs.flatMap(\.sum), snapshots: snapshots)
}

/// The arguments, checked.
struct LinearAttentionProblem: Sendable {
  let q: [Double]
  let k: [Double]
  let v: [Double]
  let sizes: LinearAttentionDimensions
  let options: LinearAttentionOptions
  let scale: Double
  /// The tokens of each sequence, numbered over all batch entries.
  let sequences: [Range<Int>]

  init(
    q: [Double], k: [Double], v: [Double], dimensions: LinearAttentionDimensions,
    options: LinearAttentionOptions
  ) {
    let sizes = dimensions
    func check(_ values: [Double]?, _ count: Int, _ what: String) {
      precondition(values.map { $0.count == count } ?? true, "\(what) needs \(count) elements")
    }
    if let starts = options.starts {
      precondition(sizes.batch == 1 && starts.count >= 2, "packed sequences are one batch entry")
      precondition(
        zip(starts, starts.dropFirst()).allSatisfy { $0 <= $1 } && (starts.first ?? 0) >= 0
          && (starts.last ?? 0) <= sizes.tokens, "starts must rise from 0 to T at most")
      sequences = zip(starts, starts.dropFirst()).map { $0..<$1 }
    } else {
      sequences = (0..<sizes.batch).map { $0 * sizes.tokens..<($0 + 1) * sizes.tokens }
    }
    let updates = sizes.gateCount * sizes.updatesPerToken
    let states = sequences.count * sizes.valueHeads
    check(q, sizes.qCount, "q")
    check(k, sizes.kCount, "k")
    check(v, sizes.vCount, "v")
    check(options.headDecay, sizes.valueHeads, "headDecay")
    check(options.decay, sizes.gateCount, "decay")
    check(options.keyDecay, sizes.gateCount * sizes.keyChannels, "keyDecay")
    check(options.valueDecay, sizes.gateCount * sizes.valueChannels, "valueDecay")
    check(options.beta, updates, "beta")
    check(options.eraseKeys, sizes.kCount, "eraseKeys")
    check(options.eraseGates, updates * sizes.keyChannels, "eraseGates")
    check(options.writeGates, updates * sizes.valueChannels, "writeGates")
    check(options.lowRank?.a, sizes.gateCount * sizes.keyChannels, "lowRank.a")
    check(options.lowRank?.b, sizes.gateCount * sizes.keyChannels, "lowRank.b")
    check(options.bonus, sizes.valueHeads * sizes.keyChannels, "bonus")
    check(options.initialState, states * sizes.stateCount, "initialState")
    check(options.initialSum, states * sizes.keyChannels, "initialSum")
    precondition(
      options.sequenceIDs.map { $0.count == sizes.batch * sizes.tokens } ?? true,
      "sequenceIDs needs one number for each token")
    precondition(
      options.parents.map { $0.count == sizes.batch * sizes.tokens && options.sequenceIDs == nil }
        ?? true,
      "parents needs one number for each token, and no sequenceIDs")
    precondition(
      options.erases || (options.eraseKeys == nil && options.eraseGates == nil),
      "only the delta rule erases")
    precondition(
      options.normalizer == .none || (!options.erases && options.lowRank == nil),
      "a normaliser needs a state that only decays and grows")
    precondition(
      options.normalizer == .none
        || (options.valueDecay == nil && options.beta == nil && options.writeGates == nil),
      "a normaliser's value is 1 in all channels")
    precondition(
      options.causal || (!options.readsBeforeUpdate && options.sequenceIDs == nil),
      "tokens that read the last state have no order")
    precondition(options.bonus == nil || options.readsBeforeUpdate, "the bonus is of a read before")
    self.q = q
    self.k = k
    self.v = v
    self.sizes = sizes
    self.options = options
    scale = options.scale ?? 1 / Double(sizes.keyChannels).squareRoot()
  }
}

/// The walk over one head of one sequence.
private struct LinearAttentionRun {
  let problem: LinearAttentionProblem
  let sizes: LinearAttentionDimensions
  let options: LinearAttentionOptions
  let sequence: Range<Int>
  let head: Int
  /// S, `[K, V]`.
  var state: [Double]
  /// z, `[K]`.
  var sum: [Double]
  /// o of each token, `[V]`.
  var outputs: [[Double]] = []
  /// S after each token, where tokens or the caller go back to it.
  var snapshots: [[Double]] = []

  init(_ problem: LinearAttentionProblem, sequence: Int, head: Int) {
    self.problem = problem
    sizes = problem.sizes
    options = problem.options
    self.sequence = problem.sequences[sequence]
    self.head = head
    let index = sequence * sizes.valueHeads + head
    func own(_ all: [Double]?, _ count: Int) -> [Double] {
      all.map { Array($0[index * count..<(index + 1) * count]) }
        ?? [Double](repeating: 0, count: count)
    }
    state = own(options.initialState, sizes.stateCount)
    sum = own(options.initialSum, sizes.keyChannels)
  }

  private var keyHead: Int { head / (sizes.valueHeads / sizes.keyHeads) }

  /// Steps over all tokens.
  mutating func evaluate() {
    let initial = state
    for token in sequence {
      if let parent = options.parents?[token] {
        state = snapshots.indices.contains(parent) ? snapshots[parent] : initial
      }
      let reset = options.sequenceIDs.map {
        token > sequence.lowerBound && $0[token] != $0[token - 1]
      }
      if reset == true {
        state = state.map { _ in 0 }
        sum = sum.map { _ in 0 }
      }
      if options.readsBeforeUpdate { outputs.append(read(token, withBonus: true)) }
      update(token)
      if options.causal, !options.readsBeforeUpdate {
        outputs.append(read(token, withBonus: false))
      }
      if options.parents != nil || options.keepsSnapshots { snapshots.append(state) }
    }
    guard !options.causal else { return }
    outputs = sequence.map { read($0, withBonus: false) }
  }

  /// A decay's factor from its logarithm.
  private func factor(_ logarithm: Double?) -> Double {
    guard let logarithm else { return 1 }
    return logarithm > 0 ? 1 : .exp(logarithm)
  }

  /// A factor times a number; 0 clears even what is not finite.
  private func decayed(_ value: Double, _ factor: Double) -> Double {
    factor == 0 ? 0 : value * factor
  }

  private mutating func update(_ token: Int) {
    let (rows, columns) = (sizes.keyChannels, sizes.valueChannels)
    let gate = token * sizes.valueHeads + head
    // aᵀ S, before the decay.
    var low = [Double](repeating: 0, count: columns)
    if let lowRank = options.lowRank {
      for i in 0..<rows {
        for j in 0..<columns { low[j] += lowRank.a[gate * rows + i] * state[i * columns + j] }
      }
    }
    let scalar = factor(options.headDecay?[head]) * factor(options.decay?[gate])
    for i in 0..<rows {
      let row = scalar * factor(options.keyDecay?[gate * rows + i])
      sum[i] = decayed(sum[i], row)
      for j in 0..<columns {
        state[i * columns + j] = decayed(
          state[i * columns + j], row * factor(options.valueDecay?[gate * columns + j]))
      }
    }
    for u in 0..<sizes.updatesPerToken { write(token * sizes.updatesPerToken + u) }
    if let lowRank = options.lowRank {
      for i in 0..<rows {
        for j in 0..<columns { state[i * columns + j] += lowRank.b[gate * rows + i] * low[j] }
      }
    }
  }

  /// Writes the update with this number among all.
  private mutating func write(_ update: Int) {
    let (rows, columns) = (sizes.keyChannels, sizes.valueChannels)
    let key = (update * sizes.keyHeads + keyHead) * rows
    let own = update * sizes.valueHeads + head
    let x = written(update)
    var erased = [Double](repeating: 0, count: columns)
    if options.erases {
      for i in 0..<rows {
        let e =
          (options.eraseKeys ?? problem.k)[key + i] * (options.beta?[own] ?? 1)
          * (options.eraseGates?[own * rows + i] ?? 1)
        for j in 0..<columns { erased[j] += e * state[i * columns + j] }
      }
    }
    for i in 0..<rows {
      sum[i] += problem.k[key + i]
      for j in 0..<columns {
        state[i * columns + j] += problem.k[key + i] * (x[j] - erased[j])
      }
    }
  }

  /// beta · (w ⊙ v) of an update.
  private func written(_ update: Int) -> [Double] {
    let columns = sizes.valueChannels
    let own = update * sizes.valueHeads + head
    return (0..<columns).map { j in
      problem.v[own * columns + j] * (options.beta?[own] ?? 1)
        * (options.writeGates?[own * columns + j] ?? 1)
    }
  }

  /// o of a token, from the state as it is.
  private func read(_ token: Int, withBonus: Bool) -> [Double] {
    let (rows, columns) = (sizes.keyChannels, sizes.valueChannels)
    let query = (token * sizes.keyHeads + keyHead) * rows
    let q = (0..<rows).map { problem.scale * problem.q[query + $0] }
    var o = [Double](repeating: 0, count: columns)
    var weight = 0.0
    for i in 0..<rows {
      weight += q[i] * sum[i]
      for j in 0..<columns { o[j] += q[i] * state[i * columns + j] }
    }
    if withBonus, let bonus = options.bonus {
      for u in 0..<sizes.updatesPerToken {
        let update = token * sizes.updatesPerToken + u
        let key = (update * sizes.keyHeads + keyHead) * rows
        let x = written(update)
        let dot = (0..<rows).reduce(0.0) {
          $0 + q[$1] * bonus[head * rows + $1] * problem.k[key + $1]
        }
        weight += dot
        for j in 0..<columns { o[j] += dot * x[j] }
      }
    }
    let divisor =
      switch options.normalizer {
      case .none: 1.0
      case .sum(let epsilon): weight + epsilon
      case .retention: max(weight.magnitude, 1)
      }
    return o.map { $0 / divisor }
  }
}
