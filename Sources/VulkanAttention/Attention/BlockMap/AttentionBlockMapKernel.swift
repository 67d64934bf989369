package import ShaderLibrary

/// The block map of an attention's masks that are data (``AttentionOperand/Kind/blockMap``), computed on one device.
///
///     map[b, h, I, J] = 0 where those masks hide every key j of block J from every row i of block I,
///                       2 where they hide none, and 1 elsewhere        I = ⌊i / R⌋, J = ⌊j / C⌋
///
/// An attention with the map skips the blocks of 0 and asks no mask in blocks of 2. The map is the same for every
/// layer with the same masks: compute it once, bind it to each.
///
///     var mask = AttentionMask.causal
///     mask.blockMapKeys = 64
///     let request = try AttentionRequest(
///       …, mask: mask, operands: [.init(.mask, shared: .heads), .init(.blockMap, shared: .heads)])
///     let map = try AttentionBlockMapKernel(request, on: device)
///     try map.record(operands: operands, scratch: scratch, into: recorder)    // writes operands[.blockMap]
///     try attention.record(buffers, into: recorder)                           // reads it
///
/// Block masks: FlexAttention, https://arxiv.org/abs/2412.05496. Deterministic. Safe to share between tasks: it
/// holds a pipeline, no buffers.
public final class AttentionBlockMapKernel: Sendable {
  /// The attention.
  public let request: AttentionRequest
  /// Bytes of scratch memory that the kernel needs while it runs.
  public var scratchByteCount: Int { scratch.byteCount }

  package static let shaderName = "attention_block_map"
  /// Rows that are looked at at once; blocks have no fewer. Not measured on a GPU.
  static let workgroupSize = 64

  private let device: ComputeDevice
  private let pipeline: ComputePipeline
  private let layout: OperandLayout
  private let scratch: AttentionScratch
  let pieces: [AttentionPlan.Piece]

  /// Prepares the kernel on a device; compiles its pipeline where no one has before.
  ///
  /// - Parameters:
  ///   - request: an attention with an operand `blockMap`; the map may share an axis that no mask among the
  ///     operands differs along.
  ///   - device: where it runs.
  /// - Throws: `AttentionError.invalidArgument`, `noPath` or `device`.
  public convenience init(
    _ request: AttentionRequest, on device: ComputeDevice
  ) throws(AttentionError) {
    try self.init(request, on: device, operationsPerPiece: nil)
  }

  /// Prepares the kernel with a bound of one's own for the work of one submission, and with a shader that may have
  /// a user's mask.
  package init(
    _ request: AttentionRequest, on device: ComputeDevice, operationsPerPiece: Double? = nil,
    customShader: ShaderBinary? = nil, customByteCount: Int = 0
  ) throws(AttentionError) {
    guard let operand = request.operand(.blockMap), let layout = request.layout(of: operand) else {
      throw .invalidArgument(
        name: "operands", value: "no block_map", allowed: "a request with the operand block_map")
    }
    try Self.checkSharedAxes(of: operand, request)
    // Masks by position are the attention's own affair.
    let options = AttentionOptionBits(request)
      .intersection([.topLeft, .keyLengths, .segments, .mask, .maskBits, .tree])
    self.request = request
    self.device = device
    self.layout = layout
    // The shifts of the blocks are there, whatever the masks are.
    scratch = AttentionScratch(
      request, options: options.union(.blockMap), packing: nil, carryByteCount: 0,
      customByteCount: customByteCount)
    var constants = options.constants
    constants["local_size_x"] = UInt32(Self.workgroupSize)
    let shader =
      if let customShader { customShader } else { try ShaderBinary.required(Self.shaderName) }
    pipeline = try device.compiled(PipelineDescription(shader: shader, constants: constants))
    let mask = request.mask
    pieces = PieceCutter(
      tileCount: ceilingDivide(request.queryTokens, mask.blockMapRows)
        * ceilingDivide(request.keyTokens, mask.blockMapKeys),
      heads: operand.shared.contains(.heads) ? 1 : request.queryHeads,
      batches: operand.shared.contains(.batch) ? 1 : request.batchSize,
      groupLimits: device.capabilities.maxWorkgroupCount,
      budget: operationsPerPiece ?? AttentionPlan.operationsPerPiece(device.capabilities),
      keys: nil
    ) { tiles in
      // A look-up of a byte mask is some ten operations.
      10 * Double(tiles.count * mask.blockMapRows * mask.blockMapKeys)
    }.pieces()
  }

  /// Appends the map to a recorder. It does not submit, wait or allocate.
  ///
  /// - Parameters:
  ///   - operands: the attention's; `blockMap` is written.
  ///   - scratch: at least ``scratchByteCount`` bytes; what follows may use them again.
  ///   - recorder: what is appended to.
  /// - Throws: `bufferTooSmall`, `misaligned`, `overlappingOutput`, `missingOperandBuffer`,
  ///   `missingScratchBuffer` or `device`, before anything is appended.
  public func record(
    operands: [AttentionOperand.Kind: DeviceBuffer], scratch: DeviceBuffer?,
    into recorder: Recorder
  ) throws(AttentionError) {
    try record(operands: operands, scratch: scratch, custom: nil, into: recorder)
  }

