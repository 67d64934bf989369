import AttentionReference
import TestSupport
import Testing

@testable import VulkanAttention

/// Appends on the device, byte for byte against the reference.
@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct CacheAppendTests {
  let device: ComputeDevice

  init() throws {
    device = try TestDevice.shared()
  }

  @Test("Every format in every arrangement", arguments: CacheFormat.samples)
  func everyFormat(format: CacheFormat) async throws {
    for setting in CacheSetting.allCases {
      for order in CacheArrangement.Order.allCases {
        let append = try setting.append(setting.storage(format, order: order))
        try await append.expectReference("\(format) \(setting) \(order)", on: device)
      }
    }
  }

  @Test("Keys and values of formats and sizes of their own")
  func keysAndValues() async throws {
    for (key, value, d, e) in [
      (CacheFormat.q8, CacheFormat.q4WithMinimum, 96, 64), (.f16, .e4m3, 20, 12),
      (.int8(groupSize: 48, scaleType: .f16), .bf16, 48, 7),
    ] {
      let storage = try CacheSetting.paged.storage(key, value, channels: d, valueChannels: e)
      try await CacheSetting.paged.append(storage).expectReference("\(key) \(value)", on: device)
    }
  }

  @Test(
    "Rows that are not aligned, and single heads",
    arguments: [
      (CacheFormat.f32, 5), (.f16, 7), (.bf16, 36), (.e5m2, 10), (.e4m3, 44),
      (.int8(groupSize: 6, scaleType: .f16), 6), (.int8(groupSize: 20, scaleType: .f32), 20),
      (.int4(groupSize: 12, scaleType: .f16), 12), (.q4, 32), (.f32, 576),
    ])
  func oddRows(format: CacheFormat, channels: Int) async throws {
    for heads in [1, 3] {
      let storage = try CacheSetting.contiguous.storage(format, heads: heads, channels: channels)
      try await CacheSetting.contiguous.append(storage).expectReference("\(format)", on: device)
    }
  }

  @Test("New keys of every type, and views of a fused projection", arguments: ElementType.allCases)
  func sources(type: ElementType) async throws {
    for gap in [0, 3, 64] {
      var append = try CacheSetting.contiguous.append(
        CacheSetting.contiguous.storage(.q8, .f32))
      append.keyType = type
      append.sourceGap = gap
      try await append.expectReference("\(type), gap \(gap)", on: device)
    }
  }

  @Test("Caches that are views with gaps")
  func stridedCaches() async throws {
    for format in [CacheFormat.q4, .f16, .int8(groupSize: 32, scaleType: .f16)] {
      let tensor = try CacheTensor(
        format, .contiguous(sequences: 3, capacity: 5), heads: 2, channels: 64,
        strides: TensorStrides(batch: 2560, token: 512, head: 96),
        scaleStrides: format.scaleGroup.map { _ in TensorStrides(batch: 100, token: 17, head: 5) })
      let append = CacheSetting.contiguous.append(try CacheStorage(key: tensor))
      try await append.expectReference("\(format)", on: device)
    }
  }

  /// Rows on which roundings differ: ties, zeros of both signs, tiny and huge numbers, one number alone.
  private static func hardRows(_ channels: Int) -> [Float] {
    var random = SplitMix64(seed: 7)
    var rows: [[Float]] = []
    // Scales that are powers of two, so that halves are ties: 127, 7, 8 and 15 steps.
    for largest: Float in [127, -127, 7, -8, 15, 112, 448, 57344] {
      for exponent in [-20, -3, 0, 5] {
        let unit = Float(sign: .plus, exponent: exponent, significand: 1)
        var row = (0..<channels).map { index in
          Float(Int(random.next() % 511) - 255) / 510 * abs(largest) * (index % 2 == 0 ? 1 : 0.25)
        }
        row = row.map { ($0 * 2).rounded() / 2 * unit }
        row[Int(random.next() % UInt64(channels))] = largest * unit
        rows.append(row)
      }
    }
    rows.append([Float](repeating: 0, count: channels))
    rows.append([Float](repeating: -0.0, count: channels))
    rows.append((0..<channels).map { $0 % 3 == 0 ? -0.0 : 0 })
    rows.append([Float](repeating: -3.7, count: channels))
    rows.append((0..<channels).map { $0 % 2 == 0 ? 2.5 : -2.5 })
    rows.append((0..<channels).map { $0 == 5 ? 1e-3 : 0 })
    // Scales below the normal binary16, below all of it, and above.
    for magnitude: Float in [1e-4, 1e-7, 3e-9, 1e-20, 60000, 1e7, 1e30] {
      rows.append(
        (0..<channels).map { _ in (Float(random.next() % 2001) / 1000 - 1) * magnitude })
    }
    // Random ones of all sizes, with every bit of the significand.
    for _ in 0..<400 {
      let exponent = Int(random.next() % 60) - 40
      let unit = Float(sign: .plus, exponent: exponent, significand: 1)
      rows.append(
        (0..<channels).map { _ in
          Float(Int32(truncatingIfNeeded: random.next())) * 0x1p-31 * unit
        })
    }
    return rows.flatMap { $0 }
  }

  @Test("Numbers that are hard to round", arguments: CacheFormat.samples)
  func hardNumbers(format: CacheFormat) async throws {
    let keys = Self.hardRows(64)
    let tokens = keys.count / 64
    let storage = try CacheStorage(
      key: CacheTensor(
        format, .contiguous(sequences: 1, capacity: tokens), heads: 1, channels: 64))
    var append = CacheAppendCase(
      storage, sequences: [Int32](repeating: 0, count: tokens),
      positions: (0..<Int32(tokens)).map { $0 })
    append.keys = keys
    try await append.expectReference("\(format)", on: device)
  }

  @Test(
    "Numbers that are not finite spoil their group, and no other", arguments: CacheFormat.samples)
  func notFinite(format: CacheFormat) async throws {
    let storage = try CacheSetting.contiguous.storage(format, heads: 1)
    var append = CacheSetting.contiguous.append(storage)
    let clean = append.expected().key
    append.keys[3] = .nan
    append.keys[64 + 5] = .infinity
    append.keys[2 * 64 + 1] = -.infinity
    let cache = try await append.run(on: device).key
    let data = try await device.download(UInt8.self, from: cache.data.buffer)
    var scales: [UInt8] = []
    if let buffer = cache.scales?.buffer {
      scales = try await device.download(UInt8.self, from: buffer)
    }
    for n in append.sequences.indices {
      let (block, slot) = try #require(append.place(n))
      let row = (block * 5 + slot) * 64
      let (x, expected) = (
        decoded(data, scales, format, row), decoded(clean.data, clean.scales, format, row)
      )
      let group = format.scaleGroup ?? (format.blockChannels == 32 ? 32 : 1)
      for c in 0..<64 {
        let isSpoiled = n < 3 && c / group == [3, 5, 1][n] / group
        if !isSpoiled {
          #expect(x[c] == expected[c], "\(format) token \(n) channel \(c)")
        } else if format == .e4m3 || format == .e5m2 {
          #expect(n == 0 ? x[c].isNaN : abs(x[c]) == (format == .e4m3 ? 448 : 57344))
        } else if format.elementType != nil {
          #expect(n == 0 ? x[c].isNaN : x[c] == (n == 1 ? .infinity : -.infinity))
        } else {
          #expect(x[c].isNaN, "\(format) token \(n) channel \(c)")
        }
      }
    }
  }

  /// The 64 numbers of a row that begins at a channel of contiguous rows.
  private func decoded(
    _ data: [UInt8], _ scales: [UInt8], _ format: CacheFormat, _ row: Int
  ) -> [Double] {
    let start = format.byteCount(channels: row)
    let codes = Array(data[start..<start + format.byteCount(channels: 64)])
    func element(_ bytes: [UInt8], _ index: Int, _ type: ElementType) -> Float {
      let at = index * type.byteCount
      let half = UInt16(bytes[at]) | UInt16(bytes[at + 1]) << 8
      switch type {
      case .f32:
        let high = UInt32(bytes[at + 2]) | UInt32(bytes[at + 3]) << 8
        return Float(bitPattern: UInt32(half) | high << 16)
      case .f16: return Float(Float16(bitPattern: half))
      case .bf16: return Float(BFloat16(bitPattern: half))
      }
    }
    func scaled(_ width: ScaledIntegers.Width, _ group: Int, _ type: ElementType) -> [Double] {
      let numbers = (0..<64 / group).map { element(scales, row / group + $0, type) }
      return ScaledIntegers(width: width, groupSize: group, codes: codes, scales: numbers).decoded()
    }
    switch format {
    case .element(let type): return (0..<64).map { Double(element(codes, $0, type)) }
    case .q8: return QuantizedBlock.q8.decode(codes)
    case .q4: return QuantizedBlock.q4.decode(codes)
    case .q4WithMinimum: return QuantizedBlock.q4WithMinimum.decode(codes)
    case .int8(let group, let type): return scaled(.int8, group, type)
    case .int4(let group, let type): return scaled(.int4, group, type)
    case .e4m3: return codes.map { Float8Format.e4m3.decode($0) }
    case .e5m2: return codes.map { Float8Format.e5m2.decode($0) }
    }
  }

  /// Numbers that a caller might pass by mistake, or another's memory.
  private static let hostile: [Int32] = [
    -1, .min, .max, .max - 1, 15, 1 << 30, -(1 << 30), 1_000_000,
  ]

  @Test(
    "Sequences and positions that are out of range write nothing", arguments: CacheSetting.allCases)
  func hostileTokens(setting: CacheSetting) async throws {
    for format in [CacheFormat.f16, .int8(groupSize: 32, scaleType: .f16), .q4] {
      var append = try setting.append(setting.storage(format, format))
      append.sequences += [3]
      append.positions += [1]
      for number in Self.hostile {
        append.sequences += [number, 0, number]
        // In a ring every position has a place.
        let position = setting == .ring && number >= 0 ? -1 : number
        append.positions += [1, position, number]
      }
      let bad = append
      append = CacheAppendCase(
        bad.storage, sequences: bad.sequences, positions: bad.positions, pageTable: bad.pageTable)
      #expect(
        append.sequences.indices.filter { append.place($0) != nil }.count
          == setting.tokens.sequences.count)
      try await append.expectReference("\(setting) \(format)", on: device)
    }
  }

  @Test("Page tables that are out of range write nothing")
  func hostilePages() async throws {
    let storage = try CacheSetting.paged.storage(.f16, .e4m3)
    for number in Self.hostile + [3, 5, 6, 7] {
      for (place, pages) in [[Int32]([0, 1, 2, 3]), [0, 0, 2, 6]].enumerated() {
        // A page, then a start, then an end.
        var append = CacheSetting.paged.append(storage)
        append.pageTable = (pages, [6, number, number, 2, 5, number])
        let distinct = number == 6 || number == 3 || number == 5
        if !distinct { try await append.expectReference("page \(number)", on: device) }
        for entry in 0...3 {
          append.pageTable = (pages, [6, 0, 3, 2, 5, 1])
          append.pageTable?.indptr[entry] = number
          try await append.expectReference("indptr[\(entry)] = \(number), \(place)", on: device)
        }
      }
    }
  }

  @Test("A prompt longer than the ring: the last tokens stay")
  func longPrompt() async throws {
    let storage = try CacheSetting.ring.storage(.q8, .f16)
    var append = CacheAppendCase(
      storage, sequences: (0..<26).map { $0 < 23 ? 1 : 2 },
      positions: (0..<23).map { $0 } + [0, 1, 2])
    append.lengths = [.max, 23, 3]
    try await append.expectReference("lengths", on: device)
    for length in [Int32.min, -1, 0] {
      append.lengths = [length, 23, length]
      try await append.expectReference("length \(length)", on: device)
    }
  }

  @Test("Places are those of the reference's layouts")
  func places() throws {
    for setting in CacheSetting.allCases {
      for order in CacheArrangement.Order.allCases where order == .nhd || setting == .paged {
        let append = try setting.append(setting.storage(.f32, order: order))
        let layout: CacheLayout
        switch setting {
        case .contiguous: layout = .contiguous(capacity: 5)
        case .ring: layout = .ring(capacity: 5)
        case .paged:
          let table = PageTable(
            pageSize: 5, indptr: [0, 2, 2, 5], indices: [6, 0, 3, 2, 5],
            lastPageLengths: [5, 0, 5])
          layout = .paged(table, order == .nhd ? .nhd : .hnd)
        }
        let strides = append.storage.key.strides
        for n in append.sequences.indices {
          let (block, slot) = try #require(append.place(n))
          for head in 0..<2 {
            let start = layout.start(
              sequence: Int(append.sequences[n]), position: Int(append.positions[n]), head: head,
              heads: 2, channels: 64)
            #expect(
              start == block * strides.batch + slot * strides.token + head * strides.head)
          }
        }
      }
    }
  }
}
