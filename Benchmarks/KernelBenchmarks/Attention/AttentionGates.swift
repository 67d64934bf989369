import AttentionReference
import VulkanAttention

/// How far from the reference a result may be.
public enum AttentionGates {
  /// The largest RMS(error)/RMS(reference) of o.
  public static func output(_ type: ElementType) -> Double {
    switch type {
    case .f32: 1e-5
    case .f16: 2e-3
    case .bf16: 8e-3
    }
  }

  /// The largest absolute error of the log-sum-exp; infinities must match exactly.
  public static let logSumExp = 1e-3

  /// How much worse than a careful evaluation in 16 bits a 16-bit kernel may be: FlashAttention's own
  /// rule (Dao et al., tests/test_flash_attn.py).
  public static let lowPrecisionFactor = 2.0

  /// Where every value is exact in 16 bits the careful evaluation has no error at all; a kernel is
  /// then held to this instead of to zero.
  static let lowPrecisionFloor = 1e-4

  /// What scores of a size `largest` add to the gate of o: a score is off by some roundings of
  /// itself, and its probability by the same number, relatively.
  static func allowance(largestScore largest: Double) -> Double {
    let roundings = 4.0
    return largest.isFinite ? roundings * largest * 0x1p-24 : 0
  }
}

extension ElementType {
  /// The type as the reference takes it.
  var storage: StorageType {
    switch self {
    case .f32: .f32
    case .f16: .f16
    case .bf16: .bf16
    }
  }
}

extension AttentionRequest {
  /// The sizes as the reference takes them.
  var dimensions: AttentionDimensions {
    AttentionDimensions(
      batch: batchSize, queryTokens: queryTokens, keyTokens: keyTokens, queryHeads: queryHeads,
      keyHeads: keyHeads, keyChannels: headSize, valueChannels: valueHeadSize)
  }
}

/// The elements of some rows of a contiguous tensor [rows, width].
func gather(_ rows: [Int], width: Int, from values: [Float]) -> [Float] {
  rows.flatMap { values[$0 * width..<($0 + 1) * width] }
}
