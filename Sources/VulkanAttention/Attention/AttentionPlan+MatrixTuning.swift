/// A row of the tables of the paths `matrix` and `matrix2`.
struct AttentionMatrixTuning {
  let device: DeviceFamily
  /// The largest head size, of D and E, that the row is for.
  let maxHeadSize: Int
  /// Fragments of query rows in each subgroup.
  let rowFragments: Int
  let keyTile: Int
  /// Subgroups of a workgroup; fewer are taken where shared memory does not allow them.
  let subgroups: Int
  let keepsQueryInShared: Bool
  let prefetches: Bool
  let provenance: String

  /// The numbers that can be tuned.
  var parameters: AttentionTileParameters.Matrix {
    .init(
      rowFragments: rowFragments, keyTile: keyTile, subgroups: subgroups,
      keepsQueryInShared: keepsQueryInShared, prefetches: prefetches)
  }

  /// The row that fits device and head size, or numbers in its place.
  static func first(
    in table: [AttentionMatrixTuning], size: Int, _ device: DeviceCapabilities,
    _ own: AttentionTileParameters.Matrix?
  ) -> AttentionMatrixTuning? {
    guard let own else {
      return table.first { $0.device.includes(device) && size <= $0.maxHeadSize }
    }
    return AttentionMatrixTuning(
      device: .any, maxHeadSize: .max, rowFragments: own.rowFragments, keyTile: own.keyTile,
      subgroups: own.subgroups, keepsQueryInShared: own.keepsQueryInShared,
      prefetches: own.prefetches, provenance: "")
  }
}

/// The tiles of the matrix path.
extension AttentionPlan {
  private static let counted =
    "counted, not measured: O, Q and score fragments within the registers, tiles in shared memory"
  private static let radv =
    "counted, not measured; RADV 25.0.7 for NAVI31 makes 132, 240 and 256 vector registers of D = 64, 128 and "
    + "192, and spills none (42 of D = 256)"
  private static let lavapipe =
    "lavapipe of Mesa 26.1.6, B1 H8 S=T=1024 on 2 cores of an EPYC 9005: 11 to 13 GFLOP/s at D = 64"

  private static let matrixTunings: [AttentionMatrixTuning] = [
    .init(
      device: .cpu, maxHeadSize: 64, rowFragments: 1, keyTile: 32, subgroups: 4,
      keepsQueryInShared: false, prefetches: false, provenance: lavapipe),
    .init(
      device: .cpu, maxHeadSize: 256, rowFragments: 1, keyTile: 16, subgroups: 4,
      keepsQueryInShared: false, prefetches: false, provenance: lavapipe),
    .init(
      device: .cpu, maxHeadSize: 576, rowFragments: 1, keyTile: 16, subgroups: 2,
      keepsQueryInShared: false, prefetches: false, provenance: lavapipe),

    // 32 lanes: at D = 128 about 254 registers without the prefetch's, so it is left out there.
    .init(
      device: .nvidia, maxHeadSize: 96, rowFragments: 2, keyTile: 32, subgroups: 4,
      keepsQueryInShared: false, prefetches: true, provenance: counted),
    .init(
      device: .nvidia, maxHeadSize: 128, rowFragments: 2, keyTile: 32, subgroups: 4,
      keepsQueryInShared: false, prefetches: false, provenance: counted),
    .init(
      device: .nvidia, maxHeadSize: 256, rowFragments: 1, keyTile: 32, subgroups: 4,
      keepsQueryInShared: false, prefetches: false, provenance: counted),

    // 64 lanes: Q in shared memory leaves the registers to O. RDNA 3 has every row of A twice and more, so two
    // fragments of Q with D = 256 would take 256 registers of each lane: 683 were spilled.
    .init(
      device: .amd, maxHeadSize: 64, rowFragments: 2, keyTile: 32, subgroups: 4,
      keepsQueryInShared: true, prefetches: true, provenance: radv),
    .init(
      device: .amd, maxHeadSize: 128, rowFragments: 2, keyTile: 32, subgroups: 2,
      keepsQueryInShared: true, prefetches: true, provenance: radv),
    .init(
      device: .amd, maxHeadSize: 256, rowFragments: 2, keyTile: 32, subgroups: 2,
      keepsQueryInShared: true, prefetches: false, provenance: radv),

    .init(
      device: .intel, maxHeadSize: 64, rowFragments: 2, keyTile: 32, subgroups: 4,
      keepsQueryInShared: false, prefetches: true, provenance: counted),
    .init(
      device: .intel, maxHeadSize: 256, rowFragments: 1, keyTile: 32, subgroups: 8,
      keepsQueryInShared: false, prefetches: false, provenance: counted),

    .init(
      device: .any, maxHeadSize: 256, rowFragments: 1, keyTile: 32, subgroups: 4,
      keepsQueryInShared: false, prefetches: false, provenance: counted),
    // 16 x 512 f32 sums take 256 registers of 32 lanes: Q must stay out of them.
    .init(
      device: .any, maxHeadSize: 576, rowFragments: 1, keyTile: 16, subgroups: 2,
      keepsQueryInShared: true, prefetches: false, provenance: counted),
  ]

