import RealModule

/// The tokens that a draw can give and their probabilities, in Double: softmax(x / T), cut to the K most probable
/// tokens, then to the fewest of the most probable with at least the part P of their mass
/// (https://arxiv.org/abs/1904.09751).
///
/// Of equal logits those of smaller numbers count as the more probable. NaN and −∞ are never drawn.
public struct TokenDistribution: Sendable {
  /// The tokens that can be drawn, in the order of their numbers.
  public let tokens: [Int]
  /// The probability of each of ``tokens`` and of all before it.
  public let cumulative: [Double]

  /// The distribution of a row of logits.
  ///
  /// - Parameters:
  ///   - logits: one for each token.
  ///   - temperature: T, above 0.
  ///   - topTokens: K; nil for all.
  ///   - topMass: P, above 0 and at most 1.
  public init(
    logits: [Double], temperature: Double = 1, topTokens: Int? = nil, topMass: Double = 1
  ) {
    precondition(temperature > 0 && topTokens ?? 1 > 0 && topMass > 0 && topMass <= 1)
    var order = logits.indices.filter { logits[$0] > -.infinity }
    order.sort { (logits[$1], $0) < (logits[$0], $1) }
    if let topTokens { order = Array(order.prefix(topTokens)) }
    guard let first = order.first else {
      (tokens, cumulative) = ([], [])
      return
    }
    let weights = order.map {
      logits[$0] == logits[first] ? 1 : Double.exp((logits[$0] - logits[first]) / temperature)
    }
    let wanted = topMass * weights.reduce(0, +)
    var kept: [(token: Int, weight: Double)] = []
    var mass = 0.0
    for (token, weight) in zip(order, weights) where topMass == 1 || mass < wanted {
      kept.append((token, weight))
      mass += weight
    }
    kept.sort { $0.token < $1.token }
    var sum = 0.0
    tokens = kept.map(\.token)
    cumulative = kept.map {
      sum += $0.weight
      return sum / mass
    }
  }

  /// The token that a uniform number in 0 ..< 1 draws: the first whose cumulative probability is above it; nil where
  /// there is no token.
  public func token(uniform: Double) -> Int? {
    cumulative.firstIndex { $0 > uniform }.map { tokens[$0] } ?? tokens.last
  }

  /// How far a uniform number is from the nearest border between two tokens.
  public func distanceToBorder(uniform: Double) -> Double {
    cumulative.dropLast().reduce(.infinity) { min($0, abs($1 - uniform)) }
  }
}
