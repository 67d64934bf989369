import KernelBenchmarks
import TestSupport
import Testing

@testable import VulkanAttention

/// Cutting an attention into pieces changes no bit.
@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct CutAttentionTests {
  let device: ComputeDevice

  init() throws {
    device = try TestDevice.shared()
  }

  enum Kind: String, Sendable, CaseIterable {
    case plain, causal, windowAndSinkTokens, dataMask, resumed
  }

  private static func problem(_ kind: Kind, _ type: ElementType) throws -> OptionProblem {
    var mask = kind == .causal ? AttentionMask.causal : .none
    if kind == .windowAndSinkTokens {
      mask = .window(left: 60)
      mask.sinkTokens = 5
    }
    return OptionProblem(
      try AttentionRequest(
        batchSize: 2, queryTokens: 70, keyTokens: 150, queryHeads: 4, keyHeads: 2, headSize: 16,
        valueHeadSize: 24, elementType: type, mask: mask,
        operands: kind == .dataMask ? [AttentionOperand(.mask, shared: .heads)] : [],
        returnsLogSumExp: true, resumes: kind == .resumed,
        returnsState: kind == .resumed || kind == .windowAndSinkTokens))
  }

  @Test(
    "Cut along tiles, heads, batch entries and keys", arguments: TypedPath.optionPaths,
    Kind.allCases)
  func cuts(path: TypedPath, kind: Kind) async throws {
    let problem = try Self.problem(kind, path.type)
    let whole = try await problem.expectExact(path.variant, on: device, "uncut")
    let tile = try problem.kernel(path.variant, on: device).plan.tile
    // The first tile of one head.
    let rows = 0..<min(tile.queryRows, 70)
    let perHead = 2.0 * 40 * Double(problem.request.visiblePairs(rows: rows))
    var cutsAlongKeys = 0
    for heads in [8, 3, 1, 0.3, 0.01] {
      let plan = try problem.kernel(path.variant, on: device, budget: perHead * heads).plan
      if plan.pieces.contains(where: { $0.keys != nil }) { cutsAlongKeys += 1 }
      for mode in RunMode.allCases {
        let cut = try await problem.run(
          path.variant, on: device, budget: perHead * heads, mode: mode)
        expectSameBits(
          cut, whole, "\(plan.pieces.count) pieces of \(heads) heads by \(mode.rawValue)")
      }
    }
    #expect(cutsAlongKeys >= 1)
  }
}
