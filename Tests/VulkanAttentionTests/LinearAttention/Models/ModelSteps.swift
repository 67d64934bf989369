import AttentionReference
import TestSupport
import Testing

@testable import VulkanAttention

#if canImport(Darwin)
  import Darwin
#else
  import Glibc
#endif

/// A small problem of two heads, with numbers indexed as the formulas of papers have them.
struct ModelShape: Sendable {
  var tokens = 20
  var heads = 2
  var keyChannels = 8
  var valueChannels = 6

  /// Element [t, h, c] of a tensor with some channels.
  func at(_ values: [Float], _ t: Int, _ h: Int, _ c: Int = 0, of channels: Int = 1) -> Double {
    Double(values[(t * heads + h) * channels + c])
  }

  /// Σ_c a[t, h, c] b[s, h, c].
  func dot(_ a: [Float], _ t: Int, _ b: [Float], _ s: Int, _ h: Int, of channels: Int) -> Double {
    (0..<channels).reduce(0) { $0 + at(a, t, h, $1, of: channels) * at(b, s, h, $1, of: channels) }
  }

  /// [T, H, V] from a function of token, head and channel.
  func output(_ body: (_ t: Int, _ h: Int, _ j: Int) -> Double) -> [Double] {
    (0..<tokens).flatMap { t in
      (0..<heads).flatMap { h in (0..<valueChannels).map { j in body(t, h, j) } }
    }
  }

  /// The output of a head whose tokens weigh the values by w(t, s).
  func weighted(
    _ v: [Float], causal: Bool = true, _ weight: (_ t: Int, _ s: Int, _ h: Int) -> Double
  ) -> [Double] {
    output { t, h, j in
      (0..<(causal ? t + 1 : tokens)).reduce(0) {
        $0 + weight(t, $1, h) * at(v, $1, h, j, of: valueChannels)
      }
    }
  }

  /// The same, each row divided by the sum of its weights plus the 10⁻¹² that the calls give as their epsilon.
  func averaged(
    _ v: [Float], causal: Bool = true, _ weight: (_ t: Int, _ s: Int, _ h: Int) -> Double
  ) -> [Double] {
    output { t, h, j in
      let tokens = 0..<(causal ? t + 1 : self.tokens)
      let total = tokens.reduce(0) { $0 + weight(t, $1, h) }
      return tokens.reduce(0) { $0 + weight(t, $1, h) * at(v, $1, h, j, of: valueChannels) }
        / (total + 1e-12)
    }
  }
}

/// A square or other matrix, for recurrences written as products of matrices.
struct Matrix {
  var rows: Int
  var columns: Int
  var elements: [Double]

  init(_ rows: Int, _ columns: Int, _ body: (Int, Int) -> Double = { _, _ in 0 }) {
    self.rows = rows
    self.columns = columns
    elements = (0..<rows * columns).map { body($0 / columns, $0 % columns) }
  }

  subscript(_ i: Int, _ j: Int) -> Double { elements[i * columns + j] }

  static func * (a: Matrix, b: Matrix) -> Matrix {
    Matrix(a.rows, b.columns) { i, j in (0..<a.columns).reduce(0) { $0 + a[i, $1] * b[$1, j] } }
  }

  static func + (a: Matrix, b: Matrix) -> Matrix {
    Matrix(a.rows, a.columns) { a[$0, $1] + b[$0, $1] }
  }

  static func - (a: Matrix, b: Matrix) -> Matrix {
    Matrix(a.rows, a.columns) { a[$0, $1] - b[$0, $1] }
  }

  static func * (a: Double, b: Matrix) -> Matrix { Matrix(b.rows, b.columns) { a * b[$0, $1] } }

  static func identity(_ size: Int) -> Matrix { Matrix(size, size) { $0 == $1 ? 1 : 0 } }

  static func diagonal(_ values: [Double]) -> Matrix {
    Matrix(values.count, values.count) { $0 == $1 ? values[$0] : 0 }
  }

  static func outer(_ a: [Double], _ b: [Double]) -> Matrix {
    Matrix(a.count, b.count) { a[$0] * b[$1] }
  }
}

/// The device with what the models are composed of, each from contiguous numbers to contiguous numbers.
struct ModelSteps {
  let device: ComputeDevice

  /// x [T, H, D] mapped to features.
  func features(
    _ x: [Float], _ map: AttentionFeatureMap, tokens: Int, heads: Int, projection: [Float] = [],
    outputChannels: Int? = nil
  ) async throws -> [Float] {
    let request = try FeatureMapRequest(
      tokens: tokens, heads: heads, channels: x.count / tokens / heads, map: map,
      outputChannels: outputChannels)
    var problem = FeatureMapProblem(request)
    problem.x = x
    problem.projection = projection
    return try await problem.run(
      FeatureMapPlan(request, device: device.capabilities), on: device)
  }

  /// A linear attention with the request's own form, in every form that can run it.
  func attend(
    _ problem: LinearProblem, to expected: [Double], within gate: Double = 1e-5, _ name: String,
    sourceLocation: SourceLocation = #_sourceLocation
  ) async throws -> [Float] {
    var o: [Float] = []
    for way in LinearWay.allCases {
      if way.form == .chunk, problem.request.operands.contains(.lowRankA) { continue }
      o = try await problem.run(way.plan(problem.request, on: device.capabilities), on: device).o
      expectClose(o, to: expected, within: gate, "\(name), \(way)", sourceLocation: sourceLocation)
    }
    return o
  }

  /// The epilogue.
  func norm(
    _ x: [Float], gate: [Float] = [], weight: [Float] = [], _ request: OutputNormRequest
  ) async throws -> [Float] {
    var problem = OutputNormProblem(request)
    (problem.x, problem.z, problem.weight) = (x, gate, weight)
    return try await problem.run(
      OutputNormPlan(request, device: device.capabilities), on: device)
  }

  /// Softmax attention [S, H, D] over [T, H, D].
  func softmaxAttention(
    _ q: [Float], _ k: [Float], _ v: [Float], queries: Int, keys: Int, heads: Int, channels: Int,
    valueChannels: Int
  ) async throws -> [Float] {
    let request = try AttentionRequest(
      queryTokens: queries, keyTokens: keys, queryHeads: heads, headSize: channels,
      valueHeadSize: valueChannels)
    let plan = try AttentionPlan(request, device: device.capabilities, path: .row)
    let o = try await GuardedBuffer(
      byteCount: request.byteCount(of: .output), label: "o", on: device)
    func input(_ values: [Float], _ label: String) async throws -> DeviceBuffer {
      try await GuardedBuffer(values, label: label, on: device).buffer
    }
    var buffers = AttentionBuffers(
      query: try await input(q, "q"), key: try await input(k, "k"), value: try await input(v, "v"),
      output: o.buffer)
    if plan.scratchByteCount > 0 {
      buffers.scratch = try device.makeBuffer(byteCount: plan.scratchByteCount, label: "scratch")
    }
    try await AttentionKernel(plan, on: device).run(buffers)
    try await o.expectGuardsIntact()
    return try await device.download(Float.self, from: o.buffer)
  }
}
