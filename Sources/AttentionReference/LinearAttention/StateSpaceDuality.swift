import RealModule

/// The inputs of Mamba-2's state-space layer that are not x, B and C.
public struct StateSpaceOptions: Sendable {
  /// D, the weight of x in the output, `[H]`.
  public var skip: [Double]?
  /// z, whose SiLU multiplies the output, `[B, T, H, V]`.
  public var outputGate: [Double]?
  /// What is added to dt, `[H]`.
  public var timeStepBias: [Double]?
  /// Whether dt is the softplus of what is given.
  public var appliesSoftplus = false
  /// The state before the first token, `[N, H, K, V]`.
  public var initialState: [Double]?
  /// Where packed sequences begin and the last one ends, `[N + 1]`.
  public var starts: [Int]?
  /// Numbers of documents, `[B, T]`: the state is cleared where one differs from the token before.
  public var sequenceIDs: [Int]?

  /// None of them.
  public init() {}
}

/// Mamba-2's state-space duality layer in Double.
///
///     dt  = softplus(dt + bias)                     or as given
///     S_t = exp(dt_t · a) S_{t−1} + dt_t · B_t x_tᵀ
///     y_t = (C_t · S_t + D x_t) · SiLU(z_t)
///
/// (Dao and Gu 2024, arXiv:2405.21060.) Letters as in ``LinearAttentionDimensions``: G groups of B and C,
/// H heads of x with V channels, K the size of the state.
///
/// - Parameters:
///   - x: `[B, T, H, V]`.
///   - dt: time steps, `[B, T, H]`.
///   - a: the decay's rate, negative, `[H]`.
///   - b: `[B, T, G, K]`.
///   - c: `[B, T, G, K]`.
///   - dimensions: the sizes, with G key heads, H value heads and one update per token.
///   - options: everything else.
public func stateSpaceDuality(
  x: [Double], dt: [Double], a: [Double], b: [Double], c: [Double],
  dimensions: LinearAttentionDimensions, options: StateSpaceOptions = StateSpaceOptions()
) -> LinearAttentionOutput {
  let heads = dimensions.valueHeads
  precondition(dimensions.updatesPerToken == 1 && a.count == heads)
  precondition(dt.count == dimensions.gateCount, "dt must be [B, T, H]")
  let steps = dt.enumerated().map { index, value in
    let raw = value + (options.timeStepBias?[index % heads] ?? 0)
    return options.appliesSoftplus ? max(raw, 0) + .log(onePlus: .exp(-raw.magnitude)) : raw
  }
  var linear = LinearAttentionOptions()
  linear.scale = 1
  linear.decay = steps.enumerated().map { $1 * a[$0 % heads] }
  linear.beta = steps
  linear.initialState = options.initialState
  linear.starts = options.starts
  linear.sequenceIDs = options.sequenceIDs
  let result = linearAttention(q: c, k: b, v: x, dimensions: dimensions, options: linear)
  var y = result.o
  let covered = options.starts.map { ($0.first ?? 0)..<($0.last ?? 0) }
  for index in y.indices {
    let row = index / dimensions.valueChannels
    if let covered, !covered.contains(row / heads) { continue }
    if let skip = options.skip { y[index] += skip[row % heads] * x[index] }
    if let z = options.outputGate?[index] { y[index] *= z / (1 + .exp(-z)) }
  }
  return LinearAttentionOutput(
    o: y, state: result.state, sum: result.sum, snapshots: result.snapshots)
}

/// Gated slot attention in Double: two linear attentions over M slots with a softmax between.
///
///     S₁ ← S₁ Diag(α) + k sᵀ        p = softmax(scale · S₁ᵀ q)
///     S₂ ← Diag(α) S₂ + s vᵀ        o = S₂ᵀ p
///
/// (Zhang et al. 2024, arXiv:2409.07146; without decay ABC, arXiv:2110.02488.)
///
/// - Parameters:
///   - q: queries, `[B, T, H, K]`.
///   - k: keys, `[B, T, H, K]`.
///   - v: values, `[B, T, H, V]`.
///   - s: what a token writes to each slot, `[B, T, H, M]`.
///   - decay: ln α, `[B, T, H, M]`; nil for none.
///   - slots: M.
///   - dimensions: the sizes.
///   - scale: of the scores; 1/√K by default.
/// - Precondition: H = G and one update per token.
public func gatedSlotAttention(
  q: [Double], k: [Double], v: [Double], s: [Double], decay: [Double]?, slots: Int,
  dimensions: LinearAttentionDimensions, scale: Double? = nil
) -> [Double] {
  let sizes = dimensions
  precondition(sizes.keyHeads == sizes.valueHeads && sizes.updatesPerToken == 1)
  var first = LinearAttentionOptions()
  first.scale = scale
  first.valueDecay = decay
  let scores = linearAttention(
    q: q, k: k, v: s,
    dimensions: LinearAttentionDimensions(
      batch: sizes.batch, tokens: sizes.tokens, valueHeads: sizes.valueHeads,
      keyChannels: sizes.keyChannels, valueChannels: slots), options: first
  ).o
  let p = FeatureMap.softmax.mapped(scores, heads: sizes.valueHeads, channels: slots)
  var second = LinearAttentionOptions()
  second.scale = 1
  second.keyDecay = decay
  return linearAttention(
    q: p, k: s, v: v,
    dimensions: LinearAttentionDimensions(
      batch: sizes.batch, tokens: sizes.tokens, valueHeads: sizes.valueHeads, keyChannels: slots,
      valueChannels: sizes.valueChannels), options: second
  ).o
}
