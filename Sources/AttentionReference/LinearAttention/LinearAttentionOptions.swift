/// What a linear attention does beside adding k vᵀ to its state. The default is plain linear attention.
///
/// Decays are natural logarithms, 0 for none and −inf for a reset; a number above 0 counts as 0. All
/// that are given apply together.
public struct LinearAttentionOptions: Sendable {
  /// What the output is divided by.
  public enum Normalizer: Sendable, Hashable {
    /// Nothing.
    case none
    /// scale · q·z + epsilon, with z the state of a value that is always 1 (Katharopoulos et al. 2020,
    /// arXiv:2006.16236).
    case sum(epsilon: Double)
    /// max(|scale · q·z|, 1) (RetNet, Sun et al. 2023, arXiv:2307.08621).
    case retention
  }

  /// A low-rank change of the state beside its diagonal decay: S += b (aᵀ S), reading S before the decay.
  public struct LowRank: Sendable {
    /// a, `[B, T, H, K]`.
    public var a: [Double]
    /// b, `[B, T, H, K]`.
    public var b: [Double]

    /// Names the two factors.
    public init(a: [Double], b: [Double]) {
      self.a = a
      self.b = b
    }
  }

  /// Factor of q; nil for 1/√K.
  public var scale: Double?
  /// Log decay of every head, constant over the tokens, `[H]`.
  public var headDecay: [Double]?
  /// Log decay of every token and head, `[B, T, H]`.
  public var decay: [Double]?
  /// Log decay of every key channel, `[B, T, H, K]`.
  public var keyDecay: [Double]?
  /// Log decay of every value channel, `[B, T, H, V]`.
  public var valueDecay: [Double]?
  /// Whether a value is written as a correction of what the state holds for its key (delta rule).
  public var erases = false
  /// Strength of an update, `[B, T, U, H]`; 1 where nil. It scales the write, and the erasure too.
  public var beta: [Double]?
  /// Keys that are erased instead of k, `[B, T, U, G, K]` (Comba).
  public var eraseKeys: [Double]?
  /// Factors of the erased key's channels, `[B, T, U, H, K]` (Gated DeltaNet-2).
  public var eraseGates: [Double]?
  /// Factors of the value's channels, `[B, T, U, H, V]` (Gated DeltaNet-2).
  public var writeGates: [Double]?
  /// A low-rank change (RWKV-7, DPLR).
  public var lowRank: LowRank?
  /// Whether a token reads the state before its own decay and update (RWKV-6).
  public var readsBeforeUpdate = false
  /// Weight of a token's own k vᵀ where it reads before the update, `[H, K]`; nothing of it where nil.
  public var bonus: [Double]?
  /// What the output is divided by.
  public var normalizer = Normalizer.none
  /// Whether a token sees only itself and earlier ones; otherwise all read the last state.
  public var causal = true
  /// The state before the first token of each sequence, `[N, H, K, V]`; 0 where nil.
  public var initialState: [Double]?
  /// The normaliser's z before the first token, `[N, H, K]`; 0 where nil.
  public var initialSum: [Double]?
  /// Where packed sequences begin and the last of them ends, `[N + 1]`; B is then 1, and tokens outside
  /// are not computed.
  public var starts: [Int]?
  /// Numbers of documents, `[B, T]`: the state is cleared where one differs from the token before.
  public var sequenceIDs: [Int]?
  /// The token after which each token comes, `[B, T]`, counted in its sequence; −1, and what is not before the token,
  /// stands for the initial state. Nil where each comes after the one before it.
  public var parents: [Int]?
  /// Whether the state after every token is an output.
  public var keepsSnapshots = false

  /// Plain linear attention.
  public init() {}
}

/// What a linear attention yields.
public struct LinearAttentionOutput: Sendable {
  /// `[B, T, H, V]`; 0 for tokens outside of every sequence.
  public let o: [Double]
  /// The last state of each sequence, `[N, H, K, V]`.
  public let state: [Double]
  /// The normaliser's last z, `[N, H, K]`: the sum of keys, decayed like the state.
  public let sum: [Double]
  /// The state after each token, `[B, T, H, K, V]`, 0 for tokens outside of every sequence; empty if not kept.
  public let snapshots: [Double]
}
