import CaseFiles
import Foundation
import TestSupport
import Testing

@testable import KernelBenchmarks
@testable import VulkanAttention

/// PyTorch's answers for every option, on every path.
@Suite(.serialized, .timeLimit(.minutes(20)))
struct ShippedCaseReplayTests {
  private static let folder = URL(filePath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    .appending(path: "Cases")

  /// The paths of all cases below the folder of cases.
  static let files = ["attention", "attention-options", "attention-varlen"].flatMap { name in
    let path = folder.appending(path: name).path
    let files = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
    return files.filter { $0.hasSuffix(".safetensors") }.sorted().map { "\(name)/\($0)" }
  }

  /// The cases that the matrix path runs unless all are asked for: those with the most options.
  private static let matrixFiles = [
    "everything", "f16-B1-S8-T22-H4-G2-D16-E8-tree-window-sinks", "f16-B3-S10-T16",
    "f16-B1-S12-T40-H1-G1-D64-E64-large-scores",
  ]

  private static func load(_ file: String) throws -> CaseFiles.AttentionCase {
    switch try CaseFile(path: folder.appending(path: file).path) {
    case .attention(let problem): return problem
    case .decode(let problem): return problem.attention
    case .latentDecode, .linearAttention: throw WrongOperation()
    }
  }

  private struct WrongOperation: Error {}

  @Test("There are cases") func filesAreFound() {
    #expect(Self.files.count >= 118)
  }

  @Test(
    "Kernels give PyTorch's answers: row in every case, other paths in a choice unless VKATTN_FULL_TESTS=1",
    .needsDevice, .silentValidation, arguments: files)
  func replays(file: String) async throws {
    let device = try TestDevice.shared()
    let problem = try Self.load(file)
    let request = try problem.problem().request
    let replay = AttentionReplay(on: device)
    let isHalf = ![request.elementType, request.keyType, request.valueType].contains(.f32)
    for choice in AttentionPathChoice.all(on: device.capabilities) {
      // The matrix paths take f16 and bf16.
      if choice.usesMatrices, !isHalf { continue }
      // Every case is a pipeline to compile, of options for the matrix path one of seconds.
      if choice.path == .subgroup, !runsFullTests, request.headSize > 64 { continue }
      if choice.usesMatrices, !runsFullTests {
        guard choice.tile == .tuned, Self.matrixFiles.contains(where: file.contains) else {
          continue
        }
      }
      let outcome = await replay.run(problem, choice)
      switch outcome.verdict {
      case .passed: #expect(!outcome.outputs.isEmpty)
      case .skipped(let reason):
        Issue.record("\(file) was not run on \(choice): \(reason)", severity: .warning)
        #expect(
          choice.usesMatrices
            && (!device.capabilities.has(.coopmat) || request.headSize > 256))
      default: Issue.record("\(file) on \(choice): \(outcome.verdict)")
      }
    }
  }

  @Test("Every operand and every option is in a case or in a test of its own")
  func coverage() throws {
    var kinds: Set<AttentionOperand.Kind> = []
    var bits: AttentionOptionBits = []
    for file in Self.files {
      let request = try Self.load(file).problem().request
      kinds.formUnion(request.operands.map(\.kind))
      bits.formUnion(AttentionOptionBits(request))
    }
    // A file has no returned state and no block map: AttentionStateTests, BlockMapTests.
    let ofTests: Set<AttentionOperand.Kind> = [
      .finalMax, .finalSum, .finalOutput, .blockMap,
    ]
    #expect(Set(AttentionOperand.Kind.allCases).subtracting(kinds) == ofTests)
    // AttentionStateTests, MixedTensorTests, CutAttentionTests, BlockMapTests.
    let bitsOfTests: AttentionOptionBits = [.returnState, .keySources, .keyRange, .blockMap]
    #expect(bits.union(bitsOfTests).rawValue == 1 << 33 - 1)
    #expect(bits.isDisjoint(with: bitsOfTests))
  }
}
