import AttentionReference
import TestSupport
import Testing

@testable import VulkanAttention

/// What lies in an operand's memory.
enum OperandData: Sendable {
  case floats([Float])
  case integers([Int32])
  case bytes([UInt8])

  func upload(_ label: String, on device: ComputeDevice) async throws -> GuardedBuffer {
    switch self {
    case .floats(let values): try await GuardedBuffer(values, label: label, on: device)
    case .integers(let values): try await GuardedBuffer(values, label: label, on: device)
    case .bytes(let values): try await GuardedBuffer(values, label: label, on: device)
    }
  }
}

/// One attention whose statistics are checked: for the kernels and for the reference.
struct StatisticsCase: Sendable, CustomTestStringConvertible {
  let name: String
  var shape: AttentionCase
  var type = ElementType.f32
  var keyType: ElementType?
  var scores = AttentionScores()
  var operands: [(AttentionOperand, OperandData)] = []
  /// The data of operands that the request brings along.
  var impliedOperands: [AttentionOperand.Kind: OperandData] = [:]
  var resumes = false
  /// From the reference's plain options to those of the case.
  var change: @Sendable (inout AttentionOptions) -> Void = { _ in }

  init(_ name: String, _ shape: AttentionCase) {
    self.name = name
    self.shape = shape
  }

  var testDescription: String { "\(name) \(shape.testDescription) \(type.rawValue)" }

  func request() throws -> AttentionRequest {
    try AttentionRequest(
      batchSize: shape.batch, queryTokens: shape.queryTokens, keyTokens: shape.keyTokens,
      queryHeads: shape.queryHeads, keyHeads: shape.keyHeads, headSize: shape.headSize,
      valueHeadSize: shape.valueHeadSize, elementType: type, keyType: keyType, scale: shape.scale,
      mask: shape.mask, scores: scores, operands: operands.map(\.0), returnsLogSumExp: true,
      resumes: resumes)
  }

  var options: AttentionOptions {
    var options = shape.options
    options.causal = shape.mask.isCausal
    options.windowLeft = shape.mask.windowLeft
    options.windowRight = shape.mask.windowRight
    options.sinkTokens = shape.mask.sinkTokens
    options.softcap = Double(scores.softcap)
    options.relativeLeft = scores.relativeLeft
    options.relativeRight = scores.relativeRight
    change(&options)
    return options
  }

  /// Whether all that a row weighs is keys.
  var rowsAddUpToOne: Bool { options.sinks == nil && scores.normalizer == .softmax && !resumes }

  /// p [B·S·H, T] by the reference.
  func probabilities(_ tensors: AttentionTensors) -> [Double] {
    attentionProbabilities(
      q: tensors.q, k: tensors.k, dimensions: shape.dimensions, options: options)
  }
}

extension StatisticsCase {
  private static func numbers(_ count: Int, seed: UInt64) -> [Float] {
    var random = SplitMix64(seed: seed)
    return random.normal(count)
  }

  private static func with(
    _ name: String, _ shape: AttentionCase, _ change: (inout StatisticsCase) -> Void
  ) -> StatisticsCase {
    var made = StatisticsCase(name, shape)
    change(&made)
    return made
  }

  /// Sizes without options, of every type.
  static let plain: [StatisticsCase] = ElementType.allCases.flatMap { type in
    [
      AttentionCase(s: 1, t: 1, d: 8), .init(s: 1, t: 131, h: 8, g: 1, d: 64, mask: .causal),
      .init(b: 2, s: 33, t: 65, h: 4, g: 2, d: 64),
      .init(s: 67, t: 67, h: 6, g: 3, d: 40, mask: .causal),
      .init(s: 24, t: 9, h: 2, d: 24, mask: .causal), .init(b: 2, s: 5, t: 0, h: 2, d: 24),
      .init(s: 12, t: 40, d: 64, scale: 3), .init(s: 5, t: 17, h: 3, d: 59),
    ].map { shape in
      with("plain", shape) { $0.type = type }
    }
  }

