internal import ShaderLibrary

/// The tensors of one epilogue in device memory.
public struct OutputNormBuffers: Sendable {
  /// x [B, T, H, D].
  public var input: DeviceBuffer
  /// y [B, T, H, D], written; x itself where types and strides are the same.
  public var output: DeviceBuffer
  /// z [B, T, H, D], where the request has a gate.
  public var gate: DeviceBuffer?
  /// [D] or [H, D], where the request has weights.
  public var weight: DeviceBuffer?
  /// [D] or [H, D], where the request has biases.
  public var bias: DeviceBuffer?

  /// Names the tensors.
  public init(
    input: DeviceBuffer, output: DeviceBuffer, gate: DeviceBuffer? = nil,
    weight: DeviceBuffer? = nil, bias: DeviceBuffer? = nil
  ) {
    self.input = input
    self.output = output
    self.gate = gate
    self.weight = weight
    self.bias = bias
  }
}

/// How an epilogue runs on a device; a pure function of the request and the device's capabilities.
public struct OutputNormPlan: Sendable, Hashable {
  /// The epilogue.
  public let request: OutputNormRequest
  /// Invocations that share a group.
  let lanes: Int
  let groups: WorkgroupCount

  static let shaderName = "output_norm"
  static let workgroupSize = 64

  /// Plans an epilogue for a device.
  ///
  /// - Throws: `AttentionError.tooLarge`, or `device(.limitExceeded)` where the grid is too large.
  public init(_ request: OutputNormRequest, device: DeviceCapabilities) throws(AttentionError) {
    self.request = request
    // 16 channels for each of at most 64 invocations; one on a processor, which has nothing to gain from neighbours
    // and pays for every barrier. Not measured on a GPU.
    var lanes = 1
    while device.kind != .cpu, lanes < Self.workgroupSize,
      lanes * 16 < request.headsPerGroup * request.channels
    {
      lanes *= 2
    }
    self.lanes = lanes
    groups = try .forInvocations(
      [request.batchSize, request.tokens, request.heads / request.headsPerGroup, lanes],
      workgroupSize: Self.workgroupSize, shader: Self.shaderName, device: device)
  }

  func pipelineDescription() throws(AttentionError) -> PipelineDescription {
    let shader = try ShaderBinary.required(Self.shaderName)
    let gate: UInt32 =
      switch request.gate {
      case .none: 0
      case .sigmoid: 1
      case .silu: 2
      }
    return PipelineDescription(
      shader: shader,
      constants: [
        "local_size_x": UInt32(Self.workgroupSize),
        "CHANNELS": UInt32(request.channels),
        "HEADS": UInt32(request.heads),
        "GROUP_HEADS": UInt32(request.headsPerGroup),
        "SOURCE_TYPE": request.elementType.shaderConstant,
        "OUTPUT_TYPE": request.outputType.shaderConstant,
        "GATE_TYPE": request.gateType.shaderConstant,
        "WEIGHT_TYPE": request.weightType.shaderConstant,
        "ALIGNED": request.isAligned ? 1 : 0,
        "LANES": UInt32(lanes),
        "IS_LAYER": request.norm == .layer ? 1 : 0,
        "GATE": gate,
        "GATES_BEFORE": request.gatesBeforeNorm ? 1 : 0,
        "WEIGHT_HEADS": UInt32(request.heads(of: request.weight)),
        "BIAS_HEADS": UInt32(request.heads(of: request.bias)),
      ])
  }
}

/// The epilogue of a linear attention on one device, ready to be recorded; see ``OutputNormRequest``.
///
/// Deterministic; safe to share between tasks.
public final class OutputNormKernel: Sendable {
  /// How the request runs.
  public let plan: OutputNormPlan
  private let device: ComputeDevice
  private let pipeline: ComputePipeline

  /// The epilogue.
  public var request: OutputNormRequest { plan.request }

  /// Prepares a plan on a device; compiles its pipeline where no one has before.
  ///
  /// - Throws: `AttentionError.noPath` or `device`.
  public init(_ plan: OutputNormPlan, on device: ComputeDevice) throws(AttentionError) {
    self.plan = plan
    self.device = device
    pipeline = try device.compiled(plan.pipelineDescription())
  }

