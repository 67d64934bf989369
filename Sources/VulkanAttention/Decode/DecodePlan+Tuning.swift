internal import ShaderLibrary

// The tiles of the decode paths.
extension DecodePlan {
  /// The paths in the order in which they are tried, with the reason to try each where it is.
  static func preference(
    _ request: DecodeRequest, _ device: DeviceCapabilities
  ) -> [(path: AttentionPath, reason: String)] {
    if device.kind == .cpu {
      return softwareTile(request, device, nil) != nil
        ? [
          (.subgroup, "the device is a CPU: it loads and converts a vector of channels at once"),
          (.row, "the subgroup path cannot run"), (.matrix, "no other path can run"),
        ]
        : [
          (.row, "the device is a CPU: each number is read once, at uniform addresses"),
          (.subgroup, "the row path cannot run"), (.matrix, "no other path can run"),
        ]
    }
    // Few rows leave most of a fragment empty, and the subgroup path has no barriers.
    return request.attention.valuesAreKeys || request.problemRows >= leastMatrixRows
      ? [
        (.matrix, "\(request.problemRows) rows share each key, enough to fill matrix fragments"),
        (.subgroup, "the matrix path cannot run"), (.row, "no other path can run"),
      ]
      : [
        (.subgroup, "each number is read once, by neighbouring lanes"),
        (.matrix, "the subgroup path cannot run"), (.row, "no other path can run"),
      ]
  }

  /// Rows of a problem from which on the matrix path is tried first: half a fragment of 16. Not measured.
  private static let leastMatrixRows = 8

  /// The tile with which a path runs a request, or why it cannot.
  ///
  /// - Parameter parameters: numbers in place of the path's own.
  static func tile(
    of path: AttentionPath, _ request: DecodeRequest, _ device: DeviceCapabilities,
    _ choice: AttentionTileChoice, _ parameters: DecodeTileParameters? = nil
  ) -> Result<DecodeTile, PathRefusal> {
    if let refusal = parameters?.refusal { return .failure(refusal) }
    let own = parameters.flatMap { $0.path == path ? $0 : nil }
    let tile: Result<DecodeTile, PathRefusal> =
      switch path {
      case .row: .success(rowTile(request, device, own))
      case .subgroup: .success(subgroupTile(request, device, own))
      case .matrix: matrixTile(request, device, choice, own)
      case .matrix2:
        .failure(PathRefusal(reason: "decode has the paths row, subgroup and matrix only"))
      }
    return tile.flatMap { tile in
      if let refusal = PathRefusal(
        shaderName: tile.shaderName, sharedBytes: tile.sharedBytes,
        workgroupSize: tile.workgroupSize, subgroupSize: tile.subgroupSize, on: device)
      {
        .failure(refusal)
      } else {
        .success(tile)
      }
    }
  }

  /// Work items that a device runs at the same time. A CPU's are far fewer, but lean groups cost it next
  /// to nothing, and a neighbour that takes a core away leaves less undone.
  static func groups(_ device: DeviceCapabilities) -> Int {
    device.kind == .cpu ? 64 : 2 * (device.computeUnits ?? 32)
  }

  private static func rowTile(
    _ request: DecodeRequest, _ device: DeviceCapabilities, _ own: DecodeTileParameters?
  ) -> DecodeTile {
    let subgroup = max(1, device.subgroupSize)
    // Whole subgroups, and no more rows than a problem has.
    let rows = min(max(32, subgroup), ceilingDivide(request.problemRows, subgroup) * subgroup)
    let channels = request.attention.headSize + request.attention.valueHeadSize
    var keysPerBlock = channels <= 128 ? 8 : channels <= 512 ? 4 : 2
    if case .row(let keys)? = own?.shape { keysPerBlock = keys }
    let groups = own?.groups ?? groups(device)
    return DecodeTile(
      workgroupSize: rows, rows: rows, keys: 128, sharedBytes: 0, subgroupSize: nil,
      shaderName: "decode_row", constants: ["KEYS_PER_BLOCK": UInt32(keysPerBlock)],
      groups: groups,
      parameters: .init(shape: .row(keysPerBlock: keysPerBlock), groups: groups),
      provenance: "not tuned")
  }

  private static func subgroupTile(
    _ request: DecodeRequest, _ device: DeviceCapabilities, _ own: DecodeTileParameters?
  ) -> DecodeTile {
    if let tile = softwareTile(request, device, own) { return tile }
    let size = max(1, device.subgroupSize)
    let isCPU = device.kind == .cpu
    var subgroups = isCPU ? 1 : max(1, 128 / size)
    let attention = request.attention
    let channels = attention.headSize + attention.valueHeadSize
    // Quads of output channels of a lane, each a register of 4 for each row.
    let valueQuads = ceilingDivide(attention.valueHeadSize, 4)
    let chunks = ceilingDivide(valueQuads, size)
    // A CPU's rows are unrolled code, a GPU's are registers.
    var most = isCPU ? max(1, min(8, 2048 / channels)) : max(1, min(8, 16 / chunks))
    if case .subgroup(let rows, let count)? = own?.shape { (most, subgroups) = (rows, count) }
    let groups = own?.groups ?? groups(device)
    let tiles = ceilingDivide(request.problemRows, most)
    let rows = ceilingDivide(request.problemRows, tiles)
    let queryBytes = rows * ceilingDivide(attention.headSize, 4) * 16
    let mergeBytes = subgroups > 1 ? subgroups * rows * (valueQuads * 16 + 8) : 16
    let step = subgroups * size
    return DecodeTile(
      workgroupSize: step, rows: rows, keys: ceilingDivide(128, step) * step,
      sharedBytes: queryBytes + mergeBytes, subgroupSize: size, shaderName: "decode_subgroup",
      constants: [
        "ROWS": UInt32(rows), "SUBGROUP_SIZE": UInt32(size),
        "ROWS_AGREE": request.rowsAgree ? 1 : 0,
      ], groups: groups,
      parameters: .init(shape: .subgroup(rows: most, subgroups: subgroups), groups: groups),
      provenance: "not tuned")
  }
}

extension DecodeRequest {
  /// Whether a key that is hidden from one row of a problem is hidden from all.
  fileprivate var rowsAgree: Bool {
    let perHead: Set<AttentionOperand.Kind> = [
      .bias, .mask, .maskBits, .keyBias, .headWindows, .gates, .relativeBias,
    ]
    switch attention.scores.normalizer {
    case .reluMean, .reluSum: return false
    case .softmax, .softmaxOffByOne, .sigmoid: break
    }
    return attention.queryTokens == 1
      && !attention.operands.contains { perHead.contains($0.kind) }
  }
}
