import AttentionReference
import VulkanAttention

/// An option of the attention that a case of the check has beside its sizes, with data for it.
public enum AttentionCheckOption: String, Sendable, Hashable, CaseIterable {
  /// Causal, aligned at the first key.
  case topLeft = "top-left"
  /// Causal by blocks of 5 tokens.
  case causalBlock = "causal-block"
  /// Causal behind a prefix.
  case prefix
  /// Causal behind prefixes of their own.
  case prefixLengths = "prefix-lengths"
  /// A causal window.
  case window
  /// A window to both sides.
  case twoSidedWindow = "two-sided-window"
  /// A window for each head.
  case headWindows = "head-windows"
  /// Causal chunks.
  case chunk
  /// A causal window with sink tokens.
  case sinkTokens = "sink-tokens"
  /// Sequences of their own lengths, NaN behind them.
  case keyLengths = "kv-lengths"
  /// Padding in front.
  case leftPadding = "left-padding"
  /// Segments.
  case segments
  /// All segments but the own.
  case otherSegments = "other-segments"
  /// A dense mask.
  case mask
  /// A dense mask for all heads and batch entries, as bits.
  case maskBits = "mask-bits"
  /// A tree of drafts.
  case tree
  /// A map of blocks of 64 by 64 over a causal dense mask: some hidden, some without the mask.
  case blockMap = "block-map"
  /// A temperature for each row and head.
  case queryScales = "query-scales"
  /// A bias of the queries.
  case queryBias = "query-bias"
  /// The term of Transformer-XL.
  case transformerXL = "transformer-xl"
  /// A soft cap.
  case softcap
  /// A dense bias in f16.
  case bias
  /// A bias of the keys, −∞ for some.
  case keyBias = "key-bias"
  /// A bias by distance.
  case relativeBias = "relative-bias"
  /// Swin's bias.
  case gridBias = "grid-bias"
  /// ALiBi under a causal mask.
  case alibi
  /// Learned sinks under a causal window.
  case sinks
  /// Softmax off by one.
  case softmaxOffByOne = "softmax1"
  /// ReLU over n.
  case reluMean = "relu-mean"
  /// ReLU over the row's sum.
  case reluSum = "relu-sum"
  /// Sigmoid, causal.
  case sigmoid
  /// Gates for each row and head, some 0.
  case gates
  /// Gates for each head, some 0.
  case headGates = "head-gates"
  /// Going on from a running state.
  case resume
  /// Packed sequences, causal.
  case packedSequences = "varlen"
  /// Values that are keys.
  case valuesAreKeys = "values-are-keys"
  /// Each key head with keys and values of its own.
  case keySources = "key-sources"
  /// Keys and values in 16-bit types that differ from each other.
  case mixedTypes = "mixed-types"
  /// Every mask at once.
  case everyMask = "every-mask"
  /// Every change of the scores at once.
  case everyScore = "every-score"
}

/// The parts of a request that an option sets.
struct AttentionCheckParts {
  var mask = AttentionMask.none
  var scores = AttentionScores()
  var operands: [AttentionOperand] = []
  var keyType: VulkanAttention.ElementType?
  var valueType: VulkanAttention.ElementType?
  var packedSequences: PackedSequences?
  var resumes = false
  var valuesAreKeys = false
  var hasKeySources = false
}

extension AttentionCheckOption {
  /// How many tokens each of n packed sequences has, at most `most`: the second has none.
  static func lengths(_ most: Int, count: Int) -> [Int] {
    (0..<count).map { $0 == 1 ? 0 : max(1, most - 3 * $0) }
  }

