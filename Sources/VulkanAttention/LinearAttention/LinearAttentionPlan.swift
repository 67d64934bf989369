internal import ShaderLibrary

/// The ways in which a linear attention can be computed; the results are the same up to rounding.
public enum LinearAttentionForm: String, Sendable, Hashable, Codable, CaseIterable {
  /// Token by token: on processors always, on GPUs decode steps and short sequences.
  case recurrent
  /// By blocks of tokens, each prepared first: prefill on GPUs.
  case chunk
}

/// How a linear attention runs on a device: form, path, tiles and the list of dispatches, and why.
///
/// A pure function of the request and the device's capabilities, made without a Vulkan call: plan once for each
/// shape, run for every layer.
public struct LinearAttentionPlan: Sendable, Hashable {
  /// The problem.
  public let request: LinearAttentionRequest
  /// The form that runs.
  public let form: LinearAttentionForm
  /// The path that runs.
  public let path: AttentionPath
  /// How the problem is cut for a workgroup.
  public let tile: LinearAttentionTile
  /// Parts of a sequence that run side by side, because sequences and heads do not fill the device.
  public let partCount: Int
  /// Why this form, path and tile.
  public let explanation: [String]
  /// Whether form and tile are those of a ``Tuning``.
  public let isTuned: Bool
  /// What is submitted at once, in order: each is bounded work, so that no watchdog ends it and a cancelled task
  /// stops between two of them. The state goes from one to the next through scratch memory.
  let pieces: [[Dispatch]]
  /// Where the parts of the scratch memory lie.
  let scratch: LinearAttentionScratch

  /// Bytes of scratch memory that the kernel needs while it runs.
  public var scratchByteCount: Int { scratch.byteCount }
  /// The number of submissions that `run` makes.
  public var pieceCount: Int { pieces.count }

  /// One pipeline of a plan.
  struct Stage: Sendable, Hashable {
    let shaderName: String
    let options: LinearAttentionOptionBits
  }

  /// What a dispatch does with the state.
  struct Flags: OptionSet, Sendable, Hashable {
    let rawValue: UInt32
    static let fromCarry = Self(rawValue: 1)
    static let toCarry = Self(rawValue: 2)
    static let stores = Self(rawValue: 4)
    static let loads = Self(rawValue: 8)
  }

  /// One dispatch.
  struct Dispatch: Sendable, Hashable {
    let stage: Stage
    let groups: WorkgroupCount
    let firstTile: Int
    let heads: Range<Int>
    let sequences: Range<Int>
    /// Of each sequence.
    let tokens: Range<Int>
    let flags: Flags
    let parts: Int
    let blocksPerPart: Int
  }

  /// Plans a request for a device.
  ///
  /// - Parameters:
  ///   - request: the problem.
  ///   - device: what the device can do.
  ///   - form: forces a form; nil chooses by the device and the number of updates.
  ///   - path: forces a path; nil chooses the best.
  ///   - tuning: forms and tiles that were measured on the device; one that is for this request's class of shapes is
  ///     taken where it can run, if no other form and path are forced.
  /// - Throws: `AttentionError.pathUnavailable` where what is forced cannot run, `noPath` where nothing can, and
  ///   `tooLarge`.
  public init(
    _ request: LinearAttentionRequest, device: DeviceCapabilities,
    form: LinearAttentionForm? = nil, path: AttentionPath? = nil, tuning: Tuning = .none
  ) throws(AttentionError) {
    try self.init(
      request, device: device, form: form, path: path, tuning: tuning, bounds: Bounds(device))
  }

