import Foundation
import KernelBenchmarks
import ShaderLibrary
import TestSupport
import Testing

@testable import VulkanAttentionCustom

/// Which path runs where the machine's GLSL compiler is older than the library's shaders.
@Suite(.serialized, .timeLimit(.minutes(15)))
struct CustomPathTests {
  private func request() throws -> AttentionRequest {
    try AttentionRequest(
      batchSize: 1, queryTokens: 512, keyTokens: 512, queryHeads: 8, keyHeads: 8, headSize: 64,
      valueHeadSize: 64, elementType: .f16)
  }

  @Test("A path that is left out is not planned, and the plan says why") func excluded() throws {
    let device = try SampleDevice.nvidia.capabilities()
    let request = try request()
    let usual = try AttentionPlan(
      request, device: device, path: nil, tuning: .none, customByteCount: 64)
    #expect(usual.path == .matrix)
    let plan = try AttentionPlan(
      request, device: device, path: nil, tuning: .none, customByteCount: 64,
      excluded: [.matrix2: "for a test", .matrix: "for a test"])
    #expect(plan.path == .subgroup)
    #expect(plan.explanation.contains("matrix2: cannot run: for a test"))
    #expect(plan.explanation.contains("matrix: cannot run: for a test"))
    #expect(plan.explanation.last?.hasPrefix(plan.path.rawValue) == true)
    #expect(throws: AttentionError.self) {
      try AttentionPlan(
        request, device: device, path: nil, tuning: .none, customByteCount: 64,
        excluded: [.matrix2: "", .matrix: "", .subgroup: "", .row: ""])
    }
  }

  @Test(
    "With an old compiler a plan falls to the next path and says so; a forced path is refused",
    .needsShaderc)
  func oldCompiler() async throws {
    let compiler = CustomCompiler(
      directory: nil, libraries: CustomCompiler.defaultLibraries,
      lacking: ["GL_KHR_cooperative_matrix"])
    let device = try SampleDevice.nvidia.capabilities()
    let request = try request()
    let functions = [try ScoreModification("return score * 2.0;").function]
    func choose(
      _ path: AttentionPath?
    ) async throws(CustomAttentionError) -> (AttentionPlan, ShaderBinary) {
      try await CustomShader.choose(
        functions, CustomParameters(functions), path: path, isChecked: false, device: device,
        compiler: compiler
      ) { excluded throws(AttentionError) in
        let plan = try AttentionPlan(
          request, device: device, path: path, tuning: .none, customByteCount: 64,
          excluded: excluded)
        return (plan, plan.path, plan.shaderName)
      }
    }
    let (plan, shader) = try await choose(nil)
    #expect(plan.path == .subgroup)
    #expect(shader.name == "attention_subgroup_custom")
    let reason = try #require(plan.explanation.first { $0.hasPrefix("matrix: cannot run") })
    #expect(reason.contains("libshaderc") && reason.contains("GL_KHR_cooperative_matrix"))
    let error = await #expect(throws: CustomAttentionError.self) { try await choose(.matrix) }
    guard case .compilerTooOld(let extensions, _) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(extensions.contains("GL_KHR_cooperative_matrix"))
  }

  @Test(
    "What a mask hides from all rows may be NaN, over many steps of keys", .needsDevice,
    .needsShaderc, arguments: CustomPath.all)
  func hiddenSteps(path: CustomPath) async throws {
    let plain = try CustomRun.request(path.type, queryTokens: 32, keyTokens: 700)
    var inputs = AttentionInputs.random(for: plain, seed: "skipped")
    let row = (plain.keyHeads * plain.headSize, plain.keyHeads * plain.valueHeadSize)
    for token in 0..<plain.batchSize * plain.keyTokens where token % plain.keyTokens >= 40 {
      for c in 0..<row.0 { inputs.key[token * row.0 + c] = .nan }
      for c in 0..<row.1 { inputs.value[token * row.1 + c] = .nan }
    }
    let mask = try MaskModification("return keyIndex < 40;")
    let result = try await CustomRun.run(
      try await CustomRun.kernel(plain, path.path, mask: mask), inputs)
    #expect(result.output.allSatisfy { $0.isFinite })
    let short = try CustomRun.request(path.type, queryTokens: 32, keyTokens: 40)
    func first(_ values: [Float], _ width: Int) -> [Float] {
      (0..<plain.batchSize).flatMap {
        values[$0 * plain.keyTokens * width..<($0 * plain.keyTokens + 40) * width]
      }
    }
    let expected = try await CustomRun.builtIn(
      short, path.path,
      AttentionInputs(
        query: inputs.query, key: first(inputs.key, row.0), value: first(inputs.value, row.1)))
    try CustomRun.expectSame(result, as: expected, path.type, "\(path.path)")
  }

  @Test(
    "Where problems share a workgroup each has its own head and batch entry", .needsDevice,
    .needsShaderc)
  func sharedWorkgroups() async throws {
    let request = try CustomRun.request(.f32, mask: .causal, queryTokens: 9, keyTokens: 21)
    let score = try ScoreModification("return score * (0.5 + float(head)) + 0.1 * float(batch);")
    let mask = try MaskModification("return (keyIndex + head + 2 * batch) % 3 != 0;")
    let output = try OutputModification("return value + float(10 * batch + head);")
    let inputs = AttentionInputs.random(for: request, seed: "shared")
    func run(_ tile: AttentionTileChoice) async throws -> AttentionReadback {
      let kernel = try await CustomAttention(
        request, score: score, mask: mask, output: output, on: TestDevice.shared(),
        path: .subgroup, tile: tile, compiler: CustomRun.compiler)
      #expect(kernel.plan.tile.problemsPerWorkgroup == (tile == .tuned ? 1 : 3))
      return try await CustomRun.run(kernel, inputs)
    }
    try CustomRun.expectSame(
      await run(.problems(perWorkgroup: 3)), as: await run(.tuned), .f32, "3 problems")
  }
}
