import RealModule

/// The merge of partial attention results over disjoint sets of keys, in Double: the definition that
/// kernels are held against.
///
///     M = max over p of lse[p]        w[p] = exp(lse[p] − M)
///     O = Σ_p w[p] · O[p] / Σ_p w[p]        LSE = M + ln Σ_p w[p]
///
/// (FlashInfer, arXiv:2501.01005, section 2.2; natural logarithms.) Every row has N partials. One whose
/// lse is −inf is never read; a row without another gives o = 0 and lse = −inf. NaN in an lse, or in an
/// output that counts, makes the row NaN. Where M is +inf, what equals it weighs 1 and the rest 0.
///
/// - Parameters:
///   - outputs: partial outputs, `[N, rows, E]`, row-major.
///   - logSumExps: their log-sum-exps, `[N, rows]`.
///   - partials: N, 0 or more.
///   - rows: rows of each partial result.
///   - channels: E, 1 or more.
/// - Precondition: the arrays have the sizes' element counts.
public func mergeStates(
  outputs: [Double], logSumExps: [Double], partials: Int, rows: Int, channels: Int
) -> AttentionOutput {
  precondition(logSumExps.count == partials * rows, "logSumExps must be [N, rows]")
  return merged(outputs, logSumExps, rows: rows, channels: channels) { row in
    (0..<partials).map { $0 * rows + row }
  }
}

/// The merge of rows that list their partials: row r merges the partials from `starts[r]` up to
/// `starts[r + 1]`, as far as there are such.
///
/// - Parameters:
///   - outputs: partial outputs of all rows, `[partials, E]`, row-major.
///   - logSumExps: their log-sum-exps, `[partials]`.
///   - starts: one more than there are rows.
///   - channels: E, 1 or more.
/// - Precondition: there is a start, and `outputs` has the sizes' element count.
public func mergeStates(
  outputs: [Double], logSumExps: [Double], starts: [Int], channels: Int
) -> AttentionOutput {
  precondition(!starts.isEmpty, "starts must be [rows + 1]")
  let total = logSumExps.count
  return merged(outputs, logSumExps, rows: starts.count - 1, channels: channels) { row in
    let first = min(max(starts[row], 0), total)
    return Array(first..<max(first, min(starts[row + 1], total)))
  }
}

/// Merges for each row the partials that `members` names.
private func merged(
  _ outputs: [Double], _ logSumExps: [Double], rows: Int, channels: Int,
  members: (Int) -> [Int]
) -> AttentionOutput {
  precondition(outputs.count == logSumExps.count * channels, "outputs must be [partials, E]")
  var o = [Double](repeating: 0, count: rows * channels)
  var lse = [Double](repeating: -.infinity, count: rows)
  for row in 0..<rows {
    let members = members(row).filter { logSumExps[$0] != -.infinity }
    if members.isEmpty { continue }
    var largest = -Double.infinity
    for p in members where logSumExps[p] > largest { largest = logSumExps[p] }
    // Equality first: +inf − +inf is no number.
    let weights = members.map {
      logSumExps[$0] == largest ? 1 : Double.exp(logSumExps[$0] - largest)
    }
    let sum = weights.reduce(0, +)
    for (p, weight) in zip(members, weights) {
      for e in 0..<channels { o[row * channels + e] += weight / sum * outputs[p * channels + e] }
    }
    lse[row] = largest + .log(sum)
  }
  return AttentionOutput(o: o, lse: lse)
}
