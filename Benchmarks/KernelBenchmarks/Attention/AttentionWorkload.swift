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

  /// Documents that see only themselves; nil for one.
  public var documents: DocumentMask?

  /// A dense byte mask that lets each of some documents of equal length see itself.
  public struct DocumentMask: Sendable, Hashable {
    /// The documents.
    public var count: Int
    /// Whether a block map of the mask goes with it.
    public var hasBlockMap: Bool

    /// By its parts.
    public init(count: Int, hasBlockMap: Bool) {
      self.count = count
      self.hasBlockMap = hasBlockMap
    }
  }

  /// The name of the kernel family, as in ids.
  public static let family = "attention"

  /// A workload by its parts.
  public init(
    _ shape: AttentionShape, _ elementType: ElementType, isCausal: Bool = false,
    window: Int? = nil, gridSide: Int? = nil, documents: DocumentMask? = nil
  ) {
    self.shape = shape
    self.elementType = elementType
    self.isCausal = isCausal || window != nil
    self.window = window
    self.gridSide = gridSide
    self.documents = documents
  }

  /// Whether a peer can be asked for the same: no window, no bias, no documents.
  public var isPlain: Bool { window == nil && gridSide == nil && documents == nil }

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
      + (documents.map { "-documents\($0.count)-\($0.hasBlockMap ? "blocks" : "mask")" } ?? "")
  }

  /// The problem, contiguous [B, S, H, D] as models have it.
  ///
  /// - Throws: `AttentionError.invalidArgument` for sizes that no kernel takes.
  public func request() throws(AttentionError) -> AttentionRequest {
    var scores = AttentionScores()
    scores.gridWidth = gridSide ?? 0
    scores.gridHeight = gridSide ?? 0
    var operands: [AttentionOperand] = gridSide == nil ? [] : [AttentionOperand(.gridBias)]
    if let documents {
      operands.append(AttentionOperand(.mask, shared: [.batch, .heads]))
      if documents.hasBlockMap {
        operands.append(AttentionOperand(.blockMap, shared: [.batch, .heads]))
      }
    }
    var mask: AttentionMask = window.map { .window(left: $0 - 1) } ?? (isCausal ? .causal : .none)
    // As `bench custom` has them.
    if documents?.hasBlockMap == true { (mask.blockMapRows, mask.blockMapKeys) = (64, 64) }
    return try AttentionRequest(
      batchSize: shape.batchSize, queryTokens: shape.queryTokens, keyTokens: shape.keyTokens,
      queryHeads: shape.queryHeads, keyHeads: shape.keyHeads, headSize: shape.headSize,
      valueHeadSize: shape.valueHeadSize, elementType: elementType, mask: mask,
      scores: scores, operands: operands)
  }

  /// The inputs, the same in every run. A block map asks the mask everywhere: it has yet to be computed.
  func inputs(for request: AttentionRequest) -> AttentionInputs {
    var inputs = AttentionInputs.random(for: request, seed: shape.description)
    if let documents {
      func document(_ token: Int, of tokens: Int) -> Int { token * documents.count / tokens }
      inputs.operands[.mask] = (0..<shape.queryTokens).flatMap { query in
        (0..<shape.keyTokens).map { key in
          let isSame =
            document(query, of: shape.queryTokens) == document(key, of: shape.keyTokens)
          return isSame ? 1 : 0
        }
      }
      if documents.hasBlockMap {
        let count = request.byteCount(of: .blockMap) / 4
        inputs.operands[.blockMap] = memory([Int32](repeating: 1, count: count))
      }
    }
    return inputs
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
