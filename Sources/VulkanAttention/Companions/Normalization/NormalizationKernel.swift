/// The tensors of one normalisation in device memory.
public struct NormalizationBuffers: Sendable {
  /// x [N, D].
  public var input: DeviceBuffer
  /// y [N, D], written; x itself where types and strides are the same.
  public var output: DeviceBuffer
  /// [N, D], where the request has a residual.
  public var residual: DeviceBuffer?
  /// s [N, D], written where the request returns it; the residual itself, or x where the types are the same.
  public var sum: DeviceBuffer?
  /// [D], where the request has a weight.
  public var weight: DeviceBuffer?
  /// [D], where the request has a bias.
  public var bias: DeviceBuffer?

  /// Names the tensors.
  public init(
    input: DeviceBuffer, output: DeviceBuffer, residual: DeviceBuffer? = nil,
    sum: DeviceBuffer? = nil, weight: DeviceBuffer? = nil, bias: DeviceBuffer? = nil
  ) {
    self.input = input
    self.output = output
    self.residual = residual
    self.sum = sum
    self.weight = weight
    self.bias = bias
  }
}

/// A normalisation on one device, ready to be recorded; see ``NormalizationRequest``.
///
/// Deterministic; safe to share between tasks.
public final class NormalizationKernel: Sendable {
  /// How the request runs.
  public let plan: NormalizationPlan
  private let device: ComputeDevice
  private let pipeline: ComputePipeline

  /// The normalisation.
  public var request: NormalizationRequest { plan.request }

  /// Prepares a plan on a device; compiles its pipeline where no one has before.
  ///
  /// - Throws: `AttentionError.noPath` or `device`.
  public init(_ plan: NormalizationPlan, on device: ComputeDevice) throws(AttentionError) {
    self.plan = plan
    self.device = device
    pipeline = try device.compiled(plan.pipelineDescription())
  }

  /// Plans and prepares a request.
  ///
  /// - Throws: what `NormalizationPlan.init` and the other initialiser throw.
  public convenience init(
    _ request: NormalizationRequest, on device: ComputeDevice
  ) throws(AttentionError) {
    try self.init(NormalizationPlan(request, device: device.capabilities), on: device)
  }

  /// Appends the normalisation to a recorder. It does not submit, wait or allocate.
  ///
  /// - Throws: `AttentionError.bufferTooSmall`, `misaligned`, `overlappingOutput`, `invalidArgument` for a tensor
  ///   too many or too few, or `device`, before anything is appended.
  public func record(
    _ buffers: NormalizationBuffers, into recorder: Recorder
  ) throws(AttentionError) {
    let request = request
    let rowAlignment = plan.isAligned ? BoundBuffers.vectorAlignment : request.weightType.byteCount
    var bound = BoundBuffers(on: device)
    let input = try bound.bind(request.source, buffers.input, isAligned: plan.isAligned)
    let residual = try bound.bind(
      "residual", buffers.residual, isThere: request.residual != nil,
      bytes: request.residualByteCount,
      alignment: plan.isAligned
        ? BoundBuffers.vectorAlignment : (request.residualType ?? .f32).byteCount)
    let weight = try bound.bind(
      "weight", buffers.weight, isThere: request.hasWeight, bytes: request.weightByteCount,
      alignment: rowAlignment)
    let bias = try bound.bind(
      "bias", buffers.bias, isThere: request.hasBias, bytes: request.weightByteCount,
      alignment: rowAlignment)
    let canReplace =
      request.inputType == request.outputType
      && (request.rows == 1 || request.source.stride == request.destination.stride)
    let output = try bound.bind(
      request.destination, buffers.output, isAligned: plan.isAligned, isWritten: true,
      over: canReplace ? "x" : nil)
    let sum = try bindSum(buffers, &bound)
    try bound.checkOverlaps()
    let constants = NormalizationPushConstants(
      source: input.address, residual: residual?.address ?? 0, sum: sum?.address ?? 0,
      weight: weight?.address ?? 0, bias: bias?.address ?? 0, destination: output.address,
      rows: UInt32(request.rows), channels: UInt32(request.channels),
      sourceStride: UInt32(request.source.stride),
      destinationStride: UInt32(request.destination.stride), epsilon: request.epsilon)
    let accesses: [BufferAccess] =
      [.read(input), .write(output)] + [residual, weight, bias].compactMap { $0.map { .read($0) } }
      + [sum].compactMap { $0.map { .write($0) } }
    try wrappingDeviceErrors { () throws(VulkanError) in
      try recorder.dispatch(
        pipeline, pushConstants: constants, groups: plan.groups, accesses: accesses)
    }
  }

  /// The sum is written where it is read, if anywhere: over the residual, or over x of the same type.
  private func bindSum(
    _ buffers: NormalizationBuffers, _ bound: inout BoundBuffers
  ) throws(AttentionError) -> DeviceBuffer? {
    guard let buffer = buffers.sum else {
      guard request.returnsSum else { return nil }
      throw .invalidArgument(
        name: "sum", value: "no buffer", allowed: "a buffer, for the request returns the sum")
    }
    guard request.returnsSum else {
      throw .invalidArgument(
        name: "sum", value: "a buffer", allowed: "none, for the request does not return the sum")
    }
    let type = request.residualType ?? .f32
    let isInput = buffer.address == buffers.input.address && type == request.inputType
    return try bound.bind(
      "sum", buffer, bytes: request.residualByteCount,
      alignment: plan.isAligned ? BoundBuffers.vectorAlignment : type.byteCount, isWritten: true,
      over: isInput ? "x" : "residual")
  }
}

/// The push constants of `companion_normalize.comp`, field for field; a test compares the two.
struct NormalizationPushConstants: BitwiseCopyable {
  var source: UInt64
  var residual: UInt64
  var sum: UInt64
  var weight: UInt64
  var bias: UInt64
  var destination: UInt64
  var rows: UInt32
  var channels: UInt32
  var sourceStride: UInt32
  var destinationStride: UInt32
  var epsilon: Float
  var reserved: UInt32 = 0
}
