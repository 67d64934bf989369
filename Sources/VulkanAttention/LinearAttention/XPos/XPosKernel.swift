internal import ShaderLibrary

/// Queries, or keys, to be turned and scaled by their positions (``XPosEncoding``).
///
/// Letters: N tokens, H heads, D channels. Positions are Int32 in device memory, any of them whose scale is in range.
public struct XPosRequest: Sendable, Hashable {
  /// N.
  public let tokens: Int
  /// H.
  public let heads: Int
  /// D.
  public let channels: Int
  /// How channels are turned and scaled.
  public let encoding: XPosEncoding
  /// The type of x.
  public let elementType: ElementType
  /// The type of y.
  public let outputType: ElementType
  /// Where x [N, H, D] lies; `batch` has no meaning.
  public let strides: TensorStrides
  /// Where y [N, H, D] lies.
  public let outputStrides: TensorStrides

  /// States an encoding; what no device could run is refused here.
  ///
  /// - Parameters:
  ///   - tokens: N, 1 or more.
  ///   - heads: H, 1 or more.
  ///   - channels: D, from 1 to 576, and at least those that are turned.
  ///   - encoding: how channels are turned and scaled.
  ///   - elementType: the type of x.
  ///   - outputType: the type of y; `elementType` by default.
  ///   - strides: contiguous [N, H, D] by default.
  ///   - outputStrides: `strides` by default, which is how y can be x.
  /// - Throws: `AttentionError.invalidArgument` or `tooLarge`.
  public init(
    tokens: Int, heads: Int, channels: Int, encoding: XPosEncoding,
    elementType: ElementType = .f32, outputType: ElementType? = nil,
    strides: TensorStrides? = nil, outputStrides: TensorStrides? = nil
  ) throws(AttentionError) {
    // What the two share is refused with the same words.
    let rotary = try RotaryRequest(
      tokens: tokens, heads: heads, channels: channels, rotary: encoding.rotary,
      elementType: elementType, outputType: outputType, strides: strides,
      outputStrides: outputStrides)
    self.tokens = tokens
    self.heads = heads
    self.channels = channels
    self.encoding = encoding
    self.elementType = elementType
    self.outputType = rotary.outputType
    self.strides = rotary.strides
    self.outputStrides = rotary.outputStrides
    inputByteCount = rotary.inputByteCount
    outputByteCount = rotary.outputByteCount
    canReplace = rotary.canReplace
  }

  /// Bytes up to the end of x's last row.
  public let inputByteCount: Int
  /// Bytes up to the end of y's last row.
  public let outputByteCount: Int
  /// Whether y may be x: rows of the same place and size.
  let canReplace: Bool
}

/// The tensors of one xPos encoding in device memory.
public struct XPosBuffers: Sendable {
  /// x [N, H, D].
  public var input: DeviceBuffer
  /// y [N, H, D], written; x itself where types and strides are the same.
  public var output: DeviceBuffer
  /// Int32 [N].
  public var positions: DeviceBuffer
  /// ``RotaryEncoding/frequencyTable``.
  public var frequencies: DeviceBuffer
  /// ``XPosEncoding/rateTable(isKey:)`` of queries, or of keys.
  public var rates: DeviceBuffer

  /// Names the tensors.
  public init(
    input: DeviceBuffer, output: DeviceBuffer, positions: DeviceBuffer, frequencies: DeviceBuffer,
    rates: DeviceBuffer
  ) {
    self.input = input
    self.output = output
    self.positions = positions
    self.frequencies = frequencies
    self.rates = rates
  }
}

/// How an xPos encoding runs on a device.
public struct XPosPlan: Sendable, Hashable {
  /// The encoding.
  public let request: XPosRequest
  let groups: WorkgroupCount

  static let shaderName = "xpos_rotate"
  static let workgroupSize = 64

  /// Plans an encoding for a device.
  ///
  /// - Throws: `AttentionError.tooLarge`, or `device(.limitExceeded)` where the grid is too large.
  public init(_ request: XPosRequest, device: DeviceCapabilities) throws(AttentionError) {
    self.request = request
    let pairs = request.encoding.rotary.frequencies.count
    groups = try .forInvocations(
      [request.tokens, request.heads, pairs + ceilingDivide(request.channels - 2 * pairs, 2)],
      workgroupSize: Self.workgroupSize, shader: Self.shaderName, device: device)
  }

