import Testing
import VulkanAttention

@testable import KernelBenchmarks

@Suite struct ResultHistoryTests {
  private func bench(_ seconds: Double, time: String?, peers: String = "") -> [UInt8] {
    let when = time.map { "\"version\": 2, \"time\": \"\($0)\", " } ?? ""
    return Array(
      """
      {\(when)"device": "d", "driver": "e", "commit": "c", "peers": [\(peers)], "results": [
        {"id": "attention/x", "path": "row", "seconds_median": \(seconds), "seconds_p10": 0.001,
         "seconds_p90": 0.003, "gflops": 12.345, "gbps": 0.5}]}
      """.utf8)
  }

  @Test func theNewestFigureCounts() throws {
    let history = try ResultHistory([
      ("2026-11-22-b.json", bench(0.002, time: "2026-11-22T10:00:00Z")),
      ("2026-11-21-a.json", bench(0.001, time: nil)),
    ])
    #expect(history.files.map(\.name) == ["2026-11-21-a.json", "2026-11-22-b.json"])
    let lines = history.page.split(separator: "\n").map(String.init)
    #expect(lines.contains("## d, e"))
    let rows = lines.filter { $0.hasPrefix("| attention/x ") }
    #expect(
      rows == [
        "| attention/x | row | 2.00 ms | 1.00 ms to 3.00 ms | 12.3 | 0.50 | "
          + "[2026-11-22](results/2026-11-22-b.json) |"
      ], "\(rows)")
  }

  @Test func ofOneDayTheLeastCounts() throws {
    for (first, second) in [(0.001, 0.002), (0.002, 0.001)] {
      let page = try ResultHistory([
        ("2026-11-21-a.json", bench(first, time: nil)),
        ("2026-11-21-b.json", bench(second, time: nil)),
      ]).page
      #expect(page.contains("| 1.00 ms |") && !page.contains("| 2.00 ms |"), "\(page)")
    }
  }

  @Test func peersAreReadFromBothKindsOfFiles() throws {
    let peer =
      #"{"id": "attention/y", "path": "row", "peer": "ggml", "gflops_ours": 42.6, "#
      + #""gflops_theirs": 2.97, "ratio": 14.34, "theirs": "p"}"#
    let compared =
      #"[{"id": "attention/z", "path": "row", "ours": "d, e", "theirs": "p", "gflops_ours": 10, "#
      + #""gflops_theirs": 5, "ratio": 2, "ratio_of_rounds": [2, 2]}]"#
    let page = try ResultHistory([
      ("2026-11-21-a.json", bench(0.001, time: nil, peers: peer)),
      ("2026-11-21-p.json", Array(compared.utf8)),
    ]).page
    #expect(page.contains("| attention/y | row | ggml | 42.6 | 2.97 | 14.34 | [2026-11-21]"))
    #expect(page.contains("| attention/z | row | PyTorch | 10.0 | 5.00 | 2.00 | [2026-11-21]"))
    // One device: its files stand below one head.
    #expect(page.split(separator: "\n").filter { $0.hasPrefix("## ") } == ["## d, e"])
  }

  @Test("The summary has the mean and the extremes of each kind of workload beside each peer")
  func summary() throws {
    func peer(_ id: String, _ peer: String, _ ratio: Double, path: String = "row") -> String {
      "{\"id\": \"\(id)\", \"path\": \"\(path)\", \"peer\": \"\(peer)\", "
        + "\"gflops_ours\": \(ratio * 10), "
        + "\"gflops_theirs\": 10, \"ratio\": \(ratio), \"theirs\": \"\(peer) 1\"}"
    }
    // Neither the figure that a newer one follows nor a path that the plan takes no more.
    let old = [
      peer("attention/f32/B1-S512-T512", "PyTorch", 100),
      peer("attention/f32/B1-S512-T512", "PyTorch", 50, path: "subgroup"),
      peer("attention/f32/B1-S2048", "PyTorch", 50, path: "subgroup"),
    ].joined(separator: ", ")
    let new = [
      peer("attention/f32/B1-S512-T512", "PyTorch", 2),
      peer("attention/f32/B1-S1024", "PyTorch", 8),
      peer("attention/f32/B1-S1024-causal", "PyTorch", 3),
      peer("decode/f16/B1-S1-T64-q8_0", "ggml", 5),
    ].joined(separator: ", ")
    let summary = try ResultHistory([
      ("2026-11-21-a.json", bench(0.001, time: nil, peers: old)),
      ("2026-11-22-b.json", bench(0.001, time: nil, peers: new)),
    ]).summary
    let rows = summary.split(separator: "\n").filter { $0.hasPrefix("|") }.dropFirst(2)
    #expect(
      rows == [
        "| attention f32 | row | PyTorch | 2 | 4.00× | 2.00× | 8.00× |",
        "| attention f32 causal | row | PyTorch | 1 | 3.00× | 3.00× | 3.00× |",
        "| decode f16 q8_0 | row | ggml | 1 | 5.00× | 5.00× | 5.00× |",
      ], "\(summary)")
    #expect(summary.contains("**d, e**, 2026-11-21, 2026-11-22; peers: PyTorch 1; ggml 1."))
  }

  @Test func otherFilesAreNamed() {
    let error = #expect(throws: ResultFileError.self) {
      try ResultHistory([("x.json", Array("[]".utf8))])
    }
    #expect(error?.description.hasPrefix("x.json") == true)
  }
}

@Suite struct ScheduleBarsTests {
  private func schedule(_ mode: LeanSchedule.Mode) throws -> LeanSchedule {
    try LeanSchedule(
      sequences: [LeanSequence(endKey: 1000), LeanSequence(endKey: 100)], keyHeads: 2,
      tileLength: 100, mode: mode)
  }

  @Test func everyTileIsInOneBar() throws {
    for bars in ScheduleBars.all(
      try schedule(.lean(groups: 4)), tilesPerSplit: [nil, 3])
    {
      // 10 + 1 tiles for each of two heads.
      var tiles: [Int: Int] = [:]
      for bar in bars.bars { tiles[bar.problem, default: 0] += bar.tiles }
      #expect(tiles == [0: 10, 1: 10, 2: 1, 3: 1], "\(bars.name)")
      #expect(bars.ideal == 6 && bars.workers == 4)
      for worker in 0..<bars.workers {
        let own = bars.bars.filter { $0.worker == worker }.sorted { $0.start < $1.start }
        for (earlier, later) in zip(own, own.dropFirst()) {
          #expect(earlier.start + earlier.tiles == later.start)
        }
      }
    }
  }

  @Test func leanEndsEarlierThanWholeProblems() throws {
    let bars = ScheduleBars.all(try schedule(.lean(groups: 4)), tilesPerSplit: [nil])
    #expect(bars.map(\.name) == ["lean", "a split for each problem"])
    #expect(bars.map(\.makespan) == [6, 10])
    let fixed = ScheduleBars.all(try schedule(.fixed(tokensPerSplit: 500)), tilesPerSplit: [5])
    #expect(fixed.map(\.name) == ["fixed splits", "splits of 500 keys"])
  }
}
