/// The tensors of one rotation in device memory.
public struct RotaryBuffers: Sendable {
  /// x [N, H, D].
  public var input: DeviceBuffer
  /// y [N, H, D], written; x itself where types and strides are the same.
  public var output: DeviceBuffer
  /// Int32 [N].
  public var positions: DeviceBuffer
  /// ``RotaryEncoding/frequencyTable``.
  public var frequencies: DeviceBuffer

  /// Names the tensors.
  public init(
    input: DeviceBuffer, output: DeviceBuffer, positions: DeviceBuffer, frequencies: DeviceBuffer
  ) {
    self.input = input
    self.output = output
    self.positions = positions
    self.frequencies = frequencies
  }
}

/// Rotary embedding of queries, or of keys, on one device, ready to be recorded; see ``RotaryRequest``.
///
/// Deterministic; safe to share between tasks.
public final class RotaryKernel: Sendable {
  /// How the request runs.
  public let plan: RotaryPlan
  private let device: ComputeDevice
  private let pipeline: ComputePipeline

  /// The rotation.
  public var request: RotaryRequest { plan.request }

  /// Prepares a plan on a device; compiles its pipeline where no one has before.
  ///
  /// - Throws: `AttentionError.noPath` or `device`.
  public init(_ plan: RotaryPlan, on device: ComputeDevice) throws(AttentionError) {
    self.plan = plan
    self.device = device
    pipeline = try device.compiled(plan.pipelineDescription())
  }

  /// Plans and prepares a request.
  ///
  /// - Throws: what `RotaryPlan.init` and the other initialiser throw.
  public convenience init(
    _ request: RotaryRequest, on device: ComputeDevice
  ) throws(AttentionError) {
    try self.init(RotaryPlan(request, device: device.capabilities), on: device)
  }

  /// Appends the rotation to a recorder. It does not submit, wait or allocate.
  ///
  /// - Throws: `AttentionError.bufferTooSmall`, `misaligned`, `overlappingOutput` or `device`, before
  ///   anything is appended.
  public func record(
    _ buffers: RotaryBuffers, into recorder: Recorder
  ) throws(AttentionError) {
    let request = request
    func alignment(_ type: ElementType) -> Int {
      plan.isAligned ? BoundBuffers.vectorAlignment : type.byteCount
    }
    var bound = BoundBuffers(on: device)
    let input = try bound.bind(
      "x", buffers.input, bytes: request.inputByteCount, alignment: alignment(request.elementType))
    let positions = try bound.bind("positions", buffers.positions, bytes: request.tokens * 4)
    let frequencies = try bound.bind(
      "frequencies", buffers.frequencies, bytes: request.rotary.tableByteCount, alignment: 8)
    let output = try bound.bind(
      "y", buffers.output, bytes: request.outputByteCount,
      alignment: alignment(request.outputType), isWritten: true,
      over: request.canReplace ? "x" : nil)
    try bound.checkOverlaps()
    let constants = RotaryPushConstants(
      source: input.address, destination: output.address, positions: positions.address,
      frequencies: frequencies.address,
      // Strides along an axis of extent 1 are not checked and not used.
      sourceTokenStride: UInt32(truncatingIfNeeded: request.strides.token),
      sourceHeadStride: UInt32(truncatingIfNeeded: request.strides.head),
      destinationTokenStride: UInt32(truncatingIfNeeded: request.outputStrides.token),
      destinationHeadStride: UInt32(truncatingIfNeeded: request.outputStrides.head),
      tokens: UInt32(request.tokens), attentionFactor: Float(request.rotary.attentionFactor))
    try wrappingDeviceErrors { () throws(VulkanError) in
      try recorder.dispatch(
        pipeline, pushConstants: constants, groups: plan.groups,
        accesses: [.read(input), .read(positions), .read(frequencies), .write(output)])
    }
  }
}

/// The push constants of `rotary_rotate.comp`, field for field; a test compares the two.
struct RotaryPushConstants: BitwiseCopyable {
  var source: UInt64
  var destination: UInt64
  var positions: UInt64
  var frequencies: UInt64
  var sourceTokenStride: UInt32
  var sourceHeadStride: UInt32
  var destinationTokenStride: UInt32
  var destinationHeadStride: UInt32
  var tokens: UInt32
  var attentionFactor: Float
  var reserved0: UInt32 = 0
  var reserved1: UInt32 = 0
}
