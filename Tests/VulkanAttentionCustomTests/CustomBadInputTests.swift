import KernelBenchmarks
import ShaderLibrary
import TestSupport
import Testing

@testable import VulkanAttentionCustom

/// Snippets that are wrong, or that do what a sound one does not.
@Suite(.serialized, .timeLimit(.minutes(15)))
struct CustomBadInputTests {
  private func messages(
    _ functions: [CustomFunction]
  ) async throws -> [CustomCompilerMessage] {
    let source = try CustomShaderSource(
      .attentionRow, functions, parameters: CustomParameters(functions), isChecked: false,
      device: SampleDevice.software.capabilities())
    do {
      _ = try await CustomCompiler(directory: nil).compile(source)
    } catch CustomAttentionError.notCompiled(let messages) {
      return messages
    }
    return []
  }

  @Test(
    "The place of an error is the token's at which the compiler stopped", .needsShaderc,
    arguments: [
      // A token that stands twice in its line, behind a comment and a tab.
      ("float a = 1.0; /* b */\treturn a + b(2);", 1, 35),
      ("float a = b + 1.0; float b = 2.0; return a;", 1, 11),
      // A grammatical error, which names no token.
      ("int a = 3;\nfloat b = 1.0 float c;\nreturn score;", 2, 15),
      ("return score\n  + ;", 2, 5),
      ("return score +\n  1.0e+;", 2, 3),
      // A function of another shape, and a buffer that nobody has.
      ("return vec2(score, 1.0);", 1, 1), ("return;", 1, 1),
      ("return score + slopes(head);", 1, 16),
      ("/* one\n   two */ return score + slopes(head);", 2, 26),
    ])
  func places(body: String, line: Int, column: Int) async throws {
    let found = try await messages([ScoreModification(body).function])
    let first = try #require(found.first)
    #expect(first.snippet == .score)
    #expect(first.line == line && first.column == column, "\(first)")
    #expect(!first.text.isEmpty)
  }

  @Test("Errors in declarations and in an output are said to be there", .needsShaderc)
  func otherSnippets() async throws {
    let mask = try await messages([
      MaskModification("return true;", declarations: "\n\nint f() { return absent; }").function
    ])
    #expect(mask.first?.snippet == .maskDeclarations)
    #expect(mask.first?.line == 3 && mask.first?.column == 18, "\(mask)")
    // A score's own names are not there in an output.
    let output = try await messages([
      ScoreModification("return score;").function, OutputModification("return score;").function,
    ])
    #expect(output.first?.snippet == .output)
    #expect(output.first?.line == 1 && output.first?.column == 8, "\(output)")
  }

  @Test("A function that is empty, or that ends without a return, names no column", .needsShaderc)
  func missingReturn() async throws {
    for body in ["", "// return", "float returned = score;"] {
      let found = try await messages([ScoreModification(body).function])
      #expect(found.first?.snippet == .score, "\(body)")
      #expect(found.first?.line == 1 && found.first?.column == nil, "\(found)")
    }
  }

  @Test("A way without a return gives NaN, or hides the key", .needsDevice, .needsShaderc)
  func someReturns() async throws {
    let plain = try CustomRun.request(.f32)
    let inputs = AttentionInputs.random(for: plain, seed: "returns")
    let row = plain.queryHeads * plain.valueHeadSize
    let score = try await CustomRun.run(
      try await CustomRun.kernel(
        plain, .row, score: ScoreModification("if (queryIndex != 4) { return score; }")), inputs)
    #expect(score.output[4 * row..<5 * row].allSatisfy { $0.isNaN })
    #expect(score.output[..<(4 * row)].allSatisfy { $0.isFinite })
    let mask = try await CustomRun.run(
      try await CustomRun.kernel(
        plain, .row, mask: MaskModification("if (queryIndex != 4) { return true; }")), inputs)
    #expect(mask.output[4 * row..<5 * row].allSatisfy { $0 == 0 })
    #expect(mask.output[..<(4 * row)].allSatisfy { $0 != 0 })
  }

  @Test("A parameter may have the name of what the kernel has", .needsShaderc) func kernelNames()
    async throws
  {
    let score = try ScoreModification(
      "return score + row(p) + s + keyHead(0);",
      buffers: [CustomBuffer("row", .f32), CustomBuffer("keyHead", .f16)],
      scalars: [CustomScalar("p", .int), CustomScalar("s", .float)])
    #expect(try await messages([score.function]).isEmpty)
  }