  /// The same with what a user's mask reads.
  package func record(
    operands: [AttentionOperand.Kind: DeviceBuffer], scratch: DeviceBuffer?,
    custom: CustomInputs?, into recorder: Recorder
  ) throws(AttentionError) {
    let bindings = try Bindings(operands, scratch, custom, for: self)
    for index in pieces.indices { try record(pieceAt: index, bindings, into: recorder) }
  }

  /// Computes the map piece by piece and returns when it is there; a cancelled task stops before the next piece.
  ///
  /// - Throws: as `record`, and `device(.cancelled)`.
  public func run(
    operands: [AttentionOperand.Kind: DeviceBuffer], scratch: DeviceBuffer?
  ) async throws(AttentionError) {
    try await run(operands: operands, scratch: scratch, custom: nil)
  }

  /// The same with what a user's mask reads.
  package func run(
    operands: [AttentionOperand.Kind: DeviceBuffer], scratch: DeviceBuffer?,
    custom: CustomInputs?
  ) async throws(AttentionError) {
    let bindings = try Bindings(operands, scratch, custom, for: self)
    try await device.runPieces(pieces.count, progress: nil) {
      (index, recorder) throws(AttentionError) in
      try record(pieceAt: index, bindings, into: recorder)
    }
  }

  // MARK: - Checks

  /// What the shader reads: masks that are data, and what tokens there are.
  private static let masks: Set<AttentionOperand.Kind> = [
    .mask, .maskBits, .treeBits, .querySegments, .keySegments, .keyLengths,
  ]

  /// A map for all heads says nothing of masks that differ between them.
  private static func checkSharedAxes(
    of map: AttentionOperand, _ request: AttentionRequest
  ) throws(AttentionError) {
    for operand in request.operands where masks.contains(operand.kind) {
      for (axis, name, extent) in [
        (AttentionOperand.Axes.batch, "batch", request.batchSize),
        (.heads, "heads", request.queryHeads),
      ] where map.shared.contains(axis) && extent > 1 {
        let differs =
          operand.kind == .keyLengths
          ? axis == .batch
          : operand.kind.sharableAxes.contains(axis) && !operand.shared.contains(axis)
        guard !differs else {
          throw .invalidArgument(
            name: "operands.block_map", value: "shared along the axis \(name)",
            allowed: "axes that \(operand.kind.rawValue) does not differ along")
        }
      }
    }
  }

  /// The buffers of one call, checked.
  private struct Bindings {
    let map: DeviceBuffer
    let masks: [AttentionOperand.Kind: DeviceBuffer]
    let scratch: DeviceBuffer?
    let custom: CustomInputs?

    init(
      _ operands: [AttentionOperand.Kind: DeviceBuffer], _ scratch: DeviceBuffer?,
      _ custom: CustomInputs?, for kernel: AttentionBlockMapKernel
    ) throws(AttentionError) {
      var bound = BoundBuffers(on: kernel.device)
      let request = kernel.request
      guard let map = operands[.blockMap] else {
        throw .missingOperandBuffer(operand: .blockMap)
      }
      self.map = try bound.bind(
        AttentionOperand.Kind.blockMap.rawValue, map, bytes: request.byteCount(of: .blockMap),
        isWritten: true)
      let masks = AttentionBlockMapKernel.masks
      self.masks = try bound.bind(
        request.operands.filter { masks.contains($0.kind) }, of: request,
        operands.filter { masks.contains($0.key) })
      try bound.bind(custom)
      self.custom = custom
      self.scratch = try bound.bindScratch(scratch, bytes: kernel.scratchByteCount)
      try bound.checkOverlaps()
    }
  }

  // MARK: - Recording

  private func record(
    pieceAt index: Int, _ bindings: Bindings, into recorder: Recorder
  ) throws(AttentionError) {
    let piece = pieces[index]
    try wrappingDeviceErrors { () throws(VulkanError) in
      guard let scratch = bindings.scratch, let range = self.scratch.optionBlock else { return }
      let block = try scratch.slice(range)
      if index == 0 {
        try recorder.update(
          block,
          with: AttentionOptionBlock.bytes(
            request, operands: bindings.masks, layout: self.scratch, scratch: scratch.address,
            custom: bindings.custom?.block ?? []))
      }
      var constants = AttentionPushConstants(
        request, q: 0, k: 0, v: 0, o: bindings.map.address, lse: 0, options: block.address,
        keyStrides: request.keyStrides, firstTile: piece.tiles.lowerBound,
        firstHead: piece.heads.lowerBound, firstBatch: piece.batches.lowerBound)
      constants.oBatchStride = UInt32(layout.batchStride)
      constants.oHeadStride = UInt32(layout.headStride)
      constants.oTokenStride = UInt32(layout.tokenStride)
      try recorder.dispatch(
        pipeline, pushConstants: constants,
        groups: WorkgroupCount(
          x: piece.tiles.count, y: piece.heads.count, z: piece.batches.count),
        accesses: [.write(bindings.map), .read(block)] + bindings.masks.values.map { .read($0) }
          + (bindings.custom?.buffers ?? []).map { .read($0.buffer) })
    }
  }
}
