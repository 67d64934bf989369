internal import ShaderLibrary

/// Keys and values copied into blocks of f32 before the row path reads them.
///
/// A token-major tensor puts the tokens of one head far apart, often by a power of two, and then few
/// cache sets must hold them all; and f16 would be converted once per reading. Packed, a block is one
/// sequential piece in the order in which it is read (`Shaders/Attention/attention_pack.comp`).
struct AttentionPacking: Sendable, Hashable {
  /// Tokens of one block; the last one of a head is padded with zeros.
  let keysPerBlock: Int
  /// Bytes of the packed keys, which come first.
  let keyByteCount: Int
  /// Bytes of the packed values behind them.
  let valueByteCount: Int
  /// Batch entries of the packed keys: one where all entries share their keys.
  let keyBatches: Int
  /// Batch entries of the packed values.
  let valueBatches: Int
  /// Elements from one head's packed keys to the next.
  let keyHeadStride: Int
  /// Elements from one head's packed values to the next.
  let valueHeadStride: Int

  static let shaderName = "attention_pack"
  static let workgroupSize = 64

  var byteCount: Int { keyByteCount + valueByteCount }

  /// Sizes for a request; nil where the shaders' 32-bit numbers do not reach.
  init?(_ request: AttentionRequest, keysPerBlock: Int) {
    let tokens = ceilingDivide(request.keyTokens, keysPerBlock) * keysPerBlock
    let keyHeadStride = tokens * request.headSize
    let valueHeadStride = tokens * request.valueHeadSize
    let largest = max(keyHeadStride, valueHeadStride).multipliedReportingOverflow(
      by: request.keyHeads)
    guard tokens > 0, !largest.overflow, largest.partialValue <= Int(UInt32.max) / 8 else {
      return nil
    }
    self.keysPerBlock = keysPerBlock
    self.keyHeadStride = keyHeadStride
    self.valueHeadStride = valueHeadStride
    keyBatches = request.keyStrides.batch == 0 ? 1 : request.batchSize
    valueBatches = request.valueStrides.batch == 0 ? 1 : request.batchSize
    keyByteCount = keyBatches * request.keyHeads * keyHeadStride * 4
    valueByteCount = valueBatches * request.keyHeads * valueHeadStride * 4
  }

  /// Where the packed keys of a batch entry and head begin; inside, the shader knows the order.
  func keyStrides(_ request: AttentionRequest) -> TensorStrides {
    TensorStrides(
      batch: keyBatches == 1 ? 0 : request.keyHeads * keyHeadStride, token: request.headSize,
      head: keyHeadStride)
  }

  /// Where the packed values of a batch entry and head begin.
  func valueStrides(_ request: AttentionRequest) -> TensorStrides {
    TensorStrides(
      batch: valueBatches == 1 ? 0 : request.keyHeads * valueHeadStride,
      token: request.valueHeadSize, head: valueHeadStride)
  }

  /// The pipeline that packs rows of so many channels.
  func pipelineDescription(
    channels: Int, _ elementType: ElementType
  ) throws(AttentionError) -> PipelineDescription {
    guard let shader = ShaderBinary.named(Self.shaderName) else {
      throw .pathUnavailable(
        path: .row, reason: "this build has no shader \(Self.shaderName)")
    }
    return PipelineDescription(
      shader: shader,
      constants: [
        "local_size_x": UInt32(Self.workgroupSize), "CHANNELS": UInt32(channels),
        "ELEMENT_TYPE": elementType.shaderConstant, "KEYS_PER_BLOCK": UInt32(keysPerBlock),
      ])
  }

  /// The grids along x that pack every token, with the group each begins at.
  func dispatches(
    channels: Int, _ request: AttentionRequest, groupLimit: Int
  ) -> [(firstGroup: Int, groupCount: Int)] {
    let tokens = ceilingDivide(request.keyTokens, keysPerBlock) * keysPerBlock
    let groups = ceilingDivide(
      tokens * request.keyHeads * (channels / 8), Self.workgroupSize)
    return stride(from: 0, to: groups, by: groupLimit).map {
      ($0, min(groupLimit, groups - $0))
    }
  }
}

/// The push constants of `attention_pack.comp`, field for field; a test compares the two.
struct AttentionPackPushConstants: BitwiseCopyable {
  var source: UInt64
  var destination: UInt64
  var batchStride: UInt32
  var tokenStride: UInt32
  var headStride: UInt32
  var tokens: UInt32
  var heads: UInt32
  var firstGroup: UInt32

  init(
    _ request: AttentionRequest, source: DeviceBuffer, strides: TensorStrides,
    destination: DeviceBuffer, firstGroup: Int
  ) {
    self.source = source.address
    self.destination = destination.address
    batchStride = UInt32(clamping: strides.batch)
    tokenStride = UInt32(clamping: strides.token)
    headStride = UInt32(clamping: strides.head)
    tokens = UInt32(request.keyTokens)
    heads = UInt32(request.keyHeads)
    self.firstGroup = UInt32(firstGroup)
  }
}
