import CaseFiles
import Foundation
import TestSupport
import Testing

@testable import KernelBenchmarks
@testable import VulkanAttention

/// Cases with feature maps from files: maps and attentions both on the device, against PyTorch's answers.
@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct FeatureReplayTests {
  private static let folder = URL(filePath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    .appending(path: "Cases/linear-attention")

  private static func load(_ file: String) throws -> LinearAttentionCase? {
    guard case .linearAttention(let problem) = try CaseFile(path: folder.appending(path: file).path)
    else { return nil }
    return problem
  }

  @Test func everyFeature() async throws {
    let files = try FileManager.default.contentsOfDirectory(atPath: Self.folder.path)
    let device = try TestDevice.shared()
    var features: Set<LinearAttentionCase.Feature> = []
    for file in files.sorted() where file.hasSuffix(".safetensors") {
      guard let problem = try Self.load(file), problem.feature != .none else { continue }
      features.insert(problem.feature)
      for choice in LinearAttentionChoice.all {
        let outcome = await LinearAttentionReplay(on: device).run(problem, choice)
        // Not every problem is one for matrix units.
        if choice.path == .matrix, case .skipped = outcome.verdict { continue }
        #expect(outcome.verdict == .passed, "\(file), \(choice)")
        #expect(!outcome.outputs.isEmpty)
      }
    }
    #expect(features == Set(LinearAttentionCase.Feature.allCases).subtracting([.none]))
  }
}
