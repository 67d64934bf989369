/// Cuts a linear attention into dispatches and submissions of bounded work.
struct LinearAttentionCutter {
  typealias Dispatch = LinearAttentionPlan.Dispatch
  typealias Flags = LinearAttentionPlan.Flags

  static let prepareShader = "linear_prepare"
  static let prepareSubgroupShader = "linear_prepare_subgroup"
  static let chunkShader = "linear_chunk"
  static let chunkSubgroupShader = "linear_chunk_subgroup"
  static let scanShader = "linear_scan"
  static let stepShader = "linear_step"
  static let passShader = "linear_pass"
  static let widenShader = "linear_widen"
  /// Tokens of a workgroup of `linear_widen`.
  static let tokensPerWidening = 16

  let request: LinearAttentionRequest
  let form: LinearAttentionForm
  let tile: LinearAttentionTile
  let recurrentShader: String
  /// Parts of a sequence that run side by side.
  let partCount: Int
  /// Sequences of one dispatch.
  let sequencesAtOnce: Int
  /// Heads of one dispatch.
  let headsAtOnce: Int
  /// Tokens of each sequence in one dispatch.
  let tokensAtOnce: Int
  private let options: LinearAttentionOptionBits

  /// Floats of one prepared block, as `RECORD_FLOATS` in `linear_records.glsl`.
  static func recordFloats(_ request: LinearAttentionRequest, blockRows: Int) -> Int {
    let channels = ceilingDivide(request.keyHeadSize, 4) * 4
    let (area, square) = (channels * blockRows, blockRows * blockRows)
    let erases = request.erases || request.operands.contains(.lowRankA)
    return channels + area * (erases ? 3 : 2) + square * (erases ? 2 : 1)
      + (request.operands.contains(.keyDecay) ? area : blockRows)
  }

  /// Bytes of one prepared block; 0 where none is.
  static func recordBytes(_ request: LinearAttentionRequest, _ tile: LinearAttentionTile) -> Int {
    tile.matrix?.recordBytes ?? recordFloats(request, blockRows: tile.blockRows) * 4
  }

  /// Bytes of q and k in f32 of one token and head.
  static func wideBytes(_ request: LinearAttentionRequest) -> Int { request.keyHeadSize * 8 }

  /// Rows of blocks that a token is; a low-rank change is a row of its own, as `ROWS_PER_TOKEN` says.
  static func rowsPerToken(_ request: LinearAttentionRequest) -> Int {
    request.operands.contains(.lowRankA) ? 2 : request.updatesPerToken
  }

  init(
    _ request: LinearAttentionRequest, form: LinearAttentionForm, tile: LinearAttentionTile,
    device: DeviceCapabilities, bounds: LinearAttentionPlan.Bounds
  ) {
    self.request = request
    self.form = form
    self.tile = tile
    options = LinearAttentionOptionBits(request)
    recurrentShader =
      tile.subgroupSize == nil ? "linear_recurrent_row" : "linear_recurrent_subgroup"

    let sequences = request.sequenceCount
    let rowsPerToken = Self.rowsPerToken(request)
    let tiles = ceilingDivide(request.valueHeadSize, tile.columnsPerWorkgroup)
    let workgroups = sequences * request.valueHeads * tiles
    // With the delta rule a part's effect is a matrix of its own, and a decay of value channels one of the state's
    // size: their sequences are walked from the start.
    let canPart =
      form == .chunk && request.isCausal && !request.erases
      && !request.operands.contains(.lowRankA)
      && !request.operands.contains(.valueDecay)
    let wanted = ceilingDivide(bounds.workgroups, max(workgroups, 1))
    partCount =
      canPart && wanted > 1
      ? max(1, min(wanted, request.longestSequence / max(1, bounds.tokensPerPart), 64)) : 1

    let heads = min(request.valueHeads, device.maxWorkgroupCount[1])
    let limit = max(1, device.maxWorkgroupCount[2] / partCount)
    let perToken =
      6 * Double(rowsPerToken) * Double(request.keyHeadSize) * Double(request.valueHeadSize)
    let perBlock = Self.recordBytes(request, tile)
    // The fewest tokens that are worth a dispatch.
    let fewest = min(request.longestSequence, 64)
    var most = min(bounds.operations / perToken, 1e12)
    if form == .chunk, perBlock > 0 {
      let tokensPerBlock = Double(tile.blockRows) / Double(rowsPerToken)
      most = min(most, Double(bounds.recordBytes / perBlock) * tokensPerBlock)
    }
    if tile.widensKeys {
      most = min(most, Double(bounds.recordBytes / Self.wideBytes(request)))
    }
    // Tokens of all heads and sequences together.
    let budget = max(1, Int(most))
    headsAtOnce = max(1, min(heads, budget / fewest))
    sequencesAtOnce = max(1, min(sequences, limit, budget / fewest / headsAtOnce))
    var tokens = max(1, budget / headsAtOnce / sequencesAtOnce)
    if form == .chunk {
      // Blocks do not go over the end of a dispatch, and parts are whole blocks.
      let step = tile.blockRows * partCount
      tokens = max(step, tokens / step * step)
      tokens = min(
        tokens, device.maxWorkgroupCount[0] * tile.blockRows / rowsPerToken / step * step)
      tokens = max(tokens, step)
    }
    if form == .recurrent, device.kind == .cpu {
      // Every tile of columns reads q and k of its head again: they stay in the processor's caches meanwhile.
      let byteCount = tile.widensKeys ? 4 : request.elementType.byteCount
      let perToken = request.keyHeadSize * byteCount * (1 + rowsPerToken)
      tokens = min(tokens, max(fewest, bounds.cachedBytes / perToken))
    }
    tokensAtOnce = min(tokens, max(1, request.longestSequence))
  }

