import TestSupport
import Testing

@testable import VulkanAttention

/// Statistics as they are stated and planned, without a device.
@Suite struct AttentionStatisticsRequestTests {
  private func attention(
    _ normalizer: AttentionNormalizer = .softmax, packed: Bool = false, tokens: Int = 10
  ) throws -> AttentionRequest {
    var scores = AttentionScores()
    scores.normalizer = normalizer
    return try AttentionRequest(
      batchSize: 2, queryTokens: tokens, keyTokens: 20, queryHeads: 4, keyHeads: 2, headSize: 16,
      scores: scores,
      packedSequences: packed ? PackedSequences(queryTokens: 20, keyTokens: 40) : nil,
      returnsLogSumExp: true)
  }

  @Test("Numbers that no device could run are refused by their names")
  func refusedNumbers() throws {
    let attention = try attention()
    let most = AttentionMask.largestExtent
    let cases: [(String, String, String, [AttentionStatistic])] = [
      ("statistics", "none", "one or more", []),
      ("statistics.topKeys", "0", "1 to 64", [.topKeys(0)]),
      ("statistics.topKeys", "65", "1 to 64", [.topKeys(65)]),
      ("statistics.keySums.lastRows", "0", "1 to \(most)", [.keySums(lastRows: 0)]),
      ("statistics.keySums.lastRows", "-1", "1 to \(most)", [.keySums(lastRows: -1)]),
      (
        "statistics.probabilities.rowCount", "0", "1 to \(most)",
        [.entropy, .probabilities(rowCount: 0)]
      ),
      (
        "statistics.probabilities.rowCount", "\(most + 1)", "1 to \(most)",
        [.probabilities(rowCount: most + 1)]
      ),
      ("statistics.entropy", "given twice", "once", [.entropy, .entropy]),
      (
        "statistics.keySums", "given twice", "once",
        [.keySums(lastRows: nil), .keySums(lastRows: 3)]
      ),
    ]
    for (name, value, allowed, statistics) in cases {
      #expect(
        throws: AttentionError.invalidArgument(name: name, value: value, allowed: allowed)
      ) {
        try AttentionStatisticsRequest(attention, statistics: statistics)
      }
    }
  }

  @Test(
    "Other normalisers have no probabilities",
    arguments: [AttentionNormalizer.reluMean, .reluSum, .sigmoid(bias: 1)])
  func normalizers(normalizer: AttentionNormalizer) throws {
    let attention = try attention(normalizer)
    #expect(
      throws: AttentionError.invalidArgument(
        name: "attention.scores.normalizer", value: "\(normalizer)",
        allowed: "softmax or softmaxOffByOne, whose weights a log-sum-exp tells")
    ) {
      try AttentionStatisticsRequest(attention, statistics: [.entropy])
    }
  }

  @Test func packedSequences() throws {
    let attention = try attention(packed: true)
    #expect(
      throws: AttentionError.invalidArgument(
        name: "attention.packedSequences", value: "set",
        allowed: "nil; ask for each sequence by a request of its own")
    ) {
      try AttentionStatisticsRequest(attention, statistics: [.entropy])
    }
  }

  @Test func tooLarge() throws {
    let attention = try AttentionRequest(
      batchSize: 1 << 10, queryTokens: 1, keyTokens: 1 << 20, queryHeads: 1 << 4, headSize: 1)
    #expect(throws: AttentionError.tooLarge(tensor: "probabilities")) {
      try AttentionStatisticsRequest(
        attention, statistics: [.probabilities(rowCount: 1 << 20)])
    }
  }

  @Test func sizes() throws {
    let request = try AttentionStatisticsRequest(
      attention(), statistics: [.keySums(lastRows: 3), .entropy, .probabilities(rowCount: 5)])
    #expect(request.byteCount(of: .keySums(lastRows: 3)) == 2 * 4 * 20 * 4)
    #expect(request.byteCount(of: .entropy) == 2 * 10 * 4 * 4)
    #expect(request.byteCount(of: .probabilities(rowCount: 5)) == 2 * 5 * 4 * 20 * 4)
    #expect(request.byteCount(of: .topKeys(3)) == 0)
    #expect(request.queryRowsByteCount == 20)
    let top = try AttentionStatisticsRequest(attention(), statistics: [.topKeys(3)])
    #expect(top.byteCount(of: .topKeys(3)) == 2 * 10 * 4 * 3 * 4)
    #expect(top.queryRowsByteCount == 0)
  }

  @Test("Dispatches cover every tile, head and batch entry once, within the limits")
  func dispatches() throws {
    var device = try SampleDevice.software.capabilities()
    device.maxWorkgroupCount = [3, 3, 1]
    let plan = try AttentionStatisticsPlan(
      AttentionStatisticsRequest(
        attention(tokens: 250), statistics: [.entropy, .keySums(lastRows: nil)]), device: device)
    for (statistic, tiles) in [(AttentionStatistic.entropy, 8), (.keySums(lastRows: nil), 1)] {
      var seen: Set<[Int]> = []
      for dispatch in plan.dispatches(statistic) {
        #expect(dispatch.tiles.count <= 3 && dispatch.heads.count <= 3)
        #expect(dispatch.batches.count == 1)
        for tile in dispatch.tiles {
          for head in dispatch.heads {
            for batch in dispatch.batches { #expect(seen.insert([tile, head, batch]).inserted) }
          }
        }
      }
      #expect(seen.count == tiles * 4 * 2)
    }
    #expect(plan.scratchByteCount == 0)
  }
}
