internal import ShaderLibrary

/// How the kernel of a decode path cuts the rows and the keys of a problem.
public struct DecodeTile: Sendable, Hashable {
  /// Invocations of one workgroup.
  public let workgroupSize: Int
  /// Rows of a problem that one workgroup computes at once.
  public let rows: Int
  /// Keys of a lean tile, in which the work is cut.
  public let keys: Int
  /// Shared memory of one workgroup in bytes.
  public let sharedBytes: Int
  /// The subgroup size that the kernel relies on; nil where any will do.
  public let subgroupSize: Int?
  /// The shader variant that runs it.
  public let shaderName: String
  /// The path's specialization constants by their names in the shader.
  public let constants: [String: UInt32]
  /// Workgroups that the device runs at the same time, as far as is known.
  public let groups: Int
  /// The numbers of the tile that can be tuned.
  public let parameters: DecodeTileParameters
  /// Where the numbers come from.
  public let provenance: String
}

/// How a decode request runs on a device: path, tile, the way the work is cut.
///
/// A pure function of the request and the device's capabilities, made without a Vulkan call: plan once for
/// each batch shape. The lengths of a step make a ``LeanSchedule`` from it, which serves all layers.
public struct DecodePlan: Sendable, Hashable {
  /// The problem.
  public let request: DecodeRequest
  /// The path that runs.
  public let path: AttentionPath
  /// The tile of that path.
  public let tile: DecodeTile
  /// How tiles are dealt out.
  public let mode: LeanSchedule.Mode
  /// Tiles of rows of a problem, each of which reads the problem's keys once.
  public let rowTiles: Int
  /// Why this path and this tile, a line for each path that was considered.
  public let explanation: [String]
  /// Whether the tile is one of a ``Tuning``.
  public let isTuned: Bool
  /// The most workgroups of one dispatch along x and y.
  let groupLimits: [Int]
  /// What the pipeline has to know of the request's options.
  let options: AttentionOptionBits
  /// The size of the block of a user's modifications, 0 for none.
  let customByteCount: Int

  /// Plans a request for a device.
  ///
  /// - Parameters:
  ///   - request: the problem.
  ///   - device: what the device can do.
  ///   - path: forces a path; nil chooses the best.
  ///   - choice: forces the fragment shape of the matrix path.
  ///   - mode: how the work is cut; by default lean, in as many groups as the device runs at once.
  ///     ``LeanSchedule/Mode/fixed(tokensPerSplit:)`` makes a sequence's result the same to the last bit
  ///     in every batch; its splits are multiples of the tile's keys.
  ///   - tuning: tiles that were measured on the device; one that is for this request's class of shapes is taken
  ///     where it can run, if no other path and tile are forced.
  /// - Throws: `pathUnavailable` where a forced path cannot run, `noPath` where none can, and
  ///   `invalidArgument` for a mode that does not fit the tile.
  public init(
    _ request: DecodeRequest, device: DeviceCapabilities, path: AttentionPath? = nil,
    tile choice: AttentionTileChoice = .tuned, mode: LeanSchedule.Mode? = nil,
    tuning: Tuning = .none
  ) throws(AttentionError) {
    try self.init(
      request, device: device, path: path, tile: choice, mode: mode, tuning: tuning,
      customByteCount: 0)
  }

