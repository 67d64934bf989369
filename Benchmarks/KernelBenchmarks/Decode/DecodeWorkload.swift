import VulkanAttention

/// One decode step to be timed, known by its id: `decode/f16/B1-S1-T4096-H32-G8-D64-E64`.
public struct DecodeWorkload: Sendable, Hashable {
  /// How a batch is cut into work items.
  public enum Cut: String, Sendable, Hashable {
    /// As the plan likes.
    case lean = ""
    /// Each key head of each sequence in one piece.
    case oneSplit = "-one-split-per-head"
  }

  /// The sizes; T is the longest sequence.
  public var shape: AttentionShape
  /// [B]: the keys of each sequence.
  public var lengths: [Int]
  /// The type of queries and outputs.
  public var elementType: ElementType
  /// The format of keys and values.
  public var format: CacheFormat
  /// Keys of a page; nil for a contiguous cache.
  public var pageSize: Int?
  /// The keys that a query sees, its own included (a sliding window); nil for all of them.
  public var window: Int?
  /// Whether values are the first E channels of keys (latent attention).
  public var valuesAreKeys = false
  /// How the work is cut.
  public var cut = Cut.lean
  /// What the id says of the lengths.
  public var mix = ""

  /// The name of the kernel family, as in ids.
  public static let family = "decode"

  /// A batch of sequences of one length, or of lengths of their own up to the shape's T.
  public init(
    _ shape: AttentionShape, _ elementType: ElementType, format: CacheFormat? = nil,
    lengths: [Int]? = nil
  ) {
    self.shape = shape
    self.lengths = lengths ?? Array(repeating: shape.keyTokens, count: shape.batchSize)
    self.elementType = elementType
    self.format = format ?? .element(elementType)
  }

  /// The workload's name.
  public var id: String {
    "\(Self.family)/\(elementType.rawValue)/\(shape)"
      + (format == .element(elementType) ? "" : "-\(format)")
      + (valuesAreKeys ? "-latent" : "") + (window.map { "-window\($0)" } ?? "")
      + (pageSize.map { "-page\($0)" } ?? "")
      + mix + cut.rawValue
  }

  /// The same problem as tiled attention has it, for peers; nil for what they have not.
  public var attention: AttentionWorkload? {
    guard let type = format.elementType, Set(lengths).count == 1, !valuesAreKeys, window == nil,
      shape.queryTokens == 1
    else { return nil }
    return AttentionWorkload(shape, type)
  }

  /// The problem, with its cache.
  ///
  /// - Throws: `AttentionError.invalidArgument` for sizes that no kernel takes.
  public func request() throws(AttentionError) -> DecodeRequest {
    func cache(_ channels: Int) throws(AttentionError) -> CacheTensor {
      let arrangement: CacheArrangement =
        if let pageSize {
          .paged(pages: pageCount(pageSize), pageSize: pageSize)
        } else {
          .contiguous(sequences: shape.batchSize, capacity: shape.keyTokens)
        }
      return try CacheTensor(format, arrangement, heads: shape.keyHeads, channels: channels)
    }
    return try DecodeRequest(
      batchSize: shape.batchSize, queryTokens: shape.queryTokens, queryHeads: shape.queryHeads,
      keyCache: cache(shape.headSize),
      valueCache: valuesAreKeys ? nil : cache(shape.valueHeadSize),
      valueHeadSize: shape.valueHeadSize, maxKeyTokens: shape.keyTokens, elementType: elementType,
      mask: window.map { .window(left: $0 - 1) } ?? .causal)
  }

  private func pageCount(_ pageSize: Int) -> Int {
    lengths.reduce(0) { $0 + ($1 + pageSize - 1) / pageSize }
  }

  /// Pages one behind the other, from the last to the first.
  func pages() throws(AttentionError) -> CachePageTable? {
    guard let pageSize else { return nil }
    let counts = lengths.map { ($0 + pageSize - 1) / pageSize }
    let count = pageCount(pageSize)
    return try CachePageTable(
      pageSize: pageSize, pageCount: count,
      indptr: counts.reduce(into: [0]) { $0.append(($0.last ?? 0) + Int32($1)) },
      indices: (0..<Int32(count)).reversed(),
      lastPageLengths: zip(lengths, counts).map { Int32($0 - max(0, $1 - 1) * pageSize) })
  }

  /// What is timed where nothing else is asked: a token of a model with 32 query and 8 key heads over
  /// 4096 and 16384 keys in several formats; a ragged batch, an equal one of the same total, the
  /// ragged one without lean cuts, and one long sequence among short ones with and without them.
  public static let standard: [DecodeWorkload] =
    [4096, 16384].flatMap { tokens in
      [64, 128].flatMap { size in
        let shape = llama(tokens, size)
        return [
          DecodeWorkload(shape, .f16), DecodeWorkload(shape, .f32), DecodeWorkload(shape, .bf16),
          DecodeWorkload(shape, .f16, format: .int8(groupSize: size, scaleType: .f16)),
          DecodeWorkload(shape, .f16, format: .q8), DecodeWorkload(shape, .f16, format: .q4),
          DecodeWorkload(shape, .f16, format: .q4WithMinimum),
        ]
      }
    } + ragged

  /// A few of them, for a first look.
  public static let quick: [DecodeWorkload] = [64, 128].flatMap { size in
    [
      DecodeWorkload(llama(4096, size), .f16),
      DecodeWorkload(
        llama(4096, size), .f16, format: .int8(groupSize: size, scaleType: .f16)),
    ]
  }

  private static func llama(_ tokens: Int, _ size: Int) -> AttentionShape {
    AttentionShape(queryTokens: 1, keyTokens: tokens, queryHeads: 32, keyHeads: 8, headSize: size)
  }

  private static let ragged: [DecodeWorkload] = {
    let lengths = [65536, 1024, 2048, 4096, 8192, 16384, 32768, 1024]
    func batch(_ lengths: [Int], _ mix: String, _ cut: Cut) -> DecodeWorkload {
      var workload = DecodeWorkload(
        AttentionShape(
          batchSize: lengths.count, queryTokens: 1, keyTokens: lengths.max() ?? 0, queryHeads: 4,
          keyHeads: 1, headSize: 64), .f16, lengths: lengths)
      workload.mix = mix
      workload.cut = cut
      // Room for each sequence's own keys alone.
      workload.pageSize = 64
      return workload
    }
    let total = lengths.reduce(0, +)
    // The longest of the lengths above is half of them all, which leaves two cores nothing to gain by cuts; here they
    // gain 64 / (71 / 2) = 1.8 at most.
    let oneLong = Array(repeating: 1024, count: 7) + [65536]
    return [
      batch(lengths, "-ragged", .lean),
      batch(Array(repeating: total / lengths.count, count: lengths.count), "-equal", .lean),
      batch(lengths, "-ragged", .oneSplit),
      batch(oneLong, "-one-long", .lean),
      batch(oneLong, "-one-long", .oneSplit),
    ]
  }()
}
