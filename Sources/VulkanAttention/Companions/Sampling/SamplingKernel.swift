/// The tensors of one choice of tokens in device memory.
public struct SamplingBuffers: Sendable {
  /// [N, V].
  public var logits: DeviceBuffer
  /// f32 [N], each from 0 up to but not including 1, where the request draws.
  public var uniforms: DeviceBuffer?
  /// Int32 [N], written.
  public var tokens: DeviceBuffer

  /// Names the tensors.
  public init(logits: DeviceBuffer, uniforms: DeviceBuffer? = nil, tokens: DeviceBuffer) {
    self.logits = logits
    self.uniforms = uniforms
    self.tokens = tokens
  }
}

/// A choice of tokens on one device, ready to be recorded; see ``SamplingRequest``.
///
/// Deterministic; safe to share between tasks.
public final class SamplingKernel: Sendable {
  /// How the request runs.
  public let plan: SamplingPlan
  private let device: ComputeDevice
  private let pipeline: ComputePipeline

  /// The choice.
  public var request: SamplingRequest { plan.request }

  /// Prepares a plan on a device; compiles its pipeline where no one has before.
  ///
  /// - Throws: `AttentionError.noPath` or `device`.
  public init(_ plan: SamplingPlan, on device: ComputeDevice) throws(AttentionError) {
    self.plan = plan
    self.device = device
    pipeline = try device.compiled(plan.pipelineDescription())
  }

  /// Plans and prepares a request.
  ///
  /// - Throws: what `SamplingPlan.init` and the other initialiser throw.
  public convenience init(
    _ request: SamplingRequest, on device: ComputeDevice
  ) throws(AttentionError) {
    try self.init(SamplingPlan(request, device: device.capabilities), on: device)
  }

  /// Appends the choice to a recorder. It does not submit, wait or allocate.
  ///
  /// - Throws: `AttentionError.bufferTooSmall`, `misaligned`, `overlappingOutput`, `invalidArgument` for uniform
  ///   numbers too many or missing, or `device`, before anything is appended.
  public func record(
    _ buffers: SamplingBuffers, into recorder: Recorder
  ) throws(AttentionError) {
    let request = request
    var bound = BoundBuffers(on: device)
    let logits = try bound.bind(request.source, buffers.logits, isAligned: false)
    let uniforms = try bound.bind(
      "uniforms", buffers.uniforms, isThere: request.takesUniforms, bytes: request.outputByteCount,
      alignment: 4)
    let tokens = try bound.bind(
      "tokens", buffers.tokens, bytes: request.outputByteCount, isWritten: true)
    try bound.checkOverlaps()
    let draw = plan.draw
    let constants = SamplingPushConstants(
      logits: logits.address, uniforms: uniforms?.address ?? 0, tokens: tokens.address,
      rows: UInt32(request.rows), vocabulary: UInt32(request.vocabulary),
      stride: UInt32(request.source.stride), topTokens: UInt32(draw?.topTokens ?? 0),
      topMass: draw?.topMass ?? 1,
      exponent: Float(1.442695040888963407 / Double(draw?.temperature ?? 1)))
    try wrappingDeviceErrors { () throws(VulkanError) in
      try recorder.dispatch(
        pipeline, pushConstants: constants, groups: plan.groups,
        accesses: [.read(logits), .write(tokens)] + [uniforms].compactMap { $0.map { .read($0) } })
    }
  }
}

/// The push constants of `companion_sample.comp`, field for field; a test compares the two.
struct SamplingPushConstants: BitwiseCopyable {
  var logits: UInt64
  var uniforms: UInt64
  var tokens: UInt64
  var rows: UInt32
  var vocabulary: UInt32
  var stride: UInt32
  var topTokens: UInt32
  var topMass: Float
  var exponent: Float
}
