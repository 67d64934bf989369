import TestSupport
import Testing
import VulkanAttention

@testable import KernelBenchmarks

@Suite struct BenchmarkWorkloadTests {
  @Test func idsAreUnique() {
    for workloads in [BenchmarkWorkload.full, BenchmarkWorkload.standard, BenchmarkWorkload.quick] {
      var seen: Set<String> = []
      for workload in workloads {
        #expect(seen.insert(workload.id).inserted, "\(workload.id) twice")
      }
      #expect(!workloads.isEmpty)
    }
  }

  @Test(arguments: [SampleDevice.software, .nvidia, .amd, .intel, .mobile])
  func everyWorkloadCanBePlanned(_ sample: SampleDevice) throws {
    let device = try sample.capabilities()
    for workload in BenchmarkWorkload.full + BenchmarkWorkload.quick {
      #expect(throws: Never.self, "\(workload.id)") { try workload.checkPlan(on: device) }
    }
  }

  @Test func quickIsPartOfFull() {
    let all = Set(BenchmarkWorkload.full.map(\.id))
    for workload in BenchmarkWorkload.quick { #expect(all.contains(workload.id)) }
    #expect(Set(BenchmarkWorkload.quick.map(\.problem.family)).count == 3)
  }

  @Test func presetsSayWhatTheyStandFor() {
    let ids = Set(BenchmarkWorkload.full.map(\.id))
    for id in [
      "flash-attention/attention/f16/B4-S4096-T4096-H32-G32-D64-E64-causal",
      "llama-3-70b/decode/f16/B1-S1-T8192-H64-G8-D128-E128",
      "gemma-3-12b/local/attention/f16/B1-S4096-T4096-H16-G8-D256-E256-window1024",
      "deepseek-v3/decode/f16/B8-S1-T4096-H128-G1-D576-E512-latent",
      "swin-t/stage-1/attention/f16/B64-S49-T49-H3-G3-D32-E32-grid7x7",
      "mamba-2-2.7b/linear/ssd/f16/B1-T4096-G1-H80-K128-V64",
      "qwen3-next-80b/gated-delta/linear/gated-delta/f16/B16-T1-G16-H32-K128-V128",
    ] {
      #expect(ids.contains(id), "\(id)")
    }
  }

  @Test func aWindowIsTheKeysThatATokenSees() throws {
    let shape = AttentionShape(queryTokens: 64, queryHeads: 1, headSize: 8)
    let workload = AttentionWorkload(shape, .f32, window: 5)
    // The last token sees itself and the four before it: rows 0 to 3 see less.
    let pairs: Double = 10 + 60 * 5
    #expect(try workload.request().visiblePairsOfWindow == pairs)
    #expect(workload.isCausal && !workload.isPlain)
    #expect(AttentionWorkload(shape, .f32, isCausal: true).isPlain)
  }
}

extension AttentionRequest {
  /// Pairs by the operations that are counted: 2 (D + E) each.
  fileprivate var visiblePairsOfWindow: Double {
    floatingPointOperations / Double(2 * (headSize + valueHeadSize) * queryHeads * batchSize)
  }
}

@Suite struct GlobTests {
  @Test(arguments: [
    ("llama-3-8b/*", "llama-3-8b/decode/f16/B1", true), ("llama", "llama-3-8b", false),
    ("*decode*", "a/decode/b", true), ("*D64*", "attention/f16/B1-D128", false),
    ("a?c", "abc", true), ("a?c", "ac", false), ("B[1-4]-*", "B3-S1", true),
    ("B[1-4]-*", "B8-S1", false), ("[!a]x", "bx", true), ("[!a]x", "ax", false),
    ("a*b*c", "a-b-b-d-c", true), ("a*b*c", "a-c-b", false), ("", "", true), ("", "a", false),
    ("*", "", true), ("**x", "yyx", true), ("[]]x", "]x", true), ("x*", "x", true),
  ])
  func matches(_ pattern: String, _ text: String, _ isMatch: Bool) throws {
    #expect(try #require(Glob(pattern)).matches(text) == isMatch, "\(pattern) \(text)")
  }

  @Test(arguments: ["[", "a[b", "[]", "[z-a]", "[!"])
  func brokenSetsAreRefused(_ pattern: String) {
    #expect(Glob(pattern) == nil)
  }
}

@Suite struct CSVTests {
  @Test func fieldsAreQuotedWhereTheyNeedIt() {
    var csv = CSV(["id", "tile"])
    csv.add(["plain", "a, b"])
    csv.add(["say \"so\"", "two\nlines"])
    #expect(csv.text == "id,tile\nplain,\"a, b\"\n\"say \"\"so\"\"\",\"two\nlines\"\n")
  }
}
