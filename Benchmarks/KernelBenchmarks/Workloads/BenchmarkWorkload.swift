import VulkanAttention

/// A workload of any kernel family, known by an id that people and filters read.
///
/// The id is that of the problem, `attention/f16/B1-S1024-T1024-H8-G8-D64-E64-causal`, behind the name of what
/// it stands for where it stands for something: `llama-3-8b/attention/f16/…`.
public struct BenchmarkWorkload: Sendable, Hashable {
  /// The problem of a workload.
  public enum Problem: Sendable, Hashable {
    /// Tiled exact attention.
    case attention(AttentionWorkload)
    /// A decode step.
    case decode(DecodeWorkload)
    /// Linear attention.
    case linear(LinearAttentionWorkload)
  }

  /// What it stands for, such as `llama-3-8b`; empty for a plain shape.
  public let name: String
  /// The problem.
  public let problem: Problem

  /// A workload with a name.
  public init(_ problem: Problem, name: String = "") {
    self.problem = problem
    self.name = name
  }

  /// A plain attention.
  public init(_ workload: AttentionWorkload) { self.init(.attention(workload)) }
  /// A plain decode step.
  public init(_ workload: DecodeWorkload) { self.init(.decode(workload)) }
  /// A plain linear attention.
  public init(_ workload: LinearAttentionWorkload) { self.init(.linear(workload)) }

  /// The workload's name.
  public var id: String { name.isEmpty ? problem.id : "\(name)/\(problem.id)" }

  /// The type of its tensors.
  public var elementType: ElementType {
    switch problem {
    case .attention(let workload): workload.elementType
    case .decode(let workload): workload.elementType
    case .linear(let workload): workload.elementType
    }
  }

  /// Whether keys after a query's own position are hidden.
  public var isCausal: Bool {
    switch problem {
    case .attention(let workload): workload.isCausal
    case .decode: true
    case .linear(let workload): workload.model != .notCausal
    }
  }

  /// Plans the problem for a device without running it.
  ///
  /// - Throws: `AttentionError`.
  public func checkPlan(on device: DeviceCapabilities) throws(AttentionError) {
    switch problem {
    case .attention(let workload):
      _ = try AttentionPlan(workload.request(), device: device)
    case .decode(let workload):
      _ = try DecodePlan(workload.request(), device: device).schedule(lengths: workload.lengths)
    case .linear(let workload):
      _ = try LinearAttentionPlan(workload.request(), device: device)
    }
  }
}

extension BenchmarkWorkload.Problem {
  /// The problem's own id.
  public var id: String {
    switch self {
    case .attention(let workload): workload.id
    case .decode(let workload): workload.id
    case .linear(let workload): workload.id
    }
  }

  /// The kernel family, as in ids.
  public var family: String {
    switch self {
    case .attention: AttentionWorkload.family
    case .decode: DecodeWorkload.family
    case .linear: LinearAttentionWorkload.family
    }
  }
}

extension BenchmarkWorkload {
  /// The plain shapes of every family that are timed where nothing else is asked.
  public static let standard: [BenchmarkWorkload] =
    AttentionWorkload.standard.map { BenchmarkWorkload($0) }
    + DecodeWorkload.standard.map { BenchmarkWorkload($0) }
    + (LinearAttentionWorkload.standard + LinearAttentionWorkload.crossover)
    .map { BenchmarkWorkload($0) }

  /// A few of every family, less than a minute on a software driver together.
  public static let quick: [BenchmarkWorkload] =
    AttentionWorkload.quick.filter { $0.elementType != .bf16 && $0.shape.headSize == 64 }
    .map { BenchmarkWorkload($0) }
    + DecodeWorkload.quick.filter { $0.shape.headSize == 64 }.map { BenchmarkWorkload($0) }
    + LinearAttentionWorkload.quick.map { BenchmarkWorkload($0) }

  /// Everything: the plain shapes, the grids of other projects, serving mixes and models.
  public static let full: [BenchmarkWorkload] =
    standard + flashAttentionGrid + linearAttentionGrid + documentGrid + servingMixes + models
}
