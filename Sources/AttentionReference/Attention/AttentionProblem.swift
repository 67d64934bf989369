import RealModule

/// What all rows of one evaluation share.
struct AttentionProblem<Element: BinaryFloatingPoint & Sendable>: Sendable {
  let q: [Element]
  let k: [Element]
  let v: [Element]
  let dimensions: AttentionDimensions
  let options: AttentionOptions
  /// With a type, probabilities and outputs are rounded to it.
  let storage: StorageType?

  /// - Precondition: arrays and options fit the sizes; `v` may be nil where no value is read.
  init(
    q: [Element], k: [Element], v: [Element]?, dimensions: AttentionDimensions,
    options: AttentionOptions, storage: StorageType? = nil
  ) {
    precondition(q.count == dimensions.qCount, "q must be [B, S, H, D]")
    precondition(k.count == dimensions.kCount, "k must be [B, T, G, D]")
    precondition((v?.count ?? dimensions.vCount) == dimensions.vCount, "v must be [B, T, G, E]")
    options.check(dimensions)
    self.q = q
    self.k = k
    self.v = v ?? []
    self.dimensions = dimensions
    self.options = options
    self.storage = storage
  }

  /// `rows`, or all of them.
  func rows(_ rows: [Int]?) -> [Int] {
    guard let rows else { return Array(0..<dimensions.rowCount) }
    precondition(rows.allSatisfy { (0..<dimensions.rowCount).contains($0) }, "no such row")
    return rows
  }
}

/// One row's place in the problem.
struct RowPlace {
  /// The row's number.
  let row: Int
  /// b.
  let batch: Int
  /// i.
  let token: Int
  /// h.
  let head: Int
  /// The key head that the row reads.
  let group: Int
  /// n, the sequence's own key count.
  let length: Int
  /// p, where the query stands among the keys; may be negative.
  let position: Int

  init(_ row: Int, _ dimensions: AttentionDimensions, _ options: AttentionOptions) {
    self.row = row
    head = row % dimensions.queryHeads
    token = row / dimensions.queryHeads % dimensions.queryTokens
    batch = row / dimensions.queryHeads / dimensions.queryTokens
    group = head / (dimensions.queryHeads / dimensions.keyHeads)
    length = options.kvLengths?[batch] ?? dimensions.keyTokens
    let offset = options.alignment == .bottomRight ? length - dimensions.queryTokens : 0
    position = token + offset
  }
}

/// The weights of one row's keys and all that belongs to their sum.
struct RowWeights {
  /// The visible keys whose weight is not 0 by its definition, in rising order.
  var keys: [Int] = []
  /// Their weights, relative to ``reference``.
  var weights: [Double] = []
  /// The weights are `exp(s − reference)`; 0 for the normalizers without exponentials.
  var reference = 0.0
  /// What the initial state's sum and output count for.
  var initialFactor = 0.0
  /// The weights of the keys and of the initial state.
  var sum = 0.0
  /// What the weighted sum of the values is divided by.
  var denominator = 0.0
  /// The logarithm of ``sum``, and of the sink beside it, in full size.
  var logSumExp = -Double.infinity
}

extension AttentionProblem {
  /// Writes the row's E outputs and returns its log-sum-exp.
  func evaluate(_ row: Int, into o: UnsafeMutableBufferPointer<Double>) -> Double {
    let place = RowPlace(row, dimensions, options)
    for e in o.indices { o[e] = 0 }
    let gate = gate(of: place)
    if gate == 0 { return -.infinity }
    let row = weights(of: place, withSink: true)
    // Nothing visible; `==` is false for NaN, which goes on and reaches the output.
    if row.denominator == 0 { return -.infinity }

    addValues(of: row, at: place, to: o) { rounded($0 / row.denominator) }
    for e in o.indices { o[e] = rounded(o[e] * gate) }
    return row.logSumExp
  }

  /// Writes the row's state: E sums of weighted values and the sum of weights behind them.
  /// Returns what the weights are relative to.
  func evaluateState(_ row: Int, into state: UnsafeMutableBufferPointer<Double>) -> Double {
    let place = RowPlace(row, dimensions, options)
    for e in state.indices { state[e] = 0 }
    if gate(of: place) == 0 { return options.normalizer.isExponential ? -.infinity : 0 }
    let row = weights(of: place, withSink: false)
    let output = UnsafeMutableBufferPointer(rebasing: state[..<dimensions.valueChannels])
    addValues(of: row, at: place, to: output) { $0 }
    state[dimensions.valueChannels] = row.sum
    return row.reference
  }

