internal import ShaderLibrary

/// The tensors of one short convolution in device memory.
public struct ShortConvolutionBuffers: Sendable {
  /// x [B, T, C].
  public var input: DeviceBuffer
  /// [C, W]; the last column is the token's own.
  public var weight: DeviceBuffer
  /// y [B, T, C], written.
  public var output: DeviceBuffer
  /// [C], where the request has a bias.
  public var bias: DeviceBuffer?
  /// The W − 1 tokens before each sequence, the oldest first: f32 [N, C, W − 1], or [slots, C, W − 1].
  public var initialState: DeviceBuffer?
  /// The last W − 1 tokens of each sequence, written: likewise; may be the memory of ``initialState``.
  public var finalState: DeviceBuffer?
  /// Int32 [N]: the slot of each sequence's states; one that is negative has none, neither before nor after.
  public var stateSlots: DeviceBuffer?
  /// Int32 [N + 1], rising, with packed sequences.
  public var sequenceStarts: DeviceBuffer?

  /// Names the tensors.
  public init(
    input: DeviceBuffer, weight: DeviceBuffer, output: DeviceBuffer, bias: DeviceBuffer? = nil,
    initialState: DeviceBuffer? = nil, finalState: DeviceBuffer? = nil,
    stateSlots: DeviceBuffer? = nil, sequenceStarts: DeviceBuffer? = nil
  ) {
    self.input = input
    self.weight = weight
    self.output = output
    self.bias = bias
    self.initialState = initialState
    self.finalState = finalState
    self.stateSlots = stateSlots
    self.sequenceStarts = sequenceStarts
  }
}

/// How a short convolution runs on a device; a pure function of the request and the device's capabilities.
public struct ShortConvolutionPlan: Sendable, Hashable {
  /// The convolution.
  public let request: ShortConvolutionRequest
  /// Tokens of an invocation.
  let tokensPerInvocation: Int
  /// Tiles of the longest sequence.
  let tileCount: Int
  /// The dispatches, one behind the other.
  let passes: [Pass]

  /// What a dispatch does; the number is `short_convolution.comp`'s.
  enum Stage: UInt32, Sendable, Hashable {
    case convolve, makeState, both
  }

  /// One dispatch.
  struct Pass: Sendable, Hashable {
    let stage: Stage
    let tiles: Int
    let groups: WorkgroupCount
  }

  static let shaderName = "short_convolution"
  static let workgroupSize = 64
  /// Of an invocation: W + 7 reads for 8 results. Not measured on a GPU.
  static let mostTokens = 8

  /// Plans a convolution for a device.
  ///
  /// - Throws: `AttentionError.tooLarge`, or `device(.limitExceeded)` where a grid is too large.
  public init(
    _ request: ShortConvolutionRequest, device: DeviceCapabilities
  ) throws(AttentionError) {
    self.request = request
    var perInvocation = 1
    while perInvocation < min(Self.mostTokens, request.longestSequence) { perInvocation *= 2 }
    tokensPerInvocation = perInvocation
    tileCount = ceilingDivide(request.longestSequence, perInvocation)
    func pass(_ stage: Stage, tiles: Int) throws(AttentionError) -> Pass {
      Pass(
        stage: stage, tiles: tiles,
        groups: try .forInvocations(
          [request.sequenceCount, tiles, ceilingDivide(request.channels, 4)],
          workgroupSize: Self.workgroupSize, shader: Self.shaderName, device: device))
    }
    // One invocation that has a whole sequence reads its state before it writes it.
    if !request.hasFinalState {
      passes = [try pass(.convolve, tiles: tileCount)]
    } else if tileCount == 1 {
      passes = [try pass(.both, tiles: 1)]
    } else {
      passes = [try pass(.convolve, tiles: tileCount), try pass(.makeState, tiles: 1)]
    }
  }

  func pipelineDescription(_ stage: Stage) throws(AttentionError) -> PipelineDescription {
    let shader = try ShaderBinary.required(Self.shaderName)
    return PipelineDescription(
      shader: shader,
      constants: [
        "local_size_x": UInt32(Self.workgroupSize),
        "CHANNELS": UInt32(request.channels),
        "WIDTH": UInt32(request.width),
        "SOURCE_TYPE": request.elementType.shaderConstant,
        "OUTPUT_TYPE": request.outputType.shaderConstant,
        "WEIGHT_TYPE": request.weightType.shaderConstant,
        "ALIGNED": isAligned ? 1 : 0,
        "PACKED": request.packedSequences == nil ? 0 : 1,
        "HAS_BIAS": request.hasBias ? 1 : 0,
        "SILU": request.appliesSiLU ? 1 : 0,
        "TOKENS": UInt32(tokensPerInvocation),
        "STAGE": stage.rawValue,
      ])
  }

  /// Whether rows of x and y are moved by vectors.
  var isAligned: Bool { request.source.isAligned && request.destination.isAligned }
}

/// A short convolution on one device, ready to be recorded; see ``ShortConvolutionRequest``.
///
/// Deterministic; safe to share between tasks.
public final class ShortConvolutionKernel: Sendable {
  /// How the request runs.
  public let plan: ShortConvolutionPlan
  private let device: ComputeDevice
  private let pipelines: [ComputePipeline]