  /// Plans with bounds, and fragments of matrices, of one's own.
  init(
    _ request: LinearAttentionRequest, device: DeviceCapabilities, form: LinearAttentionForm?,
    path: AttentionPath?, fragment: AttentionTileChoice = .tuned, tuning: Tuning = .none,
    bounds: Bounds
  ) throws(AttentionError) {
    self.request = request
    let tuned = Self.tuned(request, device, form, path, tuning)
    isTuned = tuned?.choice != nil
    var chosen: Choice
    if let choice = tuned?.choice {
      chosen = choice
    } else {
      chosen = try Self.choose(request, device, form, path, fragment)
      chosen.explanation = (tuned.map { [$0.explanation] } ?? []) + chosen.explanation
    }
    if chosen.form == .recurrent, let step = Self.stepTile(request, device, chosen.path) {
      chosen.tile.step = step
      chosen.explanation.append("one token of a sequence: the state is streamed")
    }
    self.form = chosen.form
    self.path = chosen.path
    tile = chosen.tile
    explanation = chosen.explanation
    let cutter = LinearAttentionCutter(
      request, form: chosen.form, tile: chosen.tile, device: device, bounds: bounds)
    partCount = cutter.partCount
    pieces = cutter.pieces()
    guard let scratch = LinearAttentionScratch(request, cutter) else {
      throw .tooLarge(tensor: "scratch")
    }
    self.scratch = scratch
  }

  /// The numbers that can be tuned, as this plan has them.
  public var tileParameters: LinearAttentionTileParameters {
    .init(
      form: form, path: path, blockRows: tile.blockRows, workgroupSize: tile.workgroupSize)
  }

  /// Limits of one submission and of its scratch memory.
  struct Bounds: Sendable, Hashable {
    /// Multiplications and additions.
    var operations: Double
    /// Bytes of prepared blocks.
    var recordBytes: Int
    /// The workgroups that fill the device.
    var workgroups: Int
    /// The fewest tokens of a part of a sequence.
    var tokensPerPart: Int
    /// What a processor's core keeps near.
    var cachedBytes: Int

    init(_ device: DeviceCapabilities) {
      operations = AttentionPlan.operationsPerPiece(device)
      recordBytes = device.kind == .cpu ? 16 << 20 : 64 << 20
      // How many cores a GPU has cannot be asked; not measured on one.
      workgroups = device.kind == .cpu ? 8 : 256
      tokensPerPart = 256
      cachedBytes = 512 << 10
    }
  }

  /// The names of the shaders that run, in the order in which they first do.
  public var shaderNames: [String] {
    var names: [String] = []
    for dispatch in pieces.joined() where !names.contains(dispatch.stage.shaderName) {
      names.append(dispatch.stage.shaderName)
    }
    return names
  }

  /// The pipelines of the plan.
  var stages: Set<Stage> { Set(pieces.joined().map(\.stage)) }

  /// The pipeline of a stage.
  func pipelineDescription(_ stage: Stage) throws(AttentionError) -> PipelineDescription {
    guard let shader = ShaderBinary.named(stage.shaderName) else {
      throw .pathUnavailable(path: path, reason: "this build has no shader \(stage.shaderName)")
    }
    let isOnes = stage.options.contains(.ones)
    var constants: [String: UInt32] = [
      "local_size_x": UInt32(tile.workgroupSize(of: stage.shaderName)),
      "KEY_CHANNELS": UInt32(request.keyHeadSize),
      "VALUE_CHANNELS": isOnes ? 1 : UInt32(request.valueHeadSize),
      "KEY_TYPE": request.elementType.shaderConstant,
      "VALUE_TYPE": request.valueType.shaderConstant,
      "OUTPUT_TYPE": isOnes ? ElementType.f32.shaderConstant : request.outputType.shaderConstant,
      "GATE_TYPE": request.gateType.shaderConstant,
      "OPTIONS": stage.options.rawValue,
      "ALIGNED": request.isAligned ? 1 : 0,
      "UPDATES": UInt32(request.updatesPerToken),
    ]
    if let matrix = tile.matrix {
      constants.merge(Self.matrixConstants(matrix, request, isOnes: isOnes)) { $1 }
    } else if form == .chunk {
      constants["BLOCK_ROWS"] = UInt32(tile.blockRows)
      constants["COLUMNS"] = UInt32(tile.columns)
      let isPrepare = stage.shaderName == LinearAttentionCutter.prepareSubgroupShader
      constants["LANES"] = UInt32(isPrepare ? tile.prepareLanes : tile.lanes)
      constants["READS_AHEAD"] = tile.readsAhead ? 1 : 0
    } else {
      constants["COLUMNS"] = UInt32(tile.columns)
      if let step = tile.step, stage.shaderName == LinearAttentionCutter.stepShader {
        constants["LANES"] = UInt32(step.lanes)
        constants["COLUMN_QUADS"] = UInt32(step.columnQuads)
        constants["PAIRED"] = step.isPaired ? 1 : 0
      } else if path == .subgroup {
        constants["LANES"] = UInt32(tile.lanes)
      } else {
        constants["SHARING_LANES"] = UInt32(tile.sharingLanes)
        constants["TOKENS_AHEAD"] = UInt32(tile.tokensAhead)
        constants["TOKENS"] = UInt32(
          stage.shaderName == LinearAttentionCutter.widenShader
            ? LinearAttentionCutter.tokensPerWidening : tile.tokensPerPass)
        constants["WIDE_KEYS"] = tile.widensKeys ? 1 : 0
      }
    }
    // A shader keeps those that it reads.
    let names = Set(shader.specializationConstants.map(\.name))
    constants = constants.filter { names.contains($0.key) }
    return PipelineDescription(
      shader: shader, constants: constants, subgroupSize: tile.subgroupSize,
      requiresFullSubgroups: tile.subgroupSize != nil)
  }
}

