import Foundation
import TestSupport
import Testing
import VulkanAttention

@testable import KernelBenchmarks
@testable import vkattn

/// The grid and the workloads of modifications.
@Suite struct CustomCommandTests {
  @Test func everyOptionIsWrittenAsAModification() throws {
    let shape = AttentionShape(
      batchSize: 2, queryTokens: 5, keyTokens: 9, queryHeads: 4, keyHeads: 2, headSize: 8)
    for option in CustomEquivalent.options {
      let request = try AttentionCheckCase("custom", shape, .f32, option: option).request()
      let equivalent = try #require(try CustomEquivalent(option, request), "\(option)")
      let count = [
        equivalent.score != nil, equivalent.mask != nil, equivalent.output != nil,
      ].count { $0 }
      #expect(count == 1, "\(option)")
      // What it reads is an operand of the option.
      for kind in equivalent.buffers.values { #expect(request.operand(kind) != nil, "\(option)") }
    }
    let resumed = try AttentionCheckCase("custom", shape, .f32, option: .resume).request()
    #expect(try CustomEquivalent(.resume, resumed) == nil)
  }

  @Test func casesHaveNamesOfTheirOwn() {
    for depth in CheckDepth.allCases {
      let ids = CustomCheck.runs(depth, [.automatic, AttentionPathChoice(.matrix)]).map(\.id)
      #expect(Set(ids).count == ids.count)
      #expect(ids.contains { $0.hasPrefix("matrix custom/attention/") })
      #expect(ids.contains { $0.hasPrefix("auto custom/decode/") })
    }
    let full = CustomCheck.runs(.full, [.automatic]).map(\.id)
    for option in CustomEquivalent.options {
      #expect(full.contains { $0.contains("-\(option.rawValue)") }, "\(option)")
    }
  }

  @Test func workloadsAreListed() async {
    let console = Console(isRecording: true)
    let status = await Console.$current.withValue(console) {
      await VKAttn.run(["bench", "custom", "--list", "--type", "f16", "--filter", "custom/alibi/*"])
    }
    #expect(status == 0)
    #expect(console.output == "custom/alibi/f16/B1-S2048-T2048-H8-G8-D64-E64\n")
  }

  @Test("A mask's blocks are shown as they are", .needsDevice)
  func maskMaps() async throws {
    func run(_ arguments: [String]) async -> (status: Int32, output: String, errors: String) {
      let console = Console(isRecording: true)
      let status = await Console.$current.withValue(console) {
        await VKAttn.run(["mask"] + arguments)
      }
      return (status, console.output, console.errors)
    }
    let causal = await run(["keyIndex <= queryIndex", "--tokens", "300"])
    #expect(causal.status == 0, "\(causal.errors)")
    #expect(
      causal.output == """
        ▒····
        █▒···
        ██▒··
        ███▒·
        ████▒
        5 × 5 blocks of 64 × 64: 10 full, 5 partial, 10 empty; 40.0 % are skipped

        """)
    let window = await run([
      "int d = queryIndex - keyIndex; return abs(d) <= n && half_ < 0.75;", "--scalar", "n=63",
      "--scalar", "half_=0.5", "--tokens", "128", "--key-tokens", "256", "--json",
    ])
    #expect(window.status == 0, "\(window.errors)")
    let object = try JSONSerialization.jsonObject(with: Data(window.output.utf8))
    let map = try #require(object as? [String: Any])
    #expect(map["blocks"] as? [String] == ["2100", "1210"])
    #expect(map["full"] as? Int == 2 && map["partial"] as? Int == 3 && map["empty"] as? Int == 3)
    for (arguments, words) in [
      (["keyIndex <= queryIndx"], "queryIndx"), (["true", "--block", "24"], "power of two"),
      (["true", "--scalar", "n"], "NAME=VALUE"), (["true", "--scalar", "n=x"], "no number"),
      (["n > 0", "--scalar", "n=1", "--scalar", "n=2"], "twice"),
    ] {
      let refused = await run(arguments)
      #expect(refused.status == 2, "\(arguments)")
      #expect(refused.errors.contains(words), "\(arguments): \(refused.errors)")
    }
  }

  @Test func expressionsAreToldFromStatements() {
    #expect(MaskMap.isExpression("keyIndex <= queryIndex"))
    #expect(MaskMap.isExpression("returned > 0"))
    #expect(!MaskMap.isExpression("return keyIndex <= queryIndex"))
    #expect(!MaskMap.isExpression("if (a) { x; } true"))
  }
}
