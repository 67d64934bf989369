/// The tiles of the matrix path.
extension DecodePlan {
  private struct MatrixTuning {
    let device: DeviceFamily
    /// The largest head size, of D and E, that the row is for.
    let maxHeadSize: Int
    /// The most fragments of rows of a tile; fewer are taken where a problem has fewer rows.
    let rowFragments: Int
    /// Keys of a tile in shared memory; fewer are taken where shared memory does not allow them.
    let keyTile: Int
    let subgroups: Int
    /// Into how many parts the subgroups cut the channels of q·k.
    let channelParts: Int
    let prefetches: Bool
    let provenance: String
  }

  private static let counted =
    "counted, not measured: O and Q fragments within the registers, tiles in shared memory"
  private static let small =
    "not tuned: small, for a CPU's other paths are faster"

  private static let matrixTunings: [MatrixTuning] = [
    .init(
      device: .cpu, maxHeadSize: 128, rowFragments: 2, keyTile: 32, subgroups: 4, channelParts: 1,
      prefetches: true, provenance: small),
    .init(
      device: .cpu, maxHeadSize: 576, rowFragments: 2, keyTile: 16, subgroups: 4, channelParts: 4,
      prefetches: false, provenance: small),

    // Registers of 32 lanes at the largest head size: Q 64, O 32, fetches 64 (32 with a tile of 32 keys).
    .init(
      device: .any, maxHeadSize: 64, rowFragments: 4, keyTile: 64, subgroups: 4, channelParts: 1,
      prefetches: true, provenance: counted),
    .init(
      device: .any, maxHeadSize: 128, rowFragments: 2, keyTile: 64, subgroups: 4, channelParts: 1,
      prefetches: true, provenance: counted),
    // Q 64, O 64, fetches 64.
    .init(
      device: .any, maxHeadSize: 256, rowFragments: 2, keyTile: 32, subgroups: 4, channelParts: 2,
      prefetches: false, provenance: counted),
    // Latent attention in 48 KiB: 16 keys of 576 channels and eight planes of 32 × 16 scores. Q 40, O 64, fetches 20.
    .init(
      device: .any, maxHeadSize: 576, rowFragments: 2, keyTile: 16, subgroups: 8, channelParts: 8,
      prefetches: true, provenance: counted),
  ]

  static func matrixTile(
    _ request: DecodeRequest, _ device: DeviceCapabilities, _ choice: AttentionTileChoice,
    _ own: DecodeTileParameters? = nil
  ) -> Result<DecodeTile, PathRefusal> {
    let types = [
      request.attention.elementType, request.keyCache.format.elementType,
      request.valueCache.format.elementType,
    ]
    for type in types {
      switch type {
      // What is quantised is in f16's range, or its scales are out of the ordinary.
      case .f16, nil: break
      case .f32:
        return .failure(
          PathRefusal(
            reason: "matrix units multiply f16, which would cost f32 tensors their accuracy"))
      case .bf16:
        return .failure(
          PathRefusal(
            reason: "the matrix units multiply f16 here, which lacks the range of bf16"))
      }
    }
    return AttentionPlan.matrixFragment(on: device, choice).flatMap {
      matrixTile(request, device, fragment: $0, own)
    }
  }