  /// Plans for a shader with a user's modifications.
  ///
  /// - Parameters:
  ///   - customByteCount: the size of their block, a multiple of 8.
  ///   - excluded: paths that no plan may choose, with the reason.
  package init(
    _ request: DecodeRequest, device: DeviceCapabilities, path: AttentionPath?,
    tile choice: AttentionTileChoice = .tuned, mode: LeanSchedule.Mode?, tuning: Tuning,
    customByteCount: Int, excluded: [AttentionPath: String] = [:]
  ) throws(AttentionError) {
    var explanation: [String] = []
    var found: (path: AttentionPath, tile: DecodeTile)?
    if choice == .tuned, let (parameters, entry) = tuning.decode(request),
      path == nil || path == parameters.path, excluded[parameters.path] == nil
    {
      switch Self.tile(of: parameters.path, request, device, choice, parameters) {
      case .failure(let refusal):
        explanation.append("tuning: cannot run: \(refusal.reason)")
      case .success(let tile):
        if case .fixed(let tokens)? = mode, tokens % tile.keys != 0 {
          explanation.append("tuning: tiles of \(tile.keys) keys do not fit splits of \(tokens)")
          break
        }
        found = (parameters.path, tile)
        explanation.append("\(parameters.path.rawValue): \(entry.provenance)")
      }
    }
    isTuned = found != nil
    let candidates =
      path.map { [(path: $0, reason: "asked for")] } ?? Self.preference(request, device)
    for candidate in candidates where found == nil {
      if let reason = excluded[candidate.path] {
        explanation.append("\(candidate.path.rawValue): cannot run: \(reason)")
        continue
      }
      switch Self.tile(of: candidate.path, request, device, choice) {
      case .failure(let refusal):
        if let path { throw .pathUnavailable(path: path, reason: refusal.reason) }
        explanation.append("\(candidate.path.rawValue): cannot run: \(refusal.reason)")
      case .success(let tile):
        found = (candidate.path, tile)
        explanation.append("\(candidate.path.rawValue): \(candidate.reason); \(tile.provenance)")
      }
    }
    guard let found else { throw .noPath(reasons: explanation) }
    self.request = request
    self.path = found.path
    tile = found.tile
    rowTiles = ceilingDivide(request.problemRows, found.tile.rows)
    self.mode = mode ?? .lean(groups: found.tile.groups)
    self.explanation = explanation
    groupLimits = device.maxWorkgroupCount
    options = AttentionOptionBits(request.attention).union(.keyRange)
    self.customByteCount = customByteCount
    // A mode that no schedule takes is refused now, and not with the first lengths.
    _ = try LeanSchedule(
      sequences: [], keyHeads: 1, tileLength: found.tile.keys, mode: self.mode)
  }

  /// The schedule of a step.
  ///
  /// - Parameter lengths: [B]: the keys of each sequence, those of the step's own tokens included, and
  ///   those that a ring has forgotten. 0 for an unused place of the batch.
  /// - Throws: `AttentionError.invalidArgument` for lengths that the cache has no place for, or `tooLarge`.
  public func schedule(lengths: [Int]) throws(AttentionError) -> LeanSchedule {
    try LeanSchedule(
      sequences: sequences(lengths: lengths), keyHeads: request.keyCache.heads * rowTiles,
      tileLength: tile.keys, mode: mode)
  }

  /// Replaces the lengths of a schedule of this plan, in its memory.
  ///
  /// - Parameters:
  ///   - schedule: made by ``schedule(lengths:)``.
  ///   - lengths: [B].
  /// - Returns: whether the work list has changed; lengths are uploaded with each step all the same.
  /// - Throws: as ``schedule(lengths:)``; nothing changes then.
  public func update(
    _ schedule: inout LeanSchedule, lengths: [Int]
  ) throws(AttentionError) -> Bool {
    try schedule.update(sequences(lengths: lengths))
  }

  private func sequences(lengths: [Int]) throws(AttentionError) -> [LeanSequence] {
    guard lengths.count == request.attention.batchSize else {
      throw .invalidArgument(
        name: "lengths", value: "\(lengths.count) numbers",
        allowed: "one for each of \(request.attention.batchSize) sequences")
    }
    var sequences: [LeanSequence] = []
    sequences.reserveCapacity(lengths.count)
    for (b, length) in lengths.enumerated() {
      guard length >= 0, length <= request.attention.keyTokens else {
        throw .invalidArgument(
          name: "lengths[\(b)]", value: "\(length)",
          allowed: "0 to \(request.attention.keyTokens), the most keys of a sequence")
      }
      let keys = request.visibleKeys(length: length)
      sequences.append(
        LeanSequence(firstKey: Int32(keys.lowerBound), endKey: Int32(keys.upperBound)))
    }
    return sequences
  }

  /// The bytes of working memory that a step with this schedule needs.
  ///
  /// - Parameters:
  ///   - schedule: of this plan, for the step's lengths.
  ///   - pages: the page table of the step, where the cache is paged.
  public func workspaceByteCount(
    for schedule: LeanSchedule, pages: CachePageTable? = nil
  ) -> Int {
    DecodeWorkspaceLayout(self, schedule, pageIndexCount: pages.map { $0.indices.count } ?? 0)
      .byteCount
  }

  /// The most bytes of working memory that any step of the plan needs, with page lists that name each
  /// place of a sequence once; nil where that is more than can be counted.
  public var maxWorkspaceByteCount: Int? {
    guard let most = scheduleBounds else { return nil }
    let attention = request.attention
    let cache = request.keyCache.arrangement
    let pagesEach =
      cache.kind == .paged ? ceilingDivide(attention.keyTokens, cache.blockTokens) : 0
    let pageIndices = attention.batchSize.multipliedReportingOverflow(by: pagesEach)
    if pageIndices.overflow || most.slots > (1 << 40) / slotByteCount { return nil }
    return DecodeWorkspaceLayout(
      self, segmentCount: most.segments, groupCount: most.groups, mergeCount: most.merges,
      slotCount: most.slots, pageIndexCount: pageIndices.partialValue
    ).byteCount
  }

