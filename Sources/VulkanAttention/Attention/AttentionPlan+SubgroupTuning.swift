/// The tiles of the subgroup path.
extension AttentionPlan {
  private struct SubgroupTuning {
    let device: DeviceFamily
    /// The largest head size, of D and E, that the row is for.
    let maxHeadSize: Int
    let rowsPerLane: Int
    let lanesPerRow: Int
    let keyTile: Int
    let keyStep: Int
    /// Whether K and V tiles go through shared memory.
    let isStaged: Bool
    /// Whether 16-bit tiles are widened to f32 as they are staged.
    let isWidened: Bool
    let workgroupSize: Int
    let provenance: String

    /// The numbers that can be tuned, with a workgroup that several problems share or one has.
    func parameters(_ shares: WorkgroupShares?) -> AttentionTileParameters.Subgroup {
      .init(
        rowsPerLane: rowsPerLane, lanesPerRow: lanesPerRow, keyTile: keyTile, keyStep: keyStep,
        isStaged: isStaged && shares == nil, isWidened: isWidened && shares == nil,
        workgroupSize: shares?.workgroupSize ?? workgroupSize,
        problemsPerWorkgroup: shares?.problems ?? 1)
    }

    /// The shader's own sum, in its header.
    func sharedBytes(_ request: AttentionRequest, isStaged: Bool) -> Int {
      guard isStaged else { return 16 }
      func steps(_ channels: Int, _ type: ElementType) -> Int {
        ceilingDivide(
          channels, (type == .f32 || isWidened || !request.isAligned ? 4 : 8) * lanesPerRow)
      }
      let steps =
        steps(request.headSize, request.keyType)
        + (request.valuesAreKeys ? 0 : steps(request.valueHeadSize, request.valueType))
      return 16 * keyTile * lanesPerRow * steps
    }
  }

  private static let counted =
    "counted, not measured: q and o in 128 registers of an invocation, tiles within 32 KiB"
  private static let lavapipe =
    "lavapipe of Mesa 26.1.6, 2 cores of an EPYC 9005, B1 H4 S=T=512 f32 on one thread: 46 GFLOP/s at "
    + "D = 64 and 128; staged or with 2 lanes per row 9, for per-lane addresses are gathers there"

  private static let countedForFewLanes =
    "counted, not measured: as many registers as at D = 64, and no lane without channels"

  private static let subgroupTunings: [SubgroupTuning] = [
    .init(
      device: .cpu, maxHeadSize: 576, rowsPerLane: 1, lanesPerRow: 1, keyTile: 32, keyStep: 8,
      isStaged: false, isWidened: false, workgroupSize: 32, provenance: lavapipe),

    .init(
      device: .intel, maxHeadSize: 8, rowsPerLane: 2, lanesPerRow: 1, keyTile: 32, keyStep: 4,
      isStaged: true, isWidened: false, workgroupSize: 128, provenance: countedForFewLanes),
    .init(
      device: .intel, maxHeadSize: 16, rowsPerLane: 2, lanesPerRow: 2, keyTile: 32, keyStep: 4,
      isStaged: true, isWidened: false, workgroupSize: 128, provenance: countedForFewLanes),
    .init(
      device: .intel, maxHeadSize: 32, rowsPerLane: 2, lanesPerRow: 4, keyTile: 32, keyStep: 4,
      isStaged: true, isWidened: false, workgroupSize: 128, provenance: countedForFewLanes),
    .init(
      device: .intel, maxHeadSize: 64, rowsPerLane: 2, lanesPerRow: 8, keyTile: 32, keyStep: 4,
      isStaged: true, isWidened: false, workgroupSize: 128, provenance: counted),
    .init(
      device: .intel, maxHeadSize: 256, rowsPerLane: 2, lanesPerRow: 16, keyTile: 16, keyStep: 4,
      isStaged: true, isWidened: false, workgroupSize: 128, provenance: counted),
    .init(
      device: .intel, maxHeadSize: 576, rowsPerLane: 1, lanesPerRow: 16, keyTile: 8, keyStep: 4,
      isStaged: true, isWidened: false, workgroupSize: 128, provenance: counted),

    .init(
      device: .any, maxHeadSize: 32, rowsPerLane: 2, lanesPerRow: 1, keyTile: 32, keyStep: 8,
      isStaged: true, isWidened: true, workgroupSize: 128, provenance: counted),
    .init(
      device: .any, maxHeadSize: 64, rowsPerLane: 2, lanesPerRow: 2, keyTile: 32, keyStep: 8,
      isStaged: true, isWidened: true, workgroupSize: 128, provenance: counted),
    .init(
      device: .any, maxHeadSize: 128, rowsPerLane: 2, lanesPerRow: 4, keyTile: 32, keyStep: 8,
      isStaged: true, isWidened: true, workgroupSize: 128, provenance: counted),
    .init(
      device: .any, maxHeadSize: 256, rowsPerLane: 2, lanesPerRow: 8, keyTile: 16, keyStep: 8,
      isStaged: true, isWidened: true, workgroupSize: 128, provenance: counted),
    .init(
      device: .any, maxHeadSize: 576, rowsPerLane: 1, lanesPerRow: 16, keyTile: 8, keyStep: 8,
      isStaged: true, isWidened: false, workgroupSize: 128, provenance: counted),
    .init(
      device: .any, maxHeadSize: 576, rowsPerLane: 1, lanesPerRow: 8, keyTile: 8, keyStep: 4,
      isStaged: true, isWidened: false, workgroupSize: 64, provenance: counted),
  ]

