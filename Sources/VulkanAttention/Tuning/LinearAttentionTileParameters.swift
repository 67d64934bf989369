/// What can be tuned of linear attention: the form, and the numbers of its tile.
///
/// A plan takes them through a ``Tuning``; what a kernel or the device does not allow is refused there, and the plan
/// keeps its own.
public struct LinearAttentionTileParameters: Sendable, Hashable, Codable {
  /// The form. Tuned for lengths of each class, it is the length from which on blocks pay.
  public var form: LinearAttentionForm
  /// The path.
  public var path: AttentionPath
  /// Rows of a block of the chunked form: 4, 8 or 16, on matrix units those that the plan has; 1 of the recurrent one.
  public var blockRows: Int
  /// Invocations of a workgroup: a multiple of the subgroup size. In the chunked form on `subgroup`, how many subgroups
  /// share a block in shared memory.
  public var workgroupSize: Int

  /// Tiles that differ from this one in one number, by a step: what a search tries next. Not all of them need be
  /// allowed.
  public var neighbours: [LinearAttentionTileParameters] {
    steps(
      self,
      [
        { $0.blockRows *= 2 }, { $0.blockRows /= 2 }, { $0.workgroupSize *= 2 },
        { $0.workgroupSize /= 2 },
      ]
    ).filter {
      $0.workgroupSize > 0
        && (form == .chunk ? [4, 8, 16].contains($0.blockRows) : $0.blockRows == 1)
    }
  }

  /// What the kernel does not allow, if anything.
  func refusal(on device: DeviceCapabilities) -> PathRefusal? {
    switch form {
    case .chunk where path == .matrix: break
    case .chunk:
      guard [4, 8, 16].contains(blockRows) else {
        return .tuned("blockRows", blockRows, "4, 8 or 16")
      }
    case .recurrent:
      if blockRows != 1 { return .tuned("blockRows", blockRows, "1, in the recurrent form") }
    }
    return tunedWorkgroupRefusal(workgroupSize, device)
  }
}