  /// The most that any schedule of the plan has of each; nil where that is more than can be counted.
  var scheduleBounds: (segments: Int, groups: Int, merges: Int, slots: Int)? {
    let attention = request.attention
    let problems = attention.batchSize.multipliedReportingOverflow(
      by: request.keyCache.heads * rowTiles)
    if problems.overflow { return nil }
    let problemCount = problems.partialValue
    switch mode {
    case .lean(let groups):
      let merges = min(problemCount, groups)
      return (problemCount + groups, groups, merges, groups + merges)
    case .fixed(let tokens):
      let splits = ceilingDivide(attention.keyTokens, tokens) + 1
      let segments = problemCount.multipliedReportingOverflow(by: splits)
      if segments.overflow { return nil }
      let count = segments.partialValue
      return (count, max(count, 1), problemCount, count)
    }
  }

  /// The bytes of a partial result.
  var slotByteCount: Int { tile.rows * (2 + request.attention.valueHeadSize) * 4 }

  /// The name of the plan's shader.
  package var shaderName: String { tile.shaderName }

  /// The pipeline that runs the plan.
  ///
  /// - Parameter customShader: the plan's shader with a user's modifications; nil for the library's own.
  func pipelineDescription(
    _ customShader: ShaderBinary? = nil
  ) throws(AttentionError) -> PipelineDescription {
    try description(
      of: tile.shaderName, customShader, workgroupSize: tile.workgroupSize,
      subgroupSize: tile.subgroupSize, constants: tile.constants)
  }

  /// The pipeline that merges partial results.
  func mergeDescription() throws(AttentionError) -> PipelineDescription {
    try description(
      of: "decode_merge", workgroupSize: Self.mergeWorkgroupSize, subgroupSize: nil, constants: [:])
  }

  /// A vec4 for each invocation: 128 channels of E.
  private static let mergeWorkgroupSize = 32

  private func description(
    of shaderName: String, _ customShader: ShaderBinary? = nil, workgroupSize: Int,
    subgroupSize: Int?, constants own: [String: UInt32]
  ) throws(AttentionError) -> PipelineDescription {
    guard let shader = customShader ?? ShaderBinary.named(shaderName) else {
      throw .pathUnavailable(path: path, reason: "this build has no shader \(shaderName)")
    }
    let attention = request.attention
    let keys = request.keyCache
    let values = request.valueCache
    var constants = own
    constants["local_size_x"] = UInt32(workgroupSize)
    constants["HEAD_SIZE_QK"] = UInt32(attention.headSize)
    constants["HEAD_SIZE_V"] = UInt32(attention.valueHeadSize)
    constants["QUERY_TYPE"] = attention.elementType.shaderConstant
    constants["KEY_TYPE"] = keys.format.shaderConstant
    constants["VALUE_TYPE"] = values.format.shaderConstant
    constants["OUTPUT_TYPE"] = attention.outputType.shaderConstant
    constants["BIAS_TYPE"] = attention.operand(.bias)?.elementType.shaderConstant ?? 0
    constants.merge(options.constants) { $1 }
    constants["ALIGNED"] = attention.isAligned ? 1 : 0
    constants["VALUE_IS_KEY"] = attention.valuesAreKeys ? 1 : 0
    constants["KEY_GROUP"] = UInt32(keys.format.scaleGroup ?? keys.format.blockChannels)
    constants["VALUE_GROUP"] = UInt32(values.format.scaleGroup ?? values.format.blockChannels)
    constants["KEY_SCALE_TYPE"] = keys.format.scaleType?.shaderConstant ?? 0
    constants["VALUE_SCALE_TYPE"] = values.format.scaleType?.shaderConstant ?? 0
    constants["ARRANGEMENT"] = keys.arrangement.kind.shaderConstant
    constants["PAGE_SIZE"] = UInt32(keys.arrangement.blockTokens)
    constants["KEYS_ALIGNED"] = keys.isAligned ? 1 : 0
    constants["VALUES_ALIGNED"] = values.isAligned ? 1 : 0
    if let rotation = request.keyRotation {
      constants["ROTATION"] = rotation.pairing == .halves ? 1 : 2
      constants["ROTARY_SIZE"] = UInt32(rotation.channels)
    }
    // A shader that does not use a constant does not have it.
    let known = Set(shader.specializationConstants.map(\.name))
    return PipelineDescription(
      shader: shader, constants: constants.filter { known.contains($0.key) },
      subgroupSize: subgroupSize, requiresFullSubgroups: subgroupSize != nil)
  }
}
