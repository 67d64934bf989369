/// The push constants of every kernel of the family, field for field as in
/// `Shaders/Attention/attention_interface.glsl`; a test compares the two.
struct AttentionPushConstants: BitwiseCopyable {
  var q: UInt64
  var k: UInt64
  var v: UInt64
  var o: UInt64
  var lse: UInt64
  var options: UInt64
  var qBatchStride: UInt32
  var qTokenStride: UInt32
  var qHeadStride: UInt32
  var kBatchStride: UInt32
  var kTokenStride: UInt32
  var kHeadStride: UInt32
  var vBatchStride: UInt32
  var vTokenStride: UInt32
  var vHeadStride: UInt32
  var oBatchStride: UInt32
  var oTokenStride: UInt32
  var oHeadStride: UInt32
  var queryTokens: UInt32
  var keyTokens: UInt32
  var queryHeads: UInt32
  var headsPerGroup: UInt32
  var scale: Float
  var firstTile: UInt32
  var firstHead: UInt32
  var firstBatch: UInt32

  /// - Parameters:
  ///   - key: the address of the keys as the shader reads them: the caller's or the packed ones.
  ///   - value: the values, likewise.
  ///   - options: the address of the block of options, 0 for none.
  ///   - piece: the part of the problem that is dispatched.
  init(
    _ plan: AttentionPlan, buffers: AttentionBuffers, key: UInt64, value: UInt64,
    options: UInt64, piece: AttentionPlan.Piece
  ) {
    let request = plan.request
    q = buffers.query.address
    k = key
    v = value
    o = buffers.output.address
    lse = request.returnsLogSumExp ? buffers.logSumExp?.address ?? 0 : 0
    self.options = options
    // Strides along an axis of extent 1 are not checked and not used.
    func word(_ stride: Int) -> UInt32 { UInt32(clamping: stride) }
    // Packed sequences are one batch entry, whatever its stride is.
    func batch(_ stride: Int) -> UInt32 { request.packedSequences == nil ? word(stride) : 0 }
    qBatchStride = batch(request.queryStrides.batch)
    qTokenStride = word(request.queryStrides.token)
    qHeadStride = word(request.queryStrides.head)
    let keyStrides = plan.packing?.key.strides ?? request.keyStrides
    kBatchStride = batch(keyStrides.batch)
    kTokenStride = word(keyStrides.token)
    kHeadStride = word(keyStrides.head)
    let valueStrides = plan.packing.map { ($0.value ?? $0.key).strides } ?? request.valueStrides
    vBatchStride = batch(valueStrides.batch)
    vTokenStride = word(valueStrides.token)
    vHeadStride = word(valueStrides.head)
    oBatchStride = batch(request.outputStrides.batch)
    oTokenStride = word(request.outputStrides.token)
    oHeadStride = word(request.outputStrides.head)
    queryTokens = UInt32(request.queryTokens)
    keyTokens = UInt32(request.keyTokens)
    queryHeads = UInt32(request.queryHeads)
    headsPerGroup = UInt32(request.headsPerGroup)
    scale = request.scale
    firstTile = UInt32(piece.tiles.lowerBound)
    firstHead = UInt32(piece.heads.lowerBound)
    firstBatch = UInt32(piece.batches.lowerBound)
  }
}
