import CaseFiles
import Foundation
import TestSupport
import Testing

@testable import KernelBenchmarks
@testable import VulkanAttention

/// PyTorch's answers for the families beside tiled attention, in the way that a plan takes by itself: every shipped case
/// is run. `vkattn replay --all-paths` runs them on the others.
@Suite(.serialized, .timeLimit(.minutes(20)), .needsDevice, .silentValidation)
struct FamilyReplayTests {
  private static let folder = URL(filePath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().appending(path: "Cases")

  @Test(
    arguments: [
      ("decode", 20), ("paged-decode", 16), ("mla-decode", 12), ("linear-attention", 40),
      ("ssd", 9), ("attention-custom", 2),
    ])
  func shippedCases(_ name: String, _ count: Int) async throws {
    let folder = Self.folder.appending(path: name).path
    let files = try FileManager.default.contentsOfDirectory(atPath: folder)
      .filter { $0.hasSuffix(".safetensors") }.sorted()
    #expect(files.count >= count)
    let device = try TestDevice.shared()
    for file in files {
      let outcome =
        switch try CaseFile(path: "\(folder)/\(file)") {
        case .attention(let problem):
          await AttentionReplay(on: device).run(problem, .automatic)
        case .decode(let problem): await DecodeReplay(on: device).run(problem, .automatic)
        case .latentDecode(let problem): await DecodeReplay(on: device).run(problem, .automatic)
        case .linearAttention(let problem):
          await LinearAttentionReplay(on: device).run(problem, LinearAttentionChoice())
        }
      #expect(outcome.verdict == .passed, "\(name)/\(file)")
      #expect(!outcome.outputs.isEmpty, "\(name)/\(file)")
    }
  }
}