/// How a linear attention is cut for a workgroup.
public struct LinearAttentionTile: Sendable, Hashable {
  /// Invocations of a workgroup.
  public let workgroupSize: Int
  /// Columns of the state that one invocation holds.
  public let columns: Int
  /// Invocations that share a column.
  public let lanes: Int
  /// Rows of a block of the chunked form; 1 of the recurrent one.
  public let blockRows: Int
  /// The subgroup size that the kernel relies on; nil where any will do.
  public let subgroupSize: Int?
  /// How the state of a single token is streamed; nil where it is held.
  public internal(set) var step: Step?
  /// Invocations that share the exponentials of key decays; 1 where each computes them all.
  var sharingLanes = 1
  /// How many tokens ahead rows are touched.
  var tokensAhead = 0
  /// Tokens that one pass over the state takes; 1 where they go one by one.
  var tokensPerPass = 1
  /// Whether q and k become f32 before a pass.
  var widensKeys = false
  /// Whether a block's record is read while the one before is at work.
  var readsAhead = false
  /// What is beside on matrix units.
  var matrix: LinearAttentionPlan.MatrixTile?

  /// How `linear_step.comp` cuts a state.
  public struct Step: Sendable, Hashable {
    /// Invocations of a workgroup.
    public let workgroupSize: Int
    /// Invocations that share columns, each with rows of its own.
    public let lanes: Int
    /// Groups of four columns of one invocation.
    public let columnQuads: Int
    /// Whether these are two pairs of neighbours each, which a processor loads as vectors, and not four neighbours.
    let isPaired: Bool

    /// Columns of the state of one workgroup.
    public var columnsPerWorkgroup: Int { workgroupSize / lanes * columnQuads * 4 }
  }

  /// Columns of the state that one workgroup holds.
  public var columnsPerWorkgroup: Int { workgroupSize / lanes * columns }

  /// Lanes of a subgroup that share a row of a block while it is prepared: a subgroup for each block or more, and not
  /// all of q in the registers of one.
  var prepareLanes: Int {
    guard let subgroupSize else { return 1 }
    return min(subgroupSize, max(4, subgroupSize / blockRows))
  }

  /// Invocations of a workgroup of one of the shaders.
  func workgroupSize(of shaderName: String) -> Int {
    switch shaderName {
    case LinearAttentionCutter.prepareShader: max(blockRows, 8)
    case LinearAttentionCutter.prepareSubgroupShader: blockRows * prepareLanes
    case LinearAttentionCutter.stepShader: step?.workgroupSize ?? workgroupSize
    default: workgroupSize
    }
  }
}
