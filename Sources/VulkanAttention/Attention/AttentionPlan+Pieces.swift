/// Cuts a problem into submissions of bounded work.
struct PieceCutter {
  /// Tiles of one head.
  let tileCount: Int
  let heads: Int
  let batches: Int
  /// The most workgroups of one dispatch along x, y and z.
  let groupLimits: [Int]
  /// Multiplications and additions of one submission.
  let budget: Double
  /// The keys along which a single tile of a single head may be cut, at multiples of a step.
  let keys: (count: Int, step: Int)?
  /// Multiplications and additions of some tiles of one head in one batch entry.
  let operations: (Range<Int>) -> Double

  func pieces() -> [AttentionPlan.Piece] {
    let heads = Self.portions(of: heads, atMost: groupLimits[1])
    let batches = Self.portions(of: batches, atMost: groupLimits[2])
    if tileCount <= groupLimits[0], heads.count == 1, batches.count == 1 {
      let copies = Double(self.heads * self.batches)
      if operations(0..<tileCount) * copies <= budget {
        return [
          AttentionPlan.Piece(
            tiles: 0..<tileCount, heads: heads[0], batches: batches[0], keys: nil)
        ]
      }
    }
    var pieces: [AttentionPlan.Piece] = []
    for batches in batches {
      for heads in heads { cutTiles(heads, batches, into: &pieces) }
    }
    return pieces
  }

  /// The most tiles within the budget, one after the other.
  private func cutTiles(
    _ heads: Range<Int>, _ batches: Range<Int>, into pieces: inout [AttentionPlan.Piece]
  ) {
    let copies = Double(heads.count * batches.count)
    var start = 0
    while start < tileCount {
      var end = start + 1
      var limit = min(tileCount, start + groupLimits[0])
      while end < limit {
        let middle = (end + limit + 1) / 2
        if operations(start..<middle) * copies <= budget {
          end = middle
        } else {
          limit = middle - 1
        }
      }
      let tiles = start..<end
      if tiles.count == 1, operations(tiles) * copies > budget {
        cutCopies(tiles, heads, batches, into: &pieces)
      } else {
        pieces.append(.init(tiles: tiles, heads: heads, batches: batches, keys: nil))
      }
      start = end
    }
  }

  /// One tile of all heads and batch entries is too much: by batch entries, then by heads, then by keys.
  private func cutCopies(
    _ tiles: Range<Int>, _ heads: Range<Int>, _ batches: Range<Int>,
    into pieces: inout [AttentionPlan.Piece]
  ) {
    let perHead = operations(tiles)
    let headsAtOnce = max(1, min(heads.count, Int(budget / perHead)))
    let batchesAtOnce = max(1, min(batches.count, Int(budget / perHead / Double(heads.count))))
    for batches in Self.portions(of: batches, atMost: batchesAtOnce) {
      for heads in Self.portions(of: heads, atMost: headsAtOnce) {
        if perHead > budget, let keys {
          // Now a single head of a single batch entry.
          let count = Int((perHead / budget).rounded(.up))
          let step = ceilingDivide(ceilingDivide(keys.count, count), keys.step) * keys.step
          for keys in Self.portions(of: keys.count, atMost: step) {
            pieces.append(.init(tiles: tiles, heads: heads, batches: batches, keys: keys))
          }
        } else {
          pieces.append(.init(tiles: tiles, heads: heads, batches: batches, keys: nil))
        }
      }
    }
  }

  /// 0 ..< count in ranges of at most `limit`.
  static func portions(of count: Int, atMost limit: Int) -> [Range<Int>] {
    portions(of: 0..<count, atMost: limit)
  }

  /// A range in ranges of at most `limit`, or of 1 where that is less.
  static func portions(of range: Range<Int>, atMost limit: Int) -> [Range<Int>] {
    stride(from: range.lowerBound, to: range.upperBound, by: max(1, limit)).map {
      $0..<min($0 + max(1, limit), range.upperBound)
    }
  }
}

