import ShaderLibrary
import TestSupport
import Testing

@testable import VulkanAttention

@Suite struct AttentionPushConstantsTests {
  /// The shaders that are dispatched with these push constants: every variant of every path,
  /// and the statistics.
  static let shaders = ShaderBinary.all.filter { shader in
    (AttentionPath.allCases.map { "attention_\($0.rawValue)" } + [
      AttentionStatisticsPlan.shaderName
    ])
    .contains { shader.path == "Attention/\($0).comp" }
  }

  @Test("There is a shader for every path", arguments: AttentionPath.allCases)
  func everyPathHasAShader(path: AttentionPath) {
    #expect(Self.shaders.contains { $0.name == "attention_\(path.rawValue)" })
  }

  @Test("The struct is the shader's block, field for field", arguments: shaders)
  func matchesShader(shader: ShaderBinary) throws {
    guard shader.isCompiled else {
      try Test.cancel("this build left \(shader.name) out: \(shader.content)")
    }
    typealias Constants = AttentionPushConstants
    let fields: [(name: String, offset: Int?, type: String)] = [
      ("q", MemoryLayout<Constants>.offset(of: \.q), "uint64_t"),
      ("k", MemoryLayout<Constants>.offset(of: \.k), "uint64_t"),
      ("v", MemoryLayout<Constants>.offset(of: \.v), "uint64_t"),
      ("o", MemoryLayout<Constants>.offset(of: \.o), "uint64_t"),
      ("lse", MemoryLayout<Constants>.offset(of: \.lse), "uint64_t"),
      ("options", MemoryLayout<Constants>.offset(of: \.options), "uint64_t"),
      ("qBatchStride", MemoryLayout<Constants>.offset(of: \.qBatchStride), "uint"),
      ("qTokenStride", MemoryLayout<Constants>.offset(of: \.qTokenStride), "uint"),
      ("qHeadStride", MemoryLayout<Constants>.offset(of: \.qHeadStride), "uint"),
      ("kBatchStride", MemoryLayout<Constants>.offset(of: \.kBatchStride), "uint"),
      ("kTokenStride", MemoryLayout<Constants>.offset(of: \.kTokenStride), "uint"),
      ("kHeadStride", MemoryLayout<Constants>.offset(of: \.kHeadStride), "uint"),
      ("vBatchStride", MemoryLayout<Constants>.offset(of: \.vBatchStride), "uint"),
      ("vTokenStride", MemoryLayout<Constants>.offset(of: \.vTokenStride), "uint"),
      ("vHeadStride", MemoryLayout<Constants>.offset(of: \.vHeadStride), "uint"),
      ("oBatchStride", MemoryLayout<Constants>.offset(of: \.oBatchStride), "uint"),
      ("oTokenStride", MemoryLayout<Constants>.offset(of: \.oTokenStride), "uint"),
      ("oHeadStride", MemoryLayout<Constants>.offset(of: \.oHeadStride), "uint"),
      ("queryTokens", MemoryLayout<Constants>.offset(of: \.queryTokens), "uint"),
      ("keyTokens", MemoryLayout<Constants>.offset(of: \.keyTokens), "uint"),
      ("queryHeads", MemoryLayout<Constants>.offset(of: \.queryHeads), "uint"),
      ("headsPerGroup", MemoryLayout<Constants>.offset(of: \.headsPerGroup), "uint"),
      ("scale", MemoryLayout<Constants>.offset(of: \.scale), "float"),
      ("firstTile", MemoryLayout<Constants>.offset(of: \.firstTile), "uint"),
      ("firstHead", MemoryLayout<Constants>.offset(of: \.firstHead), "uint"),
      ("firstBatch", MemoryLayout<Constants>.offset(of: \.firstBatch), "uint"),
    ]
    expectBlock(of: shader, fields, byteCount: MemoryLayout<Constants>.size)
    #expect(MemoryLayout<Constants>.size == 128)
  }

