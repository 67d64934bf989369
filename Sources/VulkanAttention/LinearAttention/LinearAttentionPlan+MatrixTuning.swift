/// The tiles of the chunked form on matrix units.
extension LinearAttentionPlan {
  /// What the matrix units multiply at once, and how a chunk is cut for it.
  struct MatrixTile: Sendable, Hashable {
    let fragment: DeviceCapabilities.MatrixShape
    /// Subgroups of a workgroup, each with M tokens of a chunk.
    let subgroups: Int
    let subgroupSize: Int
    /// Columns of the state that a workgroup has.
    let columns: Int
    /// Lanes that share a row of scores.
    let lanesPerRow: Int
    let sharedBytes: Int
    /// 32-bit registers of a lane that hold fragments.
    let registers: Int
    /// The tokens of a chunk, or its updates where blocks are prepared.
    let chunk: Int
    /// Bytes of a prepared block; 0 where a chunk is one dispatch's work from the tensors on.
    let recordBytes: Int
    let shaders: MatrixShaders
  }

  /// The shaders of a matrix tile.
  struct MatrixShaders: Sendable, Hashable {
    /// What prepares blocks; nil where nothing has to.
    let prepare: String?
    let walk: String
    let scan: String

    var all: [String] { [prepare, walk, scan].compactMap { $0 } }

    /// For states that decay as a whole, or for prepared blocks. Drivers on the processor take subgroup barriers for
    /// workgroup barriers.
    init(preparesBlocks: Bool, isSoftware: Bool) {
      let suffix = isSoftware ? "_software" : ""
      prepare = preparesBlocks ? "linear_matrix_prepare" + suffix : nil
      walk = (preparesBlocks ? "linear_matrix_walk" : "linear_matrix") + suffix
      scan = preparesBlocks ? "linear_matrix_scan_records" : "linear_matrix_scan"
    }
  }

  /// Fragments that a lane's registers can hold, of the 255 that the devices allow: addresses, weights and what waits
  /// for memory need the others. Counted, not measured.
  private static let mostRegisters = 192

  /// Why requests do not run on matrix units; nil for those that do.
  static func matrixRefusal(_ request: LinearAttentionRequest) -> String? {
    if request.operands.contains(.valueDecay) {
      return "on matrix units the state's rows decay, not its columns: not with valueDecay"
    }
    if !request.operands.isDisjoint(with: [.snapshots, .parents]) {
      return "states after every token, as snapshots and parents need, are left token by token"
    }
    if request.operands.contains(.lowRankA), request.readsBeforeUpdate {
      return "with low-rank changes, reading before goes token by token"
    }
    if [request.elementType, request.valueType].contains(.f32) {
      return "matrix units multiply f16, which would cost f32 tensors their accuracy"
    }
    return nil
  }

  /// Whether the matrix units take blocks that are prepared, not the tensors themselves: unless states decay as a whole
  /// and grow by k xᵀ, once a token, before it reads.
  static func preparesMatrixBlocks(_ request: LinearAttentionRequest) -> Bool {
    !request.operands.isDisjoint(with: [.keyDecay, .writeGates, .lowRankA])
      || request.erases || request.readsBeforeUpdate || request.updatesPerToken > 1
  }

  /// The tile for a request on a device, or what stands against one.
  ///
  /// Chunks of 64 tokens and 64 columns where shared memory and registers allow it, else less: with fewer columns the
  /// scores are computed by more workgroups, with fewer tokens the state is read more often. Where sequences and heads
  /// are few, narrower columns give more workgroups. Counted, not measured.
  static func matrixTile(
    _ request: LinearAttentionRequest, _ device: DeviceCapabilities,
    _ choice: AttentionTileChoice = .tuned
  ) -> Result<LinearAttentionTile, PathRefusal> {
    if let reason = matrixRefusal(request) { return .failure(PathRefusal(reason: reason)) }
    let shaders = MatrixShaders(
      preparesBlocks: preparesMatrixBlocks(request), isSoftware: device.kind == .cpu)
    for name in shaders.all {
      if let reason = shaderRefusal(name, device) {
        return .failure(PathRefusal(reason: reason))
      }
    }
    return AttentionPlan.matrixFragment(on: device, choice).flatMap { fragment in
      // Intel's matrix units belong to subgroups of 16.
      let subgroupSize =
        DeviceFamily.intel.includes(device) && device.minSubgroupSize <= 16
        ? 16 : device.subgroupSize
      let sizes = [fragment.m, fragment.n, fragment.k, subgroupSize]
      guard sizes.allSatisfy({ $0 > 0 && $0 & ($0 - 1) == 0 }), sizes.max() ?? 0 <= 64 else {
        return .failure(
          PathRefusal(
            reason: "no tile for fragments of \(fragment.m)x\(fragment.n)x\(fragment.k) and "
              + "subgroups of \(subgroupSize)"))
      }
      guard shaders.prepare == nil || max(fragment.m, fragment.n, fragment.k) <= 16 else {
        return .failure(
          PathRefusal(
            reason: "blocks are prepared by groups of 16 rows and channels, which fragments of "
              + "\(fragment.m)x\(fragment.n)x\(fragment.k) do not divide"))
      }
      let least = max(fragment.n, 8)
      let most = max(least, min(64, ceilingDivide(request.valueHeadSize, least) * least))
      var reason = "subgroups of \(subgroupSize) are too large for chunks of 64 tokens"
      for chunk in [64, 32] {
        var columns = most
        while columns >= least {
          defer { columns = columns / 2 / least * least }
          guard columns % least == 0, columns <= chunk,
            let tile = tile(
              request, fragment: fragment, subgroupSize: subgroupSize, chunk: chunk,
              columns: columns, shaders)
          else { continue }
          guard tile.subgroups * subgroupSize <= device.maxWorkgroupInvocations else {
            reason = "it needs workgroups of \(tile.subgroups * subgroupSize)"
            continue
          }
          guard tile.sharedBytes <= device.maxSharedBytes else {
            reason =
              "it needs \(tile.sharedBytes) bytes of shared memory, the device has "
              + "\(device.maxSharedBytes)"
            continue
          }
          guard tile.registers <= mostRegisters || device.kind == .cpu else {
            reason = "the state would not fit the registers"
            continue
          }
          return .success(narrowed(tile, least, request, device))
        }
      }
      return .failure(PathRefusal(reason: reason))
    }
  }