  private static func matrixTile(
    _ request: DecodeRequest, _ device: DeviceCapabilities,
    fragment: DeviceCapabilities.MatrixShape, _ own: DecodeTileParameters?
  ) -> Result<DecodeTile, PathRefusal> {
    let attention = request.attention
    let size = max(attention.headSize, attention.valueHeadSize)
    var ownTuning: MatrixTuning?
    if case .matrix(let rows, let keys, let subgroups, let parts, let prefetches)? = own?.shape {
      ownTuning = MatrixTuning(
        device: .any, maxHeadSize: .max, rowFragments: rows, keyTile: keys, subgroups: subgroups,
        channelParts: parts, prefetches: prefetches, provenance: "")
    }
    guard
      let tuning = ownTuning
        ?? matrixTunings.first(where: {
          $0.device.includes(device) && size <= $0.maxHeadSize
        })
    else { return .failure(PathRefusal(reason: "no tile for head size \(size)")) }
    // Intel's matrix units belong to subgroups of 16.
    let subgroupSize =
      DeviceFamily.intel.includes(device) && device.minSubgroupSize <= 16
      ? 16 : device.subgroupSize
    let leastKeys = max(fragment.m, fragment.n, fragment.k)
    let isLegal =
      [fragment.m, fragment.n, fragment.k, subgroupSize].allSatisfy { $0 > 0 && $0 & ($0 - 1) == 0 }
      && leastKeys <= 64
    guard isLegal else {
      return .failure(
        PathRefusal(
          reason: "no tile of keys for fragments of \(fragment.m)x\(fragment.n)x\(fragment.k) and "
            + "subgroups of \(subgroupSize)"))
    }
    var tile = MatrixTile(
      fragment: fragment,
      rowFragments: min(tuning.rowFragments, ceilingDivide(request.problemRows, fragment.m)),
      keyTile: max(tuning.keyTile, leastKeys), subgroups: tuning.subgroups,
      channelParts: tuning.channelParts, subgroupSize: subgroupSize)
    // Fewer rows cost more reads of the cache, so they come last. Parts of channels are planes of scores;
    // with fewer of them a subgroup has more of Q.
    let mostQueryRegisters = 96
    while tile.sharedBytes(attention) > device.maxSharedBytes {
      if tile.keyTile / 2 >= leastKeys {
        tile.keyTile /= 2
      } else if tile.channelParts > 1, tile.queryRegisters(attention) * 2 <= mostQueryRegisters {
        tile.channelParts /= 2
      } else if tile.rowFragments > 1 {
        tile.rowFragments -= 1
      } else {
        break
      }
    }
    // Tiles of rows of about the same size.
    let tiles = ceilingDivide(request.problemRows, tile.rows)
    tile.rowFragments = ceilingDivide(ceilingDivide(request.problemRows, tiles), fragment.m)
    return .success(
      DecodeTile(
        workgroupSize: tile.subgroups * subgroupSize, rows: tile.rows,
        keys: ceilingDivide(128, tile.keyTile) * tile.keyTile,
        sharedBytes: tile.sharedBytes(attention), subgroupSize: subgroupSize,
        // A driver on the processor takes subgroup barriers for workgroup barriers.
        shaderName: device.kind == .cpu ? "decode_matrix_software" : "decode_matrix",
        constants: [
          "FRAGMENT_M": UInt32(fragment.m), "FRAGMENT_N": UInt32(fragment.n),
          "FRAGMENT_K": UInt32(fragment.k), "ROW_FRAGMENTS": UInt32(tile.rowFragments),
          "KEY_TILE": UInt32(tile.keyTile), "SUBGROUP_SIZE": UInt32(subgroupSize),
          "CHANNEL_PARTS": UInt32(tile.channelParts), "LANES_PER_ROW": UInt32(tile.lanesPerRow),
          "PREFETCH": tuning.prefetches ? 1 : 0,
        ], groups: own?.groups ?? groups(device),
        parameters: .init(
          shape: .matrix(
            rowFragments: tuning.rowFragments, keyTile: tuning.keyTile,
            subgroups: tuning.subgroups, channelParts: tuning.channelParts,
            prefetches: tuning.prefetches), groups: own?.groups ?? groups(device)),
        provenance: tuning.provenance))
  }

  /// The sizes that the shader derives its own from.
  private struct MatrixTile {
    let fragment: DeviceCapabilities.MatrixShape
    var rowFragments: Int
    var keyTile: Int
    let subgroups: Int
    var channelParts: Int
    let subgroupSize: Int

    var rows: Int { rowFragments * fragment.m }

    /// Lanes that share a row of scores, each with 8 keys at least and 32 at most.
    var lanesPerRow: Int {
      var lanes = max(1, keyTile / 32)
      while lanes * 2 <= min(keyTile / 8, subgroupSize),
        rows * lanes * 2 <= subgroups * subgroupSize
      {
        lanes *= 2
      }
      return lanes
    }

    /// Registers of 32 bits of a lane with its part of Q.
    func queryRegisters(_ attention: AttentionRequest) -> Int {
      ceilingDivide(rows * attention.headSize, 2 * channelParts * subgroupSize)
    }

    /// The shader's own sum, in its header.
    func sharedBytes(_ attention: AttentionRequest) -> Int {
      let keyPitch = ceilingDivide(attention.headSize, fragment.k) * fragment.k / 8 + 1
      let valuePitch = ceilingDivide(attention.valueHeadSize, fragment.n) * fragment.n / 8 + 1
      let values = attention.valuesAreKeys ? 0 : keyTile * valuePitch
      let scores = max(
        channelParts * rows * (keyTile / 4 + 1), subgroups * fragment.m * fragment.n / 4)
      let weights = rows * (keyTile / 8 + 1)
      let seen = attention.valuesAreKeys ? 1 : rows * lanesPerRow
      return 16 * (keyTile * keyPitch + values + scores + weights) + 4 * (rows + seen)
        + 8 * ceilingDivide(keyTile, 32) + 32
    }
  }
}
