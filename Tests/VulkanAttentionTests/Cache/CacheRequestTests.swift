import ShaderLibrary
import TestSupport
import Testing

@testable import VulkanAttention

/// Caches, appends and moves that no device could run are refused before any device is asked.
@Suite struct CacheRequestTests {
  private func expectRefused(
    _ name: String, says: String, sourceLocation: SourceLocation = #_sourceLocation,
    _ make: () throws -> Any
  ) {
    let error = #expect(throws: AttentionError.self, sourceLocation: sourceLocation) {
      _ = try make()
    }
    guard let error, case .invalidArgument(let found, _, _) = error else {
      Issue.record("another error: \(String(describing: error))", sourceLocation: sourceLocation)
      return
    }
    #expect(found == name, sourceLocation: sourceLocation)
    #expect("\(error)".contains(says), "\(error)", sourceLocation: sourceLocation)
  }

  private func tensor(
    _ format: CacheFormat = .f16, _ arrangement: CacheArrangement? = nil, heads: Int = 2,
    channels: Int = 64, strides: TensorStrides? = nil
  ) throws -> CacheTensor {
    try CacheTensor(
      format, arrangement ?? .contiguous(sequences: 3, capacity: 5), heads: heads,
      channels: channels, strides: strides)
  }

  private var pages: CacheArrangement { .paged(pages: 7, pageSize: 5) }

  /// An append would take them as they are.
  @Test(arguments: [CacheFormat.f16, .q8])
  func formatsWithoutScalesHaveNoStridesOfThem(_ format: CacheFormat) {
    expectRefused("scaleStrides", says: "none: ") {
      try CacheTensor(
        format, .contiguous(sequences: 3, capacity: 5), heads: 2, channels: 64,
        scaleStrides: TensorStrides(batch: -1, token: 0, head: 0))
    }
  }

  @Test func storages() throws {
    expectRefused("value.arrangement", says: "contiguous, 3 x 5") {
      try CacheStorage(key: tensor(), value: tensor(.f16, .contiguous(sequences: 3, capacity: 6)))
    }
    expectRefused("value.arrangement", says: "ring") {
      try CacheStorage(key: tensor(), value: tensor(.f16, .ring(sequences: 3, capacity: 5)))
    }
    expectRefused("value.heads", says: "the keys' 2") {
      try CacheStorage(key: tensor(), value: tensor(heads: 3))
    }
    expectRefused("pageTable", says: "for pages") { try CacheStorage(key: tensor(.f16, pages)) }
    expectRefused("pageTable", says: "without pages") {
      try CacheStorage(key: tensor(), pageTable: CachePageTableShape(sequences: 1, entries: 1))
    }
    for (sequences, entries, name) in [
      (0, 1, "sequences"), (1, 0, "entries"), (1 << 30, 1, "sequences"), (1, 1 << 30, "entries"),
    ] {
      expectRefused("pageTable.\(name)", says: "1 to") {
        try CacheStorage(
          key: tensor(.f16, pages),
          pageTable: CachePageTableShape(sequences: sequences, entries: entries))
      }
    }
    // Rows of 7 bytes, and rows of 8 bytes at odd ones.
    expectRefused("key.strides", says: "even") {
      try CacheStorage(key: tensor(.e4m3, channels: 7))
    }
    expectRefused("value.strides", says: "even") {
      try CacheStorage(
        key: tensor(),
        value: tensor(
          .e5m2, channels: 8, strides: TensorStrides(batch: 1000, token: 100, head: 9)))
    }
    // Orders may differ, and heads of one need no stride.
    let storage = try CacheStorage(
      key: tensor(), value: tensor(.q8, .contiguous(sequences: 3, capacity: 5, order: .hnd)))
    #expect(storage.sequences == 3)
    let paged = try CacheStorage(
      key: tensor(.f16, pages), pageTable: CachePageTableShape(sequences: 4, entries: 9))
    #expect(paged.sequences == 4)
  }

  @Test func appends() throws {
    let storage = try CacheStorage(key: tensor())
    expectRefused("tokens", says: "1 to") { try CacheAppendRequest(tokens: 0, storage: storage) }
    expectRefused("tokens", says: "1 to") {
      try CacheAppendRequest(tokens: 1 << 30, storage: storage)
    }
    expectRefused("rotary", says: "at most the keys' 64") {
      try CacheAppendRequest(
        tokens: 1, storage: storage, rotary: RotaryEncoding(rotaryChannels: 66))
    }
    expectRefused("kStrides.token", says: "0 to") {
      try CacheAppendRequest(
        tokens: 2, storage: storage, keyStrides: TensorStrides(batch: 0, token: -1, head: 64))
    }
    expectRefused("valueStrides", says: "keys alone") {
      try CacheAppendRequest(
        tokens: 2, storage: storage, valueStrides: TensorStrides(batch: 0, token: 128, head: 64))
    }
    let pair = try CacheStorage(key: tensor(), value: tensor(channels: 32))
    expectRefused("vStrides.head", says: "0 to") {
      try CacheAppendRequest(
        tokens: 2, storage: pair, valueStrides: TensorStrides(batch: 0, token: 0, head: -4))
    }
    let request = try CacheAppendRequest(
      tokens: 3, storage: pair, keyType: .f16, valueType: .f32,
      valueStrides: TensorStrides(batch: 0, token: 100, head: 40))
    #expect(request.keyByteCount == 3 * 2 * 64 * 2)
    #expect(request.valueByteCount == (2 * 100 + 40 + 32) * 4)
    #expect(request.compulsoryBytes == Double(3 * 2 * (128 + 128 + 64 + 128) + 24))
    #expect(throws: AttentionError.tooLarge(tensor: "grid of cache_append")) {
      try CacheAppendPlan(
        CacheAppendRequest(tokens: 1 << 29, storage: storage),
        device: SampleDevice.nvidia.capabilities())
    }
  }

  @Test func gridLimit() throws {
    var device = try SampleDevice.nvidia.capabilities()
    device.maxWorkgroupCount = [4, 2, 1]
    let request = try CacheAppendRequest(tokens: 1000, storage: CacheStorage(key: tensor()))
    #expect(
      throws: AttentionError.device(
        .limitExceeded(what: "workgroups of cache_append", requested: 250, allowed: 8))
    ) { try CacheAppendPlan(request, device: device) }
    device.maxWorkgroupCount = [100, 100, 1]
    #expect(try CacheAppendPlan(request, device: device).key.groups == WorkgroupCount(x: 100, y: 3))
  }

  @Test func encodings() throws {
    for channels in [0, 1, 7, 578] {
      expectRefused("rotaryChannels", says: "even numbers") {
        try RotaryEncoding(rotaryChannels: channels)
      }
    }
    for theta in [1, 0, -3, .infinity, .nan] {
      expectRefused("theta", says: "more than 1") {
        try RotaryEncoding(rotaryChannels: 64, theta: theta)
      }
    }
    for factor in [0, -1, .infinity, .nan] {
      expectRefused("scaling.factor", says: "more than 0") {
        try RotaryEncoding(rotaryChannels: 64, scaling: .linear(factor: factor))
      }
      expectRefused("scaling.factor", says: "more than 0") {
        try RotaryEncoding(
          rotaryChannels: 64, scaling: .yarn(.init(factor: factor, originalContext: 9)))
      }
    }
    expectRefused("scaling.originalContext", says: "1 to") {
      try RotaryEncoding(rotaryChannels: 64, scaling: .yarn(.init(factor: 2, originalContext: 0)))
    }
    var yarn = RotaryEncoding.Yarn(factor: 2, originalContext: 4096)
    yarn.fastRotations = 1
    expectRefused("scaling.fastRotations", says: "more than 1") {
      try RotaryEncoding(rotaryChannels: 64, scaling: .yarn(yarn))
    }
    yarn.slowRotations = 0
    expectRefused("scaling.slowRotations", says: "more than 0") {
      try RotaryEncoding(rotaryChannels: 64, scaling: .yarn(yarn))
    }
    expectRefused("frequencies", says: "1 to 288") {
      try RotaryEncoding(frequencies: [], pairing: .halves)
    }
    expectRefused("frequencies[1]", says: "radians") {
      try RotaryEncoding(frequencies: [1, .nan], pairing: .halves)
    }
    expectRefused("attentionFactor", says: "-1e6") {
      try RotaryEncoding(frequencies: [1], pairing: .halves, attentionFactor: .infinity)
    }
  }

  @Test func rotations() throws {
    let rotary = try RotaryEncoding(rotaryChannels: 64)
    for (name, tokens, heads, channels) in [
      ("tokens", 0, 1, 64), ("heads", 1, 0, 64), ("channels", 1, 1, 577), ("rotary", 1, 1, 63),
    ] {
      expectRefused(name, says: "allowed") {
        try RotaryRequest(tokens: tokens, heads: heads, channels: channels, rotary: rotary)
      }
    }
    expectRefused("yStrides.head", says: "no two rows share memory") {
      try RotaryRequest(
        tokens: 2, heads: 2, channels: 64, rotary: rotary,
        outputStrides: TensorStrides(batch: 0, token: 128, head: 63))
    }
    // Inputs may repeat a row.
    let request = try RotaryRequest(
      tokens: 2, heads: 2, channels: 64, rotary: rotary,
      strides: TensorStrides(batch: 0, token: 0, head: 64),
      outputStrides: TensorStrides(batch: 0, token: 128, head: 64))
    #expect(!request.canReplace && request.inputByteCount == 512)
  }

  @Test func moves() throws {
    let ring = try CacheStorage(key: tensor(.f16, .ring(sequences: 3, capacity: 5)))
    expectRefused("nodes", says: "1 to 5") { try CacheCompactRequest(storage: ring, nodes: 6) }
    expectRefused("nodes", says: "1 to 5") { try CacheCompactRequest(storage: ring, nodes: 0) }
    for length in [0, 6] {
      expectRefused("pathTokens", says: "1 to 5") {
        try CacheCompactRequest(storage: ring, nodes: 5, pathTokens: length)
      }
    }
    expectRefused("copies", says: "1 to") { try CacheCopyPagesRequest(storage: ring, copies: 0) }
  }

  @Test("Rows are moved by as many bytes as divide them and their strides")
  func accesses() throws {
    var device = try SampleDevice.nvidia.capabilities()
    for (format, channels, expected) in [
      (CacheFormat.f16, 64, [16]), (.f16, 7, [2]), (.f32, 7, [4]), (.q8, 64, [4]), (.q8, 256, [16]),
      (.q4, 64, [4]), (.q4WithMinimum, 64, [8]), (.e4m3, 36, [4]),
      (.int8(groupSize: 16, scaleType: .f16), 64, [16, 8]),
      (.int4(groupSize: 12, scaleType: .f16), 12, [2, 2]),
    ] {
      device.kind = .discrete
      let tensor = try tensor(format, channels: channels)
      #expect(CacheRows.of(tensor, device: device).map(\.access) == expected, "\(format)")
      device.kind = .cpu
      #expect(
        CacheRows.of(tensor, device: device).map(\.access) == expected.map { min($0, 8) })
    }
  }
}

