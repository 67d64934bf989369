/// A bfloat16, the upper half of a binary32; Swift has no such type.
public struct BFloat16: Sendable, Hashable, BitwiseCopyable {
  /// The sign, 8 bits of exponent and 7 of significand.
  public let bitPattern: UInt16

  /// The number of a bit pattern.
  public init(bitPattern: UInt16) {
    self.bitPattern = bitPattern
  }

  /// The nearest number, ties to even; overflow gives an infinity, NaN stays NaN.
  public init(_ value: Float) {
    let bits = value.bitPattern
    // Half of the last kept place, one less when that place is even: ties go to even.
    let rounded = bits &+ 0x7FFF &+ ((bits >> 16) & 1)
    // The quiet bit is kept, so that NaN does not become an infinity.
    bitPattern = UInt16((value.isNaN ? bits | 0x40_0000 : rounded) >> 16)
  }
}

extension Float {
  /// The number, exactly.
  public init(_ value: BFloat16) {
    self.init(bitPattern: UInt32(value.bitPattern) << 16)
  }
}
