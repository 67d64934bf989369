internal import ShaderLibrary

extension LinearAttentionPlan {
  typealias Choice = (
    form: LinearAttentionForm, path: AttentionPath, tile: LinearAttentionTile, explanation: [String]
  )

  /// From so many updates of a sequence on, preparing blocks of them pays.
  static func fewestRowsToChunk(_ device: DeviceCapabilities) -> Int { 32 }

  /// What a tuning says of a request, if it says anything: form, path and tile where these can run, and a line for
  /// the explanation.
  static func tuned(
    _ request: LinearAttentionRequest, _ device: DeviceCapabilities, _ form: LinearAttentionForm?,
    _ path: AttentionPath?, _ tuning: Tuning
  ) -> (choice: Choice?, explanation: String)? {
    guard let (own, entry) = tuning.linear(request), form == nil || form == own.form,
      path == nil || path == own.path
    else { return nil }
    func refused(_ reason: String) -> (choice: Choice?, explanation: String) {
      (nil, "tuning: cannot run: \(reason)")
    }
    if let refusal = own.refusal(on: device) { return refused(refusal.reason) }
    let found: Choice
    switch own.form {
    case .chunk:
      if let reason = chunkRefusal(request, device, own.path) { return refused(reason) }
      found = (.chunk, .row, chunkTile(request, device), [])
    case .recurrent:
      switch recurrentTile(request, device, own.path) {
      case .failure(let refusal): return refused(refusal.reason)
      case .success(let tile): found = (.recurrent, own.path, tile, [])
      }
    }
    let tile = LinearAttentionTile(
      workgroupSize: own.workgroupSize, columns: found.tile.columns, lanes: found.tile.lanes,
      blockRows: own.blockRows, subgroupSize: found.tile.subgroupSize)
    let line = "\(own.form.rawValue) \(own.path.rawValue): \(entry.provenance)"
    return ((own.form, own.path, tile, [line]), line)
  }

  /// Chooses form, path and tile.
  static func choose(
    _ request: LinearAttentionRequest, _ device: DeviceCapabilities,
    _ form: LinearAttentionForm?, _ path: AttentionPath?
  ) throws(AttentionError) -> Choice {
    let rows = request.longestSequence * request.updatesPerToken
    let fewest = fewestRowsToChunk(device)
    var explanation: [String] = []
    if form != .recurrent {
      let isAsked = form == .chunk
      if let reason = chunkRefusal(request, device, path) {
        if isAsked { throw .pathUnavailable(path: path ?? .row, reason: reason) }
        explanation.append("chunk: \(reason)")
      } else if isAsked || rows >= fewest {
        explanation.append(
          isAsked ? "chunk row: asked for" : "chunk row: \(rows) updates of a sequence")
        return (.chunk, .row, chunkTile(request, device), explanation)
      } else {
        explanation.append("chunk: fewer than \(fewest) updates of a sequence")
      }
    }
    let paths =
      path.map { [$0] } ?? (device.kind == .cpu ? [.row, .subgroup] : [.subgroup, .row])
    for path in paths {
      switch recurrentTile(request, device, path) {
      case .success(let tile):
        explanation.append("recurrent \(path.rawValue)")
        return (.recurrent, path, tile, explanation)
      case .failure(let refusal):
        if paths.count == 1 { throw .pathUnavailable(path: path, reason: refusal.reason) }
        explanation.append("recurrent \(path.rawValue): cannot run: \(refusal.reason)")
      }
    }
    throw .noPath(reasons: explanation)
  }

  /// Why the chunked form cannot run; nil where it can.
  private static func chunkRefusal(
    _ request: LinearAttentionRequest, _ device: DeviceCapabilities, _ path: AttentionPath?
  ) -> String? {
    if let path, path != .row { return "the chunked form has the path row only" }
    if request.operands.contains(.lowRankA) {
      return "low-rank changes are computed token by token"
    }
    if request.keyHeadSize > 320 { return "states of more than 320 rows are walked token by token" }
    for shader in [
      LinearAttentionCutter.prepareShader, LinearAttentionCutter.chunkShader,
      LinearAttentionCutter.scanShader,
    ] {
      if let reason = shaderRefusal(shader, device) { return reason }
    }
    return nil
  }

  private static func shaderRefusal(_ name: String, _ device: DeviceCapabilities) -> String? {
    func lacks(_ features: [DeviceCapabilities.Feature]) -> String {
      "the device lacks \(features.map(\.rawValue).joined(separator: ", "))"
    }
    let missing = device.missingRequiredFeatures
    if !missing.isEmpty { return lacks(missing) }
    guard let shader = ShaderBinary.named(name) else { return "this build has no shader \(name)" }
    let lacking = device.missingFeatures(for: shader)
    if !lacking.isEmpty { return lacks(lacking) }
    if case .missing(let extensions, let compiler) = shader.content {
      return "this build left the shader \(name) out: \(compiler) lacks "
        + extensions.joined(separator: ", ")
    }
    return nil
  }

  /// A block's rows are unrolled over all key channels: fewer fit the processor's caches of instructions, more pass
  /// the state through memory less often. B1 T1024 H8 D128 f32 on two cores without AVX-512 (lavapipe of Mesa
  /// 26.1.6, machine busy, share of the multiply-add ceiling of the same minute): 4 rows 31 %, 8 rows 10 to 22 %;
  /// 4 rows and 2 columns 19 %, 8 rows with workgroups of 32 18 %. Not measured with AVX-512 or on a GPU.
  private static func chunkTile(
    _ request: LinearAttentionRequest, _ device: DeviceCapabilities
  ) -> LinearAttentionTile {
    LinearAttentionTile(
      workgroupSize: device.kind == .cpu ? device.subgroupSize : 64, columns: 1, lanes: 1,
      blockRows: device.kind == .cpu && device.subgroupSize <= 8 ? 4 : 8, subgroupSize: nil)
  }

  private static func recurrentTile(
    _ request: LinearAttentionRequest, _ device: DeviceCapabilities, _ path: AttentionPath
  ) -> Result<LinearAttentionTile, PathRefusal> {
    switch path {
    case .row:
      if let reason = shaderRefusal("linear_recurrent_row", device) {
        return .failure(PathRefusal(reason: reason))
      }
      return .success(
        LinearAttentionTile(
          workgroupSize: device.kind == .cpu ? device.subgroupSize : 64, columns: 1, lanes: 1,
          blockRows: 1, subgroupSize: nil))
    case .subgroup:
      if let reason = shaderRefusal("linear_recurrent_subgroup", device) {
        return .failure(PathRefusal(reason: reason))
      }
      guard device.has(.subgroupSizeControl) else {
        return .failure(PathRefusal(reason: "it needs full subgroups of a known size"))
      }
      let size = min(max(device.subgroupSize, device.minSubgroupSize), device.maxSubgroupSize)
      // At least four groups of four rows for each lane.
      var lanes = 1
      while lanes * 2 <= min(8, size), request.keyHeadSize >= lanes * 2 * 16 { lanes *= 2 }
      let workgroupSize = min(size * 2, device.maxWorkgroupInvocations / size * size)
      guard workgroupSize >= size else {
        return .failure(
          PathRefusal(
            reason: "it needs workgroups of \(size), the device allows "
              + "\(device.maxWorkgroupInvocations)"))
      }
      return .success(
        LinearAttentionTile(
          workgroupSize: workgroupSize, columns: 1, lanes: lanes, blockRows: 1, subgroupSize: size))
    case .matrix:
      return .failure(PathRefusal(reason: "linear attention has no path on matrix units"))
    }
  }
}