  static func subgroupTile(
    _ request: AttentionRequest, _ device: DeviceCapabilities, _ choice: AttentionTileChoice,
    _ own: AttentionTileParameters.Subgroup? = nil
  ) -> Result<AttentionTile, PathRefusal> {
    if let refusal = own?.refusal(on: device) { return .failure(refusal) }
    let size = max(request.headSize, request.valueHeadSize)
    let ownTuning = own.map {
      SubgroupTuning(
        device: .any, maxHeadSize: .max, rowsPerLane: $0.rowsPerLane,
        lanesPerRow: $0.lanesPerRow, keyTile: $0.keyTile, keyStep: $0.keyStep,
        isStaged: $0.isStaged, isWidened: $0.isWidened, workgroupSize: $0.workgroupSize,
        provenance: "")
    }
    guard
      let tuning = ownTuning
        ?? subgroupTunings.first(where: {
          $0.device.includes(device) && size <= $0.maxHeadSize
            && $0.lanesPerRow <= device.minSubgroupSize
        })
    else {
      return .failure(
        PathRefusal(
          reason: "no tile for head size \(size) with subgroups of \(device.minSubgroupSize)"))
    }
    let parameters: AttentionTileParameters.Subgroup
    let note: String?
    switch WorkgroupShares.chosen(request, device, choice, tuning.parameters(nil), own) {
    case .failure(let refusal): return .failure(refusal)
    case .success(let (shares, reason)):
      parameters = tuning.parameters(shares)
      note = reason
    }
    var workgroupSize = parameters.workgroupSize
    if parameters.problemsPerWorkgroup == 1 {
      // No larger than the rows of a short sequence fill.
      let rowsPerSubgroup = device.subgroupSize / tuning.lanesPerRow * tuning.rowsPerLane
      let needed = ceilingDivide(request.queryTokens, rowsPerSubgroup) * device.subgroupSize
      workgroupSize = max(min(workgroupSize, needed), device.subgroupSize)
    }
    return .success(
      AttentionTile(
        workgroupSize: workgroupSize, queryRows: parameters.problemRows(workgroupSize),
        takesLongTilesFirst: request.mask.isCausal,
        sharedBytes: tuning.sharedBytes(request, isStaged: parameters.isStaged),
        // Rows are numbered by subgroup: drivers that may run smaller ones than they report must not.
        subgroupSize: device.has(.subgroupSizeControl) ? device.subgroupSize : nil,
        shaderName: "attention_subgroup",
        constants: [
          "ROWS_PER_LANE": UInt32(tuning.rowsPerLane),
          "LANES_PER_ROW": UInt32(tuning.lanesPerRow),
          "KEY_TILE": UInt32(tuning.keyTile), "KEY_STEP": UInt32(tuning.keyStep),
          "STAGED": parameters.isStaged ? 1 : 0, "WIDENED": parameters.isWidened ? 1 : 0,
          "PROBLEMS_PER_WORKGROUP": UInt32(parameters.problemsPerWorkgroup),
        ], keysPerStep: tuning.keyTile, sumsPerRow: 1, packing: nil,
        parameters: .subgroup(parameters),
        provenance: [tuning.provenance, note ?? ""].filter { !$0.isEmpty }.joined(separator: "; ")))
  }
}
