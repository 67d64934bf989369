import Foundation
import TestSupport
import Testing

@testable import VulkanAttention

@Suite struct AttentionRequestTests {
  private static func request(
    b: Int = 2, s: Int = 4, t: Int? = nil, h: Int = 4, g: Int? = nil, d: Int = 16, e: Int? = nil,
    scale: Float? = nil, q: TensorStrides? = nil, k: TensorStrides? = nil,
    v: TensorStrides? = nil, o: TensorStrides? = nil
  ) throws -> AttentionRequest {
    try AttentionRequest(
      batchSize: b, queryTokens: s, keyTokens: t, queryHeads: h, keyHeads: g, headSize: d,
      valueHeadSize: e, scale: scale, queryStrides: q, keyStrides: k, valueStrides: v,
      outputStrides: o)
  }

  static let badRequests: [BadRequest] = [
    .init("B = 0", "batchSize", says: "1 to") { try request(b: 0) },
    .init("B < 0", "batchSize", says: "-3") { try request(b: -3) },
    .init("B too large", "batchSize", says: "1073741823") { try request(b: .max) },
    .init("S = 0", "queryTokens", says: "1 to") { try request(s: 0) },
    .init("S < 0", "queryTokens", says: "-1") { try request(s: -1) },
    .init("S too large", "queryTokens", says: "1073741823") { try request(s: 1 << 31) },
    .init("T < 0", "keyTokens", says: "0 to") { try request(t: -1) },
    .init("T least", "keyTokens", says: "0 to") { try request(t: .min) },
    .init("H = 0", "queryHeads", says: "1 to") { try request(h: 0) },
    .init("G = 0", "keyHeads", says: "1 to") { try request(g: 0) },
    .init("G < 0", "keyHeads", says: "1 to") { try request(g: -4) },
    .init("H no multiple of G", "keyHeads", says: "divisor of queryHeads, 4") {
      try request(h: 4, g: 3)
    },
    .init("G > H", "keyHeads", says: "divisor") { try request(h: 4, g: 8) },
    .init("D = 0", "headSize", says: "1 to 576") { try request(d: 0) },
    .init("D < 0", "headSize", says: "1 to 576") { try request(d: -8) },
    .init("D = 577", "headSize", says: "1 to 576") { try request(d: 577) },
    .init("E = 0", "valueHeadSize", says: "1 to 576") { try request(e: 0) },
    .init("E = 584", "valueHeadSize", says: "1 to 576") { try request(e: 584) },
    .init("scale NaN", "scale", says: "finite") { try request(scale: .nan) },
    .init("scale inf", "scale", says: "finite") { try request(scale: -.infinity) },
    .init("negative stride", "queryStrides.token", says: "-64") {
      try request(q: TensorStrides(batch: 256, token: -64, head: 16))
    },
    .init("stride of 2^32", "valueStrides.batch", says: "4294967295") {
      try request(v: TensorStrides(batch: 1 << 32, token: 64, head: 16))
    },
    .init("output heads overlap", "outputStrides.head", says: "at least 16") {
      try request(o: TensorStrides(batch: 256, token: 64, head: 8))
    },
    .init("output tokens overlap heads", "outputStrides.token", says: "at least 64") {
      try request(o: TensorStrides(batch: 256, token: 56, head: 16))
    },
    .init("output batches overlap", "outputStrides.batch", says: "at least 256") {
      try request(o: TensorStrides(batch: 248, token: 64, head: 16))
    },
    .init("output repeats", "outputStrides.batch", says: "share memory") {
      try request(o: TensorStrides(batch: 0, token: 64, head: 16))
    },
  ]

  @Test(arguments: badRequests)
  func refuses(bad: BadRequest) { bad.expectRefused() }

