import KernelBenchmarks
import TestSupport
import Testing

@testable import VulkanAttention

/// Sequences of their own lengths, packed one behind the other.
@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct PackedSequenceTests {
  let device: ComputeDevice
  private static let (heads, keyHeads, channels, width) = (2, 1, 16, 24)

  init() throws {
    device = try TestDevice.shared()
  }

  private static func starts(_ lengths: [Int], first: Int = 0) -> [Int32] {
    lengths.reduce(into: [Int32(first)]) { $0.append(($0.last ?? 0) + Int32($1)) }
  }

  private static func packed(
    _ type: ElementType, _ queries: [Int], _ keys: [Int], firstQuery: Int = 0, firstKey: Int = 0,
    outside: Int = 0, mask: AttentionMask = .causal
  ) throws -> OptionProblem {
    OptionProblem(
      try AttentionRequest(
        batchSize: queries.count, queryTokens: queries.max() ?? 1, keyTokens: keys.max() ?? 1,
        queryHeads: heads, keyHeads: keyHeads, headSize: channels, valueHeadSize: width,
        elementType: type, mask: mask,
        packedSequences: PackedSequences(
          queryTokens: firstQuery + queries.reduce(0, +) + outside,
          keyTokens: firstKey + keys.reduce(0, +) + outside),
        returnsLogSumExp: true),
      starts: (starts(queries, first: firstQuery), starts(keys, first: firstKey)))
  }

  /// Lengths with empty sequences, and lengths from which the row path packs the keys of each alone.
  static let lengths: [(queries: [Int], keys: [Int])] = [
    ([3, 0, 40, 1, 17], [5, 7, 0, 64, 13]), ([130, 141, 128], [131, 150, 129]),
  ]

  @Test(
    "Packed sequences are what each is alone, bit for bit", arguments: TypedPath.optionPaths,
    [0, 1])
  func separate(path: TypedPath, index: Int) async throws {
    let (queries, keys) = Self.lengths[index]
    for mask in [AttentionMask.causal, .window(left: 20, isCausal: false)] {
      let packed = try Self.packed(path.type, queries, keys, mask: mask)
      let together = try await packed.expectExact(path.variant, on: device, "packed")
      let plan = try packed.kernel(path.variant, on: device).plan
      if path.variant == .row { #expect((plan.packing != nil) == (index == 1)) }
      let (rows, tokens) = (
        packed.integers(of: .queryStarts), packed.integers(of: .keyStarts)
      )
      for b in queries.indices where queries[b] > 0 {
        func part(_ values: [Float], _ starts: [Int], _ inner: Int) -> [Float] {
          Array(values[starts[b] * inner..<starts[b + 1] * inner])
        }
        let alone = OptionProblem(
          try AttentionRequest(
            queryTokens: queries[b], keyTokens: keys[b], queryHeads: Self.heads,
            keyHeads: Self.keyHeads, headSize: Self.channels, valueHeadSize: Self.width,
            elementType: path.type, mask: mask, returnsLogSumExp: true),
          inputs: AttentionInputs(
            query: part(packed.inputs.query, rows, Self.heads * Self.channels),
            key: part(packed.inputs.key, tokens, Self.keyHeads * Self.channels),
            value: part(packed.inputs.value, tokens, Self.keyHeads * Self.width)))
        let result = try await alone.run(path.variant, on: device)
        let what = "sequence \(b), \(queries[b]) by \(keys[b])"
        expectSameBits(
          part(together.output, rows, Self.heads * Self.width), result.output, "o, \(what)")
        expectSameBits(
          part(together.logSumExp ?? [], rows, Self.heads), result.logSumExp ?? [], "lse, \(what)")
      }
    }
  }

  @Test("Short and empty sequences beside long ones, all keys packed")
  func mixedLengths() async throws {
    let packed = try Self.packed(.f32, [300, 0, 1, 33, 256], [310, 9, 0, 2, 77])
    #expect(try packed.kernel(.row, on: device).plan.packing != nil)
    try await packed.expectExact(.row, on: device, "mixed lengths")
  }

  @Test("Rows outside of every sequence are not touched", arguments: TypedPath.optionPaths)
  func outside(path: TypedPath) async throws {
    let packed = try Self.packed(
      path.type, [5, 9], [8, 11], firstQuery: 3, firstKey: 2, outside: 4)
    let result = try await packed.expectExact(path.variant, on: device, "rows inside")
    let rows = 3 * Self.heads..<17 * Self.heads
    for row in 0..<21 * Self.heads where !rows.contains(row) {
      let output = result.output[row * Self.width..<(row + 1) * Self.width]
      try #require(output.allSatisfy { $0.isNaN }, "row \(row)")
      try #require(result.logSumExp?[row].isNaN == true, "row \(row)")
    }
  }

  /// Starts as a broken program may leave them in device memory.
  static let lies: [(queries: [Int32], keys: [Int32])] = [
    ([0, 30, 10, 40], [0, 40, 20, 60]), ([-7, 5, 400, 40], [-9, 20, 1000, 60]),
    ([.min, .max, .min, .max], [.max, .min, .max, .min]), ([0, 40, 40, 40], [0, 60, 0, 60]),
    ([40, 0, 40, 0], [60, 0, 60, 0]),
  ]

  @Test("Starts that lie lead nowhere outside", arguments: TypedPath.optionPaths, lies.indices)
  func lyingStarts(path: TypedPath, index: Int) async throws {
    // From 128 query rows on the row path packs keys.
    for longest in [20, 160] {
      var packed = OptionProblem(
        try AttentionRequest(
          batchSize: 3, queryTokens: longest, keyTokens: longest, queryHeads: Self.heads,
          keyHeads: Self.keyHeads, headSize: Self.channels, valueHeadSize: Self.width,
          elementType: path.type, mask: .causal,
          packedSequences: PackedSequences(queryTokens: 40, keyTokens: 60), returnsLogSumExp: true))
      packed.set(.queryStarts, Self.lies[index].queries)
      packed.set(.keyStarts, Self.lies[index].keys)
      let kernel = try packed.kernel(path.variant, on: device)
      let tensors = try await KernelBenchmarks.AttentionTensors(
        packed.inputs, for: kernel.plan, on: device)
      var buffers = tensors.buffers
      // Guards before the outputs as well.
      let output = try await GuardedBuffer(
        byteCount: packed.request.byteCount(of: .output), label: "output", on: device)
      let logSumExp = try await GuardedBuffer(
        byteCount: packed.request.logSumExpByteCount, label: "lse", on: device)
      let scratch = try await GuardedBuffer(
        byteCount: kernel.plan.scratchByteCount, label: "scratch", on: device)
      buffers.output = output.buffer
      buffers.logSumExp = logSumExp.buffer
      buffers.scratch = scratch.buffer
      try await kernel.run(buffers)
      for guarded in [output, logSumExp, scratch] { try await guarded.expectGuardsIntact() }
    }
  }
}
