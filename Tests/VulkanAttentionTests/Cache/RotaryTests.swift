import AttentionReference
import TestSupport
import Testing

@testable import VulkanAttention

/// Rotary embedding on the device against the reference in Double.
@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct RotaryTests {
  let device: ComputeDevice

  init() throws {
    device = try TestDevice.shared()
  }

  /// The reference's embedding and ours.
  private static func pair(
    _ channels: Int, _ pairing: RotaryEncoding.Pairing, yarn: Bool = false, linear: Double? = nil
  ) throws -> (RotaryEmbedding, RotaryEncoding) {
    var embedding = RotaryEmbedding()
    embedding.rotaryChannels = channels
    embedding.pairing = pairing == .interleaved ? .interleaved : .halves
    var scaling = RotaryEncoding.Scaling.none
    if yarn {
      embedding.scaling = .yarn(YarnScaling(factor: 16, originalContext: 4096))
      scaling = .yarn(.init(factor: 16, originalContext: 4096))
    } else if let linear {
      embedding.scaling = .linear(factor: linear)
      scaling = .linear(factor: linear)
    }
    return (
      embedding, try RotaryEncoding(rotaryChannels: channels, pairing: pairing, scaling: scaling)
    )
  }

  @Test("Frequencies are the reference's")
  func frequencies() throws {
    for channels in [2, 64, 128, 576] {
      for (embedding, encoding) in [
        try Self.pair(channels, .halves), try Self.pair(channels, .interleaved, yarn: true),
        try Self.pair(channels, .halves, linear: 8),
      ] {
        let expected = embedding.frequencies(channels: 576)
        #expect(encoding.frequencies.count == channels / 2)
        for (actual, expected) in zip(encoding.frequencies, expected) {
          #expect(abs(actual - expected) <= 1e-15 * expected)
        }
        #expect(abs(encoding.attentionFactor - embedding.attentionFactor) < 1e-15)
        for (turns, frequency) in zip(encoding.frequencyTable, expected) {
          #expect(abs(Double(turns) * 0x1p-64 - frequency / (2 * .pi)) < 1e-16)
        }
      }
    }
    var ramp = YarnScaling(factor: 4, originalContext: 2048)
    ramp.ramp = .rotations
    ramp.ownAttentionFactor = 0.5
    var embedding = RotaryEmbedding()
    embedding.scaling = .yarn(ramp)
    var yarn = RotaryEncoding.Yarn(factor: 4, originalContext: 2048)
    yarn.ramp = .rotations
    yarn.ownAttentionFactor = 0.5
    let encoding = try RotaryEncoding(rotaryChannels: 128, scaling: .yarn(yarn))
    for (actual, expected) in zip(encoding.frequencies, embedding.frequencies(channels: 128)) {
      #expect(abs(actual - expected) <= 1e-15 * expected)
    }
    #expect(encoding.attentionFactor == 0.5)
  }

  @Test("A frequency of whole turns, and one a hair below, have no turns")
  func wholeTurns() throws {
    let encoding = try RotaryEncoding(
      frequencies: [2 * .pi, 0, -1e-30, -.pi, 5 * .pi], pairing: .halves)
    #expect(encoding.frequencyTable == [0, 0, 0, 1 << 63, 1 << 63])
  }

  private static let positions: [Int32] =
    [0, 1, 2, 3, 17, 1000, 4095, 65_537, 131_071, 999_999, 1_048_575, 16_777_217, .max, -1, -1000]

  /// Rotates [N, H, D] on the device.
  private func rotated(
    _ x: [Float], _ request: RotaryRequest, positions: [Int32], inPlace: Bool = false,
    rows: Int? = nil
  ) async throws -> [Float] {
    let kernel = try RotaryKernel(request, on: device)
    let memory = TypedMemory(device: device)
    let input = try await memory.upload(x, as: request.elementType, "x")
    let output =
      inPlace
      ? input
      : try await GuardedBuffer(byteCount: request.outputByteCount, label: "y", on: device)
    let places = try await GuardedBuffer(positions, label: "positions", on: device)
    let table = try await GuardedBuffer(
      request.rotary.frequencyTable, label: "frequencies", on: device)
    let recorder = try device.makeRecorder()
    try kernel.record(
      RotaryBuffers(
        input: input.buffer, output: output.buffer, positions: places.buffer,
        frequencies: table.buffer), into: recorder)
    try await device.submit(recorder).completed()
    for guarded in [input, output] { try await guarded.expectGuardsIntact() }
    return try await memory.download(request.outputType, output)
  }

  @Test(
    "Cosine and sine are those of Double at positions up to 2^31",
    arguments: RotaryEncoding.Pairing.allCases)
  func accuracy(pairing: RotaryEncoding.Pairing) async throws {
    for (embedding, encoding) in [
      try Self.pair(128, pairing), try Self.pair(128, pairing, yarn: true),
    ] {
      // Steps that meet every part of the turn, below 2^20, and the list.
      let positions = (0..<500).map { Int32($0 * 2097 + $0 * $0 % 1013) } + Self.positions
      // (1, 0) gives cos and sin.
      let isFirst = (0..<128).map { pairing == .halves ? $0 < 64 : $0 % 2 == 0 }
      let x = positions.flatMap { _ in isFirst.map { $0 ? Float(1) : 0 } }
      let request = try RotaryRequest(
        tokens: positions.count, heads: 1, channels: 128, rotary: encoding)
      let y = try await rotated(x, request, positions: positions)
      let expected = embedding.rotated(
        x.map { Double($0) }, positions: positions.map { Int($0) }, heads: 1, channels: 128)
      // At 2^31 the reference's own product is off by 2e-7; ours is not.
      let known = positions.indices.filter { abs(Int(positions[$0])) <= 1 << 20 }
      for n in known {
        let row = n * 128..<(n + 1) * 128
        let error = ErrorMeasure.worstAbsolute(
          actual: Array(y[row]), expected: Array(expected[row]))
        #expect(
          error.isWithin(1.5e-7 * encoding.attentionFactor), "position \(positions[n]): \(error)")
      }
      expectEach(y, within: 1e-6, of: expected, "all positions")
    }
  }

  @Test(
    "Every pairing, size and type", arguments: RotaryEncoding.Pairing.allCases, ElementType.allCases
  )
  func matchesReference(pairing: RotaryEncoding.Pairing, type: ElementType) async throws {
    for (channels, turned, heads) in [
      (64, 64, 3), (64, 32, 2), (40, 24, 2), (80, 6, 1), (7, 4, 2), (10, 10, 3),
    ] {
      let (embedding, encoding) = try Self.pair(turned, pairing, yarn: true)
      let positions = Self.positions.filter { abs(Int($0)) < 1 << 20 }
      var random = SplitMix64(seed: 3)
      let x = CacheAppendCase.numbers(positions.count * heads * channels, &random)
      let request = try RotaryRequest(
        tokens: positions.count, heads: heads, channels: channels, rotary: encoding,
        elementType: type)
      let what = "\(pairing) D\(channels) d\(turned) \(type)"
      let expected = embedding.rotated(
        x.map { Double($0) }, positions: positions.map { Int($0) }, heads: heads,
        channels: channels)
      let y = try await rotated(x, request, positions: positions)
      expectClose(y, to: expected, within: type == .f32 ? 2e-7 : type.outputGate, what)
      // What is not rotated is copied, bit for bit.
      for row in 0..<positions.count * heads {
        let tail = row * channels + turned..<(row + 1) * channels
        expectSameBits(Array(y[tail]), Array(x[tail]), "\(what), tail")
      }
      expectSameBits(
        try await rotated(x, request, positions: positions, inPlace: true), y, "\(what), in place")
    }
  }

  @Test("Keys are rotated as they are cached", arguments: RotaryEncoding.Pairing.allCases)
  func fused(pairing: RotaryEncoding.Pairing) async throws {
    for (channels, turned) in [(64, 64), (64, 20), (64, 10), (96, 64)] {
      let (embedding, encoding) = try Self.pair(turned, pairing, yarn: true)
      for type in ElementType.allCases where type == .f32 || turned != 10 {
        var plain = try CacheSetting.ring.append(
          CacheSetting.ring.storage(.f32, channels: channels))
        plain.keyType = type
        plain.rotary = encoding
        let what = "\(pairing) D\(channels) d\(turned) \(type)"
        let cache = try await plain.run(on: device).key
        let data = try await device.download(Float.self, from: cache.data.buffer)
        // In the order of the tokens again.
        var rotated: [Float] = []
        for n in plain.sequences.indices {
          let (block, slot) = try #require(plain.place(n))
          let row = (block * 5 + slot) * 2 * channels
          rotated += data[row..<row + 2 * channels]
        }
        let expected = embedding.rotated(
          plain.keys.map { Double($0) }, positions: plain.positions.map { Int($0) }, heads: 2,
          channels: channels)
        expectClose(rotated, to: expected, within: 2e-7, what)
        // Every other format holds these numbers by its rule, byte for byte; values are as they are.
        for format in [CacheFormat.q8, .int8(groupSize: 32, scaleType: .f16), .e4m3]
        where type == .f32 && channels == 64 && turned != 10 {
          var append = try CacheSetting.ring.append(
            CacheSetting.ring.storage(format, .f32, channels: channels))
          append.rotary = encoding
          append.keyType = type
          let caches = try await append.run(on: device)
          let model = append.expected(keys: rotated)
          try await caches.key.expectEqual(model.key, "\(what) \(format)", on: device)
          let value = try #require(caches.value)
          try await value.expectEqual(try #require(model.value), "\(what), values", on: device)
        }
      }
    }
  }

  @Test("Nodes of a tree are rotated by their depth, not by their place")
  func depths() async throws {
    let (embedding, encoding) = try Self.pair(64, .halves)
    let tree = DraftTree(parents: [nil, 0, 0, 1, nil])
    let storage = try CacheStorage(
      key: CacheTensor(.f32, .contiguous(sequences: 1, capacity: 105), heads: 1, channels: 64))
    var append = CacheAppendCase(
      storage, sequences: [0, 0, 0, 0, 0], positions: [100, 101, 102, 103, 104])
    append.rotary = encoding
    append.rotaryPositions = tree.depths.map { 100 + Int32($0) }
    let cache = try await append.run(on: device).key
    let data = try await device.download(Float.self, from: cache.data.buffer)
    let expected = embedding.rotated(
      append.keys.map { Double($0) }, positions: tree.depths.map { 100 + $0 }, heads: 1,
      channels: 64)
    expectClose(Array(data[100 * 64..<105 * 64]), to: expected, within: 2e-7, "nodes")
  }

  @Test("Scores of rotated queries and cached keys depend on distances alone")
  func distances() async throws {
    let encoding = try RotaryEncoding(rotaryChannels: 64)
    var random = SplitMix64(seed: 9)
    let x = CacheAppendCase.numbers(64, &random)
    let positions: [Int32] = [0, 1_000_000, 5, 1_000_005]
    let request = try RotaryRequest(tokens: 4, heads: 1, channels: 64, rotary: encoding)
    let y = try await rotated(
      [[Float]](repeating: x, count: 4).flatMap { $0 }, request, positions: positions)
    func score(_ i: Int, _ j: Int) -> Double {
      (0..<64).reduce(0) { $0 + Double(y[i * 64 + $1]) * Double(y[j * 64 + $1]) }
    }
    #expect(abs(score(0, 2) - score(1, 3)) < 1e-6 * score(0, 0))
    #expect(abs(score(0, 2) - score(0, 1)) > 1e-2 * score(0, 0))
  }
}
