import TestSupport
import Testing

@testable import KernelBenchmarks
@testable import VulkanAttentionCustom

/// Block maps of masks of one's own: what they say, and that an attention with one is the attention without.
@Suite(.serialized, .timeLimit(.minutes(10)))
struct CustomBlockMapTests {
  private static let (queries, keys) = (200, 330)

  private func request(
    _ type: VulkanAttention.ElementType, hasMap: Bool
  ) throws -> AttentionRequest {
    var mask = AttentionMask.none
    (mask.blockMapRows, mask.blockMapKeys) = (64, 128)
    return try CustomRun.request(
      type, mask: mask, operands: hasMap ? [AttentionOperand(.blockMap, shared: .batch)] : [],
      queryTokens: Self.queries, keyTokens: Self.keys)
  }

  /// The rule of ``mask``.
  private func sees(_ head: Int, _ query: Int, _ key: Int) -> Bool {
    abs(key - query - (Self.keys - Self.queries)) <= 10 + 60 * head || key >= 256
  }

  private func mask() throws -> MaskModification {
    try MaskModification(
      """
      int distance = abs(keyIndex - queryIndex - positionOffset);
      return distance <= near + reach(head) || keyIndex >= 256;
      """, buffers: [CustomBuffer("reach", .int32)], scalars: [CustomScalar("near", .int)])
  }

  @Test(
    "The map is the mask's, and an attention with it the one without", .needsDevice,
    .needsShaderc, arguments: CustomPath.all)
  func mapsOfMasks(path: CustomPath) async throws {
    let device = try TestDevice.shared()
    let mapped = try request(path.type, hasMap: true)
    let mask = try mask()
    let reach = try await device.makeBuffer((0..<4).map { Int32(60 * $0) }, label: "reach")
    let scalars: [String: CustomScalar.Value] = ["near": .int(10)]
    let map = try await CustomBlockMap(mapped, mask: mask, on: device, isChecked: true)
    let blocks = try device.makeBuffer(byteCount: mapped.byteCount(of: .blockMap))
    let scratch = try device.makeBuffer(byteCount: map.scratchByteCount)
    try await map.run(
      operands: [.blockMap: blocks], userBuffers: ["reach": reach], scalars: scalars,
      scratch: scratch)
    let entries = try await device.download(Int32.self, from: blocks)
    var expected: [Int32] = []
    for head in 0..<4 {
      for row in stride(from: 0, to: Self.queries, by: 64) {
        for key in stride(from: 0, to: Self.keys, by: 128) {
          var seen: Set<Bool> = []
          for i in row..<min(row + 64, Self.queries) {
            for j in key..<min(key + 128, Self.keys) { seen.insert(sees(head, i, j)) }
          }
          expected.append(seen == [false] ? 0 : seen == [true] ? 2 : 1)
        }
      }
    }
    #expect(entries == expected && Set(entries) == [0, 1, 2])

    let plain = try request(path.type, hasMap: false)
    var inputs = AttentionInputs.random(for: plain, seed: "map")
    let without = try await CustomRun.run(
      try await CustomRun.kernel(plain, path.path, mask: mask), inputs, buffers: ["reach": reach],
      scalars: scalars)
    inputs.operands[.blockMap] = memory(entries)
    let with = try await CustomRun.run(
      try await CustomRun.kernel(mapped, path.path, mask: mask), inputs,
      buffers: ["reach": reach], scalars: scalars)
    try CustomRun.expectSame(with, as: without, path.type, "\(path.path)")
  }

  @Test("What the mask reads has to be there", .needsDevice, .needsShaderc)
  func missingBuffers() async throws {
    let device = try TestDevice.shared()
    let mapped = try request(.f32, hasMap: true)
    let map = try await CustomBlockMap(mapped, mask: mask(), on: device)
    let blocks = try device.makeBuffer(byteCount: mapped.byteCount(of: .blockMap))
    let scratch = try device.makeBuffer(byteCount: map.scratchByteCount)
    await #expect(throws: CustomAttentionError.self) {
      try await map.run(operands: [.blockMap: blocks], scratch: scratch)
    }
    await #expect(throws: CustomAttentionError.self) {
      _ = try await CustomBlockMap(request(.f32, hasMap: false), mask: mask(), on: device)
    }
  }
}