  /// One option or a few each, and the largest head size.
  static let options: [StatisticsCase] = [
    with("largest head", .init(s: 9, t: 20, d: 576, e: 8)) { $0.type = .bf16 },
    with("large head", .init(s: 9, t: 20, d: 160, e: 8)) { _ in },
    with("window", .init(s: 50, t: 90, h: 2, d: 16, mask: .window(left: 7))) { _ in },
    with(
      "two-sided window",
      .init(s: 70, t: 70, d: 16, mask: .window(left: 3, right: 5, isCausal: false))
    ) {
      _ in
    },
    with("window and sink tokens", .init(s: 60, t: 150, h: 2, d: 16, mask: .window(left: 9))) {
      $0.shape.mask.sinkTokens = 3
    },
    with("mixed types", .init(s: 9, t: 33, h: 2, d: 16)) {
      $0.type = .f16
      $0.keyType = .f32
    },
    with("softcap", .init(s: 11, t: 33, h: 2, d: 16, mask: .causal)) { $0.scores.softcap = 2 },
    with("off by one", .init(s: 11, t: 7, h: 2, d: 16, mask: .causal)) {
      $0.scores.normalizer = .softmaxOffByOne
      $0.change = { $0.normalizer = .softmaxOffByOne }
    },
    with("sinks", .init(s: 11, t: 33, h: 4, g: 2, d: 16, mask: .causal)) {
      let sinks: [Float] = [0.5, 3, -2, 1]
      $0.operands = [(.init(.sinks), .floats(sinks))]
      $0.change = { $0.sinks = sinks.map(Double.init) }
    },
    with("alibi", .init(b: 2, s: 11, t: 33, h: 4, g: 2, d: 16, mask: .causal)) {
      let slopes: [Float] = [0.5, 0.25, 0.125, 0.0625]
      $0.operands = [(.init(.alibiSlopes, shared: .batch), .floats(slopes))]
      $0.change = { $0.alibiSlopes = slopes.map(Double.init) }
    },
    with("bias that hides keys", .init(b: 2, s: 5, t: 13, h: 2, d: 16)) {
      var bias = numbers(2 * 5 * 13, seed: 3)
      for index in stride(from: 0, to: bias.count, by: 3) { bias[index] = -.infinity }
      // Row 1 of head 0 sees nothing.
      for index in 13..<26 { bias[index] = -.infinity }
      let shown = bias
      $0.operands = [(.init(.bias, shared: .batch), .floats(shown))]
      $0.change = { $0.bias = PerScore(shown.map(Double.init), batch: 1, heads: 2, queries: 5) }
    },
    with("mask", .init(b: 2, s: 37, t: 41, h: 2, d: 16)) {
      var random = SplitMix64(seed: 4)
      let mask = (0..<2 * 37 * 41).map { _ in UInt8(random.next() % 3 == 0 ? 1 : 0) }
      $0.operands = [(.init(.mask, shared: .heads), .bytes(mask))]
      $0.change = { $0.mask = PerScore(mask, batch: 2, heads: 1, queries: 37) }
    },
    with("lengths and padding", .init(b: 3, s: 6, t: 40, h: 2, d: 16, mask: .causal)) {
      $0.operands = [
        (.init(.keyLengths), .integers([40, 0, 13])), (.init(.leftPadding), .integers([5, 0, 2])),
      ]
      $0.change = {
        $0.kvLengths = [40, 0, 13]
        $0.leftPadding = [5, 0, 2]
      }
    },
    with("segments", .init(s: 20, t: 20, h: 2, d: 16, mask: .causal)) {
      let segments = (0..<20).map { Int32($0 / 7) }
      $0.operands = [
        (.init(.querySegments), .integers(segments)), (.init(.keySegments), .integers(segments)),
      ]
      $0.change = {
        $0.querySegments = PerToken(segments)
        $0.keySegments = PerToken(segments)
      }
    },
    with("key bias, scales and gates", .init(s: 10, t: 35, h: 2, d: 16)) {
      let bias = numbers(70, seed: 5)
      let scales = numbers(20, seed: 6).map { 1 + abs($0) }
      var gates = numbers(20, seed: 7)
      gates[3] = 0
      gates[8] = 0
      let shown = gates
      $0.operands = [
        (.init(.keyBias), .floats(bias)), (.init(.queryScales), .floats(scales)),
        (.init(.gates), .floats(shown)),
      ]
      $0.change = {
        $0.keyBias = PerKey(bias.map(Double.init), batch: 1, heads: 2)
        $0.queryScales = PerRow(scales.map(Double.init), batch: 1, queries: 10, heads: 2)
        $0.gates = PerRow(shown.map(Double.init), batch: 1, queries: 10, heads: 2)
      }
    },
    with("Transformer-XL", .init(b: 2, s: 9, t: 30, h: 2, d: 16, mask: .causal)) {
      let (u, v) = (numbers(32, seed: 8), numbers(32, seed: 9))
      let keys = numbers(30 * 32, seed: 10)
      let bias = numbers(30 * 2, seed: 11)
      $0.scores.relativeLeft = 26
      $0.scores.relativeRight = 3
      $0.operands = [
        (.init(.queryBias), .floats(u)), (.init(.relativeQueryBias), .floats(v)),
        (.init(.relativeKeys), .floats(keys)), (.init(.relativeBias), .floats(bias)),
      ]
      $0.change = {
        $0.queryBias = u.map(Double.init)
        $0.relativeQueryBias = v.map(Double.init)
        $0.relativeKeys = keys.map(Double.init)
        $0.relativeBias = bias.map(Double.init)
      }
    },
    with("resumed", .init(s: 6, t: 21, h: 2, d: 16, e: 8)) {
      let max = numbers(12, seed: 12)
      let sum = numbers(12, seed: 13).map { 1 + abs($0) }
      let output = numbers(96, seed: 14)
      $0.resumes = true
      $0.impliedOperands = [
        .initialMax: .floats(max), .initialSum: .floats(sum), .initialOutput: .floats(output),
      ]
      $0.change = {
        $0.initialState = AttentionReference.AttentionState(
          max: max.map(Double.init), sum: sum.map(Double.init), output: output.map(Double.init))
      }
    },
  ]
}

