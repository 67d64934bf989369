/// The tensors of one feature map in device memory.
public struct FeatureMapBuffers: Sendable {
  /// x [B, T, H, D].
  public var input: DeviceBuffer
  /// y [B, T, H, M], written; x itself where types, channels and strides are the same.
  public var output: DeviceBuffer
  /// w, f32 [M, D], for FAVOR+ alone: rows of a random matrix, usually orthogonal in blocks of D, of the lengths of
  /// normal vectors.
  public var projection: DeviceBuffer?
  /// Int32 [N + 1], rising, with packed sequences.
  public var sequenceStarts: DeviceBuffer?
  /// Int32 [B, T], where the request has positions.
  public var positions: DeviceBuffer?
  /// Working memory of ``FeatureMapPlan/scratchByteCount`` bytes, where that is not 0.
  public var scratch: DeviceBuffer?

  /// Names the tensors.
  public init(
    input: DeviceBuffer, output: DeviceBuffer, projection: DeviceBuffer? = nil,
    sequenceStarts: DeviceBuffer? = nil, positions: DeviceBuffer? = nil,
    scratch: DeviceBuffer? = nil
  ) {
    self.input = input
    self.output = output
    self.projection = projection
    self.sequenceStarts = sequenceStarts
    self.positions = positions
    self.scratch = scratch
  }
}

/// A feature map of queries, or of keys, on one device, ready to be recorded; see ``FeatureMapRequest``.
///
///     let request = try FeatureMapRequest(
///       tokens: 4096, heads: 16, channels: 16, map: .taylor2(.symmetric), outputChannels: 160)
///     try FeatureMapKernel(request, on: device)
///       .record(FeatureMapBuffers(input: q, output: features), into: recorder)
///
/// Deterministic; safe to share between tasks.
public final class FeatureMapKernel: Sendable {
  /// How the request runs.
  public let plan: FeatureMapPlan
  private let device: ComputeDevice
  private let pipelines: [ComputePipeline]

  /// The map.
  public var request: FeatureMapRequest { plan.request }

  /// Prepares a plan on a device; compiles its pipelines where no one has before.
  ///
  /// - Throws: `AttentionError.noPath` or `device`.
  public init(_ plan: FeatureMapPlan, on device: ComputeDevice) throws(AttentionError) {
    self.plan = plan
    self.device = device
    var pipelines: [ComputePipeline] = []
    for pass in plan.passes {
      pipelines.append(try device.compiled(plan.pipelineDescription(pass)))
    }
    self.pipelines = pipelines
  }

  /// Plans and prepares a request.
  ///
  /// - Throws: what `FeatureMapPlan.init` and the other initialiser throw.
  public convenience init(
    _ request: FeatureMapRequest, on device: ComputeDevice
  ) throws(AttentionError) {
    try self.init(FeatureMapPlan(request, device: device.capabilities), on: device)
  }

  /// Appends the map to a recorder. It does not submit, wait or allocate.
  ///
  /// - Throws: `AttentionError.bufferTooSmall`, `misaligned`, `overlappingOutput`, `missingScratchBuffer`,
  ///   `invalidArgument` for a buffer that is missing or was not asked for, or `device`, before anything is appended.
  public func record(
    _ buffers: FeatureMapBuffers, into recorder: Recorder
  ) throws(AttentionError) {
    let request = request
    var bound = BoundBuffers(on: device)
    let input = try bound.bind(
      "x", buffers.input, bytes: request.inputByteCount,
      alignment: request.source.isAligned
        ? BoundBuffers.vectorAlignment : request.elementType.byteCount)
    let projection = try bound.bindOptional(
      "projection", buffers.projection, bytes: request.projectionByteCount,
      alignment: BoundBuffers.vectorAlignment)
    let starts = try bound.bindOptional(
      "sequenceStarts", buffers.sequenceStarts,
      bytes: request.packedSequences.map { ($0 + 1) * 4 } ?? 0)
    let positions = try bound.bindOptional(
      "positions", buffers.positions,
      bytes: request.hasPositions ? request.batchSize * request.tokens * 4 : 0)
    let scratch = try bound.bindScratch(buffers.scratch, bytes: plan.scratchByteCount)
    let output = try bound.bind(
      "y", buffers.output, bytes: request.outputByteCount,
      alignment: request.destination.isAligned
        ? BoundBuffers.vectorAlignment : request.outputType.byteCount,
      isWritten: true, over: request.canReplace ? "x" : nil)
    try bound.checkOverlaps()

    var constants = FeatureMapPushConstants(request)
    constants.source = input.address
    constants.destination = output.address
    constants.starts = starts?.address ?? 0
    constants.positions = positions?.address ?? 0
    constants.projection = projection?.address ?? 0
    constants.scratch = scratch?.address ?? 0
    var accesses: [BufferAccess] = [.read(input), .write(output)]
    accesses += [starts, positions, projection].compactMap { $0 }.map { .read($0) }
    if let scratch { accesses.append(.readWrite(scratch)) }
    for (pass, pipeline) in zip(plan.passes, pipelines) {
      constants.parts = UInt32(pass.parts)
      constants.tokensPerPart = UInt32(pass.tokensPerPart)
      try wrappingDeviceErrors { () throws(VulkanError) in
        try recorder.dispatch(
          pipeline, pushConstants: constants, groups: pass.groups, accesses: accesses)
      }
    }
  }
}

