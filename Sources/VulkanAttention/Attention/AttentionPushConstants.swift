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

  /// The problem's part, the same for all kernels of the family: addresses, the strides of q and k, sizes.
  /// The strides of v and o are 0.
  ///
  /// - Parameters:
  ///   - keyStrides: the strides of the keys as the shader reads them.
  ///   - options: the address of the block of options, 0 for none.
  init(
    _ request: AttentionRequest, q: UInt64, k: UInt64, v: UInt64, o: UInt64, lse: UInt64,
    options: UInt64, keyStrides: TensorStrides, firstTile: Int, firstHead: Int, firstBatch: Int
  ) {
    self.q = q
    self.k = k
    self.v = v
    self.o = o
    self.lse = lse
    self.options = options
    (qBatchStride, qTokenStride, qHeadStride) = Self.words(request.queryStrides, of: request)
    (kBatchStride, kTokenStride, kHeadStride) = Self.words(keyStrides, of: request)
    (vBatchStride, vTokenStride, vHeadStride) = (0, 0, 0)
    (oBatchStride, oTokenStride, oHeadStride) = (0, 0, 0)
    queryTokens = UInt32(request.queryTokens)
    keyTokens = UInt32(request.keyTokens)
    queryHeads = UInt32(request.queryHeads)
    headsPerGroup = UInt32(request.headsPerGroup)
    scale = request.scale
    self.firstTile = UInt32(firstTile)
    self.firstHead = UInt32(firstHead)
    self.firstBatch = UInt32(firstBatch)
  }

  /// Strides as the shaders take them.
  private static func words(
    _ strides: TensorStrides, of request: AttentionRequest
  ) -> (batch: UInt32, token: UInt32, head: UInt32) {
    // Strides along an axis of extent 1 are not checked and not used, and packed sequences are one batch
    // entry, whatever its stride is.
    (
      request.packedSequences == nil ? UInt32(clamping: strides.batch) : 0,
      UInt32(clamping: strides.token), UInt32(clamping: strides.head)
    )
  }

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
    self.init(
      request, q: buffers.query.address, k: key, v: value, o: buffers.output.address,
      lse: request.returnsLogSumExp ? buffers.logSumExp?.address ?? 0 : 0, options: options,
      keyStrides: plan.packing?.key.strides ?? request.keyStrides,
      firstTile: piece.tiles.lowerBound,
      // Of problems that share workgroups the number (attention_problems.glsl).
      firstHead: plan.tile.problemsPerWorkgroup > 1
        ? piece.heads.count * piece.batches.count : piece.heads.lowerBound,
      firstBatch: piece.batches.lowerBound)
    let valueStrides = plan.packing.map { ($0.value ?? $0.key).strides } ?? request.valueStrides
    (vBatchStride, vTokenStride, vHeadStride) = Self.words(valueStrides, of: request)
    (oBatchStride, oTokenStride, oHeadStride) = Self.words(request.outputStrides, of: request)
  }
}