  /// The convolution.
  public var request: ShortConvolutionRequest { plan.request }

  /// Prepares a plan on a device; compiles its pipelines where no one has before.
  ///
  /// - Throws: `AttentionError.noPath` or `device`.
  public init(_ plan: ShortConvolutionPlan, on device: ComputeDevice) throws(AttentionError) {
    self.plan = plan
    self.device = device
    var pipelines: [ComputePipeline] = []
    for pass in plan.passes {
      pipelines.append(try device.compiled(plan.pipelineDescription(pass.stage)))
    }
    self.pipelines = pipelines
  }

  /// Plans and prepares a request.
  ///
  /// - Throws: what `ShortConvolutionPlan.init` and the other initialiser throw.
  public convenience init(
    _ request: ShortConvolutionRequest, on device: ComputeDevice
  ) throws(AttentionError) {
    try self.init(ShortConvolutionPlan(request, device: device.capabilities), on: device)
  }

  /// Appends the convolution to a recorder. It does not submit, wait or allocate.
  ///
  /// - Throws: `AttentionError.bufferTooSmall`, `misaligned`, `overlappingOutput`, `invalidArgument` for a buffer that
  ///   is missing or was not asked for, or `device`, before anything is appended.
  public func record(
    _ buffers: ShortConvolutionBuffers, into recorder: Recorder
  ) throws(AttentionError) {
    let request = request
    func alignment(_ type: ElementType) -> Int {
      plan.isAligned ? BoundBuffers.vectorAlignment : type.byteCount
    }
    var bound = BoundBuffers(on: device)
    let input = try bound.bind(
      "x", buffers.input, bytes: request.inputByteCount, alignment: alignment(request.elementType))
    let weight = try bound.bind(
      "weight", buffers.weight, bytes: request.weightByteCount,
      alignment: request.width % 4 == 0
        ? BoundBuffers.vectorAlignment : request.weightType.byteCount)
    let bias = try bound.bindOptional(
      "bias", buffers.bias,
      bytes: request.hasBias ? request.channels * request.weightType.byteCount : 0,
      alignment: request.weightType.byteCount)
    let starts = try bound.bindOptional(
      "sequenceStarts", buffers.sequenceStarts,
      bytes: request.packedSequences.map { ($0 + 1) * 4 } ?? 0)
    let slots = try bound.bindOptional(
      "stateSlots", buffers.stateSlots, bytes: request.hasStateSlots ? request.sequenceCount * 4 : 0
    )
    let initial = try bound.bindOptional(
      "initialState", buffers.initialState,
      bytes: request.hasInitialState ? request.stateByteCount : 0)
    let final = try bound.bindOptional(
      "finalState", buffers.finalState, bytes: request.hasFinalState ? request.stateByteCount : 0,
      isWritten: true, over: "initialState")
    let output = try bound.bind(
      "y", buffers.output, bytes: request.outputByteCount,
      alignment: alignment(request.outputType), isWritten: true)
    try bound.checkOverlaps()
    var constants = ShortConvolutionPushConstants(request)
    constants.source = input.address
    constants.destination = output.address
    constants.weight = weight.address
    constants.bias = bias?.address ?? 0
    constants.starts = starts?.address ?? 0
    constants.slots = slots?.address ?? 0
    constants.initial = initial?.address ?? 0
    constants.final = final?.address ?? 0
    let accesses =
      [.read(input), .read(weight), .write(output)]
      + [bias, starts, slots, initial].compactMap { $0 }.map { BufferAccess.read($0) }
      + [final].compactMap { $0 }.map { .write($0) }
    for (pass, pipeline) in zip(plan.passes, pipelines) {
      constants.tiles = UInt32(pass.tiles)
      try wrappingDeviceErrors { () throws(VulkanError) in
        try recorder.dispatch(
          pipeline, pushConstants: constants, groups: pass.groups, accesses: accesses)
      }
    }
  }
}

/// The push constants of `short_convolution.comp`, field for field; a test compares the two.
struct ShortConvolutionPushConstants: BitwiseCopyable {
  var source: UInt64 = 0
  var destination: UInt64 = 0
  var weight: UInt64 = 0
  var bias: UInt64 = 0
  var starts: UInt64 = 0
  var slots: UInt64 = 0
  var initial: UInt64 = 0
  var final: UInt64 = 0
  var sourceBatchStride: UInt32
  var sourceTokenStride: UInt32
  var destinationBatchStride: UInt32
  var destinationTokenStride: UInt32
  var tokens: UInt32
  var sequences: UInt32
  var tiles: UInt32 = 1
  var stateCount: UInt32

  init(_ request: ShortConvolutionRequest) {
    // Strides along an axis of extent 1 are not checked and not used.
    sourceBatchStride = UInt32(truncatingIfNeeded: request.strides.batch)
    sourceTokenStride = UInt32(truncatingIfNeeded: request.strides.token)
    destinationBatchStride = UInt32(truncatingIfNeeded: request.outputStrides.batch)
    destinationTokenStride = UInt32(truncatingIfNeeded: request.outputStrides.token)
    tokens = UInt32(request.tokens)
    sequences = UInt32(request.sequenceCount)
    stateCount = UInt32(request.stateCount)
  }
}
