import Foundation
import Testing

@testable import ShaderCompiler

@Suite struct CompilerMessagesTests {
  @Test func unsupportedExtensionsAreFound() {
    let output = """
      /s/m.comp:3: error: '#extension' : extension not supported: GL_KHR_cooperative_matrix
      /s/m.comp:4: error: '#extension' : extension not supported: GL_EXT_bfloat16
      /s/m.comp:4: error: '#extension' : extension not supported: GL_EXT_bfloat16
      /s/m.comp:9: error: 'coopmat' : undeclared identifier
      4 errors generated.
      """
    #expect(
      CompilerMessages.unsupportedExtensions(in: output) == [
        "GL_KHR_cooperative_matrix", "GL_EXT_bfloat16",
      ])
  }

  @Test(
    "Any other failure is not taken for a missing extension",
    arguments: [
      "", "/s/m.comp:9: error: 'coopmat' : undeclared identifier",
      "/s/m.comp:3: warning: '#extension' : extension not supported: GL_EXT_bfloat16",
      "/s/m.comp:3: error: 'float16_t' : required extension not requested: GL_EXT_x",
      "extension not supported: GL_X",
    ])
  func otherFailuresAreNot(output: String) {
    #expect(CompilerMessages.unsupportedExtensions(in: output).isEmpty)
  }
}

@Suite struct ShaderToolchainChoiceTests {
  private func find(
    chosen: String = "", folder: String = "/cache/toolchain", files: Set<String>
  ) throws -> ShaderToolchain {
    try ShaderToolchain.find(
      chosen: chosen, folder: folder, searchPath: "/local/bin:/usr/bin",
      isExecutable: { files.contains($0) }, exists: { files.contains($0) })
  }

  private let everything: Set = [
    "/mine/glslc", "/cache/toolchain/bin/glslc", "/cache/toolchain/bin/spirv-val",
    "/cache/toolchain/complete", "/usr/bin/glslc", "/usr/bin/spirv-val",
  ]

  @Test func theChosenCompilerIsFirst() throws {
    let mine = try find(chosen: "/mine/glslc", files: everything)
    #expect(mine.compiler == "/mine/glslc")
    #expect(mine.validator == "/usr/bin/spirv-val")
    #expect(!mine.validatorIsOfCompiler)
    #expect(try find(chosen: "glslc", files: everything).compiler == "/usr/bin/glslc")
  }

  @Test func theToolchainIsSecondAndThePathLast() throws {
    let toolchain = try find(files: everything)
    #expect(toolchain.compiler == "/cache/toolchain/bin/glslc")
    #expect(toolchain.validator == "/cache/toolchain/bin/spirv-val")
    #expect(toolchain.validatorIsOfCompiler)
    let half = everything.subtracting(["/cache/toolchain/complete"])
    #expect(try find(files: half).compiler == "/usr/bin/glslc")
    #expect(try find(files: ["/usr/bin/glslc"]).validator == nil)
  }

  @Test func noCompilerIsAnErrorThatSaysWhatToDo() {
    let none = #expect(throws: BuildFailure.self) { try find(files: []) }
    #expect(none?.description.contains("Tools/setup") == true)
    #expect(none?.description.contains("/cache/toolchain") == true)
    let wrong = #expect(throws: BuildFailure.self) {
      try find(chosen: "/nowhere/glslc", files: everything)
    }
    #expect(wrong?.description.contains("/nowhere/glslc") == true)
  }
}

/// The way from a compiler's end to the shader's entry, with scripts in the compiler's place.
///
/// One after the other, since a script that is being written must not be open in another child.
@Suite(.serialized) struct ShaderToolchainTests {
  private let folder: URL
  private let source: ShaderSource

  init() throws {
    folder = FileManager.default.temporaryDirectory.appending(path: "shaders-\(UUID())")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    source = try ShaderSource(
      text: "#version 460\n// @variant tiny SIZE=4", path: "/s/tiny.comp", root: "/s")
  }