  @Test("A snippet of 100 000 bytes is compiled and runs", .needsDevice, .needsShaderc)
  func largest() async throws {
    let plain = try CustomRun.request(.f32)
    let line = "score = score + 0.0;\n"
    var body = String(repeating: line, count: (100_000 - 40) / line.utf8.count) + "return score;"
    body += String(repeating: " ", count: 100_000 - body.utf8.count)
    let kernel = try await CustomRun.kernel(plain, .row, score: ScoreModification(body))
    let inputs = AttentionInputs.random(for: plain, seed: "largest")
    try CustomRun.expectSame(
      try await CustomRun.run(kernel, inputs),
      as: try await CustomRun.builtIn(plain, .row, inputs), .f32, "largest")
  }

  @Test(
    "A score that is NaN makes its row NaN and no other, and none where the key is hidden",
    .needsDevice, .needsShaderc, arguments: CustomPath.all)
  func notANumber(path: CustomPath) async throws {
    let plain = try CustomRun.request(path.type)
    let inputs = AttentionInputs.random(for: plain, seed: "nan")
    let score = try ScoreModification(
      """
      bool isHit = queryIndex == 5 && head == 2 && keyIndex == 11;
      return isHit ? uintBitsToFloat(0x7fc00000u) : score;
      """)
    let rows = plain.batchSize * plain.queryTokens * plain.queryHeads
    func poisoned(_ output: [Float]) -> [Int] {
      (0..<rows).filter { row in
        output[row * plain.valueHeadSize..<(row + 1) * plain.valueHeadSize].contains { $0.isNaN }
      }
    }
    let hit = (0..<plain.batchSize).map { ($0 * plain.queryTokens + 5) * plain.queryHeads + 2 }
    let result = try await CustomRun.run(
      try await CustomRun.kernel(plain, path.path, score: score), inputs)
    #expect(poisoned(result.output) == hit)
    let hidden = try await CustomRun.run(
      try await CustomRun.kernel(
        plain, path.path, score: score, mask: MaskModification("return keyIndex != 11;")), inputs)
    #expect(poisoned(hidden.output).isEmpty)
    #expect(hidden.output.allSatisfy { $0.isFinite })
  }

  @Test(
    "A mask that hides everything gives o = 0 and lse = -inf", .needsDevice, .needsShaderc,
    arguments: CustomPath.all)
  func hidesEverything(path: CustomPath) async throws {
    let plain = try CustomRun.request(path.type)
    let never = try MaskModification("return keyIndex < 0;")
    let minusInfinity = try ScoreModification("return uintBitsToFloat(0xff800000u);")
    for (score, mask) in [(nil, never), (minusInfinity, nil), (minusInfinity, never)] {
      let result = try await CustomRun.run(
        try await CustomRun.kernel(plain, path.path, score: score, mask: mask),
        AttentionInputs.random(for: plain, seed: "hides everything"))
      #expect(result.output.allSatisfy { $0 == 0 })
      #expect(try #require(result.logSumExp).allSatisfy { $0 == -.infinity })
    }
  }

  @Test(
    "A checked load never shows what lies beside a buffer", .needsDevice, .needsShaderc,
    arguments: [CustomBuffer.Element.f32, .f16, .bf16, .int32, .uint8])
  func checkedLoads(element: CustomBuffer.Element) async throws {
    let device = try TestDevice.shared()
    let plain = try CustomRun.request(.f32)
    let inputs = AttentionInputs.random(for: plain, seed: "checked")
    // The buffer is the middle of a larger one; the numbers around it are another's.
    let size = element.byteCount
    let whole = try await device.makeBuffer(
      [UInt8](repeating: 0x42, count: 64 * size), label: "whole")
    let middle = try whole.slice(16 * size..<48 * size)
    // A sum over all that can be reached: any number from outside would make it another one.
    let score = try ScoreModification(
      """
      float sum = 0.0;
      for (int i = -16; i < 48; i++) {
        if (i < 0 || i >= 32) {
          float outside = float(a(i));
          if (!isnan(outside)) { sum += outside; }
        }
      }
      sum += isnan(float(a(2147483647))) ? 0.0 : float(a(2147483647));
      sum += isnan(float(a(-2147483647))) ? 0.0 : float(a(-2147483647));
      return score + sum * float(keyIndex);
      """, buffers: [CustomBuffer("a", element)])
    let expected = try await CustomRun.builtIn(plain, .row, inputs)
    let kernel = try await CustomRun.kernel(plain, .row, score: score, isChecked: true)
    let result = try await CustomRun.run(kernel, inputs, buffers: ["a": middle])
    try CustomRun.expectSame(result, as: expected, .f32, "\(element)")
  }
}
