/// Where the keys, or values, of many sequences lie.
public struct CacheArrangement: Sendable, Hashable {
  /// Who owns which places.
  public enum Kind: Sendable, Hashable {
    /// `[sequences, capacity]`: key j of a sequence at place j.
    case contiguous
    /// `[sequences, capacity]`: key j at place j mod capacity, where it replaces key j − capacity.
    case ring
    /// `[pages, pageSize]`: key j of a sequence at place j mod pageSize of the sequence's page
    /// ⌊j / pageSize⌋, of which any may belong to any sequence (https://arxiv.org/abs/2309.06180,
    /// https://arxiv.org/abs/2501.01005).
    case paged
  }

  /// The order of the axes in memory.
  public enum Order: String, Sendable, Hashable, CaseIterable {
    /// Token before head: `[…, token, head, channel]`, FlashInfer's NHD.
    case nhd
    /// Head before token: `[…, head, token, channel]`, FlashInfer's HND.
    case hnd
  }

  /// Who owns which places.
  public let kind: Kind
  /// Sequences, or pages.
  public let blockCount: Int
  /// Places of each: the capacity of a sequence, or the size of a page.
  public let blockTokens: Int
  /// The order of the axes.
  public let order: Order

  /// A place of its own for each key of each sequence.
  public static func contiguous(
    sequences: Int, capacity: Int, order: Order = .nhd
  ) -> CacheArrangement {
    CacheArrangement(kind: .contiguous, blockCount: sequences, blockTokens: capacity, order: order)
  }

  /// Places for the last `capacity` keys of each sequence.
  public static func ring(
    sequences: Int, capacity: Int, order: Order = .nhd
  ) -> CacheArrangement {
    CacheArrangement(kind: .ring, blockCount: sequences, blockTokens: capacity, order: order)
  }

  /// A pool of pages.
  public static func paged(
    pages: Int, pageSize: Int, order: Order = .nhd
  ) -> CacheArrangement {
    CacheArrangement(kind: .paged, blockCount: pages, blockTokens: pageSize, order: order)
  }
}

/// The keys, or the values, of a cache: their format and where they lie.
///
/// Letters: G heads, C channels. The axes are `[block, token, head, channel]`, a block being a sequence or
/// a page (``CacheArrangement``).
public struct CacheTensor: Sendable, Hashable {
  /// How the numbers are stored.
  public let format: CacheFormat
  /// Whose they are.
  public let arrangement: CacheArrangement
  /// G.
  public let heads: Int
  /// C.
  public let channels: Int
  /// How far apart rows lie, in channels; `batch` from block to block.
  public let strides: TensorStrides
  /// How far apart the rows of scales lie, in scales, where the format has them beside the numbers.
  public let scaleStrides: TensorStrides

  /// States a tensor; everything that no kernel could read is refused here.
  ///
  /// - Parameters:
  ///   - format: how the numbers are stored.
  ///   - arrangement: whose they are.
  ///   - heads: G, 1 or more.
  ///   - channels: C, from 1 to 576; a multiple of the format's block and of its group.
  ///   - strides: contiguous in the arrangement's order by default.
  ///   - scaleStrides: likewise, for scales.
  /// - Throws: `AttentionError.invalidArgument` or `tooLarge`.
  public init(
    _ format: CacheFormat, _ arrangement: CacheArrangement, heads: Int, channels: Int,
    strides: TensorStrides? = nil, scaleStrides: TensorStrides? = nil
  ) throws(AttentionError) {
    let extents = 1...AttentionMask.largestExtent
    try checkRange(
      arrangement.kind == .paged ? "pages" : "sequences", arrangement.blockCount, extents)
    try checkRange(
      arrangement.kind == .paged ? "pageSize" : "capacity", arrangement.blockTokens, extents)
    try checkRange("heads", heads, extents)
    try checkRange("channels", channels, AttentionRequest.headSizes)
    let block = format.blockChannels
    guard channels % block == 0 else {
      throw .invalidArgument(
        name: "channels", value: "\(channels)", allowed: "multiples of \(block) for \(format)")
    }
    if let group = format.scaleGroup {
      // A kernel applies a scale to whole fours of channels.
      guard group >= 1, channels % group == 0, group % 8 == 0 || group == channels else {
        throw .invalidArgument(
          name: "format", value: "\(format)",
          allowed: "groups of a multiple of 8 that divides \(channels) channels, or of all of them")
      }
    }
    func contiguous(_ channels: Int) -> TensorStrides {
      switch arrangement.order {
      case .nhd:
        .tokenMajor(tokens: arrangement.blockTokens, heads: heads, channels: channels)
      case .hnd:
        .headMajor(tokens: arrangement.blockTokens, heads: heads, channels: channels)
      }
    }
    self.format = format
    self.arrangement = arrangement
    self.heads = heads
    self.channels = channels
    self.strides = strides ?? contiguous(channels)
    let scales = format.scaleGroup.map { channels / $0 } ?? 0
    self.scaleStrides = scaleStrides ?? contiguous(scales)
    try view(self.strides, channels, "cache").check(areStridesGiven: strides != nil)
    try view(self.strides, channels, "cache").checkRowsAreApart()
    if scales == 0, scaleStrides != nil {
      throw .invalidArgument(
        name: "scaleStrides", value: "given", allowed: "none: \(format) has no scales apart")
    }
    if scales > 0 {
      try view(self.scaleStrides, scales, "scales").check(areStridesGiven: scaleStrides != nil)
      try view(self.scaleStrides, scales, "scales").checkRowsAreApart()
    }
    for (name, stride, extent) in [
      ("batch", self.strides.batch, arrangement.blockCount),
      ("token", self.strides.token, arrangement.blockTokens), ("head", self.strides.head, heads),
    ] where extent > 1 && stride % block != 0 {
      throw .invalidArgument(
        name: "cacheStrides.\(name)", value: "\(stride)",
        allowed: "multiples of \(block) channels for \(format)")
    }
  }

  /// The bytes up to the end of the last row.
  public var byteCount: Int {
    // `init` has checked that this does not overflow.
    format.byteCount(channels: view(strides, channels, "").elementCount ?? 0)
  }

  /// Scales of a row; 0 where the format has none beside the numbers.
  public var scalesPerRow: Int { format.scaleGroup.map { channels / $0 } ?? 0 }

  /// The bytes of the scales, 0 where the format has none beside the numbers.
  public var scaleByteCount: Int {
    guard let type = format.scaleType else { return 0 }
    return (view(scaleStrides, scalesPerRow, "").elementCount ?? 0) * type.byteCount
  }

  /// The bytes of one row with its scales: what a kernel must read of each key.
  public var rowByteCount: Int {
    format.byteCount(channels: channels) + scalesPerRow * (format.scaleType?.byteCount ?? 0)
  }

  /// Whether rows of plain elements or bytes begin at multiples of 16 bytes, in whole sixteens of bytes.
  var isAligned: Bool { format.blockChannels <= 2 && rowAlignment == 16 }

  private func view(_ strides: TensorStrides, _ channels: Int, _ name: String) -> TensorView {
    TensorView(
      name: name, strides: strides, batch: arrangement.blockCount,
      tokens: arrangement.blockTokens, heads: heads, channels: channels)
  }
}