  /// Blocks of one sequence in one dispatch.
  private func blocks(_ tokens: Int) -> Int {
    ceilingDivide(tokens * Self.rowsPerToken(request), tile.blockRows)
  }

  /// Bytes of the prepared blocks of one dispatch, or of what takes their place.
  var recordByteCount: Int {
    guard form == .chunk else {
      return tile.widensKeys
        ? sequencesAtOnce * headsAtOnce * tokensAtOnce * Self.wideBytes(request) : 0
    }
    let perBlock = Self.recordBytes(request, tile)
    // Without records a part leaves one number, what its decays make together.
    if perBlock == 0 {
      return partCount == 1 ? 0 : sequencesAtOnce * headsAtOnce * partCount * 4
    }
    let perPart = ceilingDivide(blocks(tokensAtOnce), partCount)
    return sequencesAtOnce * headsAtOnce * perPart * partCount * perBlock
  }

  /// Bytes of the states of all parts of one dispatch.
  var partByteCount: Int {
    partCount == 1
      ? 0
      : sequencesAtOnce * headsAtOnce * partCount * request.keyHeadSize * request.valueHeadSize * 4
  }

  /// Whether a state goes from one dispatch to another through scratch memory.
  var hasCarry: Bool { !request.isCausal || request.longestSequence > tokensAtOnce }

  func pieces() -> [[Dispatch]] {
    var pieces: [[Dispatch]] = []
    for sequences in PieceCutter.portions(of: 0..<request.sequenceCount, atMost: sequencesAtOnce) {
      for heads in PieceCutter.portions(of: 0..<request.valueHeads, atMost: headsAtOnce) {
        let phases: [LinearAttentionOptionBits] =
          request.isCausal ? [[]] : [.noOutput, .noUpdate]
        for phase in phases {
          for tokens in PieceCutter.portions(of: 0..<request.longestSequence, atMost: tokensAtOnce)
          {
            pieces.append(piece(sequences, heads, tokens, phase))
          }
        }
      }
    }
    return pieces
  }