/// All results of statistics on the host; empty where one was not asked for.
struct StatisticsResult: Sendable {
  var keySums: [Float] = []
  var entropy: [Float] = []
  var probabilities: [Float] = []
  var topKeyIndices: [Int32] = []
  var topKeyProbabilities: [Float] = []
}

/// An attention and its statistics on a device: inputs behind poison, results poisoned, guards around all.
struct StatisticsRun {
  let attention: AttentionKernel
  let device: ComputeDevice
  private var guarded: [GuardedBuffer] = []
  /// The inputs, and room for scratch memory.
  private(set) var inputs: AttentionBuffers

  init(
    _ example: StatisticsCase, _ tensors: AttentionTensors, request: AttentionRequest? = nil,
    on device: ComputeDevice
  ) async throws {
    let request = try request ?? example.request()
    attention = try AttentionKernel(request, on: device)
    self.device = device
    let memory = TypedMemory(device: device)
    var all: [GuardedBuffer] = []
    func upload(_ elements: [Float], _ tensor: AttentionRequest.Tensor) async throws -> DeviceBuffer
    {
      let buffer = try await memory.upload(
        request.view(of: tensor).scatter(elements, around: .nan), as: request.type(of: tensor),
        tensor.rawValue)
      all.append(buffer)
      return buffer.buffer
    }
    func make(_ byteCount: Int, _ label: String) async throws -> DeviceBuffer {
      let buffer = try await GuardedBuffer(byteCount: byteCount, label: label, on: device)
      all.append(buffer)
      return buffer.buffer
    }
    var operands: [AttentionOperand.Kind: DeviceBuffer] = [:]
    let data = Dictionary(uniqueKeysWithValues: example.operands.map { ($0.0.kind, $0.1) })
      .merging(example.impliedOperands) { $1 }
    for (kind, data) in data {
      let buffer = try await data.upload(kind.rawValue, on: device)
      all.append(buffer)
      operands[kind] = buffer.buffer
    }
    inputs = AttentionBuffers(
      query: try await upload(tensors.q, .query), key: try await upload(tensors.k, .key),
      value: try await upload(tensors.v, .value),
      output: try await make(request.byteCount(of: .output), "output"),
      logSumExp: try await make(request.logSumExpByteCount, "logSumExp"), operands: operands,
      scratch: try await make(attention.plan.scratchByteCount, "scratch"))
    guarded = all
  }

