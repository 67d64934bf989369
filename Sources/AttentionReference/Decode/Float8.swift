/// The 8-bit floating-point formats of caches (Micikevicius et al. 2022, arXiv:2209.05433; OCP 8-bit
/// Floating Point Specification).
public enum Float8Format: Sendable, Hashable, CaseIterable {
  /// 4 bits of exponent with bias 7, 3 of significand; no infinity, NaN is 0x7F and 0xFF, the largest
  /// number 448.
  case e4m3
  /// 5 bits of exponent with bias 15, 2 of significand; infinity is 0x7C, NaN above it, the largest number
  /// 57344.
  case e5m2

  var significandBits: Int { self == .e4m3 ? 3 : 2 }
  private var bias: Int { self == .e4m3 ? 7 : 15 }

  /// The largest finite number.
  public var greatest: Double { self == .e4m3 ? 448 : 57_344 }

  /// The number of a code, exactly.
  public func decode(_ code: UInt8) -> Double {
    let magnitude = Int(code & 0x7F)
    let sign: Double = code & 0x80 == 0 ? 1 : -1
    if self == .e4m3, magnitude == 0x7F { return .nan }
    if self == .e5m2, magnitude >= 0x7C { return magnitude == 0x7C ? sign * .infinity : .nan }
    let exponent = magnitude >> significandBits
    let significand = Double(magnitude & ((1 << significandBits) - 1))
    let unit = Double(
      sign: .plus, exponent: max(exponent, 1) - bias - significandBits, significand: 1)
    let hidden = exponent == 0 ? 0 : Double(1 << significandBits)
    return sign * (hidden + significand) * unit
  }

  /// The code of the nearest number, ties to even.
  ///
  /// NaN becomes 0x7F with its sign.
  ///
  /// - Parameters:
  ///   - value: any number.
  ///   - saturates: whether what is too large, infinity included, becomes the largest finite number. If
  ///     not it becomes infinity, or NaN in ``e4m3``, which has none.
  public func encode(_ value: Double, saturates: Bool = true) -> UInt8 {
    let sign: UInt8 = value.sign == .minus ? 0x80 : 0
    if value.isNaN { return sign | 0x7F }
    let magnitude = value.magnitude
    if magnitude == 0 { return sign }
    // In units of the last place; below the normal numbers that place stays.
    let exponent =
      magnitude.isInfinite ? Int.max : max(Int(magnitude.exponent), 1 - bias)
    var code = Int.max
    if exponent < 32 {
      let unit = Double(sign: .plus, exponent: exponent - significandBits, significand: 1)
      let places = Int((magnitude / unit).rounded(.toNearestOrEven))
      // A significand that is rounded up to the next power of two carries into the exponent.
      code = (exponent + bias - 1) << significandBits + places
    }
    let largest = self == .e4m3 ? 0x7E : 0x7B
    if code > largest { code = saturates ? largest : largest + 1 }
    return sign | UInt8(code)
  }
}
