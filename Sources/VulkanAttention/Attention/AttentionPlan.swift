internal import ShaderLibrary

/// How a request runs on a device: path, tile, grid and pieces, and why.
///
/// A pure function of the request and the device's capabilities, made without a Vulkan call: plan once
/// for each shape, run for every layer.
public struct AttentionPlan: Sendable, Hashable {
  /// A range of query tiles that is submitted at once.
  public typealias Piece = Range<Int>

  /// The problem.
  public let request: AttentionRequest
  /// The path that runs.
  public let path: AttentionPath
  /// The tile of that path.
  public let tile: AttentionTile
  /// The query tiles of one head.
  public let tileCount: Int
  /// The tiles in the order and in the portions in which they are submitted: each is bounded work, so
  /// that no watchdog ends it and a cancelled task stops between two of them.
  ///
  /// A piece holds whole tiles of all heads and batch entries. Where one such tile alone is more than
  /// the bound (hundreds of heads and batch entries over long keys), it is a piece of its own.
  public let pieces: [Piece]
  /// Why this path and this tile, a line for each path that was considered.
  public let explanation: [String]

  /// How keys and values are packed before they are read, if they are.
  var packing: AttentionPacking? { tile.packing }

  /// Bytes of scratch memory that the kernel needs while it runs, 0 for none.
  public var scratchByteCount: Int { packing?.byteCount ?? 0 }

  /// Plans a request for a device.
  ///
  /// - Parameters:
  ///   - request: the problem.
  ///   - device: what the device can do.
  ///   - path: forces a path; nil chooses the best.
  ///   - tile: forces the path's tile instead of the tuned one.
  /// - Throws: `pathUnavailable` where a forced path cannot run, `noPath` where none can, and
  ///   `device(.limitExceeded)` where the grid is too large.
  public init(
    _ request: AttentionRequest, device: DeviceCapabilities, path: AttentionPath? = nil,
    tile: AttentionTileChoice = .tuned
  ) throws(AttentionError) {
    let chosen: (path: AttentionPath, tile: AttentionTile)
    var explanation: [String] = []
    if let path {
      switch Self.tile(of: path, request, device, tile) {
      case .failure(let refusal):
        throw .pathUnavailable(path: path, reason: refusal.reason)
      case .success(let tile):
        chosen = (path, tile)
        explanation.append("\(path.rawValue): asked for; \(tile.provenance)")
      }
    } else {
      var found: (path: AttentionPath, tile: AttentionTile)?
      for candidate in Self.preference(request, device) where found == nil {
        switch Self.tile(of: candidate.path, request, device, tile) {
        case .failure(let refusal):
          explanation.append("\(candidate.path.rawValue): cannot run: \(refusal.reason)")
        case .success(let tile):
          found = (candidate.path, tile)
          explanation.append("\(candidate.path.rawValue): \(candidate.reason); \(tile.provenance)")
        }
      }
      guard let found else { throw .noPath(reasons: explanation) }
      chosen = found
    }
    let tileCount = ceilingDivide(request.queryTokens, chosen.tile.queryRows)
    for (axis, count) in [1, request.queryHeads, request.batchSize].enumerated()
    where count > device.maxWorkgroupCount[axis] {
      throw .device(
        .limitExceeded(
          what: axis == 1 ? "query heads" : "batch entries", requested: count,
          allowed: device.maxWorkgroupCount[axis]))
    }
    self.request = request
    self.path = chosen.path
    self.tile = chosen.tile
    self.tileCount = tileCount
    self.explanation = explanation
    pieces = Self.pieces(request, tile: chosen.tile, tileCount: tileCount, device: device)
  }

  /// The pipeline that runs the plan.
  func pipelineDescription() throws(AttentionError) -> PipelineDescription {
    guard let shader = ShaderBinary.named(tile.shaderName) else {
      throw .pathUnavailable(path: path, reason: "this build has no shader \(tile.shaderName)")
    }
    var constants = tile.constants
    constants["local_size_x"] = UInt32(tile.workgroupSize)
    constants["HEAD_SIZE_QK"] = UInt32(request.headSize)
    constants["HEAD_SIZE_V"] = UInt32(request.valueHeadSize)
    constants["ELEMENT_TYPE"] = request.elementType.shaderConstant
    constants["CAUSAL"] = request.mask == .causal ? 1 : 0
    if packing != nil { constants["PACKED"] = 1 }
    return PipelineDescription(
      shader: shader, constants: constants, subgroupSize: tile.subgroupSize,
      requiresFullSubgroups: tile.subgroupSize != nil)
  }
}

extension AttentionPlan {
  /// Work of one submission. At 100 GFLOP/s of a software driver it takes 0.2 s, at the 1 TFLOP/s of a
  /// small integrated GPU 0.2 s too: far below the 2 s after which common watchdogs act, and often
  /// enough for a cancelled task.
  static func operationsPerPiece(_ device: DeviceCapabilities) -> Double {
    device.kind == .cpu ? 2e10 : 2e11
  }

  private static func pieces(
    _ request: AttentionRequest, tile: AttentionTile, tileCount: Int, device: DeviceCapabilities
  ) -> [Piece] {
    let budget = operationsPerPiece(device)
    let perPair =
      2 * Double(request.batchSize) * Double(request.queryHeads)
      * Double(request.headSize + request.valueHeadSize)
    func work(_ tiles: Piece) -> Double {
      let groups =
        tile.takesLongTilesFirst
        ? tileCount - tiles.upperBound..<tileCount - tiles.lowerBound : tiles
      let end = min(groups.upperBound * tile.queryRows, request.queryTokens)
      let rows = groups.lowerBound * tile.queryRows..<end
      return perPair * Double(request.visiblePairs(rows: rows))
    }
    var pieces: [Piece] = []
    var start = 0
    while start < tileCount {
      // The most tiles within the budget, but one at least.
      var end = start + 1
      var limit = min(tileCount, start + device.maxWorkgroupCount[0])
      while end < limit {
        let middle = (end + limit + 1) / 2
        if work(start..<middle) <= budget { end = middle } else { limit = middle - 1 }
      }
      pieces.append(start..<end)
      start = end
    }
    return pieces
  }
}
