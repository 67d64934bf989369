/// The tiles of blocks that are prepared for matrix units: decays of key channels, the delta rule and what else
/// `linear_matrix.comp` does not take.
extension LinearAttentionPlan {
  /// Whether what reads the state goes in two parts of f16: where o is f32, and where it is divided, by an f32 too.
  static func readsInTwoParts(_ request: LinearAttentionRequest) -> Bool {
    request.outputType == .f32 || request.normalizer != .none
  }

  /// The tile of fragments of up to 16×16×16.
  static func preparedTile(
    _ request: LinearAttentionRequest, fragment: DeviceCapabilities.MatrixShape, subgroupSize: Int,
    chunk: Int, columns: Int, _ shaders: MatrixShaders
  ) -> MatrixTile {
    let subgroups = chunk / fragment.m
    let channels = ceilingDivide(request.keyHeadSize, 16) * 16
    let rounds = ceilingDivide(channels / fragment.m, subgroups)
    let accumulators = fragment.m * columns * (rounds + 2)
    let operands = fragment.m * fragment.k * rounds + fragment.n * fragment.k
    // As the header of linear_matrix_walk.comp counts them.
    let walkBytes = 32 * chunk * (columns / 4 + 1) + 8 * columns + 24
    return MatrixTile(
      fragment: fragment, subgroups: subgroups, subgroupSize: subgroupSize, columns: columns,
      lanesPerRow: max(1, subgroupSize / fragment.m),
      sharedBytes: max(preparedSharedBytes(request, chunk: chunk, fragment), walkBytes),
      registers: (accumulators + operands) / subgroupSize, chunk: chunk,
      recordBytes: recordBytes(request, chunk: chunk, channels: channels, columns: columns),
      shaders: shaders)
  }

  private static func solvesSystem(_ request: LinearAttentionRequest) -> Bool {
    request.erases || request.operands.contains(.lowRankA)
  }

  /// Shared memory of `linear_matrix_prepare.comp`, as its header counts it.
  private static func preparedSharedBytes(
    _ request: LinearAttentionRequest, chunk: Int, _ fragment: DeviceCapabilities.MatrixShape
  ) -> Int {
    let solves = solvesSystem(request)
    let levels = chunk == 64 ? 2 : 1
    let slab = 10 * chunk + levels * 5 * (chunk + (solves ? chunk / 2 : 0))
    let square = chunk * (chunk / 4 + 1) + (solves ? chunk * fragment.n / 4 : 0)
    return 16 * max(slab, square) + 20 * chunk + 44
  }

  /// Bytes of a block, as `RECORD_BYTES` in `linear_matrix_records.glsl`.
  private static func recordBytes(
    _ request: LinearAttentionRequest, chunk: Int, channels: Int, columns: Int
  ) -> Int {
    let shares = readsInTwoParts(request) ? 2 : 1
    let values = ceilingDivide(request.valueHeadSize, columns) * columns
    let words = channels + 8 + 2 * chunk
    let numbers =
      chunk * channels * (shares + 2) + chunk * chunk * shares
      + (solvesSystem(request) ? 2 * chunk * (channels + values) : 0)
    return words * 4 + numbers * 2
  }
}
