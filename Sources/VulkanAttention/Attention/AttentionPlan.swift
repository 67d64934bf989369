internal import ShaderLibrary

/// How a request runs on a device: path, tile, grid and pieces, and why.
///
/// A pure function of the request and the device's capabilities, made without a Vulkan call: plan once
/// for each shape, run for every layer.
public struct AttentionPlan: Sendable, Hashable {
  /// What is submitted at once.
  public struct Piece: Sendable, Hashable {
    /// Query tiles of each head.
    public let tiles: Range<Int>
    /// Query heads.
    public let heads: Range<Int>
    /// Batch entries.
    public let batches: Range<Int>
    /// Keys, where a single tile of a single head is cut along them; nil for all.
    public let keys: Range<Int>?
  }

  /// The problem.
  public let request: AttentionRequest
  /// The path that runs.
  public let path: AttentionPath
  /// The tile of that path.
  public let tile: AttentionTile
  /// The query tiles of one head.
  public let tileCount: Int
  /// The problem in the order and in the portions in which it is submitted: each is bounded work, so
  /// that no watchdog ends it and a cancelled task stops between two of them.
  ///
  /// The problem is cut by query tiles; where one tile of all heads and batch entries is more than the
  /// bound by batch entries, then by heads, and a single tile of a single head along its keys. The result
  /// is the same to the last bit.
  public let pieces: [Piece]
  /// Why this path and this tile, a line for each path that was considered.
  public let explanation: [String]
  /// Whether the tile is one of a ``Tuning``.
  public let isTuned: Bool

  /// How keys and values are packed before they are read, if they are.
  var packing: AttentionPacking? { tile.packing }

  /// What the pipeline has to know of the request's options.
  let options: AttentionOptionBits
  /// Where the parts of the scratch memory lie.
  let scratch: AttentionScratch

  /// Bytes of scratch memory that the kernel needs while it runs, 0 for none.
  public var scratchByteCount: Int { scratch.byteCount }

  /// Plans a request for a device.
  ///
  /// - Parameters:
  ///   - request: the problem.
  ///   - device: what the device can do.
  ///   - path: forces a path; nil chooses the best.
  ///   - tile: forces the path's tile instead of the tuned one.
  ///   - tuning: tiles that were measured on the device; one that is for this request's class of shapes is taken
  ///     where it can run, if no other path and tile are forced.
  /// - Throws: `pathUnavailable` where a forced path cannot run, `noPath` where none can, and
  ///   `device(.limitExceeded)` where the grid is too large.
  public init(
    _ request: AttentionRequest, device: DeviceCapabilities, path: AttentionPath? = nil,
    tile: AttentionTileChoice = .tuned, tuning: Tuning = .none
  ) throws(AttentionError) {
    try self.init(
      request, device: device, path: path, tile: tile, tuning: tuning,
      operationsPerPiece: Self.operationsPerPiece(device))
  }

  /// Plans for a shader with a user's modifications.
  ///
  /// - Parameters:
  ///   - customByteCount: the size of their block, a multiple of 8.
  ///   - excluded: paths that no plan may choose, with the reason.
  package init(
    _ request: AttentionRequest, device: DeviceCapabilities, path: AttentionPath?,
    tile: AttentionTileChoice = .tuned, tuning: Tuning, customByteCount: Int,
    excluded: [AttentionPath: String] = [:]
  ) throws(AttentionError) {
    try self.init(
      request, device: device, path: path, tile: tile, tuning: tuning,
      operationsPerPiece: Self.operationsPerPiece(device), customByteCount: customByteCount,
      excluded: excluded)
  }

