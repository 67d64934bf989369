import AttentionReference
import Synchronization
import TestSupport
import Testing

@testable import VulkanAttention

/// One shape of attention, with a readable name.
struct AttentionCase: Sendable, CustomTestStringConvertible {
  var batch = 1
  var queryTokens: Int
  var keyTokens: Int
  var queryHeads = 1
  var keyHeads = 1
  var headSize: Int
  var valueHeadSize: Int
  var mask = AttentionMask.none
  var scale: Float?

  /// B, S, T, H, G, D, E by their letters.
  init(
    b: Int = 1, s: Int, t: Int, h: Int = 1, g: Int = 1, d: Int, e: Int? = nil,
    mask: AttentionMask = .none, scale: Float? = nil
  ) {
    batch = b
    queryTokens = s
    keyTokens = t
    queryHeads = h
    keyHeads = g
    headSize = d
    valueHeadSize = e ?? d
    self.mask = mask
    self.scale = scale
  }

  var testDescription: String {
    "B\(batch)-S\(queryTokens)-T\(keyTokens)-H\(queryHeads)-G\(keyHeads)-D\(headSize)"
      + "-E\(valueHeadSize)" + (mask == .causal ? "-causal" : "")
      + (scale.map { "-scale\($0)" } ?? "")
  }

  /// First and last edges, odd and prime sizes, all head groupings, on both sides of the number of
  /// query rows (256) from which the row path packs keys and values; few head sizes, for each costs
  /// a compilation per path and type.
  static let all: [AttentionCase] = [
    .init(s: 1, t: 1, d: 8),
    .init(b: 2, s: 33, t: 65, h: 4, g: 2, d: 64),
    .init(b: 2, s: 33, t: 65, h: 4, g: 2, d: 64, mask: .causal),
    .init(s: 1, t: 129, h: 8, g: 1, d: 64, mask: .causal),
    .init(s: 12, t: 40, d: 64, scale: 3),
    .init(s: 5, t: 17, d: 64, scale: 0),
    .init(s: 5, t: 17, d: 64, scale: -0.25),
    .init(s: 67, t: 67, h: 12, g: 3, d: 40, e: 72, mask: .causal),
    .init(s: 130, t: 257, h: 2, g: 1, d: 24, e: 16),
    .init(s: 24, t: 9, h: 2, d: 24, e: 16, mask: .causal),
    .init(b: 2, s: 5, t: 0, h: 2, d: 24, e: 16),
    .init(s: 37, t: 50, h: 2, d: 128, mask: .causal),
    .init(s: 9, t: 20, d: 256),
  ]

  func request(
    _ type: ElementType, returnsLogSumExp: Bool = true,
    _ layout: (Int, Int, Int) -> TensorStrides = TensorStrides.tokenMajor
  ) throws -> AttentionRequest {
    try AttentionRequest(
      batchSize: batch, queryTokens: queryTokens, keyTokens: keyTokens, queryHeads: queryHeads,
      keyHeads: keyHeads, headSize: headSize, valueHeadSize: valueHeadSize, elementType: type,
      scale: scale, mask: mask, returnsLogSumExp: returnsLogSumExp,
      queryStrides: layout(queryTokens, queryHeads, headSize),
      keyStrides: layout(keyTokens, keyHeads, headSize),
      valueStrides: layout(keyTokens, keyHeads, valueHeadSize),
      outputStrides: layout(queryTokens, queryHeads, valueHeadSize))
  }

  var dimensions: AttentionDimensions {
    AttentionDimensions(
      batch: batch, queryTokens: queryTokens, keyTokens: keyTokens, queryHeads: queryHeads,
      keyHeads: keyHeads, keyChannels: headSize, valueChannels: valueHeadSize)
  }

  var options: AttentionOptions {
    AttentionOptions(
      scale: Double(scale ?? 1 / Float(headSize).squareRoot()), causal: mask == .causal)
  }
}

/// The ways to run a kernel that tests go through.
enum PathVariant: String, Sendable, CaseIterable {
  case row
  case subgroup
  /// The matrix path with the device's own fragments.
  case matrix
  /// The matrix path with the fragments of NVIDIA, AMD and Intel, on any device.
  case matrix16
  /// The path matrix2 with the device's own fragments.
  case matrix2
  /// The path matrix2 with larger fragments than a software driver lists, and not the 16x16x16 that it gets wrong.
  case matrix2x16

  var path: AttentionPath {
    switch self {
    case .row: .row
    case .subgroup: .subgroup
    case .matrix, .matrix16: .matrix
    case .matrix2, .matrix2x16: .matrix2
    }
  }

  /// The tile that is forced.
  var tile: AttentionTileChoice {
    switch self {
    case .row, .subgroup, .matrix, .matrix2: .tuned
    case .matrix16: .fragment(m: 16, n: 16, k: 16)
    case .matrix2x16: .fragment(m: 16, n: 8, k: 16)
    }
  }

  private static let warnings = Mutex<Set<String>>([])

  /// The types that the path takes on a device that has everything.
  var types: [ElementType] {
    path == .matrix || path == .matrix2 ? [.f16, .bf16] : ElementType.allCases
  }

  func plan(
    _ request: AttentionRequest, device: DeviceCapabilities
  ) throws(AttentionError) -> AttentionPlan {
    try AttentionPlan(request, device: device, path: path, tile: tile)
  }

  /// The kernel, or a visible cancellation of the test where the device or the build lacks the path.
  func kernel(_ request: AttentionRequest, on device: ComputeDevice) throws -> AttentionKernel {
    switch Result(catching: { () throws(AttentionError) in
      try plan(request, device: device.capabilities)
    }) {
    case .success(let plan): return try AttentionKernel(plan, on: device)
    case .failure(let error):
      let text = "\(rawValue) was not tested on \(device.capabilities.name): \(error)"
      guard case .pathUnavailable = error else { throw error }
      // Cancelled arguments of a test leave no line of their own, so a warning says it, once.
      if Self.warnings.withLock({ $0.insert(text).inserted }) {
        Issue.record("\(text)", severity: .warning)
      }
      try Test.cancel("\(text)")
    }
  }
}

extension ElementType {
  /// The type as the reference takes it.
  var storage: StorageType {
    switch self {
    case .f32: .f32
    case .f16: .f16
    case .bf16: .bf16
    }
  }

  /// The largest RMS(error)/RMS(reference) of o.
  var outputGate: Double {
    switch self {
    case .f32: 1e-5
    case .f16: 2e-3
    case .bf16: 8e-3
    }
  }
}

/// A path with a type that it takes.
struct TypedPath: Sendable, CustomTestStringConvertible {
  let variant: PathVariant
  let type: ElementType

  var testDescription: String { "\(variant.rawValue)-\(type.rawValue)" }

  /// All but what full tests alone have.
  static let all = PathVariant.allCases.filter { $0 != .matrix2x16 || runsFullTests }.flatMap {
    variant in
    variant.types.map { TypedPath(variant: variant, type: $0) }
  }
}