  static func matrixTile(
    _ request: AttentionRequest, _ device: DeviceCapabilities, _ choice: AttentionTileChoice,
    _ own: AttentionTileParameters.Matrix? = nil
  ) -> Result<AttentionTile, PathRefusal> {
    if let refusal = own?.refusal ?? matrixTypeRefusal(request) { return .failure(refusal) }
    return matrixFragment(on: device, choice).flatMap {
      tile(request, device, fragment: $0, own)
    }
  }

  /// What stands against the element types on matrix units, if anything does. bf16 becomes f16 times a power of two.
  static func matrixTypeRefusal(_ request: AttentionRequest) -> PathRefusal? {
    guard [request.elementType, request.keyType, request.valueType].contains(.f32) else {
      return nil
    }
    return PathRefusal(
      reason: "matrix units multiply f16, which would cost f32 tensors their accuracy")
  }

  /// Whether the loads of the next tile may wait in registers. Keys that are values are staged twice when they are
  /// read, before the last tile is done with; of bf16 all of a tile is looked at before any of it is staged.
  static func allowsPrefetch(_ request: AttentionRequest) -> Bool {
    !request.valuesAreKeys && request.keyType == .f16 && request.valueType == .f16
  }

  /// The fragment shape: the one asked for, else 16×16×16 where it is listed, for larger fragments
  /// need fewer loads per product, else the first that the shaders can use; or what stands against
  /// matrices on the device.
  static func matrixFragment(
    on device: DeviceCapabilities, _ choice: AttentionTileChoice
  ) -> Result<DeviceCapabilities.MatrixShape, PathRefusal> {
    let needed: [DeviceCapabilities.Feature] = [
      .coopmat, .memoryModel, .float16, .subgroupSizeControl,
    ]
    let missing = needed.filter { !device.has($0) }
    guard missing.isEmpty else {
      return .failure(
        PathRefusal(
          reason: "the device lacks \(missing.map(\.rawValue).joined(separator: ", "))"))
    }
    if device.kind == .cpu, device.subgroupSize > 8 {
      return .failure(
        PathRefusal(
          reason: "lavapipe (Mesa 26.1.6) crashes on cooperative matrices when its vectors are "
            + "512 bits wide; unset LP_NATIVE_VECTOR_WIDTH"))
    }
    let usable = device.matrixShapes.filter {
      $0.input == .f16 && $0.accumulator == .f32 && $0.m % 8 == 0 && $0.n % 8 == 0
        && $0.k % 8 == 0
    }
    guard let first = usable.first else {
      return .failure(PathRefusal(reason: "the device lists no f16 product with f32 sums"))
    }
    switch choice {
    case .tuned, .problems:
      return .success(usable.first { $0.m == 16 && $0.n == 16 && $0.k == 16 } ?? first)
    case .fragment(let m, let n, let k):
      let asked = DeviceCapabilities.MatrixShape(
        m: m, n: n, k: k, input: .f16, accumulator: .f32)
      guard isProduct(asked, on: device) else {
        return .failure(
          PathRefusal(reason: "the device does not list \(m)x\(n)x\(k), f16 with f32 sums"))
      }
      return .success(asked)
    }
  }

