import AttentionReference
import Testing

/// What must be the same, however keys lie, are cut or are shared.
@Suite struct DecodeInvariantTests {
  /// A problem of ragged sequences, with its keys in the order of their positions.
  private struct Problem {
    let lengths: [Int]
    let dimensions: AttentionDimensions
    let q: [Double]
    let k: [Double]
    let v: [Double]
    var options = AttentionOptions()

    init(_ random: inout SeededNumbers, lengths: [Int], queries: Int = 2, groups: Int = 2) {
      self.lengths = lengths
      dimensions = AttentionDimensions(
        batch: lengths.count, queryTokens: queries, keyTokens: lengths.max() ?? 0,
        queryHeads: 6, keyHeads: groups, keyChannels: 4, valueChannels: 3)
      q = random.normal(dimensions.qCount)
      k = random.normal(dimensions.kCount)
      v = random.normal(dimensions.vCount)
    }

    func contiguous(_ options: AttentionOptions? = nil) -> AttentionOutput {
      var options = options ?? self.options
      options.kvLengths = lengths
      return attention(q: q, k: k, v: v, dimensions: dimensions, options: options)
    }

    /// The keys, or values, of each sequence written into a cache that is NaN elsewhere.
    func cache(_ keys: [Double], _ channels: Int, _ layout: CacheLayout, count: Int) -> [Double] {
      let width = dimensions.keyHeads * channels
      var cache = [Double](repeating: .nan, count: count * width)
      for (b, length) in lengths.enumerated() {
        let start = b * dimensions.keyTokens * width
        appendToCache(
          Array(keys[start..<start + length * width]),
          sequences: Array(repeating: b, count: length), positions: Array(0..<length),
          cache: &cache, layout: layout, heads: dimensions.keyHeads, channels: channels)
      }
      return cache
    }

    func decode(_ layout: CacheLayout, tokens: Int) -> AttentionOutput {
      decodeAttention(
        q: q, keyCache: cache(k, 4, layout, count: tokens),
        valueCache: cache(v, 3, layout, count: tokens), layout: layout, lengths: lengths,
        queryTokens: dimensions.queryTokens, queryHeads: 6, keyHeads: dimensions.keyHeads,
        keyChannels: 4, valueChannels: 3, options: options)
    }
  }

  /// Options that change something for decode steps, some at a time.
  private func setOptions(_ problem: inout Problem, _ random: inout SeededNumbers) {
    func chance() -> Bool { random.uniform() < 0.4 }
    problem.options.causal = random.uniform() < 0.7
    if chance() { problem.options.windowLeft = random.pick([0, 3, 9]) }
    if chance() { problem.options.sinkTokens = 2 }
    if chance() { problem.options.softcap = 1.3 }
    if chance() { problem.options.sinks = random.normal(6) }
    if chance() { problem.options.alibiSlopes = random.normal(6).map(abs) }
    if chance() { problem.options.scale = 0.7 }
    if chance() {
      problem.options.normalizer = problem.options.sinks == nil ? .softmaxOffByOne : .softmax
    }
    if chance() {
      problem.options.gates = PerRow(random.normal(6), heads: 6)
    }
  }

  private func expectClose(
    _ actual: AttentionOutput, _ expected: AttentionOutput,
    sourceLocation: SourceLocation = #_sourceLocation
  ) {
    expectClose(
      (actual.o, actual.lse), (expected.o, expected.lse), sourceLocation: sourceLocation)
  }

  private func expectClose(
    _ actual: (o: [Double], lse: [Double]), _ expected: (o: [Double], lse: [Double]),
    sourceLocation: SourceLocation = #_sourceLocation
  ) {
    let o = ErrorMeasure.relativeRMS(actual: actual.o, expected: expected.o)
    let lse = ErrorMeasure.worstAbsolute(actual: actual.lse, expected: expected.lse)
    #expect(o.isWithin(1e-13), "o: \(o)", sourceLocation: sourceLocation)
    #expect(lse.isWithin(1e-12), "lse: \(lse)", sourceLocation: sourceLocation)
  }

  private func pageTable(_ lengths: [Int], _ pageSize: Int, _ random: inout SeededNumbers)
    -> PageTable
  {
    let counts = lengths.map { ($0 + pageSize - 1) / pageSize }
    let total = counts.reduce(0, +)
    let indices = (0..<total).map { (random.bits(), $0) }.sorted { $0.0 < $1.0 }.map(\.1)
    return PageTable(
      pageSize: pageSize, indptr: counts.reduce(into: [0]) { $0.append(($0.last ?? 0) + $1) },
      indices: indices,
      lastPageLengths: zip(lengths, counts).map { $1 == 0 ? 0 : $0 - ($1 - 1) * pageSize })
  }

