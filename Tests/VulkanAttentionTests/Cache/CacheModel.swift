import AttentionReference
import TestSupport
import Testing

@testable import VulkanAttention

/// A cache tensor's memory on the host, in bytes: what the device's must be equal to.
struct CacheModel {
  let tensor: CacheTensor
  /// Poisoned like a ``GuardedBuffer``.
  var data: [UInt8]
  var scales: [UInt8]

  init(_ tensor: CacheTensor) {
    self.tensor = tensor
    data = Self.poison(tensor.byteCount)
    scales = Self.poison(tensor.scaleByteCount)
  }

  static func poison(_ byteCount: Int) -> [UInt8] {
    let word = withUnsafeBytes(of: GuardedBuffer.poison) { Array($0) }
    return (0..<byteCount).map { word[$0 % 4] }
  }

  /// Writes the row of a place.
  mutating func store(_ x: [Float], block: Int, slot: Int, head: Int) {
    let row = Self.encoded(x, tensor.format)
    let strides = tensor.strides
    let start = block * strides.batch + slot * strides.token + head * strides.head
    let first = tensor.format.byteCount(channels: start)
    data.replaceSubrange(first..<first + row.codes.count, with: row.codes)
    guard let type = tensor.format.scaleType else { return }
    let scaleStrides = tensor.scaleStrides
    let scale =
      (block * scaleStrides.batch + slot * scaleStrides.token + head * scaleStrides.head)
      * type.byteCount
    scales.replaceSubrange(scale..<scale + row.scales.count, with: row.scales)
  }

  /// A row by the reference's rules.
  static func encoded(_ x: [Float], _ format: CacheFormat) -> (codes: [UInt8], scales: [UInt8]) {
    switch format {
    case .element(let type): (x.flatMap { bytes($0, as: type) }, [])
    case .q8: (QuantizedBlock.q8.encode(x), [])
    case .q4: (QuantizedBlock.q4.encode(x), [])
    case .q4WithMinimum: (QuantizedBlock.q4WithMinimum.encode(x), [])
    case .int8(let group, let type): scaled(x, .int8, group, type)
    case .int4(let group, let type): scaled(x, .int4, group, type)
    case .e4m3: (x.map { Float8Format.e4m3.encode(Double($0)) }, [])
    case .e5m2: (x.map { Float8Format.e5m2.encode(Double($0)) }, [])
    }
  }

  static func bytes(_ x: Float, as type: ElementType) -> [UInt8] {
    switch type {
    case .f32: withUnsafeBytes(of: x) { Array($0) }
    case .f16: withUnsafeBytes(of: Float16(x)) { Array($0) }
    case .bf16: withUnsafeBytes(of: BFloat16(x)) { Array($0) }
    }
  }

  private static func scaled(
    _ x: [Float], _ width: ScaledIntegers.Width, _ group: Int, _ type: ElementType
  ) -> (codes: [UInt8], scales: [UInt8]) {
    let x = x.map { Double($0) }
    if type == .bf16 {
      // The reference has no such scales.
      var codes: [UInt8] = []
      var scales: [UInt8] = []
      for start in stride(from: 0, to: x.count, by: group) {
        let row = Array(x[start..<start + group])
        let exact = row.reduce(0) { max($0, abs($1)) } / (width == .int8 ? 127 : 7)
        // Cut, and odd where something was cut off, so that the second rounding is the only one.
        var single = Float(exact)
        if Double(single) > exact { single = single.nextDown }
        if Double(single) != exact { single = Float(bitPattern: single.bitPattern | 1) }
        let scale = BFloat16(single)
        scales += bytes(Float(scale), as: .bf16)
        let largest = width == .int8 ? 127.0 : 7.0
        let numbers = row.map { number in
          let code =
            scale.bitPattern == 0 ? 0 : (number / Double(Float(scale))).rounded(.toNearestOrEven)
          return Int(min(max(code, -largest), largest))
        }
        codes +=
          width == .int8
          ? numbers.map { UInt8(truncatingIfNeeded: $0) }
          : stride(from: 0, to: group, by: 2).map {
            UInt8(numbers[$0] & 15) | UInt8(numbers[$0 + 1] & 15) << 4
          }
      }
      return (codes, scales)
    }
    let row = ScaledIntegers(x, width: width, groupSize: group, halfScales: type == .f16)
    return (row.codes, row.scales.flatMap { bytes($0, as: type) })
  }
}

