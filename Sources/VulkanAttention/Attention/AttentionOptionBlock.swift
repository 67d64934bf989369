/// The block of options in scratch memory, byte for byte as `OptionBlock` in `attention_option_block.glsl`; a
/// test compares the sizes.
struct AttentionOptionBlock {
  /// Tensors of the block.
  static let tensorCount = 29
  /// Bytes of one tensor's entry.
  private static let tensorByteCount = 24
  /// Bytes of the scalars behind the tensors.
  private static let scalarByteCount = 104
  /// Bytes of the block; addresses of key sources follow.
  static let byteCount = tensorCount * tensorByteCount + scalarByteCount
  /// Bytes of one key source's addresses.
  static let sourceByteCount = 16
  /// The slot of the Transformer-XL term, which a kernel of its own computes.
  static let relativeTermSlot = 18
  /// The slot of the key sources.
  static let keySourcesSlot = 27

  /// What one piece of an attention that is cut along its keys does.
  struct KeyRange {
    var keys: Range<Int>
    var firstRow: Int
    var rowCount: Int
    var carryAddress: UInt64
  }

  private var bytes: [UInt8] = []

  /// The block's contents.
  ///
  /// - Parameters:
  ///   - operands: those of the request, where the shader reads them.
  ///   - keySources: of a request that has them.
  ///   - scratch: the address of the scratch memory.
  ///   - range: what a piece does that is cut along the keys.
  ///   - custom: the block of a user's modifications, which follows.
  ///   - customOffset: where it lies instead, in bytes from this block.
  static func bytes(
    _ request: AttentionRequest, operands: [AttentionOperand.Kind: DeviceBuffer],
    keySources: [AttentionKeySource] = [], layout: AttentionScratch? = nil, scratch: UInt64 = 0,
    range: KeyRange? = nil, custom: [UInt8] = [], customOffset: Int? = nil
  ) -> [UInt8] {
    var block = AttentionOptionBlock()
    var entries = [(address: UInt64, layout: OperandLayout?)](
      repeating: (0, nil), count: tensorCount)
    for operand in request.operands {
      guard let slot = operand.kind.slot, let buffer = operands[operand.kind] else { continue }
      entries[slot] = (buffer.address, request.layout(of: operand))
    }
    if let term = layout?.relativeTerm {
      entries[relativeTermSlot] = (scratch + UInt64(term.lowerBound), request.relativeTermLayout)
    }
    if let sources = layout?.keySources {
      entries[keySourcesSlot] = (scratch + UInt64(sources.lowerBound), nil)
    }
    for entry in entries {
      block.append(entry.address)
      for stride in [
        entry.layout?.batchStride ?? 0, entry.layout?.headStride ?? 0,
        entry.layout?.tokenStride ?? 0, 0,
      ] { block.append(UInt32(stride)) }
    }
    let mask = request.mask
    let scores = request.scores
    let log2e: Float = 1.442_695_040_888_963_4
    for scalar in [
      mask.causalBlock, mask.prefixTokens, mask.windowLeft ?? -1, mask.windowRight ?? -1,
      mask.chunkSize ?? 1, mask.sinkTokens, scores.treeTokens, scores.seesOtherSegments ? 1 : 0,
      scores.relativeLeft, scores.relativeRight, scores.gridHeight, scores.gridWidth,
      request.packedSequences?.queryTokens ?? 0, request.packedSequences?.keyTokens ?? 0,
      range?.keys.lowerBound ?? 0, range?.keys.upperBound ?? Int(Int32.max),
      (range?.keys.lowerBound ?? 0) > 0 ? 1 : 0, range?.firstRow ?? 0, range?.rowCount ?? 0,
    ] { block.append(Int32(clamping: scalar)) }
    block.append((scores.softcap * log2e).bitPattern)
    if case .sigmoid(let bias) = scores.normalizer {
      block.append((bias * log2e).bitPattern)
    } else {
      block.append(UInt32(0))
    }
    for scalar in [
      mask.blockMapRows.trailingZeroBitCount, mask.blockMapKeys.trailingZeroBitCount,
      customOffset ?? layout?.customBlock?.lowerBound ?? 0,
    ] { block.append(Int32(scalar)) }
    block.append(range?.carryAddress ?? 0)
    if layout?.keySources != nil {
      for source in keySources {
        block.append(source.key.address)
        block.append(request.valuesAreKeys ? source.key.address : source.value.address)
      }
    }
    return block.bytes + custom
  }

  private mutating func append<Value: FixedWidthInteger>(_ value: Value) {
    withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
  }
}

/// Where the parts of the scratch memory lie, in bytes from its start.
struct AttentionScratch: Sendable, Hashable {
  /// Parts begin at multiples of this.
  private static let alignment = 256

  /// The block of options with the addresses of key sources.
  let optionBlock: Range<Int>?
  /// The addresses of key sources, inside of ``optionBlock``.
  let keySources: Range<Int>?
  /// The block of a user's modifications, behind the key sources in ``optionBlock``.
  let customBlock: Range<Int>?
  /// The Transformer-XL term of every row and distance, f32.
  let relativeTerm: Range<Int>?
  /// What pieces along the keys leave for the next.
  let carry: Range<Int>?
  /// Packed keys.
  let packedKeys: Range<Int>?
  /// Packed values.
  let packedValues: Range<Int>?
  /// All of it.
  let byteCount: Int

  init(
    _ request: AttentionRequest, options: AttentionOptionBits, packing: AttentionPacking?,
    carryByteCount: Int, customByteCount: Int = 0
  ) {
    var end = 0
    func take(_ byteCount: Int?) -> Range<Int>? {
      guard let byteCount, byteCount > 0 else { return nil }
      let start = end
      end = (start + byteCount + Self.alignment - 1) / Self.alignment * Self.alignment
      return start..<start + byteCount
    }
    let sources =
      request.hasKeySources ? request.keyHeads * AttentionOptionBlock.sourceByteCount : 0
    let needsBlock = options.needsBlock || customByteCount > 0
    let ownByteCount = AttentionOptionBlock.byteCount + sources
    optionBlock = take(needsBlock ? ownByteCount + customByteCount : nil)
    customBlock = customByteCount > 0 ? ownByteCount..<ownByteCount + customByteCount : nil
    keySources =
      sources > 0
      ? AttentionOptionBlock.byteCount..<AttentionOptionBlock.byteCount + sources : nil
    relativeTerm = take(
      options.contains(.relativeTerm) ? request.relativeTermLayout?.byteCount : nil)
    carry = take(carryByteCount)
    packedKeys = take(packing?.keyByteCount)
    packedValues = take(packing?.valueByteCount)
    byteCount = end
  }
}

extension AttentionRequest {
  /// The Transformer-XL term: f32 [B, S, H, L + 1 + R].
  var relativeTermLayout: OperandLayout? {
    let extent = scores.relativeExtent
    let count = outputRowCount.multipliedReportingOverflow(by: extent)
    let batchStride = packedSequences == nil ? queryTokens * queryHeads * extent : 0
    guard !count.overflow, count.partialValue <= 1 << 40, batchStride <= Int(UInt32.max) else {
      return nil
    }
    return OperandLayout(
      elementCount: count.partialValue, byteCount: count.partialValue * 4,
      batchStride: batchStride, headStride: extent, tokenStride: queryHeads * extent)
  }
}
