internal import ShaderLibrary

extension LinearAttentionPlan {
  typealias Choice = (
    form: LinearAttentionForm, path: AttentionPath, tile: LinearAttentionTile, explanation: [String]
  )

  /// From so many updates of a sequence on, preparing blocks of them pays.
  static let fewestUpdatesToChunk = 32

  /// Whether walking tokens is faster than blocks however many there are. A processor gains nothing from blocks by
  /// themselves: the recurrence has the fewest operations, its state is as near, and lanes share what is done for a
  /// token apart from its columns (the table in linear_recurrent.comp).
  private static func walksTokens(_ device: DeviceCapabilities) -> Bool { device.kind == .cpu }

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
      if own.path == .matrix {
        switch matrixTile(request, device) {
        case .failure(let refusal): return refused(refusal.reason)
        case .success(let tile):
          guard tile.blockRows == own.blockRows, tile.workgroupSize == own.workgroupSize else {
            return refused(
              "matrix units take blocks of \(tile.blockRows) rows and workgroups of "
                + "\(tile.workgroupSize) here")
          }
          let line = "chunk matrix: \(entry.provenance)"
          return ((.chunk, .matrix, tile, [line]), line)
        }
      }
      switch chunkTile(request, device, own.path, blockRows: own.blockRows) {
      case .failure(let refusal): return refused(refusal.reason)
      case .success(let tile): found = (.chunk, own.path, tile, [])
      }
    case .recurrent:
      switch recurrentTile(request, device, own.path) {
      case .failure(let refusal): return refused(refusal.reason)
      case .success(let tile): found = (.recurrent, own.path, tile, [])
      }
    }
    var tile = LinearAttentionTile(
      workgroupSize: own.workgroupSize, columns: found.tile.columns, lanes: found.tile.lanes,
      blockRows: own.blockRows, subgroupSize: found.tile.subgroupSize)
    tile.readsAhead =
      own.form == .chunk && own.path == .subgroup
      && readsAhead(
        request, device, blockRows: own.blockRows, workgroupSize: own.workgroupSize)
    // Only where a workgroup is one subgroup.
    if own.workgroupSize == found.tile.workgroupSize {
      (tile.sharingLanes, tile.tokensAhead) = (found.tile.sharingLanes, found.tile.tokensAhead)
      tile.tokensPerPass = found.tile.tokensPerPass
      tile.widensKeys = found.tile.widensKeys
    }
    let line = "\(own.form.rawValue) \(own.path.rawValue): \(entry.provenance)"
    return ((own.form, own.path, tile, [line]), line)
  }

  /// Chooses form, path and tile.
  static func choose(
    _ request: LinearAttentionRequest, _ device: DeviceCapabilities,
    _ form: LinearAttentionForm?, _ path: AttentionPath?, _ fragment: AttentionTileChoice = .tuned
  ) throws(AttentionError) -> Choice {
    let rows = request.longestSequence * request.updatesPerToken
    let fewest = fewestUpdatesToChunk
    var explanation: [String] = []
    if form != .recurrent, path == nil || path == .matrix {
      let isAsked = path == .matrix
      // Tokens of one chunk are as dear as those of a whole one: too few do not fill it.
      if !isAsked, device.kind == .cpu {
        explanation.append("chunk matrix: a processor has no matrix units")
      } else if !isAsked, form == nil, rows < fewest {
        explanation.append("chunk matrix: fewer than \(fewest) updates of a sequence")
      } else {
        switch matrixTile(request, device, fragment) {
        case .success(let tile):
          explanation.append(
            isAsked ? "chunk matrix: asked for" : "chunk matrix: \(rows) updates of a sequence")
          return (.chunk, .matrix, tile, explanation)
        case .failure(let refusal):
          if isAsked { throw .pathUnavailable(path: .matrix, reason: refusal.reason) }
          explanation.append("chunk matrix: cannot run: \(refusal.reason)")
        }
      }
    }
    let paths =
      path.map { [$0] } ?? (device.kind == .cpu ? [.row, .subgroup] : [.subgroup, .row])
    if form != .recurrent {
      let isAsked = form == .chunk
      if !isAsked, walksTokens(device) {
        explanation.append("chunk: a processor is faster token by token")
      } else if !isAsked, rows < fewest {
        explanation.append("chunk: fewer than \(fewest) updates of a sequence")
      } else {
        for own in paths {
          switch chunkTile(request, device, own) {
          case .success(let tile):
            let reason = isAsked ? "asked for" : "\(rows) updates of a sequence"
            explanation.append("chunk \(own.rawValue): \(reason)")
            return (.chunk, own, tile, explanation)
          case .failure(let refusal):
            if isAsked, own == paths.last {
              throw .pathUnavailable(path: own, reason: refusal.reason)
            }
            explanation.append("chunk \(own.rawValue): cannot run: \(refusal.reason)")
          }
        }
      }
    }
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

  static func shaderRefusal(_ name: String, _ device: DeviceCapabilities) -> String? {
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

  /// How the state is streamed where every sequence has one token at most; nil where it is not.
  static func stepTile(
    _ request: LinearAttentionRequest, _ device: DeviceCapabilities, _ path: AttentionPath
  ) -> LinearAttentionTile.Step? {
    guard request.longestSequence == 1, request.updatesPerToken == 1, request.isCausal,
      request.valueHeadSize % 4 == 0, !request.operands.contains(.parents),
      shaderRefusal(LinearAttentionCutter.stepShader, device) == nil
    else { return nil }
    let isSoftware = device.kind == .cpu
    var lanes = 1
    if !isSoftware || path == .subgroup {
      while lanes < 8, request.keyHeadSize >= lanes * 2 * 4 { lanes *= 2 }
    }
    var columnLanes = device.subgroupSize
    if !isSoftware {
      // A row of 128 columns is read in one piece. Not measured.
      columnLanes = 1
      while columnLanes < min(32, ceilingDivide(request.valueHeadSize, 4)) { columnLanes *= 2 }
    }
    while lanes > 1, columnLanes * lanes > device.maxWorkgroupInvocations { lanes /= 2 }
    // Full subgroups, where the path relies on them.
    let size = max(columnLanes * lanes, path == .subgroup ? device.subgroupSize : 1)
    // A workgroup of few invocations reads whole rows all the same, up to 64 bytes a lane (the shader's ladder).
    let quads =
      isSoftware && lanes == 1 ? min(4, ceilingDivide(request.valueHeadSize, size * 4)) : 1
    let isPaired = isSoftware && lanes == 1 && request.valueHeadSize % (size * quads * 4) == 0
    return .init(workgroupSize: size, lanes: lanes, columnQuads: quads, isPaired: isPaired)
  }

  /// Whether tokens can share a pass over the state: nothing of it goes into what they change.
  private static func takesPasses(_ request: LinearAttentionRequest) -> Bool {
    !request.erases && request.updatesPerToken == 1
      && request.operands.isDisjoint(with: [.lowRankA, .snapshots, .parents])
  }

  /// On a processor a workgroup is a subgroup, whose lanes share work (the ladders of `linear_recurrent.comp` and
  /// `linear_pass.comp`).
  private static func recurrentRowTile(
    _ request: LinearAttentionRequest, _ device: DeviceCapabilities
  ) -> LinearAttentionTile {
    let isSoftware = device.kind == .cpu
    let size = isSoftware ? device.subgroupSize : 64
    let hasFewLanes = size <= 8
    let passes =
      isSoftware && takesPasses(request)
      && shaderRefusal(LinearAttentionCutter.passShader, device) == nil
    let decaysKeys = request.operands.contains(.keyDecay)
    // 16 bits must be converted: of two columns that makes more code of 128 channels than a processor keeps at hand.
    let widensKeys =
      passes && request.elementType != .f32 && request.keyHeadSize % 8 == 0 && request.isAligned
    let isLongCode = request.elementType != .f32 && request.keyHeadSize > 64 && !widensKeys
    let sharesColumns =
      isSoftware && passes != hasFewLanes && decaysKeys && request.valueHeadSize >= size * 2
      && !(passes && isLongCode)
    var tile = LinearAttentionTile(
      workgroupSize: size, columns: sharesColumns ? 2 : 1, lanes: 1, blockRows: 1,
      subgroupSize: nil)
    guard isSoftware else { return tile }
    tile.sharingLanes = size
    if passes {
      // Half as many where a pass of more would not stay in its cache of instructions.
      let isLong =
        hasFewLanes || sharesColumns || decaysKeys && isLongCode || request.keyHeadSize > 128
      tile.tokensPerPass = min(isLong ? 2 : 4, max(request.longestSequence, 1))
      tile.tokensAhead = tile.tokensPerPass + 2
      tile.widensKeys = widensKeys
    } else {
      tile.tokensAhead = hasFewLanes ? 0 : 2
    }
    return tile
  }

  private static func recurrentTile(
    _ request: LinearAttentionRequest, _ device: DeviceCapabilities, _ path: AttentionPath
  ) -> Result<LinearAttentionTile, PathRefusal> {
    switch path {
    case .row:
      if let reason = shaderRefusal("linear_recurrent_row", device) {
        return .failure(PathRefusal(reason: reason))
      }
      return .success(recurrentRowTile(request, device))
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
      return .failure(
        PathRefusal(reason: "matrix units take blocks of tokens, not one after the other"))
    case .matrix2:
      return .failure(
        PathRefusal(reason: "linear attention has the paths row, subgroup and matrix only"))
    }
  }
}
