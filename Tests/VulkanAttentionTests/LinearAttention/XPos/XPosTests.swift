import AttentionReference
import ShaderLibrary
import TestSupport
import Testing

@testable import VulkanAttention

#if canImport(Darwin)
  import Darwin
#else
  import Glibc
#endif

/// xPos on the device against its formula in Double.
@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct XPosTests {
  let device: ComputeDevice

  init() throws {
    device = try TestDevice.shared()
  }

  private func encoded(
    _ x: [Float], _ request: XPosRequest, isKey: Bool, positions: [Int32], inPlace: Bool = false
  ) async throws -> [Float] {
    let memory = TypedMemory(device: device)
    let input = try await memory.upload(x, as: request.elementType, "x")
    let output =
      inPlace
      ? input
      : try await GuardedBuffer(byteCount: request.outputByteCount, label: "y", on: device)
    let encoding = request.encoding
    let recorder = try device.makeRecorder()
    try XPosKernel(request, on: device).record(
      XPosBuffers(
        input: input.buffer, output: output.buffer,
        positions: try await GuardedBuffer(positions, label: "positions", on: device).buffer,
        frequencies: try await GuardedBuffer(
          encoding.rotary.frequencyTable, label: "frequencies", on: device
        ).buffer,
        rates: try await GuardedBuffer(
          encoding.rateTable(isKey: isKey), label: "rates", on: device
        ).buffer), into: recorder)
    try await device.submit(recorder).completed()
    for guarded in [input, output] { try await guarded.expectGuardsIntact() }
    return try await memory.download(request.outputType, output)
  }

  /// The paper's formula, in complex numbers written out.
  private func reference(
    _ x: [Float], channels: Int, heads: Int, _ frequencies: [Double], interleaved: Bool,
    isKey: Bool, positions: [Int32], origin: Double
  ) -> [Double] {
    let pairs = frequencies.count
    var y = x.map(Double.init)
    for row in 0..<x.count / channels {
      let t = Double(positions[row / heads])
      for pair in 0..<pairs {
        let low = row * channels + (interleaved ? 2 * pair : pair)
        let high = row * channels + (interleaved ? 2 * pair + 1 : pair + pairs)
        let zeta = (Double(pair) / Double(pairs) + 0.4) / 1.4
        let scale = pow(zeta, (isKey ? origin - t : t - origin) / 512)
        let (c, s) = (cos(t * frequencies[pair]), sin(t * frequencies[pair]))
        (y[low], y[high]) = (
          scale * (c * Double(x[low]) - s * Double(x[high])),
          scale * (s * Double(x[low]) + c * Double(x[high]))
        )
      }
    }
    return y
  }

  @Test("Every pairing and type", arguments: RotaryEncoding.Pairing.allCases, [false, true])
  func matchesFormula(_ pairing: RotaryEncoding.Pairing, _ isKey: Bool) async throws {
    let positions: [Int32] = [0, 1, 2, 700, 1024, 2047]
    var random = SplitMix64(seed: 2)
    for (channels, turned, type) in [
      (16, 16, ElementType.f32), (13, 8, .f32), (12, 12, .f16), (10, 6, .bf16),
    ] {
      let rotary = try RotaryEncoding(rotaryChannels: turned, pairing: pairing)
      let request = try XPosRequest(
        tokens: 6, heads: 3, channels: channels,
        encoding: XPosEncoding(rotary, origin: 1024), elementType: type, outputType: .f32)
      let x = random.normal(6 * 3 * channels).map { type.rounded($0) }
      let y = try await encoded(x, request, isKey: isKey, positions: positions)
      expectClose(
        y,
        to: reference(
          x, channels: channels, heads: 3, rotary.frequencies,
          interleaved: pairing == .interleaved, isKey: isKey, positions: positions, origin: 1024),
        within: 1e-6, "\(channels) \(turned) \(type)")
      if type == .f32 {
        expectSameBits(
          try await encoded(x, request, isKey: isKey, positions: positions, inPlace: true), y,
          "in place")
      }
    }
  }

  @Test("Scores decay with the distance and do not know the origin")
  func decay() async throws {
    let rotary = try RotaryEncoding.retention(channels: 32)
    var random = SplitMix64(seed: 9)
    let x = random.normal(32)
    let twice = x + x
    func score(_ origin: Int32, _ positions: [Int32]) async throws -> Double {
      let request = try XPosRequest(
        tokens: 2, heads: 1, channels: 32, encoding: XPosEncoding(rotary, origin: origin))
      let q = try await encoded(twice, request, isKey: false, positions: positions)
      let k = try await encoded(twice, request, isKey: true, positions: positions)
      return (0..<32).reduce(0) { $0 + Double(q[32 + $1]) * Double(k[$1]) }
    }
    let near = try await score(0, [1000, 1000])
    #expect(abs(near / x.reduce(0) { $0 + Double($1) * Double($1) } - 1) < 1e-5)
    let first = try await score(0, [10, 300])
    let shifted = try await score(2000, [1810, 2100])
    #expect(abs(first - shifted) < 1e-5 * near && abs(first) < 0.9 * near)
  }

  @Test("Bad encodings are refused")
  func refusals() throws {
    let rotary = try RotaryEncoding(rotaryChannels: 8)
    #expect(throws: AttentionError.self) { try XPosEncoding(rotary, gamma: 0) }
    #expect(throws: AttentionError.self) { try XPosEncoding(rotary, scaleBase: .infinity) }
    #expect(throws: AttentionError.self) {
      try XPosEncoding(
        RotaryEncoding(frequencies: [1], pairing: .halves, attentionFactor: 2))
    }
    #expect(throws: AttentionError.self) {
      try XPosRequest(tokens: 1, heads: 1, channels: 6, encoding: XPosEncoding(rotary))
    }
    #expect(throws: AttentionError.self) { try RotaryEncoding.retention(channels: 7) }
  }

  @Test("The struct is the shader's block of push constants, field for field")
  func pushConstants() throws {
    typealias Constants = XPosPushConstants
    try expectPushConstants(
      "xpos_rotate",
      [
        ("source", MemoryLayout<Constants>.offset(of: \.source)),
        ("destination", MemoryLayout<Constants>.offset(of: \.destination)),
        ("positions", MemoryLayout<Constants>.offset(of: \.positions)),
        ("frequencies", MemoryLayout<Constants>.offset(of: \.frequencies)),
        ("rates", MemoryLayout<Constants>.offset(of: \.rates)),
        ("sourceTokenStride", MemoryLayout<Constants>.offset(of: \.sourceTokenStride)),
        ("sourceHeadStride", MemoryLayout<Constants>.offset(of: \.sourceHeadStride)),
        ("destinationTokenStride", MemoryLayout<Constants>.offset(of: \.destinationTokenStride)),
        ("destinationHeadStride", MemoryLayout<Constants>.offset(of: \.destinationHeadStride)),
        ("tokens", MemoryLayout<Constants>.offset(of: \.tokens)),
        ("origin", MemoryLayout<Constants>.offset(of: \.origin)),
      ], MemoryLayout<Constants>.size)
  }
}

