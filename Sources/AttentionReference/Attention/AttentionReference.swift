/// What an attention yields: the output rows and their log-sum-exp.
public struct AttentionOutput: Sendable {
  /// `[B, S, H, E]`; when rows were chosen, `[rows, E]` in the order asked.
  public let o: [Double]
  /// `[B, S, H]`, natural logarithm; when rows were chosen, `[rows]` in the order asked.
  public let lse: [Double]
}

/// Exact attention in Double: the definition every kernel is held against.
///
/// For query token i of head h, over the visible keys j of key head `h / (H / G)`:
///
///     s[j] = scale · Σ_d q[i, d] · k[j, d]        changed as AttentionOptions says
///     m    = max_j s[j]
///     l    = Σ_j exp(s[j] − m)                    plus exp(sink − m) where there is a sink
///     o[e] = Σ_j exp(s[j] − m) / l · v[j, e]
///     lse  = m + ln l
///
/// (Vaswani et al. 2017, "Attention Is All You Need", arXiv:1706.03762; log-sum-exp as in
/// FlashAttention-2, arXiv:2307.08691.) That is softmax; with another
/// ``AttentionOptions/normalizer`` it is
///
///     o[e] = Σ_j w[j] / denominator · v[j, e]
///     lse  = ln Σ_j w[j]
///
/// A row with no visible key gives o = 0 and lse = −inf (or the sink's logit). A hidden key is
/// never read, so NaN in it changes nothing; a key whose score is −inf counts as hidden, and the
/// value of a key that ReLU gives weight 0 is not read either. A visible NaN makes its whole row
/// NaN.
///
/// - Parameters:
///   - q: queries, `[B, S, H, D]`, row-major.
///   - k: keys, `[B, T, G, D]`, row-major.
///   - v: values, `[B, T, G, E]`, row-major.
///   - dimensions: the sizes.
///   - options: scale, masks and changes to the scores.
///   - rows: the rows to evaluate, numbered as in ``AttentionDimensions``; nil for all.
/// - Precondition: the arrays have the sizes' element counts and every row exists.
public func attention(
  q: [Double], k: [Double], v: [Double], dimensions: AttentionDimensions,
  options: AttentionOptions = AttentionOptions(), rows: [Int]? = nil
) -> AttentionOutput {
  evaluateRows(
    AttentionProblem(q: q, k: k, v: v, dimensions: dimensions, options: options), rows: rows)
}

/// The same attention of Float data, widened as it is read: for problems that are too large to
/// hold in Double.
///
/// - Parameters:
///   - q: queries, `[B, S, H, D]`, row-major.
///   - k: keys, `[B, T, G, D]`, row-major.
///   - v: values, `[B, T, G, E]`, row-major.
///   - dimensions: the sizes.
///   - options: scale, masks and changes to the scores.
///   - rows: the rows to evaluate; nil for all.
public func attention(
  q: [Float], k: [Float], v: [Float], dimensions: AttentionDimensions,
  options: AttentionOptions = AttentionOptions(), rows: [Int]? = nil
) -> AttentionOutput {
  evaluateRows(
    AttentionProblem(q: q, k: k, v: v, dimensions: dimensions, options: options), rows: rows)
}

/// What a row knows after its keys, for another call to go on with as
/// ``AttentionOptions/initialState``.
///
/// Sinks and gates are not in it, except that a row whose gate is 0 is not computed and stays
/// empty. An initial state is.
///
/// - Parameters:
///   - q: queries, `[B, S, H, D]`, row-major.
///   - k: keys, `[B, T, G, D]`, row-major.
///   - v: values, `[B, T, G, E]`, row-major.
///   - dimensions: the sizes.
///   - options: scale, masks and changes to the scores.
///   - rows: the rows to evaluate; nil for all.
public func attentionState<Element: BinaryFloatingPoint & Sendable>(
  q: [Element], k: [Element], v: [Element], dimensions: AttentionDimensions,
  options: AttentionOptions = AttentionOptions(), rows: [Int]? = nil
) -> AttentionState {
  let problem = AttentionProblem(q: q, k: k, v: v, dimensions: dimensions, options: options)
  let rows = problem.rows(rows)
  // A row's outputs and the sum of its weights after them.
  let width = dimensions.valueChannels + 1
  var rowStates = [Double](repeating: 0, count: rows.count * width)
  var largest = [Double](repeating: 0, count: rows.count)
  fillConcurrently(&rowStates, width: width, &largest) { index, state, largest in
    largest = problem.evaluateState(rows[index], into: state)
  }
  return AttentionState(
    max: largest,
    sum: rows.indices.map { rowStates[($0 + 1) * width - 1] },
    output: rows.indices.flatMap { rowStates[$0 * width..<($0 + 1) * width - 1] })
}

/// Each key's weight in a row's output, relative to the row's whole denominator (sinks and initial
/// state included; gates are not applied).
///
/// - Parameters:
///   - q: queries, `[B, S, H, D]`, row-major.
///   - k: keys, `[B, T, G, D]`, row-major.
///   - dimensions: the sizes; E is not read.
///   - options: scale, masks and changes to the scores.
///   - rows: the rows to evaluate; nil for all.
/// - Returns: `[rows, T]`, 0 for a key that its row does not see.
public func attentionProbabilities<Element: BinaryFloatingPoint & Sendable>(
  q: [Element], k: [Element], dimensions: AttentionDimensions,
  options: AttentionOptions = AttentionOptions(), rows: [Int]? = nil
) -> [Double] {
  let problem = AttentionProblem(q: q, k: k, v: nil, dimensions: dimensions, options: options)
  let rows = problem.rows(rows)
  let width = dimensions.keyTokens
  var p = [Double](repeating: 0, count: rows.count * width)
  var unused = [Double](repeating: 0, count: rows.count)
  fillConcurrently(&p, width: width, &unused) { index, p, _ in
    problem.evaluateProbabilities(rows[index], into: p)
  }
  return p
}

/// Evaluates the asked rows, several at a time.
func evaluateRows<Element>(_ problem: AttentionProblem<Element>, rows: [Int]?) -> AttentionOutput {
  let rows = problem.rows(rows)
  let width = problem.dimensions.valueChannels
  var o = [Double](repeating: 0, count: rows.count * width)
  var lse = [Double](repeating: 0, count: rows.count)
  fillConcurrently(&o, width: width, &lse) { index, o, lse in
    lse = problem.evaluate(rows[index], into: o)
  }
  return AttentionOutput(o: o, lse: lse)
}