  func parts(_ shape: AttentionShape) -> AttentionCheckParts {
    var parts = AttentionCheckParts()
    func add(_ kind: AttentionOperand.Kind, shared: AttentionOperand.Axes = []) {
      parts.operands.append(AttentionOperand(kind, shared: shared))
    }
    switch self {
    case .topLeft:
      parts.mask = .causal
      parts.mask.alignment = .topLeft
    case .causalBlock:
      parts.mask = .causal
      parts.mask.causalBlock = 5
    case .prefix:
      parts.mask = .causal
      parts.mask.prefixTokens = shape.keyTokens / 2
    case .prefixLengths:
      parts.mask = .causal
      add(.prefixLengths)
    case .window: parts.mask = .window(left: 11)
    case .twoSidedWindow: parts.mask = .window(left: 7, right: 4, isCausal: false)
    case .headWindows:
      parts.mask = .causal
      add(.headWindows)
    case .chunk:
      parts.mask = .causal
      parts.mask.chunkSize = 13
    case .sinkTokens:
      parts.mask = .window(left: 9)
      parts.mask.sinkTokens = 5
    case .keyLengths:
      parts.mask = .causal
      add(.keyLengths)
    case .leftPadding: add(.leftPadding)
    case .segments, .otherSegments:
      add(.querySegments)
      add(.keySegments)
      parts.scores.seesOtherSegments = self == .otherSegments
    case .mask: add(.mask)
    case .maskBits: add(.maskBits, shared: [.batch, .heads])
    case .tree:
      add(.treeBits)
      parts.scores.treeTokens = min(shape.queryTokens, shape.keyTokens)
    case .blockMap:
      parts.mask = .causal
      (parts.mask.blockMapRows, parts.mask.blockMapKeys) = (64, 64)
      add(.mask)
      add(.blockMap, shared: .batch)
    case .queryScales: add(.queryScales)
    case .queryBias: add(.queryBias)
    case .transformerXL:
      parts.scores.relativeLeft = 21
      parts.scores.relativeRight = 6
      add(.queryBias)
      add(.relativeQueryBias)
      add(.relativeKeys)
    case .softcap: parts.scores.softcap = 2
    case .bias: parts.operands.append(AttentionOperand(.bias, .f16, shared: .batch))
    case .keyBias: add(.keyBias, shared: .heads)
    case .relativeBias:
      parts.scores.relativeLeft = 12
      parts.scores.relativeRight = 5
      add(.relativeBias)
    case .gridBias:
      parts.scores.gridWidth = 16
      parts.scores.gridHeight = (max(shape.queryTokens, shape.keyTokens) + 15) / 16
      add(.gridBias)
    case .alibi:
      parts.mask = .causal
      add(.alibiSlopes, shared: .batch)
    case .sinks:
      parts.mask = .window(left: 6)
      add(.sinks)
    case .softmaxOffByOne: parts.scores.normalizer = .softmaxOffByOne
    case .reluMean: parts.scores.normalizer = .reluMean
    case .reluSum: parts.scores.normalizer = .reluSum
    case .sigmoid:
      parts.mask = .causal
      parts.scores.normalizer = .sigmoid(bias: -3)
    case .gates: add(.gates)
    case .headGates: add(.gates, shared: [.batch, .queries])
    case .resume: parts.resumes = true
    case .packedSequences:
      parts.mask = .causal
      let batch = shape.batchSize
      parts.packedSequences = PackedSequences(
        queryTokens: Self.lengths(shape.queryTokens, count: batch).reduce(0, +),
        keyTokens: Self.lengths(shape.keyTokens, count: batch).reduce(0, +))
    case .valuesAreKeys: parts.valuesAreKeys = true
    case .keySources: parts.hasKeySources = true
    case .mixedTypes:
      parts.keyType = .f16
      parts.valueType = .bf16
    case .everyMask:
      parts.mask = .window(left: 19)
      parts.mask.causalBlock = 3
      parts.mask.chunkSize = 32
      parts.mask.sinkTokens = 4
      for kind: AttentionOperand.Kind in [
        .prefixLengths, .keyLengths, .leftPadding, .querySegments, .keySegments, .maskBits,
      ] { add(kind) }
    case .everyScore:
      parts.mask = .causal
      parts.scores.softcap = 5
      parts.scores.relativeLeft = 9
      parts.scores.relativeRight = 2
      for kind: AttentionOperand.Kind in [
        .queryScales, .queryBias, .relativeQueryBias, .relativeKeys, .bias, .keyBias,
        .relativeBias, .sinks, .gates,
      ] { add(kind) }
      add(.alibiSlopes, shared: .batch)
    }
    return parts
  }

  /// Whether the keys and values behind a sequence's length hold NaN.
  var poisonsUnusedKeys: Bool { self == .keyLengths || self == .everyMask }
}

extension AttentionRequest {
  /// Data for every operand that the kernel reads.
  func operandData(_ generator: inout SplitMix64) -> [AttentionOperand.Kind: [UInt8]] {
    var data: [AttentionOperand.Kind: [UInt8]] = [:]
    for operand in operands where !operand.kind.isWritten {
      data[operand.kind] = contents(of: operand, &generator)
    }
    return data
  }

  private func contents(
    of operand: AttentionOperand, _ generator: inout SplitMix64
  ) -> [UInt8] {
    let byteCount = byteCount(of: operand.kind)
    func normal(_ deviation: Float = 1) -> [Float] {
      let size = operand.kind == .bias ? operand.elementType.byteCount : 4
      return generator.normal(byteCount / size, deviation: deviation)
    }
    func random(_ range: ClosedRange<Int>) -> [Int32] {
      (0..<byteCount / 4).map { _ in Int32(Int.random(in: range, using: &generator)) }
    }
    switch operand.kind {
    case .bias, .keyBias:
      return memory(normal().map { $0 > 1.3 ? -.infinity : $0 }, operand.elementType)
    case .mask:
      return normal().flatMap { value in (0..<4).map { UInt8(value > Float($0) - 2 ? 1 : 0) } }
        .prefix(byteCount) + [UInt8](repeating: 1, count: byteCount % 4)
    case .maskBits, .treeBits:
      return (0..<byteCount).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
    case .querySegments, .keySegments, .blockMap: return memory(random(0...2))
    case .keyLengths:
      return memory([Int32(keyTokens)] + random(0...keyTokens).dropFirst())
    case .leftPadding: return memory([0] + random(0...max(1, keyTokens / 3)).dropFirst())
    case .prefixLengths: return memory(random(0...max(1, keyTokens)))
    case .headWindows: return memory(random(-4...20))
    case .alibiSlopes: return memory(normal().map { 0.1 * $0.magnitude })
    case .queryScales: return memory(normal(0.3).map { 1 + $0 })
    case .gates: return memory(normal().map { $0 < -0.5 ? 0 : $0 })
    case .queryStarts, .keyStarts:
      let most = operand.kind == .queryStarts ? queryTokens : keyTokens
      var starts: [Int32] = [0]
      for length in AttentionCheckOption.lengths(most, count: batchSize) {
        starts.append((starts.last ?? 0) + Int32(length))
      }
      return memory(starts)
    case .initialMax: return memory(normal().map { $0 > 1.2 ? -.infinity : $0 })
    case .initialSum: return memory(normal().map { 0.5 + $0.magnitude })
    case .sinks, .relativeBias, .gridBias, .queryBias, .relativeQueryBias, .relativeKeys,
      .initialOutput:
      return memory(normal())
    case .finalMax, .finalSum, .finalOutput: return []
    }
  }
}
