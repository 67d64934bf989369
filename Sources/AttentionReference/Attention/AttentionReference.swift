import RealModule

/// What an attention yields: the output rows and their log-sum-exp.
public struct AttentionOutput: Sendable {
  /// `[B, S, H, E]`; when rows were chosen, `[rows, E]` in the order asked.
  public let o: [Double]
  /// `[B, S, H]`, natural logarithm; when rows were chosen, `[rows]` in the order asked.
  public let lse: [Double]
}

/// Exact softmax attention in Double: the definition every kernel is held against.
///
/// For query token i of head h, over the visible keys j of key head `h / (H / G)`:
///
///     s[j] = scale · Σ_d q[i, d] · k[j, d]        then soft cap, bias and ALiBi, in this order
///     m    = max_j s[j]
///     l    = Σ_j exp(s[j] − m)                    plus exp(sink − m) where there is a sink
///     o[e] = Σ_j exp(s[j] − m) / l · v[j, e]
///     lse  = m + ln l
///
/// (Vaswani et al. 2017, "Attention Is All You Need", arXiv:1706.03762; log-sum-exp as in
/// FlashAttention-2, arXiv:2307.08691; soft cap as in Gemma 2, arXiv:2408.00118; ALiBi,
/// arXiv:2108.12409; sinks as in gpt-oss.)
///
/// A row with no visible key gives o = 0 and lse = −inf (or the sink's logit). A hidden key is
/// never read, so NaN in it changes nothing; a key whose score is −inf counts as hidden. A visible
/// NaN makes its whole row NaN.
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
  evaluateRows(q, k, v, dimensions, options, storage: nil, rows: rows)
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
  evaluateRows(q, k, v, dimensions, options, storage: nil, rows: rows)
}

/// Checks the arguments and evaluates the asked rows, several at a time.
///
/// With a `storage` type the probabilities and the output are rounded to it.
func evaluateRows<Element: BinaryFloatingPoint & Sendable>(
  _ q: [Element], _ k: [Element], _ v: [Element], _ dimensions: AttentionDimensions,
  _ options: AttentionOptions, storage: StorageType?, rows: [Int]?
) -> AttentionOutput {
  precondition(q.count == dimensions.qCount, "q must be [B, S, H, D]")
  precondition(k.count == dimensions.kCount, "k must be [B, T, G, D]")
  precondition(v.count == dimensions.vCount, "v must be [B, T, G, E]")
  options.check(dimensions)
  let rows = rows ?? Array(0..<dimensions.rowCount)
  precondition(rows.allSatisfy { (0..<dimensions.rowCount).contains($0) }, "no such row")

  let width = dimensions.valueChannels
  var o = [Double](repeating: 0, count: rows.count * width)
  var lse = [Double](repeating: 0, count: rows.count)
  let row = AttentionRow(
    q: q, k: k, v: v, dimensions: dimensions, options: options, storage: storage)
  fillConcurrently(&o, width: width, &lse) { index, o, lse in
    lse = row.evaluate(rows[index], into: o)
  }
  return AttentionOutput(o: o, lse: lse)
}

/// The evaluation of one row; holds what all rows share.
private struct AttentionRow<Element: BinaryFloatingPoint & Sendable>: Sendable {
  let q: [Element]
  let k: [Element]
  let v: [Element]
  let dimensions: AttentionDimensions
  let options: AttentionOptions
  let storage: StorageType?

  /// Writes the row's E outputs and returns its log-sum-exp.
  func evaluate(_ row: Int, into o: UnsafeMutableBufferPointer<Double>) -> Double {
    let h = row % dimensions.queryHeads
    let b = row / dimensions.queryHeads / dimensions.queryTokens
    let group = h / (dimensions.queryHeads / dimensions.keyHeads)

    let (keys, scores) = visibleScores(row: row, group: group)
    let sink = options.sinks?[h]
    var largest = sink ?? -.infinity
    for score in scores where score > largest { largest = score }

    var weights: [Double] = []
    weights.reserveCapacity(scores.count)
    var denominator = 0.0
    // A sink of −inf is no sink; the guard keeps −inf − −inf out of exp.
    if let sink, sink != -.infinity { denominator += .exp(sink - largest) }
    for score in scores {
      let weight = Double.exp(score - largest)
      weights.append(weight)
      denominator += weight
    }
    for e in o.indices { o[e] = 0 }
    // Nothing visible; `==` is false for NaN, which goes on and reaches the output.
    if denominator == 0 { return -.infinity }

    v.withUnsafeBufferPointer { v in
      for (j, weight) in zip(keys, weights) {
        let p = rounded(weight / denominator)
        let start = ((b * dimensions.keyTokens + j) * dimensions.keyHeads + group) * o.count
        for e in o.indices { o[e] += p * Double(v[start + e]) }
      }
    }
    if storage != nil { for e in o.indices { o[e] = rounded(o[e]) } }
    return largest + .log(denominator)
  }

  /// The keys that the row sees, in rising order, and their finished scores.
  private func visibleScores(row: Int, group: Int) -> (keys: [Int], scores: [Double]) {
    let h = row % dimensions.queryHeads
    let i = row / dimensions.queryHeads % dimensions.queryTokens
    let b = row / dimensions.queryHeads / dimensions.queryTokens
    let length = options.kvLengths?[b] ?? dimensions.keyTokens
    let offset = options.alignment == .bottomRight ? length - dimensions.queryTokens : 0
    let position = i + offset
    let scale = options.scale ?? 1 / Double(dimensions.keyChannels).squareRoot()
    let biasStart = options.bias?.start(batch: b, head: h, token: i, dimensions) ?? 0
    let maskStart = options.mask?.start(batch: b, head: h, token: i, dimensions) ?? 0

    var keys: [Int] = []
    var scores: [Double] = []
    for j in 0..<length {
      if options.causal && j > position { continue }
      if j >= options.sinkTokens {
        if let left = options.windowLeft, j < position - left { continue }
        if let right = options.windowRight, j > position + right { continue }
      }
      if let mask = options.mask, mask.values[maskStart + j] == 0 { continue }

      let keyStart = (b * dimensions.keyTokens + j) * dimensions.keyHeads + group
      var score = scale * dot(row: row, keyStart: keyStart * dimensions.keyChannels)
      if options.softcap > 0 { score = options.softcap * .tanh(score / options.softcap) }
      if let bias = options.bias { score += bias.values[biasStart + j] }
      if let slopes = options.alibiSlopes { score -= slopes[h] * Double(abs(position - j)) }
      if score == -.infinity { continue }
      keys.append(j)
      scores.append(score)
    }
    return (keys, scores)
  }

  private func dot(row: Int, keyStart: Int) -> Double {
    q.withUnsafeBufferPointer { q in
      k.withUnsafeBufferPointer { k in
        var sum = 0.0
        let queryStart = row * dimensions.keyChannels
        for d in 0..<dimensions.keyChannels {
          sum += Double(q[queryStart + d]) * Double(k[keyStart + d])
        }
        return sum
      }
    }
  }

  private func rounded(_ value: Double) -> Double { storage?.rounded(value) ?? value }
}