  @Test("The packing struct is its shader's block")
  func matchesPackingShader() throws {
    let shader = try #require(ShaderBinary.named(AttentionPacking.shaderName))
    typealias Constants = AttentionPackPushConstants
    let fields: [(name: String, offset: Int?, type: String)] = [
      ("source", MemoryLayout<Constants>.offset(of: \.source), "uint64_t"),
      ("destination", MemoryLayout<Constants>.offset(of: \.destination), "uint64_t"),
      ("starts", MemoryLayout<Constants>.offset(of: \.starts), "uint64_t"),
      ("batchStride", MemoryLayout<Constants>.offset(of: \.batchStride), "uint"),
      ("tokenStride", MemoryLayout<Constants>.offset(of: \.tokenStride), "uint"),
      ("headStride", MemoryLayout<Constants>.offset(of: \.headStride), "uint"),
      ("tokens", MemoryLayout<Constants>.offset(of: \.tokens), "uint"),
      ("totalTokens", MemoryLayout<Constants>.offset(of: \.totalTokens), "uint"),
      ("heads", MemoryLayout<Constants>.offset(of: \.heads), "uint"),
      ("blocks", MemoryLayout<Constants>.offset(of: \.blocks), "uint"),
      ("firstGroup", MemoryLayout<Constants>.offset(of: \.firstGroup), "uint"),
      ("firstBatch", MemoryLayout<Constants>.offset(of: \.firstBatch), "uint"),
      ("reserved", MemoryLayout<Constants>.offset(of: \.reserved), "uint"),
    ]
    expectBlock(of: shader, fields, byteCount: MemoryLayout<Constants>.size)
  }

  @Test("The struct of the relative term is its shader's block")
  func matchesRelativeShader() throws {
    let shader = try #require(ShaderBinary.named(AttentionRelativeTerm.shaderName))
    typealias Constants = AttentionRelativePushConstants
    let fields: [(name: String, offset: Int?, type: String)] = [
      ("q", MemoryLayout<Constants>.offset(of: \.q), "uint64_t"),
      ("queryBias", MemoryLayout<Constants>.offset(of: \.queryBias), "uint64_t"),
      ("relativeKeys", MemoryLayout<Constants>.offset(of: \.relativeKeys), "uint64_t"),
      ("term", MemoryLayout<Constants>.offset(of: \.term), "uint64_t"),
      ("qBatchStride", MemoryLayout<Constants>.offset(of: \.qBatchStride), "uint"),
      ("qTokenStride", MemoryLayout<Constants>.offset(of: \.qTokenStride), "uint"),
      ("qHeadStride", MemoryLayout<Constants>.offset(of: \.qHeadStride), "uint"),
      ("tokens", MemoryLayout<Constants>.offset(of: \.tokens), "uint"),
      ("heads", MemoryLayout<Constants>.offset(of: \.heads), "uint"),
      ("extent", MemoryLayout<Constants>.offset(of: \.extent), "uint"),
      ("firstGroup", MemoryLayout<Constants>.offset(of: \.firstGroup), "uint"),
      ("firstHead", MemoryLayout<Constants>.offset(of: \.firstHead), "uint"),
      ("firstBatch", MemoryLayout<Constants>.offset(of: \.firstBatch), "uint"),
      ("reserved", MemoryLayout<Constants>.offset(of: \.reserved), "uint"),
    ]
    expectBlock(of: shader, fields, byteCount: MemoryLayout<Constants>.size)
  }

  private func expectBlock(
    of shader: ShaderBinary, _ fields: [(name: String, offset: Int?, type: String)],
    byteCount: Int
  ) {
    #expect(shader.pushConstants.map(\.name) == fields.map(\.name))
    for (member, field) in zip(shader.pushConstants, fields) {
      #expect(member.byteOffset == field.offset, "\(member.name)")
      #expect(member.type == field.type, "\(member.name)")
      #expect(member.byteCount == (field.type == "uint64_t" ? 8 : 4), "\(member.name)")
    }
    #expect(shader.pushConstantByteCount == byteCount)
  }

  @Test("Every attention shader has the family's constants under their numbers", arguments: shaders)
  func familyConstants(shader: ShaderBinary) throws {
    guard shader.isCompiled else {
      try Test.cancel("this build left \(shader.name) out: \(shader.content)")
    }
    let expected: [(UInt32, String, String)] = [
      (0, "local_size_x", "uint"), (1, "HEAD_SIZE_QK", "uint"), (2, "HEAD_SIZE_V", "uint"),
      (3, "QUERY_TYPE", "uint"), (4, "OPTIONS", "uint"), (16, "KEY_TYPE", "uint"),
      (17, "VALUE_TYPE", "uint"), (18, "OUTPUT_TYPE", "uint"), (19, "BIAS_TYPE", "uint"),
      (20, "ALIGNED", "bool"), (21, "VALUE_IS_KEY", "bool"),
    ]
    for (id, name, type) in expected {
      let constant = shader.specializationConstants.first { $0.id == id }
      // A kernel that does not need one has none; under another's number it would be wrong.
      guard let constant else { continue }
      #expect(constant.name == name && constant.type == type)
    }
    #expect(shader.specializationConstants.allSatisfy { $0.id <= 21 || $0.id == 30 })
    #expect(shader.localSize == [.specialized(id: 0), .fixed(1), .fixed(1)])
  }
}