/// A cache tensor in guarded memory.
struct CacheTensorMemory {
  let data: GuardedBuffer
  let scales: GuardedBuffer?

  /// Poisoned, or with the bytes of a model.
  init(_ tensor: CacheTensor, holding model: CacheModel? = nil, on device: ComputeDevice)
    async throws
  {
    if let model {
      data = try await GuardedBuffer(model.data, label: "cache", on: device)
      scales =
        tensor.format.scaleType == nil
        ? nil : try await GuardedBuffer(model.scales, label: "scales", on: device)
    } else {
      data = try await GuardedBuffer(byteCount: tensor.byteCount, label: "cache", on: device)
      scales =
        tensor.format.scaleType == nil
        ? nil
        : try await GuardedBuffer(byteCount: tensor.scaleByteCount, label: "scales", on: device)
    }
  }

  var buffers: CacheTensorBuffers { CacheTensorBuffers(data.buffer, scales: scales?.buffer) }

  /// Fails where a byte of the memory, or of its guards, is another than the model's.
  func expectEqual(
    _ model: CacheModel, _ what: String, on device: ComputeDevice,
    sourceLocation: SourceLocation = #_sourceLocation
  ) async throws {
    try await data.expectGuardsIntact(sourceLocation: sourceLocation)
    let bytes = try await device.download(UInt8.self, from: data.buffer)
    expectSameBits(bytes, model.data, "\(what), data", sourceLocation: sourceLocation)
    guard let scales else { return }
    try await scales.expectGuardsIntact(sourceLocation: sourceLocation)
    let scaleBytes = try await device.download(UInt8.self, from: scales.buffer)
    expectSameBits(scaleBytes, model.scales, "\(what), scales", sourceLocation: sourceLocation)
  }
}

/// One append, on the device and on the host.
struct CacheAppendCase {
  let storage: CacheStorage
  var sequences: [Int32]
  var positions: [Int32]
  var pageTable: (indptr: [Int32], indices: [Int32])?
  var lengths: [Int32]?
  var keyType = ElementType.f32
  var rotary: RotaryEncoding?
  var rotaryPositions: [Int32]?
  /// [N, G, D] and [N, G, E], numbers of the types exactly.
  var keys: [Float] = []
  var values: [Float] = []
  /// Channels between the rows of k and v.
  var sourceGap = 0

  init(
    _ storage: CacheStorage, sequences: [Int32], positions: [Int32],
    pageTable: (indptr: [Int32], indices: [Int32])? = nil, seed: UInt64 = 1
  ) {
    self.storage = storage
    self.sequences = sequences
    self.positions = positions
    self.pageTable = pageTable
    var random = SplitMix64(seed: seed)
    keys = Self.numbers(sequences.count * storage.key.heads * storage.key.channels, &random)
    if let value = storage.value {
      values = Self.numbers(sequences.count * value.heads * value.channels, &random)
    }
  }

  /// Numbers that f16 and bf16 hold, of very different sizes.
  static func numbers(_ count: Int, _ random: inout SplitMix64) -> [Float] {
    (0..<count).map { index in
      let bits = random.next()
      let magnitude = Float(Int(bits & 0xFF) - 128) / 64
      return magnitude * (index % 37 == 0 ? 8 : 1) * ((bits >> 8) & 1 == 0 ? 1 : 0.125)
    }
  }

