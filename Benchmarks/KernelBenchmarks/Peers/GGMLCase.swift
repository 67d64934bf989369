import VulkanAttention

/// An attention as `test-backend-ops`, ggml's own benchmark program, names it. It runs only the cases
/// that are compiled into it.
public struct GGMLCase: Sendable, Hashable {
  /// The operation's name there.
  public static let operation = "FLASH_ATTN_EXT"

  /// The sizes: prefill, or decode with S = 1.
  public let shape: AttentionShape
  /// The type of keys and values; queries and outputs are f32 there.
  public let elementType: ElementType

  /// A case by its sizes.
  public init(_ shape: AttentionShape, _ elementType: ElementType) {
    self.shape = shape
    self.elementType = elementType
  }

  /// The case of a workload.
  ///
  /// - Throws: ``GGMLError/notComparable(_:)`` for causal masks, for which that program only has
  ///   dense ones of random numbers.
  public init(_ workload: AttentionWorkload) throws(GGMLError) {
    guard !workload.isCausal else {
      throw .notComparable("it has no causal mask, only dense ones")
    }
    guard workload.shape.queryHeads % workload.shape.keyHeads == 0 else {
      throw .notComparable("its query heads are a multiple of its key heads")
    }
    self.init(workload.shape, workload.elementType)
  }

  /// What a case of that program must say to be this one: the names and values of its parameters, in
  /// their order. Its mask may be there or not, since its decode cases always have one.
  private var parameters: [(name: String, value: String)] {
    [
      ("hsk", "\(shape.headSize)"), ("hsv", "\(shape.valueHeadSize)"), ("nh", "\(shape.keyHeads)"),
      ("nr23", "[\(shape.queryHeads / shape.keyHeads),\(shape.batchSize)]"),
      ("kv", "\(shape.keyTokens)"), ("nb", "\(shape.queryTokens)"), ("sinks", "0"),
      ("max_bias", "0.000000"), ("logit_softcap", "0.000000"),
      ("type_K", elementType.rawValue), ("type_V", elementType.rawValue),
    ]
  }

  /// The regular expression that selects the case (`-p`).
  public var filter: String {
    let texts = parameters.map { name, value in
      "\(name)=\(value)".reduce(into: "") { text, character in
        text += ".[]".contains(character) ? "\\\(character)" : "\(character)"
      }
    }
    // Commas end each, so that kv=1024 is not found in kv=10240.
    return "^" + texts.joined(separator: ",(.*,)?") + ","
  }

  /// Whether the parameters that the program printed are this case's.
  func matches(_ printed: [String: String]) -> Bool {
    parameters.allSatisfy { printed[$0.name] == $0.value }
  }
}

extension GGMLCase: CustomStringConvertible {
  /// The parameters in that program's words.
  public var description: String {
    parameters.filter { !["sinks", "max_bias", "logit_softcap"].contains($0.name) }
      .map { "\($0.name)=\($0.value)" }.joined(separator: ",")
  }
}
