/// A tensor of a linear attention beside q, k, v and o.
///
/// Letters as in ``LinearAttentionRequest``. Decays are natural logarithms: 0 keeps, −∞ clears, and what is above
/// 0 counts as 0. All decays that are given apply together.
public enum LinearAttentionOperand: String, Sendable, Hashable, Codable, CaseIterable {
  /// Log decay of each head, constant over the tokens: f32 [H] (RetNet, Lightning Attention).
  case headDecay
  /// Log decay of each token and head: [B, T, H], of the gates' type (simple GLA, gated DeltaNet).
  case decay
  /// Log decay of each key channel: [B, T, H, K], of the gates' type (GLA, RWKV, KDA).
  case keyDecay
  /// Log decay of each value channel: [B, T, H, V], of the gates' type (gated slot attention).
  case valueDecay
  /// Strength of an update: [B, T·U, H], of the gates' type.
  case beta
  /// Keys that are erased instead of k: [B, T·U, G, K], of the keys' type (Comba).
  case eraseKeys
  /// Factors of the erased keys' channels: [B, T·U, H, K], of the gates' type (Gated DeltaNet-2).
  case eraseGates
  /// Factors of the values' channels: [B, T·U, H, V], of the gates' type (Gated DeltaNet-2).
  case writeGates
  /// a of a low-rank change: [B, T, H, K], of the keys' type (RWKV-7).
  case lowRankA
  /// b of a low-rank change: [B, T, H, K], of the keys' type (RWKV-7).
  case lowRankB
  /// Weight of a token's own update where it reads before it: f32 [H, K] (RWKV-6).
  case bonus
  /// The states before the first tokens: f32 [N, H, K, V], or [slots, H, K, V].
  case initialState
  /// The states after the last tokens, written: likewise; may be the memory of ``initialState``.
  case finalState
  /// The normaliser's z before the first tokens: f32 [N, H, K], or [slots, H, K].
  case initialSum
  /// The normaliser's z after the last tokens, written: likewise; may be the memory of ``initialSum``.
  case finalSum
  /// Where packed sequences begin and the last one ends: Int32 [N + 1], rising. A request for packed
  /// sequences has it by itself.
  case sequenceStarts
  /// Numbers of documents: Int32 [B, T]. The state is cleared where one differs from the token before.
  case sequenceIDs
  /// The slot of each sequence's states: Int32 [N]; one that is negative has none, neither before nor after.
  case stateSlots
  /// Time steps dt: [B, T, H], of the gates' type; the decay is dt · rate, and dt multiplies the update
  /// (Mamba-2).
  case timeStep
  /// The rates of time steps, negative: f32 [H].
  case rate
  /// What is added to time steps: f32 [H].
  case timeStepBias
  /// Weights of v in the output: f32 [H].
  case skip
  /// z, whose SiLU multiplies the output: [B, T, H, V], of the values' type.
  case outputGate
  /// The state after every token, written: f32 [N, L, H, K, V], L the most tokens of a sequence. With them as the
  /// slots of the next call's initial states (slot n · L + t), rejected drafts are rolled back without a copy.
  case snapshots
  /// The token after which each token of a tree of drafts comes: Int32 [B, T], counted in its sequence; −1, and what
  /// is not before the token, stands for the initial state (as STree does).
  case parents

  /// Whether the kernel writes it.
  public var isWritten: Bool { self == .finalState || self == .finalSum || self == .snapshots }

  /// What may lie in the same memory although this one is written.
  var partner: LinearAttentionOperand? {
    switch self {
    case .finalState: .initialState
    case .finalSum: .initialSum
    default: nil
    }
  }

