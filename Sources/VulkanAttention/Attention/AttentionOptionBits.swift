/// Which options a pipeline has: the bits of OPTIONS in `attention_option_block.glsl`, and from bit 32 on those of
/// MORE_OPTIONS.
struct AttentionOptionBits: OptionSet, Sendable, Hashable {
  let rawValue: UInt64

  static let causal = Self(rawValue: 1 << 0)
  static let topLeft = Self(rawValue: 1 << 1)
  static let causalBlock = Self(rawValue: 1 << 2)
  static let prefix = Self(rawValue: 1 << 3)
  static let window = Self(rawValue: 1 << 4)
  static let chunk = Self(rawValue: 1 << 5)
  static let sinkTokens = Self(rawValue: 1 << 6)
  static let keyLengths = Self(rawValue: 1 << 7)
  static let leftPadding = Self(rawValue: 1 << 8)
  static let segments = Self(rawValue: 1 << 9)
  static let mask = Self(rawValue: 1 << 10)
  static let maskBits = Self(rawValue: 1 << 11)
  static let tree = Self(rawValue: 1 << 12)
  static let queryScales = Self(rawValue: 1 << 13)
  static let queryBias = Self(rawValue: 1 << 14)
  static let relativeTerm = Self(rawValue: 1 << 15)
  static let softcap = Self(rawValue: 1 << 16)
  static let bias = Self(rawValue: 1 << 17)
  static let keyBias = Self(rawValue: 1 << 18)
  static let relativeBias = Self(rawValue: 1 << 19)
  static let gridBias = Self(rawValue: 1 << 20)
  static let alibi = Self(rawValue: 1 << 21)
  static let sinks = Self(rawValue: 1 << 22)
  static let relu = Self(rawValue: 1 << 23)
  static let sigmoid = Self(rawValue: 1 << 24)
  static let mean = Self(rawValue: 1 << 25)
  static let gates = Self(rawValue: 1 << 26)
  static let packedSequences = Self(rawValue: 1 << 27)
  static let resume = Self(rawValue: 1 << 28)
  static let returnState = Self(rawValue: 1 << 29)
  static let keySources = Self(rawValue: 1 << 30)
  static let keyRange = Self(rawValue: 1 << 31)
  static let blockMap = Self(rawValue: 1 << 32)

  /// What a shader finds in the push constants alone.
  static let withoutBlock: Self = [.causal, .topLeft]

  /// The specialization constants that say so.
  var constants: [String: UInt32] {
    [
      "OPTIONS": UInt32(truncatingIfNeeded: rawValue), "MORE_OPTIONS": UInt32(rawValue >> 32),
    ]
  }

  /// Whether the shader reads the block of options.
  var needsBlock: Bool { !subtracting(Self.withoutBlock).isEmpty }

  /// The options of a request.
  init(_ request: AttentionRequest) {
    let mask = request.mask
    let scores = request.scores
    let conditions: [(Self, Bool)] = [
      (.causal, mask.isCausal), (.topLeft, mask.alignment == .topLeft),
      (.causalBlock, mask.causalBlock > 1),
      (.prefix, mask.prefixTokens > 0 || request.operand(.prefixLengths) != nil),
      (
        .window,
        mask.windowLeft != nil || mask.windowRight != nil || request.operand(.headWindows) != nil
      ),
      (.chunk, mask.chunkSize != nil), (.sinkTokens, mask.sinkTokens > 0),
      (.softcap, scores.softcap > 0), (.packedSequences, request.packedSequences != nil),
      (.resume, request.resumes), (.returnState, request.returnsState),
      (.keySources, request.hasKeySources),
    ]
    var bits: Self = []
    for (bit, isSet) in conditions where isSet { bits.insert(bit) }
    switch scores.normalizer {
    case .softmax: break
    case .softmaxOffByOne: bits.insert(.sinks)
    case .reluMean: bits.formUnion([.relu, .mean])
    case .reluSum: bits.insert(.relu)
    case .sigmoid: bits.insert(.sigmoid)
    }
    for operand in request.operands {
      switch operand.kind {
      case .bias: bits.insert(.bias)
      case .mask: bits.insert(.mask)
      case .maskBits: bits.insert(.maskBits)
      case .treeBits: bits.insert(.tree)
      case .querySegments, .keySegments: bits.insert(.segments)
      case .keyLengths: bits.insert(.keyLengths)
      case .leftPadding: bits.insert(.leftPadding)
      case .sinks: bits.insert(.sinks)
      case .alibiSlopes: bits.insert(.alibi)
      case .relativeBias: bits.insert(.relativeBias)
      case .gridBias: bits.insert(.gridBias)
      case .keyBias: bits.insert(.keyBias)
      case .queryScales: bits.insert(.queryScales)
      case .gates: bits.insert(.gates)
      case .queryBias: bits.insert(.queryBias)
      case .relativeKeys: bits.insert(.relativeTerm)
      case .blockMap: bits.insert(.blockMap)
      case .prefixLengths, .headWindows, .relativeQueryBias, .queryStarts, .keyStarts, .initialMax,
        .initialSum, .initialOutput, .finalMax, .finalSum, .finalOutput:
        break  // by what they belong to
      }
    }
    self = bits
  }

  init(rawValue: UInt64) { self.rawValue = rawValue }
}
