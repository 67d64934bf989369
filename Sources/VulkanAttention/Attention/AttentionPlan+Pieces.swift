/// Cuts a problem into submissions of bounded work.
struct PieceCutter {
  let request: AttentionRequest
  let tile: AttentionTile
  let tileCount: Int
  let device: DeviceCapabilities
  /// Multiplications and additions of one submission.
  let budget: Double

  /// Of one pair of a query and a key.
  private var operationsPerPair: Double { 2 * Double(request.headSize + request.valueHeadSize) }

  /// Of some tiles of one head in one batch entry.
  private func operations(_ tiles: Range<Int>) -> Double {
    let groups =
      tile.takesLongTilesFirst
      ? tileCount - tiles.upperBound..<tileCount - tiles.lowerBound : tiles
    let end = min(groups.upperBound * tile.queryRows, request.queryTokens)
    let rows = groups.lowerBound * tile.queryRows..<end
    return operationsPerPair * Double(request.visiblePairs(rows: rows))
  }

  func pieces() -> [AttentionPlan.Piece] {
    let limits = device.maxWorkgroupCount
    let heads = Self.portions(of: request.queryHeads, atMost: limits[1])
    let batches = Self.portions(of: request.batchSize, atMost: limits[2])
    if tileCount <= limits[0], heads.count == 1, batches.count == 1 {
      let copies = Double(request.queryHeads * request.batchSize)
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
      var limit = min(tileCount, start + device.maxWorkgroupCount[0])
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
        if perHead > budget {
          // Now a single head of a single batch entry.
          let count = Int((perHead / budget).rounded(.up))
          let granularity = tile.keysPerStep
          let keys =
            ceilingDivide(ceilingDivide(request.keyTokens, count), granularity) * granularity
          for keys in Self.portions(of: 0..<request.keyTokens, atMost: keys) {
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
