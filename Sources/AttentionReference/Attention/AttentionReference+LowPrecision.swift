/// A type in which tensors are kept in memory.
public enum StorageType: Sendable, Hashable, CaseIterable {
  /// IEEE binary32.
  case f32
  /// IEEE binary16.
  case f16
  /// bfloat16: binary32 cut to 8 bits of significand, rounded to nearest even.
  case bf16

  /// `value` as it reads back after being stored; overflow gives an infinity, NaN stays NaN.
  public func rounded(_ value: Double) -> Double {
    switch self {
    case .f32: return Double(Float(value))
    case .f16: return Double(Float16(value))
    case .bf16: return Double(Float(BFloat16(Float(value))))
    }
  }
}

/// The same formula as `attention`, with inputs, probabilities and outputs rounded to `storage`.
///
/// This is what a careful evaluation in that type can reach, the yardstick of FlashAttention's
/// rule: the error of a kernel against the exact result is to be at most twice the error of this
/// one (Dao et al., tests/test_flash_attn.py). Scores, sums and log-sum-exp stay in Double.
///
/// - Parameters:
///   - q: queries, `[B, S, H, D]`, row-major.
///   - k: keys, `[B, T, G, D]`, row-major.
///   - v: values, `[B, T, G, E]`, row-major.
///   - dimensions: the sizes.
///   - options: scale, masks and changes to the scores.
///   - storage: the type to round to.
///   - keyStorage: the keys' type, where it is another.
///   - valueStorage: the values' type, where it is another.
///   - rows: the rows to evaluate; nil for all.
public func lowPrecisionAttention(
  q: [Double], k: [Double], v: [Double], dimensions: AttentionDimensions,
  options: AttentionOptions = AttentionOptions(), storage: StorageType,
  keyStorage: StorageType? = nil, valueStorage: StorageType? = nil, rows: [Int]? = nil
) -> AttentionOutput {
  evaluateRows(
    AttentionProblem(
      q: q.map(storage.rounded), k: k.map((keyStorage ?? storage).rounded),
      v: v.map((valueStorage ?? storage).rounded), dimensions: dimensions, options: options,
      storage: storage),
    rows: rows)
}
