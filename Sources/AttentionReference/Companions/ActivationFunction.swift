import RealModule

/// The activation functions of neural networks, in Double: the definition that kernels are held against.
public enum ActivationFunction: String, Sendable, Hashable, CaseIterable {
  /// x
  case none
  /// max(x, 0)
  case relu
  /// x / (1 + e^(−x)) (https://arxiv.org/abs/1702.03118).
  case silu
  /// x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2 (https://arxiv.org/abs/1606.08415).
  case geluTanh = "gelu_tanh"
  /// x (1 + erf(x / √2)) / 2 (https://arxiv.org/abs/1606.08415).
  case geluErf = "gelu_erf"

  /// The function of a number.
  public func callAsFunction(_ x: Double) -> Double {
    switch self {
    case .none: x
    case .relu: x < 0 ? 0 : x
    case .silu: x / (1 + .exp(-x))
    case .geluTanh:
      x / 2 * (1 + .tanh((2 / Double.pi).squareRoot() * (x + 0.044715 * x * x * x)))
    case .geluErf: x / 2 * (1 + .erf(x / 2.0.squareRoot()))
    }
  }
}
