#if canImport(Darwin)
  import Darwin
#elseif canImport(Musl)
  import Musl
#else
  import Glibc
#endif

/// The constant decays of published models, as ``LinearAttentionOperand/headDecay`` takes them: natural logarithms, at
/// most 0, one for each head.
///
/// "The" slopes of lightning attention are not one rule: which a checkpoint was trained with must be known, and a wrong
/// one gives plausible, wrong outputs.
public enum LinearAttentionDecays {
  /// RetNet: ln(1 − 2^(−5 − h)) (https://arxiv.org/abs/2307.08621, section 2.2).
  ///
  /// - Parameter heads: 1 or more.
  /// - Throws: `AttentionError.invalidArgument`.
  public static func retention(heads: Int) throws(AttentionError) -> [Float] {
    try checkRange("heads", heads, 1...headLimit)
    return (0..<heads).map { Float(log1p(-exp2(-5 - Double($0)))) }
  }

  /// Lightning attention as published by its authors, and in TransNormerLLM and MiniMax-01: ALiBi's slopes, less from
  /// layer to layer.
  ///
  ///     −2^(−8 (h + 1) / H) · (1 − l / (L − 1) + 10⁻⁵)        H a power of two
  ///
  /// Of other H, as ALiBi has it, the first P heads have those of P, the greatest power of two below, and the others
  /// every second one of 2P (https://arxiv.org/abs/2108.12409, https://arxiv.org/abs/2307.14995,
  /// https://arxiv.org/abs/2501.08313).
  ///
  /// - Parameters:
  ///   - heads: H, 1 or more.
  ///   - layer: l, from 0.
  ///   - layers: L; with a single layer l / (L − 1) is 0.
  /// - Throws: `AttentionError.invalidArgument`.
  public static func lightning(
    heads: Int, layer: Int, layers: Int
  ) throws(AttentionError) -> [Float] {
    try check(heads, layer, layers)
    let share = layers == 1 ? 0 : Double(layer) / Double(layers - 1)
    return alibiSlopes(heads).map { Float(-$0 * (1 - share + 1e-5)) }
  }

  /// Lightning attention as in flash-linear-attention: −(8 / H) (1 − l / L) h, with a first head that never decays.
  ///
  /// - Parameters:
  ///   - heads: H, 1 or more.
  ///   - layer: l, from 0.
  ///   - layers: L.
  /// - Throws: `AttentionError.invalidArgument`.
  public static func lightningLinear(
    heads: Int, layer: Int, layers: Int
  ) throws(AttentionError) -> [Float] {
    try check(heads, layer, layers)
    let rate = 8 / Double(heads) * (1 - Double(layer) / Double(layers))
    // 0 − 0, not −0.
    return (0..<heads).map { Float(0 - rate * Double($0)) }
  }

  private static let headLimit = 1 << 20

  /// ALiBi's slopes, all more than 0.
  private static func alibiSlopes(_ heads: Int) -> [Double] {
    let power = 1 << (Int.bitWidth - 1 - heads.leadingZeroBitCount)
    func slopes(_ heads: Int) -> [Double] {
      (1...heads).map { exp2(-8 * Double($0) / Double(heads)) }
    }
    guard power != heads else { return slopes(heads) }
    let between = slopes(2 * power).enumerated().filter { $0.offset % 2 == 0 }.map(\.element)
    return slopes(power) + between.prefix(heads - power)
  }

  private static func check(_ heads: Int, _ layer: Int, _ layers: Int) throws(AttentionError) {
    try checkRange("heads", heads, 1...headLimit)
    try checkRange("layers", layers, 1...headLimit)
    try checkRange("layer", layer, 0...layers - 1)
  }
}