/// The published decays, against numbers worked out by hand.
@Suite struct LinearAttentionDecaysTests {
  private func close(_ actual: [Float], _ expected: [Double]) -> Bool {
    actual.count == expected.count
      && zip(actual, expected).allSatisfy { (Double($0) - $1).magnitude <= 1e-6 * $1.magnitude }
  }

  @Test func retention() throws {
    // ln(31/32), ln(63/64).
    #expect(
      close(
        try LinearAttentionDecays.retention(heads: 2),
        [-0.031_748_698_314_580_3, -0.015_748_356_968_139_2]))
  }

  @Test("The authors' rule: ALiBi's slopes, less by the layer, never quite 0")
  func lightning() throws {
    func decays(_ heads: Int, _ layer: Int) throws -> [Float] {
      try LinearAttentionDecays.lightning(heads: heads, layer: layer, layers: 5)
    }
    #expect(close(try decays(4, 0), [0.25, 0.0625, 0.015_625, 0.003_906_25].map { -$0 * 1.00001 }))
    #expect(close(try decays(2, 1), [-0.0625 * 0.75001, -0.003_906_25 * 0.75001]))
    #expect(close(try decays(2, 4), [-0.0625 * 1e-5, -0.003_906_25 * 1e-5]))
    // Six heads: those of four, then the first and third of eight.
    #expect(
      close(
        try decays(6, 0),
        [0.25, 0.0625, 0.015_625, 0.003_906_25, 0.5, 0.125].map { -$0 * 1.00001 }))
    #expect(
      close(try LinearAttentionDecays.lightning(heads: 1, layer: 0, layers: 1), [-1.00001 / 256]))
  }

  @Test("flash-linear-attention's rule: the first head keeps all")
  func lightningLinear() throws {
    let decays = try LinearAttentionDecays.lightningLinear(heads: 4, layer: 1, layers: 4)
    #expect(close(decays, [0, -1.5, -3, -4.5]) && decays[0].sign == .plus)
  }

  @Test func refusals() {
    #expect(throws: AttentionError.self) { try LinearAttentionDecays.retention(heads: 0) }
    #expect(throws: AttentionError.self) {
      try LinearAttentionDecays.lightning(heads: 2, layer: 4, layers: 4)
    }
    #expect(throws: AttentionError.self) {
      try LinearAttentionDecays.lightningLinear(heads: 2, layer: -1, layers: 4)
    }
  }
}
