/// The type of a tensor's elements in memory; arithmetic and statistics are always 32-bit.
public enum ElementType: String, Sendable, Hashable, Codable, CaseIterable {
  /// 32-bit IEEE floating point.
  case f32
  /// 16-bit IEEE floating point.
  case f16
  /// bfloat16, the upper half of a 32-bit floating-point number: its range with 8 bits of significand.
  case bf16

  /// The size of one element in bytes.
  public var byteCount: Int {
    switch self {
    case .f32: 4
    case .f16, .bf16: 2
    }
  }

  /// The number by which the shaders know the type (`Common/element_types.glsl`).
  var shaderConstant: UInt32 {
    switch self {
    case .f32: 0
    case .f16: 1
    case .bf16: 2
    }
  }
}
