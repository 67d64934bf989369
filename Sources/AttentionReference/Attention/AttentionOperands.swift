/// One value for each score of a problem, `[B or 1, H or 1, S or 1, T]`, row-major.
public struct PerScore<Value: Sendable>: Sendable {
  /// The values in memory order.
  public let values: [Value]
  /// B, or 1 when every batch entry shares them.
  public let batch: Int
  /// H, or 1 when every head shares them.
  public let heads: Int
  /// S, or 1 when every query token shares them; nil stands for S.
  public let queries: Int?

  /// Wraps `values`, laid out `[batch, heads, queries, T]`.
  public init(_ values: [Value], batch: Int = 1, heads: Int = 1, queries: Int? = nil) {
    self.values = values
    self.batch = batch
    self.heads = heads
    self.queries = queries
  }

  /// Where the T values of (b, h, i) start.
  func start(batch b: Int, head h: Int, token i: Int, _ dimensions: AttentionDimensions) -> Int {
    let entry = (batch == 1 ? 0 : b) * heads + (heads == 1 ? 0 : h)
    let queries = queries ?? dimensions.queryTokens
    return (entry * queries + (queries == 1 ? 0 : i)) * dimensions.keyTokens
  }

  func checkShape(_ dimensions: AttentionDimensions, name: String) {
    let queries = queries ?? dimensions.queryTokens
    check(
      values.count, inner: dimensions.keyTokens, name,
      axes: [
        ("batch", batch, dimensions.batch), ("heads", heads, dimensions.queryHeads),
        ("queries", queries, dimensions.queryTokens),
      ])
  }
}

extension PerScore where Value == UInt8 {
  /// The mask that packed bits spell: 1 where bit `j % 8` (the lowest first) of byte `j / 8` is 1.
  ///
  /// - Parameters:
  ///   - maskBits: `[batch, heads, queries, ⌈T/8⌉]`; bits past T are left out.
  ///   - keyTokens: T.
  ///   - batch: B or 1.
  ///   - heads: H or 1.
  ///   - queries: S or 1.
  public init(maskBits: [UInt8], keyTokens: Int, batch: Int = 1, heads: Int = 1, queries: Int) {
    let rows = batch * heads * queries
    let width = (keyTokens + 7) / 8
    precondition(maskBits.count == rows * width, "expected [batch, heads, queries, ⌈T/8⌉] bytes")
    var values: [UInt8] = []
    values.reserveCapacity(rows * keyTokens)
    for row in 0..<rows {
      for j in 0..<keyTokens { values.append(maskBits[row * width + j / 8] >> (j % 8) & 1) }
    }
    self.init(values, batch: batch, heads: heads, queries: queries)
  }
}

/// One value for each row of a problem, `[B or 1, S or 1, H or 1]`, row-major.
public struct PerRow<Value: Sendable>: Sendable {
  /// The values in memory order.
  public let values: [Value]
  /// B, or 1 when every batch entry shares them.
  public let batch: Int
  /// S, or 1 when every query token shares them.
  public let queries: Int
  /// H, or 1 when every head shares them.
  public let heads: Int

  /// Wraps `values`, laid out `[batch, queries, heads]`.
  public init(_ values: [Value], batch: Int = 1, queries: Int = 1, heads: Int = 1) {
    self.values = values
    self.batch = batch
    self.queries = queries
    self.heads = heads
  }

  /// The value of (b, i, h).
  func value(batch b: Int, token i: Int, head h: Int) -> Value {
    let token = (batch == 1 ? 0 : b) * queries + (queries == 1 ? 0 : i)
    return values[token * heads + (heads == 1 ? 0 : h)]
  }

  func checkShape(_ dimensions: AttentionDimensions, name: String) {
    check(
      values.count, inner: 1, name,
      axes: [
        ("batch", batch, dimensions.batch), ("queries", queries, dimensions.queryTokens),
        ("heads", heads, dimensions.queryHeads),
      ])
  }
}

/// One value for each key of a head, `[B or 1, H or 1, T]`, row-major.
public struct PerKey<Value: Sendable>: Sendable {
  /// The values in memory order.
  public let values: [Value]
  /// B, or 1 when every batch entry shares them.
  public let batch: Int
  /// H, or 1 when every head shares them.
  public let heads: Int

  /// Wraps `values`, laid out `[batch, heads, T]`.
  public init(_ values: [Value], batch: Int = 1, heads: Int = 1) {
    self.values = values
    self.batch = batch
    self.heads = heads
  }

