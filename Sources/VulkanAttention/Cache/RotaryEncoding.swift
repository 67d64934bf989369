#if canImport(Darwin)
  import Darwin
#elseif canImport(Musl)
  import Musl
#else
  import Glibc
#endif

/// Rotary position embedding: pairs of channels turned by angles that grow with the position.
///
///     (x, y) → (x · cos − y · sin, x · sin + y · cos) · attentionFactor        angle = position · frequency
///
/// with d rotated channels, d/2 pairs; channels behind them stay. (RoFormer,
/// https://arxiv.org/abs/2104.09864.)
///
/// Kernels take the frequencies as 64-bit fractions of a turn (``frequencyTable``), whose product with a position
/// has no rounding: cos and sin are within 1.5e-7 for every Int32 position, negative ones included.
public struct RotaryEncoding: Sendable, Hashable {
  /// Which channels make up pair i.
  public enum Pairing: Sendable, Hashable, CaseIterable {
    /// 2i and 2i + 1 (RoFormer, GPT-J).
    case interleaved
    /// i and i + d/2 (GPT-NeoX, Llama in Hugging Face's layout).
    case halves
  }

  /// How frequencies change for contexts longer than those of the training.
  public enum Scaling: Sendable, Hashable {
    /// Not at all.
    case none
    /// All divided by the factor (position interpolation, https://arxiv.org/abs/2306.15595).
    case linear(factor: Double)
    /// As YaRN says.
    case yarn(Yarn)
  }

  /// YaRN: slow pairs are interpolated, fast ones stay, those between are mixed
  /// (https://arxiv.org/abs/2309.00071, section 3).
  ///
  ///     frequency' = frequency / s · ramp + frequency · (1 − ramp)
  ///     attention factor = 0.1 · ln s + 1
  public struct Yarn: Sendable, Hashable {
    /// What the ramp between 0 (fast) and 1 (slow) runs over.
    public enum Ramp: Sendable, Hashable {
      /// The number of the pair, between the pairs that turn ``Yarn/fastRotations`` and
      /// ``Yarn/slowRotations`` times over the original context, rounded down and up: the authors' code, and
      /// what models are trained with.
      case pairs
      /// The number of turns itself: 1 − γ of the paper.
      case rotations
    }

    /// s, the new context over the original one.
    public var factor: Double
    /// L, the context of the training in tokens.
    public var originalContext: Int
    /// β: pairs that turn more often over the original context stay.
    public var fastRotations = 32.0
    /// α: pairs that turn less often are interpolated.
    public var slowRotations = 1.0
    /// What the ramp runs over.
    public var ramp = Ramp.pairs
    /// The attention factor; nil for 0.1 · ln s + 1, and 1 where s ≤ 1.
    public var ownAttentionFactor: Double?

    /// YaRN with the paper's constants.
    public init(factor: Double, originalContext: Int) {
      self.factor = factor
      self.originalContext = originalContext
    }
  }

  /// Which channels make up a pair.
  public let pairing: Pairing
  /// The frequency of each pair, in radians per token, `[d/2]`.
  public let frequencies: [Double]
  /// What rotated vectors are multiplied by; the products of rotated queries and keys by its square.
  public let attentionFactor: Double

  /// Frequencies of one's own: Llama 3's scaling, LongRoPE's table, ….
  ///
  /// - Parameters:
  ///   - frequencies: radians per token of each pair, 1 to 288 of them, finite.
  ///   - pairing: which channels make up a pair.
  ///   - attentionFactor: what rotated vectors are multiplied by, finite.
  /// - Throws: `AttentionError.invalidArgument`.
  public init(
    frequencies: [Double], pairing: Pairing, attentionFactor: Double = 1
  ) throws(AttentionError) {
    let most = AttentionRequest.headSizes.upperBound / 2
    guard (1...most).contains(frequencies.count) else {
      throw .invalidArgument(
        name: "frequencies", value: "\(frequencies.count) numbers", allowed: "1 to \(most)")
    }
    // Beyond a million turns per token a frequency has no fraction to speak of.
    for (pair, frequency) in frequencies.enumerated() where !(abs(frequency) <= 1e6) {
      throw .invalidArgument(
        name: "frequencies[\(pair)]", value: "\(frequency)",
        allowed: "-1e6 to 1e6 radians per token")
    }
    guard attentionFactor.isFinite, abs(attentionFactor) <= 1e6 else {
      throw .invalidArgument(
        name: "attentionFactor", value: "\(attentionFactor)", allowed: "-1e6 to 1e6")
    }
    self.frequencies = frequencies
    self.pairing = pairing
    self.attentionFactor = attentionFactor
  }

