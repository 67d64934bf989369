/// The tensors of one elementwise operation in device memory.
public struct ElementwiseBuffers: Sendable {
  /// a [N, C].
  public var first: DeviceBuffer
  /// b [N, C], where the request has it.
  public var second: DeviceBuffer?
  /// y [N, C], written; a or b itself where types and strides are the same.
  public var output: DeviceBuffer

  /// Names the tensors.
  public init(first: DeviceBuffer, second: DeviceBuffer? = nil, output: DeviceBuffer) {
    self.first = first
    self.second = second
    self.output = output
  }
}

/// An elementwise operation on one device, ready to be recorded; see ``ElementwiseRequest``.
///
/// Deterministic; safe to share between tasks.
public final class ElementwiseKernel: Sendable {
  /// How the request runs.
  public let plan: ElementwisePlan
  private let device: ComputeDevice
  private let pipeline: ComputePipeline

  /// The operation.
  public var request: ElementwiseRequest { plan.request }

  /// Prepares a plan on a device; compiles its pipeline where no one has before.
  ///
  /// - Throws: `AttentionError.noPath` or `device`.
  public init(_ plan: ElementwisePlan, on device: ComputeDevice) throws(AttentionError) {
    self.plan = plan
    self.device = device
    pipeline = try device.compiled(plan.pipelineDescription())
  }

  /// Plans and prepares a request.
  ///
  /// - Throws: what `ElementwisePlan.init` and the other initialiser throw.
  public convenience init(
    _ request: ElementwiseRequest, on device: ComputeDevice
  ) throws(AttentionError) {
    try self.init(ElementwisePlan(request, device: device.capabilities), on: device)
  }

  /// Appends the operation to a recorder. It does not submit, wait or allocate.
  ///
  /// - Throws: `AttentionError.bufferTooSmall`, `misaligned`, `overlappingOutput`, `invalidArgument` for a b too
  ///   many or missing, or `device`, before anything is appended.
  public func record(
    _ buffers: ElementwiseBuffers, into recorder: Recorder
  ) throws(AttentionError) {
    let request = request
    var bound = BoundBuffers(on: device)
    let first = try bound.bind(request.first, buffers.first, isAligned: plan.isAligned)
    let second = try bound.bind(
      "b", buffers.second, isThere: request.second != nil, bytes: request.secondByteCount,
      alignment: plan.isAligned ? BoundBuffers.vectorAlignment : request.inputType.byteCount)
    // Halves of one tensor are views that overlap: what counts is that y takes exactly one's place.
    func canReplace(_ rows: CompanionRows) -> Bool {
      request.inputType == request.outputType
        && (request.rows == 1 || rows.stride == request.destination.stride)
    }
    let isSecond = second.map { $0.address == buffers.output.address } ?? false
    let partner = isSecond ? request.second : request.first
    let output = try bound.bind(
      request.destination, buffers.output, isAligned: plan.isAligned, isWritten: true,
      over: partner.flatMap { canReplace($0) ? $0.name : nil })
    try bound.checkOverlaps()
    let constants = ElementwisePushConstants(
      first: first.address, second: second?.address ?? 0, destination: output.address,
      rows: UInt32(request.rows), channels: UInt32(request.channels),
      firstStride: UInt32(request.first.stride), secondStride: UInt32(request.second?.stride ?? 0),
      destinationStride: UInt32(request.destination.stride))
    try wrappingDeviceErrors { () throws(VulkanError) in
      try recorder.dispatch(
        pipeline, pushConstants: constants, groups: plan.groups,
        accesses: [.read(first), .write(output)] + [second].compactMap { $0.map { .read($0) } })
    }
  }
}

/// The push constants of `companion_elementwise.comp`, field for field; a test compares the two.
struct ElementwisePushConstants: BitwiseCopyable {
  var first: UInt64
  var second: UInt64
  var destination: UInt64
  var rows: UInt32
  var channels: UInt32
  var firstStride: UInt32
  var secondStride: UInt32
  var destinationStride: UInt32
  var reserved: UInt32 = 0
}