/// The structs of push constants are the shaders' blocks, field for field.
@Suite struct CachePushConstantsTests {
  private func expectBlock(
    _ name: String, _ fields: [(name: String, offset: Int?)], byteCount: Int,
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let shader = try #require(ShaderBinary.named(name))
    #expect(
      shader.pushConstants.map(\.name) == fields.map(\.name), sourceLocation: sourceLocation)
    for (member, field) in zip(shader.pushConstants, fields) {
      #expect(member.byteOffset == field.offset, "\(member.name)", sourceLocation: sourceLocation)
    }
    #expect(shader.pushConstantByteCount == byteCount, sourceLocation: sourceLocation)
    #expect(byteCount <= 128, sourceLocation: sourceLocation)
    #expect(
      shader.localSize == [.specialized(id: 0), .fixed(1), .fixed(1)],
      sourceLocation: sourceLocation)
  }

  @Test func append() throws {
    typealias Constants = CacheAppendPushConstants
    let addresses: [(String, Int?)] = [
      ("source", MemoryLayout<Constants>.offset(of: \.source)),
      ("cache", MemoryLayout<Constants>.offset(of: \.cache)),
      ("scales", MemoryLayout<Constants>.offset(of: \.scales)),
      ("sequences", MemoryLayout<Constants>.offset(of: \.sequences)),
      ("positions", MemoryLayout<Constants>.offset(of: \.positions)),
      ("table", MemoryLayout<Constants>.offset(of: \.table)),
      ("indices", MemoryLayout<Constants>.offset(of: \.indices)),
      ("frequencies", MemoryLayout<Constants>.offset(of: \.frequencies)),
      ("rotaryPositions", MemoryLayout<Constants>.offset(of: \.rotaryPositions)),
    ]
    let numbers: [(String, Int?)] = [
      ("sourceTokenStride", MemoryLayout<Constants>.offset(of: \.sourceTokenStride)),
      ("sourceHeadStride", MemoryLayout<Constants>.offset(of: \.sourceHeadStride)),
      ("cacheBlockStride", MemoryLayout<Constants>.offset(of: \.cacheBlockStride)),
      ("cacheTokenStride", MemoryLayout<Constants>.offset(of: \.cacheTokenStride)),
      ("cacheHeadStride", MemoryLayout<Constants>.offset(of: \.cacheHeadStride)),
      ("scaleBlockStride", MemoryLayout<Constants>.offset(of: \.scaleBlockStride)),
      ("scaleTokenStride", MemoryLayout<Constants>.offset(of: \.scaleTokenStride)),
      ("scaleHeadStride", MemoryLayout<Constants>.offset(of: \.scaleHeadStride)),
      ("tokens", MemoryLayout<Constants>.offset(of: \.tokens)),
      ("sequenceCount", MemoryLayout<Constants>.offset(of: \.sequenceCount)),
      ("blocks", MemoryLayout<Constants>.offset(of: \.blocks)),
      ("blockTokens", MemoryLayout<Constants>.offset(of: \.blockTokens)),
      ("pageEntries", MemoryLayout<Constants>.offset(of: \.pageEntries)),
      ("attentionFactor", MemoryLayout<Constants>.offset(of: \.attentionFactor)),
    ]
    try expectBlock(
      CacheAppendPlan.shaderName, addresses + numbers, byteCount: MemoryLayout<Constants>.size)
  }

  @Test func rotate() throws {
    typealias Constants = RotaryPushConstants
    let fields: [(String, Int?)] = [
      ("source", MemoryLayout<Constants>.offset(of: \.source)),
      ("destination", MemoryLayout<Constants>.offset(of: \.destination)),
      ("positions", MemoryLayout<Constants>.offset(of: \.positions)),
      ("frequencies", MemoryLayout<Constants>.offset(of: \.frequencies)),
      ("sourceTokenStride", MemoryLayout<Constants>.offset(of: \.sourceTokenStride)),
      ("sourceHeadStride", MemoryLayout<Constants>.offset(of: \.sourceHeadStride)),
      ("destinationTokenStride", MemoryLayout<Constants>.offset(of: \.destinationTokenStride)),
      ("destinationHeadStride", MemoryLayout<Constants>.offset(of: \.destinationHeadStride)),
      ("tokens", MemoryLayout<Constants>.offset(of: \.tokens)),
      ("attentionFactor", MemoryLayout<Constants>.offset(of: \.attentionFactor)),
      ("reserved0", MemoryLayout<Constants>.offset(of: \.reserved0)),
      ("reserved1", MemoryLayout<Constants>.offset(of: \.reserved1)),
    ]
    try expectBlock(RotaryPlan.shaderName, fields, byteCount: MemoryLayout<Constants>.size)
  }

  @Test func compact() throws {
    typealias Constants = CacheCompactPushConstants
    let fields: [(String, Int?)] = [
      ("rows", MemoryLayout<Constants>.offset(of: \.rows)),
      ("committed", MemoryLayout<Constants>.offset(of: \.committed)),
      ("paths", MemoryLayout<Constants>.offset(of: \.paths)),
      ("pathLengths", MemoryLayout<Constants>.offset(of: \.pathLengths)),
      ("indptr", MemoryLayout<Constants>.offset(of: \.indptr)),
      ("indices", MemoryLayout<Constants>.offset(of: \.indices)),
      ("blockStride", MemoryLayout<Constants>.offset(of: \.blockStride)),
      ("tokenStride", MemoryLayout<Constants>.offset(of: \.tokenStride)),
      ("headStride", MemoryLayout<Constants>.offset(of: \.headStride)),
      ("heads", MemoryLayout<Constants>.offset(of: \.heads)),
      ("sequenceCount", MemoryLayout<Constants>.offset(of: \.sequenceCount)),
      ("nodes", MemoryLayout<Constants>.offset(of: \.nodes)),
      ("pathTokens", MemoryLayout<Constants>.offset(of: \.pathTokens)),
      ("blocks", MemoryLayout<Constants>.offset(of: \.blocks)),
      ("blockTokens", MemoryLayout<Constants>.offset(of: \.blockTokens)),
      ("pageEntries", MemoryLayout<Constants>.offset(of: \.pageEntries)),
      ("reserved", MemoryLayout<Constants>.offset(of: \.reserved)),
    ]
    try expectBlock(CacheCompactPlan.shaderName, fields, byteCount: MemoryLayout<Constants>.size)
  }

  @Test func copyPages() throws {
    typealias Constants = CacheCopyPagesPushConstants
    let fields: [(String, Int?)] = [
      ("rows", MemoryLayout<Constants>.offset(of: \.rows)),
      ("copies", MemoryLayout<Constants>.offset(of: \.copies)),
      ("blockStride", MemoryLayout<Constants>.offset(of: \.blockStride)),
      ("tokenStride", MemoryLayout<Constants>.offset(of: \.tokenStride)),
      ("headStride", MemoryLayout<Constants>.offset(of: \.headStride)),
      ("heads", MemoryLayout<Constants>.offset(of: \.heads)),
      ("blocks", MemoryLayout<Constants>.offset(of: \.blocks)),
      ("blockTokens", MemoryLayout<Constants>.offset(of: \.blockTokens)),
      ("copyCount", MemoryLayout<Constants>.offset(of: \.copyCount)),
      ("hasHeadsOutside", MemoryLayout<Constants>.offset(of: \.hasHeadsOutside)),
      ("reserved", MemoryLayout<Constants>.offset(of: \.reserved)),
    ]
    try expectBlock(CacheCopyPagesPlan.shaderName, fields, byteCount: MemoryLayout<Constants>.size)
  }
}
