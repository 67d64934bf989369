import RealModule

/// Rotary position embedding: pairs of channels turned by angles that grow with the position.
///
///     angle[i] = position · frequency[i]        frequency[i] = θ^(−2i / d), i = 0..<d/2
///     (x, y)   → (x · cos − y · sin, x · sin + y · cos) · attentionFactor
///
/// with d the rotated channels; channels behind them stay. (RoFormer, Su et al. 2021, arXiv:2104.09864.)
public struct RotaryEmbedding: Sendable, Hashable {
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
    /// All divided by the factor (position interpolation, Chen et al. 2023, arXiv:2306.15595).
    case linear(factor: Double)
    /// As YaRN says.
    case yarn(YarnScaling)
  }

  /// d, even; nil for all channels.
  public var rotaryChannels: Int?
  /// Which channels make up a pair.
  public var pairing = Pairing.halves
  /// θ.
  public var theta = 10_000.0
  /// The change for long contexts.
  public var scaling = Scaling.none

  /// Plain rotary embedding of all channels.
  public init() {}

  /// The frequency of each pair, in radians per token, `[d/2]`.
  public func frequencies(channels: Int) -> [Double] {
    let rotated = rotaryChannels ?? channels
    precondition(rotated % 2 == 0 && (0...channels).contains(rotated), "an even number of channels")
    let plain = (0..<rotated / 2).map { Double.pow(theta, -2 * Double($0) / Double(rotated)) }
    switch scaling {
    case .none: return plain
    case .linear(let factor): return plain.map { $0 / factor }
    case .yarn(let yarn):
      return plain.enumerated().map { pair, frequency in
        let share = yarn.interpolation(
          pair: pair, frequency: frequency, rotaryChannels: rotated, theta: theta)
        return frequency / yarn.factor * share + frequency * (1 - share)
      }
    }
  }

  /// What rotated vectors are multiplied by: 1 except for YaRN. The products of rotated queries and keys
  /// are multiplied by its square.
  public var attentionFactor: Double {
    if case .yarn(let yarn) = scaling { return yarn.attentionFactor }
    return 1
  }

  /// Rotates `[N, heads, channels]` to the `[N]` positions.
  public func rotated(
    _ x: [Double], positions: [Int], heads: Int, channels: Int
  ) -> [Double] {
    precondition(x.count == positions.count * heads * channels, "x must be [N, heads, channels]")
    let frequencies = frequencies(channels: channels)
    let pairs = frequencies.count
    var y = x
    for (n, position) in positions.enumerated() {
      for head in 0..<heads {
        let start = (n * heads + head) * channels
        for (pair, frequency) in frequencies.enumerated() {
          let first = start + (pairing == .interleaved ? 2 * pair : pair)
          let second = pairing == .interleaved ? first + 1 : first + pairs
          let angle = Double(position) * frequency
          let (cos, sin) = (Double.cos(angle), Double.sin(angle))
          y[first] = (x[first] * cos - x[second] * sin) * attentionFactor
          y[second] = (x[first] * sin + x[second] * cos) * attentionFactor
        }
      }
    }
    return y
  }
}

/// YaRN: slow pairs are interpolated, fast ones stay, those between are mixed.
///
///     frequency' = frequency / s · ramp + frequency · (1 − ramp)
///     attention factor = 0.1 · ln s + 1
///
/// (Peng et al. 2023, arXiv:2309.00071, section 3.)
public struct YarnScaling: Sendable, Hashable {
  /// What the ramp between 0 (fast) and 1 (slow) runs over.
  public enum Ramp: Sendable, Hashable {
    /// The number of the pair, between the pairs that turn ``YarnScaling/fastRotations`` and
    /// ``YarnScaling/slowRotations`` times over the original context, rounded down and up: the authors'
    /// code, and what models are trained with.
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

  /// What rotated vectors are multiplied by.
  public var attentionFactor: Double {
    ownAttentionFactor ?? (factor <= 1 ? 1 : 0.1 * .log(factor) + 1)
  }

  /// The ramp's value for a pair: 1 for full interpolation.
  func interpolation(
    pair: Int, frequency: Double, rotaryChannels: Int, theta: Double
  ) -> Double {
    switch ramp {
    case .rotations:
      let rotations = Double(originalContext) * frequency / (2 * .pi)
      let kept = (rotations - slowRotations) / (fastRotations - slowRotations)
      return 1 - min(max(kept, 0), 1)
    case .pairs:
      /// The pair, with a fraction, that turns so often over the original context.
      func place(rotations: Double) -> Double {
        Double(rotaryChannels) * .log(Double(originalContext) / (rotations * 2 * .pi))
          / (2 * .log(theta))
      }
      let low = max(place(rotations: fastRotations).rounded(.down), 0)
      let high = min(place(rotations: slowRotations).rounded(.up), Double(rotaryChannels - 1))
      // A step where both are the same pair.
      let slope = max(high - low, 0.001)
      return min(max((Double(pair) - low) / slope, 0), 1)
    }
  }
}
