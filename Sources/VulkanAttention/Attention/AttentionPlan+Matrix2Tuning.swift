/// The tiles of the path `matrix2`.
extension AttentionPlan {
  private static let counted =
    "counted, not measured: O, Q, scores, weights and three columns of fragments within the registers"
  private static let lavapipe =
    "for tests on lavapipe of Mesa 26.1.6: the numbers of the path matrix, not tuned"

  private static let matrix2Tunings: [AttentionMatrixTuning] = [
    .init(
      device: .cpu, maxHeadSize: 64, rowFragments: 1, keyTile: 32, subgroups: 4,
      keepsQueryInShared: false, prefetches: false, provenance: lavapipe),
    .init(
      device: .cpu, maxHeadSize: 256, rowFragments: 1, keyTile: 16, subgroups: 4,
      keepsQueryInShared: false, prefetches: false, provenance: lavapipe),
    .init(
      device: .cpu, maxHeadSize: 576, rowFragments: 1, keyTile: 8, subgroups: 2,
      keepsQueryInShared: false, prefetches: false, provenance: lavapipe),

    // 32 lanes: two fragments of rows halve what is read of K and V, as far as the registers go: 176 of D = 64 and 96
    // (there with Q in shared memory), 136 of 128, 184 of 192, 168 of 256, beside addresses and the prefetch.
    .init(
      device: .any, maxHeadSize: 64, rowFragments: 2, keyTile: 32, subgroups: 4,
      keepsQueryInShared: false, prefetches: true, provenance: counted),
    .init(
      device: .any, maxHeadSize: 96, rowFragments: 2, keyTile: 32, subgroups: 4,
      keepsQueryInShared: true, prefetches: false, provenance: counted),
    .init(
      device: .any, maxHeadSize: 192, rowFragments: 1, keyTile: 32, subgroups: 4,
      keepsQueryInShared: false, prefetches: false, provenance: counted),
    .init(
      device: .any, maxHeadSize: 256, rowFragments: 1, keyTile: 32, subgroups: 4,
      keepsQueryInShared: true, prefetches: false, provenance: counted),
    // 16 x 512 f32 sums take 256 registers of 32 lanes: some are spilled.
    .init(
      device: .any, maxHeadSize: 576, rowFragments: 1, keyTile: 16, subgroups: 2,
      keepsQueryInShared: true, prefetches: false, provenance: counted),
  ]

  static func matrix2Tile(
    _ request: AttentionRequest, _ device: DeviceCapabilities, _ choice: AttentionTileChoice,
    _ own: AttentionTileParameters.Matrix? = nil
  ) -> Result<AttentionTile, PathRefusal> {
    if let refusal = own?.refusal ?? matrixTypeRefusal(request) { return .failure(refusal) }
    let needed: [DeviceCapabilities.Feature] = [
      .coopmat2Reductions, .coopmat2Conversions, .coopmat2PerElement,
    ]
    let missing = needed.filter { !device.has($0) }
    guard missing.isEmpty else {
      return .failure(
        PathRefusal(
          reason: "the device lacks \(missing.map(\.rawValue).joined(separator: ", "))"))
    }
    return matrixFragment(on: device, choice).flatMap { fragment in
      matrix2Tile(request, device, fragment: fragment, own)
    }
  }

  private static func matrix2Tile(
    _ request: AttentionRequest, _ device: DeviceCapabilities,
    fragment: DeviceCapabilities.MatrixShape, _ own: AttentionTileParameters.Matrix?
  ) -> Result<AttentionTile, PathRefusal> {
    // A fragment of scores becomes an operand of the product with V, so that is one of M, N and N.
    var second = fragment
    second.k = fragment.n
    let size = max(request.headSize, request.valueHeadSize)
    guard
      let tuning = AttentionMatrixTuning.first(in: matrix2Tunings, size: size, device, own)
    else { return .failure(PathRefusal(reason: "no tile for head size \(size)")) }
    let subgroupSize = matrixSubgroupSize(device)
    guard isProduct(second, on: device), tuning.keyTile % fragment.n == 0,
      2 * fragment.n % fragment.k == 0
    else {
      return .failure(
        PathRefusal(
          reason: "no tile of \(tuning.keyTile) keys for fragments of "
            + "\(fragment.m)x\(fragment.n)x\(fragment.k)"))
    }
    // It lists 8x8x8 and splits what is larger; of parts below one another it reduces those of the first rows alone.
    if device.kind == .cpu, fragment.m > 8, fragment.n > 8 {
      return .failure(
        PathRefusal(
          reason:
            "lavapipe (Mesa 26.1.6) gets maxima of rows wrong in fragments of more than 8 rows "
            + "and more than 8 columns"))
    }
    let rows = tuning.rowFragments * fragment.m
    // As many subgroups as the rows need and shared memory allows.
    var subgroups = min(tuning.subgroups, ceilingDivide(request.queryTokens, rows))
    func sharedBytes() -> Int {
      matrix2SharedBytes(
        request, fragment: fragment, subgroups: subgroups, rows: subgroups * rows,
        keyTile: tuning.keyTile, keepsQueryInShared: tuning.keepsQueryInShared)
    }
    while subgroups > 1, sharedBytes() > device.maxSharedBytes { subgroups -= 1 }
    let prefetches = tuning.prefetches && allowsPrefetch(request)
    return .success(
      AttentionTile(
        workgroupSize: subgroups * subgroupSize, queryRows: subgroups * rows,
        takesLongTilesFirst: request.mask.isCausal, sharedBytes: sharedBytes(),
        subgroupSize: subgroupSize,
        // A driver on the processor takes subgroup barriers for workgroup barriers.
        shaderName: device.kind == .cpu ? "attention_matrix2_software" : "attention_matrix2",
        constants: [
          "FRAGMENT_M": UInt32(fragment.m), "FRAGMENT_N": UInt32(fragment.n),
          "FRAGMENT_K": UInt32(fragment.k), "ROW_FRAGMENTS": UInt32(tuning.rowFragments),
          "KEY_TILE": UInt32(tuning.keyTile), "SUBGROUP_SIZE": UInt32(subgroupSize),
          "QUERY_IN_SHARED": tuning.keepsQueryInShared ? 1 : 0,
          "PREFETCH": prefetches ? 1 : 0,
        ], keysPerStep: tuning.keyTile, sumsPerRow: fragment.n, packing: nil,
        parameters: .matrix2(tuning.parameters), provenance: tuning.provenance))
  }

  /// The shader's own sum, in its header.
  private static func matrix2SharedBytes(
    _ request: AttentionRequest, fragment: DeviceCapabilities.MatrixShape, subgroups: Int,
    rows: Int, keyTile: Int, keepsQueryInShared: Bool
  ) -> Int {
    let keyPitch = ceilingDivide(request.headSize, fragment.k) * fragment.k / 8 + 1
    let valuePitch = ceilingDivide(request.valueHeadSize, fragment.n) * fragment.n / 8 + 1
    let value = max(keyTile * valuePitch, subgroups * fragment.m * fragment.n / 4)
    let tiles = max(keyTile * keyPitch + value, rows * (fragment.n / 4 + 1))
    let query = keepsQueryInShared ? rows * keyPitch : 0
    return 16 * (tiles + query) + 4 * rows + 24
  }
}
