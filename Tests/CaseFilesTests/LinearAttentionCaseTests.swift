import CaseFiles
import Testing

@Suite struct LinearAttentionCaseTests {
  /// B = 1, T = 3, H = 2, G = 1, K = 2, V = 1.
  private static func linear(_ params: String = "") -> SmallCase {
    var small = SmallCase()
    small.tensors = [:]
    small.set("q", .f16, [1, 3, 1, 2])
    small.set("k", .f16, [1, 3, 1, 2])
    small.set("v", .f16, [1, 3, 2, 1])
    small.set("expected.o", .f32, [1, 3, 2, 1])
    small.set("expected.final_state", .f32, [1, 2, 2, 1])
    small.description = #"{"version": 1, "op": "linear_attention", "params": {\#(params)}}"#
    return small
  }

  private static var stateSpace: SmallCase {
    var small = SmallCase()
    small.tensors = [:]
    small.set("c", .f32, [1, 3, 1, 2])
    small.set("b", .f32, [1, 3, 1, 2])
    small.set("x", .f32, [1, 3, 2, 1])
    small.set("dt", .f32, [1, 3, 2])
    small.set("a", .f32, [2])
    small.set("expected.y", .f32, [1, 3, 2, 1])
    small.description =
      #"{"version": 1, "op": "ssd", "params": {"chunk": 8, "dt_softplus": true}}"#
    return small
  }

  private func load(_ small: SmallCase) throws -> LinearAttentionCase {
    guard case .linearAttention(let problem) = try CaseFile(bytes: small.bytes, name: "small")
    else { throw WrongOperation() }
    return problem
  }

  @Test func reads() throws {
    var small = Self.linear(
      #""scale": 2, "rule": "delta", "feature": "none", "causal": true, "form": "chunk""#)
    small.set("g", .f32, [1, 3, 2, 2])
    small.set("beta", .f32, [1, 3, 2])
    small.set("cu_seqlens", .i32, [3], [0, 1, 3])
    small.set("initial_state", .f32, [2, 2, 2, 1])
    small.set("expected.final_state", .f32, [2, 2, 2, 1])
    let problem = try load(small)
    #expect(problem.operation == "linear_attention" && problem.outputName == "o")
    #expect(problem.tokens == 3 && problem.keyHeads == 1 && problem.valueHeads == 2)
    #expect(problem.keyChannels == 2 && problem.valueChannels == 1 && problem.stateRows == 2)
    #expect(problem.scale == 2 && problem.rule == .delta && problem.form == .chunk)
    #expect(problem.inputs[.gate]?.shape == [1, 3, 2, 2])
    #expect(problem.oTolerance == 2e-3 && problem.stateTolerance == 2e-3)
  }

  @Test func readsStateSpace() throws {
    let problem = try load(Self.stateSpace)
    #expect(problem.isStateSpace && problem.outputName == "y" && problem.chunk == 8)
    #expect(problem.appliesSoftplus && problem.expectedState == nil)
    #expect(problem.inputs[.gate]?.name == "dt" && problem.inputs[.rate]?.name == "a")
  }

  @Test func featureMapsChangeTheState() throws {
    var small = Self.linear(#""feature": "taylor2""#)
    small.set("expected.final_state", .f32, [1, 2, 7, 1])
    #expect(try load(small).stateRows == 7)
  }

  private struct Change: Sendable {
    var params = ""
    var name = ""
    var element = ElementType.f32
    var shape: [Int] = []
    var values: [Double]?
  }

  private static let refusals: [Refusal<Change>] = [
    Refusal(
      Change(name: "k", element: .f16, shape: [1, 3, 2, 2]), "tensor k: shape",
      .shape(found: [1, 3, 2, 2], expected: "[1, 3, 1, 2]")),
    Refusal(
      Change(name: "v", element: .f16, shape: [1, 2, 2, 1]), "tensor v: shape",
      .shape(found: [1, 2, 2, 1], expected: "[1, 3, H, V]")),
    Refusal(
      Change(name: "g", shape: [1, 3, 1]), "tensor g: shape",
      .shape(found: [1, 3, 1], expected: "[1, 3, 2] or [1, 3, 2, 2]")),
    Refusal(Change(name: "beta", shape: [1, 3, 2]), "tensor beta", .invalid("is for rule delta")),
    Refusal(
      Change(name: "low_rank_a", shape: [1, 3, 2, 2]), "tensor low_rank_b", .missing),
    Refusal(Change(name: "bonus", shape: [2, 2]), "tensor bonus", .invalid("is for read before")),
    Refusal(
      Change(name: "cu_seqlens", element: .i32, shape: [2], values: [2, 1]), "tensor cu_seqlens",
      .invalid("falls from 2 to 1")),
    Refusal(
      Change(name: "cu_seqlens", element: .i32, shape: [2], values: [0, 4]), "tensor cu_seqlens",
      .invalid("4 is not within 0...3")),
    Refusal(
      Change(params: #""normalize": true, "rule": "delta""#), "vkattn.params.normalize",
      .invalid("is for rule linear, read after, without low_rank, g_value and initial_state")),
    Refusal(
      Change(params: #""causal": false, "read": "before""#), "vkattn.params.causal",
      .invalid("false is for read after, without sequence_ids")),
    Refusal(
      Change(params: #""chunk": 3"#), "vkattn.params.chunk",
      .unknown(
        allowed: ["scale", "rule", "feature", "normalize", "causal", "read", "form"])),
    Refusal(
      Change(params: #""rule": "gamma""#), "vkattn.params.rule",
      .unknown(allowed: ["linear", "delta"])),
    Refusal(
      Change(name: "dt", shape: [1, 3, 2]), "tensor dt",
      .unknown(
        allowed: [
          "q", "k", "v", "decay", "g", "g_value", "beta", "erase_keys", "erase_gates",
          "write_gates", "low_rank_a", "low_rank_b", "bonus", "initial_state", "sequence_ids",
          "cu_seqlens", "expected.o", "expected.final_state",
        ])),
  ]

  @Test(arguments: refusals.indices)
  func refuses(_ index: Int) {
    let refusal = Self.refusals[index]
    var small = Self.linear(refusal.input.params)
    if let values = refusal.input.values {
      small.set(refusal.input.name, refusal.input.element, refusal.input.shape, values)
    } else if !refusal.input.name.isEmpty {
      small.set(refusal.input.name, refusal.input.element, refusal.input.shape)
    }
    expectError(small, refusal.field, refusal.problem)
  }

  @Test(arguments: ["dt", "a"])
  func stateSpaceNeeds(_ name: String) {
    var small = Self.stateSpace
    small.tensors[name] = nil
    expectError(small, "tensor \(name)", .missing)
  }

  @Test func needsAnOutput() {
    var small = Self.stateSpace
    small.tensors["expected.y"] = nil
    expectError(small, "tensor expected.y or expected.final_state", .missing)
  }
}
