/// Where query token 0 stands among the keys, for the causal mask, windows and ALiBi.
public enum CausalAlignment: Sendable, Hashable {
  /// The last query token sees the last key: offset n − S, n being the sequence's key count.
  case bottomRight
  /// The first query token sees the first key: offset 0.
  case topLeft
}

/// One value for each score of a problem, `[B or 1, H or 1, S, T]`, row-major.
public struct PerScore<Value: Sendable>: Sendable {
  /// The values in memory order.
  public let values: [Value]
  /// B, or 1 when every batch entry shares them.
  public let batch: Int
  /// H, or 1 when every head shares them.
  public let heads: Int

  /// Wraps `values`, laid out `[batch, heads, S, T]`.
  public init(_ values: [Value], batch: Int = 1, heads: Int = 1) {
    self.values = values
    self.batch = batch
    self.heads = heads
  }

  /// Where the T values of (b, h, i) start.
  func start(batch b: Int, head h: Int, token i: Int, _ dimensions: AttentionDimensions) -> Int {
    let entry = (batch == 1 ? 0 : b) * heads + (heads == 1 ? 0 : h)
    return (entry * dimensions.queryTokens + i) * dimensions.keyTokens
  }

  func checkShape(_ dimensions: AttentionDimensions, name: String) {
    precondition(batch == 1 || batch == dimensions.batch, "\(name): batch must be 1 or B")
    precondition(heads == 1 || heads == dimensions.queryHeads, "\(name): heads must be 1 or H")
    precondition(
      values.count == batch * heads * dimensions.queryTokens * dimensions.keyTokens,
      "\(name): expected [batch, heads, S, T] values")
  }
}

/// Everything that changes the meaning of an attention, apart from its sizes.
///
/// The order is fixed: `scale·q·k`, soft cap, bias, ALiBi, masks, softmax. The defaults are plain
/// attention: scale 1/√D, every key visible.
public struct AttentionOptions: Sendable {
  /// Factor of q·k; nil means 1/√D.
  public var scale: Double?
  /// Whether key j is hidden from query i when `j > i + offset`.
  public var causal = false
  /// What `offset` is, for the causal mask, the window and ALiBi alike.
  public var alignment = CausalAlignment.bottomRight
  /// Keys visible before the query's own position; nil for no limit. At least 0.
  public var windowLeft: Int?
  /// Keys visible after the query's own position; nil for no limit. At least 0.
  public var windowRight: Int?
  /// Keys `0..<sinkTokens` stay visible outside the window (never outside the causal mask).
  public var sinkTokens = 0
  /// With c > 0, scores become `c · tanh(score / c)`.
  public var softcap = 0.0
  /// Added to the scores, `[B or 1, H or 1, S, T]`. −inf hides a key.
  public var bias: PerScore<Double>?
  /// 0 hides a key, `[B or 1, H or 1, S, T]`.
  public var mask: PerScore<UInt8>?
  /// `[H]`: one more logit per head, which enters the denominator only.
  public var sinks: [Double]?
  /// `[H]`: `slope · |i + offset − j|` is taken from each score.
  public var alibiSlopes: [Double]?
  /// `[B]`: keys of each sequence, `0...T`; later keys are invisible and may hold anything.
  public var kvLengths: [Int]?

  /// Plain attention, or with a causal mask or scale of one's own.
  public init(scale: Double? = nil, causal: Bool = false) {
    self.scale = scale
    self.causal = causal
  }

  /// Stops on options that do not fit the sizes: a mistake of the caller.
  func check(_ dimensions: AttentionDimensions) {
    precondition((windowLeft ?? 0) >= 0 && (windowRight ?? 0) >= 0, "windows must not be negative")
    precondition(sinkTokens >= 0 && softcap >= 0, "sinkTokens and softcap must not be negative")
    bias?.checkShape(dimensions, name: "bias")
    mask?.checkShape(dimensions, name: "mask")
    for perHead in [sinks, alibiSlopes] {
      precondition(
        (perHead?.count ?? dimensions.queryHeads) == dimensions.queryHeads,
        "sinks and alibiSlopes must have H values")
    }
    if let kvLengths {
      precondition(kvLengths.count == dimensions.batch, "kvLengths must have B values")
      precondition(
        kvLengths.allSatisfy { (0...dimensions.keyTokens).contains($0) },
        "kvLengths must lie in 0...T")
    }
  }
}
