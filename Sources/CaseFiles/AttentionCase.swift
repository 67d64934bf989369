/// A checked case of op `attention`.
///
/// Letters: B batch, S query tokens, T key tokens, H query heads, G key/value heads, D key
/// channels, E value channels. All shapes agree, H is a multiple of G, and every size but T is at
/// least 1.
public struct AttentionCase: Sendable {
  /// The file as it was named by the caller.
  public let file: String
  /// Where the case comes from, in free text.
  public let source: String?
  /// B.
  public let batch: Int
  /// S.
  public let queryTokens: Int
  /// T, which may be 0.
  public let keyTokens: Int
  /// H.
  public let queryHeads: Int
  /// G.
  public let keyHeads: Int
  /// D.
  public let keyChannels: Int
  /// E.
  public let valueChannels: Int
  /// Scale, masks and the like.
  public let parameters: AttentionParameters

  /// `[B, S, H, D]`; F32, F16 or BF16.
  public let q: CaseTensor
  /// `[B, T, G, D]`, of q's type.
  public let k: CaseTensor
  /// `[B, T, G, E]`, of q's type.
  public let v: CaseTensor
  /// `[B or 1, H or 1, S, T]` F32, added to the scores.
  public let bias: CaseTensor?
  /// `[B or 1, H or 1, S, T]` U8, 0 hides.
  public let mask: CaseTensor?
  /// `[H]` F32, logits that enter the denominator only.
  public let sinks: CaseTensor?
  /// `[H]` F32.
  public let alibiSlopes: CaseTensor?
  /// `[B]` I32, each in `0...T`.
  public let kvLengths: CaseTensor?

  /// Expected o, `[B, S, H, E]`; this or ``expectedLSE`` is there.
  public let expectedO: CaseTensor?
  /// Expected lse, `[B, S, H]`.
  public let expectedLSE: CaseTensor?
  /// What RMS(error)/RMS(expected) of o may be: the file's, else by q's type.
  public let oTolerance: Double
  /// What the largest absolute error of lse may be: the file's, else 1e-3.
  public let lseTolerance: Double

  /// What a kernel may lack; the raw value is the name in the file.
  public enum Option: String, Sendable, Hashable, CaseIterable {
    /// A causal mask.
    case causal
    /// Alignment top-left where it matters.
    case causalAlign = "causal_align"
    /// A window to the left.
    case windowLeft = "window_left"
    /// A window to the right.
    case windowRight = "window_right"
    /// Soft-capped scores.
    case softcap
    /// Keys that windows do not hide.
    case sinkTokens = "sink_tokens"
    /// A bias tensor.
    case bias
    /// A mask tensor.
    case mask
    /// Sink logits.
    case sinks
    /// ALiBi slopes.
    case alibiSlopes = "alibi_slopes"
    /// Key counts per sequence.
    case kvLengths = "kv_lengths"
  }

  /// The options that change this case's result, in the order of ``Option``.
  ///
  /// A runner skips a case whose options it does not all support, naming those it lacks.
  /// An alignment alone changes nothing without a causal mask, window or ALiBi, nor does top-left
  /// where it is the same as bottom-right.
  public var optionsInUse: [Option] {
    let usesPositions =
      parameters.causal || parameters.windowLeft != nil || parameters.windowRight != nil
      || alibiSlopes != nil
    let offsetsDiffer = kvLengths != nil || queryTokens != keyTokens
    return Option.allCases.filter { option in
      switch option {
      case .causal: parameters.causal
      case .causalAlign:
        parameters.causalAlignment == .topLeft && usesPositions && offsetsDiffer
      case .windowLeft: parameters.windowLeft != nil
      case .windowRight: parameters.windowRight != nil
      case .softcap: parameters.softcap > 0
      case .sinkTokens:
        parameters.sinkTokens > 0
          && (parameters.windowLeft != nil || parameters.windowRight != nil)
      case .bias: bias != nil
      case .mask: mask != nil
      case .sinks: sinks != nil
      case .alibiSlopes: alibiSlopes != nil
      case .kvLengths: kvLengths != nil
      }
    }
  }
}
