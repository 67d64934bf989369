/// How several problems, heads of batch entries, share a workgroup of the subgroup path
/// (`attention_problems.glsl`).
struct WorkgroupShares: Hashable {
  /// Problems of a workgroup, 2 or more.
  let problems: Int
  let workgroupSize: Int

  /// The workgroups that must be left, for a device has cores to fill: more of them than large GPUs have (132 of an
  /// H200, 128 of an RTX 4090). Counted, not measured.
  private static let fewestWorkgroups = 256

  /// How a tile's workgroup is shared, and why; nil shares for one problem to a workgroup.
  ///
  /// - Parameters:
  ///   - tile: the tile of one problem to a workgroup.
  ///   - own: the numbers that were asked for in place of a table's.
  static func chosen(
    _ request: AttentionRequest, _ device: DeviceCapabilities, _ choice: AttentionTileChoice,
    _ tile: AttentionTileParameters.Subgroup, _ own: AttentionTileParameters.Subgroup?
  ) -> Result<(shares: WorkgroupShares?, note: String?), PathRefusal> {
    let lanes = ceilingDivide(request.queryTokens, tile.rowsPerLane) * tile.lanesPerRow
    let asked: WorkgroupShares
    if let own {
      guard own.problemsPerWorkgroup > 1 else { return .success((nil, nil)) }
      guard own.problemRows(own.workgroupSize) >= request.queryTokens else {
        return .failure(
          .tuned(
            "problemsPerWorkgroup", own.problemsPerWorkgroup,
            "so many that a share of the workgroup has \(request.queryTokens) rows"))
      }
      asked = Self(problems: own.problemsPerWorkgroup, workgroupSize: own.workgroupSize)
    } else if case .problems(let count) = choice {
      guard (1...AttentionTileParameters.Subgroup.mostProblems).contains(count) else {
        return .failure(
          PathRefusal(
            reason: "\(count) problems cannot share a workgroup; allowed: 1 to "
              + "\(AttentionTileParameters.Subgroup.mostProblems)"))
      }
      guard count > 1 else { return .success((nil, "one problem to a workgroup: asked for")) }
      asked = Self(problems: count, lanes: lanes, on: device)
    } else {
      return .success(automatic(request, device, tile, lanes: lanes))
    }
    if let reason = refusal(request, device, problems: asked.problems) {
      return .failure(PathRefusal(reason: "problems cannot share a workgroup: \(reason)"))
    }
    return .success((asked, asked.note(request)))
  }

  private init(problems: Int, workgroupSize: Int) {
    self.problems = problems
    self.workgroupSize = workgroupSize
  }

  private init(problems: Int, lanes: Int, on device: DeviceCapabilities) {
    self.problems = problems
    workgroupSize = ceilingDivide(problems * lanes, device.subgroupSize) * device.subgroupSize
  }

  /// Problems that leave lanes of a subgroup idle, or have one each, share what a longer one has for itself.
  private static func automatic(
    _ request: AttentionRequest, _ device: DeviceCapabilities,
    _ tile: AttentionTileParameters.Subgroup, lanes: Int
  ) -> (shares: WorkgroupShares?, note: String?) {
    // A processor starts a workgroup for next to nothing, and lanes with addresses of their own gather: B4096 H4 D8
    // f32, lavapipe of Mesa 26.1.6 at 512 bits, 2 cores of an EPYC 9004, GFLOP/s with 1 problem in a workgroup and
    // with several: S = 16, whole subgroups, 27.9 and 27.3 to 27.6; S = 8, halves of one, 11.4 and 2.9 to 6.1.
    guard lanes <= device.subgroupSize, device.kind != .cpu else { return (nil, nil) }
    // Above half of a subgroup its rest is no one's: loads of keys then have one address for all of its lanes.
    let share = lanes * 2 > device.subgroupSize ? device.subgroupSize : lanes
    let count = min(
      tile.workgroupSize / share,
      request.batchSize * request.queryHeads / fewestWorkgroups)
    func single(_ reason: String) -> (WorkgroupShares?, String?) {
      (nil, "one problem to a workgroup: \(reason)")
    }
    guard count > 1 else {
      return single("\(request.batchSize * request.queryHeads) are too few to share them")
    }
    if let reason = refusal(request, device, problems: count) { return single(reason) }
    let shares = Self(problems: count, lanes: share, on: device)
    return (shares, shares.note(request))
  }

  private func note(_ request: AttentionRequest) -> String {
    "\(problems) problems (heads of batch entries) of \(request.queryTokens) query tokens share a workgroup of "
      + "\(workgroupSize), each reads its own keys from memory"
  }

  /// What stands against shared workgroups.
  private static func refusal(
    _ request: AttentionRequest, _ device: DeviceCapabilities, problems: Int
  ) -> String? {
    if request.operand(.blockMap) != nil {
      return "with a block map each walks the keys in steps of its own"
    }
    // Heads are not cut, nor keys.
    let operations = request.floatingPointOperations / Double(request.batchSize)
    if operations > AttentionPlan.operationsPerPiece(device)
      || ceilingDivide(request.queryHeads, problems) > device.maxWorkgroupCount[0]
    {
      return "all heads of a batch entry are more than one submission takes"
    }
    return nil
  }
}

extension AttentionTile {
  /// Problems, heads of batch entries, that share a workgroup; 1 on all paths but `subgroup`.
  public var problemsPerWorkgroup: Int { Int(constants["PROBLEMS_PER_WORKGROUP"] ?? 1) }
}

extension AttentionPlan.Piece {
  /// The workgroups along x, y and z that compute the piece.
  func workgroups(_ tile: AttentionTile) -> WorkgroupCount {
    if tile.problemsPerWorkgroup > 1 {
      return WorkgroupCount(
        x: ceilingDivide(heads.count * batches.count, tile.problemsPerWorkgroup))
    }
    return WorkgroupCount(x: tiles.count, y: heads.count, z: batches.count)
  }
}