  @Test func pagedIsContiguousIsPacked() {
    var random = SeededNumbers(seed: 11)
    for _ in 0..<30 {
      var problem = Problem(&random, lengths: [17, 0, 1, 26, 8], queries: random.pick([1, 3]))
      setOptions(&problem, &random)
      let expected = problem.contiguous()
      for pageSize in [1, 4, 16] {
        let table = pageTable(problem.lengths, pageSize, &random)
        for order in PageOrder.allCases {
          let paged = problem.decode(
            .paged(table, order), tokens: table.indices.count * pageSize)
          #expect(paged.o == expected.o && paged.lse == expected.lse)
        }
      }
      let roomy = problem.decode(.contiguous(capacity: 40), tokens: 5 * 40)
      #expect(roomy.o == expected.o && roomy.lse == expected.lse)

      // Packed one after the other.
      let width = { (channels: Int) in problem.dimensions.keyHeads * channels }
      func packed(_ keys: [Double], _ channels: Int) -> [Double] {
        problem.lengths.enumerated().flatMap { b, length in
          let start = b * problem.dimensions.keyTokens * width(channels)
          return keys[start..<start + length * width(channels)]
        }
      }
      let starts = problem.lengths.reduce(into: [0]) { $0.append(($0.last ?? 0) + $1) }
      let queries = problem.dimensions.queryTokens
      let variable = variableLengthAttention(
        q: problem.q, k: packed(problem.k, 4), v: packed(problem.v, 3),
        dimensions: PackedDimensions(
          queryTokens: 5 * queries, keyTokens: starts.last ?? 0,
          queryStarts: (0...5).map { $0 * queries }, keyStarts: starts, queryHeads: 6, keyHeads: 2,
          keyChannels: 4, valueChannels: 3), options: problem.options)
      #expect(variable.o == expected.o && variable.lse == expected.lse)
    }
  }

  @Test func ringIsAWindow() {
    var random = SeededNumbers(seed: 12)
    // One query sees the whole ring: a window of one less before it.
    let problem = Problem(&random, lengths: [17, 0, 3, 26, 8], queries: 1)
    var windowed = AttentionOptions()
    windowed.windowLeft = 7
    let ring = problem.decode(.ring(capacity: 8), tokens: 5 * 8)
    let expected = problem.contiguous(windowed)
    #expect(ring.o == expected.o && ring.lse == expected.lse)

    // Several queries with a window of their own that lies in the ring.
    var several = Problem(&random, lengths: [17, 2, 3, 26, 8], queries: 3)
    several.options.causal = true
    several.options.windowLeft = 5
    several.options.alibiSlopes = random.normal(6).map(abs)
    let inRing = several.decode(.ring(capacity: 8), tokens: 5 * 8)
    let all = several.contiguous()
    #expect(inRing.o == all.o && inRing.lse == all.lse)
  }

  @Test func cutAnywhereAndMerged() {
    var random = SeededNumbers(seed: 13)
    for _ in 0..<40 {
      var problem = Problem(&random, lengths: [17, 0, 1, 26, 8], queries: random.pick([1, 4]))
      setOptions(&problem, &random)
      if random.uniform() < 0.3 {
        problem.options.keyBias = PerKey(random.normal(6 * 26), heads: 6)
      }
      let expected = problem.contiguous()
      var options = problem.options
      options.kvLengths = problem.lengths
      let count = random.pick([0, 1, 2, 5])
      let cuts = problem.lengths.map { length in
        (0..<count).map { _ in Int(random.uniform() * Double(length + 1)) }.sorted()
      }
      expectClose(
        splitAttention(
          q: problem.q, k: problem.k, v: problem.v, dimensions: problem.dimensions,
          options: options, cuts: cuts), expected)
    }
  }

