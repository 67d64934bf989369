import Foundation

/// The articles and the code whose text they have.
public enum ArticleText {
  private static let root = URL(filePath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent()
  private static let catalog = "Sources/VulkanAttention/VulkanAttention.docc"

  /// The place of a file or folder of the tree.
  public static func path(_ path: String) -> String { root.appending(path: path).path }

  /// The names of all articles.
  public static func names() throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: path(catalog)).sorted()
      .filter { $0.hasSuffix(".md") }.map { String($0.dropLast(3)) }
  }

  /// The text of an article.
  public static func article(_ name: String) throws -> String {
    try text("\(catalog)/\(name).md")
  }

  /// The lines of a file of the tree, as ``blocks(of:in:)`` has them.
  public static func lines(of path: String) throws -> [Substring] { lines(try text(path)[...]) }

  /// The blocks of an article in some of the languages: their lines without indentation, which is another one inside
  /// of a test, and without imports, which stand at a file's beginning.
  public static func blocks(of article: String, in languages: [String]) throws -> [[Substring]] {
    try self.article(article).split(separator: "```", omittingEmptySubsequences: false)
      .enumerated().compactMap { index, part in
        guard index % 2 == 1, let language = languages.first(where: { part.hasPrefix("\($0)\n") })
        else { return nil }
        var lines = lines(part.dropFirst(language.count + 1))
        while lines.first?.hasPrefix("import ") == true || lines.first?.isEmpty == true {
          lines.removeFirst()
        }
        while lines.last?.isEmpty == true { lines.removeLast() }
        return lines
      }
  }

  /// Whether the lines of a block follow each other among others.
  public static func contains(_ lines: [Substring], _ block: [Substring]) -> Bool {
    !block.isEmpty && lines.indices.contains { lines[$0...].starts(with: block) }
  }

  private static func text(_ path: String) throws -> String {
    try String(contentsOf: root.appending(path: path), encoding: .utf8)
  }

  private static func lines(_ text: Substring) -> [Substring] {
    text.split(separator: "\n", omittingEmptySubsequences: false).map { $0.drop { $0 == " " } }
  }
}
