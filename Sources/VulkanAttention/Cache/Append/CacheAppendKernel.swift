/// The append of keys and values to a cache on one device, ready to be recorded.
///
///     let rotary = try RotaryEncoding(rotaryChannels: 128)
///     let table = try await device.makeBuffer(rotary.frequencyTable)      // once
///     let append = try CacheAppendKernel(
///       CacheAppendRequest(tokens: n, storage: storage, keyType: .f16, rotary: rotary), on: device)
///     try append.record(
///       CacheAppendBuffers(
///         key: k, value: v, sequences: sequences, positions: positions, frequencies: table,
///         cache: cache), into: recorder)
///
/// See ``CacheAppendRequest`` for what is written. Queries are rotated by ``RotaryKernel``, between which and
/// an append there is no barrier. Deterministic; safe to share between tasks: it holds a plan and pipelines,
/// no buffers.
public final class CacheAppendKernel: Sendable {
  /// How the request runs.
  public let plan: CacheAppendPlan
  private let device: ComputeDevice
  private let keyPipeline: ComputePipeline
  private let valuePipeline: ComputePipeline?

  /// The append.
  public var request: CacheAppendRequest { plan.request }

  /// Prepares a plan on a device; compiles its pipelines where no one has before.
  ///
  /// - Throws: `AttentionError.noPath` or `device`.
  public init(_ plan: CacheAppendPlan, on device: ComputeDevice) throws(AttentionError) {
    self.plan = plan
    self.device = device
    keyPipeline = try device.compiled(plan.pipelineDescription(plan.key))
    if let value = plan.value {
      valuePipeline = try device.compiled(plan.pipelineDescription(value))
    } else {
      valuePipeline = nil
    }
  }

  /// Plans and prepares a request.
  ///
  /// - Throws: what `CacheAppendPlan.init` and the other initialiser throw.
  public convenience init(
    _ request: CacheAppendRequest, on device: ComputeDevice
  ) throws(AttentionError) {
    try self.init(CacheAppendPlan(request, device: device.capabilities), on: device)
  }

  /// Appends the writes to a recorder. It does not submit, wait or allocate.
  ///
  /// - Throws: `AttentionError.invalidArgument`, `bufferTooSmall`, `misaligned`, `overlappingOutput` or
  ///   `device`, before anything is appended.
  public func record(
    _ buffers: CacheAppendBuffers, into recorder: Recorder
  ) throws(AttentionError) {
    let bindings = try CacheAppendBindings(buffers, for: plan, on: device)
    try dispatch(plan.key, bindings.cache.key, keyPipeline, bindings, isKey: true, recorder)
    if let pass = plan.value, let tensor = bindings.cache.value, let valuePipeline {
      try dispatch(pass, tensor, valuePipeline, bindings, isKey: false, recorder)
    }
  }

  private func dispatch(
    _ pass: CacheAppendPlan.Pass, _ tensor: CacheBindings.Tensor, _ pipeline: ComputePipeline,
    _ bindings: CacheAppendBindings, isKey: Bool, _ recorder: Recorder
  ) throws(AttentionError) {
    let constants = CacheAppendPushConstants(
      pass, tensor, bindings, request: request, isKey: isKey)
    try wrappingDeviceErrors { () throws(VulkanError) in
      try recorder.dispatch(
        pipeline, pushConstants: constants, groups: pass.groups,
        accesses: bindings.accesses(tensor, isKey: isKey))
    }
  }
}

/// The push constants of `cache_append.comp`, field for field; a test compares the two.
struct CacheAppendPushConstants: BitwiseCopyable {
  var source: UInt64
  var cache: UInt64
  var scales: UInt64
  var sequences: UInt64
  var positions: UInt64
  var table: UInt64
  var indices: UInt64
  var frequencies: UInt64
  var rotaryPositions: UInt64
  var sourceTokenStride: UInt32
  var sourceHeadStride: UInt32
  var cacheBlockStride: UInt32
  var cacheTokenStride: UInt32
  var cacheHeadStride: UInt32
  var scaleBlockStride: UInt32
  var scaleTokenStride: UInt32
  var scaleHeadStride: UInt32
  var tokens: UInt32
  var sequenceCount: UInt32
  var blocks: UInt32
  var blockTokens: UInt32
  var pageEntries: UInt32
  var attentionFactor: Float

  init(
    _ pass: CacheAppendPlan.Pass, _ tensor: CacheBindings.Tensor,
    _ bindings: CacheAppendBindings, request: CacheAppendRequest, isKey: Bool
  ) {
    let storage = request.storage
    let strides = isKey ? request.keyStrides : request.valueStrides
    let rows = pass.tensor.blockStrides
    let scaleRows = pass.tensor.usedScaleStrides
    source = (isKey ? bindings.key.address : bindings.value?.address) ?? 0
    cache = tensor.data.address
    scales = tensor.scales?.address ?? 0
    sequences = bindings.sequences.address
    positions = bindings.positions.address
    table = bindings.cache.indptr?.address ?? bindings.lengths?.address ?? 0
    indices = bindings.cache.indices?.address ?? 0
    frequencies = bindings.frequencies?.address ?? 0
    rotaryPositions = bindings.rotaryPositions?.address ?? bindings.positions.address
    // Strides along an axis of extent 1 are not checked and not used.
    sourceTokenStride = UInt32(truncatingIfNeeded: strides.token)
    sourceHeadStride = UInt32(truncatingIfNeeded: strides.head)
    cacheBlockStride = UInt32(rows.batch)
    cacheTokenStride = UInt32(rows.token)
    cacheHeadStride = UInt32(rows.head)
    scaleBlockStride = UInt32(scaleRows.batch)
    scaleTokenStride = UInt32(scaleRows.token)
    scaleHeadStride = UInt32(scaleRows.head)
    tokens = UInt32(request.tokens)
    sequenceCount = UInt32(storage.sequences)
    blocks = UInt32(storage.key.arrangement.blockCount)
    blockTokens = UInt32(storage.key.arrangement.blockTokens)
    pageEntries = UInt32(storage.pageTable?.entries ?? 0)
    attentionFactor = Float(pass.rotary?.attentionFactor ?? 1)
  }
}
