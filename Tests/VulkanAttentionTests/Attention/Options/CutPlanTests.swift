import TestSupport
import Testing

@testable import VulkanAttention

/// Plans with budgets so small that everything is cut, without a device.
@Suite struct CutPlanTests {
  private static func requests() throws -> [AttentionRequest] {
    var window = AttentionMask.window(left: 20)
    window.sinkTokens = 3
    return try [AttentionMask.none, .causal, window].flatMap { mask in
      try [(2, 3, 70, 150), (1, 2, 1, 700), (3, 1, 300, 33)].map { b, h, s, t in
        try AttentionRequest(
          batchSize: b, queryTokens: s, keyTokens: t, queryHeads: h, headSize: 64,
          elementType: .f16, mask: mask)
      }
    }
  }

  /// Marks every (tile, head, batch, key) and fails where one is marked twice or never.
  private func expectEachOnce(_ plan: AttentionPlan) throws {
    let request = plan.request
    let keys = request.keyTokens
    var counts = [UInt8](
      repeating: 0, count: plan.tileCount * request.queryHeads * request.batchSize * keys)
    for piece in plan.pieces {
      for tile in piece.tiles {
        for head in piece.heads {
          for batch in piece.batches {
            let first = ((batch * request.queryHeads + head) * plan.tileCount + tile) * keys
            for key in piece.keys ?? 0..<keys { counts[first + key] += 1 }
          }
        }
      }
    }
    try #require(counts.allSatisfy { $0 == 1 }, "\(plan.path) \(request.mask)")
  }

  @Test(
    "Every tile, head, batch entry and key once, within the budget",
    arguments: SampleDevice.allCases)
  func cuts(sample: SampleDevice) throws {
    let device = try sample.capabilities()
    var cutAlongKeys = 0
    for request in try Self.requests() {
      let whole =
        2.0 * Double(request.batchSize * request.queryHeads) * 128
        * Double(request.visiblePairs)
      for path in AttentionPath.allCases {
        guard (try? AttentionPlan(request, device: device, path: path)) != nil else { continue }
        for share in [2, 1, 0.6, 0.3, 0.1, 0.03, 0.01, 1e-4, 1e-9] {
          let budget = whole * share
          let plan = try AttentionPlan(
            request, device: device, path: path, tile: .tuned, operationsPerPiece: budget)
          try expectEachOnce(plan)
          try #require((share >= 1) == (plan.pieces.count == 1))
          for piece in plan.pieces {
            let perHead = piece.tiles.reduce(0.0) {
              let group = plan.tile.takesLongTilesFirst ? plan.tileCount - 1 - $1 : $1
              let first = group * plan.tile.queryRows
              let rows = first..<min(first + plan.tile.queryRows, request.queryTokens)
              return $0 + 256 * Double(request.visiblePairs(rows: rows))
            }
            guard let keys = piece.keys else {
              try #require(
                perHead * Double(piece.heads.count * piece.batches.count) <= budget * 1.000001)
              continue
            }
            cutAlongKeys += 1
            // A single tile of a single head, cut at steps of the kernel.
            let step = plan.tile.keysPerStep
            try #require(
              piece.tiles.count == 1 && piece.heads.count == 1 && piece.batches.count == 1)
            try #require(keys.lowerBound % step == 0)
            try #require(keys.upperBound % step == 0 || keys.upperBound == request.keyTokens)
            // Rounded up to a step.
            let share = max(1, (perHead / budget).rounded(.up))
            try #require(Double(keys.count) < Double(request.keyTokens) / share + Double(step) + 1)
          }
          let isCut = plan.pieces.contains { $0.keys != nil }
          #expect(plan.options.contains(.keyRange) == isCut)
          let carry = plan.tile.queryRows * (65 + plan.tile.sumsPerRow) * 4
          #expect(plan.scratch.carry?.count == (isCut ? carry : nil))
        }
      }
    }
    #expect((cutAlongKeys > 0) == (sample != .unusable))
  }

  @Test("Pieces along the keys of one tile follow each other in order")
  func keysInOrder() throws {
    let request = try AttentionRequest(
      batchSize: 2, queryTokens: 70, keyTokens: 150, queryHeads: 3, headSize: 64)
    let plan = try AttentionPlan(
      request, device: SampleDevice.software.capabilities(), path: .row, tile: .tuned,
      operationsPerPiece: 1)
    var expected = 0
    for piece in plan.pieces {
      let keys = try #require(piece.keys)
      #expect(keys.lowerBound == expected)
      expected = keys.upperBound == 150 ? 0 : keys.upperBound
    }
    #expect(expected == 0)
  }

  @Test("No keys are nothing to cut")
  func noKeys() throws {
    let request = try AttentionRequest(
      batchSize: 2, queryTokens: 70, keyTokens: 0, queryHeads: 3, headSize: 64)
    let plan = try AttentionPlan(
      request, device: SampleDevice.software.capabilities(), path: .row, tile: .tuned,
      operationsPerPiece: 1)
    #expect(plan.pieces.count == 1 && plan.pieces[0].keys == nil)
  }

  @Test("Options and scratch of a plan are those of its request", arguments: SampleDevice.allCases)
  func options(sample: SampleDevice) throws {
    let device = try sample.capabilities()
    guard sample != .unusable else { return }
    let plain = try AttentionRequest(queryTokens: 4, queryHeads: 2, headSize: 64, mask: .causal)
    let plan = try AttentionPlan(plain, device: device)
    #expect(plan.options == .causal && plan.scratch.optionBlock == nil)
    for kind in AttentionOperand.Kind.allCases {
      var scores = AttentionScores()
      (scores.gridHeight, scores.gridWidth, scores.treeTokens) = (2, 2, 2)
      let partner: [AttentionOperand.Kind: AttentionOperand.Kind] = [
        .querySegments: .keySegments, .keySegments: .querySegments,
        .relativeQueryBias: .relativeKeys,
      ]
      guard
        let request = try? AttentionRequest(
          queryTokens: 4, queryHeads: 2, headSize: 64, mask: .causal, scores: scores,
          operands: ([kind] + (partner[kind].map { [$0] } ?? [])).map { AttentionOperand($0) })
      else {
        // What only packed sequences and states bring along.
        #expect(
          kind.isWritten
            || [.queryStarts, .keyStarts, .initialMax, .initialSum, .initialOutput].contains(kind))
        continue
      }
      let plan = try AttentionPlan(request, device: device)
      #expect(plan.options != .causal, "\(kind)")
      #expect(plan.scratch.optionBlock?.count == AttentionOptionBlock.byteCount, "\(kind)")
      #expect((plan.scratch.relativeTerm != nil) == (plan.options.contains(.relativeTerm)))
    }
  }
}
