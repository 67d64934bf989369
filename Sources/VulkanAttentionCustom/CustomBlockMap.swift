internal import ShaderLibrary

/// The block map of an attention with a mask of one's own, computed on the device.
///
/// Without a map every key is asked for. With one, ``CustomAttention`` skips the blocks that the mask and the
/// request's masks that are data hide from all rows, and does not ask in blocks where they hide nothing. The map is
/// the same for every layer with the same masks: compute it once.
///
///     var mask = AttentionMask.none
///     let request = try AttentionRequest(
///       …, mask: mask, operands: [.init(.blockMap, shared: [.batch, .heads])])
///     let map = try await CustomBlockMap(request, mask: .slidingWindow(…), on: device)
///     try map.record(operands: [.blockMap: blocks], scratch: scratch, into: recorder)   // written
///     let attention = try await CustomAttention(request, mask: .slidingWindow(…), on: device)
///     buffers.operands[.blockMap] = blocks                                              // read
///
/// The map may share the axis of batch entries or of heads only where the mask says the same for all of them:
/// nothing can check that. `AttentionBlockMapKernel` tells what the numbers mean. Block masks: FlexAttention,
/// https://arxiv.org/abs/2412.05496. Safe to share between tasks: it holds a pipeline, no buffers.
public struct CustomBlockMap: Sendable {
  private let kernel: AttentionBlockMapKernel
  private let parameters: CustomParameters

  /// Bytes of scratch memory that it needs while it runs.
  public var scratchByteCount: Int { kernel.scratchByteCount }

  /// Compiles the look-ups with the mask and prepares their pipeline.
  ///
  /// - Parameters:
  ///   - request: the attention, with an operand `blockMap`.
  ///   - mask: the mask.
  ///   - device: where it runs.
  ///   - isChecked: whether an index outside of a user's buffer is caught, as for `CustomAttention`.
  ///   - compiler: what compiles and keeps shaders.
  /// - Throws: `CustomAttentionError`.
  public init(
    _ request: AttentionRequest, mask: MaskModification, on device: ComputeDevice,
    isChecked: Bool = false, compiler: CustomCompiler = .shared
  ) async throws(CustomAttentionError) {
    let shader = try wrappingAttentionErrors { () throws(AttentionError) in
      try ShaderBinary.required(AttentionBlockMapKernel.shaderName)
    }
    let parameters = try CustomParameters([mask.function])
    let custom = try await CustomShader.compile(
      shader, [mask.function], parameters, isChecked: isChecked, device: device.capabilities,
      compiler: compiler)
    self.parameters = parameters
    kernel = try wrappingAttentionErrors { () throws(AttentionError) in
      try AttentionBlockMapKernel(
        request, on: device, customShader: custom, customByteCount: CustomBlock.byteCount)
    }
  }

  /// Appends the map to a recorder. It does not submit, wait or allocate.
  ///
  /// - Parameters:
  ///   - operands: the attention's; `blockMap` is written.
  ///   - userBuffers: the mask's buffers by their names, each to its end.
  ///   - scalars: the mask's scalars by their names.
  ///   - scratch: at least ``scratchByteCount`` bytes.
  ///   - recorder: what is appended to.
  /// - Throws: `CustomAttentionError.invalidInputs` or `attention`, before anything is appended.
  public func record(
    operands: [AttentionOperand.Kind: DeviceBuffer], userBuffers: [String: DeviceBuffer] = [:],
    scalars: [String: CustomScalar.Value] = [:], scratch: DeviceBuffer, into recorder: Recorder
  ) throws(CustomAttentionError) {
    let custom = try CustomBlock.inputs(parameters, buffers: userBuffers, scalars: scalars)
    try wrappingAttentionErrors { () throws(AttentionError) in
      try kernel.record(operands: operands, scratch: scratch, custom: custom, into: recorder)
    }
  }

  /// Computes the map piece by piece and returns when it is there; a cancelled task stops before the next piece.
  ///
  /// - Throws: as `record`.
  public func run(
    operands: [AttentionOperand.Kind: DeviceBuffer], userBuffers: [String: DeviceBuffer] = [:],
    scalars: [String: CustomScalar.Value] = [:], scratch: DeviceBuffer
  ) async throws(CustomAttentionError) {
    let custom = try CustomBlock.inputs(parameters, buffers: userBuffers, scalars: scalars)
    do {
      try await kernel.run(operands: operands, scratch: scratch, custom: custom)
    } catch {
      throw .attention(error)
    }
  }
}
