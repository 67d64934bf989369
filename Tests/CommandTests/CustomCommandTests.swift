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
}
