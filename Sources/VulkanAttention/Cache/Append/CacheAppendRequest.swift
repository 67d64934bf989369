/// New keys and values of many sequences, to be written into their cache.
///
///     place = place of positions[n] of sequence sequences[n]
///     key cache[place, g] = quantised(rotated(k[n, g], rotaryPositions[n]))
///     value cache[place, g] = quantised(v[n, g])
///
/// for n = 0 ..< N, all heads g. Letters: N tokens, G heads, D channels of a key, E of a value.
///
/// - Sequences and positions are Int32 in device memory. A token whose sequence or position is out of range,
///   or has no page of the cache, writes nothing.
/// - No two tokens of one request may have the same place: which of them is stored then is not defined. In a
///   ring, a prompt longer than the capacity is one such case; with lengths in the buffers, tokens that lie the
///   capacity or more before their sequence's length are left out, and a prompt of any length can be appended.
/// - The bytes stored are those of the format's rule (``CacheFormat``; in the CPU reference `QuantizedBlock`,
///   `ScaledIntegers`, `Float8Format`) applied to the f32 numbers that a cache of f32 would hold, the same on
///   every device: scales and codes are found by exact arithmetic. Plain f16 and bf16 elements are rounded to
///   nearest even where the device's `packHalf2x16` does that.
/// - A group, or block, with a number that is not finite has NaN for its scale, and is NaN when it is read;
///   so is a block of `q4_1` whose range is not finite. Numbers in a group whose largest is below 2^−90
///   become 0, in `q4_1` those of a block whose range is. In 8-bit floating point infinities become the largest
///   number, NaN stays.
public struct CacheAppendRequest: Sendable, Hashable {
  /// N.
  public let tokens: Int
  /// What is written.
  public let storage: CacheStorage
  /// The type of the new keys.
  public let keyType: ElementType
  /// The type of the new values.
  public let valueType: ElementType
  /// Where the new keys [N, G, D] lie; `batch` has no meaning.
  public let keyStrides: TensorStrides
  /// Where the new values [N, G, E] lie.
  public let valueStrides: TensorStrides
  /// How keys are rotated before they are stored; nil for not at all.
  public let rotary: RotaryEncoding?

  /// States an append; what no device could run is refused here.
  ///
  /// - Parameters:
  ///   - tokens: N, 1 or more.
  ///   - storage: what is written.
  ///   - keyType: the type of the new keys.
  ///   - valueType: of the new values; `keyType` by default.
  ///   - keyStrides: contiguous [N, G, D] by default; a view of a fused projection has others.
  ///   - valueStrides: contiguous [N, G, E] by default.
  ///   - rotary: how keys are rotated, at most D of their channels.
  /// - Throws: `AttentionError.invalidArgument` or `tooLarge`.
  public init(
    tokens: Int, storage: CacheStorage, keyType: ElementType = .f32, valueType: ElementType? = nil,
    keyStrides: TensorStrides? = nil, valueStrides: TensorStrides? = nil,
    rotary: RotaryEncoding? = nil
  ) throws(AttentionError) {
    guard (1...AttentionMask.largestExtent).contains(tokens) else {
      throw .invalidArgument(
        name: "tokens", value: "\(tokens)", allowed: "1 to \(AttentionMask.largestExtent)")
    }
    if let rotary, rotary.rotaryChannels > storage.key.channels {
      throw .invalidArgument(
        name: "rotary", value: "\(rotary.rotaryChannels) channels",
        allowed: "at most the keys' \(storage.key.channels)")
    }
    self.tokens = tokens
    self.storage = storage
    self.keyType = keyType
    self.valueType = valueType ?? keyType
    func contiguous(_ tensor: CacheTensor) -> TensorStrides {
      .tokenMajor(tokens: tokens, heads: tensor.heads, channels: tensor.channels)
    }
    self.keyStrides = keyStrides ?? contiguous(storage.key)
    self.valueStrides = valueStrides ?? contiguous(storage.value ?? storage.key)
    self.rotary = rotary
    try keySource.check(areStridesGiven: keyStrides != nil)
    try valueSource?.check(areStridesGiven: valueStrides != nil)
    if storage.value == nil, valueStrides != nil {
      throw .invalidArgument(
        name: "valueStrides", value: "given", allowed: "nil for a cache of keys alone")
    }
  }

  /// The new keys.
  var keySource: TensorView {
    TensorView(
      name: "k", strides: keyStrides, batch: 1, tokens: tokens, heads: storage.key.heads,
      channels: storage.key.channels)
  }

  /// The new values.
  var valueSource: TensorView? {
    storage.value.map {
      TensorView(
        name: "v", strides: valueStrides, batch: 1, tokens: tokens, heads: $0.heads,
        channels: $0.channels)
    }
  }

  /// Bytes up to the end of the last new key.
  public var keyByteCount: Int { (keySource.elementCount ?? 0) * keyType.byteCount }

  /// Bytes up to the end of the last new value; 0 without values.
  public var valueByteCount: Int { (valueSource?.elementCount ?? 0) * valueType.byteCount }

  /// The bytes that must move at least.
  public var compulsoryBytes: Double {
    func rows(_ tensor: CacheTensor, _ type: ElementType) -> Double {
      Double(tokens) * Double(tensor.heads)
        * Double(tensor.rowByteCount + tensor.channels * type.byteCount)
    }
    return rows(storage.key, keyType) + (storage.value.map { rows($0, valueType) } ?? 0)
      + Double(tokens) * 8
  }
}