  /// Plans and prepares a request.
  ///
  /// - Throws: what `OutputNormPlan.init` and the other initialiser throw.
  public convenience init(
    _ request: OutputNormRequest, on device: ComputeDevice
  ) throws(AttentionError) {
    try self.init(OutputNormPlan(request, device: device.capabilities), on: device)
  }

  /// Appends the epilogue to a recorder. It does not submit, wait or allocate.
  ///
  /// - Throws: `AttentionError.bufferTooSmall`, `misaligned`, `overlappingOutput`, `invalidArgument` for a buffer that
  ///   is missing or was not asked for, or `device`, before anything is appended.
  public func record(
    _ buffers: OutputNormBuffers, into recorder: Recorder
  ) throws(AttentionError) {
    let request = request
    func alignment(_ type: ElementType) -> Int {
      request.isAligned ? BoundBuffers.vectorAlignment : type.byteCount
    }
    // Weights are loaded by vectors wherever a head has whole eights of channels.
    let weightAlignment =
      request.channels % 8 == 0 ? BoundBuffers.vectorAlignment : request.weightType.byteCount
    var bound = BoundBuffers(on: device)
    let input = try bound.bind(
      "x", buffers.input, bytes: request.inputByteCount, alignment: alignment(request.elementType))
    let gate = try bound.bindOptional(
      "gate", buffers.gate, bytes: request.gateByteCount, alignment: alignment(request.gateType))
    let weight = try bound.bindOptional(
      "weight", buffers.weight, bytes: request.weightByteCount, alignment: weightAlignment)
    let bias = try bound.bindOptional(
      "bias", buffers.bias, bytes: request.biasByteCount, alignment: weightAlignment)
    let output = try bound.bind(
      "y", buffers.output, bytes: request.outputByteCount,
      alignment: alignment(request.outputType), isWritten: true,
      over: request.canReplace ? "x" : nil)
    try bound.checkOverlaps()
    var constants = OutputNormPushConstants(request)
    constants.source = input.address
    constants.destination = output.address
    constants.gate = gate?.address ?? 0
    constants.weight = weight?.address ?? 0
    constants.bias = bias?.address ?? 0
    try wrappingDeviceErrors { () throws(VulkanError) in
      try recorder.dispatch(
        pipeline, pushConstants: constants, groups: plan.groups,
        accesses: [.read(input), .write(output)]
          + [gate, weight, bias].compactMap { $0 }.map { .read($0) })
    }
  }
}

/// The push constants of `output_norm.comp`, field for field; a test compares the two.
struct OutputNormPushConstants: BitwiseCopyable {
  var source: UInt64 = 0
  var destination: UInt64 = 0
  var gate: UInt64 = 0
  var weight: UInt64 = 0
  var bias: UInt64 = 0
  var sourceBatchStride: UInt32
  var sourceTokenStride: UInt32
  var sourceHeadStride: UInt32
  var destinationBatchStride: UInt32
  var destinationTokenStride: UInt32
  var destinationHeadStride: UInt32
  var gateBatchStride: UInt32
  var gateTokenStride: UInt32
  var gateHeadStride: UInt32
  var batches: UInt32
  var tokens: UInt32
  var epsilon: Float

  init(_ request: OutputNormRequest) {
    // Strides along an axis of extent 1 are not checked and not used.
    sourceBatchStride = UInt32(truncatingIfNeeded: request.strides.batch)
    sourceTokenStride = UInt32(truncatingIfNeeded: request.strides.token)
    sourceHeadStride = UInt32(truncatingIfNeeded: request.strides.head)
    destinationBatchStride = UInt32(truncatingIfNeeded: request.outputStrides.batch)
    destinationTokenStride = UInt32(truncatingIfNeeded: request.outputStrides.token)
    destinationHeadStride = UInt32(truncatingIfNeeded: request.outputStrides.head)
    gateBatchStride = UInt32(truncatingIfNeeded: request.gateStrides.batch)
    gateTokenStride = UInt32(truncatingIfNeeded: request.gateStrides.token)
    gateHeadStride = UInt32(truncatingIfNeeded: request.gateStrides.head)
    batches = UInt32(request.batchSize)
    tokens = UInt32(request.tokens)
    epsilon = request.epsilon
  }
}
