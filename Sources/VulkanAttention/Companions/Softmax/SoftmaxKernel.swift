/// The tensors of one softmax in device memory.
public struct SoftmaxBuffers: Sendable {
  /// x [N, C].
  public var input: DeviceBuffer
  /// y [N, C], written; x itself where types and strides are the same.
  public var output: DeviceBuffer

  /// Names the tensors.
  public init(input: DeviceBuffer, output: DeviceBuffer) {
    self.input = input
    self.output = output
  }
}

/// A softmax on one device, ready to be recorded; see ``SoftmaxRequest``.
///
/// Deterministic; safe to share between tasks.
public final class SoftmaxKernel: Sendable {
  /// How the request runs.
  public let plan: SoftmaxPlan
  private let device: ComputeDevice
  private let pipeline: ComputePipeline

  /// The softmax.
  public var request: SoftmaxRequest { plan.request }

  /// Prepares a plan on a device; compiles its pipeline where no one has before.
  ///
  /// - Throws: `AttentionError.noPath` or `device`.
  public init(_ plan: SoftmaxPlan, on device: ComputeDevice) throws(AttentionError) {
    self.plan = plan
    self.device = device
    pipeline = try device.compiled(plan.pipelineDescription())
  }

  /// Plans and prepares a request.
  ///
  /// - Throws: what `SoftmaxPlan.init` and the other initialiser throw.
  public convenience init(
    _ request: SoftmaxRequest, on device: ComputeDevice
  ) throws(AttentionError) {
    try self.init(SoftmaxPlan(request, device: device.capabilities), on: device)
  }

  /// Appends the softmax to a recorder. It does not submit, wait or allocate.
  ///
  /// - Throws: `AttentionError.bufferTooSmall`, `misaligned`, `overlappingOutput` or `device`, before
  ///   anything is appended.
  public func record(
    _ buffers: SoftmaxBuffers, into recorder: Recorder
  ) throws(AttentionError) {
    let request = request
    var bound = BoundBuffers(on: device)
    let input = try bound.bind(request.source, buffers.input, isAligned: plan.isAligned)
    let canReplace =
      request.inputType == request.outputType
      && (request.rows == 1 || request.source.stride == request.destination.stride)
    let output = try bound.bind(
      request.destination, buffers.output, isAligned: plan.isAligned, isWritten: true,
      over: canReplace ? "x" : nil)
    try bound.checkOverlaps()
    let constants = SoftmaxPushConstants(
      source: input.address, destination: output.address, rows: UInt32(request.rows),
      channels: UInt32(request.channels), sourceStride: UInt32(request.source.stride),
      destinationStride: UInt32(request.destination.stride), scale: request.scale)
    try wrappingDeviceErrors { () throws(VulkanError) in
      try recorder.dispatch(
        pipeline, pushConstants: constants, groups: plan.groups,
        accesses: [.read(input), .write(output)])
    }
  }
}

/// The push constants of `companion_softmax.comp`, field for field; a test compares the two.
struct SoftmaxPushConstants: BitwiseCopyable {
  var source: UInt64
  var destination: UInt64
  var rows: UInt32
  var channels: UInt32
  var sourceStride: UInt32
  var destinationStride: UInt32
  var scale: Float
  var reserved: UInt32 = 0
}