  /// The usual frequencies, θ^(−2i / d), scaled.
  ///
  /// - Parameters:
  ///   - d: the rotated channels, even, from 2 to 576.
  ///   - pairing: which channels make up a pair.
  ///   - theta: θ, more than 1.
  ///   - scaling: the change for long contexts; factors are more than 0, and so are YaRN's numbers of turns,
  ///     the fast ones more than the slow ones.
  /// - Throws: `AttentionError.invalidArgument`.
  public init(
    rotaryChannels d: Int, pairing: Pairing = .halves, theta: Double = 10_000,
    scaling: Scaling = .none
  ) throws(AttentionError) {
    func require(
      _ isAllowed: Bool, _ name: String, _ value: some Any, _ allowed: String
    ) throws(AttentionError) {
      guard isAllowed else {
        throw .invalidArgument(name: name, value: "\(value)", allowed: allowed)
      }
    }
    let most = AttentionRequest.headSizes.upperBound
    try require(
      d % 2 == 0 && (2...most).contains(d), "rotaryChannels", d, "even numbers from 2 to \(most)")
    try require(theta > 1 && theta.isFinite, "theta", theta, "finite numbers more than 1")
    let plain = (0..<d / 2).map { pow(theta, -2 * Double($0) / Double(d)) }
    switch scaling {
    case .none:
      try self.init(frequencies: plain, pairing: pairing)
    case .linear(let factor):
      try require(factor > 0 && factor.isFinite, "scaling.factor", factor, "more than 0")
      try self.init(frequencies: plain.map { $0 / factor }, pairing: pairing)
    case .yarn(let yarn):
      try require(
        yarn.factor > 0 && yarn.factor.isFinite, "scaling.factor", yarn.factor, "more than 0")
      try require(
        (1...AttentionMask.largestExtent).contains(yarn.originalContext),
        "scaling.originalContext", yarn.originalContext, "1 to \(AttentionMask.largestExtent)")
      try require(
        yarn.slowRotations > 0, "scaling.slowRotations", yarn.slowRotations, "more than 0")
      try require(
        yarn.fastRotations > yarn.slowRotations && yarn.fastRotations.isFinite,
        "scaling.fastRotations", yarn.fastRotations, "more than \(yarn.slowRotations)")
      let shares = yarn.interpolation(frequencies: plain, theta: theta)
      try self.init(
        frequencies: zip(plain, shares).map { $0 / yarn.factor * $1 + $0 * (1 - $1) },
        pairing: pairing,
        attentionFactor: yarn.ownAttentionFactor
          ?? (yarn.factor <= 1 ? 1 : 0.1 * log(yarn.factor) + 1))
    }
  }

  /// d.
  public var rotaryChannels: Int { 2 * frequencies.count }

  /// What kernels take in device memory, `[d/2]`: frequencies in turns per token without whole turns, times 2^64.
  public var frequencyTable: [UInt64] {
    frequencies.map { frequency in
      let turns = frequency / (2 * .pi)
      let fraction = (turns - turns.rounded(.down)) * 0x1p64
      // What rounds up to a whole turn is none.
      return UInt64(exactly: fraction.rounded()) ?? 0
    }
  }

  /// The bytes of ``frequencyTable``.
  public var tableByteCount: Int { frequencies.count * 8 }
}

extension RotaryEncoding.Yarn {
  /// The ramp's value for each pair: 1 for full interpolation.
  fileprivate func interpolation(frequencies: [Double], theta: Double) -> [Double] {
    let channels = Double(2 * frequencies.count)
    let context = Double(originalContext)
    switch ramp {
    case .rotations:
      return frequencies.map { frequency in
        let rotations = context * frequency / (2 * .pi)
        return 1 - min(max((rotations - slowRotations) / (fastRotations - slowRotations), 0), 1)
      }
    case .pairs:
      /// The pair, with a fraction, that turns so often over the original context.
      func place(_ rotations: Double) -> Double {
        channels * log(context / (rotations * 2 * .pi)) / (2 * log(theta))
      }
      let low = max(place(fastRotations).rounded(.down), 0)
      let high = min(place(slowRotations).rounded(.up), channels - 1)
      // A step where both are the same pair.
      let slope = max(high - low, 0.001)
      return frequencies.indices.map { min(max((Double($0) - low) / slope, 0), 1) }
    }
  }
}