  /// What one submission does.
  private func piece(
    _ sequences: Range<Int>, _ heads: Range<Int>, _ tokens: Range<Int>,
    _ phase: LinearAttentionOptionBits
  ) -> [Dispatch] {
    // Where the state stays, nothing that changes it is looked at.
    var options = options
    if phase == .noUpdate {
      options.formIntersection([.starts, .stateSlots, .divide, .retention])
    }
    options.formUnion(phase)
    let normalizes = options.contains(.divide)
    let shared = options.subtracting([.divide, .retention, .skip, .outputGate])

    let perPart = form == .chunk ? ceilingDivide(blocks(tokens.count), partCount) : 0
    func dispatch(
      _ shader: String, _ options: LinearAttentionOptionBits, x: Int, z: Int, flags: Flags = []
    ) -> Dispatch {
      Dispatch(
        stage: .init(shaderName: shader, options: options),
        groups: WorkgroupCount(x: x, y: heads.count, z: z), firstTile: 0, heads: heads,
        sequences: sequences, tokens: tokens, flags: flags, parts: partCount,
        blocksPerPart: perPart)
    }
    // Where the state stays, tokens meet it one by one.
    let takesPasses = tile.tokensPerPass > 1 && phase != .noUpdate
    func passes(_ options: LinearAttentionOptionBits, columns: Int) -> [Dispatch] {
      let tiles = ceilingDivide(columns, tile.columnsPerWorkgroup)
      let isOnes = options.contains(.ones)
      let flags = flags(tokens, phase, isOnes: isOnes)
      if let step = tile.step, !isOnes {
        let tiles = ceilingDivide(columns, step.columnsPerWorkgroup)
        return [dispatch(Self.stepShader, options, x: tiles, z: sequences.count, flags: flags)]
      }
      guard form == .chunk else {
        let shader = takesPasses ? Self.passShader : recurrentShader
        return [dispatch(shader, options, x: tiles, z: sequences.count, flags: flags)]
      }
      let z = sequences.count * partCount
      let chunkShader =
        tile.matrix?.shaders.walk
        ?? (tile.subgroupSize == nil ? Self.chunkShader : Self.chunkSubgroupShader)
      let walk = dispatch(chunkShader, options, x: tiles, z: z, flags: flags)
      guard partCount > 1 else { return [walk] }
      let added = options.subtracting([.divide, .retention, .skip, .outputGate]).union(.noOutput)
      return [
        dispatch(chunkShader, added, x: tiles, z: z),
        dispatch(
          tile.matrix?.shaders.scan ?? Self.scanShader,
          isOnes ? shared.union(.ones) : shared,
          x: ceilingDivide(request.keyHeadSize * columns, tile.workgroupSize), z: sequences.count,
          flags: flags), walk,
      ]
    }
    var dispatches: [Dispatch] = []
    let prepareShader =
      tile.matrix.map(\.shaders.prepare)
      ?? (tile.subgroupSize == nil ? Self.prepareShader : Self.prepareSubgroupShader)
    if form == .chunk, let prepareShader {
      dispatches.append(
        dispatch(prepareShader, shared, x: perPart * partCount, z: sequences.count))
    }
    if form == .recurrent, takesPasses, tile.widensKeys {
      dispatches.append(
        dispatch(
          Self.widenShader, options.intersection([.starts, .noOutput]),
          x: ceilingDivide(tokens.count, Self.tokensPerWidening), z: sequences.count))
    }
    if normalizes || request.normalizer != .none {
      dispatches += passes(shared.union(.ones), columns: 1)
    }
    return dispatches + passes(options, columns: request.valueHeadSize)
  }

  private func flags(
    _ tokens: Range<Int>, _ phase: LinearAttentionOptionBits, isOnes: Bool
  ) -> Flags {
    if phase == .noUpdate { return .fromCarry }
    let isLast = tokens.upperBound == request.longestSequence
    var flags: Flags = tokens.lowerBound == 0 ? [] : .fromCarry
    if tokens.lowerBound == 0, request.operands.contains(isOnes ? .initialSum : .initialState) {
      flags.insert(.loads)
    }
    if !isLast || phase == .noOutput { flags.insert(.toCarry) }
    if isLast, request.operands.contains(isOnes ? .finalSum : .finalState) {
      flags.insert(.stores)
    }
    return flags
  }
}

/// Where the parts of the scratch memory lie, in bytes from its start.
struct LinearAttentionScratch: Sendable, Hashable {
  /// Parts begin at multiples of this.
  private static let alignment = 256

  /// The block of tensors.
  let block: Range<Int>
  /// The block of tensors for the denominators.
  let sumBlock: Range<Int>?
  /// The denominators, f32 [B, T, H].
  let denominators: Range<Int>?
  /// The states between two dispatches, [N, H, K, V].
  let carry: Range<Int>?
  /// Likewise of the denominators, [N, H, K].
  let sumCarry: Range<Int>?
  /// The states of a sequence's parts.
  let parts: Range<Int>?
  /// Prepared blocks.
  let records: Range<Int>?
  /// All of it.
  let byteCount: Int

  /// Nil where the sizes cannot be addressed.
  init?(_ request: LinearAttentionRequest, _ cutter: LinearAttentionCutter) {
    var end = 0
    func take(_ byteCount: Int) -> Range<Int>? {
      guard byteCount > 0 else { return nil }
      let start = end
      end = (start + byteCount + Self.alignment - 1) / Self.alignment * Self.alignment
      return start..<start + byteCount
    }
    let normalizes = request.normalizer != .none
    let heads = request.sequenceCount * request.valueHeads
    let carries = cutter.hasCarry ? heads * request.keyHeadSize * 4 : 0
    let rows = (request.batchSize * request.tokens).multipliedReportingOverflow(
      by: request.valueHeads * 4)
    guard !rows.overflow, rows.partialValue <= 1 << 50 else { return nil }
    block = take(LinearAttentionBlock.byteCount) ?? 0..<0
    sumBlock = normalizes ? take(LinearAttentionBlock.byteCount) : nil
    denominators = normalizes ? take(rows.partialValue) : nil
    carry = take(carries * request.valueHeadSize)
    sumCarry = normalizes ? take(carries) : nil
    parts = take(cutter.partByteCount)
    records = take(cutter.recordByteCount)
    byteCount = end
  }
}
