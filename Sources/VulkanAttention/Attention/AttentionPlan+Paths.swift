internal import ShaderLibrary

/// Which tile a plan takes.
public enum AttentionTileChoice: Sendable, Hashable {
  /// The row of the tuning table that fits device, type and head size.
  case tuned
  /// The matrix path with this fragment shape instead of the device's first: rows of a query
  /// fragment, keys of a score fragment, channels of a product step.
  case fragment(m: Int, n: Int, k: Int)
}

/// Why a path cannot run a request.
struct PathRefusal: Error {
  let reason: String
}

extension AttentionPlan {
  /// The paths in the order in which they are tried, with the reason to try each where it is.
  static func preference(
    _ request: AttentionRequest, _ device: DeviceCapabilities
  ) -> [(path: AttentionPath, reason: String)] {
    if device.kind == .cpu {
      return [
        (.row, "the device is a CPU: registers and uniform loads beat shared memory and barriers"),
        (.subgroup, "the row path cannot run"), (.matrix, "no other path can run"),
      ]
    }
    return [
      (.matrix, "the device has matrix units for this element type"),
      (.subgroup, "the matrix path cannot run"), (.row, "no other path can run"),
    ]
  }

  /// The tile with which a path runs a request, or why it cannot.
  static func tile(
    of path: AttentionPath, _ request: AttentionRequest, _ device: DeviceCapabilities,
    _ choice: AttentionTileChoice
  ) -> Result<AttentionTile, PathRefusal> {
    let tile: Result<AttentionTile, PathRefusal> =
      switch path {
      case .row: rowTile(request, device)
      case .subgroup: subgroupTile(request, device)
      case .matrix: matrixTile(request, device, choice)
      }
    return tile.flatMap { tile in
      if let refusal = refusal(of: tile, device) { .failure(refusal) } else { .success(tile) }
    }
  }

  /// What stands against a tile on a device: the shader, the limits, the features.
  private static func refusal(
    of tile: AttentionTile, _ device: DeviceCapabilities
  ) -> PathRefusal? {
    let missing = device.missingRequiredFeatures
    if !missing.isEmpty {
      return PathRefusal(
        reason: "the device lacks \(missing.map(\.rawValue).joined(separator: ", "))")
    }
    guard let shader = ShaderBinary.named(tile.shaderName) else {
      return PathRefusal(reason: "this build has no shader \(tile.shaderName)")
    }
    let lacking = device.missingFeatures(for: shader)
    if !lacking.isEmpty {
      return PathRefusal(
        reason: "the device lacks \(lacking.map(\.rawValue).joined(separator: ", "))")
    }
    if case .missing(let extensions, let compiler) = shader.content {
      return PathRefusal(
        reason: "this build left the shader \(tile.shaderName) out: \(compiler) lacks "
          + extensions.joined(separator: ", "))
    }
    if tile.sharedBytes > device.maxSharedBytes {
      return PathRefusal(
        reason: "it needs \(tile.sharedBytes) bytes of shared memory, "
          + "the device allows \(device.maxSharedBytes)")
    }
    let most = min(device.maxWorkgroupInvocations, device.maxWorkgroupSizeX)
    if tile.workgroupSize > most {
      return PathRefusal(
        reason: "it needs workgroups of \(tile.workgroupSize), the device allows \(most)")
    }
    if let size = tile.subgroupSize {
      let sizes = device.minSubgroupSize...device.maxSubgroupSize
      guard sizes.contains(size), device.has(.subgroupSizeControl) else {
        return PathRefusal(
          reason: "it needs full subgroups of \(size), the device has \(sizes.lowerBound) "
            + "to \(sizes.upperBound)")
      }
    }
    return nil
  }
}
