/// Where the parts of a step's working memory lie, in bytes from its start: the block of options, the block of
/// the step behind it, lengths, page list and work list, which the host writes, and the partial results.
struct DecodeWorkspaceLayout: Sendable, Hashable {
  private static let alignment = 256

  let block: Range<Int>
  let lengths: Range<Int>
  let pageStarts: Range<Int>
  let pageIndices: Range<Int>
  let segments: Range<Int>
  let groupStarts: Range<Int>
  let merges: Range<Int>
  /// What the host writes.
  let uploadByteCount: Int
  let partials: Range<Int>
  let byteCount: Int

  init(_ plan: DecodePlan, _ schedule: LeanSchedule, pageIndexCount: Int) {
    self.init(
      plan, segmentCount: schedule.segmentCount, groupCount: schedule.groupCount,
      mergeCount: schedule.mergeCount, slotCount: schedule.partialCount,
      pageIndexCount: pageIndexCount)
  }

  init(
    _ plan: DecodePlan, segmentCount: Int, groupCount: Int, mergeCount: Int, slotCount: Int,
    pageIndexCount: Int
  ) {
    var end = 0
    func take(_ byteCount: Int, alignment: Int = 16) -> Range<Int> {
      let start = (end + alignment - 1) / alignment * alignment
      end = start + byteCount
      return start..<end
    }
    let isPaged = plan.request.keyCache.arrangement.kind == .paged
    let batch = plan.request.attention.batchSize
    block = take(DecodeBlock.byteCount + plan.customByteCount)
    lengths = take(batch * 4)
    pageStarts = take(isPaged ? (batch + 1) * 4 : 0)
    pageIndices = take(isPaged ? pageIndexCount * 4 : 0)
    segments = take(segmentCount * 16)
    groupStarts = take((groupCount + 1) * 4)
    merges = take(mergeCount * 16)
    uploadByteCount = (end + 15) / 16 * 16
    end = uploadByteCount
    partials = take(slotCount * plan.slotByteCount, alignment: Self.alignment)
    byteCount = end
  }
}

/// What the host writes of a step's working memory, with the block of the step byte for byte as `DecodeBlock`
/// in `Shaders/Decode/decode_interface.glsl`; a test compares the sizes.
struct DecodeBlock {
  /// Addresses, strides and counts behind the block of options.
  private static let ownByteCount = 7 * 8 + 12 * 8 + 10 * 4
  /// The block of options and the block of the step.
  static let byteCount = AttentionOptionBlock.byteCount + ownByteCount

  private var bytes: [UInt8] = []

  /// All that is uploaded.
  ///
  /// - Parameters:
  ///   - operands: those of the request, where the shader reads them; `keyLengths` among them.
  ///   - workspace: the address of the working memory.
  ///   - pageStarts: the address of the page list's starts, 0 for none.
  ///   - custom: the block of a user's modifications, behind the step's own.
  static func bytes(
    _ plan: DecodePlan, _ schedule: LeanSchedule, layout: DecodeWorkspaceLayout,
    operands: [AttentionOperand.Kind: DeviceBuffer], pages: CachePageTable?,
    pageStarts: UInt64, pageIndices: UInt64, pageIndexCount: Int, rotations: UInt64,
    workspace: UInt64, custom: [UInt8] = []
  ) -> [UInt8] {
    let request = plan.request
    var block = DecodeBlock()
    block.bytes.reserveCapacity(layout.uploadByteCount)
    block.bytes += AttentionOptionBlock.bytes(
      request.attention, operands: operands, customOffset: byteCount)
    func address(_ range: Range<Int>) -> UInt64 { workspace + UInt64(range.lowerBound) }
    for address in [
      address(layout.segments), address(layout.groupStarts), address(layout.merges),
      address(layout.partials), pageStarts, pageIndices, rotations,
    ] { block.append(address) }
    let caches = [request.keyCache, request.valueCache]
    for strides in caches.map(\.byteStrides) + caches.map(\.scaleByteStrides) {
      for stride in [strides.batch, strides.token, strides.head] { block.append(UInt64(stride)) }
    }
    let arrangement = request.keyCache.arrangement
    for count in [
      request.keyCache.heads, plan.rowTiles, plan.tile.rows, plan.tile.keys, schedule.groupCount,
      schedule.mergeCount, arrangement.blockTokens, arrangement.blockCount, pageIndexCount, 0,
    ] { block.append(UInt32(clamping: count)) }
    block.bytes += custom

    block.append(at: layout.lengths, schedule.sequences.map(\.endKey))
    if let pages {
      block.append(at: layout.pageStarts, pages.indptr)
      block.append(at: layout.pageIndices, pages.indices)
    }
    block.append(at: layout.segments, schedule.segmentWords)
    block.append(at: layout.groupStarts, schedule.groupStarts)
    block.append(at: layout.merges, schedule.mergeWords)
    block.pad(to: layout.uploadByteCount)
    return block.bytes
  }

