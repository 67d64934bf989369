import Foundation
import ShaderLibrary
import TestSupport
import Testing

@testable import VulkanAttentionCustom

extension Trait where Self == ConditionTrait {
  /// Skips, visibly, where libshaderc is not installed.
  static var needsShaderc: Self {
    .enabled(if: (try? ShadercLibrary()) != nil, "libshaderc is not installed")
  }
}

/// The compiler at run time: its errors, and what it keeps.
@Suite(.timeLimit(.minutes(5)))
struct CustomCompilerTests {
  private func source(
    _ body: String, declarations: String = "", mask: String? = nil,
    scalars: [CustomScalar] = [], isChecked: Bool = false, device: SampleDevice = .software
  ) throws -> CustomShaderSource {
    let score = try ScoreModification(body, declarations: declarations, scalars: scalars)
    let functions = [score.function, try mask.map { try MaskModification($0) }?.function]
      .compactMap(\.self)
    return try CustomShaderSource(
      .attentionRow, functions, parameters: CustomParameters(functions), isChecked: isChecked,
      device: device.capabilities())
  }

  @Test(
    "The compiler's optimiser runs for GPUs alone, and what it made is kept apart", .needsShaderc)
  func optimiser() async throws {
    let plain = try source("return score;")
    let optimised = try source("return score;", device: .nvidia)
    #expect(!plain.isOptimized && optimised.isOptimized)
    #expect(plain.text == optimised.text)
    let compiler = CustomCompiler(directory: nil)
    #expect(try await compiler.identity(of: plain) != compiler.identity(of: optimised))
  }

  @Test("A missing library is an error that names the package") func missingLibrary() async throws {
    let names = ["libnot-there.so.9", "libnor-this.so"]
    let compiler = CustomCompiler(directory: nil, libraries: names)
    let error = await #expect(throws: CustomAttentionError.self) {
      try await compiler.compile(try source("return score;"))
    }
    guard case .compilerMissing(let tried, let reason, let package) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(tried == names)
    for name in names { #expect(reason.contains(name)) }
    #expect(package.contains("libshaderc1"))
  }

  @Test(
    "Errors have the user's own line and column", .needsShaderc,
    arguments: [
      ("float a = 1.0;\n  return score + absent * a;", "", nil, CustomSnippet.score, 2, 18),
      ("return score;", "\n\nfloat f() { return missing; }", nil, .scoreDeclarations, 3, 20),
      ("return score;", "", "\nreturn keyIndex < limitless;", .mask, 2, 19),
    ] as [(String, String, String?, CustomSnippet, Int, Int)])
  func errorPlaces(
    body: String, declarations: String, mask: String?, snippet: CustomSnippet, line: Int,
    column: Int
  ) async throws {
    let compiler = CustomCompiler(directory: nil)
    let error = await #expect(throws: CustomAttentionError.self) {
      try await compiler.compile(try source(body, declarations: declarations, mask: mask))
    }
    guard case .notCompiled(let messages) = error, let first = messages.first else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(first.snippet == snippet)
    #expect(first.line == line)
    #expect(first.column == column)
    #expect(first.text.contains("undeclared"))
  }

  @Test("A missing return and a wrong type are the snippet's errors", .needsShaderc)
  func wrongBodies()
    async throws
  {
    let compiler = CustomCompiler(directory: nil)
    for body in ["", "return true;"] {
      let error = await #expect(throws: CustomAttentionError.self) {
        try await compiler.compile(try source(body))
      }
      guard case .notCompiled(let messages) = error else {
        Issue.record("'\(body)': \(String(describing: error))")
        continue
      }
      #expect(messages.allSatisfy { $0.snippet == .score })
    }
  }

  @Test("Code that needs more of a device than the kernel does is refused", .needsShaderc)
  func capabilities() async throws {
    let compiler = CustomCompiler(directory: nil)
    let words = try await compiler.compile(
      try source("double a = double(score) / 3.0LF; return float(a);"))
    #expect(throws: CustomAttentionError.unsupportedCapability(name: "Float64")) {
      try ShaderBinary.attentionRow.replacing(words)
    }
    let plain = try await compiler.compile(try source("return score;"))
    #expect(try ShaderBinary.attentionRow.replacing(plain).words() == plain)
  }

  @Test("Tasks that want the same shader share one compilation", .needsShaderc) func sharing()
    async throws
  {
    let compiler = CustomCompiler(directory: nil)
    let shader = try source("return score * 1.5;")
    let results = try await withThrowingTaskGroup(of: [UInt32].self) { group in
      for _ in 0..<4 { group.addTask { try await compiler.compile(shader) } }
      return try await group.reduce(into: []) { $0.append($1) }
    }
    #expect(results.count == 4)
    #expect(Set(results).count == 1)
    #expect(await compiler.counts == [.compiler: 1, .memory: 3])
    _ = try await compiler.compile(try source("return score * 2.5;"))
    #expect(await compiler.counts == [.compiler: 2, .memory: 3])
  }

  @Test("Shaders are kept on disk; a damaged file is not used and written anew", .needsShaderc)
  func disk() async throws {
    let folder = try TemporaryFolder()
    let shader = try source("return score * 0.75;")
    func compile() async throws -> (words: [UInt32], counts: [CustomCompiler.Origin: Int]) {
      let compiler = CustomCompiler(directory: folder.path + "/made")
      return (try await compiler.compile(shader), await compiler.counts)
    }
    let first = try await compile()
    #expect(first.counts == [.compiler: 1])
    let names = try FileManager.default.contentsOfDirectory(atPath: folder.path + "/made")
    #expect(names.count == 1)
    let file = URL(filePath: folder.path + "/made/" + (names.first ?? ""))
    let whole = try Data(contentsOf: file)
    let second = try await compile()
    #expect(second.counts == [.disk: 1])
    #expect(second.words == first.words)

    var flipped = whole
    flipped[whole.count - 9] ^= 1
    var ofOther = whole
    ofOther[20] ^= 1
    for damaged in [
      flipped, ofOther, whole.prefix(whole.count / 2), Data(), whole + Data([0, 0, 0, 0]),
    ] {
      try damaged.write(to: file)
      let again = try await compile()
      #expect(again.counts == [.compiler: 1])
      #expect(again.words == first.words)
      #expect(try Data(contentsOf: file) == whole)
    }
  }

  @Test("A folder that cannot be written is no failure", .needsShaderc) func unwritable()
    async throws
  {
    let folder = try TemporaryFolder()
    let path = folder.path + "/file"
    try Data().write(to: URL(filePath: path))
    let compiler = CustomCompiler(directory: path)
    #expect(try await compiler.compile(try source("return -score;")).isEmpty == false)
  }
}
