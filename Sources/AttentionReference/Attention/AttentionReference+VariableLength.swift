/// The sizes of a problem of several sequences, packed one after another without padding.
///
/// Sequence b has the query tokens `queryStarts[b]..<queryStarts[b + 1]` and the key tokens
/// `keyStarts[b]..<keyStarts[b + 1]` (`cu_seqlens_q` and `cu_seqlens_k` elsewhere).
public struct PackedDimensions: Sendable, Hashable {
  /// Tokens in q, `[tokens, H, D]`, those outside of every sequence included.
  public let queryTokens: Int
  /// Tokens in k, `[tokens, G, D]`, and in v, `[tokens, G, E]`.
  public let keyTokens: Int
  /// `[N + 1]`, rising.
  public let queryStarts: [Int]
  /// `[N + 1]`, rising.
  public let keyStarts: [Int]
  /// H, a multiple of G.
  public let queryHeads: Int
  /// G.
  public let keyHeads: Int
  /// D.
  public let keyChannels: Int
  /// E.
  public let valueChannels: Int

  /// Creates the sizes of a packed problem.
  ///
  /// - Precondition: the starts never fall, are as many of queries as of keys, and lie within the
  ///   tokens.
  public init(
    queryTokens: Int, keyTokens: Int, queryStarts: [Int], keyStarts: [Int], queryHeads: Int,
    keyHeads: Int, keyChannels: Int, valueChannels: Int
  ) {
    precondition(
      !queryStarts.isEmpty && queryStarts.count == keyStarts.count,
      "queryStarts and keyStarts must have N + 1 values")
    for (starts, tokens) in [(queryStarts, queryTokens), (keyStarts, keyTokens)] {
      precondition(
        zip(starts, starts.dropFirst()).allSatisfy { $0 <= $1 }, "starts must never fall")
      precondition(
        starts.allSatisfy { (0...tokens).contains($0) }, "starts must lie within the tokens")
    }
    self.queryTokens = queryTokens
    self.keyTokens = keyTokens
    self.queryStarts = queryStarts
    self.keyStarts = keyStarts
    self.queryHeads = queryHeads
    self.keyHeads = keyHeads
    self.keyChannels = keyChannels
    self.valueChannels = valueChannels
  }

  /// N.
  public var sequences: Int { queryStarts.count - 1 }
  /// Rows of the problem and elements of lse, `[query tokens, H]`.
  public var rowCount: Int { queryTokens * queryHeads }

  /// The query tokens of sequence b.
  public func queries(of b: Int) -> Range<Int> { queryStarts[b]..<queryStarts[b + 1] }
  /// The key tokens of sequence b.
  public func keys(of b: Int) -> Range<Int> { keyStarts[b]..<keyStarts[b + 1] }

  /// The sizes of sequence b on its own; nil where it has no query.
  public func sequence(_ b: Int) -> AttentionDimensions? {
    guard !queries(of: b).isEmpty else { return nil }
    return AttentionDimensions(
      batch: 1, queryTokens: queries(of: b).count, keyTokens: keys(of: b).count,
      queryHeads: queryHeads, keyHeads: keyHeads, keyChannels: keyChannels,
      valueChannels: valueChannels)
  }
}

/// Attention of packed sequences: each sequence is an attention of its own, of its own S and T,
/// and tokens count from its own start.
///
/// Options per sequence (`kvLengths`, `leftPadding`, `prefixLengths`) have N values. Options per
/// token are packed as the tokens are, with a batch of 1: `querySegments`, `queryScales`, `gates`,
/// `treeBits` and the initial state over all query tokens, `keySegments` and `keyBias` over all key
/// tokens. Options for each score (`bias`, `mask`) and `gridBias` are not taken.
///
/// - Parameters:
///   - q: queries, `[query tokens, H, D]`, row-major.
///   - k: keys, `[key tokens, G, D]`, row-major.
///   - v: values, `[key tokens, G, E]`, row-major.
///   - dimensions: the sizes.
///   - options: scale, masks and changes to the scores.
///   - storage: a type to round to as ``lowPrecisionAttention(q:k:v:dimensions:options:storage:keyStorage:valueStorage:rows:)``
///     does; nil for none.
///   - keyStorage: with `storage`, the keys' type, where it is another.
///   - valueStorage: with `storage`, the values' type, where it is another.
/// - Returns: o `[query tokens, H, E]` and lse `[query tokens, H]`. Rows outside of every sequence
///   are NaN in both: they have no result, and tests can leave them out by that.
public func variableLengthAttention(
  q: [Double], k: [Double], v: [Double], dimensions: PackedDimensions,
  options: AttentionOptions = AttentionOptions(), storage: StorageType? = nil,
  keyStorage: StorageType? = nil, valueStorage: StorageType? = nil
) -> AttentionOutput {
  let (perQuery, perKey) = (dimensions.queryHeads, dimensions.keyHeads)
  let (channels, width) = (dimensions.keyChannels, dimensions.valueChannels)
  precondition(q.count == dimensions.queryTokens * perQuery * channels, "q must be [Tq, H, D]")
  precondition(k.count == dimensions.keyTokens * perKey * channels, "k must be [Tk, G, D]")
  precondition(v.count == dimensions.keyTokens * perKey * width, "v must be [Tk, G, E]")

  var o = [Double](repeating: .nan, count: dimensions.rowCount * width)
  var lse = [Double](repeating: .nan, count: dimensions.rowCount)
  for b in 0..<dimensions.sequences {
    guard let own = dimensions.sequence(b) else { continue }
    let (queries, keys) = (dimensions.queries(of: b), dimensions.keys(of: b))
    let ownQ = Array(q[elements(queries, perQuery * channels)])
    let ownK = Array(k[elements(keys, perKey * channels)])
    let ownV = Array(v[elements(keys, perKey * width)])
    let ownOptions = options.ofSequence(b, in: dimensions)
    let result =
      if let storage {
        lowPrecisionAttention(
          q: ownQ, k: ownK, v: ownV, dimensions: own, options: ownOptions, storage: storage,
          keyStorage: keyStorage, valueStorage: valueStorage)
      } else {
        attention(q: ownQ, k: ownK, v: ownV, dimensions: own, options: ownOptions)
      }
    o.replaceSubrange(elements(queries, perQuery * width), with: result.o)
    lse.replaceSubrange(elements(queries, perQuery), with: result.lse)
  }
  return AttentionOutput(o: o, lse: lse)
}

