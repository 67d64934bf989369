/// The sizes of one attention problem.
///
/// The letters used throughout: B batch, S query tokens, T key tokens, H query heads, G key/value
/// heads, D key channels, E value channels. A *row* is one query token of one head of one batch
/// entry; rows are numbered `(b * S + i) * H + h`, the order of `lse` in memory.
public struct AttentionDimensions: Sendable, Hashable {
  /// B, at least 1.
  public let batch: Int
  /// S, at least 1.
  public let queryTokens: Int
  /// T, 0 or more: with 0 no row sees a key.
  public let keyTokens: Int
  /// H, a multiple of G.
  public let queryHeads: Int
  /// G: query head h reads key/value head `h / (H / G)`.
  public let keyHeads: Int
  /// D, the channels of a query and of a key.
  public let keyChannels: Int
  /// E, the channels of a value and of an output row.
  public let valueChannels: Int

  /// Creates the sizes of a problem.
  ///
  /// - Precondition: every size is at least 1, except T which may be 0, and H is a multiple of G.
  public init(
    batch: Int, queryTokens: Int, keyTokens: Int, queryHeads: Int, keyHeads: Int,
    keyChannels: Int, valueChannels: Int
  ) {
    precondition(
      batch > 0 && queryTokens > 0 && keyTokens >= 0 && queryHeads > 0 && keyHeads > 0
        && keyChannels > 0 && valueChannels > 0, "sizes must be positive (only T may be 0)")
    precondition(queryHeads % keyHeads == 0, "query heads must be a multiple of key heads")
    self.batch = batch
    self.queryTokens = queryTokens
    self.keyTokens = keyTokens
    self.queryHeads = queryHeads
    self.keyHeads = keyHeads
    self.keyChannels = keyChannels
    self.valueChannels = valueChannels
  }

  /// Elements of q, `[B, S, H, D]`.
  public var qCount: Int { rowCount * keyChannels }
  /// Elements of k, `[B, T, G, D]`.
  public var kCount: Int { batch * keyTokens * keyHeads * keyChannels }
  /// Elements of v, `[B, T, G, E]`.
  public var vCount: Int { batch * keyTokens * keyHeads * valueChannels }
  /// Elements of o, `[B, S, H, E]`.
  public var oCount: Int { rowCount * valueChannels }
  /// Rows of the problem and elements of lse, `[B, S, H]`.
  public var rowCount: Int { batch * queryTokens * queryHeads }

  /// The number of the row of query token `token` of head `head` in batch entry `batch`.
  public func row(batch: Int, token: Int, head: Int) -> Int {
    (batch * queryTokens + token) * queryHeads + head
  }

  /// A fixed choice of rows for checking a problem that is too large to check whole.
  ///
  /// The first and the last query token of every head of the first and last batch entry are always
  /// among them (the edges are where a tile goes wrong); the rest is spread by a seeded generator.
  ///
  /// - Returns: row numbers in rising order, without repeats; all rows when there are at most
  ///   `count`. May exceed `count` when the edges alone do.
  public func sampledRows(count: Int, seed: UInt64 = 0) -> [Int] {
    guard count < rowCount else { return Array(0..<rowCount) }
    var chosen: Set<Int> = []
    for b in [0, batch - 1] {
      for i in [0, queryTokens - 1] {
        for h in 0..<queryHeads { chosen.insert(row(batch: b, token: i, head: h)) }
      }
    }
    var random = SplitMix64(seed: seed)
    while chosen.count < count { chosen.insert(Int(random.next() % UInt64(rowCount))) }
    return chosen.sorted()
  }
}
