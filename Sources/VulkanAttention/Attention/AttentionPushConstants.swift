/// The push constants of every kernel of the family, field for field as in
/// `Shaders/Attention/attention_interface.glsl`; a test compares the two.
struct AttentionPushConstants: BitwiseCopyable {
  var q: UInt64
  var k: UInt64
  var v: UInt64
  var o: UInt64
  var lse: UInt64
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
  var causalOffset: Int32
  var scale: Float
  var firstTile: UInt32

  /// - Parameters:
  ///   - key: the keys as the shader reads them, which are the caller's or the packed ones.
  ///   - value: the values, likewise.
  init(
    _ plan: AttentionPlan, buffers: AttentionBuffers, key: DeviceBuffer, value: DeviceBuffer,
    firstTile: Int
  ) {
    let request = plan.request
    q = buffers.query.address
    k = key.address
    v = value.address
    o = buffers.output.address
    lse = request.returnsLogSumExp ? buffers.logSumExp?.address ?? 0 : 0
    // Strides along an axis of extent 1 are not checked and not used.
    func word(_ stride: Int) -> UInt32 { UInt32(clamping: stride) }
    qBatchStride = word(request.queryStrides.batch)
    qTokenStride = word(request.queryStrides.token)
    qHeadStride = word(request.queryStrides.head)
    let keyStrides = plan.packing?.keyStrides(request) ?? request.keyStrides
    kBatchStride = word(keyStrides.batch)
    kTokenStride = word(keyStrides.token)
    kHeadStride = word(keyStrides.head)
    let valueStrides = plan.packing?.valueStrides(request) ?? request.valueStrides
    vBatchStride = word(valueStrides.batch)
    vTokenStride = word(valueStrides.token)
    vHeadStride = word(valueStrides.head)
    oBatchStride = word(request.outputStrides.batch)
    oTokenStride = word(request.outputStrides.token)
    oHeadStride = word(request.outputStrides.head)
    queryTokens = UInt32(request.queryTokens)
    keyTokens = UInt32(request.keyTokens)
    queryHeads = UInt32(request.queryHeads)
    headsPerGroup = UInt32(request.headsPerGroup)
    causalOffset = Int32(request.keyTokens - request.queryTokens)
    scale = request.scale
    self.firstTile = UInt32(firstTile)
  }
}
