/// Where query token 0 stands among the keys.
public enum AttentionAlignment: String, Sendable, Hashable, Codable, CaseIterable {
  /// The last query sees the last key: query i stands at i + n − S, n being the sequence's key count.
  case bottomRight
  /// The first query stands at the first key.
  case topLeft
}

/// Which keys a query may see, by their positions.
///
/// Query i stands at position p = i + n − S (or i, aligned ``AttentionAlignment/topLeft``), n being the
/// sequence's key count. All parts combine: a key is seen where all of them leave it. Masks that are data
/// (dense, bits, segments, lengths, trees) are operands (``AttentionOperand``).
///
/// Hidden tiles are skipped, and hidden keys and values may hold anything, NaN included.
public struct AttentionMask: Sendable, Hashable {
  /// Whether query i sees key j only where j ≤ p.
  public var isCausal = false
  /// Where queries stand among the keys, for every mask of this type and for biases by distance.
  public var alignment = AttentionAlignment.bottomRight
  /// With blocks of n > 1 the causal mask goes by blocks: ⌊j / n⌋ ≤ ⌊p / n⌋ (block-causal attention).
  public var causalBlock = 1
  /// Keys j below this are not hidden by the causal mask (prefix-LM, https://arxiv.org/abs/1905.03197);
  /// an operand `prefixLengths` says it for each sequence instead.
  public var prefixTokens = 0
  /// Keys before p − windowLeft are hidden; nil for no limit (https://arxiv.org/abs/2004.05150).
  public var windowLeft: Int?
  /// Keys behind p + windowRight are hidden; nil for no limit.
  public var windowRight: Int?
  /// With chunks of n, a query sees the keys of its own chunk: ⌊j / n⌋ = ⌊p / n⌋; nil for no chunks.
  public var chunkSize: Int?
  /// Keys j below this are not hidden by window or chunk, but by the causal mask
  /// (https://arxiv.org/abs/2309.17453; meta tokens, https://arxiv.org/abs/2411.13676).
  public var sinkTokens = 0
  /// The query tokens of a block of ``AttentionOperand/Kind/blockMap``: a power of two from 64 to 4096.
  public var blockMapRows = 128
  /// The keys of a block of ``AttentionOperand/Kind/blockMap``, likewise.
  public var blockMapKeys = 128

  /// No mask; set what is wanted.
  public init() {}

  /// Every query sees every key.
  public static let none = AttentionMask()

  /// Query i sees key j where j ≤ i + n − S: the last query sees the last key ("bottom-right").
  ///
  /// With S > n the first S − n queries see nothing: their output is 0 and their log-sum-exp −∞.
  public static let causal = {
    var mask = AttentionMask()
    mask.isCausal = true
    return mask
  }()

  /// A sliding window, causal unless said otherwise.
  public static func window(
    left: Int?, right: Int? = nil, isCausal: Bool = true
  ) -> AttentionMask {
    var mask = AttentionMask()
    mask.isCausal = isCausal
    mask.windowLeft = left
    mask.windowRight = right
    return mask
  }
}

extension AttentionMask {
  /// Sums of a position, a window and 1 stay within 32 bits with a sign.
  package static let largestExtent = (1 << 30) - 1

  func check() throws(AttentionError) {
    func check(_ name: String, _ value: Int, from lowest: Int) throws(AttentionError) {
      guard value >= lowest, value <= Self.largestExtent else {
        throw .invalidArgument(
          name: "mask.\(name)", value: "\(value)", allowed: "\(lowest) to \(Self.largestExtent)")
      }
    }
    try check("causalBlock", causalBlock, from: 1)
    try check("prefixTokens", prefixTokens, from: 0)
    try check("windowLeft", windowLeft ?? 0, from: 0)
    try check("windowRight", windowRight ?? 0, from: 0)
    try check("chunkSize", chunkSize ?? 1, from: 1)
    try check("sinkTokens", sinkTokens, from: 0)
    for (name, value) in [("blockMapRows", blockMapRows), ("blockMapKeys", blockMapKeys)] {
      guard (64...4096).contains(value), value & (value - 1) == 0 else {
        throw .invalidArgument(
          name: "mask.\(name)", value: "\(value)", allowed: "a power of two from 64 to 4096")
      }
    }
    for (name, isUsed) in [("causalBlock", causalBlock > 1), ("prefixTokens", prefixTokens > 0)]
    where isUsed && !isCausal {
      throw .invalidArgument(
        name: "mask.\(name)", value: "set", allowed: "only where the mask is causal")
    }
  }

  /// How many of n keys the query at position p sees at most; operands may hide more.
  func visibleKeys(position p: Int, of n: Int) -> Int {
    var causalEnd = n
    if isCausal {
      causalEnd = min(n, max((floorDivide(p, causalBlock) + 1) * causalBlock, prefixTokens))
    }
    var begin = 0
    var end = causalEnd
    if let windowLeft { begin = max(begin, p - windowLeft) }
    if let windowRight { end = min(end, p + windowRight + 1) }
    if let chunkSize {
      begin = max(begin, floorDivide(p, chunkSize) * chunkSize)
      end = min(end, (floorDivide(p, chunkSize) + 1) * chunkSize)
    }
    let sinks = max(0, min(sinkTokens, causalEnd))
    let window = max(0, end - begin)
    // Sinks inside of the interval are counted once.
    return window + sinks - (window > 0 ? max(0, min(sinks, end) - begin) : 0)
  }
}

/// a / b, rounded down, for b > 0.
func floorDivide(_ a: Int, _ b: Int) -> Int {
  a >= 0 ? a / b : -((b - 1 - a) / b)
}
