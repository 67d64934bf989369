import Testing

@testable import VulkanAttention

@Suite struct DecodeRequestTests {
  private static let cache: @Sendable (CacheFormat, CacheArrangement) throws -> CacheTensor = {
    try CacheTensor($0, $1, heads: 2, channels: 64)
  }

  private func expectRefused(
    _ name: String, sourceLocation: SourceLocation = #_sourceLocation,
    _ make: () throws -> DecodeRequest
  ) {
    let error = #expect(throws: AttentionError.self, sourceLocation: sourceLocation) { try make() }
    guard let error, case .invalidArgument(let found, _, _) = error else {
      Issue.record(
        "another error: \(String(describing: error))", sourceLocation: sourceLocation)
      return
    }
    #expect(found == name, sourceLocation: sourceLocation)
  }

  @Test func badRequestsAreRefused() throws {
    let contiguous = try Self.cache(.f16, .contiguous(sequences: 2, capacity: 100))
    let paged = try Self.cache(.f16, .paged(pages: 9, pageSize: 16))
    expectRefused("batchSize") {
      try DecodeRequest(
        batchSize: 3, queryHeads: 4, keyCache: contiguous, valueCache: contiguous)
    }
    expectRefused("valueCache") {
      try DecodeRequest(batchSize: 2, queryHeads: 4, keyCache: contiguous, valueCache: paged)
    }
    expectRefused("valueHeadSize") {
      try DecodeRequest(
        batchSize: 2, queryHeads: 4, keyCache: contiguous, valueCache: contiguous,
        valueHeadSize: 32)
    }
    expectRefused("keyHeads") {
      try DecodeRequest(
        batchSize: 2, queryHeads: 5, keyCache: contiguous, valueCache: contiguous)
    }
    expectRefused("maxKeyTokens") {
      try DecodeRequest(
        batchSize: 2, queryHeads: 4, keyCache: contiguous, valueCache: contiguous,
        maxKeyTokens: 101)
    }
    for kind in [AttentionOperand.Kind.keyLengths, .blockMap, .gridBias, .relativeKeys] {
      expectRefused("operands") {
        try DecodeRequest(
          batchSize: 2, queryHeads: 4, keyCache: contiguous, valueCache: contiguous,
          operands: [AttentionOperand(kind)])
      }
    }
    for channels in [0, 4, 12, 72] {
      expectRefused("keyRotation.channels") {
        try DecodeRequest(
          batchSize: 2, queryHeads: 4, keyCache: contiguous, valueCache: contiguous,
          keyRotation: .init(pairing: .halves, channels: channels))
      }
    }
    // Fewer channels than the least rotation.
    let narrow = try CacheTensor(
      .f16, .contiguous(sequences: 2, capacity: 100), heads: 2, channels: 4)
    for channels in [-8, 0, 8] {
      expectRefused("keyRotation.channels") {
        try DecodeRequest(
          batchSize: 2, queryHeads: 4, keyCache: narrow, valueCache: narrow,
          keyRotation: .init(pairing: .halves, channels: channels))
      }
    }
    expectRefused("keyRotation") {
      try DecodeRequest(
        batchSize: 2, queryHeads: 4, keyCache: contiguous, valueCache: nil, valueHeadSize: 32,
        keyRotation: .init(pairing: .halves, channels: 64))
    }
  }

  @Test func keysThatNoQuerySeesAreNotRead() throws {
    var window = AttentionMask.causal
    window.windowLeft = 10
    let cache = try Self.cache(.f16, .contiguous(sequences: 1, capacity: 100))
    let ring = try Self.cache(.f16, .ring(sequences: 1, capacity: 16))
    func visible(
      _ cache: CacheTensor, _ mask: AttentionMask, tokens: Int, _ length: Int
    ) throws -> Range<Int> {
      try DecodeRequest(
        batchSize: 1, queryTokens: tokens, queryHeads: 4, keyCache: cache, valueCache: cache,
        mask: mask
      ).visibleKeys(length: length)
    }
    #expect(try visible(cache, .causal, tokens: 1, 50) == 0..<50)
    // The first of 3 queries stands at 47 and sees 37...47.
    #expect(try visible(cache, window, tokens: 3, 50) == 37..<50)
    #expect(try visible(cache, window, tokens: 1, 4) == 0..<4)
    #expect(try visible(ring, .causal, tokens: 1, 50) == 34..<50)
    #expect(try visible(ring, window, tokens: 1, 50) == 39..<50)
    window.sinkTokens = 2
    #expect(try visible(cache, window, tokens: 1, 50) == 0..<50)
  }

  @Test func bytesAreThoseOfTheFormats() throws {
    let arrangement = CacheArrangement.contiguous(sequences: 1, capacity: 100)
    func bytes(_ format: CacheFormat) throws -> Double {
      let cache = try Self.cache(format, arrangement)
      return try DecodeRequest(
        batchSize: 1, queryHeads: 2, keyCache: cache, valueCache: cache
      ).compulsoryBytes(lengths: [10])
    }
    // 10 keys and values of 2 heads, and 2 heads of 64 f16 in and out.
    let own = 2.0 * 2 * 64 * 2
    #expect(try bytes(.f16) == 10 * 2 * 2 * 128 + own)
    #expect(try bytes(.q8) == 10 * 2 * 2 * 68 + own)
    #expect(try bytes(.q4) == 10 * 2 * 2 * 36 + own)
    #expect(try bytes(.int8(groupSize: 64, scaleType: .f32)) == 10 * 2 * 2 * 68 + own)
  }
}
