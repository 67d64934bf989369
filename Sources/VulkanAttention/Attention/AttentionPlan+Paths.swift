internal import ShaderLibrary

/// Which tile a plan takes.
public enum AttentionTileChoice: Sendable, Hashable {
  /// The row of the tuning table that fits device, type and head size.
  case tuned
  /// The matrix and the matrix2 path with this fragment shape instead of the device's first: rows of a
  /// query fragment, keys of a score fragment, channels of a product step.
  case fragment(m: Int, n: Int, k: Int)
  /// The subgroup path with so many problems, heads of batch entries, in a workgroup that is as large as they need:
  /// 1 to 256. Other paths take their tuned tile.
  case problems(perWorkgroup: Int)
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
    // matrix2 is behind matrix until a GPU has run it: its fragments of 16x16x16 are what a GPU takes and what the
    // software driver gets wrong, so that no one has seen them. A tuning may put it first.
    return [
      (.matrix, "the device has matrix units for this element type"),
      (.matrix2, "the matrix path cannot run"), (.subgroup, "no matrix path can run"),
      (.row, "no other path can run"),
    ]
  }

  /// The tile with which a path runs a request, or why it cannot.
  ///
  /// - Parameter parameters: numbers in place of the path's table.
  static func tile(
    of path: AttentionPath, _ request: AttentionRequest, _ device: DeviceCapabilities,
    _ choice: AttentionTileChoice, _ parameters: AttentionTileParameters? = nil
  ) -> Result<AttentionTile, PathRefusal> {
    let tile: Result<AttentionTile, PathRefusal> =
      switch (path, parameters) {
      case (.row, .row(let own)): rowTile(request, device, own)
      case (.row, _): rowTile(request, device, nil)
      case (.subgroup, .subgroup(let own)): subgroupTile(request, device, choice, own)
      case (.subgroup, _): subgroupTile(request, device, choice, nil)
      case (.matrix, .matrix(let own)): matrixTile(request, device, choice, own)
      case (.matrix, _): matrixTile(request, device, choice, nil)
      case (.matrix2, .matrix2(let own)): matrix2Tile(request, device, choice, own)
      case (.matrix2, _): matrix2Tile(request, device, choice, nil)
      }
    return tile.flatMap { tile in
      if let refusal = PathRefusal(
        shaderName: tile.shaderName, sharedBytes: tile.sharedBytes,
        workgroupSize: tile.workgroupSize, subgroupSize: tile.subgroupSize, on: device)
      {
        .failure(refusal)
      } else {
        .success(tile)
      }
    }
  }
}

extension PathRefusal {
  /// What stands against a tile on a device, if anything does: the shader, the limits, the features.
  init?(
    shaderName: String, sharedBytes: Int, workgroupSize: Int, subgroupSize: Int?,
    on device: DeviceCapabilities
  ) {
    let missing = device.missingRequiredFeatures
    if !missing.isEmpty {
      self.init(
        reason: "the device lacks \(missing.map(\.rawValue).joined(separator: ", "))")
      return
    }
    guard let shader = ShaderBinary.named(shaderName) else {
      self.init(reason: "this build has no shader \(shaderName)")
      return
    }
    let lacking = device.missingFeatures(for: shader)
    if !lacking.isEmpty {
      self.init(
        reason: "the device lacks \(lacking.map(\.rawValue).joined(separator: ", "))")
      return
    }
    if case .missing(let extensions, let compiler) = shader.content {
      self.init(
        reason: "this build left the shader \(shaderName) out: \(compiler) lacks "
          + extensions.joined(separator: ", "))
      return
    }
    if sharedBytes > device.maxSharedBytes {
      self.init(
        reason: "it needs \(sharedBytes) bytes of shared memory, "
          + "the device allows \(device.maxSharedBytes)")
      return
    }
    let most = min(device.maxWorkgroupInvocations, device.maxWorkgroupSizeX)
    if workgroupSize > most {
      self.init(
        reason: "it needs workgroups of \(workgroupSize), the device allows \(most)")
      return
    }
    if let subgroupSize {
      let sizes = device.minSubgroupSize...device.maxSubgroupSize
      guard sizes.contains(subgroupSize), device.has(.subgroupSizeControl) else {
        self.init(
          reason: "it needs full subgroups of \(subgroupSize), the device has \(sizes.lowerBound) "
            + "to \(sizes.upperBound)")
        return
      }
    }
    return nil
  }
}