  /// The tile with fewer columns, as long as the workgroups do not fill the device.
  private static func narrowed(
    _ tile: MatrixTile, _ least: Int, _ request: LinearAttentionRequest,
    _ device: DeviceCapabilities
  ) -> LinearAttentionTile {
    var own = tile
    let heads = request.sequenceCount * request.valueHeads
    while device.kind != .cpu, own.columns / 2 >= max(least, 32),
      own.columns / 2 % least == 0,
      heads * ceilingDivide(request.valueHeadSize, own.columns) < device.computeUnits ?? 64,
      let half = Self.tile(
        request, fragment: own.fragment, subgroupSize: own.subgroupSize, chunk: own.chunk,
        columns: own.columns / 2, own.shaders)
    {
      own = half
    }
    return LinearAttentionTile(
      workgroupSize: own.subgroups * own.subgroupSize, columns: own.columns,
      lanes: own.subgroups * own.subgroupSize, blockRows: own.chunk,
      subgroupSize: own.subgroupSize, matrix: own)
  }

  /// Nil where the fragments do not fit the sizes.
  private static func tile(
    _ request: LinearAttentionRequest, fragment: DeviceCapabilities.MatrixShape, subgroupSize: Int,
    chunk: Int, columns: Int, _ shaders: MatrixShaders
  ) -> MatrixTile? {
    if shaders.prepare != nil {
      return preparedTile(
        request, fragment: fragment, subgroupSize: subgroupSize, chunk: chunk, columns: columns,
        shaders)
    }
    let lanesPerRow = max(1, subgroupSize / fragment.m)
    guard chunk % fragment.m == 0, chunk % fragment.n == 0, chunk % fragment.k == 0,
      chunk / lanesPerRow % max(fragment.k, 8) == 0,
      fragment.m * lanesPerRow % subgroupSize == 0
    else { return nil }
    let subgroups = chunk / fragment.m
    let step = max(fragment.m, fragment.k)
    let channels = ceilingDivide(request.keyHeadSize, step) * step
    // As the shader's header counts them.
    let units = chunk * ((channels / 8 + 1) + (columns / 8 + 1) + (chunk / 4 + 1))
    let sharedBytes = 16 * units + chunk * (4 + 4 + 16 + 16) + 56
    let rounds = ceilingDivide(channels / fragment.m, subgroups)
    let registers =
      (fragment.m * columns * (rounds + 1) + fragment.m * channels / 2 + fragment.m * fragment.n)
      / subgroupSize
    return MatrixTile(
      fragment: fragment, subgroups: subgroups, subgroupSize: subgroupSize, columns: columns,
      lanesPerRow: lanesPerRow, sharedBytes: sharedBytes, registers: registers, chunk: chunk,
      recordBytes: 0, shaders: shaders)
  }

  /// The specialization constants of the shader that are its own.
  static func matrixConstants(
    _ tile: MatrixTile, _ request: LinearAttentionRequest, isOnes: Bool
  ) -> [String: UInt32] {
    [
      "FRAGMENT_M": UInt32(tile.fragment.m), "FRAGMENT_N": UInt32(tile.fragment.n),
      "FRAGMENT_K": UInt32(tile.fragment.k), "SUBGROUP_SIZE": UInt32(tile.subgroupSize),
      // One column of ones.
      "COLUMNS": UInt32(isOnes ? max(tile.fragment.n, 8) : tile.columns),
      "LANES_PER_ROW": UInt32(tile.lanesPerRow),
      "BLOCK_ROWS": UInt32(tile.chunk),
      "IS_SPLIT": readsInTwoParts(request) ? 1 : 0,
    ]
  }
}
