import RealModule

/// What is done to queries and keys before a linear attention, so that q·k resembles another kernel.
public enum FeatureMap: Sendable, Hashable {
  /// Nothing.
  case identity
  /// max(x, 0).
  case relu
  /// max(x, 0)² (MAG, squared ReLU).
  case squaredReLU
  /// ELU(x) + 1 (Katharopoulos et al. 2020, arXiv:2006.16236).
  case eluPlusOne
  /// Softmax over the channels of each row (Efficient Attention, arXiv:1812.01243).
  case softmax
  /// Softmax of each channel over all tokens (Efficient Attention, its keys).
  case tokenSoftmax
  /// x / √(Σ x² + epsilon).
  case l2Norm(epsilon: Double)
  /// (1, y, y ⊗ y / √2) with y = x / D^¼: the exponential's series to the second order, D → 1 + D + D²
  /// (Based, Arora et al. 2024, arXiv:2402.18668).
  case taylor2
  /// exp(w·x − |x|²/2) / √m for the m rows of `projection` [m, D] (Performer, arXiv:2009.14794).
  case favorPlus(projection: [Double])
  /// (max(x, 0) cos(π i / 2M), max(x, 0) sin(π i / 2M)) for token i, D → 2D (cosFormer,
  /// arXiv:2202.08791).
  case cosFormer(maximum: Double)

  /// Channels of a mapped row.
  public func channels(from channels: Int) -> Int {
    switch self {
    case .taylor2: 1 + channels + channels * channels
    case .favorPlus(let projection): projection.count / channels
    case .cosFormer: 2 * channels
    default: channels
    }
  }

  /// Maps `[tokens, heads, channels]` of one sequence.
  ///
  /// - Parameter firstToken: the position of the first of the tokens.
  /// - Returns: `[tokens, heads, channels(from: channels)]`.
  public func mapped(
    _ x: [Double], heads: Int, channels: Int, firstToken: Int = 0
  ) -> [Double] {
    precondition(x.count.isMultiple(of: heads * channels), "x must be [tokens, heads, channels]")
    if case .tokenSoftmax = self { return softmaxOverTokens(x, rowCount: heads * channels) }
    return (0..<x.count / channels).flatMap { row in
      mapRow(
        Array(x[row * channels..<(row + 1) * channels]), token: firstToken + row / heads)
    }
  }

  private func mapRow(_ x: [Double], token: Int) -> [Double] {
    switch self {
    case .identity, .tokenSoftmax: return x
    case .relu: return x.map { max($0, 0) }
    case .squaredReLU: return x.map { max($0, 0) * max($0, 0) }
    case .eluPlusOne: return x.map { $0 > 0 ? $0 + 1 : .exp($0) }
    case .softmax: return softmax(x)
    case .l2Norm(let epsilon):
      let length = (x.reduce(0) { $0 + $1 * $1 } + epsilon).squareRoot()
      return x.map { $0 / length }
    case .taylor2:
      let y = x.map { $0 / .pow(Double(x.count), 0.25) }
      return [1] + y + y.flatMap { first in y.map { first * $0 / 2.0.squareRoot() } }
    case .favorPlus(let projection):
      let half = x.reduce(0) { $0 + $1 * $1 } / 2
      let count = projection.count / x.count
      return (0..<count).map { m in
        let dot = x.indices.reduce(0) { $0 + projection[m * x.count + $1] * x[$1] }
        return .exp(dot - half) / Double(count).squareRoot()
      }
    case .cosFormer(let maximum):
      let angle = Double.pi * Double(token) / (2 * maximum)
      return x.map { max($0, 0) * .cos(angle) } + x.map { max($0, 0) * .sin(angle) }
    }
  }

  private func softmax(_ x: [Double]) -> [Double] {
    let largest = x.max() ?? 0
    let weights = x.map { Double.exp($0 - largest) }
    let total = weights.reduce(0, +)
    return weights.map { $0 / total }
  }

  private func softmaxOverTokens(_ x: [Double], rowCount: Int) -> [Double] {
    var result = x
    for column in 0..<rowCount {
      let places = stride(from: column, to: x.count, by: rowCount)
      for (place, value) in zip(places, softmax(places.map { x[$0] })) { result[place] = value }
    }
    return result
  }
}
