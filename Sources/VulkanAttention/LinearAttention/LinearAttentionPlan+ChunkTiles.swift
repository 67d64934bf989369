/// The tiles of the chunked form on the paths `row` and `subgroup`.
extension LinearAttentionPlan {
  /// The tile of a path, with blocks of so many rows where they are given; or what stands against it.
  static func chunkTile(
    _ request: LinearAttentionRequest, _ device: DeviceCapabilities, _ path: AttentionPath,
    blockRows: Int? = nil
  ) -> Result<LinearAttentionTile, PathRefusal> {
    switch path {
    case .row:
      let shaders = [LinearAttentionCutter.prepareShader, LinearAttentionCutter.chunkShader]
      if let reason = chunkRefusal(request, device, shaders) {
        return .failure(PathRefusal(reason: reason))
      }
      if request.operands.contains(.valueDecay), let blockRows, blockRows != 4 {
        return .failure(
          PathRefusal(reason: "decays of value channels need blocks of 4 rows by row"))
      }
      return .success(chunkRowTile(request, device))
    case .subgroup:
      let shaders = [
        LinearAttentionCutter.prepareSubgroupShader, LinearAttentionCutter.chunkSubgroupShader,
      ]
      if let reason = chunkRefusal(request, device, shaders) {
        return .failure(PathRefusal(reason: reason))
      }
      return chunkSubgroupTile(request, device, blockRows)
    case .matrix, .matrix2:
      return .failure(
        PathRefusal(reason: "the chunked form has the paths row, subgroup and matrix only"))
    }
  }

  /// Why the chunked form cannot run; nil where it can.
  private static func chunkRefusal(
    _ request: LinearAttentionRequest, _ device: DeviceCapabilities, _ shaders: [String]
  ) -> String? {
    if request.operands.contains(.snapshots) {
      return "states after every token are left token by token"
    }
    if request.operands.contains(.lowRankA),
      request.readsBeforeUpdate || request.operands.contains(.valueDecay)
    {
      return "with low-rank changes, reading before and decays of value channels go token by token"
    }
    if request.keyHeadSize > 320 { return "states of more than 320 rows are walked token by token" }
    for name in shaders + [LinearAttentionCutter.scanShader] {
      if let reason = shaderRefusal(name, device) { return reason }
    }
    return nil
  }

  /// Rows of a block are passed over the state 4 at a time, and one preparation serves them. Two columns share what
  /// is read of the block, where there are enough. B1 T4096 H8 D128 f32 on two cores without AVX-512 (lavapipe of
  /// Mesa 26.1.6, medians of four runs by turns on a machine with much other load, ms):
  ///
  ///                             lightning   gated delta        KDA
  ///     4 rows                    132-206       253-354    241-359
  ///     16 rows                   151-180       200-224    287-344
  ///     16 rows, 2 columns        109-175       238-249    254-304
  ///     32 rows                   161-186
  ///
  /// Decays of key channels are multiplied for every pair of rows, so that their blocks are smaller. Not measured with
  /// AVX-512 or on a GPU.
  private static func chunkRowTile(
    _ request: LinearAttentionRequest, _ device: DeviceCapabilities
  ) -> LinearAttentionTile {
    let isSoftware = device.kind == .cpu
    let workgroupSize = isSoftware ? device.subgroupSize : 64
    let blockRows =
      request.operands.contains(.valueDecay) ? 4 : request.operands.contains(.keyDecay) ? 8 : 16
    return LinearAttentionTile(
      workgroupSize: workgroupSize,
      columns: isSoftware && request.valueHeadSize >= workgroupSize * 2 ? 2 : 1, lanes: 1,
      blockRows: blockRows, subgroupSize: nil)
  }

