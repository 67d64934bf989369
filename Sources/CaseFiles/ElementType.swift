/// The types of a tensor's elements, named as safetensors names them.
public enum ElementType: String, Sendable, Hashable, CaseIterable {
  /// IEEE binary32.
  case f32 = "F32"
  /// IEEE binary16.
  case f16 = "F16"
  /// bfloat16, the upper half of a binary32.
  case bf16 = "BF16"
  /// Signed 32-bit integer.
  case i32 = "I32"
  /// Unsigned 8-bit integer.
  case u8 = "U8"

  /// Bytes of one element.
  public var byteCount: Int {
    switch self {
    case .f32, .i32: 4
    case .f16, .bf16: 2
    case .u8: 1
    }
  }

  /// Whether elements are floating-point numbers.
  public var isFloatingPoint: Bool { self == .f32 || self == .f16 || self == .bf16 }
}