  /// Runs the attention and then its statistics in one submission.
  ///
  /// - Parameters:
  ///   - rows: the list for probabilities.
  ///   - capabilities: what the plan is made for; the device's own by default.
  ///   - budget: operations of one piece.
  ///   - mode: whether the statistics are part of the attention's submission.
  ///   - change: of the inputs as the statistics take them.
  func compute(
    _ statistics: [AttentionStatistic], rows: [Int32] = [],
    capabilities: DeviceCapabilities? = nil, budget: Double = 2e10, mode: RunMode = .record,
    of request: AttentionRequest? = nil,
    change: (inout AttentionStatisticsBuffers) -> Void = { _ in },
    sourceLocation: SourceLocation = #_sourceLocation
  ) async throws -> StatisticsResult {
    let request = try AttentionStatisticsRequest(
      request ?? attention.request, statistics: statistics)
    let kernel = try AttentionStatisticsKernel(
      AttentionStatisticsPlan(
        request, device: capabilities ?? device.capabilities, operationsPerPiece: budget),
      on: device)
    var all = guarded
    func make(_ byteCount: Int, _ label: String) async throws -> DeviceBuffer {
      let buffer = try await GuardedBuffer(byteCount: byteCount, label: label, on: device)
      all.append(buffer)
      return buffer.buffer
    }
    var buffers = AttentionStatisticsBuffers(inputs)
    buffers.scratch = try await make(kernel.plan.scratchByteCount, "scratch of statistics")
    for statistic in statistics {
      let bytes = request.byteCount(of: statistic)
      switch statistic {
      case .keySums: buffers.keySums = try await make(bytes, "keySums")
      case .entropy: buffers.entropy = try await make(bytes, "entropy")
      case .probabilities:
        let list = try await GuardedBuffer(rows, label: "queryRows", on: device)
        all.append(list)
        buffers.queryRows = list.buffer
        buffers.probabilities = try await make(bytes, "probabilities")
      case .topKeys:
        buffers.topKeyIndices = try await make(bytes, "topKeyIndices")
        buffers.topKeyProbabilities = try await make(bytes, "topKeyProbabilities")
      }
    }
    change(&buffers)
    let recorder = try device.makeRecorder()
    try attention.record(inputs, into: recorder)
    if mode == .record { try kernel.record(buffers, into: recorder) }
    try await device.submit(recorder).completed()
    if mode == .run { try await kernel.run(buffers) }
    for buffer in all { try await buffer.expectGuardsIntact(sourceLocation: sourceLocation) }
    func read<Element: BitwiseCopyable & Sendable>(_ buffer: DeviceBuffer?) async throws
      -> [Element]
    {
      guard let buffer else { return [] }
      return try await device.download(Element.self, from: buffer)
    }
    return StatisticsResult(
      keySums: try await read(buffers.keySums), entropy: try await read(buffers.entropy),
      probabilities: try await read(buffers.probabilities),
      topKeyIndices: try await read(buffers.topKeyIndices),
      topKeyProbabilities: try await read(buffers.topKeyProbabilities))
  }
}
