import AttentionReference
import KernelBenchmarks
import TestSupport
import Testing

@testable import VulkanAttentionCustom

/// Modifications against the options of the library that say the same, on every path.
@Suite(.serialized, .timeLimit(.minutes(15)))
struct CustomAttentionTests {
  @Test(
    "A causal window as a mask is the built-in one, rows without a key included", .needsDevice,
    .needsShaderc, arguments: CustomPath.all)
  func causalWindow(path: CustomPath) async throws {
    let mask = try MaskModification(
      """
      int position = queryIndex + positionOffset;
      return keyIndex <= position && position - keyIndex <= window;
      """, scalars: [CustomScalar("window", .int)])
    // More queries than keys: the first rows see none.
    for (queries, keys) in [(37, 53), (53, 37)] {
      let plain = try CustomRun.request(path.type, queryTokens: queries, keyTokens: keys)
      let kernel = try await CustomRun.kernel(plain, path.path, mask: mask)
      #expect(kernel.plan.path == path.path)
      let inputs = AttentionInputs.random(for: plain, seed: "window")
      for window in [9, 3] {
        var windowed = AttentionMask.causal
        windowed.windowLeft = window
        let expected = try await CustomRun.builtIn(
          try CustomRun.request(path.type, mask: windowed, queryTokens: queries, keyTokens: keys),
          path.path,
          inputs)
        let result = try await CustomRun.run(
          kernel, inputs, scalars: ["window": .int(Int32(window))])
        try CustomRun.expectSame(result, as: expected, path.type, "\(path.path), window \(window)")
      }
    }
  }

  @Test(
    "ALiBi and a soft cap as a score are the built-in ones, behind a built-in mask", .needsDevice,
    .needsShaderc, arguments: CustomPath.all)
  func alibiAndSoftcap(path: CustomPath) async throws {
    let slopes: [Float] = [0.5, 0.25, 0.125, 0.0625]
    let score = try ScoreModification(
      """
      float capped = cap * tanh(score / cap);
      return capped - slopes(head) * distance(queryIndex, keyIndex);
      """,
      declarations: """
        float distance(int queryIndex, int keyIndex) {
          return float(abs(keyIndex - queryIndex - positionOffset));
        }
        """, buffers: [CustomBuffer("slopes", .f32)], scalars: [CustomScalar("cap", .float)])
    let plain = try CustomRun.request(path.type, mask: .causal)
    let kernel = try await CustomRun.kernel(plain, path.path, score: score, isChecked: true)
    var inputs = AttentionInputs.random(for: plain, seed: "alibi", queryDeviation: 4)
    let device = try TestDevice.shared()
    let buffer = try await device.makeBuffer(slopes, label: "slopes")
    let result = try await CustomRun.run(
      kernel, inputs, buffers: ["slopes": buffer], scalars: ["cap": .float(2)])
    inputs.operands[.alibiSlopes] = slopes.flatMap { withUnsafeBytes(of: $0) { Array($0) } }
    var scores = AttentionScores()
    scores.softcap = 2
    let expected = try await CustomRun.builtIn(
      try CustomRun.request(
        path.type, mask: .causal, scores: scores,
        operands: [AttentionOperand(.alibiSlopes, shared: .batch)]),
      path.path, inputs)
    try CustomRun.expectSame(result, as: expected, path.type, "\(path.path)")
  }

  @Test(
    "Buffers of every type are read where they say; outside of them a checked load gives NaN or 0",
    .needsDevice, .needsShaderc)
  func bufferTypes() async throws {
    let device = try TestDevice.shared()
    let plain = try CustomRun.request(.f32)
    let inputs = AttentionInputs.random(for: plain, seed: "buffers")
    // Every buffer holds a key's own number; together they cancel.
    let count = plain.keyTokens
    let numbers = (0..<count).map { Float($0) }
    let score = try ScoreModification(
      """
      float sum = a(keyIndex) + b(keyIndex) + c(keyIndex) - float(d(keyIndex)) - 2.0 * float(e(keyIndex));
      return score + sum + float(d(keyIndex + outside));
      """,
      buffers: [
        CustomBuffer("a", .f32), CustomBuffer("b", .f16), CustomBuffer("c", .bf16),
        CustomBuffer("d", .int32), CustomBuffer("e", .uint8),
      ], scalars: [CustomScalar("outside", .int)])
    let kernel = try await CustomRun.kernel(plain, .row, score: score, isChecked: true)
    let buffers = [
      "a": try await device.makeBuffer(numbers, label: "a"),
      "b": try await device.makeBuffer(numbers.map { Float16($0) }, label: "b"),
      "c": try await device.makeBuffer(
        numbers.map { UInt16($0.bitPattern >> 16) }, label: "c"),
      "d": try await device.makeBuffer((0..<count).map { Int32($0) }, label: "d"),
      "e": try await device.makeBuffer((0..<count).map { UInt8($0) }, label: "e"),
    ]
    let expected = try await CustomRun.builtIn(plain, .row, inputs)
    for outside in [Int32(count), -Int32(count), Int32.max - 100] {
      let result = try await CustomRun.run(
        kernel, inputs, buffers: buffers, scalars: ["outside": .int(outside)])
      try CustomRun.expectSame(result, as: expected, .f32, "outside \(outside)")
    }
    let short = try device.makeBuffer(byteCount: 8, label: "short")
    try await device.upload([Float(0), 0], to: short)
    let beyond = try ScoreModification(
      "return queryIndex == 5 ? score + a(keyIndex) : score;", buffers: [CustomBuffer("a", .f32)])
    let poisoned = try await CustomRun.run(
      try await CustomRun.kernel(plain, .row, score: beyond, isChecked: true), inputs,
      buffers: ["a": short])
    let row = plain.queryHeads * plain.valueHeadSize
    #expect(poisoned.output[5 * row..<6 * row].allSatisfy { $0.isNaN })
    #expect(poisoned.output[..<(5 * row)].allSatisfy { $0.isFinite })
    #expect(poisoned.output[(6 * row)..<(30 * row)].allSatisfy { $0.isFinite })
  }

