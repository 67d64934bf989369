import Foundation
import Testing

/// The samples of the articles are the text of code that is compiled and run.
struct ArticleTextTests {
  private static let root = URL(filePath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
  private static let samples = "Tests/VulkanAttentionTests/Articles/ArticleSampleTests.swift"

  private static func text(_ path: String) throws -> String {
    try String(contentsOf: root.appending(path: path), encoding: .utf8)
  }

  private static func article(_ name: String) throws -> String {
    try text("Sources/VulkanAttention/VulkanAttention.docc/\(name).md")
  }

  /// The lines without their indentation, which is another one inside of a test.
  private static func lines(_ text: Substring) -> [Substring] {
    text.split(separator: "\n", omittingEmptySubsequences: false).map {
      $0.drop { $0 == " " }
    }
  }

  /// The blocks of an article in some of the languages, without imports, which stand at a file's beginning.
  private static func blocks(_ article: String, in languages: [String]) -> [[Substring]] {
    article.split(separator: "```", omittingEmptySubsequences: false).enumerated()
      .compactMap { index, part in
        guard index % 2 == 1, let language = languages.first(where: { part.hasPrefix("\($0)\n") })
        else { return nil }
        var lines = lines(part.dropFirst(language.count + 1).drop { $0 == "\n" })
        while lines.first?.hasPrefix("import ") == true || lines.first?.isEmpty == true {
          lines.removeFirst()
        }
        while lines.last?.isEmpty == true { lines.removeLast() }
        return lines
      }
  }

  /// Whether some lines follow each other in a text.
  private static func contains(_ text: [Substring], _ block: [Substring]) -> Bool {
    text.indices.contains { text[$0...].starts(with: block) }
  }

  @Test(
    "Every block of Swift is in the tests that run it",
    arguments: [
      ("FirstKernel", 4), ("ChoosingAKernel", 1), ("EmbeddingInAnApp", 5),
      ("PortingFromFlashInfer", 2), ("PortingFromGGML", 2),
    ])
  func samplesAreCode(article: String, count: Int) throws {
    let code = Self.lines(try Self.text(Self.samples)[...])
    let blocks = Self.blocks(try Self.article(article), in: ["swift"])
    #expect(blocks.count == count)
    for block in blocks {
      // Not in the expectation, which would print the whole file.
      let isThere = !block.isEmpty && Self.contains(code, block)
      #expect(isThere, "no such lines in \(Self.samples):\n\(block.joined(separator: "\n"))")
    }
  }

  @Test("What AddingAKernel quotes is the tree's text")
  func quotationsAreCode() throws {
    let files = [
      "Shaders/Companions/companion_softmax.comp",
      "Sources/VulkanAttention/Companions/Softmax/SoftmaxRequest.swift",
      "Sources/VulkanAttention/Companions/Softmax/SoftmaxPlan.swift",
      "Sources/VulkanAttention/Companions/Softmax/SoftmaxKernel.swift",
      "Tests/VulkanAttentionTests/Companions/CompanionRequestTests.swift",
      "Tests/VulkanAttentionTests/Companions/CompanionKernelTests.swift",
      "Benchmarks/KernelBenchmarks/Companions/CompanionCheck.swift",
    ]
    let texts = try files.map { Self.lines(try Self.text($0)[...]) }
    let blocks = Self.blocks(try Self.article("AddingAKernel"), in: ["swift", "glsl"])
    #expect(blocks.count == 8)
    for block in blocks {
      let isThere = !block.isEmpty && texts.contains { Self.contains($0, block) }
      #expect(isThere, "in none of the files:\n\(block.joined(separator: "\n"))")
    }
  }

  @Test("Paths of the tree that articles name are there")
  func pathsAreThere() throws {
    let folder = Self.root.appending(path: "Sources/VulkanAttention/VulkanAttention.docc")
    let articles = try FileManager.default.contentsOfDirectory(atPath: folder.path)
    #expect(articles.count >= 14)
    var found = 0
    for name in articles where name.hasSuffix(".md") {
      let text = try String(contentsOf: folder.appending(path: name), encoding: .utf8)
      for match in text.matches(of: /`((?:Sources|Shaders|Tests|Benchmarks|Tools)\/[\w\/.+-]+)`/) {
        found += 1
        let path = Self.root.appending(path: String(match.1)).path
        #expect(FileManager.default.fileExists(atPath: path), "\(name): \(match.1)")
      }
    }
    #expect(found > 10)
  }
}
