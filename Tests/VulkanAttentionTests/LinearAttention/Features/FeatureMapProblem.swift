import AttentionReference
import TestSupport
import Testing

@testable import KernelBenchmarks
@testable import VulkanAttention

/// One feature map with its inputs on the host: x contiguous [B, T, H, D].
struct FeatureMapProblem: Sendable {
  var request: FeatureMapRequest
  var x: [Float]
  var projection: [Float] = []
  var starts: [Int32]?
  var positions: [Int32]?

  init(_ request: FeatureMapRequest, seed: UInt64 = 1, spread: Float = 1) {
    var random = SplitMix64(seed: seed)
    self.request = request
    let count = request.batchSize * request.tokens * request.heads * request.channels
    x = random.normal(count).map { Float(request.elementType.rounded(spread * $0)) }
    projection = random.normal(request.projectionByteCount / 4)
  }

  /// Tokens of a packed sequence, or of a batch entry, numbered over all batch entries.
  var sequences: [Range<Int>] {
    if let starts {
      return zip(starts, starts.dropFirst()).map { Int($0)..<Int($1) }
    }
    return (0..<request.batchSize).map { $0 * request.tokens..<($0 + 1) * request.tokens }
  }

  /// The reference's features, [B, T, H, outputChannels]; NaN where no sequence is.
  func reference() -> [Double] {
    let r = request
    let row = r.heads * r.channels
    let width = r.outputChannels
    var y = [Double](repeating: .nan, count: r.batchSize * r.tokens * r.heads * width)
    func place(_ values: [Double], at token: Int) {
      for (index, value) in values.enumerated() {
        let (own, feature) = index.quotientAndRemainder(dividingBy: r.features)
        y[(token * r.heads + own) * width + feature] = value
      }
      for own in 0..<values.count / r.features {
        for zero in r.features..<width { y[(token * r.heads + own) * width + zero] = 0 }
      }
    }
    for tokens in sequences {
      func map(_ tokens: Range<Int>, firstToken: Int = 0) -> [Double] {
        r.map.reference(projection.map(Double.init)).mapped(
          x[tokens.lowerBound * row..<tokens.upperBound * row].map(Double.init), heads: r.heads,
          channels: r.channels, firstToken: firstToken, scale: Double(r.scale))
      }
      if let positions {
        for token in tokens {
          place(map(token..<token + 1, firstToken: Int(positions[token])), at: token)
        }
      } else {
        place(map(tokens), at: tokens.lowerBound)
      }
    }
    return y
  }

  /// Runs a plan with poison around every tensor, and gives back y contiguous.
  func run(
    _ plan: FeatureMapPlan, on device: ComputeDevice, inPlace: Bool = false,
    sourceLocation: SourceLocation = #_sourceLocation
  ) async throws -> [Float] {
    let r = request
    let memory = TypedMemory(device: device)
    let input = try await memory.upload(
      TensorRows(r.source).spread(x), as: r.elementType, "x")
    let output =
      inPlace
      ? input : try await GuardedBuffer(byteCount: r.outputByteCount, label: "y", on: device)
    let scratch = try await GuardedBuffer(
      byteCount: plan.scratchByteCount, label: "scratch", on: device)
    func optional<Element: BitwiseCopyable & Sendable>(
      _ values: [Element]?, _ label: String
    ) async throws -> DeviceBuffer? {
      guard let values, !values.isEmpty else { return nil }
      return try await GuardedBuffer(values, label: label, on: device).buffer
    }
    let recorder = try device.makeRecorder()
    try FeatureMapKernel(plan, on: device).record(
      FeatureMapBuffers(
        input: input.buffer, output: output.buffer,
        projection: try await optional(projection, "projection"),
        sequenceStarts: try await optional(starts, "starts"),
        positions: try await optional(positions, "positions"),
        scratch: plan.scratchByteCount == 0 ? nil : scratch.buffer), into: recorder)
    try await device.submit(recorder).completed()
    for guarded in [input, output, scratch] {
      try await guarded.expectGuardsIntact(sourceLocation: sourceLocation)
    }
    return TensorRows(r.destination).gathered(try await memory.download(r.outputType, output))
  }
}

/// Where the rows of a tensor lie, for tests that spread and gather them.
struct TensorRows {
  private let view: TensorView

  init(_ view: TensorView) {
    self.view = view
  }

  private var starts: [Int] {
    (0..<view.batch).flatMap { b in
      (0..<view.tokens).flatMap { t in
        (0..<view.heads).map { h in
          b * view.strides.batch + t * view.strides.token + h * view.strides.head
        }
      }
    }
  }

  /// Contiguous values in their places, NaN between them.
  func spread(_ values: [Float]) -> [Float] {
    var all = [Float](repeating: .nan, count: view.elementCount ?? 0)
    for (row, start) in starts.enumerated() {
      for c in 0..<view.channels { all[start + c] = values[row * view.channels + c] }
    }
    return all
  }

  /// The rows one behind the other.
  func gathered(_ all: [Float]) -> [Float] {
    starts.flatMap { all[$0..<$0 + view.channels] }
  }
}

extension ElementType {
  /// A number as the type holds it.
  func rounded(_ value: Float) -> Float {
    switch self {
    case .f32: value
    case .f16: Float(Float16(value))
    case .bf16: Float(BFloat16(value))
    }
  }
}
