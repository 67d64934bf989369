/// The tensors of one matrix product in device memory.
public struct MatrixProductBuffers: Sendable {
  /// x [M, K].
  public var input: DeviceBuffer
  /// W [N, K] in the request's format.
  public var weight: DeviceBuffer
  /// [N], where the request has a bias.
  public var bias: DeviceBuffer?
  /// [M, N], where the request has a residual.
  public var residual: DeviceBuffer?
  /// y [M, N], written; the residual itself, if that is not needed any more.
  public var output: DeviceBuffer

  /// Names the tensors.
  public init(
    input: DeviceBuffer, weight: DeviceBuffer, bias: DeviceBuffer? = nil,
    residual: DeviceBuffer? = nil, output: DeviceBuffer
  ) {
    self.input = input
    self.weight = weight
    self.bias = bias
    self.residual = residual
    self.output = output
  }
}

/// A matrix product on one device, ready to be recorded; see ``MatrixProductRequest``.
///
/// Deterministic; safe to share between tasks.
public final class MatrixProductKernel: Sendable {
  /// How the request runs.
  public let plan: MatrixProductPlan
  private let device: ComputeDevice
  private let pipeline: ComputePipeline

  /// The product.
  public var request: MatrixProductRequest { plan.request }

  /// Prepares a plan on a device; compiles its pipeline where no one has before.
  ///
  /// - Throws: `AttentionError.noPath` or `device`.
  public init(_ plan: MatrixProductPlan, on device: ComputeDevice) throws(AttentionError) {
    self.plan = plan
    self.device = device
    pipeline = try device.compiled(plan.pipelineDescription())
  }

  /// Plans and prepares a request.
  ///
  /// - Throws: what `MatrixProductPlan.init` and the other initialiser throw.
  public convenience init(
    _ request: MatrixProductRequest, on device: ComputeDevice
  ) throws(AttentionError) {
    try self.init(MatrixProductPlan(request, device: device.capabilities), on: device)
  }

  /// Appends the product to a recorder. It does not submit, wait or allocate.
  ///
  /// - Throws: `AttentionError.bufferTooSmall`, `misaligned`, `overlappingOutput`, `invalidArgument` for a tensor
  ///   too many or too few, or `device`, before anything is appended.
  public func record(
    _ buffers: MatrixProductBuffers, into recorder: Recorder
  ) throws(AttentionError) {
    let request = request
    var bound = BoundBuffers(on: device)
    let input = try bound.bind(request.source, buffers.input, isAligned: plan.isAligned)
    let weight = try bound.bind(
      "weight", buffers.weight, bytes: request.weightByteCount, alignment: plan.weightAlignment)
    let bias = try bound.bind(
      "bias", buffers.bias, isThere: request.biasType != nil, bytes: request.biasByteCount,
      alignment: request.biasType?.byteCount ?? 1)
    let residual = try bound.bind(
      "residual", buffers.residual, isThere: request.hasResidual, bytes: request.outputByteCount,
      alignment: request.outputType.byteCount)
    let output = try bound.bind(
      request.destination, buffers.output, isAligned: false, isWritten: true, over: "residual")
    try bound.checkOverlaps()
    let constants = MatrixProductPushConstants(
      source: input.address, weight: weight.address, bias: bias?.address ?? 0,
      residual: residual?.address ?? 0, destination: output.address, rows: UInt32(request.rows),
      columns: UInt32(request.outputChannels), depth: UInt32(request.inputChannels),
      sourceStride: UInt32(request.source.stride),
      destinationStride: UInt32(request.destination.stride))
    try wrappingDeviceErrors { () throws(VulkanError) in
      try recorder.dispatch(
        pipeline, pushConstants: constants, groups: plan.groups,
        accesses: [.read(input), .read(weight), .write(output)]
          + [bias, residual].compactMap { $0.map { .read($0) } })
    }
  }
}

/// The push constants of `companion_product.glsl`, field for field; a test compares the two.
struct MatrixProductPushConstants: BitwiseCopyable {
  var source: UInt64
  var weight: UInt64
  var bias: UInt64
  var residual: UInt64
  var destination: UInt64
  var rows: UInt32
  var columns: UInt32
  var depth: UInt32
  var sourceStride: UInt32
  var destinationStride: UInt32
  var reserved: UInt32 = 0
}
