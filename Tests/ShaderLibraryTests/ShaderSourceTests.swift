import Foundation
import TestSupport
import Testing

@testable import ShaderCompiler

@Suite struct ShaderSourceTests {
  private func source(_ text: String, path: String = "/s/Family/row.comp") throws -> ShaderSource {
    try ShaderSource(text: text, path: path, root: "/s")
  }

  @Test func aFileWithoutDirectivesIsOneVariant() throws {
    let source = try source("#version 460\n // @variant indented is no directive\n")
    #expect(source.variants == [.init(name: "row", defines: [], line: 1)])
    #expect(source.isOptimized)
    #expect(source.relativePath == "Family/row.comp")
  }

  @Test func directivesAreRead() throws {
    let source = try source(
      """
      #version 460
      // @variant row_small TILE=8
      // @spirv-opt off
      // @variant row-large TILE=16 WIDE\r
      """)
    #expect(
      source.variants == [
        .init(name: "row_small", defines: ["TILE=8"], line: 2),
        .init(name: "row-large", defines: ["TILE=16", "WIDE"], line: 4),
      ])
    #expect(source.variants.map(\.identifier) == ["rowSmall", "rowLarge"])
    #expect(!source.isOptimized)
  }

  @Test func aVariantMayNeedANewerVulkan() throws {
    let source = try source(
      "// @variant a X\n// @variant b vulkan1.3 X Y=1\n// @variant c vulkan1.3\n")
    #expect(source.variants.map(\.target) == ["vulkan1.2", "vulkan1.3", "vulkan1.3"])
    #expect(source.variants.map(\.defines) == [["X"], ["X", "Y=1"], []])
  }

  @Test func linesMayEndAsOnWindows() throws {
    let source = try source("#version 460\r\n// @variant a\r\n// @variant b X=1\r\n")
    #expect(source.variants.map(\.line) == [2, 3])
    #expect(source.variants.map(\.defines) == [[], ["X=1"]])
  }

  @Test(
    "A directive that is wrong is an error with file and line",
    arguments: [
      "// @variant", "// @variant 8x8", "// @variant row A.B",
      "// @variant row vulkan1.4", "// @variant row X vulkan1.3", "// @variant row =3",
      "// @variants row", "// @spirv-opt", "// @spirv-opt on", "// @", "// @variant r\u{fc}w",
    ])
  func wrongDirectivesAreErrors(line: String) {
    let error = #expect(throws: BuildFailure.self) { try source("#version 460\n" + line) }
    #expect(error?.description.hasPrefix("/s/Family/row.comp:2: error: ") == true)
  }

  @Test func aVariantDeclaredTwiceIsAnError() {
    let error = #expect(throws: BuildFailure.self) {
      try source("// @variant a\n// @variant a B=1\n")
    }
    #expect(error?.description.contains("row.comp:2: error: variant 'a'") == true)
  }

  @Test func theTableListsShadersByName() throws {
    let table = try SwiftWriter.table(of: [
      source("// @variant row_b\n// @variant repeat"), source("", path: "/s/Family/apply.comp"),
    ])
    #expect(table.contains("[\n    .`apply`,\n    .`repeat`,\n    .`rowB`,\n  ]"))
    #expect(try SwiftWriter.table(of: []).contains("all: [ShaderBinary] = []"))
  }

  @Test("Names that would be declared twice are errors, whichever files they are in")
  func namesThatClashAreErrors() throws {
    let sources = [try source(""), try source("// @variant row", path: "/s/Other/other.comp")]
    let error = #expect(throws: BuildFailure.self) { try SwiftWriter.table(of: sources) }
    #expect(error?.description.hasPrefix("/s/Other/other.comp:1: error: ") == true)
    let reserved = try source("// @variant all")
    #expect(throws: BuildFailure.self) { try SwiftWriter.table(of: [reserved]) }
  }

  @Test("Texts that are embedded keep their lines and directives, and lose their comments")
  func embeddedTexts() throws {
    let text =
      "#version 460\n\n// What it is.\n// @variant row A=1\nint a;  // of b // and c\n  // in\n"
    #expect(
      SwiftWriter.codeLines(of: text)
        == ["#version 460", "", "", "// @variant row A=1", "int a;", "", ""])
    let folder = try TemporaryFolder()
    let path = folder.path + "/Family/kernel.comp"
    try FileManager.default.createDirectory(
      atPath: folder.path + "/Family", withIntermediateDirectories: true)
    try ("#define OWN_SIZE 3\n#define LOAD(x) x\n" + text)
      .write(toFile: path, atomically: true, encoding: .utf8)
    let sources = try SwiftWriter.sources(root: folder.path, paths: [path])
    #expect(sources.contains(#"    "Family/kernel.comp": "#) && !sources.contains("What it is"))
    #expect(sources.contains("Set<String> = [\n    \"LOAD\",\n    \"OWN_SIZE\",\n  ]"))
    #expect(throws: BuildFailure.self) { try SwiftWriter.sources(root: "/", paths: ["/none"]) }
  }

  @Test func literalsAreEscaped() {
    #expect(SwiftWriter.literal(#"a"b\(c)"# + "\n") == #""a\"b\\(c)\u{a}""#)
  }

  @Test func theHashIsFNV1a() {
    #expect(SwiftWriter.fnv1a("".utf8) == 0xcbf2_9ce4_8422_2325)
    #expect(SwiftWriter.fnv1a("a".utf8) == 0xaf63_dc4c_8601_ec8c)
    #expect(SwiftWriter.fnv1a("foobar".utf8) == 0x8594_4171_f739_67e8)
  }
}
