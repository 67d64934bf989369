#if canImport(Darwin)
  import Darwin
#elseif canImport(Musl)
  import Musl
#else
  import Glibc
#endif

/// Rotary embedding whose pairs also grow with the position of queries and shrink with that of keys, so that scores
/// decay with the distance.
///
///     pair i at position t:  (x, y) → (x cos − y sin, x sin + y cos) · ζ_i^(±(t − origin) / base)
///     ζ_i = (i / n + γ) / (1 + γ)                                      for i = 0 ..< n pairs
///
/// (Length-extrapolatable transformer, https://arxiv.org/abs/2212.10554; retention is defined with it,
/// https://arxiv.org/abs/2307.08621.) A score then has ζ_i^((t − s) / base) of query t and key s, whatever the origin;
/// that is there to keep both factors in range.
public struct XPosEncoding: Sendable, Hashable {
  /// Which pairs are turned, and how fast; its attention factor must be 1.
  public let rotary: RotaryEncoding
  /// γ.
  public let gamma: Double
  /// The distance over which a pair decays by its ζ, in tokens.
  public let scaleBase: Double
  /// The position where nothing grows.
  public let origin: Int32

  /// The encoding with the paper's constants.
  ///
  /// - Parameters:
  ///   - rotary: the pairs; without an attention factor.
  ///   - gamma: γ, more than 0 and finite.
  ///   - scaleBase: more than 0 and finite.
  ///   - origin: the position where nothing grows; the middle of the context keeps most digits.
  /// - Throws: `AttentionError.invalidArgument`.
  public init(
    _ rotary: RotaryEncoding, gamma: Double = 0.4, scaleBase: Double = 512, origin: Int32 = 0
  ) throws(AttentionError) {
    for (name, value) in [("gamma", gamma), ("scaleBase", scaleBase)]
    where !(value > 0 && value.isFinite) {
      throw .invalidArgument(name: name, value: "\(value)", allowed: "finite numbers more than 0")
    }
    guard rotary.attentionFactor == 1 else {
      throw .invalidArgument(
        name: "rotary", value: "attention factor \(rotary.attentionFactor)", allowed: "1")
    }
    self.rotary = rotary
    self.gamma = gamma
    self.scaleBase = scaleBase
    self.origin = origin
  }

  /// What the kernel takes beside ``RotaryEncoding/frequencyTable``: log2(ζ_i) / base of each pair, negated for keys.
  public func rateTable(isKey: Bool) -> [Float] {
    let pairs = rotary.frequencies.count
    return (0..<pairs).map { pair in
      let zeta = (Double(pair) / Double(pairs) + gamma) / (1 + gamma)
      return Float((isKey ? -1 : 1) * log2(zeta) / scaleBase)
    }
  }
}

extension RotaryEncoding {
  /// The frequencies of RetNet's published code: 10000^(−i / (n − 1)) for i = 0 ..< n pairs of neighbours, of which the
  /// last turns by 1/10000 a token, where the usual ones end a step before.
  ///
  /// - Parameter channels: 2n, even, from 4 to 576.
  /// - Throws: `AttentionError.invalidArgument`.
  public static func retention(channels: Int) throws(AttentionError) -> RotaryEncoding {
    let allowed = 4...AttentionRequest.headSizes.upperBound
    guard channels % 2 == 0, allowed.contains(channels) else {
      throw .invalidArgument(
        name: "channels", value: "\(channels)",
        allowed: "even numbers from \(allowed.lowerBound) to \(allowed.upperBound)")
    }
    let last = Double(channels / 2 - 1)
    return try RotaryEncoding(
      frequencies: (0..<channels / 2).map { pow(10_000, -Double($0) / last) },
      pairing: .interleaved)
  }
}