  /// Whether the device multiplies f16 with f32 sums in this shape: it lists it, or has flexible sizes and it is a
  /// multiple of them. Where the device does not tell those, its first listed shape stands for them.
  static func isProduct(
    _ asked: DeviceCapabilities.MatrixShape, on device: DeviceCapabilities
  ) -> Bool {
    let areSizes = [asked.m, asked.n, asked.k].allSatisfy { (8...256).contains($0) && $0 % 8 == 0 }
    guard areSizes else { return false }
    if device.matrixShapes.contains(asked) { return true }
    func isAlike(_ shape: DeviceCapabilities.MatrixShape) -> Bool {
      shape.input == asked.input && shape.accumulator == asked.accumulator
    }
    let steps =
      device.flexibleMatrixShapes?.filter(isAlike)
      ?? device.matrixShapes.first(where: isAlike).map { [$0] } ?? []
    return device.has(.coopmat2)
      && steps.contains { asked.m % $0.m == 0 && asked.n % $0.n == 0 && asked.k % $0.k == 0 }
  }

  private static func tile(
    _ request: AttentionRequest, _ device: DeviceCapabilities,
    fragment: DeviceCapabilities.MatrixShape, _ own: AttentionTileParameters.Matrix?
  ) -> Result<AttentionTile, PathRefusal> {
    let size = max(request.headSize, request.valueHeadSize)
    guard let tuning = AttentionMatrixTuning.first(in: matrixTunings, size: size, device, own)
    else { return .failure(PathRefusal(reason: "no tile for head size \(size)")) }
    let subgroupSize = matrixSubgroupSize(device)
    let rows = tuning.rowFragments * fragment.m
    let lanesPerRow = max(1, subgroupSize / rows)
    let isLegal =
      tuning.keyTile % fragment.n == 0 && tuning.keyTile % fragment.k == 0
      && rows * lanesPerRow % subgroupSize == 0 && tuning.keyTile / lanesPerRow % fragment.k == 0
      && tuning.keyTile / lanesPerRow <= 32
    guard isLegal else {
      return .failure(
        PathRefusal(
          reason: "no tile of \(tuning.keyTile) keys for fragments of "
            + "\(fragment.m)x\(fragment.n)x\(fragment.k) and subgroups of \(subgroupSize)"))
    }
    // As many subgroups as the rows need and shared memory allows.
    var subgroups = min(tuning.subgroups, ceilingDivide(request.queryTokens, rows))
    func sharedBytes() -> Int {
      matrixSharedBytes(
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
        shaderName: device.kind == .cpu ? "attention_matrix_software" : "attention_matrix",
        constants: [
          "FRAGMENT_M": UInt32(fragment.m), "FRAGMENT_N": UInt32(fragment.n),
          "FRAGMENT_K": UInt32(fragment.k), "ROW_FRAGMENTS": UInt32(tuning.rowFragments),
          "KEY_TILE": UInt32(tuning.keyTile), "SUBGROUP_SIZE": UInt32(subgroupSize),
          "QUERY_IN_SHARED": tuning.keepsQueryInShared ? 1 : 0,
          "PREFETCH": prefetches ? 1 : 0, "LANES_PER_ROW": UInt32(lanesPerRow),
        ], keysPerStep: tuning.keyTile, sumsPerRow: lanesPerRow, packing: nil,
        parameters: .matrix(tuning.parameters), provenance: tuning.provenance))
  }

  /// Intel's matrix units belong to subgroups of 16.
  static func matrixSubgroupSize(_ device: DeviceCapabilities) -> Int {
    DeviceFamily.intel.includes(device) && device.minSubgroupSize <= 16
      ? 16 : device.subgroupSize
  }

  /// The shader's own sum, in its header.
  private static func matrixSharedBytes(
    _ request: AttentionRequest, fragment: DeviceCapabilities.MatrixShape, subgroups: Int,
    rows: Int, keyTile: Int, keepsQueryInShared: Bool
  ) -> Int {
    let keyPitch = ceilingDivide(request.headSize, fragment.k) * fragment.k / 8 + 1
    let valuePitch = ceilingDivide(request.valueHeadSize, fragment.n) * fragment.n / 8 + 1
    let value = max(keyTile * valuePitch, subgroups * fragment.m * fragment.n / 4)
    let scores = rows * (keyTile / 4 + 1)
    let query = keepsQueryInShared ? rows * keyPitch : 0
    return 16 * (keyTile * keyPitch + value + scores + query) + 4 * rows + 24
  }
}