  private mutating func append<Value: FixedWidthInteger>(_ value: Value) {
    withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
  }

  private mutating func pad(to count: Int) {
    bytes.append(contentsOf: repeatElement(0, count: max(0, count - bytes.count)))
  }

  private mutating func append(at range: Range<Int>, _ words: some RandomAccessCollection) {
    if range.isEmpty { return }
    pad(to: range.lowerBound)
    let isContiguous: Void? = words.withContiguousStorageIfAvailable {
      bytes.append(contentsOf: UnsafeRawBufferPointer($0))
    }
    assert(isContiguous != nil, "arrays are contiguous")
  }
}

/// The push constants of the decode kernels, field for field as `DecodePush` in
/// `Shaders/Attention/attention_interface.glsl`; a test compares the two.
struct DecodePushConstants: BitwiseCopyable {
  var q: UInt64
  var k: UInt64
  var v: UInt64
  var o: UInt64
  var lse: UInt64
  var options: UInt64
  var keyScales: UInt64
  var valueScales: UInt64
  var qBatchStride: UInt32
  var qTokenStride: UInt32
  var qHeadStride: UInt32
  var oBatchStride: UInt32
  var oTokenStride: UInt32
  var oHeadStride: UInt32
  var queryTokens: UInt32
  var keyTokens: UInt32
  var queryHeads: UInt32
  var headsPerGroup: UInt32
  var scale: Float
  var firstGroup: UInt32

  init(_ request: DecodeRequest, _ buffers: DecodeBuffers, block: UInt64, firstGroup: Int) {
    let attention = request.attention
    let isLatent = attention.valuesAreKeys
    q = buffers.query.address
    k = buffers.keyCache.address
    v = isLatent ? k : buffers.valueCache?.address ?? 0
    o = buffers.output.address
    lse = attention.returnsLogSumExp ? buffers.logSumExp?.address ?? 0 : 0
    options = block
    keyScales = buffers.keyScales?.address ?? 0
    valueScales = isLatent ? keyScales : buffers.valueScales?.address ?? 0
    let query = attention.queryStrides
    let output = attention.outputStrides
    // Strides along an axis of extent 1 are not checked and not used.
    (qBatchStride, qTokenStride, qHeadStride) = (
      UInt32(clamping: query.batch), UInt32(clamping: query.token), UInt32(clamping: query.head)
    )
    (oBatchStride, oTokenStride, oHeadStride) = (
      UInt32(clamping: output.batch), UInt32(clamping: output.token),
      UInt32(clamping: output.head)
    )
    queryTokens = UInt32(attention.queryTokens)
    keyTokens = UInt32(attention.keyTokens)
    queryHeads = UInt32(attention.queryHeads)
    headsPerGroup = UInt32(attention.headsPerGroup)
    scale = attention.scale
    self.firstGroup = UInt32(firstGroup)
  }
}
