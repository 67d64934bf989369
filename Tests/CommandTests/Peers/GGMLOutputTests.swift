import Testing
import VulkanAttention

@testable import KernelBenchmarks

/// Output of `test-backend-ops perf -o FLASH_ATTN_EXT -b Vulkan0` of ggml 0.21 (d99724f2), shortened.
private enum Recorded {
  static let head = """
    Testing 2 devices

    Backend 1/2: Vulkan0
      Device description: llvmpipe (LLVM 19.1.7, 256 bits)
      Device memory: 24105 MB (23326 MB free)


    """
  static let prefill =
    "  FLASH_ATTN_EXT(hsk=64,hsv=64,nh=8,nr23=[1,1],kv=512,nb=512,mask=0,sinks=0,max_bias=0.000000,"
    + "logit_softcap=0.000000,prec=f32,type_K=f16,type_V=f16,permute=[0,1,2,3],kv_view=1,"
    + "v_is_view_of_k=0):                      187 runs - 198752.29 us/run - 536.87 MFLOP/run - "
    + "\u{1B}[1;34m  2.70 GFLOPS\u{1B}[0m\n"
  static let decode =
    "  FLASH_ATTN_EXT(hsk=128,hsv=128,nh=8,nr23=[4,1],kv=4096,nb=1,mask=1,sinks=0,max_bias=0.000000,"
    + "logit_softcap=0.000000,prec=f32,type_K=f16,type_V=f16,permute=[0,1,2,3],kv_view=1,"
    + "v_is_view_of_k=0):                     1491 runs -  64300.00 us/run -  67.11 MFLOP/run - "
    + "\u{1B}[1;34m  1.04 GFLOPS\u{1B}[0m\n"
  static let refused =
    "  FLASH_ATTN_EXT(hsk=72,hsv=72,nh=4,nr23=[1,1],kv=96,nb=2,mask=1,sinks=0,max_bias=0.000000,"
    + "logit_softcap=0.000000,prec=f32,type_K=f16,type_V=f16,permute=[0,1,2,3],kv_view=1,"
    + "v_is_view_of_k=0): not supported\n"
  static let tail = """
      Backend Vulkan0: \u{1B}[1;32mOK\u{1B}[0m
    Backend 2/2: CPU
      Skipping
    2/2 backends passed
    \u{1B}[1;32mOK\u{1B}[0m

    """
  static let skipped = """
    Testing 1 devices

    Backend 1/1: CPU
      Skipping
    1/1 backends passed
    \u{1B}[1;32mOK\u{1B}[0m

    """
}

@Suite struct GGMLOutputTests {
  private let prefill = GGMLCase(
    AttentionShape(queryTokens: 512, queryHeads: 8, headSize: 64), .f16)
  private let decode = GGMLCase(
    AttentionShape(queryTokens: 1, keyTokens: 4096, queryHeads: 32, keyHeads: 8, headSize: 128),
    .f16)
  private let refused = GGMLCase(
    AttentionShape(queryTokens: 2, keyTokens: 96, queryHeads: 4, headSize: 72), .f16)

  private func read(_ lines: String...) throws(GGMLError) -> GGMLOutput {
    try GGMLOutput(Recorded.head + lines.joined() + Recorded.tail, from: "program")
  }

  @Test func recordedOutputIsRead() throws {
    let output = try read(Recorded.prefill, Recorded.decode, Recorded.refused)
    #expect(output.device == "llvmpipe (LLVM 19.1.7, 256 bits)")
    #expect(output.rows.count == 3)
    #expect(output.rows[0].parameters["nr23"] == "[1,1]")
    #expect(output.rows[0].parameters["permute"] == "[0,1,2,3]")
    #expect(abs(try output.seconds(of: prefill) - 0.198_752_29) < 1e-12)
    #expect(abs(try output.seconds(of: decode) - 0.0643) < 1e-12)
    #expect(throws: GGMLError.notSupported(refused)) { try output.seconds(of: refused) }
  }

  @Test func theFastestVariantCounts() throws {
    let masked = Recorded.prefill.replacing("mask=0", with: "mask=1")
      .replacing("198752.29", with: "150000.00")
    #expect(abs(try read(Recorded.prefill, masked).seconds(of: prefill) - 0.15) < 1e-12)
  }

