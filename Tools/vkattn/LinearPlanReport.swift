import KernelBenchmarks
import VulkanAttention

/// How a linear attention would run on a device.
extension LinearAttentionPlan {
  /// Names with their values, and why.
  func lines(_ workload: LinearAttentionWorkload, _ device: DeviceCapabilities) -> [String] {
    let rows: [(String, String)] = [
      ("workload", workload.id),
      ("device", device.name),
      ("form", "\(form.rawValue), \(path.rawValue)"),
      ("shaders", shaderNames.joined(separator: ", ")),
      (
        "tile",
        "\(tile.columnsPerWorkgroup) columns of the state, \(tile.workgroupSize) invocations"
          + (tile.blockRows > 1 ? ", blocks of \(tile.blockRows) updates" : "")
          + (tile.subgroupSize.map { ", subgroups of \($0)" } ?? "")
      ),
      ("parts", partCount == 1 ? "none" : "\(partCount) of each sequence, side by side"),
      ("pieces", pieceCount == 1 ? "1 submission" : "\(pieceCount) submissions"),
      ("scratch", Numbers.bytes(scratchByteCount)),
      (
        "work",
        "\(Numbers.significant(request.floatingPointOperations * 1e-9)) GFLOP, at least "
          + Numbers.bytes(Int(request.compulsoryBytes))
      ),
    ]
    return planLines(rows, why: explanation)
  }

  /// The same as JSON.
  func json(_ workload: LinearAttentionWorkload, _ device: DeviceCapabilities) -> JSONText {
    [
      "id": .string(workload.id), "device": .string(device.name), "form": .string(form.rawValue),
      "path": .string(path.rawValue), "shaders": .array(shaderNames.map(JSONText.string)),
      "tile": [
        "columns": .integer(tile.columnsPerWorkgroup),
        "workgroup_size": .integer(tile.workgroupSize), "block_rows": .integer(tile.blockRows),
        "subgroup_size": JSONText(tile.subgroupSize),
      ],
      "parts": .integer(partCount), "pieces": .integer(pieceCount),
      "scratch_bytes": .integer(scratchByteCount),
      "operations": .number(request.floatingPointOperations),
      "compulsory_bytes": .number(request.compulsoryBytes),
      "why": .array(explanation.map(JSONText.string)),
    ]
  }
}