  @Test func cascadeIsAttentionOverPrefixAndSuffix() {
    var random = SeededNumbers(seed: 14)
    // Two prefixes of 9 and 0 keys, suffixes of three sequences.
    let suffixes = Problem(&random, lengths: [5, 0, 7], queries: 2)
    let (prefixK, prefixV) = (random.normal(9 * 2 * 4), random.normal(9 * 2 * 3))
    for causal in [false, true] {
      var options = AttentionOptions(causal: causal)
      options.sinks = random.normal(6)
      let cascade = cascadeAttention(
        q: suffixes.q, prefixK: prefixK, prefixV: prefixV, prefixStarts: [0, 9, 9],
        prefixOf: [0, 0, 1], k: suffixes.k, v: suffixes.v, lengths: suffixes.lengths,
        dimensions: suffixes.dimensions, options: options)
      var (o, lse): ([Double], [Double]) = ([], [])
      for (b, prefix) in [9, 9, 0].enumerated() {
        let n = prefix + suffixes.lengths[b]
        let own = AttentionDimensions(
          batch: 1, queryTokens: 2, keyTokens: n, queryHeads: 6, keyHeads: 2, keyChannels: 4,
          valueChannels: 3)
        func joined(_ prefixKeys: [Double], _ keys: [Double], _ width: Int) -> [Double] {
          let start = b * 7 * width
          return Array(prefixKeys[..<(prefix * width)])
            + keys[start..<start + suffixes.lengths[b] * width]
        }
        let result = attention(
          q: Array(suffixes.q[b * own.qCount..<(b + 1) * own.qCount]),
          k: joined(prefixK, suffixes.k, 8), v: joined(prefixV, suffixes.v, 6), dimensions: own,
          options: options)
        o += result.o
        lse += result.lse
      }
      expectClose((cascade.o, cascade.lse), (o, lse))
    }
  }

  @Test func absorbedLatentAttentionIsAttentionOfItsProjections() {
    var random = SeededNumbers(seed: 15)
    let (batch, queries, keys, heads, rank, rotary, channels) = (2, 2, 9, 3, 6, 4, 5)
    let latent = random.normal(batch * keys * rank)
    let rotaryKeys = random.normal(batch * keys * rotary)
    let qPlain = random.normal(batch * queries * heads * channels)
    let qRotary = random.normal(batch * queries * heads * rotary)
    // [H, channels, R] each.
    let up = random.normal(heads * channels * rank)
    let valueUp = random.normal(heads * channels * rank)
    var qLatent = [Double](repeating: 0, count: batch * queries * heads * rank)
    for row in 0..<batch * queries * heads {
      for c in 0..<channels {
        for r in 0..<rank {
          qLatent[row * rank + r] +=
            qPlain[row * channels + c] * up[(row % heads * channels + c) * rank + r]
        }
      }
    }
    var options = AttentionOptions(scale: 0.4, causal: true)
    options.kvLengths = [9, 4]
    let absorbed = latentAttention(
      qLatent: qLatent, qRotary: qRotary, latent: latent, rotaryKeys: rotaryKeys, batch: batch,
      queryTokens: queries, keyTokens: keys, heads: heads, latentChannels: rank,
      rotaryChannels: rotary, options: options)

    // Every head's own keys and values.
    var (q, k, v): ([Double], [Double], [Double]) = ([], [], [])
    for row in 0..<batch * queries * heads {
      q += qPlain[row * channels..<(row + 1) * channels]
      q += qRotary[row * rotary..<(row + 1) * rotary]
    }
    func projected(_ weights: [Double], _ token: Int, _ h: Int) -> [Double] {
      (0..<channels).map { c in
        (0..<rank).reduce(0) {
          $0 + weights[(h * channels + c) * rank + $1] * latent[token * rank + $1]
        }
      }
    }
    for token in 0..<batch * keys {
      for h in 0..<heads {
        k += projected(up, token, h)
        k += rotaryKeys[token * rotary..<(token + 1) * rotary]
        v += projected(valueUp, token, h)
      }
    }
    let expected = attention(
      q: q, k: k, v: v,
      dimensions: AttentionDimensions(
        batch: batch, queryTokens: queries, keyTokens: keys, queryHeads: heads, keyHeads: heads,
        keyChannels: channels + rotary, valueChannels: channels), options: options)
    var o: [Double] = []
    for row in 0..<batch * queries * heads {
      for c in 0..<channels {
        o.append(
          (0..<rank).reduce(0) {
            $0 + valueUp[(row % heads * channels + c) * rank + $1] * absorbed.o[row * rank + $1]
          })
      }
    }
    expectClose((o, absorbed.lse), (expected.o, expected.lse))

    // Without a scale: that of the product of R + P channels.
    options.scale = nil
    let plain = latentAttention(
      qLatent: qLatent, qRotary: qRotary, latent: latent, rotaryKeys: rotaryKeys, batch: batch,
      queryTokens: queries, keyTokens: keys, heads: heads, latentChannels: rank,
      rotaryChannels: rotary, options: options)
    options.scale = 1 / 10.0.squareRoot()
    let scaled = latentAttention(
      qLatent: qLatent, qRotary: qRotary, latent: latent, rotaryKeys: rotaryKeys, batch: batch,
      queryTokens: queries, keyTokens: keys, heads: heads, latentChannels: rank,
      rotaryChannels: rotary, options: options)
    expectClose(plain, scaled)
  }
}
