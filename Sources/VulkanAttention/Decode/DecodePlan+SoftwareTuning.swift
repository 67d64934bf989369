/// The tiles of the subgroup path's shader for software drivers.
extension DecodePlan {
  /// The tile of `decode_subgroup_differences`, or where the device has no derivatives `decode_subgroup_software`; nil
  /// where neither can run and `decode_subgroup` is to be tried.
  static func softwareTile(
    _ request: DecodeRequest, _ device: DeviceCapabilities, _ own: DecodeTileParameters?
  ) -> DecodeTile? {
    let lanes = device.subgroupSize
    let attention = request.attention
    guard device.kind == .cpu, device.has(.int16), [4, 8, 16].contains(lanes),
      request.hasWholeHalfWords
    else { return nil }
    let channels = attention.headSize + attention.valueHeadSize
    // Rows times channels are unrolled code, which the driver takes a second for each thousand or two to compile.
    var most = max(1, min(8, 2048 / max(channels, 256)))
    if case .subgroup(let rows, let subgroups)? = own?.shape {
      if subgroups != 1 { return nil }
      most = rows
    }
    most = min(most, lanes)
    let tiles = ceilingDivide(request.problemRows, most)
    let rows = ceilingDivide(request.problemRows, tiles)
    // Keys at once of each block of four lanes. int8 T4096 D=64 and T16384 D=128: of one 0.71 and 3.7 ms, of two 0.61
    // and 4.6 (ladder of the shader).
    let units = channels <= 128 && rows <= 4 ? 2 : 1
    let groups = own?.groups ?? groups(device)
    return DecodeTile(
      workgroupSize: lanes, rows: rows, keys: 128, sharedBytes: 0, subgroupSize: lanes,
      shaderName: device.has(.computeDerivatives)
        ? "decode_subgroup_differences" : "decode_subgroup_software",
      constants: [
        "ROWS": UInt32(rows), "LANES": UInt32(lanes),
        "UNITS": UInt32(units), "WHOLE_STEPS": request.hasWholeSteps(of: units * lanes / 4) ? 1 : 0,
      ], groups: groups,
      parameters: .init(shape: .subgroup(rows: most, subgroups: 1), groups: groups),
      provenance: "not tuned")
  }
}

extension DecodeRequest {
  /// Whether lanes can load the rows of keys and values by half words: rows have whole ones at even addresses.
  fileprivate var hasWholeHalfWords: Bool {
    [keyCache, valueCache].allSatisfy { cache in
      switch cache.format {
      case .element, .q8, .q4, .q4WithMinimum: true
      case .int8, .int4, .e4m3, .e5m2: cache.isAligned
      }
    } && keyRotation == nil
  }

  /// Whether the places of `keys` keys lie one behind the other wherever a step of them begins.
  fileprivate func hasWholeSteps(of keys: Int) -> Bool {
    let arrangement = keyCache.arrangement
    return switch arrangement.kind {
    case .contiguous: true
    case .paged: arrangement.blockTokens % keys == 0
    case .ring: false
    }
  }
}