  @Test("Tensors that no address reaches are refused without a crash")
  func tooLarge() {
    let most = Int(Int32.max)
    #expect(throws: AttentionError.self) {
      try Self.request(b: most, s: most, h: most, d: 256)
    }
    #expect(throws: AttentionError.tooLarge(tensor: "query")) {
      try Self.request(b: 1 << 20, s: 1 << 21, h: 1, d: 256)
    }
    #expect(throws: AttentionError.tooLarge(tensor: "key")) {
      try Self.request(
        b: 1 << 16, s: 1, t: 1 << 29, h: 1, d: 256,
        k: .init(batch: 1 << 31, token: 1 << 31, head: 0))
    }
  }

  @Test("Strides of axes with one entry are not looked at")
  func unusedStrides() throws {
    let odd = TensorStrides(batch: -7, token: 3, head: .max)
    let request = try Self.request(b: 1, s: 1, h: 1, q: odd, k: odd, v: odd, o: odd)
    for tensor in AttentionRequest.Tensor.allCases { #expect(request.byteCount(of: tensor) == 64) }
  }

  @Test("What is not said has its default")
  func defaults() throws {
    let request = try AttentionRequest(queryTokens: 7, queryHeads: 4, headSize: 64)
    #expect(request.batchSize == 1 && request.keyTokens == 7 && request.keyHeads == 4)
    #expect(request.valueHeadSize == 64 && request.elementType == .f32)
    #expect(request.scale == 0.125 && request.mask == .none && !request.returnsLogSumExp)
    #expect(request.queryStrides == .tokenMajor(tokens: 7, heads: 4, channels: 64))
  }

  @Test("Extremes that are allowed")
  func extremes() throws {
    #expect(try Self.request(t: 0).byteCount(of: .key) == 0)
    #expect(try Self.request(scale: 0).scale == 0)
    #expect(try Self.request(scale: -1e30).scale == -1e30)
    for size in stride(from: 8, through: 256, by: 8) {
      #expect(try Self.request(d: size, e: 264 - size).valueHeadSize == 264 - size)
    }
    // Repeated inputs, and an output whose batches lie between each other's tokens.
    let repeated = TensorStrides(batch: 0, token: 0, head: 0)
    let request = try Self.request(
      q: repeated, k: repeated, v: repeated, o: .init(batch: 64, token: 128, head: 16))
    #expect(request.byteCount(of: .query) == 64)
    #expect(request.byteCount(of: .output) == 2 * 4 * 64 * 4)
  }

  @Test("Byte counts reach to the end of the last row")
  func byteCounts() throws {
    let request = try AttentionRequest(
      batchSize: 2, queryTokens: 3, keyTokens: 5, queryHeads: 4, keyHeads: 2, headSize: 16,
      valueHeadSize: 24, elementType: .f16, returnsLogSumExp: true,
      keyStrides: .init(batch: 1000, token: 104, head: 48))
    #expect(request.byteCount(of: .query) == 2 * 3 * 4 * 16 * 2)
    #expect(request.byteCount(of: .key) == (1000 + 4 * 104 + 48 + 16) * 2)
    #expect(request.byteCount(of: .value) == 2 * 5 * 2 * 24 * 2)
    #expect(request.byteCount(of: .output) == 2 * 3 * 4 * 24 * 2)
    #expect(request.logSumExpByteCount == 2 * 3 * 4 * 4)
    #expect(request.headsPerGroup == 2)
    let rows = Double(2 * 3 * 4 + 2 * 5 * 2)
    #expect(request.compulsoryBytes == rows * 40 * 2 + 2 * 3 * 4 * 4)
  }

  @Test("Visible pairs and operations, against counting", arguments: [AttentionMask.none, .causal])
  func visiblePairs(mask: AttentionMask) throws {
    for s in 1...9 {
      for t in 0...11 {
        let request = try AttentionRequest(
          batchSize: 2, queryTokens: s, keyTokens: t, queryHeads: 3, headSize: 8,
          valueHeadSize: 16, mask: mask)
        func count(_ rows: Range<Int>) -> Int {
          rows.reduce(0) { sum, i in
            sum + (0..<t).count { j in mask == .none || j <= i + t - s }
          }
        }
        try #require(request.visiblePairs == count(0..<s))
        for first in 0..<s {
          for end in first...s {
            let rows = first..<end
            try #require(
              request.visiblePairs(rows: rows) == count(rows), "S\(s) T\(t) \(rows)")
          }
        }
        let operations = 2.0 * 2 * 3 * Double(count(0..<s)) * 24
        try #require(request.floatingPointOperations == operations)
      }
    }
  }

  @Test(
    "Errors say what was asked, what is allowed and what to do",
    arguments: [
      (.invalidArgument(name: "n", value: "3", allowed: "4 to 5"), ["n", "3", "4 to 5"]),
      (.tooLarge(tensor: "key"), ["key", "split"]),
      (.pathUnavailable(path: .matrix, reason: "no units"), ["matrix", "no units"]),
      (.noPath(reasons: ["a", "b"]), ["a; b"]),
      (
        .bufferTooSmall(tensor: "output", requiredBytes: 9, availableBytes: 8),
        ["output", "9", "8"]
      ),
      (.misaligned(tensor: "query", address: 20, requiredAlignment: 16), ["query", "20", "16"]),
      (.overlappingOutput(output: "output", with: "key"), ["output", "key"]),
      (.missingLogSumExpBuffer, ["log-sum-exp"]),
      (.missingScratchBuffer(requiredBytes: 77), ["77", "scratch"]),
      (.device(.cancelled), ["cancelled"]),
    ] as [(AttentionError, [String])])
  func descriptions(error: AttentionError, parts: [String]) {
    for part in parts { #expect("\(error)".contains(part)) }
  }
}
