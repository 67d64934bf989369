/// The activation functions of neural networks.
public enum Activation: String, Sendable, Hashable, Codable, CaseIterable {
  /// x
  case none
  /// max(x, 0)
  case relu
  /// x / (1 + e^(−x)), also named swish (https://arxiv.org/abs/1702.03118).
  case silu
  /// x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2 (https://arxiv.org/abs/1606.08415).
  case geluTanh = "gelu_tanh"
  /// x Φ(x), Φ the normal distribution's cumulative function, by erf (https://arxiv.org/abs/1606.08415).
  case geluErf = "gelu_erf"

  /// The number by which the shaders know the function (`companion_activations.glsl`).
  var shaderConstant: UInt32 {
    switch self {
    case .none: 0
    case .relu: 1
    case .silu: 2
    case .geluTanh: 3
    case .geluErf: 4
    }
  }
}