  /// Where the T values of (b, h) start.
  func start(batch b: Int, head h: Int, _ dimensions: AttentionDimensions) -> Int {
    ((batch == 1 ? 0 : b) * heads + (heads == 1 ? 0 : h)) * dimensions.keyTokens
  }

  func checkShape(_ dimensions: AttentionDimensions, name: String) {
    check(
      values.count, inner: dimensions.keyTokens, name,
      axes: [("batch", batch, dimensions.batch), ("heads", heads, dimensions.queryHeads)])
  }
}

/// Some values for each token, `[B or 1, tokens, width]`, row-major; tokens are S or T, whichever
/// the operand says.
public struct PerToken<Value: Sendable>: Sendable {
  /// The values in memory order.
  public let values: [Value]
  /// B, or 1 when every batch entry shares them.
  public let batch: Int
  /// Values of one token.
  public let width: Int

  /// Wraps `values`, laid out `[batch, tokens, width]`.
  public init(_ values: [Value], batch: Int = 1, width: Int = 1) {
    self.values = values
    self.batch = batch
    self.width = width
  }

  /// Where the values of a token start.
  func start(batch b: Int, token: Int, of tokens: Int) -> Int {
    ((batch == 1 ? 0 : b) * tokens + token) * width
  }

  func checkShape(_ dimensions: AttentionDimensions, tokens: Int, name: String) {
    check(
      values.count, inner: tokens * width, name, axes: [("batch", batch, dimensions.batch)])
  }
}

/// What is known of each block of queries and keys, `[B or 1, H or 1, ⌈S/rows⌉, ⌈T/keys⌉]`: 0, all of it is hidden; 2,
/// ``AttentionOptions/mask``, ``AttentionOptions/treeBits`` and the segments hide nothing of it and are not asked;
/// any other number, they decide.
public struct BlockMap: Sendable {
  /// The entries in memory order.
  public let values: [Int32]
  /// B, or 1 when every batch entry shares them.
  public let batch: Int
  /// H, or 1 when every head shares them.
  public let heads: Int
  /// The query tokens of a block.
  public let rows: Int
  /// The keys of a block.
  public let keys: Int

  /// Wraps `values`, laid out `[batch, heads, ⌈S/rows⌉, ⌈T/keys⌉]`.
  public init(_ values: [Int32], batch: Int = 1, heads: Int = 1, rows: Int, keys: Int) {
    self.values = values
    self.batch = batch
    self.heads = heads
    self.rows = rows
    self.keys = keys
  }

  /// The entry of the block of (b, h, i, j).
  func value(
    batch b: Int, head h: Int, token i: Int, key j: Int, _ dimensions: AttentionDimensions
  ) -> Int32 {
    let entry = (batch == 1 ? 0 : b) * heads + (heads == 1 ? 0 : h)
    let row = entry * ((dimensions.queryTokens + rows - 1) / rows) + i / rows
    return values[row * ((dimensions.keyTokens + keys - 1) / keys) + j / keys]
  }

  func checkShape(_ dimensions: AttentionDimensions) {
    precondition(rows >= 1 && keys >= 1, "a block has rows and keys")
    let rowBlocks = (dimensions.queryTokens + rows - 1) / rows
    check(
      values.count, inner: rowBlocks * ((dimensions.keyTokens + keys - 1) / keys), "blockMap",
      axes: [("batch", batch, dimensions.batch), ("heads", heads, dimensions.queryHeads)])
  }
}

/// The window of one head: keys visible before and after the query's position.
public struct HeadWindow: Sendable, Hashable {
  /// Keys before; nil for no limit.
  public var left: Int?
  /// Keys after; nil for no limit.
  public var right: Int?

  /// A window of `left` keys before and `right` keys after.
  public init(left: Int?, right: Int?) {
    self.left = left
    self.right = right
  }
}

/// Stops where an axis has neither extent 1 nor its full one, or where the values are not as many as the
/// extents say.
private func check(
  _ count: Int, inner: Int, _ name: String, axes: [(name: String, extent: Int, full: Int)]
) {
  for axis in axes {
    precondition(
      axis.extent == 1 || axis.extent == axis.full,
      "\(name): \(axis.name) must be 1 or \(axis.full)")
  }
  let extents = axes.map(\.extent) + [inner]
  precondition(count == extents.reduce(1, *), "\(name): \(count) values, expected \(extents)")
}
