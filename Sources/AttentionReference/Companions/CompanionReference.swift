import RealModule

/// The kernels around an attention, in Double and in plain loops: the definitions that kernels are held against.
///
/// All tensors are contiguous and row-major. Arrays of the wrong size are a programmer's error.
public enum CompanionReference {
  /// Layer normalisation (`isCentered`, https://arxiv.org/abs/1607.06450) or root-mean-square normalisation
  /// (https://arxiv.org/abs/1910.07467) of rows.
  ///
  ///     y = (x − m) / √(v + ε) · weight + bias
  ///     m = mean(x), v = mean((x − m)²)        or        m = 0, v = mean(x²)
  ///
  /// - Parameters:
  ///   - x: `[rows, channels]`.
  ///   - channels: of a row, 1 or more.
  ///   - isCentered: whether the mean is taken away first.
  ///   - epsilon: ε.
  ///   - weight: `[channels]`; nil for ones.
  ///   - bias: `[channels]`; nil for zeros.
  /// - Precondition: the arrays have the sizes' element counts.
  public static func normalized(
    _ x: [Double], channels: Int, isCentered: Bool, epsilon: Double, weight: [Double]? = nil,
    bias: [Double]? = nil
  ) -> [Double] {
    precondition(x.count % channels == 0, "x must be [rows, channels]")
    precondition(weight?.count ?? channels == channels && bias?.count ?? channels == channels)
    var y: [Double] = []
    y.reserveCapacity(x.count)
    for start in stride(from: 0, to: x.count, by: channels) {
      let row = x[start..<start + channels]
      let mean = isCentered ? row.reduce(0, +) / Double(channels) : 0
      let variance = row.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(channels)
      let divisor = (variance + epsilon).squareRoot()
      for c in 0..<channels {
        y.append((row[start + c] - mean) / divisor * (weight?[c] ?? 1) + (bias?[c] ?? 0))
      }
    }
    return y
  }

  /// y[m, n] = act(Σ_k x[m, k] · w[n, k] + bias[n]) + residual[m, n].
  ///
  /// - Parameters:
  ///   - x: `[M, inputChannels]`.
  ///   - weight: `[N, inputChannels]`.
  ///   - inputChannels: of a row of x and of the weight, 1 or more.
  ///   - bias: `[N]`; nil for zeros.
  ///   - activation: act.
  ///   - residual: `[M, N]`; nil for zeros.
  /// - Precondition: the arrays have the sizes' element counts.
  public static func matrixProduct(
    _ x: [Double], weight: [Double], inputChannels: Int, bias: [Double]? = nil,
    activation: ActivationFunction = .none, residual: [Double]? = nil
  ) -> [Double] {
    precondition(x.count % inputChannels == 0 && weight.count % inputChannels == 0)
    let rows = x.count / inputChannels
    let columns = weight.count / inputChannels
    precondition(bias?.count ?? columns == columns)
    precondition(residual?.count ?? rows * columns == rows * columns)
    var y = [Double](repeating: 0, count: rows * columns)
    x.withUnsafeBufferPointer { x in
      weight.withUnsafeBufferPointer { weight in
        for m in 0..<rows {
          for n in 0..<columns {
            var sum = 0.0
            for k in 0..<inputChannels {
              sum += x[m * inputChannels + k] * weight[n * inputChannels + k]
            }
            y[m * columns + n] =
              activation(sum + (bias?[n] ?? 0)) + (residual?[m * columns + n] ?? 0)
          }
        }
      }
    }
    return y
  }

  /// Softmax over rows of `scale · x`; a row of −∞ alone gives 0.
  ///
  /// - Precondition: `x` is `[rows, channels]`.
  public static func softmax(_ x: [Double], channels: Int, scale: Double = 1) -> [Double] {
    precondition(x.count % channels == 0, "x must be [rows, channels]")
    var y: [Double] = []
    y.reserveCapacity(x.count)
    for start in stride(from: 0, to: x.count, by: channels) {
      let row = x[start..<start + channels].map { scale * $0 }
      if row.contains(where: \.isNaN) {
        y += [Double](repeating: .nan, count: channels)
        continue
      }
      let largest = row.max() ?? -.infinity
      let weights = row.map { largest == -.infinity ? 0 : Double.exp($0 - largest) }
      let sum = weights.reduce(0, +)
      y += weights.map { sum == 0 ? 0 : $0 / sum }
    }
    return y
  }

  /// y[n] = scale · Σ_t table_t[number_t[n]]; NaN where a number lies outside of its table.
  ///
  /// - Parameters:
  ///   - tables: of each table its entries `[entries, channels]` and `[N]` numbers.
  ///   - channels: of an entry.
  ///   - scale: what the sums are multiplied by.
  /// - Precondition: there is a table, and all have as many numbers.
  public static func embedded(
    _ tables: [(entries: [Double], numbers: [Int])], channels: Int, scale: Double = 1
  ) -> [Double] {
    precondition(!tables.isEmpty && Set(tables.map(\.numbers.count)).count == 1)
    return tables[0].numbers.indices.flatMap { n in
      (0..<channels).map { c in
        scale
          * tables.reduce(0) { sum, table in
            let place = table.numbers[n] * channels + c
            return sum + (table.entries.indices.contains(place) ? table.entries[place] : .nan)
          }
      }
    }
  }
}
