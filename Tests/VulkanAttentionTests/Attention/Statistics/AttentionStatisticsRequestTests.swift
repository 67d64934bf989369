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

  @Test("Packed sequences have results of packed rows and keys")
  func packedSequences() throws {
    let request = try AttentionStatisticsRequest(
      attention(packed: true),
      statistics: [.keySums(lastRows: 3), .entropy, .probabilities(rowCount: 5), .topKeys(3)])
    #expect(request.byteCount(of: .keySums(lastRows: 3)) == 4 * 40 * 4)
    #expect(request.byteCount(of: .entropy) == 20 * 4 * 4)
    #expect(request.byteCount(of: .probabilities(rowCount: 5)) == 2 * 5 * 4 * 20 * 4)
    #expect(request.byteCount(of: .topKeys(3)) == 20 * 4 * 3 * 4)
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

  /// Marks every (statistic, tile, head, batch entry) and fails where one is marked twice or never.
  private func expectEachOnce(_ plan: AttentionStatisticsPlan, tiles: [Int]) throws {
    let attention = plan.request.attention
    var seen: Set<[Int]> = []
    for piece in plan.pieces {
      #expect(piece.tiles.count <= plan.groupLimits[0] && piece.heads.count <= plan.groupLimits[1])
      #expect(piece.batches.count <= plan.groupLimits[2])
      for tile in piece.tiles {
        for head in piece.heads {
          for batch in piece.batches {
            try #require(seen.insert([piece.statistic, tile, head, batch]).inserted)
          }
        }
      }
    }
    #expect(seen.count == tiles.reduce(0, +) * attention.queryHeads * attention.batchSize)
  }

  @Test("Pieces have every tile, head and batch entry once, within the device's limits")
  func limits() throws {
    var device = try SampleDevice.software.capabilities()
    device.maxWorkgroupCount = [3, 3, 1]
    let plan = try AttentionStatisticsPlan(
      AttentionStatisticsRequest(
        attention(tokens: 250), statistics: [.entropy, .keySums(lastRows: nil)]), device: device)
    try expectEachOnce(plan, tiles: [8, 1])
    #expect(plan.scratchByteCount == 0)
  }

  @Test(
    "Pieces are within the budget, down to a tile of one head",
    arguments: [1, 0.5, 0.1, 0.01, 1e-9])
  func budgets(share: Double) throws {
    let device = try SampleDevice.software.capabilities()
    let attention = try AttentionRequest(
      batchSize: 2, queryTokens: 250, keyTokens: 300, queryHeads: 4, headSize: 16, mask: .causal)
    let statistics: [AttentionStatistic] = [
      .entropy, .keySums(lastRows: 40), .probabilities(rowCount: 7), .topKeys(3),
    ]
    let request = try AttentionStatisticsRequest(attention, statistics: statistics)
    let budget = share * 2 * 16 * 4 * 2 * Double(attention.visiblePairs)
    let plan = try AttentionStatisticsPlan(request, device: device, operationsPerPiece: budget)
    try expectEachOnce(plan, tiles: [8, 10, 10, 8])
    if share == 1 { #expect(plan.pieces.count == 4) }
    for piece in plan.pieces {
      let statistic = statistics[piece.statistic]
      let tokens = statistic.isByKey ? 300 : 250
      let own = piece.tiles.lowerBound * 32..<min(piece.tiles.upperBound * 32, tokens)
      let copies = piece.heads.count * piece.batches.count
      let operations = request.operations(of: statistic, for: own) * Double(copies)
      #expect(operations <= budget || piece.tiles.count == 1 && copies == 1)
    }
    if share == 1e-9 { #expect(plan.pieces.count == 36 * 8) }
  }

  @Test("No keys, no pieces")
  func noKeys() throws {
    let device = try SampleDevice.software.capabilities()
    let none = try AttentionRequest(queryTokens: 5, keyTokens: 0, queryHeads: 1, headSize: 8)
    let packed = try AttentionRequest(
      queryTokens: 5, keyTokens: 3, queryHeads: 1, headSize: 8,
      packedSequences: PackedSequences(queryTokens: 5, keyTokens: 0))
    for attention in [none, packed] {
      let request = try AttentionStatisticsRequest(attention, statistics: [.entropy])
      #expect(try AttentionStatisticsPlan(request, device: device).pieces.isEmpty)
    }
  }
}
