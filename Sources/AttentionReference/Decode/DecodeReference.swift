/// Attention over the keys and values of a cache, in Double:
/// ``attention(q:k:v:dimensions:options:rows:)-([Double],_,_,_,_,_)`` of the keys in the order of their
/// positions.
///
/// Sequence b has n = `lengths[b]` keys, and query i stands at position i + n − S unless the options say
/// otherwise: the S queries are the last tokens of their sequences, already in the cache. Keys that a ring
/// has forgotten are hidden, and positions count them.
///
/// - Parameters:
///   - q: queries, `[B, S, H, D]`, row-major.
///   - keyCache: the keys, as `layout` says.
///   - valueCache: the values, likewise.
///   - layout: where they lie.
///   - lengths: `[B]`: keys of each sequence.
///   - queryTokens: S.
///   - queryHeads: H.
///   - keyHeads: G.
///   - keyChannels: D.
///   - valueChannels: E.
///   - options: everything else, without `kvLengths`; `leftPadding` is not taken with a ring.
///     Options for each key have as many as the longest sequence.
/// - Returns: o `[B, S, H, E]` and lse `[B, S, H]`.
public func decodeAttention(
  q: [Double], keyCache: [Double], valueCache: [Double], layout: CacheLayout, lengths: [Int],
  queryTokens: Int, queryHeads: Int, keyHeads: Int, keyChannels: Int, valueChannels: Int,
  options: AttentionOptions = AttentionOptions()
) -> AttentionOutput {
  precondition(options.kvLengths == nil, "the lengths are given beside the options")
  var options = options
  options.kvLengths = lengths
  if case .ring = layout {
    precondition(options.leftPadding == nil, "a ring has no left padding")
    options.leftPadding = lengths.map { layout.firstKey(length: $0) }
  }
  let dimensions = AttentionDimensions(
    batch: lengths.count, queryTokens: queryTokens, keyTokens: lengths.max() ?? 0,
    queryHeads: queryHeads, keyHeads: keyHeads, keyChannels: keyChannels,
    valueChannels: valueChannels)
  // A key that is read in spite of being hidden shows.
  let k = gatheredCache(
    keyCache, layout: layout, lengths: lengths, heads: keyHeads, channels: keyChannels,
    filler: .nan)
  let v = gatheredCache(
    valueCache, layout: layout, lengths: lengths, heads: keyHeads, channels: valueChannels,
    filler: .nan)
  return attention(q: q, k: k, v: v, dimensions: dimensions, options: options)
}

/// Attention whose keys are cut into parts, each evaluated by itself and merged: the same as without cuts.
///
/// Part p of sequence b has the keys `cuts[b][p]..<cuts[b][p + 1]`, the first and the last part what is
/// before and behind them. Sinks and an initial state belong to the first part.
///
/// - Parameters:
///   - q: queries, `[B, S, H, D]`, row-major.
///   - k: keys, `[B, T, G, D]`, row-major.
///   - v: values, `[B, T, G, E]`, row-major.
///   - dimensions: the sizes.
///   - options: scale, masks and changes to the scores; softmax only, with or without its offset.
///   - cuts: `[B]` lists of rising keys, all of one length.
public func splitAttention(
  q: [Double], k: [Double], v: [Double], dimensions: AttentionDimensions,
  options: AttentionOptions = AttentionOptions(), cuts: [[Int]]
) -> AttentionOutput {
  precondition(cuts.count == dimensions.batch, "cuts must be [B]")
  precondition(options.normalizer.isExponential, "only weights of softmax can be merged")
  let parts = (cuts.first?.count ?? 0) + 1
  precondition(cuts.allSatisfy { $0.count == parts - 1 }, "cuts must be as many for each sequence")
  var outputs: [Double] = []
  var logSumExps: [Double] = []
  for part in 0..<parts {
    let ranges = cuts.map { cuts in
      (part == 0 ? 0 : cuts[part - 1])..<(part == parts - 1 ? dimensions.keyTokens : cuts[part])
    }
    let own = attention(
      q: q, k: k, v: v, dimensions: dimensions,
      options: options.restricted(to: ranges, dimensions, isFirst: part == 0))
    outputs += own.o
    logSumExps += own.lse
  }
  return mergeStates(
    outputs: outputs, logSumExps: logSumExps, partials: parts, rows: dimensions.rowCount,
    channels: dimensions.valueChannels)
}

extension AttentionOptions {
  /// The same options with other keys than these hidden, and positions as they were.
  fileprivate func restricted(
    to ranges: [Range<Int>], _ dimensions: AttentionDimensions, isFirst: Bool
  ) -> AttentionOptions {
    let heads = keyBias?.heads ?? 1
    let keyTokens = dimensions.keyTokens
    var bias: [Double] = []
    bias.reserveCapacity(ranges.count * heads * keyTokens)
    for (b, range) in ranges.enumerated() {
      for h in 0..<heads {
        let start = keyBias?.start(batch: b, head: h, dimensions)
        for j in 0..<keyTokens {
          let own = start.map { keyBias?.values[$0 + j] ?? 0 } ?? 0
          bias.append(range.contains(j) ? own : -.infinity)
        }
      }
    }
    var options = self
    options.keyBias = PerKey(bias, batch: dimensions.batch, heads: heads)
    if !isFirst {
      options.sinks = nil
      options.initialState = nil
      // The 1 in the denominator is there once.
      options.normalizer = .softmax
    }
    return options
  }
}

