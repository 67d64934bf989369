import RealModule

/// A small generator whose numbers are the same on every machine and in every run, so that a case
/// named in a report can be made again (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number
/// generators").
public struct SplitMix64: RandomNumberGenerator, Sendable {
  private var state: UInt64

  /// Starts the sequence of a seed.
  public init(seed: UInt64) {
    state = seed
  }

  /// Starts the sequence of a name: different names give unrelated numbers.
  public init(seed name: String) {
    // FNV-1a, 64 bits.
    state = name.utf8.reduce(0xCBF2_9CE4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
  }

  /// The next 64 bits.
  public mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }

  /// A number above 0 and at most 1, in steps of 2⁻⁵³.
  mutating func unit() -> Double {
    Double((next() >> 11) + 1) * 0x1p-53
  }

  /// `count` numbers of the standard normal distribution (Box–Muller), times `deviation`.
  public mutating func normal(_ count: Int, deviation: Float = 1) -> [Float] {
    [Float](unsafeUninitializedCapacity: count) { numbers, initializedCount in
      var index = 0
      while index < count {
        let radius = (-2 * Double.log(unit())).squareRoot()
        let angle = 2 * Double.pi * unit()
        numbers[index] = Float(radius * .cos(angle)) * deviation
        if index + 1 < count { numbers[index + 1] = Float(radius * .sin(angle)) * deviation }
        index += 2
      }
      initializedCount = count
    }
  }
}