  /// Lanes with 8 rows of the state or more, at most 24 as far as the subgroup's size allows; 4 columns each, or 2 where
  /// that would be more numbers than registers. 8 rows of a block: fewer decay the state more often, more add to the
  /// block's squares. Up to 4 subgroups share a record in shared memory, 2 where sequences and heads are few: two have
  /// schedulers of their own on a multiprocessor. Counted (the shader's header), not measured on a GPU.
  private static func chunkSubgroupTile(
    _ request: LinearAttentionRequest, _ device: DeviceCapabilities, _ blockRows: Int?
  ) -> Result<LinearAttentionTile, PathRefusal> {
    guard device.has(.subgroupSizeControl) else {
      return .failure(PathRefusal(reason: "it needs full subgroups of a known size"))
    }
    let size = min(max(device.subgroupSize, device.minSubgroupSize), device.maxSubgroupSize)
    guard size <= device.maxWorkgroupInvocations else {
      return .failure(
        PathRefusal(
          reason: "it needs workgroups of \(size), the device allows "
            + "\(device.maxWorkgroupInvocations)"))
    }
    var lanes = 1
    while lanes * 2 <= min(8, size), request.keyHeadSize >= lanes * 2 * 8 { lanes *= 2 }
    while lanes * 2 <= size, request.keyHeadSize > lanes * 24 { lanes *= 2 }
    let columns = request.keyHeadSize > lanes * 24 ? 2 : 4
    let wanted = blockRows.map { [$0] } ?? [8, 4]
    func sharedBytes(_ rows: Int) -> Int {
      chunkSharedBytes(request, blockRows: rows, lanes: lanes)
    }
    guard let rows = wanted.first(where: { sharedBytes($0) <= device.maxSharedBytes }) else {
      return .failure(
        PathRefusal(
          reason: "it needs \(sharedBytes(wanted.last ?? 4)) bytes of shared memory, the device "
            + "has \(device.maxSharedBytes)"))
    }
    let columnsPerSubgroup = size / lanes * columns
    let heads = request.sequenceCount * request.valueHeads
    var subgroups = min(
      device.kind == .cpu ? 2 : 4, device.maxWorkgroupInvocations / size,
      ceilingDivide(request.valueHeadSize, columnsPerSubgroup))
    while device.kind != .cpu, subgroups > 2,
      heads * ceilingDivide(request.valueHeadSize, columnsPerSubgroup * subgroups)
        < device.computeUnits ?? 64
    {
      subgroups = max(2, subgroups / 2)
    }
    var tile = LinearAttentionTile(
      workgroupSize: size * subgroups, columns: columns, lanes: lanes, blockRows: rows,
      subgroupSize: size)
    tile.readsAhead = readsAhead(
      request, device, blockRows: rows, workgroupSize: tile.workgroupSize)
    return .success(tile)
  }

  /// Whether lanes have registers for the next record: up to 14 groups of four numbers beside 64 of the state. What
  /// waits for memory on a processor is the core itself.
  static func readsAhead(
    _ request: LinearAttentionRequest, _ device: DeviceCapabilities, blockRows: Int,
    workgroupSize: Int
  ) -> Bool {
    // Of a record, decays of rows are not read.
    let channels =
      request.operands.contains(.keyDecay) ? ceilingDivide(request.keyHeadSize, 4) * 4 : 1
    let floats =
      LinearAttentionCutter.recordFloats(request, blockRows: blockRows) - channels * blockRows
    return device.kind != .cpu && floats / 4 <= 14 * workgroupSize
  }

  /// Shared memory of `linear_chunk_subgroup.comp` or of `linear_prepare_subgroup`, as their headers count it.
  static func chunkSharedBytes(
    _ request: LinearAttentionRequest, blockRows: Int, lanes: Int
  ) -> Int {
    let quads = ceilingDivide(request.keyHeadSize, 4)
    let areas = request.erases || request.operands.contains(.lowRankA) ? 3 : 2
    let pitch = ceilingDivide(quads, lanes) * lanes + 2
    let walk = 16 * (quads + areas * blockRows * pitch + (areas - 1) * blockRows * blockRows / 4)
    let kept = request.operands.contains(.keyDecay) ? 2 : 1
    return max(walk, 16 * kept * blockRows * quads + 20 * blockRows)
  }
}