  /// Writes each key's share of the row's output, 0 for a key that the row does not see.
  func evaluateProbabilities(_ row: Int, into p: UnsafeMutableBufferPointer<Double>) {
    let place = RowPlace(row, dimensions, options)
    for j in p.indices { p[j] = 0 }
    if gate(of: place) == 0 { return }
    let row = weights(of: place, withSink: true)
    for (j, weight) in zip(row.keys, row.weights) { p[j] = weight / row.denominator }
  }

  private func gate(of place: RowPlace) -> Double {
    options.gates?.value(batch: place.batch, token: place.token, head: place.head) ?? 1
  }

  /// Adds `share(weight) · v` over the keys, and the initial state's output likewise.
  private func addValues(
    of row: RowWeights, at place: RowPlace, to o: UnsafeMutableBufferPointer<Double>,
    share: (Double) -> Double
  ) {
    if let initial = options.initialState, row.initialFactor != 0 {
      let share = share(row.initialFactor)
      for e in o.indices { o[e] += share * initial.output[place.row * o.count + e] }
    }
    v.withUnsafeBufferPointer { v in
      for (j, weight) in zip(row.keys, row.weights) {
        let p = share(weight)
        let token = place.batch * dimensions.keyTokens + j
        let start = (token * dimensions.keyHeads + place.group) * o.count
        for e in o.indices { o[e] += p * Double(v[start + e]) }
      }
    }
  }

  private func rounded(_ value: Double) -> Double { storage?.rounded(value) ?? value }
}

// MARK: - Weights

extension AttentionProblem {
  /// The row's weights by the options' normalizer; the sink may be left out.
  private func weights(of place: RowPlace, withSink: Bool) -> RowWeights {
    let (keys, scores) = visibleScores(of: place)
    switch options.normalizer {
    case .softmax:
      return exponentials(
        keys, scores, sink: withSink ? options.sinks?[place.head] : nil, at: place)
    case .softmaxOffByOne:
      return exponentials(keys, scores, sink: withSink ? 0 : nil, at: place)
    case .reluMean:
      var row = rectified(keys, scores, at: place)
      row.denominator = Double(place.length)
      return row
    case .reluSum:
      var row = rectified(keys, scores, at: place)
      row.denominator = row.sum
      return row
    case .sigmoid(let bias):
      let weights = scores.map { 1 / (1 + Double.exp(-($0 + bias))) }
      var row = plainSum(keys, weights, at: place)
      row.denominator = 1
      return row
    }
  }

  /// `exp(s − max)`, summed.
  private func exponentials(
    _ keys: [Int], _ scores: [Double], sink: Double?, at place: RowPlace
  ) -> RowWeights {
    var row = RowWeights()
    row.keys = keys
    let initialMax = options.initialState?.max[place.row] ?? -.infinity
    row.reference = max(sink ?? -.infinity, initialMax)
    for score in scores where score > row.reference { row.reference = score }

    // −inf stands for nothing, of a sink and of a state; the guards keep −inf − −inf out of exp.
    if let initial = options.initialState, initialMax != -.infinity {
      row.initialFactor = .exp(initialMax - row.reference)
      row.sum = row.initialFactor * initial.sum[place.row]
    }
    row.weights.reserveCapacity(scores.count)
    for score in scores {
      let weight = Double.exp(score - row.reference)
      row.weights.append(weight)
      row.sum += weight
    }
    row.denominator = row.sum
    if let sink, sink != -.infinity { row.denominator += .exp(sink - row.reference) }
    row.logSumExp = row.denominator == 0 ? -.infinity : row.reference + .log(row.denominator)
    return row
  }

  /// `max(s, 0)`, summed; keys of weight 0 are left out.
  private func rectified(_ keys: [Int], _ scores: [Double], at place: RowPlace) -> RowWeights {
    // Not `score > 0`, which would drop NaN.
    let kept = zip(keys, scores).filter { !($0.1 <= 0) }
    return plainSum(kept.map(\.0), kept.map(\.1), at: place)
  }

  /// Weights that are relative to nothing, summed.
  private func plainSum(_ keys: [Int], _ weights: [Double], at place: RowPlace) -> RowWeights {
    var row = RowWeights()
    row.keys = keys
    row.weights = weights
    if let initial = options.initialState {
      row.initialFactor = 1
      row.sum = initial.sum[place.row]
    }
    for weight in weights { row.sum += weight }
    row.logSumExp = .log(row.sum)
    return row
  }
}
