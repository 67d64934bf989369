import RealModule

/// How the output of a linear attention is normalised and gated.
public struct OutputNormOptions: Sendable {
  /// What a group of channels is divided by.
  public enum Norm: Sendable, Hashable {
    /// Its root mean square.
    case rms
    /// Its standard deviation, after its mean was taken from it.
    case layer
  }

  /// What becomes of z before it multiplies.
  public enum Gate: Sendable, Hashable {
    /// 1 / (1 + exp(−z)).
    case sigmoid
    /// z / (1 + exp(−z)).
    case silu
  }

  /// What a group is divided by.
  public var norm = Norm.rms
  /// Consecutive heads of a group.
  public var headsPerGroup = 1
  /// What is added to the mean of squares.
  public var epsilon = 1e-6
  /// Factors of the channels, `[H, D]`, or `[D]` for all heads.
  public var weight: [Double]?
  /// What is added to the channels behind their factors, as `weight`.
  public var bias: [Double]?
  /// How `gate` multiplies.
  public var gateActivation = Gate.silu
  /// z, `[rows, H, D]`; nil for no gate.
  public var gate: [Double]?
  /// Whether the gate multiplies x instead of what is normalised.
  public var gatesBeforeNorm = false

  /// SRMSNorm of each head.
  public init() {}
}

/// The epilogue of a linear attention in Double: x / √(mean x² + epsilon) · weight + bias, times a gate.
///
/// - Parameters:
///   - x: `[rows, H, D]`.
///   - heads: H, a multiple of the heads of a group.
///   - channels: D.
///   - options: weights, bias, epsilon and gate.
public func outputNorm(
  _ x: [Double], heads: Int, channels: Int, options: OutputNormOptions
) -> [Double] {
  let row = heads * channels
  let group = options.headsPerGroup * channels
  precondition(x.count.isMultiple(of: row) && heads.isMultiple(of: options.headsPerGroup))
  precondition(options.gate.map { $0.count == x.count } ?? true)
  let gates = options.gate?.map { z in
    let sigmoid = 1 / (1 + .exp(-z))
    return options.gateActivation == .sigmoid ? sigmoid : z * sigmoid
  }
  let source = options.gatesBeforeNorm ? zip(x, gates ?? x.map { _ in 1 }).map(*) : x
  var y = source
  for start in stride(from: 0, to: x.count, by: group) {
    let own = start..<start + group
    let mean = options.norm == .layer ? source[own].reduce(0, +) / Double(group) : 0
    let square = own.reduce(0) { $0 + (source[$1] - mean) * (source[$1] - mean) } / Double(group)
    let length = (square + options.epsilon).squareRoot()
    for index in own {
      y[index] = length == 0 ? 0 : (source[index] - mean) / length
      if let weight = options.weight { y[index] *= weight[index % row % weight.count] }
      if let bias = options.bias { y[index] += bias[index % row % bias.count] }
      if !options.gatesBeforeNorm, let gates { y[index] *= gates[index] }
    }
  }
  return y
}
