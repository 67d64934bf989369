import AttentionReference
import CaseFiles
import Foundation

/// The case files under Tests/Cases.
enum ShippedCases {
  static let folder = URL(filePath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().appending(path: "Cases")

  /// The paths of all cases of attention, in the order of their names.
  static let attention = ["attention", "attention-options", "attention-varlen"].flatMap(cases)
  /// The paths of all cases with scores and masks in GLSL, which only kernels can run.
  static let custom = cases("attention-custom")
  /// The paths of all cases of decode steps.
  static let decode = ["decode", "paged-decode"].flatMap(cases)
  /// The paths of all cases of latent attention.
  static let latentDecode = cases("mla-decode")
  /// The paths of all cases of linear attention.
  static let linear = ["linear-attention", "ssd"].flatMap(cases)

  private static func cases(_ name: String) -> [String] {
    let path = folder.appending(path: name).path
    let files = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
    return files.filter { $0.hasSuffix(".safetensors") }.sorted().map { "\(name)/\($0)" }
  }

  /// The case of one of these paths.
  static func load(_ name: String) throws -> AttentionCase {
    switch try CaseFile(path: folder.appending(path: name).path) {
    case .attention(let problem): return problem
    case .decode(let problem): return problem.attention
    case .latentDecode, .linearAttention: throw WrongOperation()
    }
  }

  /// A case of another operation than a test is about.
  struct WrongOperation: Error {}
}

extension AttentionDimensions {
  init(_ problem: AttentionCase) {
    self.init(
      batch: problem.batch, queryTokens: problem.queryTokens, keyTokens: problem.keyTokens,
      queryHeads: problem.queryHeads, keyHeads: problem.keyHeads,
      keyChannels: problem.keyChannels, valueChannels: problem.valueChannels)
  }
}

extension PackedDimensions {
  init(_ problem: AttentionCase) {
    self.init(
      queryTokens: problem.queryTokens, keyTokens: problem.keyTokens,
      queryStarts: problem.cuSeqlensQ?.integers() ?? [],
      keyStarts: problem.cuSeqlensK?.integers() ?? [], queryHeads: problem.queryHeads,
      keyHeads: problem.keyHeads, keyChannels: problem.keyChannels,
      valueChannels: problem.valueChannels)
  }
}

extension AttentionOptions {
  init(_ problem: AttentionCase) {
    let parameters = problem.parameters
    self.init(scale: parameters.scale, causal: parameters.causal)
    setVisibility(problem)
    setScore(problem)
    normalizer =
      switch parameters.normalizer {
      case .softmax: .softmax
      case .softmaxOffByOne: .softmaxOffByOne
      case .reluMean: .reluMean
      case .reluSum: .reluSum
      case .sigmoid: .sigmoid(bias: parameters.sigmoidBias)
      }
    sinks = problem.sinks?.doubles()
    gates = problem.gates.map(PerRow.init)
    if let max = problem.initialMax, let sum = problem.initialSum,
      let output = problem.initialOutput
    {
      initialState = AttentionState(
        max: max.doubles(), sum: sum.doubles(), output: output.doubles())
    }
  }

  private mutating func setVisibility(_ problem: AttentionCase) {
    let parameters = problem.parameters
    alignment = parameters.causalAlignment == .topLeft ? .topLeft : .bottomRight
    causalBlock = parameters.causalBlock
    prefixTokens = parameters.prefixTokens
    prefixLengths = problem.prefixLengths?.integers()
    windowLeft = parameters.windowLeft
    windowRight = parameters.windowRight
    headWindows = problem.headWindows?.integers().map { sides in
      (0..<sides.count / 2).map { h in
        HeadWindow(
          left: sides[2 * h] < 0 ? nil : sides[2 * h],
          right: sides[2 * h + 1] < 0 ? nil : sides[2 * h + 1])
      }
    }
    chunk = parameters.chunk
    sinkTokens = parameters.sinkTokens
    kvLengths = problem.kvLengths?.integers()
    leftPadding = problem.leftPadding?.integers()
    querySegments = problem.querySegments.map(PerToken.init)
    keySegments = problem.keySegments.map(PerToken.init)
    segmentRule = parameters.segmentRule == .same ? .same : .different
    mask = problem.mask.map {
      PerScore(Array($0.bytes), batch: $0.shape[0], heads: $0.shape[1])
    }
    if let bits = problem.maskBits {
      mask = PerScore(
        maskBits: Array(bits.bytes), keyTokens: problem.keyTokens, batch: bits.shape[0],
        heads: bits.shape[1], queries: bits.shape[2])
    }
    treeBits = problem.treeBits.map {
      PerToken(Array($0.bytes), batch: $0.shape[0], width: $0.shape[2])
    }
    treeTokens = parameters.treeTokens
  }

  private mutating func setScore(_ problem: AttentionCase) {
    let parameters = problem.parameters
    queryScales = problem.queryScales.map(PerRow.init)
    queryBias = problem.queryBias?.doubles()
    relativeQueryBias = problem.relativeQueryBias?.doubles()
    relativeKeys = problem.relativeKeys?.doubles()
    softcap = parameters.softcap
    bias = problem.bias.map {
      PerScore($0.doubles(), batch: $0.shape[0], heads: $0.shape[1])
    }
    keyBias = problem.keyBias.map {
      PerKey($0.doubles(), batch: $0.shape[0], heads: $0.shape[1])
    }
    relativeBias = problem.relativeBias?.doubles()
    relativeLeft = parameters.relativeLeft
    relativeRight = parameters.relativeRight
    if let weights = problem.t5Bias {
      relativeLeft = parameters.t5MaxDistance
      relativeRight = parameters.t5Bidirectional ? parameters.t5MaxDistance : 0
      relativeBias = t5RelativeBias(
        weights.doubles(), buckets: weights.shape[0], heads: weights.shape[1],
        maxDistance: parameters.t5MaxDistance, bidirectional: parameters.t5Bidirectional)
    }
    gridBias = problem.gridBias?.doubles()
    gridHeight = parameters.gridHeight
    gridWidth = parameters.gridWidth
    alibiSlopes = problem.alibiSlopes?.doubles()
  }
}

extension PerRow<Double> {
  init(_ tensor: CaseTensor) {
    self.init(
      tensor.doubles(), batch: tensor.shape[0], queries: tensor.shape[1],
      heads: tensor.shape[2])
  }
}

extension PerToken<Int32> {
  init(_ tensor: CaseTensor) {
    self.init((tensor.integers() ?? []).map { Int32($0) }, batch: tensor.shape[0])
  }
}