  /// The place of a token by the definition; nil where there is none.
  func place(_ n: Int) -> (block: Int, slot: Int)? {
    let (b, position) = (Int(sequences[n]), Int(positions[n]))
    let arrangement = storage.key.arrangement
    guard (0..<storage.sequences).contains(b), position >= 0 else { return nil }
    switch arrangement.kind {
    case .contiguous: return position < arrangement.blockTokens ? (b, position) : nil
    case .ring:
      if let lengths, position < Int(lengths[b]) - arrangement.blockTokens { return nil }
      return (b, position % arrangement.blockTokens)
    case .paged:
      guard let (indptr, indices) = pageTable, indptr[b] >= 0 else { return nil }
      let entry = Int(indptr[b]) + position / arrangement.blockTokens
      guard entry < Int(indptr[b + 1]), entry < indices.count else { return nil }
      let page = Int(indices[entry])
      guard (0..<arrangement.blockCount).contains(page) else { return nil }
      return (page, position % arrangement.blockTokens)
    }
  }

  /// What the caches must hold.
  func expected(keys: [Float]? = nil) -> (key: CacheModel, value: CacheModel?) {
    func filled(_ tensor: CacheTensor, _ x: [Float]) -> CacheModel {
      var model = CacheModel(tensor)
      for n in sequences.indices {
        guard let (block, slot) = place(n) else { continue }
        for head in 0..<tensor.heads {
          let start = (n * tensor.heads + head) * tensor.channels
          model.store(
            Array(x[start..<start + tensor.channels]), block: block, slot: slot, head: head)
        }
      }
      return model
    }
    return (filled(storage.key, keys ?? self.keys), storage.value.map { filled($0, values) })
  }

  private func strides(_ tensor: CacheTensor) -> TensorStrides {
    .tokenMajor(tokens: sequences.count, heads: tensor.heads, channels: tensor.channels + sourceGap)
  }

  func request() throws -> CacheAppendRequest {
    try CacheAppendRequest(
      tokens: sequences.count, storage: storage, keyType: keyType,
      keyStrides: strides(storage.key), valueStrides: storage.value.map(strides), rotary: rotary)
  }

  /// Appends on a device; the caches are poisoned before.
  func run(
    on device: ComputeDevice, sourceLocation: SourceLocation = #_sourceLocation
  ) async throws -> (key: CacheTensorMemory, value: CacheTensorMemory?) {
    let kernel = try CacheAppendKernel(request(), on: device)
    let memory = TypedMemory(device: device)
    func source(_ x: [Float], _ tensor: CacheTensor, _ label: String) async throws -> GuardedBuffer
    {
      var rows: [Float] = []
      for start in stride(from: 0, to: x.count, by: tensor.channels) {
        rows += x[start..<start + tensor.channels]
        if start + tensor.channels < x.count { rows += [Float](repeating: .nan, count: sourceGap) }
      }
      return try await memory.upload(rows, as: keyType, label)
    }
    func integers(_ x: [Int32]?, _ label: String) async throws -> GuardedBuffer? {
      guard let x else { return nil }
      return try await GuardedBuffer(x, label: label, on: device)
    }
    let key = try await CacheTensorMemory(storage.key, on: device)
    var value: CacheTensorMemory?
    var v: GuardedBuffer?
    if let tensor = storage.value {
      value = try await CacheTensorMemory(tensor, on: device)
      v = try await source(values, tensor, "v")
    }
    let k = try await source(keys, storage.key, "k")
    let sequences = try await GuardedBuffer(sequences, label: "sequences", on: device)
    let positions = try await GuardedBuffer(positions, label: "positions", on: device)
    let indptr = try await integers(pageTable?.indptr, "indptr")
    let indices = try await integers(pageTable?.indices, "indices")
    let lengths = try await integers(lengths, "lengths")
    let rotaryPositions = try await integers(rotaryPositions, "rotaryPositions")
    var frequencies: DeviceBuffer?
    if let rotary { frequencies = try await device.makeBuffer(rotary.frequencyTable) }
    var table: CachePageTableBuffers?
    if let indptr, let indices {
      table = CachePageTableBuffers(indptr: indptr.buffer, indices: indices.buffer)
    }
    let recorder = try device.makeRecorder()
    try kernel.record(
      CacheAppendBuffers(
        key: k.buffer, value: v?.buffer, sequences: sequences.buffer,
        positions: positions.buffer, frequencies: frequencies,
        rotaryPositions: rotaryPositions?.buffer, lengths: lengths?.buffer,
        cache: CacheBuffers(key: key.buffers, value: value?.buffers, pageTable: table)),
      into: recorder)
    try await device.submit(recorder).completed()
    return (key, value)
  }

