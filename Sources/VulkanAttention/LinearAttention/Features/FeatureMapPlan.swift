internal import ShaderLibrary

/// How a feature map runs on a device; a pure function of the request and the device's capabilities.
public struct FeatureMapPlan: Sendable, Hashable {
  /// The map.
  public let request: FeatureMapRequest
  /// The dispatches, one behind the other.
  let passes: [Pass]
  /// The parts of each sequence that are measured side by side; 0 where nothing of a sequence must be known.
  let partCount: Int

  /// One dispatch.
  struct Pass: Sendable, Hashable {
    let stage: Stage
    let groups: WorkgroupCount
    let workgroupSize: Int
    /// What the shader takes as the parts of a sequence: tiles of 4 tokens where FAVOR+ is written.
    let parts: Int
    let tokensPerPart: Int
    /// Invocations that share a row; 0 where none is added up.
    var lanes = 0
  }

  /// What a dispatch does.
  enum Stage: Sendable, Hashable {
    /// `feature_map`.
    case map
    /// `feature_tokens`: maxima and sums of parts of sequences.
    case measureTokens
    /// `feature_favor`: the largest exponents of parts of sequences.
    case measureFavor
    /// `feature_tokens`: parts put together.
    case join
    /// `feature_favor`.
    case favor

    var shaderName: String {
      switch self {
      case .map: "feature_map"
      case .measureTokens, .join: "feature_tokens"
      case .measureFavor, .favor: "feature_favor"
      }
    }
  }

  /// Tokens of a workgroup of `feature_favor.comp`.
  static let favorRows = 4
  /// Workgroups of all but FAVOR+ and rows; not measured on a GPU.
  static let workgroupSize = 64
  /// The fewest tokens of a part of a sequence, and the most parts: the parts are joined one after the other.
  static let tokensPerPart = 64
  static let mostParts = 256

  /// Bytes of scratch memory that the kernel needs while it runs, 0 for none.
  public var scratchByteCount: Int {
    guard partCount > 0 else { return 0 }
    // `init` has checked that this does not overflow.
    return request.sequenceCount * request.heads * pairWidth * 8
      * (partCount == 1 ? 1 : partCount + 1)
  }

  /// Pairs of scratch memory for a sequence and head.
  var pairWidth: Int { request.map == .tokenSoftmax ? request.channels : 1 }

  /// Plans a map for a device.
  ///
  /// - Throws: `AttentionError.tooLarge`, or `device(.limitExceeded)` where a grid is too large.
  public init(_ request: FeatureMapRequest, device: DeviceCapabilities) throws(AttentionError) {
    self.request = request
    partCount = request.map.dependsOnSequence ? try Self.partCount(request, device) : 0
    var passes: [Pass] = []
    let rows = [request.batchSize, request.tokens, request.heads]
    let sequences = [request.sequenceCount, request.heads]
    func pass(
      _ stage: Stage, _ invocations: [Int], workgroupSize: Int = Self.workgroupSize,
      perGroup: Int? = nil, parts: Int = 1, tokensPerPart: Int = 1, lanes: Int = 0
    ) throws(AttentionError) {
      passes.append(
        Pass(
          stage: stage,
          groups: try .forInvocations(
            invocations, workgroupSize: perGroup ?? workgroupSize, shader: stage.shaderName,
            device: device),
          workgroupSize: workgroupSize, parts: parts, tokensPerPart: tokensPerPart, lanes: lanes))
    }
    let perPart = ceilingDivide(request.longestSequence, max(partCount, 1))
    if case .favorPlus(_, _, let stabilizer) = request.map {
      let size = Self.favorWorkgroupSize(request, device)
      if stabilizer == .sequence {
        try pass(
          .measureFavor, sequences + [partCount], workgroupSize: size, perGroup: 1,
          parts: partCount, tokensPerPart: perPart)
        if partCount > 1 { try pass(.join, sequences, parts: partCount, tokensPerPart: perPart) }
      }
      let tiles = ceilingDivide(request.longestSequence, Self.favorRows)
      try pass(
        .favor, sequences + [tiles], workgroupSize: size, perGroup: 1, parts: tiles,
        tokensPerPart: Self.favorRows)
    } else if request.map.isByRow {
      let lanes = Self.lanes(request, device)
      try pass(.map, rows + [lanes], lanes: lanes)
    } else {
      if request.map == .tokenSoftmax {
        try pass(
          .measureTokens, sequences + [partCount, ceilingDivide(request.channels, 4)],
          parts: partCount, tokensPerPart: perPart)
        if partCount > 1 {
          try pass(
            .join, sequences + [request.channels], parts: partCount, tokensPerPart: perPart)
        }
      }
      try pass(.map, rows + [ceilingDivide(request.outputChannels, 4)])
    }
    self.passes = passes
  }

