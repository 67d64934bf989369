import Testing

@testable import ShaderCompiler
@testable import ShaderLibrary

@Suite struct ShaderBinaryTests {
  private static let magicWord = "AwIjBw=="

  private func shader(_ base64: StaticString) -> ShaderBinary {
    ShaderBinary(name: "test", path: "test.comp", content: .compiled(base64: base64))
  }

  private func decoded(_ text: String) -> [UInt32]? {
    Array(text.utf8).withUnsafeBufferPointer { decodeBase64Words($0) }
  }

  @Test(
    "Base64 of a whole number of words is decoded, whatever its padding",
    arguments: [
      ("", []),
      (magicWord, [0x0723_0203]),
      ("AwIjB///////////", [0x0723_0203, 0xffff_ffff, 0xffff_ffff]),
      ("AwIjBwABAgM=", [0x0723_0203, 0x0302_0100]),
      ("++//AA==", [0x00ff_effb]),
      ("QUJDREVGR0hJSktM", [0x4443_4241, 0x4847_4645, 0x4c4b_4a49]),
    ] as [(String, [UInt32])])
  func decodesBase64(text: String, words: [UInt32]) {
    #expect(decoded(text) == words)
  }

  @Test(
    "Text that is not canonical base64 of whole words is refused",
    arguments: [
      "A", "AwI", "AwIjBw", "AwIjBw=", "AwIjB===", "====", "=", "==", "AwIj", "AwIjBwA=",
      "AwIjBwAB", "AwI=Bw==", "AwIj Bw==", "AwIjBw==\n", "AwIj-w==", "AwIj_w==", "AwIjBx==",
      "AwIjBwABAgN=", "AwIjBw==AwIjBw==", "ÄwIjBw=",
    ])
  func refusesBadBase64(text: String) {
    #expect(decoded(text) == nil)
  }

  @Test func wordsAndByteCountAgree() throws {
    let binary = shader("AwIjBwABAgM=")
    #expect(binary.byteCount == 8)
    #expect(try binary.words() == [0x0723_0203, 0x0302_0100])
    #expect(shader("QUJDREVGR0hJSktM").byteCount == 12)
    #expect(shader("").byteCount == 0)
  }

  @Test("Damaged text is an error and no crash")
  func damagedTextThrows() {
    for binary in [shader("AwIjB"), shader(""), shader("QUJDRA==")] {
      #expect(throws: ShaderBinaryError.corrupt(shader: "test")) { try binary.words() }
    }
    #expect("\(ShaderBinaryError.corrupt(shader: "test"))".contains("'test'"))
  }

  @Test("A shader that was left out says which, why and what to do")
  func leftOutShaderThrows() {
    let binary = ShaderBinary(
      name: "attention_matrix", path: "Attention/attention_matrix.comp",
      content: .missing(
        extensions: ["GL_KHR_cooperative_matrix"], compiler: "/usr/bin/glslc"))
    let error = ShaderBinaryError.leftOut(
      shader: "attention_matrix", extensions: ["GL_KHR_cooperative_matrix"],
      compiler: "/usr/bin/glslc")
    #expect(!binary.isCompiled)
    #expect(binary.byteCount == 0)
    #expect(throws: error) { try binary.words() }
    for part in ["attention_matrix", "GL_KHR_cooperative_matrix", "/usr/bin/glslc", "Tools/setup"] {
      #expect("\(error)".contains(part))
    }
  }
}

/// The shaders of this build.
@Suite struct ShaderTableTests {
  @Test func namesAreUniqueAndFound() {
    #expect(!ShaderBinary.all.isEmpty)
    #expect(Set(ShaderBinary.all.map(\.name)).count == ShaderBinary.all.count)
    for shader in ShaderBinary.all {
      #expect(ShaderBinary.named(shader.name)?.path == shader.path)
      #expect(shader.path.hasSuffix(".comp"))
    }
    #expect(ShaderBinary.named("no such shader") == nil)
  }

  @Test("Every shader is whole SPIR-V and keeps the hash it was given", arguments: ShaderBinary.all)
  func isWholeSPIRV(shader: ShaderBinary) throws {
    guard case .compiled(let base64) = shader.content else {
      #expect(throws: ShaderBinaryError.self) { try shader.words() }
      return
    }
    let words = try shader.words()
    #expect(words.first == 0x0723_0203)
    #expect(words.count * 4 == shader.byteCount)
    // The reader refuses instructions that do not end where the module ends.
    let module = try SPIRVModule(words: words)
    #expect(module.instructions.contains { $0.opcode == Opcode.capability })
    #expect(
      shader.contentHash == base64.withUTF8Buffer { SwiftWriter.fnv1a($0) })
  }

  @Test("Every shader's interface is one Vulkan takes", arguments: ShaderBinary.all)
  func hasASoundInterface(shader: ShaderBinary) {
    guard shader.isCompiled else { return }
    #expect(shader.localSize.count == 3)
    #expect(shader.capabilities.contains("Shader"))
    #expect(shader.capabilities.allSatisfy { !$0.hasPrefix("Capability") })
    // Every device allows 128 bytes of push constants; what is more must not be relied on.
    #expect(shader.pushConstantByteCount <= 128)
    #expect(shader.pushConstantByteCount % 4 == 0)
    var end = 0
    for member in shader.pushConstants {
      #expect(!member.name.isEmpty)
      #expect(member.byteOffset >= end)
      end = member.byteOffset + member.byteCount
    }
    #expect(end <= shader.pushConstantByteCount)
    let ids = shader.specializationConstants.map(\.id)
    #expect(Set(ids).count == ids.count)
    #expect(shader.specializationConstants.allSatisfy { !$0.name.isEmpty })
    for case .specialized(let id) in shader.localSize { #expect(ids.contains(id)) }
  }
}
