import RealModule

/// A causal depth-wise convolution of one sequence in Double.
///
///     y[t, c] = activation(Σ_w weight[c, w] · x[t − W + 1 + w, c] + bias[c])
///
/// with the tokens before the first from `state`.
///
/// - Parameters:
///   - x: `[T, C]`.
///   - channels: C.
///   - weight: `[C, W]`; its last column belongs to the token itself.
///   - bias: `[C]`.
///   - state: the W − 1 tokens before the first, `[C, W − 1]`, the oldest first; 0 where nil.
///   - appliesSiLU: whether z / (1 + exp(−z)) is taken of the sum.
/// - Returns: y `[T, C]` and the state after the last token.
public func shortConvolution(
  _ x: [Double], channels: Int, weight: [Double], bias: [Double]? = nil, state: [Double]? = nil,
  appliesSiLU: Bool = false
) -> (y: [Double], state: [Double]) {
  let width = weight.count / channels
  let tokens = x.count / channels
  precondition(x.count == tokens * channels && weight.count == width * channels && width >= 1)
  precondition(state.map { $0.count == channels * (width - 1) } ?? true)
  func value(_ token: Int, _ channel: Int) -> Double {
    token >= 0
      ? x[token * channels + channel]
      : state?[channel * (width - 1) + width - 1 + token] ?? 0
  }
  let y = (0..<tokens * channels).map { index in
    let (token, channel) = index.quotientAndRemainder(dividingBy: channels)
    let sum = (0..<width).reduce(bias?[channel] ?? 0) {
      $0 + weight[channel * width + $1] * value(token - width + 1 + $1, channel)
    }
    return appliesSiLU ? sum / (1 + .exp(-sum)) : sum
  }
  let last = (0..<channels * (width - 1)).map { index in
    value(tokens - width + 1 + index % (width - 1), index / (width - 1))
  }
  return (y, last)
}
