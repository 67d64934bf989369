/// A checked case of op `attention` or `attention_varlen`.
///
/// Letters: B batch, S query tokens, T key tokens, H query heads, G key/value heads, D key
/// channels, E value channels. All shapes agree, H is a multiple of G, and every size but T is at
/// least 1.
///
/// In a case of `attention_varlen` the sequences are packed (``isPacked``): B is their number N, S
/// and T are the packed tokens of all. Operands per sequence have N values, operands per token
/// lead with a batch of 1.
public struct AttentionCase: Sendable {
  /// The file as it was named by the caller.
  public let file: String
  /// Where the case comes from, in free text.
  public let source: String?
  /// B; of packed sequences N.
  public let batch: Int
  /// S; of packed sequences the tokens of q.
  public let queryTokens: Int
  /// T, which may be 0; of packed sequences the tokens of k and v.
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

  /// `[B, S, H, D]`, packed `[S, H, D]`; F32, F16 or BF16.
  public let q: CaseTensor
  /// `[B, T, G, D]`, packed `[T, G, D]`; F32, F16 or BF16, whatever q's type.
  public let k: CaseTensor
  /// `[B, T, G, E]`, packed `[T, G, E]`; F32, F16 or BF16, whatever q's type.
  public let v: CaseTensor
  /// `[N + 1]` I32, never falling: sequence b has query tokens `[b]..<[b + 1]`.
  public let cuSeqlensQ: CaseTensor?
  /// `[N + 1]` I32, never falling: sequence b has key tokens `[b]..<[b + 1]`.
  public let cuSeqlensK: CaseTensor?

  /// `[B]` I32, each in `0...T` (of its own sequence).
  public let kvLengths: CaseTensor?
  /// `[B]` I32, each in `0...T` (of its own sequence).
  public let leftPadding: CaseTensor?
  /// `[B]` I32, none negative.
  public let prefixLengths: CaseTensor?
  /// `[H, 2]` I32, left and right; negative for no limit.
  public let headWindows: CaseTensor?
  /// `[B or 1, S]` I32; with ``keySegments`` or not at all.
  public let querySegments: CaseTensor?
  /// `[B or 1, T]` I32.
  public let keySegments: CaseTensor?
  /// `[B or 1, H or 1, S, T]` U8, 0 hides.
  public let mask: CaseTensor?
  /// `[B or 1, H or 1, S, ⌈T/8⌉]` U8, bit 0 hides, the lowest bit first; not beside ``mask``.
  public let maskBits: CaseTensor?
  /// `[B or 1, S, ⌈tree_tokens/8⌉]` U8; `tree_tokens` is then at least 1.
  public let treeBits: CaseTensor?

  /// `[B or 1, S or 1, H or 1]` F32, factors of the rows' scores.
  public let queryScales: CaseTensor?
  /// `[H, D]` F32.
  public let queryBias: CaseTensor?
  /// `[H, D]` F32; only with ``relativeKeys``.
  public let relativeQueryBias: CaseTensor?
  /// `[relative_left + 1 + relative_right, H, D]` F32.
  public let relativeKeys: CaseTensor?
  /// `[B or 1, H or 1, S, T]` F32 or F16, added to the scores.
  public let bias: CaseTensor?
  /// `[B or 1, H or 1, T]` F32.
  public let keyBias: CaseTensor?
  /// `[H or 1, relative_left + 1 + relative_right]` F32.
  public let relativeBias: CaseTensor?
  /// `[buckets, H]` F32, with neither ``relativeBias`` nor ``relativeKeys``.
  public let t5Bias: CaseTensor?
  /// `[(2·grid_height − 1)·(2·grid_width − 1), H]` F32; S and T lie in the grid.
  public let gridBias: CaseTensor?
  /// `[H]` F32.
  public let alibiSlopes: CaseTensor?

  /// `[H]` F32, logits that enter the denominator only; with softmax only.
  public let sinks: CaseTensor?
  /// `[B or 1, S or 1, H or 1]` F32, factors of the output's rows.
  public let gates: CaseTensor?
  /// The running state to go on from: `[B, S, H]` F32, packed `[S, H]`. All three or none; not with
  /// relu_mean.
  public let initialMax: CaseTensor?
  /// As ``initialMax``.
  public let initialSum: CaseTensor?
  /// `[B, S, H, E]` F32, packed `[S, H, E]`.
  public let initialOutput: CaseTensor?

  /// Expected o, `[B, S, H, E]`, packed `[S, H, E]`; this or ``expectedLSE`` is there.
  ///
  /// Packed rows outside of every sequence may hold anything and are not to be compared.
  public let expectedO: CaseTensor?
  /// Expected lse, `[B, S, H]`, packed `[S, H]`.
  public let expectedLSE: CaseTensor?
  /// What RMS(error)/RMS(expected) of o may be: the file's, else by q's type.
  public let oTolerance: Double
  /// What the largest absolute error of lse may be: the file's, else 1e-3.
  public let lseTolerance: Double

  /// Whether this is a case of packed sequences, op `attention_varlen`.
  public var isPacked: Bool { cuSeqlensQ != nil }
  /// The operation's name in the file.
  public var operation: String { isPacked ? "attention_varlen" : "attention" }
}
