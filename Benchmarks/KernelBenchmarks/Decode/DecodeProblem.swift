import AttentionReference
import VulkanAttention

/// A decode step with its data on the host.
public struct DecodeProblem: Sendable {
  /// The problem.
  public let request: DecodeRequest
  /// [B]: keys of each sequence.
  public let lengths: [Int]
  /// The pages of a paged cache.
  public let pages: CachePageTable?
  /// [B, S, H, D].
  let query: [Float]
  let keys: CacheMemory
  /// Nil where values are keys.
  let values: CacheMemory?
  /// What lies in the memory of the operands, lengths among them.
  let operands: [AttentionOperand.Kind: [UInt8]]
  /// Cosines and sines of the rotation of keys.
  let rotations: [Float]

  /// A problem with keys and values [B, T, G, C] of one's own.
  init(
    _ request: DecodeRequest, lengths: [Int], pages: CachePageTable? = nil, query: [Float],
    key: [Float], value: [Float]?, operands: [AttentionOperand.Kind: [UInt8]] = [:]
  ) {
    let attention = request.attention
    self.request = request
    self.lengths = lengths
    self.pages = pages
    self.query = query
    keys = CacheMemory(
      request.keyCache, key, keyTokens: attention.keyTokens, lengths: lengths, pages: pages)
    values = value.map {
      CacheMemory(
        request.valueCache, $0, keyTokens: attention.keyTokens, lengths: lengths, pages: pages)
    }
    self.operands = operands.merging(
      [.keyLengths: memory(lengths.map { Int32($0) })]) { $1 }
    rotations =
      request.keyRotation.map {
        Self.rotations(positions: attention.keyTokens, channels: $0.channels)
      } ?? []
  }

  /// Normally distributed data that belongs to a name.
  init(_ request: DecodeRequest, lengths: [Int], pages: CachePageTable? = nil, seed name: String) {
    let attention = request.attention
    var generator = SplitMix64(seed: name)
    func tensor(_ tokens: Int, _ heads: Int, _ channels: Int) -> [Float] {
      generator.normal(attention.batchSize * tokens * heads * channels)
    }
    let query = tensor(attention.queryTokens, attention.queryHeads, attention.headSize).map {
      Float(attention.elementType.storage.rounded(Double($0)))
    }
    let key = tensor(attention.keyTokens, attention.keyHeads, attention.headSize)
    let value =
      attention.valuesAreKeys
      ? nil : tensor(attention.keyTokens, attention.keyHeads, attention.valueHeadSize)
    let operands = attention.operandData(&generator)
    self.init(
      request, lengths: lengths, pages: pages, query: query, key: key, value: value,
      operands: operands)
  }

  /// f32 [positions, channels / 2, 2]: what rotating (1, 0) gives.
  private static func rotations(positions: Int, channels: Int) -> [Float] {
    let half = channels / 2
    let units = (0..<positions * channels).map { $0 % channels < half ? 1.0 : 0.0 }
    let rotated = rotary(.halves, channels: channels).rotated(
      units, positions: Array(0..<positions), heads: 1, channels: channels)
    return (0..<positions * half).flatMap { index in
      let first = index / half * channels + index % half
      return [Float(rotated[first]), Float(rotated[first + half])]
    }
  }

  private static func rotary(
    _ pairing: RotaryEmbedding.Pairing, channels: Int
  ) -> RotaryEmbedding {
    var rotary = RotaryEmbedding()
    rotary.rotaryChannels = channels
    rotary.pairing = pairing
    return rotary
  }

  /// The expected output and log-sum-exp.
  ///
  /// - Parameter rows: rows of [B, S, H]; nil for all.
  func expected(rows: [Int]? = nil) -> AttentionOutput {
    let attention = request.attention
    var options = attention.referenceOptions(operands)
    let capacity = request.keyCache.arrangement.blockTokens
    if request.keyCache.arrangement.kind == .ring {
      let forgotten = lengths.map { max(0, $0 - capacity) }
      options.leftPadding = zip(forgotten, options.leftPadding ?? forgotten).map { max($0, $1) }
    }
    var k = keys.values.map(Double.init)
    let v =
      values.map { $0.values.map(Double.init) }
      ?? stride(from: 0, to: k.count, by: attention.headSize).flatMap {
        k[$0..<$0 + attention.valueHeadSize]
      }
    if let rotation = request.keyRotation {
      let rotary = Self.rotary(
        rotation.pairing == .halves ? .halves : .interleaved, channels: rotation.channels)
      let row = attention.keyHeads * attention.headSize
      k = rotary.rotated(
        k, positions: (0..<k.count / row).map { $0 % attention.keyTokens },
        heads: attention.keyHeads, channels: attention.headSize)
    }
    return AttentionReference.attention(
      q: query.map(Double.init), k: k, v: v, dimensions: attention.dimensions, options: options,
      rows: rows)
  }
}

extension DecodeRequest {
  /// Refuses a problem whose tensors leave no room: as they are on the device, and where that is the host's memory as
  /// the numbers that they are made of as well.
  ///
  /// - Throws: `AttentionError.device(.limitExceeded)`.
  func checkMemory(of device: DeviceCapabilities) throws(AttentionError) {
    let caches = attention.valuesAreKeys ? [keyCache] : [keyCache, valueCache]
    var byteCount = Double(attention.byteCount(of: .query) + attention.byteCount(of: .output))
    for cache in caches {
      byteCount += Double(cache.byteCount) + Double(cache.scaleByteCount)
      if device.hasUnifiedMemory {
        byteCount +=
          4 * Double(attention.batchSize) * Double(attention.keyTokens)
          * Double(cache.heads * cache.channels)
      }
    }
    try device.checkMemory(byteCount)
  }
}
