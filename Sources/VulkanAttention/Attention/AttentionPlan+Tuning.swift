/// The tiles of each path, chosen by measurement.
extension AttentionPlan {
  static func rowTile(
    _ request: AttentionRequest, _ device: DeviceCapabilities
  ) -> Result<AttentionTile, PathRefusal> {
    .success(
      AttentionTile(
        workgroupSize: 8, queryRows: 8, sharedBytes: 0, subgroupSize: nil,
        shaderName: AttentionPath.row.shaderName, constants: [:], provenance: "provisional"))
  }

  static func subgroupTile(
    _ request: AttentionRequest, _ device: DeviceCapabilities
  ) -> Result<AttentionTile, PathRefusal> {
    .failure(PathRefusal(reason: "provisional"))
  }

  static func matrixTile(
    _ request: AttentionRequest, _ device: DeviceCapabilities, _ choice: AttentionTileChoice
  ) -> Result<AttentionTile, PathRefusal> {
    .failure(PathRefusal(reason: "provisional"))
  }
}
