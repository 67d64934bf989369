/// The sizes of a linear attention; names in code, letters in the documentation of shapes.
public struct LinearAttentionDimensions: Sendable, Hashable {
  /// B: independent problems in one call; 1 where sequences are packed.
  public let batch: Int
  /// T: tokens; of packed sequences all of them together.
  public let tokens: Int
  /// G: heads of q and k; head h of the values goes with head h / (H / G).
  public let keyHeads: Int
  /// H: heads of v, of the gates and of the states; a multiple of G.
  public let valueHeads: Int
  /// K: channels of queries and keys, rows of a state.
  public let keyChannels: Int
  /// V: channels of values and outputs, columns of a state.
  public let valueChannels: Int
  /// U: updates of the state by one token, each with a key, a value and a beta of its own.
  public let updatesPerToken: Int

  /// Makes the sizes of a problem.
  ///
  /// - Precondition: all sizes are at least 1, T may be 0, and H is a multiple of G.
  public init(
    batch: Int = 1, tokens: Int, keyHeads: Int? = nil, valueHeads: Int, keyChannels: Int,
    valueChannels: Int, updatesPerToken: Int = 1
  ) {
    let keyHeads = keyHeads ?? valueHeads
    precondition(batch >= 1 && tokens >= 0 && keyHeads >= 1 && valueHeads >= 1)
    precondition(keyChannels >= 1 && valueChannels >= 1 && updatesPerToken >= 1)
    precondition(
      valueHeads.isMultiple(of: keyHeads), "value heads must be a multiple of the heads of keys")
    self.batch = batch
    self.tokens = tokens
    self.keyHeads = keyHeads
    self.valueHeads = valueHeads
    self.keyChannels = keyChannels
    self.valueChannels = valueChannels
    self.updatesPerToken = updatesPerToken
  }

  /// Elements of q, `[B, T, G, K]`.
  public var qCount: Int { batch * tokens * keyHeads * keyChannels }
  /// Elements of k, `[B, T, U, G, K]`.
  public var kCount: Int { qCount * updatesPerToken }
  /// Elements of v, `[B, T, U, H, V]`.
  public var vCount: Int { oCount * updatesPerToken }
  /// Elements of the output, `[B, T, H, V]`.
  public var oCount: Int { batch * tokens * valueHeads * valueChannels }
  /// Elements of one state, `[K, V]`.
  public var stateCount: Int { keyChannels * valueChannels }
  /// Elements of a gate with one number for each token and head, `[B, T, H]`.
  public var gateCount: Int { batch * tokens * valueHeads }
}
