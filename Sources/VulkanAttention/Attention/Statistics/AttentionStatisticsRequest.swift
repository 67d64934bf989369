/// What can be known of an attention's probabilities p = exp(s − lse) without keeping them.
///
/// With packed sequences [B, S] is [Tq] and [B, H, T] is [H, Tk]; query tokens and keys that a statistic
/// names count from the start of their sequence. What is outside of every sequence is not written.
public enum AttentionStatistic: Sendable, Hashable {
  /// Each key's sum of p over the query rows, f32 [B, H, T]: over the last `lastRows` of them, or all
  /// (nil, or more than there are). Caches keep the keys with the largest sums (H2O,
  /// https://arxiv.org/abs/2306.14048; by the last rows SnapKV, https://arxiv.org/abs/2404.06654).
  case keySums(lastRows: Int?)
  /// −Σ p ln p of each row, f32 [B, S, H]; 0 for a row that sees no key or one. What sinks or an initial
  /// state hold is no part of it.
  case entropy
  /// The probabilities themselves, f32 [B, R, H, T], of R = `rowCount` query tokens that a buffer lists; 0
  /// for keys that are hidden. With packed sequences likewise, of each of them, T being the longest.
  case probabilities(rowCount: Int)
  /// The keys of the largest p of each row, Int32 [B, S, H, K], and their p, f32 [B, S, H, K], falling; equal
  /// ones by rising key. A row that sees fewer keys has −1 and 0 behind them.
  case topKeys(Int)
}

extension AttentionStatistic {
  /// The statistic's name, as in errors; each may be asked for once.
  var name: String {
    switch self {
    case .keySums: "keySums"
    case .entropy: "entropy"
    case .probabilities: "probabilities"
    case .topKeys: "topKeys"
    }
  }

  /// Its number in `attention_statistics.comp`.
  var shaderConstant: UInt32 {
    switch self {
    case .keySums: 0
    case .probabilities: 1
    case .entropy: 2
    case .topKeys: 3
    }
  }

  /// Whether an invocation owns a key, and not a query row.
  var isByKey: Bool {
    switch self {
    case .keySums, .probabilities: true
    case .entropy, .topKeys: false
    }
  }
}

/// Statistics of an attention, computed after it from q, k, its operands and the log-sum-exp that it
/// returned. Masks, scores, types and strides are the attention's.
///
/// The attention must be a softmax (``AttentionNormalizer/softmax`` or `softmaxOffByOne`).
/// Where it resumes a state, p is each key's share of the whole row, as its log-sum-exp is.
public struct AttentionStatisticsRequest: Sendable, Hashable {
  /// The attention that the statistics are of.
  public let attention: AttentionRequest
  /// What is computed, each kind at most once.
  public let statistics: [AttentionStatistic]

  /// The most keys of a row that ``AttentionStatistic/topKeys(_:)`` lists.
  public static let mostTopKeys = 64

  /// States what is wanted; everything that no device could run is refused here.
  ///
  /// - Throws: `AttentionError.invalidArgument` or `tooLarge`.
  public init(
    _ attention: AttentionRequest, statistics: [AttentionStatistic]
  ) throws(AttentionError) {
    switch attention.scores.normalizer {
    case .softmax, .softmaxOffByOne: break
    case .reluMean, .reluSum, .sigmoid:
      throw .invalidArgument(
        name: "attention.scores.normalizer", value: "\(attention.scores.normalizer)",
        allowed: "softmax or softmaxOffByOne, whose weights a log-sum-exp tells")
    }
    guard !statistics.isEmpty else {
      throw .invalidArgument(name: "statistics", value: "none", allowed: "one or more")
    }
    self.attention = attention
    self.statistics = statistics
    var seen: Set<String> = []
    for statistic in statistics {
      guard seen.insert(statistic.name).inserted else {
        throw .invalidArgument(
          name: "statistics.\(statistic.name)", value: "given twice", allowed: "once")
      }
      try check(statistic)
    }
  }

  private func check(_ statistic: AttentionStatistic) throws(AttentionError) {
    func check(_ name: String, _ value: Int, atMost most: Int) throws(AttentionError) {
      guard (1...most).contains(value) else {
        throw .invalidArgument(
          name: "statistics.\(statistic.name)\(name)", value: "\(value)", allowed: "1 to \(most)")
      }
    }
    switch statistic {
    case .keySums(let lastRows):
      try check(".lastRows", lastRows ?? 1, atMost: AttentionMask.largestExtent)
    case .entropy: break
    case .probabilities(let rowCount):
      try check(".rowCount", rowCount, atMost: AttentionMask.largestExtent)
    case .topKeys(let count): try check("", count, atMost: Self.mostTopKeys)
    }
    guard elementCount(of: statistic) != nil else { throw .tooLarge(tensor: statistic.name) }
  }

  /// Elements of one of a statistic's results; nil where that is more than can be addressed.
  private func elementCount(of statistic: AttentionStatistic) -> Int? {
    let (heads, packed) = (attention.queryHeads, attention.packedSequences)
    let extents =
      switch statistic {
      case .keySums:
        packed.map { [heads, $0.keyTokens] } ?? [attention.batchSize, heads, attention.keyTokens]
      case .entropy: [attention.outputRowCount]
      case .probabilities(let rowCount):
        [attention.batchSize, rowCount, heads, attention.keyTokens]
      case .topKeys(let count): [attention.outputRowCount, count]
      }
    var count = 1
    for extent in extents {
      let (product, overflows) = count.multipliedReportingOverflow(by: extent)
      // 2^48 elements lie beyond every device's address space.
      if overflows || product > 1 << 48 { return nil }
      count = product
    }
    return count
  }

  /// The size in bytes of a statistic's result, of top keys that of either of the two; 0 for one that is not
  /// asked for.
  public func byteCount(of statistic: AttentionStatistic) -> Int {
    // `init` has checked that this can be counted.
    statistics.contains(statistic) ? (elementCount(of: statistic) ?? 0) * 4 : 0
  }

  /// The size in bytes of the list of query tokens for ``AttentionStatistic/probabilities(rowCount:)``.
  public var queryRowsByteCount: Int {
    for case .probabilities(let rowCount) in statistics { return rowCount * 4 }
    return 0
  }

  /// Whether there is any key, seen or not.
  var hasKeys: Bool { attention.keyTokens > 0 && attention.packedSequences?.keyTokens != 0 }

  /// How many rows a statistic by keys walks: the last ones of a sequence or listed ones.
  func walkedRows(of statistic: AttentionStatistic) -> Int {
    switch statistic {
    case .keySums(let lastRows): min(lastRows ?? attention.queryTokens, attention.queryTokens)
    case .probabilities(let rowCount): rowCount
    case .entropy, .topKeys: 0
    }
  }

  /// Multiplications and additions for some keys or query rows of one head, at most: of a statistic by keys
  /// those that a mask hides are counted too.
  func operations(of statistic: AttentionStatistic, for tokens: Range<Int>) -> Double {
    2 * Double(attention.headSize)
      * (statistic.isByKey
        ? Double(tokens.count) * Double(walkedRows(of: statistic))
        : Double(attention.visiblePairs(rows: tokens)))
  }

  /// The operands that the kernel reads: those of the attention but for states, which the log-sum-exp has
  /// taken up.
  var operands: [AttentionOperand] { attention.operands.filter { !$0.kind.isState } }
}

extension AttentionOperand.Kind {
  /// Whether it belongs to a running state.
  var isState: Bool {
    switch self {
    case .initialMax, .initialSum, .initialOutput, .finalMax, .finalSum, .finalOutput: true
    default: false
    }
  }
}
