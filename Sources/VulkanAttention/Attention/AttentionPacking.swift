internal import ShaderLibrary

/// Keys and values copied into blocks of f32 before the row path reads them.
///
/// A token-major tensor puts the tokens of one head far apart, often by a power of two, and then few
/// cache sets must hold them all; and f16 would be converted once per reading. Packed, a block is one
/// sequential piece in the order in which it is read (`Shaders/Attention/attention_pack.comp`).
struct AttentionPacking: Sendable, Hashable {
  /// One packed tensor, f32 [batch, head, block, octet of channels, token of the block, 8].
  struct Tensor: Sendable, Hashable {
    /// Channels of a token in the source; packed they are padded with zeros to whole octets.
    let channels: Int
    /// Batch entries: one where all share the tensor, and of packed sequences.
    let batches: Int
    let heads: Int
    /// Blocks of one head.
    let blocks: Int
    /// Elements from one head to the next.
    let headStride: Int

    var octets: Int { ceilingDivide(channels, 8) }
    var byteCount: Int { batches * heads * headStride * 4 }
    /// Where a batch entry and head begin; inside, the shader knows the order.
    var strides: TensorStrides {
      TensorStrides(batch: batches == 1 ? 0 : heads * headStride, token: 0, head: headStride)
    }

    /// Nil where the shaders' 32-bit numbers do not reach.
    init?(
      _ request: AttentionRequest, channels: Int, strides: TensorStrides, keysPerBlock: Int
    ) {
      blocks =
        request.packedSequences.map {
          // Each sequence begins at a block of its own.
          $0.keyTokens / keysPerBlock + request.batchSize
        } ?? ceilingDivide(request.keyTokens, keysPerBlock)
      self.channels = channels
      heads = request.keyHeads
      batches = request.packedSequences != nil || strides.batch == 0 ? 1 : request.batchSize
      headStride = blocks * keysPerBlock * ceilingDivide(channels, 8) * 8
      let largest = headStride.multipliedReportingOverflow(by: heads)
      guard request.keyTokens > 0, !largest.overflow,
        largest.partialValue <= Int(UInt32.max) / 8
      else { return nil }
    }
  }

  /// Tokens of one block; the last one of a head or sequence is padded with zeros.
  let keysPerBlock: Int
  let key: Tensor
  /// Nil where values are keys.
  let value: Tensor?

  static let shaderName = "attention_pack"
  static let workgroupSize = 64

  var keyByteCount: Int { key.byteCount }
  var valueByteCount: Int { value?.byteCount ?? 0 }
  var byteCount: Int { keyByteCount + valueByteCount }

  /// Sizes for a request; nil where the shaders' 32-bit numbers do not reach.
  init?(_ request: AttentionRequest, keysPerBlock: Int) {
    guard
      let key = Tensor(
        request, channels: request.headSize, strides: request.keyStrides,
        keysPerBlock: keysPerBlock),
      let value = Tensor(
        request, channels: request.valueHeadSize, strides: request.valueStrides,
        keysPerBlock: keysPerBlock)
    else { return nil }
    self.keysPerBlock = keysPerBlock
    self.key = key
    self.value = request.valuesAreKeys ? nil : value
  }

  /// The pipeline that packs a tensor of a type.
  func pipelineDescription(
    _ tensor: Tensor, _ type: ElementType, _ request: AttentionRequest
  ) throws(AttentionError) -> PipelineDescription {
    guard let shader = ShaderBinary.named(Self.shaderName) else {
      throw .pathUnavailable(
        path: .row, reason: "this build has no shader \(Self.shaderName)")
    }
    return PipelineDescription(
      shader: shader,
      constants: [
        "local_size_x": UInt32(Self.workgroupSize), "CHANNELS": UInt32(tensor.channels),
        "ELEMENT_TYPE": type.shaderConstant, "KEYS_PER_BLOCK": UInt32(keysPerBlock),
        "ALIGNED": request.isAligned ? 1 : 0,
        "PACKED_SEQUENCES": request.packedSequences == nil ? 0 : 1,
        "KEY_SOURCES": request.hasKeySources ? 1 : 0,
      ])
  }

  /// One dispatch that packs a part of a tensor.
  struct Dispatch {
    let groups: Range<Int>
    let batches: Range<Int>
  }

  /// The dispatches that pack every token, within the device's limits along x and z.
  func dispatches(
    _ tensor: Tensor, _ request: AttentionRequest, groupLimits: [Int]
  ) -> [Dispatch] {
    // The bound of a packed sequence's length may be above all tokens together.
    let longest = min(request.keyTokens, request.packedSequences?.keyTokens ?? request.keyTokens)
    let tokens = ceilingDivide(longest, keysPerBlock) * keysPerBlock
    let groups = ceilingDivide(tokens * tensor.heads * tensor.octets, Self.workgroupSize)
    let batches = request.packedSequences == nil ? tensor.batches : request.batchSize
    return PieceCutter.portions(of: batches, atMost: groupLimits[2]).flatMap { batches in
      PieceCutter.portions(of: groups, atMost: groupLimits[0]).map { groups in
        Dispatch(groups: groups, batches: batches)
      }
    }
  }
}

/// The push constants of `attention_pack.comp`, field for field; a test compares the two.
struct AttentionPackPushConstants: BitwiseCopyable {
  var source: UInt64
  var destination: UInt64
  var starts: UInt64
  var batchStride: UInt32
  var tokenStride: UInt32
  var headStride: UInt32
  var tokens: UInt32
  var totalTokens: UInt32
  var heads: UInt32
  var blocks: UInt32
  var firstGroup: UInt32
  var firstBatch: UInt32
  var reserved: UInt32 = 0

  /// - Parameters:
  ///   - source: the address of the tensor, or of the first head's address.
  ///   - starts: the address of the sequences' starts, 0 where none are packed.
  init(
    _ request: AttentionRequest, _ tensor: AttentionPacking.Tensor, source: UInt64, starts: UInt64,
    strides: TensorStrides, destination: UInt64, dispatch: AttentionPacking.Dispatch
  ) {
    self.source = source
    self.destination = destination
    self.starts = starts
    batchStride = request.packedSequences == nil ? UInt32(clamping: strides.batch) : 0
    tokenStride = UInt32(clamping: strides.token)
    headStride = request.hasKeySources ? 0 : UInt32(clamping: strides.head)
    tokens = UInt32(request.keyTokens)
    totalTokens = UInt32(request.packedSequences?.keyTokens ?? 0)
    heads = UInt32(request.keyHeads)
    blocks = UInt32(tensor.blocks)
    firstGroup = UInt32(dispatch.groups.lowerBound)
    firstBatch = UInt32(dispatch.batches.lowerBound)
  }
}