extension BoundBuffers {
  /// A tensor that a request may have: nothing where it needs no bytes.
  ///
  /// - Throws: `AttentionError.invalidArgument` for one that is missing or was not asked for, and what `bind` throws.
  mutating func bindOptional(
    _ name: String, _ buffer: DeviceBuffer?, bytes: Int, alignment: Int = 4,
    isWritten: Bool = false, over partner: String? = nil
  ) throws(AttentionError) -> DeviceBuffer? {
    guard let buffer else {
      guard bytes == 0 else {
        throw .invalidArgument(
          name: name, value: "nil", allowed: "a buffer of \(bytes) bytes, which the request needs")
      }
      return nil
    }
    guard bytes > 0 else {
      throw .invalidArgument(
        name: name, value: "a buffer", allowed: "none, the request has no such tensor")
    }
    return try bind(
      name, buffer, bytes: bytes, alignment: alignment, isWritten: isWritten, over: partner)
  }
}

/// The push constants of `feature_interface.glsl`, field for field; a test compares the two.
struct FeatureMapPushConstants: BitwiseCopyable {
  var source: UInt64 = 0
  var destination: UInt64 = 0
  var starts: UInt64 = 0
  var positions: UInt64 = 0
  var projection: UInt64 = 0
  var scratch: UInt64 = 0
  var frequency: UInt64 = 0
  var sourceBatchStride: UInt32
  var sourceTokenStride: UInt32
  var sourceHeadStride: UInt32
  var destinationBatchStride: UInt32
  var destinationTokenStride: UInt32
  var destinationHeadStride: UInt32
  var batches: UInt32
  var tokens: UInt32
  var sequences: UInt32
  var parts: UInt32 = 1
  var tokensPerPart: UInt32 = 1
  var scale: Float
  var epsilon: Float = 0
  var reserved: UInt32 = 0

  init(_ request: FeatureMapRequest) {
    // Strides along an axis of extent 1 are not checked and not used.
    sourceBatchStride = UInt32(truncatingIfNeeded: request.strides.batch)
    sourceTokenStride = UInt32(truncatingIfNeeded: request.strides.token)
    sourceHeadStride = UInt32(truncatingIfNeeded: request.strides.head)
    destinationBatchStride = UInt32(truncatingIfNeeded: request.outputStrides.batch)
    destinationTokenStride = UInt32(truncatingIfNeeded: request.outputStrides.token)
    destinationHeadStride = UInt32(truncatingIfNeeded: request.outputStrides.head)
    batches = UInt32(request.batchSize)
    tokens = UInt32(request.tokens)
    sequences = UInt32(request.sequenceCount)
    scale = request.scale
    switch request.map {
    case .l2Norm(let epsilon), .favorPlus(_, let epsilon, _): self.epsilon = epsilon
    case .cosFormer(let maximum):
      // π / 2M radians are 1 / 4M of a turn.
      let (quotient, remainder) = UInt64(4 * maximum).dividingFullWidth((1, 0))
      frequency = remainder * 2 >= UInt64(4 * maximum) ? quotient + 1 : quotient
    default: break
    }
  }
}