  /// Parts of a sequence enough to fill the device.
  private static func partCount(
    _ request: FeatureMapRequest, _ device: DeviceCapabilities
  ) throws(AttentionError) -> Int {
    let width = request.map == .tokenSoftmax ? request.channels : 1
    // In pairs of f32, each sequence, head and part one.
    let (pairs, overflows) = request.sequenceCount.multipliedReportingOverflow(
      by: request.heads * width)
    guard !overflows, pairs <= 1 << 40 else { throw .tooLarge(tensor: "scratch") }
    // How many cores a GPU has cannot be asked; not measured on one.
    let wanted = device.kind == .cpu ? 16 : 512
    let groups =
      request.map == .tokenSoftmax
      ? ceilingDivide(
        request.sequenceCount * request.heads * ceilingDivide(request.channels, 4), workgroupSize)
      : request.sequenceCount * request.heads
    let most = min(mostParts, ceilingDivide(request.longestSequence, tokensPerPart))
    return max(1, min(most, ceilingDivide(wanted, groups)))
  }

  /// A power of two, with at most 8 features for each invocation.
  static func favorWorkgroupSize(
    _ request: FeatureMapRequest, _ device: DeviceCapabilities
  ) -> Int {
    var size = device.kind == .cpu ? 16 : 64
    while size * 8 < request.outputChannels { size *= 2 }
    return size
  }

  /// Invocations that share a row: 16 channels for each of at most 16 of them, neighbours beside one another; one on
  /// a processor, which has nothing to gain from neighbours and pays for every barrier.
  private static func lanes(_ request: FeatureMapRequest, _ device: DeviceCapabilities) -> Int {
    if device.kind == .cpu { return 1 }
    var lanes = 1
    while lanes < 16, lanes * 16 < request.channels { lanes *= 2 }
    return lanes
  }

  func pipelineDescription(_ pass: Pass) throws(AttentionError) -> PipelineDescription {
    let name = pass.stage.shaderName
    let shader = try ShaderBinary.required(name)
    var constants: [String: UInt32] = [
      "local_size_x": UInt32(pass.workgroupSize),
      "CHANNELS": UInt32(request.channels),
      "HEADS": UInt32(request.heads),
      "SOURCE_TYPE": request.elementType.shaderConstant,
      "OUTPUT_TYPE": request.outputType.shaderConstant,
      "FEATURES": UInt32(request.features),
      "OUTPUT_CHANNELS": UInt32(request.outputChannels),
      "SOURCE_ALIGNED": request.source.isAligned ? 1 : 0,
      "OUTPUT_ALIGNED": request.destination.isAligned ? 1 : 0,
      "PACKED": request.packedSequences == nil ? 0 : 1,
      "STAGE": pass.stage == .join ? 1 : 0,
      "WIDTH": UInt32(pairWidth),
      "LANES": UInt32(pass.lanes),
      "HAS_POSITIONS": request.hasPositions ? 1 : 0,
      "PROJECTION_ALIGNED": request.channels % 8 == 0 ? 1 : 0,
      "MEASURES": pass.stage == .measureFavor ? 1 : 0,
      "PER_INVOCATION": UInt32(ceilingDivide(request.outputChannels, pass.workgroupSize)),
    ]
    if let map = request.map.shaderConstant { constants["MAP"] = map }
    if case .favorPlus(_, _, let stabilizer) = request.map {
      constants["STABILIZER"] =
        switch stabilizer {
        case .none: 0
        case .token: 1
        case .sequence: 2
        }
    }
    // A shader keeps those that it reads.
    let names = Set(shader.specializationConstants.map(\.name))
    return PipelineDescription(
      shader: shader, constants: constants.filter { names.contains($0.key) })
  }
}
