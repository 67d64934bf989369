/// The parameters of op `attention`, with the format's defaults.
public struct AttentionParameters: Sendable, Hashable {
  /// Where query token 0 stands among the keys.
  public enum CausalAlignment: String, Sendable, Hashable, CaseIterable {
    /// The last query sees the last key.
    case bottomRight = "bottom_right"
    /// The first query sees the first key.
    case topLeft = "top_left"
  }

  /// `scale`: factor of q·k; nil for 1/√D.
  public var scale: Double?
  /// `causal`: whether keys after the query's own position are hidden.
  public var causal = false
  /// `causal_align`: the offset of positions, for the causal mask, windows and ALiBi.
  public var causalAlignment = CausalAlignment.bottomRight
  /// `window_left`: keys visible before the query's position; nil (in the file: negative) for all.
  public var windowLeft: Int?
  /// `window_right`: keys visible after the query's position; nil (in the file: negative) for all.
  public var windowRight: Int?
  /// `softcap`: 0 for none.
  public var softcap = 0.0
  /// `sink_tokens`: keys from the start that windows do not hide.
  public var sinkTokens = 0

  /// The defaults: plain attention.
  public init() {}

  static let names = [
    "scale", "causal", "causal_align", "window_left", "window_right", "softcap", "sink_tokens",
  ]

  init(_ members: [JSONMember], file: String) throws(CaseFileError) {
    for member in members {
      let reader = ParameterReader(
        file: file, field: "vkattn.params.\(member.key)", value: member.value)
      switch member.key {
      case "scale": scale = try reader.number()
      case "causal": causal = try reader.bool()
      case "causal_align":
        let name = try reader.string()
        guard let alignment = CausalAlignment(rawValue: name) else {
          throw reader.error(.unknown(allowed: CausalAlignment.allCases.map(\.rawValue)))
        }
        causalAlignment = alignment
      case "window_left": windowLeft = try reader.window()
      case "window_right": windowRight = try reader.window()
      case "softcap":
        softcap = try reader.number()
        if softcap < 0 { throw reader.error(.invalid("must not be negative")) }
      case "sink_tokens":
        sinkTokens = try reader.integer()
        if sinkTokens < 0 { throw reader.error(.invalid("must not be negative")) }
      default: throw reader.error(.unknown(allowed: Self.names))
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

  /// One side of a window; negative means no limit.
  func window() throws(CaseFileError) -> Int? {
    let value = try integer()
    return value < 0 ? nil : value
  }
}