extension AttentionPlan {
  /// The most submissions of a plan: hours of work, and 75 MB for their list.
  private static let mostPieces = 1 << 20

  /// Cuts an attention.
  ///
  /// - Throws: `invalidArgument` for a problem of more submissions than ``mostPieces``.
  static func pieces(
    _ request: AttentionRequest, tile: AttentionTile, tileCount: Int, device: DeviceCapabilities,
    budget: Double
  ) throws(AttentionError) -> [Piece] {
    let cutter = PieceCutter(
      request, tile: tile, tileCount: tileCount, device: device, budget: budget)
    let copies = Double(request.queryHeads) * Double(request.batchSize)
    // Whatever the budget, no piece is less than a tile of one head and a step of keys.
    let steps = Double(ceilingDivide(request.keyTokens, tile.keysPerStep))
    let count = min(
      cutter.operations(0..<tileCount) * copies / budget, Double(tileCount) * copies * steps)
    guard count <= Double(mostPieces) else {
      throw .invalidArgument(
        name: "queryTokens", value: "\(request.queryTokens)",
        allowed: "problems of at most \(mostPieces) submissions, as long as this device may take")
    }
    guard tile.problemsPerWorkgroup > 1 else { return cutter.pieces() }
    // One tile, and along x all heads of some batch entries.
    let limit = device.maxWorkgroupCount[0] * tile.problemsPerWorkgroup / request.queryHeads
    return PieceCutter(
      tileCount: 1, heads: 1, batches: cutter.batches, groupLimits: [1, 1, limit],
      budget: budget, keys: nil,
      operations: { cutter.operations($0) * Double(request.queryHeads) }
    ).pieces().map {
      Piece(tiles: $0.tiles, heads: 0..<request.queryHeads, batches: $0.batches, keys: nil)
    }
  }
}

extension PieceCutter {
  /// Cuts an attention, a workgroup for each tile.
  init(
    _ request: AttentionRequest, tile: AttentionTile, tileCount: Int, device: DeviceCapabilities,
    budget: Double
  ) {
    let operationsPerPair = 2 * Double(request.headSize + request.valueHeadSize)
    self.init(
      tileCount: tileCount, heads: request.queryHeads, batches: request.batchSize,
      groupLimits: device.maxWorkgroupCount, budget: budget,
      keys: (request.keyTokens, tile.keysPerStep)
    ) { tiles in
      let groups =
        tile.takesLongTilesFirst
        ? tileCount - tiles.upperBound..<tileCount - tiles.lowerBound : tiles
      let end = min(groups.upperBound * tile.queryRows, request.queryTokens)
      let rows = groups.lowerBound * tile.queryRows..<end
      return operationsPerPair * Double(request.visiblePairs(rows: rows))
    }
  }
}

extension ComputeDevice {
  /// Runs pieces one behind the other and returns when the last is done. A cancelled task stops before
  /// the next piece.
  ///
  /// - Parameters:
  ///   - count: the number of pieces.
  ///   - progress: called with the share of the pieces that are done, up to 1, after each.
  ///   - record: appends a piece to a recorder.
  func runPieces(
    _ count: Int, progress: (@Sendable (Double) -> Void)?,
    record: (_ index: Int, _ recorder: Recorder) throws(AttentionError) -> Void
  ) async throws(AttentionError) {
    var pending: [Submission] = []
    var doneCount = 0
    func completeFirst() async throws(AttentionError) {
      do {
        try await pending.removeFirst().completed()
      } catch {
        throw .device(error)
      }
      doneCount += 1
      progress?(Double(doneCount) / Double(count))
    }
    for index in 0..<count {
      if Task.isCancelled { throw .device(.cancelled) }
      // One piece runs while the next one is recorded; more in flight would delay cancellation.
      if pending.count == 2 { try await completeFirst() }
      let recorder = try wrappingDeviceErrors(makeRecorder)
      try record(index, recorder)
      pending.append(try wrappingDeviceErrors { () throws(VulkanError) in try submit(recorder) })
    }
    while !pending.isEmpty { try await completeFirst() }
  }
}
