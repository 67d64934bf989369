import Foundation
import TestSupport
import Testing

/// The samples of the articles are the text of code that is compiled and run.
struct ArticleTextTests {
  private static let samples = [
    "Tests/VulkanAttentionTests/Articles/ArticleSampleTests.swift",
    "Tests/VulkanAttentionTests/Articles/FamilyArticleSampleTests.swift",
    "Tests/VulkanAttentionCustomTests/CustomArticleTests.swift",
  ]
  /// What AddingAKernel quotes from.
  private static let quoted = [
    "Shaders/Companions/companion_softmax.comp",
    "Sources/VulkanAttention/Companions/Softmax/SoftmaxRequest.swift",
    "Sources/VulkanAttention/Companions/Softmax/SoftmaxPlan.swift",
    "Sources/VulkanAttention/Companions/Softmax/SoftmaxKernel.swift",
    "Tests/VulkanAttentionTests/Companions/CompanionRequestTests.swift",
    "Tests/VulkanAttentionTests/Companions/CompanionKernelTests.swift",
    "Benchmarks/KernelBenchmarks/Companions/CompanionCheck.swift",
  ]

  @Test("Every block of Swift and GLSL in an article is the text of code")
  func samplesAreCode() throws {
    let samples = try Self.samples.map { try ArticleText.lines(of: $0) }
    let quoted = try Self.quoted.map { try ArticleText.lines(of: $0) }
    var count = 0
    for article in try ArticleText.names() {
      for block in try ArticleText.blocks(of: article, in: ["swift", "glsl"]) {
        count += 1
        let code = article == "AddingAKernel" ? quoted : samples
        // Not in the expectation, which would print the whole file.
        let isThere = code.contains { ArticleText.contains($0, block) }
        #expect(isThere, "\(article): no such lines\n\(block.joined(separator: "\n"))")
      }
    }
    #expect(count >= 28)
  }

  @Test("Paths of the tree that articles name are there")
  func pathsAreThere() throws {
    var count = 0
    for article in try ArticleText.names() {
      let paths = try ArticleText.article(article)
        .matches(of: /`((?:Sources|Shaders|Tests|Benchmarks|Tools)\/[\w\/.+-]+)`/)
      for path in paths.map({ String($0.1) }) {
        count += 1
        #expect(FileManager.default.fileExists(atPath: ArticleText.path(path)), "\(article)")
      }
    }
    #expect(count > 10)
  }
}
