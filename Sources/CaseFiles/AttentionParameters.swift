/// The parameters of op `attention`, with the format's defaults.
public struct AttentionParameters: Sendable, Hashable {
  /// Where query token 0 stands among the keys.
  public enum CausalAlignment: String, Sendable, Hashable, CaseIterable {
    /// The last query sees the last key.
    case bottomRight = "bottom_right"
    /// The first query sees the first key.
    case topLeft = "top_left"
  }

  /// Which keys segment numbers let a query see.
  public enum SegmentRule: String, Sendable, Hashable, CaseIterable {
    /// Those of its own segment.
    case same
    /// Those of every other segment.
    case different
  }

  /// How scores become weights.
  public enum Normalizer: String, Sendable, Hashable, CaseIterable {
    /// exp(s), divided by the sum.
    case softmax
    /// exp(s), divided by 1 + the sum.
    case softmaxOffByOne = "softmax1"
    /// max(s, 0), divided by the sequence's key count.
    case reluMean = "relu_mean"
    /// max(s, 0), divided by the sum.
    case reluSum = "relu_sum"
    /// The logistic function of s + `sigmoid_bias`, divided by nothing.
    case sigmoid
  }

  /// `scale`: factor of q·k; nil for 1/√D.
  public var scale: Double?
  /// `causal`: whether keys after the query's own position are hidden.
  public var causal = false
  /// `causal_align`: the offset of positions, for all that depends on them.
  public var causalAlignment = CausalAlignment.bottomRight
  /// `causal_block`: tokens of a block that the causal mask lets see each other; at least 1.
  public var causalBlock = 1
  /// `prefix_tokens`: keys from the start that the causal mask does not hide.
  public var prefixTokens = 0
  /// `window_left`: keys visible before the query's position; nil (in the file: negative) for all.
  public var windowLeft: Int?
  /// `window_right`: keys visible after the query's position; nil (in the file: negative) for all.
  public var windowRight: Int?
  /// `chunk`: tokens of a chunk, outside of which keys are hidden; 0 for none.
  public var chunk = 0
  /// `sink_tokens`: keys from the start that windows and chunks do not hide.
  public var sinkTokens = 0
  /// `segments`: how segment numbers decide.
  public var segmentRule = SegmentRule.same
  /// `tree_tokens`: keys at the sequence's end that `tree_bits` decide on.
  public var treeTokens = 0
  /// `softcap`: 0 for none.
  public var softcap = 0.0
  /// `relative_left`: the distance before the query where tables by distance start.
  public var relativeLeft = 0
  /// `relative_right`: the distance after the query where tables by distance end.
  public var relativeRight = 0
  /// `grid_height`: rows of the window of `grid_bias`.
  public var gridHeight = 0
  /// `grid_width`: columns of the window of `grid_bias`.
  public var gridWidth = 0
  /// `t5_max_distance`: from here on all distances share the last bucket of `t5_bias`.
  public var t5MaxDistance = 128
  /// `t5_bidirectional`: whether keys after the query have half of the buckets to themselves.
  public var t5Bidirectional = true
  /// `normalizer`.
  public var normalizer = Normalizer.softmax
  /// `sigmoid_bias`: added to scores before the logistic function.
  public var sigmoidBias = 0.0
  /// `score_glsl`: GLSL that makes another score of each; nil for none.
  public var scoreGLSL: String?
  /// `mask_glsl`: GLSL that says whether a query sees a key; nil for none.
  public var maskGLSL: String?

  /// The defaults: plain attention.
  public init() {}

  static let names = [
    "scale", "causal", "causal_align", "causal_block", "prefix_tokens", "window_left",
    "window_right", "chunk", "sink_tokens", "segments", "tree_tokens", "softcap", "relative_left",
    "relative_right", "grid_height", "grid_width", "t5_max_distance", "t5_bidirectional",
    "normalizer", "sigmoid_bias", "score_glsl", "mask_glsl",
  ]