  private func script(_ name: String, _ body: String) throws -> String {
    let path = folder.appending(path: name).path
    try "#!/bin/sh\n\(body)\n".write(toFile: path, atomically: true, encoding: .utf8)
    try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: path)
    return path
  }

  private func compile(_ glslc: String, validator: String? = nil) throws -> CompiledVariant {
    defer { try? FileManager.default.removeItem(at: folder) }
    let validator = try validator.map { try script("spirv-val", $0) }
    let toolchain = ShaderToolchain(
      compiler: try script("glslc", glslc), validator: validator, validatorIsOfCompiler: true)
    return try toolchain.compile(
      source.variants[0], of: source, root: "/s", scratch: folder.appending(path: "out").path)
  }

  /// A compiler that makes the example module; it fails where an argument is not as it should be.
  private func compilerOfExample() throws -> String {
    let module = folder.appending(path: "example").path
    let bytes = ModuleBuilder.example().words.flatMap { word in
      (0..<4).map { UInt8(truncatingIfNeeded: word >> (8 * UInt32($0))) }
    }
    try Data(bytes).write(to: URL(filePath: module))
    return """
      case "$*" in
        "--target-env=vulkan1.2 -O -I /s -DSIZE=4 /s/tiny.comp -o "*) ;;
        "--target-env=vulkan1.2 -O0 -I /s -DSIZE=4 /s/tiny.comp -o "*) ;;
        *) echo "unexpected: $*"; exit 1 ;;
      esac
      for output; do :; done
      cp '\(module)' "$output"
      """
  }

  @Test func aLackingExtensionLeavesTheShaderOut() throws {
    let message = "/s/tiny.comp:3: error: '#extension' : extension not supported: GL_EXT_bfloat16"
    guard
      case .missing(let extensions, let compiler) =
        try compile("echo \"\(message)\" >&2; echo '1 error generated.' >&2; exit 1")
    else {
      Issue.record("the shader was compiled")
      return
    }
    #expect(extensions == ["GL_EXT_bfloat16"])
    #expect(compiler.hasSuffix("/glslc"))
    let declaration = SwiftWriter.declaration(
      of: source.variants[0], of: source,
      result: .missing(extensions: extensions, compiler: "/c"))
    #expect(declaration.contains("public static let `tiny` = ShaderBinary("))
    #expect(declaration.contains(#""GL_EXT_bfloat16""#))
  }

  @Test func anyOtherErrorStopsTheBuild() {
    let error = #expect(throws: BuildFailure.self) {
      try compile("echo \"/s/tiny.comp:7: error: 'x' : undeclared identifier\" >&2; exit 1")
    }
    #expect(error?.description.contains("/s/tiny.comp:7: error: 'x'") == true)
    #expect(error?.description.contains("variant tiny") == true)
  }

  @Test func aCompilerThatDiesStopsTheBuild() {
    let silent = #expect(throws: BuildFailure.self) { try compile("kill -9 $$") }
    #expect(silent?.description.contains("/s/tiny.comp:2: error: ") == true)
  }

  @Test func aValidShaderIsCompiled() throws {
    let glslc = try compilerOfExample()
    guard case .compiled(let spirv, let reflection) = try compile(glslc, validator: "exit 0")
    else {
      Issue.record("the shader was left out")
      return
    }
    #expect(spirv.count == ModuleBuilder.example().words.count * 4)
    #expect(reflection.pushConstantByteCount == 36)
  }

  @Test func anInvalidShaderStopsTheBuild() throws {
    let glslc = try compilerOfExample()
    let error = #expect(throws: BuildFailure.self) {
      try compile(glslc, validator: "echo 'error: line 3: not valid'; exit 1")
    }
    #expect(error?.description.contains("error: line 3: not valid") == true)
    #expect(error?.description.hasPrefix("/s/tiny.comp:2: error: ") == true)
  }

  @Test func outputThatIsNoSPIRVStopsTheBuild() {
    let error = #expect(throws: BuildFailure.self) {
      try compile("for output; do :; done; echo text > \"$output\"")
    }
    #expect(error?.description.contains("/s/tiny.comp:2: error: ") == true)
  }
}
