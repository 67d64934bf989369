#if canImport(Darwin)
  import Darwin
#elseif canImport(Musl)
  import Musl
#else
  import Glibc
#endif

/// What is done to queries and keys before a linear attention, so that φ(q)·φ(k) resembles another kernel.
///
/// x is multiplied by ``FeatureMapRequest/scale`` first; D are its channels.
public enum AttentionFeatureMap: Sendable, Hashable {
  /// Nothing but the scale.
  case identity
  /// max(x, 0) (SLAB, https://arxiv.org/abs/2405.11582).
  case relu
  /// max(x, 0)² (https://arxiv.org/abs/2109.08668).
  case squaredReLU
  /// ELU(x) + 1: x + 1 above 0, else exp(x) (https://arxiv.org/abs/2006.16236).
  case eluPlusOne
  /// exp(x).
  case exponential
  /// Softmax over the channels of each row: the queries of efficient attention (https://arxiv.org/abs/1812.01243).
  case softmax
  /// Softmax of each channel over the tokens of its sequence: the keys of efficient attention.
  case tokenSoftmax
  /// x / √(Σ x² + epsilon); a row of zeros stays one.
  case l2Norm(epsilon: Float)
  /// 1, x, x ⊗ x / √2: the series of exp(q·k) to the second order (Based, https://arxiv.org/abs/2402.18668).
  case taylor2(TaylorPacking)
  /// (exp(w·x − |x|²/2 − c) + epsilon) / √M for the M rows w of a projection: positive random features
  /// (Performer, https://arxiv.org/abs/2009.14794).
  case favorPlus(features: Int, epsilon: Float, stabilizer: FavorStabilizer)
  /// max(x, 0) · cos(a) and max(x, 0) · sin(a), a = π i / 2M for position i of at most M, D → 2D (cosFormer,
  /// https://arxiv.org/abs/2202.08791).
  case cosFormer(maximum: Int)

  /// Which products of two channels a second-order series has.
  public enum TaylorPacking: Sendable, Hashable, CaseIterable {
    /// x_i x_j / √2 for all pairs (i, j), row after row: D → 1 + D + D².
    case full
    /// x_i² / √2, and x_i x_j for i < j, row after row of the upper triangle: the same inner products from
    /// D → 1 + D + D (D + 1) / 2 features.
    case symmetric
  }

  /// What is taken from the exponents of FAVOR+, so that none overflows.
  ///
  /// It cancels where outputs are normalised, but for epsilon, as long as it is the same for all keys.
  public enum FavorStabilizer: Sendable, Hashable, CaseIterable {
    /// Nothing.
    case none
    /// The largest exponent of the row: for queries.
    case token
    /// The largest exponent of all tokens of the sequence and head: for keys.
    case sequence
  }

  /// Channels of a mapped row, from D of x.
  public func features(from channels: Int) -> Int {
    switch self {
    case .taylor2(.full): 1 + channels + channels * channels
    case .taylor2(.symmetric): 1 + channels + channels * (channels + 1) / 2
    case .favorPlus(let features, _, _): features
    case .cosFormer: 2 * channels
    default: channels
    }
  }

  /// The scale that the map's paper gives x: D^(−¼) of queries and keys alike for those that approximate
  /// exp(q·k / √D), else 1.
  public func defaultScale(channels: Int) -> Float {
    switch self {
    case .taylor2, .favorPlus: Float(pow(Double(channels), -0.25))
    default: 1
    }
  }

  /// Whether a token's features depend on the other tokens of its sequence.
  public var dependsOnSequence: Bool {
    switch self {
    case .tokenSoftmax, .favorPlus(_, _, .sequence): true
    default: false
    }
  }

  /// Whether all channels of a row are added up.
  var isByRow: Bool {
    switch self {
    case .softmax, .l2Norm: true
    default: false
    }
  }

  /// The number by which `feature_map.comp` knows the map; nil for FAVOR+, which has a shader of its own.
  var shaderConstant: UInt32? {
    switch self {
    case .identity: 0
    case .relu: 1
    case .squaredReLU: 2
    case .eluPlusOne: 3
    case .exponential: 4
    case .softmax: 5
    case .tokenSoftmax: 6
    case .l2Norm: 7
    case .taylor2(.full): 8
    case .taylor2(.symmetric): 9
    case .cosFormer: 10
    case .favorPlus: nil
    }
  }
}
