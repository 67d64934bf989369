import AttentionReference
import VulkanAttention

/// Keys, or values, of a cache as they lie in memory: each in its place and format, NaN everywhere else.
struct CacheMemory {
  /// The numbers.
  private(set) var bytes: [UInt8]
  /// The scales beside them.
  private(set) var scaleBytes: [UInt8]
  /// [B, T, G, C]: what the numbers are once they are stored; NaN where a sequence has none.
  private(set) var values: [Float]

  /// 0xFF throughout is NaN in every element type, as a scale and as an 8-bit float.
  private static let poison: UInt8 = 0xFF

  /// Stores contiguous keys.
  ///
  /// - Parameters:
  ///   - tensor: format and places.
  ///   - keys: [B, T, G, C].
  ///   - keyTokens: T.
  ///   - lengths: [B]: keys of each sequence.
  ///   - pages: of a paged cache.
  init(
    _ tensor: CacheTensor, _ keys: [Float], keyTokens: Int, lengths: [Int],
    pages: CachePageTable?
  ) {
    bytes = [UInt8](
      repeating: Self.poison, count: tensor.byteCount + TensorMemory.guardByteCount)
    scaleBytes =
      tensor.scaleByteCount == 0
      ? []
      : [UInt8](
        repeating: Self.poison, count: tensor.scaleByteCount + TensorMemory.guardByteCount)
    values = [Float](repeating: .nan, count: keys.count)
    let channels = tensor.channels
    let arrangement = tensor.arrangement
    for (b, length) in lengths.enumerated() {
      let first = arrangement.kind == .ring ? max(0, length - arrangement.blockTokens) : 0
      for j in first..<max(first, length) {
        var (block, token) = (b, j)
        if arrangement.kind == .ring { token = j % arrangement.blockTokens }
        if let pages {
          block = Int(pages.indices[Int(pages.indptr[b]) + j / pages.pageSize])
          token = j % pages.pageSize
        }
        for g in 0..<tensor.heads {
          let row = ((b * keyTokens + j) * tensor.heads + g) * channels
          let stored = Self.store(Array(keys[row..<row + channels]), as: tensor.format)
          let place =
            block * tensor.strides.batch + token * tensor.strides.token + g * tensor.strides.head
          let start = tensor.format.byteCount(channels: place)
          bytes.replaceSubrange(start..<start + stored.bytes.count, with: stored.bytes)
          if !stored.scales.isEmpty {
            let strides = tensor.scaleStrides
            let place = block * strides.batch + token * strides.token + g * strides.head
            let start = place * (tensor.format.scaleType?.byteCount ?? 0)
            scaleBytes.replaceSubrange(start..<start + stored.scales.count, with: stored.scales)
          }
          values.replaceSubrange(row..<row + channels, with: stored.values)
        }
      }
    }
  }

  /// A row as a format stores it, with what it is then.
  private static func store(
    _ row: [Float], as format: CacheFormat
  ) -> (bytes: [UInt8], scales: [UInt8], values: [Float]) {
    func block(_ format: QuantizedBlock) -> (bytes: [UInt8], scales: [UInt8], values: [Float]) {
      let bytes = format.encode(row)
      return (bytes, [], format.decode(bytes).map { Float($0) })
    }
    func small(_ format: Float8Format) -> (bytes: [UInt8], scales: [UInt8], values: [Float]) {
      let codes = row.map { format.encode(Double($0)) }
      return (codes, [], codes.map { Float(format.decode($0)) })
    }
    func integers(
      _ width: ScaledIntegers.Width, _ group: Int, _ type: VulkanAttention.ElementType
    ) -> (bytes: [UInt8], scales: [UInt8], values: [Float]) {
      let exact = ScaledIntegers(row.map(Double.init), width: width, groupSize: group)
      // Scales of 16 bits are rounded after the codes were made: any scale with any codes is a row.
      let scales = exact.scales.map { Float(type.storage.rounded(Double($0))) }
      let stored = ScaledIntegers(
        width: width, groupSize: group, codes: exact.codes, scales: scales)
      return (stored.codes, memory(scales, type), stored.decoded().map { Float($0) })
    }
    switch format {
    case .element(let type):
      let rounded = row.map { Float(type.storage.rounded(Double($0))) }
      return (memory(rounded, type), [], rounded)
    case .q8: return block(.q8)
    case .q4: return block(.q4)
    case .q4WithMinimum: return block(.q4WithMinimum)
    case .int8(let group, let type): return integers(.int8, group, type)
    case .int4(let group, let type): return integers(.int4, group, type)
    case .e4m3: return small(.e4m3)
    case .e5m2: return small(.e5m2)
    }
  }
}