  /// Appends on a device and compares every byte with the reference's.
  func expectReference(
    _ what: String, on device: ComputeDevice, sourceLocation: SourceLocation = #_sourceLocation
  ) async throws {
    let caches = try await run(on: device, sourceLocation: sourceLocation)
    let expected = expected()
    try await caches.key.expectEqual(
      expected.key, "keys, \(what)", on: device, sourceLocation: sourceLocation)
    if let value = caches.value, let model = expected.value {
      try await value.expectEqual(
        model, "values, \(what)", on: device, sourceLocation: sourceLocation)
    }
  }
}

/// Arrangements with tokens to put into them.
enum CacheSetting: String, CaseIterable, Sendable {
  case contiguous, ring, paged

  /// 3 sequences, or 7 pages, of 5 places.
  func arrangement(_ order: CacheArrangement.Order = .nhd) -> CacheArrangement {
    switch self {
    case .contiguous: .contiguous(sequences: 3, capacity: 5, order: order)
    case .ring: .ring(sequences: 3, capacity: 5, order: order)
    case .paged: .paged(pages: 7, pageSize: 5, order: order)
    }
  }

  var pageTable: (indptr: [Int32], indices: [Int32])? {
    self == .paged ? ([0, 2, 2, 5], [6, 0, 3, 2, 5, -1]) : nil
  }

  var shape: CachePageTableShape? {
    pageTable.map { CachePageTableShape(sequences: $0.indptr.count - 1, entries: $0.indices.count) }
  }

  func storage(
    _ key: CacheFormat, _ value: CacheFormat? = nil, heads: Int = 2, channels: Int = 64,
    valueChannels: Int? = nil, order: CacheArrangement.Order = .nhd
  ) throws -> CacheStorage {
    let place = arrangement(order)
    var tensor: CacheTensor?
    if let value {
      tensor = try CacheTensor(value, place, heads: heads, channels: valueChannels ?? channels)
    }
    return try CacheStorage(
      key: CacheTensor(key, place, heads: heads, channels: channels), value: tensor,
      pageTable: shape)
  }

  /// Tokens of all sequences, in no order.
  var tokens: (sequences: [Int32], positions: [Int32]) {
    switch self {
    case .contiguous: ([2, 0, 0, 1, 2], [4, 3, 0, 1, 2])
    case .ring: ([2, 0, 0, 1, 2], [1004, 3, 0, 6, 1002])
    case .paged: ([2, 0, 0, 2, 2, 0], [14, 3, 9, 0, 7, 5])
    }
  }

  func append(_ storage: CacheStorage, seed: UInt64 = 1) -> CacheAppendCase {
    CacheAppendCase(
      storage, sequences: tokens.sequences, positions: tokens.positions, pageTable: pageTable,
      seed: seed)
  }
}

extension CacheFormat {
  /// Every format, with every type of scales for rows of 64 channels.
  static let samples: [CacheFormat] = [
    .f32, .f16, .bf16, .q8, .q4, .q4WithMinimum, .int8(groupSize: 64, scaleType: .f32),
    .int8(groupSize: 16, scaleType: .f16), .int8(groupSize: 32, scaleType: .bf16),
    .int4(groupSize: 64, scaleType: .f16), .int4(groupSize: 8, scaleType: .f32),
    .int4(groupSize: 32, scaleType: .bf16), .e4m3, .e5m2,
  ]
}