  @Test(
    "A hidden key's NaN does not reach a row; indices are the problem's own", .needsDevice,
    .needsShaderc)
  func hiddenKeys() async throws {
    let plain = try CustomRun.request(.f32)
    var inputs = AttentionInputs.random(for: plain, seed: "hidden")
    let keyRow = plain.keyHeads * plain.headSize
    let valueRow = plain.keyHeads * plain.valueHeadSize
    // Key 7 of batch entry 1, key head 1, is NaN, and so is its value.
    let token = plain.keyTokens + 7
    for c in 0..<plain.headSize { inputs.key[token * keyRow + plain.headSize + c] = .nan }
    for c in 0..<plain.valueHeadSize {
      inputs.value[token * valueRow + plain.valueHeadSize + c] = .nan
    }
    let mask = try MaskModification(
      "return !(batch == 1 && head >= 2 && keyIndex == 7);")
    for path in [AttentionPath.row, .subgroup] {
      let result = try await CustomRun.run(
        try await CustomRun.kernel(plain, path, mask: mask), inputs)
      #expect(result.output.allSatisfy { $0.isFinite })
      let inverted = try MaskModification("return batch != 1 || head != 2 || keyIndex == 7;")
      let other = try await CustomRun.run(
        try await CustomRun.kernel(plain, path, mask: inverted), inputs)
      let rowSize = plain.valueHeadSize
      for row in 0..<other.output.count / rowSize {
        let isHit = row / (plain.queryTokens * 4) == 1 && row % 4 >= 2
        #expect(
          other.output[row * rowSize..<(row + 1) * rowSize].allSatisfy { $0.isNaN == isHit },
          "\(path), row \(row)")
      }
    }
  }

  @Test(
    "Inputs that are missing, unknown or of another type are refused", .needsDevice, .needsShaderc)
  func inputs() async throws {
    let device = try TestDevice.shared()
    let plain = try CustomRun.request(.f32)
    let score = try ScoreModification(
      "return score * a(0) + s;", buffers: [CustomBuffer("a", .f32)],
      scalars: [CustomScalar("s", .float)])
    let kernel = try await CustomRun.kernel(plain, .row, score: score)
    let tensors = try await AttentionTensors(
      AttentionInputs.random(for: plain, seed: "inputs"), for: kernel.plan, on: device)
    let buffer = try await device.makeBuffer([Float(1)], label: "a")
    let recorder = try device.makeRecorder()
    func isRefused(
      _ buffers: [String: DeviceBuffer], _ scalars: [String: CustomScalar.Value]
    ) -> Bool {
      do throws(CustomAttentionError) {
        try kernel.record(tensors.buffers, userBuffers: buffers, scalars: scalars, into: recorder)
      } catch {
        if case .invalidInputs = error { return true }
      }
      return false
    }
    #expect(isRefused([:], ["s": .float(0)]))
    #expect(isRefused(["a": buffer], [:]))
    #expect(isRefused(["a": buffer], ["s": .int(0)]))
    #expect(isRefused(["a": buffer, "b": buffer], ["s": .float(0)]))
    #expect(isRefused(["a": buffer], ["s": .float(0), "t": .float(0)]))
    #expect(isRefused(["a": try buffer.slice(0..<2)], ["s": .float(0)]))
    #expect(
      throws: CustomAttentionError.attention(
        .overlappingOutput(output: "output", with: "a"))
    ) {
      try kernel.record(
        tensors.buffers, userBuffers: ["a": tensors.buffers.output], scalars: ["s": .float(0)],
        into: recorder)
    }
    try kernel.record(
      tensors.buffers, userBuffers: ["a": buffer], scalars: ["s": .float(0)], into: recorder)
    try await device.submit(recorder).completed()
    #expect(try await tensors.read().output.allSatisfy { $0.isFinite })
  }
}
