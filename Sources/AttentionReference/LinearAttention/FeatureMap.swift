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
  /// The same inner products without the repetitions: y_i² / √2, and y_i y_j for i < j, row after row of the
  /// upper triangle; D → 1 + D + D (D + 1) / 2.
  case symmetricTaylor2
  /// exp(x).
  case exponential
  /// (exp(w·x − |x|²/2 − c) + epsilon) / √m for the m rows of `projection` [m, D] (Performer, Choromanski et al.
  /// 2020, arXiv:2009.14794).
  case favorPlus(projection: [Double], epsilon: Double = 0, stabilizer: Stabilizer = .none)
  /// (max(x, 0) cos(π i / 2M), max(x, 0) sin(π i / 2M)) for token i, D → 2D (cosFormer,
  /// arXiv:2202.08791).
  case cosFormer(maximum: Double)

  /// c of ``favorPlus(projection:epsilon:stabilizer:)``: what is taken from the exponents.
  public enum Stabilizer: Sendable, Hashable {
    /// 0.
    case none
    /// The largest exponent of a row (queries).
    case token
    /// The largest exponent of all tokens of a head (keys).
    case sequence
  }

  /// Channels of a mapped row.
  public func channels(from channels: Int) -> Int {
    switch self {
    case .taylor2: 1 + channels + channels * channels
    case .symmetricTaylor2: 1 + channels + channels * (channels + 1) / 2
    case .favorPlus(let projection, _, _): projection.count / channels
    case .cosFormer: 2 * channels
    default: channels
    }
  }

  /// Maps `[tokens, heads, channels]` of one sequence.
  ///
  /// - Parameters:
  ///   - x: `[tokens, heads, channels]`.
  ///   - heads: heads of a token.
  ///   - channels: D, of a head.
  ///   - firstToken: the position of the first of the tokens.
  ///   - scale: what x is multiplied by first; nil for D^(−¼) of a second-order series, else 1.
  /// - Returns: `[tokens, heads, channels(from: channels)]`.
  public func mapped(
    _ x: [Double], heads: Int, channels: Int, firstToken: Int = 0, scale: Double? = nil
  ) -> [Double] {
    precondition(x.count.isMultiple(of: heads * channels), "x must be [tokens, heads, channels]")
    let factor = scale ?? (isSeries ? .pow(Double(channels), -0.25) : 1)
    let x = x.map { factor * $0 }
    if case .tokenSoftmax = self { return softmaxOverTokens(x, rowCount: heads * channels) }
    let rows = (0..<x.count / channels).map { Array(x[$0 * channels..<($0 + 1) * channels]) }
    if case .favorPlus(let projection, let epsilon, let stabilizer) = self {
      return favor(rows, heads: heads, projection, epsilon, stabilizer)
    }
    return rows.indices.flatMap { mapRow(rows[$0], token: firstToken + $0 / heads) }
  }

  private var isSeries: Bool { self == .taylor2 || self == .symmetricTaylor2 }

  private func mapRow(_ x: [Double], token: Int) -> [Double] {
    switch self {
    case .identity, .tokenSoftmax, .favorPlus: return x
    case .relu: return x.map { max($0, 0) }
    case .squaredReLU: return x.map { max($0, 0) * max($0, 0) }
    case .eluPlusOne: return x.map { $0 > 0 ? $0 + 1 : .exp($0) }
    case .exponential: return x.map { .exp($0) }
    case .softmax: return softmax(x)
    case .l2Norm(let epsilon):
      let length = (x.reduce(0) { $0 + $1 * $1 } + epsilon).squareRoot()
      return x.map { length == 0 ? 0 : $0 / length }
    case .taylor2:
      return [1] + x + x.flatMap { first in x.map { first * $0 / 2.0.squareRoot() } }
    case .symmetricTaylor2:
      return [1] + x
        + x.indices.flatMap { i in
          (i..<x.count).map { j in i == j ? x[i] * x[i] / 2.0.squareRoot() : x[i] * x[j] }
        }
    case .cosFormer(let maximum):
      let angle = Double.pi * Double(token) / (2 * maximum)
      return x.map { max($0, 0) * .cos(angle) } + x.map { max($0, 0) * .sin(angle) }
    }
  }

  private func favor(
    _ rows: [[Double]], heads: Int, _ projection: [Double], _ epsilon: Double,
    _ stabilizer: Stabilizer
  ) -> [Double] {
    let exponents = rows.map { x in
      let half = x.reduce(0) { $0 + $1 * $1 } / 2
      return (0..<projection.count / x.count).map { m in
        x.indices.reduce(0) { $0 + projection[m * x.count + $1] * x[$1] } - half
      }
    }
    return exponents.indices.flatMap { row in
      let largest: Double
      switch stabilizer {
      case .none: largest = 0
      case .token: largest = exponents[row].max() ?? 0
      case .sequence:
        let head = stride(from: row % heads, to: exponents.count, by: heads)
        largest = head.compactMap { exponents[$0].max() }.max() ?? 0
      }
      return exponents[row].map {
        (.exp($0 - largest) + epsilon) / Double(exponents[row].count).squareRoot()
      }
    }
  }

  private func softmax(_ x: [Double]) -> [Double] {
    let largest = x.max() ?? 0
    // Nothing but −∞ has no weight: differences of infinities are not taken.
    guard largest > -.infinity else { return x.map { _ in 0 } }
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