  /// Plans with a bound of one's own for the work of one submission.
  init(
    _ request: AttentionRequest, device: DeviceCapabilities, path: AttentionPath?,
    tile: AttentionTileChoice, tuning: Tuning = .none, operationsPerPiece: Double,
    customByteCount: Int = 0, excluded: [AttentionPath: String] = [:]
  ) throws(AttentionError) {
    let chosen: (path: AttentionPath, tile: AttentionTile)
    var explanation: [String] = []
    var tuned: AttentionTile?
    if tile == .tuned, let (parameters, entry) = tuning.attention(request),
      path == nil || path == parameters.path, excluded[parameters.path] == nil
    {
      switch Self.tile(of: parameters.path, request, device, tile, parameters) {
      case .failure(let refusal):
        explanation.append("tuning: cannot run: \(refusal.reason)")
      case .success(let tile):
        tuned = tile
        explanation.append("\(parameters.path.rawValue): \(entry.provenance)")
      }
    }
    isTuned = tuned != nil
    if let tuned {
      chosen = (tuned.parameters.path, tuned)
    } else if let path {
      switch Self.tile(of: path, request, device, tile) {
      case .failure(let refusal):
        throw .pathUnavailable(path: path, reason: refusal.reason)
      case .success(let tile):
        chosen = (path, tile)
        explanation.append("\(path.rawValue): asked for; \(tile.provenance)")
      }
    } else {
      var found: (path: AttentionPath, tile: AttentionTile)?
      for candidate in Self.preference(request, device) where found == nil {
        if let reason = excluded[candidate.path] {
          explanation.append("\(candidate.path.rawValue): cannot run: \(reason)")
          continue
        }
        switch Self.tile(of: candidate.path, request, device, tile) {
        case .failure(let refusal):
          explanation.append("\(candidate.path.rawValue): cannot run: \(refusal.reason)")
        case .success(let tile):
          found = (candidate.path, tile)
          explanation.append("\(candidate.path.rawValue): \(candidate.reason); \(tile.provenance)")
        }
      }
      guard let found else { throw .noPath(reasons: explanation) }
      chosen = found
    }
    let tileCount = ceilingDivide(request.queryTokens, chosen.tile.queryRows)
    if request.operand(.relativeKeys) != nil, request.relativeTermLayout == nil {
      throw .tooLarge(tensor: "the Transformer-XL term")
    }
    self.request = request
    self.path = chosen.path
    self.tile = chosen.tile
    self.tileCount = tileCount
    self.explanation = explanation
    pieces = try Self.pieces(
      request, tile: chosen.tile, tileCount: tileCount, device: device,
      budget: operationsPerPiece)
    var options = AttentionOptionBits(request)
    let isCutAlongKeys = pieces.contains { $0.keys != nil }
    if isCutAlongKeys { options.insert(.keyRange) }
    self.options = options
    scratch = AttentionScratch(
      request, options: options, packing: chosen.tile.packing,
      carryByteCount: isCutAlongKeys
        ? chosen.tile.queryRows * (1 + request.valueHeadSize + chosen.tile.sumsPerRow) * 4 : 0,
      customByteCount: customByteCount)
  }

  /// The name of the plan's shader.
  package var shaderName: String { tile.shaderName }

  /// The pipeline that runs the plan.
  ///
  /// - Parameter customShader: the plan's shader with a user's modifications; nil for the library's own.
  func pipelineDescription(
    _ customShader: ShaderBinary? = nil
  ) throws(AttentionError) -> PipelineDescription {
    guard let shader = customShader ?? ShaderBinary.named(tile.shaderName) else {
      throw .pathUnavailable(path: path, reason: "this build has no shader \(tile.shaderName)")
    }
    var constants = tile.constants
    constants["local_size_x"] = UInt32(tile.workgroupSize)
    constants["HEAD_SIZE_QK"] = UInt32(request.headSize)
    constants["HEAD_SIZE_V"] = UInt32(request.valueHeadSize)
    constants["QUERY_TYPE"] = request.elementType.shaderConstant
    constants["KEY_TYPE"] = request.keyType.shaderConstant
    constants["VALUE_TYPE"] = request.valueType.shaderConstant
    constants["OUTPUT_TYPE"] = request.outputType.shaderConstant
    constants["BIAS_TYPE"] = request.operand(.bias)?.elementType.shaderConstant ?? 0
    constants.merge(options.constants) { $1 }
    constants["ALIGNED"] = request.isAligned ? 1 : 0
    constants["VALUE_IS_KEY"] = request.valuesAreKeys ? 1 : 0
    if packing != nil { constants["PACKED"] = 1 }
    return PipelineDescription(
      shader: shader, constants: constants, subgroupSize: tile.subgroupSize,
      requiresFullSubgroups: tile.subgroupSize != nil)
  }
}

extension AttentionPlan {
  /// Work of one submission. At 100 GFLOP/s of a software driver it takes 0.2 s, at the 1 TFLOP/s of a
  /// small integrated GPU 0.2 s too: far below the 2 s after which common watchdogs act, and often
  /// enough for a cancelled task.
  static func operationsPerPiece(_ device: DeviceCapabilities) -> Double {
    device.kind == .cpu ? 2e10 : 2e11
  }
}