  func pipelineDescription() throws(AttentionError) -> PipelineDescription {
    let shader = try ShaderBinary.required(Self.shaderName)
    let rotary = request.encoding.rotary
    return PipelineDescription(
      shader: shader,
      constants: [
        "local_size_x": UInt32(Self.workgroupSize),
        "CHANNELS": UInt32(request.channels),
        "HEADS": UInt32(request.heads),
        "SOURCE_TYPE": request.elementType.shaderConstant,
        "OUTPUT_TYPE": request.outputType.shaderConstant,
        "PAIRS": UInt32(rotary.frequencies.count),
        "INTERLEAVED": rotary.pairing == .interleaved ? 1 : 0,
      ])
  }
}

/// xPos encoding of queries, or of keys, on one device, ready to be recorded; see ``XPosEncoding``.
///
/// Deterministic; safe to share between tasks.
public final class XPosKernel: Sendable {
  /// How the request runs.
  public let plan: XPosPlan
  private let device: ComputeDevice
  private let pipeline: ComputePipeline

  /// The encoding.
  public var request: XPosRequest { plan.request }

  /// Prepares a plan on a device; compiles its pipeline where no one has before.
  ///
  /// - Throws: `AttentionError.noPath` or `device`.
  public init(_ plan: XPosPlan, on device: ComputeDevice) throws(AttentionError) {
    self.plan = plan
    self.device = device
    pipeline = try device.compiled(plan.pipelineDescription())
  }

  /// Plans and prepares a request.
  ///
  /// - Throws: what `XPosPlan.init` and the other initialiser throw.
  public convenience init(
    _ request: XPosRequest, on device: ComputeDevice
  ) throws(AttentionError) {
    try self.init(XPosPlan(request, device: device.capabilities), on: device)
  }

  /// Appends the encoding to a recorder. It does not submit, wait or allocate.
  ///
  /// - Throws: `AttentionError.bufferTooSmall`, `misaligned`, `overlappingOutput` or `device`, before
  ///   anything is appended.
  public func record(_ buffers: XPosBuffers, into recorder: Recorder) throws(AttentionError) {
    let request = request
    var bound = BoundBuffers(on: device)
    let input = try bound.bind(
      "x", buffers.input, bytes: request.inputByteCount, alignment: request.elementType.byteCount)
    let positions = try bound.bind("positions", buffers.positions, bytes: request.tokens * 4)
    let frequencies = try bound.bind(
      "frequencies", buffers.frequencies, bytes: request.encoding.rotary.tableByteCount,
      alignment: 8)
    let rates = try bound.bind(
      "rates", buffers.rates, bytes: request.encoding.rotary.frequencies.count * 4)
    let output = try bound.bind(
      "y", buffers.output, bytes: request.outputByteCount,
      alignment: request.outputType.byteCount, isWritten: true,
      over: request.canReplace ? "x" : nil)
    try bound.checkOverlaps()
    let constants = XPosPushConstants(
      source: input.address, destination: output.address, positions: positions.address,
      frequencies: frequencies.address, rates: rates.address,
      // Strides along an axis of extent 1 are not checked and not used.
      sourceTokenStride: UInt32(truncatingIfNeeded: request.strides.token),
      sourceHeadStride: UInt32(truncatingIfNeeded: request.strides.head),
      destinationTokenStride: UInt32(truncatingIfNeeded: request.outputStrides.token),
      destinationHeadStride: UInt32(truncatingIfNeeded: request.outputStrides.head),
      tokens: UInt32(request.tokens), origin: request.encoding.origin)
    try wrappingDeviceErrors { () throws(VulkanError) in
      try recorder.dispatch(
        pipeline, pushConstants: constants, groups: plan.groups,
        accesses: [
          .read(input), .read(positions), .read(frequencies), .read(rates), .write(output),
        ])
    }
  }
}

/// The push constants of `xpos_rotate.comp`, field for field; a test compares the two.
struct XPosPushConstants: BitwiseCopyable {
  var source: UInt64
  var destination: UInt64
  var positions: UInt64
  var frequencies: UInt64
  var rates: UInt64
  var sourceTokenStride: UInt32
  var sourceHeadStride: UInt32
  var destinationTokenStride: UInt32
  var destinationHeadStride: UInt32
  var tokens: UInt32
  var origin: Int32
}