  /// The bit that tells the shaders that it is there; 0 where they need none.
  var option: LinearAttentionOptionBits {
    switch self {
    case .headDecay: .headDecay
    case .decay: .decay
    case .keyDecay: .keyDecay
    case .valueDecay: .valueDecay
    case .beta: .beta
    case .eraseKeys: .eraseKeys
    case .eraseGates: .eraseGates
    case .writeGates: .writeGates
    case .lowRankA, .lowRankB: .lowRank
    case .bonus: .bonus
    case .sequenceStarts: .starts
    case .sequenceIDs: .sequenceIDs
    case .stateSlots: .stateSlots
    case .timeStep, .rate: .timeStep
    case .timeStepBias: .timeStepBias
    case .skip: .skip
    case .outputGate: .outputGate
    case .snapshots: .snapshots
    case .parents: .parents
    case .initialState, .finalState, .initialSum, .finalSum: []
    }
  }

  /// Its place in the block of tensors; nil for the sums, which stand in the states' places.
  var slot: LinearAttentionBlock.Slot? {
    switch self {
    case .headDecay: .headDecay
    case .decay: .decay
    case .keyDecay: .keyDecay
    case .valueDecay: .valueDecay
    case .beta: .beta
    case .eraseKeys: .eraseKeys
    case .eraseGates: .eraseGates
    case .writeGates: .writeGates
    case .lowRankA: .lowRankA
    case .lowRankB: .lowRankB
    case .bonus: .bonus
    case .initialState: .initialState
    case .finalState: .finalState
    case .sequenceStarts: .starts
    case .sequenceIDs: .sequenceIDs
    case .stateSlots: .stateSlots
    case .timeStep: .timeStep
    case .rate: .rate
    case .timeStepBias: .timeStepBias
    case .skip: .skip
    case .outputGate: .outputGate
    case .snapshots: .snapshots
    case .parents: .parents
    case .initialSum, .finalSum: nil
    }
  }
}

/// What the pipelines have to know of a request; the bits of `OPTIONS` in `linear_interface.glsl`.
struct LinearAttentionOptionBits: OptionSet, Sendable, Hashable {
  let rawValue: UInt32

  static let headDecay = Self(rawValue: 1 << 0)
  static let decay = Self(rawValue: 1 << 1)
  static let keyDecay = Self(rawValue: 1 << 2)
  static let valueDecay = Self(rawValue: 1 << 3)
  static let beta = Self(rawValue: 1 << 4)
  static let delta = Self(rawValue: 1 << 5)
  static let eraseKeys = Self(rawValue: 1 << 6)
  static let eraseGates = Self(rawValue: 1 << 7)
  static let writeGates = Self(rawValue: 1 << 8)
  static let lowRank = Self(rawValue: 1 << 9)
  static let before = Self(rawValue: 1 << 10)
  static let bonus = Self(rawValue: 1 << 11)
  static let starts = Self(rawValue: 1 << 12)
  static let sequenceIDs = Self(rawValue: 1 << 13)
  static let stateSlots = Self(rawValue: 1 << 14)
  static let timeStep = Self(rawValue: 1 << 15)
  static let softplus = Self(rawValue: 1 << 16)
  static let timeStepBias = Self(rawValue: 1 << 17)
  static let skip = Self(rawValue: 1 << 18)
  static let outputGate = Self(rawValue: 1 << 19)
  static let ones = Self(rawValue: 1 << 20)
  static let divide = Self(rawValue: 1 << 21)
  static let retention = Self(rawValue: 1 << 22)
  static let noOutput = Self(rawValue: 1 << 23)
  static let noUpdate = Self(rawValue: 1 << 24)
  static let snapshots = Self(rawValue: 1 << 25)
  static let parents = Self(rawValue: 1 << 26)

  init(rawValue: UInt32) {
    self.rawValue = rawValue
  }

  /// Those of a request.
  init(_ request: LinearAttentionRequest) {
    var bits: Self = []
    for operand in request.operands { bits.formUnion(operand.option) }
    if request.erases { bits.insert(.delta) }
    if request.readsBeforeUpdate { bits.insert(.before) }
    if request.appliesSoftplus { bits.insert(.softplus) }
    switch request.normalizer {
    case .none: break
    case .sum: bits.insert(.divide)
    case .retention: bits.formUnion([.divide, .retention])
    }
    self = bits
  }
}
