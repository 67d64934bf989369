/// The tensors of one append in device memory.
public struct CacheAppendBuffers: Sendable {
  /// k [N, G, D] at the request's strides.
  public var key: DeviceBuffer
  /// v [N, G, E], where the cache has values.
  public var value: DeviceBuffer?
  /// Int32 [N]: whose the tokens are.
  public var sequences: DeviceBuffer
  /// Int32 [N]: where they go.
  public var positions: DeviceBuffer
  /// ``RotaryEncoding/frequencyTable``, where keys are rotated.
  public var frequencies: DeviceBuffer?
  /// Int32 [N]: the positions by which keys are rotated; nil for `positions`. Nodes of a tree of drafts lie
  /// one behind the other and are rotated by their depth.
  public var rotaryPositions: DeviceBuffer?
  /// Int32 [B], for a ring: the keys of each sequence after the append, those included that the ring has
  /// forgotten; nil where no place is written twice.
  public var lengths: DeviceBuffer?
  /// The cache, written.
  public var cache: CacheBuffers

  /// Names the tensors.
  public init(
    key: DeviceBuffer, value: DeviceBuffer? = nil, sequences: DeviceBuffer,
    positions: DeviceBuffer, frequencies: DeviceBuffer? = nil,
    rotaryPositions: DeviceBuffer? = nil, lengths: DeviceBuffer? = nil, cache: CacheBuffers
  ) {
    self.key = key
    self.value = value
    self.sequences = sequences
    self.positions = positions
    self.frequencies = frequencies
    self.rotaryPositions = rotaryPositions
    self.lengths = lengths
    self.cache = cache
  }
}

/// The buffers of an append after all checks, each cut to what the request needs of it.
struct CacheAppendBindings {
  let key: DeviceBuffer
  let value: DeviceBuffer?
  let sequences: DeviceBuffer
  let positions: DeviceBuffer
  let frequencies: DeviceBuffer?
  let rotaryPositions: DeviceBuffer?
  let lengths: DeviceBuffer?
  let cache: CacheBindings

  /// - Throws: `AttentionError.invalidArgument` for a buffer too many or missing, `bufferTooSmall`,
  ///   `misaligned`, `overlappingOutput`, or `device` for a buffer of another device.
  init(
    _ buffers: CacheAppendBuffers, for plan: CacheAppendPlan, on device: ComputeDevice
  ) throws(AttentionError) {
    let request = plan.request
    var bound = BoundBuffers(on: device)
    func alignment(_ pass: CacheAppendPlan.Pass) -> Int {
      pass.isSourceAligned ? BoundBuffers.vectorAlignment : pass.sourceType.byteCount
    }
    key = try bound.bind(
      "k", buffers.key, bytes: request.keyByteCount, alignment: alignment(plan.key))
    switch (plan.value, buffers.value) {
    case (let pass?, let buffer?):
      value = try bound.bind(
        "v", buffer, bytes: request.valueByteCount, alignment: alignment(pass))
    case (nil, nil): value = nil
    case (nil, _?):
      throw CacheBindings.refusal("v", "a buffer", "nil for a cache of keys alone")
    case (_?, nil): throw CacheBindings.refusal("v", "nil", "a buffer for the new values")
    }
    sequences = try bound.bind("sequences", buffers.sequences, bytes: request.tokens * 4)
    positions = try bound.bind("positions", buffers.positions, bytes: request.tokens * 4)
    switch (request.rotary, buffers.frequencies) {
    case (let rotary?, let buffer?):
      frequencies = try bound.bind(
        "frequencies", buffer, bytes: rotary.tableByteCount, alignment: 8)
      rotaryPositions = try buffers.rotaryPositions.map { buffer throws(AttentionError) in
        try bound.bind("rotaryPositions", buffer, bytes: request.tokens * 4)
      }
    case (nil, nil):
      guard buffers.rotaryPositions == nil else {
        throw CacheBindings.refusal(
          "rotaryPositions", "a buffer", "nil for keys that are not rotated")
      }
      frequencies = nil
      rotaryPositions = nil
    case (nil, _?):
      throw CacheBindings.refusal("frequencies", "a buffer", "nil for keys that are not rotated")
    case (_?, nil):
      throw CacheBindings.refusal("frequencies", "nil", "a buffer with the rotary frequency table")
    }
    if let buffer = buffers.lengths {
      guard request.storage.key.arrangement.kind == .ring else {
        throw CacheBindings.refusal("lengths", "a buffer", "nil for a cache that is no ring")
      }
      lengths = try bound.bind("lengths", buffer, bytes: request.storage.sequences * 4)
    } else {
      lengths = nil
    }
    cache = try CacheBindings(buffers.cache, for: request.storage, into: &bound)
    try bound.checkOverlaps()
  }

  /// What the dispatch for keys, or for values, does.
  func accesses(_ tensor: CacheBindings.Tensor, isKey: Bool) -> [BufferAccess] {
    let read =
      [isKey ? key : value, sequences, positions, lengths]
      + (isKey ? [frequencies, rotaryPositions] : [])
    return read.compactMap { $0.map { .read($0) } } + cache.tableReads + tensor.writes
  }
}