/// Attention over prefixes that sequences share and suffixes of their own, evaluated apart and merged.
///
/// Sequence b has the keys of prefix `prefixOf[b]`, then its own. Queries are its last tokens.
/// (Cascade inference of FlashInfer, arXiv:2501.01005; Hydragen, arXiv:2402.05099.)
///
/// - Parameters:
///   - q: queries, `[B, S, H, D]`, row-major.
///   - prefixK: keys of all prefixes, one after the other, `[tokens, G, D]`.
///   - prefixV: values, `[tokens, G, E]`.
///   - prefixStarts: `[prefixes + 1]`, never falling: where each begins.
///   - prefixOf: `[B]`.
///   - k: keys of the suffixes, `[B, T, G, D]`.
///   - v: values, `[B, T, G, E]`.
///   - lengths: `[B]`: keys of each suffix, `0...T`.
///   - dimensions: the sizes, T being that of the suffixes.
///   - options: as for ``splitAttention(q:k:v:dimensions:options:cuts:)``, without `kvLengths` and options
///     for each key.
public func cascadeAttention(
  q: [Double], prefixK: [Double], prefixV: [Double], prefixStarts: [Int], prefixOf: [Int],
  k: [Double], v: [Double], lengths: [Int], dimensions: AttentionDimensions,
  options: AttentionOptions = AttentionOptions()
) -> AttentionOutput {
  precondition(
    options.kvLengths == nil && options.keyBias == nil && options.bias == nil
      && options.mask == nil && options.keySegments == nil, "no options for each key")
  let prefixLengths = prefixOf.map { prefixStarts[$0 + 1] - prefixStarts[$0] }
  let totals = zip(prefixLengths, lengths).map(+)
  let longest = totals.max() ?? 0
  /// Prefix and suffix of each sequence, one after the other.
  func joined(_ prefix: [Double], _ suffix: [Double], channels: Int) -> [Double] {
    let width = dimensions.keyHeads * channels
    var all: [Double] = []
    for (b, p) in prefixOf.enumerated() {
      all += prefix[prefixStarts[p] * width..<prefixStarts[p + 1] * width]
      let start = b * dimensions.keyTokens * width
      all += suffix[start..<start + lengths[b] * width]
      all += Array(repeating: .nan, count: (longest - totals[b]) * width)
    }
    return all
  }
  var options = options
  options.kvLengths = totals
  return splitAttention(
    q: q, k: joined(prefixK, k, channels: dimensions.keyChannels),
    v: joined(prefixV, v, channels: dimensions.valueChannels),
    dimensions: AttentionDimensions(
      batch: dimensions.batch, queryTokens: dimensions.queryTokens, keyTokens: longest,
      queryHeads: dimensions.queryHeads, keyHeads: dimensions.keyHeads,
      keyChannels: dimensions.keyChannels, valueChannels: dimensions.valueChannels),
    options: options, cuts: prefixLengths.map { [$0] })
}

/// Latent attention in its absorbed form: all heads read one latent vector per token, which is key and
/// value at once, and one rotary key beside it.
///
///     s[j] = scale · (qLatent · latent[j] + qRotary · rotaryKey[j])
///     o    = Σ_j softmax(s)[j] · latent[j]
///
/// (DeepSeek-V2, arXiv:2405.04434, section 2.1.) The queries are already multiplied by the up-projection of
/// the keys, and the outputs are still to be multiplied by that of the values.
///
/// - Parameters:
///   - qLatent: `[B, S, H, R]`, row-major.
///   - qRotary: `[B, S, H, P]`.
///   - latent: `[B, T, R]`.
///   - rotaryKeys: `[B, T, P]`.
///   - batch: B.
///   - queryTokens: S.
///   - keyTokens: T.
///   - heads: H.
///   - latentChannels: R.
///   - rotaryChannels: P.
///   - options: everything else. Without a scale it is 1/√(R + P), the channels of the product that is
///     computed; a model's own is that of its heads before absorption, such as 1/√192.
/// - Returns: o `[B, S, H, R]` and lse `[B, S, H]`.
public func latentAttention(
  qLatent: [Double], qRotary: [Double], latent: [Double], rotaryKeys: [Double], batch: Int,
  queryTokens: Int, keyTokens: Int, heads: Int, latentChannels: Int, rotaryChannels: Int,
  options: AttentionOptions = AttentionOptions()
) -> AttentionOutput {
  let dimensions = AttentionDimensions(
    batch: batch, queryTokens: queryTokens, keyTokens: keyTokens, queryHeads: heads, keyHeads: 1,
    keyChannels: latentChannels + rotaryChannels, valueChannels: latentChannels)
  return attention(
    q: joinedChannels(qLatent, latentChannels, qRotary, rotaryChannels),
    k: joinedChannels(latent, latentChannels, rotaryKeys, rotaryChannels), v: latent,
    dimensions: dimensions, options: options)
}

/// The channels of two tensors side by side.
private func joinedChannels(
  _ first: [Double], _ firstChannels: Int, _ second: [Double], _ secondChannels: Int
) -> [Double] {
  let rows = first.count / firstChannels
  precondition(
    first.count == rows * firstChannels && second.count == rows * secondChannels,
    "the two parts must have the same rows")
  var joined: [Double] = []
  joined.reserveCapacity(first.count + second.count)
  for row in 0..<rows {
    joined += first[row * firstChannels..<(row + 1) * firstChannels]
    joined += second[row * secondChannels..<(row + 1) * secondChannels]
  }
  return joined
}