  /// Reads parameters; `others` are names that the operation has beside these.
  init(
    _ members: [JSONMember], file: String, others: [String] = []
  ) throws(CaseFileError) {
    for member in members {
      let reader = ParameterReader(
        file: file, field: "vkattn.params.\(member.key)", value: member.value)
      switch member.key {
      case "scale": scale = try reader.number()
      case "causal": causal = try reader.bool()
      case "causal_align": causalAlignment = try reader.name()
      case "causal_block": causalBlock = try reader.integer(1...)
      case "prefix_tokens": prefixTokens = try reader.integer(0...)
      case "window_left": windowLeft = try reader.window()
      case "window_right": windowRight = try reader.window()
      case "chunk": chunk = try reader.integer(0...)
      case "sink_tokens": sinkTokens = try reader.integer(0...)
      case "segments": segmentRule = try reader.name()
      case "tree_tokens": treeTokens = try reader.integer(0...)
      case "softcap":
        softcap = try reader.number()
        if softcap < 0 { throw reader.error(.invalid("must not be negative")) }
      case "relative_left": relativeLeft = try reader.integer(0...)
      case "relative_right": relativeRight = try reader.integer(0...)
      // The limits keep sizes of tables far from overflow.
      case "grid_height": gridHeight = try reader.integer(0..., atMost: 1 << 15)
      case "grid_width": gridWidth = try reader.integer(0..., atMost: 1 << 15)
      case "t5_max_distance": t5MaxDistance = try reader.integer(1..., atMost: 1 << 20)
      case "t5_bidirectional": t5Bidirectional = try reader.bool()
      case "normalizer": normalizer = try reader.name()
      case "sigmoid_bias": sigmoidBias = try reader.number()
      case "score_glsl": scoreGLSL = try reader.string()
      case "mask_glsl": maskGLSL = try reader.string()
      default: throw reader.error(.unknown(allowed: Self.names + others))
      }
    }
  }
}

/// Reads one parameter as the type that it must have.
struct ParameterReader {
  let file: String
  let field: String
  let value: JSONValue

  func error(_ problem: CaseFileError.Problem) -> CaseFileError {
    CaseFileError(file, field, problem)
  }

  func bool() throws(CaseFileError) -> Bool {
    guard case .bool(let value) = value else { throw error(.expected("true or false")) }
    return value
  }

  func string() throws(CaseFileError) -> String {
    guard case .string(let value) = value else { throw error(.expected("a string")) }
    return value
  }

  func number() throws(CaseFileError) -> Double {
    switch value {
    case .integer(let value): return Double(value)
    case .number(let value): return value
    default: throw error(.expected("a number"))
    }
  }

  /// An integer within ±2³¹, so that sums of a few with token counts cannot overflow.
  func integer() throws(CaseFileError) -> Int {
    guard case .integer(let value) = value else { throw error(.expected("an integer")) }
    guard Int32(exactly: value) != nil else {
      throw error(.invalid("\(value) does not fit 32 bits"))
    }
    return value
  }

  /// An integer that is not below `range`, nor above `limit`.
  func integer(
    _ range: PartialRangeFrom<Int>, atMost limit: Int = .max
  ) throws(CaseFileError) -> Int {
    let value = try integer()
    if value < range.lowerBound {
      throw error(
        .invalid(
          range.lowerBound == 0
            ? "must not be negative" : "must be at least \(range.lowerBound)"))
    }
    if value > limit { throw error(.invalid("must be at most \(limit)")) }
    return value
  }

  /// One of the names that the type has.
  func name<Name: RawRepresentable<String> & CaseIterable>() throws(CaseFileError) -> Name {
    guard let name = Name(rawValue: try string()) else {
      throw error(.unknown(allowed: Name.allCases.map(\.rawValue)))
    }
    return name
  }

  /// One side of a window; negative means no limit.
  func window() throws(CaseFileError) -> Int? {
    let value = try integer()
    return value < 0 ? nil : value
  }
}
