internal import ShaderLibrary

// The tiles of the decode paths.
extension DecodePlan {
  /// The paths in the order in which they are tried, with the reason to try each where it is.
  static func preference(
    _ device: DeviceCapabilities
  ) -> [(path: AttentionPath, reason: String)] {
    if device.kind == .cpu {
      return [
        (.row, "the device is a CPU: each number is read once, at uniform addresses"),
        (.subgroup, "the row path cannot run"),
      ]
    }
    return [
      (.subgroup, "each number is read once, by neighbouring lanes"),
      (.row, "no other path can run"),
    ]
  }

  /// The tile with which a path runs a request, or why it cannot.
  static func tile(
    of path: AttentionPath, _ request: DecodeRequest, _ device: DeviceCapabilities
  ) -> Result<DecodeTile, PathRefusal> {
    let tile: DecodeTile
    switch path {
    case .row: tile = rowTile(request, device)
    case .subgroup, .matrix:
      return .failure(PathRefusal(reason: "decode has no such path"))
    }
    if let refusal = PathRefusal(
      shaderName: tile.shaderName, sharedBytes: tile.sharedBytes,
      workgroupSize: tile.workgroupSize, subgroupSize: tile.subgroupSize, on: device)
    {
      return .failure(refusal)
    }
    return .success(tile)
  }

  /// Work items that a device runs at the same time. A CPU's are far fewer, but lean groups cost it next
  /// to nothing, and a neighbour that takes a core away leaves less undone.
  private static func groups(_ device: DeviceCapabilities) -> Int {
    device.kind == .cpu ? 64 : 2 * (device.computeUnits ?? 32)
  }

  private static func rowTile(
    _ request: DecodeRequest, _ device: DeviceCapabilities
  ) -> DecodeTile {
    let subgroup = max(1, device.subgroupSize)
    // Whole subgroups, and no more rows than a problem has.
    let rows = min(max(32, subgroup), ceilingDivide(request.problemRows, subgroup) * subgroup)
    let channels = request.attention.headSize + request.attention.valueHeadSize
    let keysPerBlock = channels <= 128 ? 8 : channels <= 512 ? 4 : 2
    return DecodeTile(
      workgroupSize: rows, rows: rows, keys: 128, sharedBytes: 0, subgroupSize: nil,
      shaderName: "decode_row", constants: ["KEYS_PER_BLOCK": UInt32(keysPerBlock)],
      groups: groups(device), provenance: "not tuned")
  }
}