extension AttentionOptions {
  /// These options of a packed problem as they are for sequence b alone.
  ///
  /// - Precondition: the options are those that a packed problem may have, with the shapes that
  ///   ``variableLengthAttention(q:k:v:dimensions:options:storage:keyStorage:valueStorage:)`` says.
  public func ofSequence(_ b: Int, in dimensions: PackedDimensions) -> AttentionOptions {
    precondition(
      bias == nil && mask == nil && gridBias == nil,
      "bias, mask and gridBias are not taken with packed sequences")
    let (queries, keys) = (dimensions.queries(of: b), dimensions.keys(of: b))
    let heads = dimensions.queryHeads
    // Options per token and row are those of one sequence of all tokens.
    let whole = AttentionDimensions(
      batch: 1, queryTokens: dimensions.queryTokens, keyTokens: dimensions.keyTokens,
      queryHeads: heads, keyHeads: dimensions.keyHeads, keyChannels: dimensions.keyChannels,
      valueChannels: dimensions.valueChannels)
    func own(_ perSequence: [Int]?) -> [Int]? {
      precondition(
        (perSequence?.count ?? dimensions.sequences) == dimensions.sequences,
        "options per sequence must have N values")
      return perSequence.map { [$0[b]] }
    }
    func own<Value>(
      _ perToken: PerToken<Value>?, _ tokens: Range<Int>, of count: Int
    ) -> PerToken<Value>? {
      guard let perToken else { return nil }
      perToken.checkShape(whole, tokens: count, name: "options per token")
      return PerToken(
        Array(perToken.values[elements(tokens, perToken.width)]), width: perToken.width)
    }
    func own(_ perRow: PerRow<Double>?) -> PerRow<Double>? {
      guard let perRow, perRow.queries > 1 else { return perRow }
      perRow.checkShape(whole, name: "options per row")
      return PerRow(
        Array(perRow.values[elements(queries, perRow.heads)]), queries: queries.count,
        heads: perRow.heads)
    }

    var options = self
    options.kvLengths = own(kvLengths)
    options.leftPadding = own(leftPadding)
    options.prefixLengths = own(prefixLengths)
    options.querySegments = own(querySegments, queries, of: dimensions.queryTokens)
    options.keySegments = own(keySegments, keys, of: dimensions.keyTokens)
    options.treeBits = own(treeBits, queries, of: dimensions.queryTokens)
    options.queryScales = own(queryScales)
    options.gates = own(gates)
    options.keyBias = keyBias.map { keyBias in
      keyBias.checkShape(whole, name: "keyBias")
      return PerKey(
        (0..<keyBias.heads).flatMap { h in
          let start = h * dimensions.keyTokens
          return keyBias.values[start + keys.lowerBound..<start + keys.upperBound]
        }, heads: keyBias.heads)
    }
    // A sequence is batch entry 0 of its own problem.
    if let scoreModification {
      options.scoreModification = { score, _, h, i, j in scoreModification(score, b, h, i, j) }
    }
    if let maskModification {
      options.maskModification = { _, h, i, j in maskModification(b, h, i, j) }
    }
    options.initialState = initialState.map { state in
      AttentionState(
        max: Array(state.max[elements(queries, heads)]),
        sum: Array(state.sum[elements(queries, heads)]),
        output: Array(state.output[elements(queries, heads * dimensions.valueChannels)]))
    }
    return options
  }
}

/// The elements of some tokens, `width` each.
private func elements(_ tokens: Range<Int>, _ width: Int) -> Range<Int> {
  tokens.lowerBound * width..<tokens.upperBound * width
}
