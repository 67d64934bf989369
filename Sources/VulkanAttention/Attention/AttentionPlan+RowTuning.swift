/// The tiles of the row path.
extension AttentionPlan {
  private struct RowTuning {
    /// The subgroup size that the measurement was made with.
    let subgroupSize: Int
    /// The largest head size, of D and E, that the row is for.
    let maxHeadSize: Int
    let rowsPerInvocation: Int
    let keysPerBlock: Int
    let provenance: String
  }

  private static let rowTunings = [
    RowTuning(
      subgroupSize: 8, maxHeadSize: 256, rowsPerInvocation: 1, keysPerBlock: 16,
      provenance: "provisional")
  ]

  static func rowTile(
    _ request: AttentionRequest, _ device: DeviceCapabilities
  ) -> Result<AttentionTile, PathRefusal> {
    let size = max(request.headSize, request.valueHeadSize)
    let fitting = rowTunings.filter { size <= $0.maxHeadSize }
    let tuning =
      fitting.first { $0.subgroupSize == device.subgroupSize } ?? fitting.first
      ?? rowTunings[0]
    // One subgroup: invocations share nothing, and more groups balance better over the cores.
    let workgroupSize = device.subgroupSize
    return .success(
      AttentionTile(
        workgroupSize: workgroupSize, queryRows: workgroupSize * tuning.rowsPerInvocation,
        takesLongTilesFirst: false, sharedBytes: 0, subgroupSize: nil,
        shaderName: "attention_row",
        constants: [
          "ROWS_PER_INVOCATION": UInt32(tuning.rowsPerInvocation),
          "KEYS_PER_BLOCK": UInt32(tuning.keysPerBlock),
        ], provenance: tuning.provenance))
  }
}