  @Test func anotherCaseIsNotTaken() throws {
    for (name, other) in [
      ("kv=512", "kv=5120"), ("nh=8", "nh=4"), ("nr23=[1,1]", "nr23=[1,2]"), ("sinks=0", "sinks=1"),
      ("type_V=f16", "type_V=q8_0"), ("logit_softcap=0.000000", "logit_softcap=30.000000"),
    ] {
      let output = try read(Recorded.prefill.replacing(name, with: other))
      #expect(throws: GGMLError.caseMissing(prefill), "\(other)") {
        try output.seconds(of: prefill)
      }
    }
  }

  @Test func missingCasesAndDevicesAreTold() throws {
    #expect(throws: GGMLError.caseMissing(prefill)) { try read().seconds(of: prefill) }
    #expect(throws: GGMLError.noDevice) { try GGMLOutput(Recorded.skipped, from: "program") }
    let text = try #require("\(GGMLError.caseMissing(prefill))".split(separator: "add ").last)
    #expect(
      text.hasPrefix("hsk=64,hsv=64,nh=8,nr23=[1,1],kv=512,nb=512,type_K=f16,type_V=f16 to"))
  }

  @Test(arguments: ["", "hello\n", "Usage: program [mode]\n", "\u{1B}[31m", "Testing\n"])
  func anotherProgramIsTold(_ text: String) {
    #expect(throws: GGMLError.wrongProgram(path: "program", output: text)) {
      try GGMLOutput(text, from: "program")
    }
  }

  @Test(arguments: [
    "FLASH_ATTN_EXT(", "FLASH_ATTN_EXT()", "FLASH_ATTN_EXT(hsk=64)", "FLASH_ATTN_EXT(hsk=64):",
    "FLASH_ATTN_EXT(hsk):  1 runs - 2.00 us/run - 1.00 MFLOP/run - 1.00 GFLOPS",
    "FLASH_ATTN_EXT(nr23=[1,1):  1 runs - 2.00 us/run - 1.00 MFLOP/run - 1.00 GFLOPS",
    "FLASH_ATTN_EXT(hsk=64):  1 runs - nan us/run - 1.00 MFLOP/run - 1.00 GFLOPS",
    "FLASH_ATTN_EXT(hsk=64):  1 runs - inf us/run - 1.00 MFLOP/run - 1.00 GFLOPS",
    "FLASH_ATTN_EXT(hsk=64):  1 runs - -2.00 us/run - 1.00 MFLOP/run - 1.00 GFLOPS",
    "FLASH_ATTN_EXT(hsk=64):  0 runs - 2.00 us/run - 1.00 MFLOP/run - 1.00 GFLOPS",
    "FLASH_ATTN_EXT(hsk=64):  1 runs - 2.00 ms/run - 1.00 MFLOP/run - 1.00 GFLOPS",
    "FLASH_ATTN_EXT(hsk=64):  1 runs -",
  ])
  func changedLinesAreMalformed(_ line: String) {
    #expect(throws: GGMLError.malformed(line: line)) { try read("  \(line)\n") }
  }

  @Test func truncatedOutputNeverCrashes() {
    let text = Recorded.head + Recorded.prefill + Recorded.tail
    for length in stride(from: 0, through: text.count, by: 7) {
      do {
        _ = try GGMLOutput(String(text.prefix(length)), from: "program")
      } catch {
        #expect(!"\(error)".isEmpty)
      }
    }
  }
}

@Suite struct GGMLCaseTests {
  @Test func filtersFindTheirCaseAlone() throws {
    let parameters = Recorded.prefill.split(whereSeparator: { "()".contains($0) })[1]
    let shape = AttentionShape(queryTokens: 512, queryHeads: 8, headSize: 64)
    let filter = try Regex(GGMLCase(shape, .f16).filter)
    #expect(parameters.firstMatch(of: filter) != nil)
    #expect(parameters.replacing("mask=0", with: "mask=1").firstMatch(of: filter) != nil)
    for other in ["kv=5120", "kv=51", "kv=1512"] {
      #expect(parameters.replacing("kv=512", with: other).firstMatch(of: filter) == nil, "\(other)")
    }
    #expect(parameters.replacing("[1,1]", with: "[4,1]").firstMatch(of: filter) == nil)
  }

  @Test func causalWorkloadsAreNotComparable() throws {
    let shape = AttentionShape(queryTokens: 512, queryHeads: 8, headSize: 64)
    #expect(try GGMLCase(AttentionWorkload(shape, .f16)) == GGMLCase(shape, .f16))
    do throws(GGMLError) {
      _ = try GGMLCase(AttentionWorkload(shape, .f16, isCausal: true))
      Issue.record("a causal case was made")
    } catch {
      #expect(error == .notComparable("it has no causal mask, only dense ones"))
      #expect(error.consequence == .skip)
    }
  }
}

@Suite struct PeerComparisonTests {
  private func comparison(_ id: String, _ peer: String, theirs: Double) -> PeerComparison {
    PeerComparison(
      id: id, path: "row", peer: peer, platform: "\(peer) 1.0", ours: 100, theirs: theirs)
  }

  @Test func peersStandBesideEachOther() {
    let rows = [
      comparison("a", "PyTorch", theirs: 50), comparison("a", "ggml", theirs: 5),
      comparison("b", "PyTorch", theirs: 25),
    ]
    let lines = rows.table.lines
    #expect(lines.count == 4)
    #expect(lines[0].hasPrefix("beside PyTorch, ggml"))
    #expect(lines[2].contains("2.00") && lines[2].hasSuffix("20.00"))
    #expect(lines[3].hasSuffix("4.00"))
    #expect(
      rows.summary == [
        "PyTorch: PyTorch 1.0; geometric mean 2.83, least 2.00",
        "ggml: ggml 1.0; geometric mean 20.00, least 20.00",
      ])
  }

  @Test func jsonNamesThePeer() {
    var report = BenchmarkReport(device: "d", driver: "e", commit: "c")
    report.peers = [comparison("a", "ggml", theirs: 5)]
    guard case .array(let rows)? = report.json["peers"], let row = rows.first else {
      Issue.record("no peers")
      return
    }
    #expect(row["peer"] == "ggml" && row["theirs"] == "ggml 1.0" && row["ratio"] == .number(20))
    #expect(row["gflops_ours"] == .number(100) && row["gflops_theirs"] == .number(5))
  }
}
