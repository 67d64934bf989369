import Testing

@testable import VulkanAttentionCustom

/// What is refused before anything is compiled, and where.
struct SnippetTests {
  @Test(
    "What reaches out of its function is refused with its line and column",
    arguments: [
      ("return 1.0;\n#version 450\n", 2, 1), ("  #include \"a\"", 1, 3),
      ("#extension a : enable", 1, 1),
      ("return 1.0; }\nvoid main() {", 1, 13), ("if (true) { return 1.0;", 1, 11),
      ("return f(1.0;", 1, 9), ("return a[0);", 1, 11), ("float main = 1.0;", 1, 7),
      ("/* layout */\n/* # */ layout(binding = 0) uniform b;", 2, 9), ("uniform float a;", 1, 1),
      ("shared float a;", 1, 1), ("return score;\nbarrier();", 2, 1),
      ("return 1.0; /* open", 1, 13),
      ("// joined \\\n", 1, 11), ("/* *\\\n/ layout */ return 1.0;", 1, 5),
      ("// ended \rlayout(binding = 0)", 1, 10), ("float ä = 1.0;", 1, 7), ("return 1.0;\0", 1, 12),
    ])
  func refuses(text: String, line: Int, column: Int) {
    func place(_ body: () throws(CustomAttentionError) -> Void) -> (CustomSnippet, Int, Int)? {
      do {
        try body()
      } catch {
        if case .refused(let snippet, let line, let column, _) = error {
          return (snippet, line, column)
        }
      }
      return nil
    }
    let score = place { () throws(CustomAttentionError) in _ = try ScoreModification(text) }
    #expect(
      score.map { $0 == (.score, line, column) } == true, "\(text): \(String(describing: score))")
    let mask = place { () throws(CustomAttentionError) in
      _ = try MaskModification("return true;", declarations: text)
    }
    #expect(
      mask.map { $0 == (.maskDeclarations, line, column) } == true,
      "\(text): \(String(describing: mask))")
  }

  @Test(
    "Ordinary code passes",
    arguments: [
      "return score;", "// # main { layout\nreturn score; /* ( ü */",
      "float mainly = 1.0;\r\nreturn mainly;",
      "for (int i = 0; i < 3; i++) { score += float(i); }\nreturn score;", "",
    ])
  func passes(text: String) throws {
    #expect(try ScoreModification(text).body == text)
  }

  @Test("A snippet has 100 000 bytes at most") func sizes() throws {
    let largest = String(repeating: " ", count: 100_000)
    #expect(try ScoreModification(largest).body.utf8.count == 100_000)
    #expect(
      throws: CustomAttentionError.snippetTooLarge(
        snippet: .score, byteCount: 100_001, allowed: 100_000)
    ) { try ScoreModification(largest + " ") }
  }

  @Test(
    "Names that GLSL would misread are refused",
    arguments: [
      "", "2a", "a-b", "gl_a", "a__b", "score", "keyIndex", "float", "customBuffer0", "ä", "a b",
      "HAS", "OPTION_BLOCK",
    ])
  func names(name: String) {
    let buffer = #expect(throws: CustomAttentionError.self) {
      try ScoreModification("return score;", buffers: [CustomBuffer(name, .f32)])
    }
    let scalar = #expect(throws: CustomAttentionError.self) {
      try MaskModification("return true;", scalars: [CustomScalar(name, .int)])
    }
    for error in [buffer, scalar] {
      guard case .invalidParameters = error else {
        Issue.record("\(name): \(String(describing: error))")
        continue
      }
    }
  }

  @Test("Score and mask share parameters, up to 8 buffers and 16 scalars") func parameters() throws
  {
    let buffers = (0..<9).map { CustomBuffer("b\($0)", .f32) }
    let score = try ScoreModification(
      "return score;", buffers: Array(buffers[..<5]), scalars: [CustomScalar("s", .int)])
    let mask = try MaskModification(
      "return true;", buffers: Array(buffers[3..<8]), scalars: [CustomScalar("s", .int)])
    let both = try CustomParameters([score.function, mask.function])
    #expect(both.buffers == Array(buffers[..<8]))
    #expect(both.scalars.count == 1)
    let more = try MaskModification("return true;", buffers: Array(buffers[5...]))
    #expect(throws: CustomAttentionError.self) {
      try CustomParameters([score.function, more.function])
    }
    let other = try MaskModification("return true;", buffers: [CustomBuffer("b0", .int32)])
    #expect(throws: CustomAttentionError.self) {
      try CustomParameters([score.function, other.function])
    }
    let scalars = try ScoreModification(
      "return score;", scalars: (0..<17).map { CustomScalar("s\($0)", .float) })
    #expect(throws: CustomAttentionError.self) { try CustomParameters([scalars.function]) }
  }
}
