import VulkanAttention

/// One attention to be timed, known by its id: `attention/f16/B1-S1024-T1024-H8-G8-D64-E64-causal`.
public struct AttentionWorkload: Sendable, Hashable {
  /// The sizes.
  public var shape: AttentionShape
  /// The type of all tensors.
  public var elementType: ElementType
  /// Whether keys after a query's own position are hidden.
  public var isCausal: Bool
  /// The keys that a causal query sees, its own included (a sliding window); nil for all of them.
  public var window: Int?
  /// The side of the square window of patches whose relative positions have biases (Swin); nil without.
  public var gridSide: Int?

  /// The name of the kernel family, as in ids.
  public static let family = "attention"

  /// A workload by its parts.
  public init(
    _ shape: AttentionShape, _ elementType: ElementType, isCausal: Bool = false,
    window: Int? = nil, gridSide: Int? = nil
  ) {
    self.shape = shape
    self.elementType = elementType
    self.isCausal = isCausal || window != nil
    self.window = window
    self.gridSide = gridSide
  }

  /// Whether a peer can be asked for the same: no window, no bias.
  public var isPlain: Bool { window == nil && gridSide == nil }

  /// Reads an id of a plain workload.
  ///
  /// - Throws: ``ShapeError`` for a text that ``id`` does not make.
  public init(id: String) throws(ShapeError) {
    let parts = id.split(separator: "/", omittingEmptySubsequences: false)
    guard parts.count == 3, parts[0] == Self.family,
      let type = ElementType(rawValue: String(parts[1]))
    else { throw ShapeError("\"\(id)\" is not attention/<type>/<shape>[-causal]") }
    let suffix = "-causal"
    let isCausal = parts[2].hasSuffix(suffix)
    self.init(
      try AttentionShape(String(isCausal ? parts[2].dropLast(suffix.count) : parts[2])), type,
      isCausal: isCausal)
  }

  /// The workload's name.
  public var id: String {
    "\(Self.family)/\(elementType.rawValue)/\(shape)"
      + (window.map { "-window\($0)" } ?? (isCausal ? "-causal" : ""))
      + (gridSide.map { "-grid\($0)x\($0)" } ?? "")
  }

  /// The problem, contiguous [B, S, H, D] as models have it.
  ///
  /// - Throws: `AttentionError.invalidArgument` for sizes that no kernel takes.
  public func request() throws(AttentionError) -> AttentionRequest {
    var scores = AttentionScores()
    scores.gridWidth = gridSide ?? 0
    scores.gridHeight = gridSide ?? 0
    return try AttentionRequest(
      batchSize: shape.batchSize, queryTokens: shape.queryTokens, keyTokens: shape.keyTokens,
      queryHeads: shape.queryHeads, keyHeads: shape.keyHeads, headSize: shape.headSize,
      valueHeadSize: shape.valueHeadSize, elementType: elementType,
      mask: window.map { .window(left: $0 - 1) } ?? (isCausal ? .causal : .none),
      scores: scores, operands: gridSide == nil ? [] : [AttentionOperand(.gridBias)])
  }

  /// What is timed where nothing else is asked: prefill of a model with eight heads.
  public static let standard: [AttentionWorkload] = workloads(
    tokens: [512, 1024, 2048], headSizes: [64, 128], elementTypes: ElementType.allCases)

  /// A few of them, for a first look.
  public static let quick: [AttentionWorkload] = workloads(
    tokens: [1024], headSizes: [64, 128], elementTypes: ElementType.allCases)

  private static func workloads(
    tokens: [Int], headSizes: [Int], elementTypes: [ElementType]
  ) -> [AttentionWorkload] {
    elementTypes.flatMap { type in
      headSizes.flatMap { headSize in
        tokens.flatMap { tokens in
          [false, true].map { isCausal in
            AttentionWorkload(
              AttentionShape(queryTokens: tokens, queryHeads: 8, headSize: headSize), type,
              isCausal: isCausal)
          }
        }
      }
    }
  }
}
