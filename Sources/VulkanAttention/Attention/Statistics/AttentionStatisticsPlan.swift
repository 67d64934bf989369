internal import ShaderLibrary

/// How statistics run on a device; a pure function of the request and the device's capabilities.
public struct AttentionStatisticsPlan: Sendable, Hashable {
  /// The statistics.
  public let request: AttentionStatisticsRequest
  /// Keys or query rows of one workgroup.
  let workgroupSize: Int
  /// Rows or keys whose products an invocation makes at once.
  let block: Int
  /// What the pipelines have to know of the attention's options.
  let options: AttentionOptionBits
  /// Where the parts of the scratch memory lie.
  let scratch: AttentionScratch
  /// The most workgroups of one dispatch along x, y and z.
  let groupLimits: [Int]
  /// The statistics in the order and in the portions in which they are submitted; none where there are no
  /// keys. A tile of a single head is not cut: 32 rows of two million keys with 128 channels are within
  /// the bound.
  let pieces: [Piece]

  static let shaderName = "attention_statistics"

  /// Bytes of scratch memory that the kernel needs while it runs, 0 for none.
  public var scratchByteCount: Int { scratch.byteCount }

  /// Plans statistics for a device.
  ///
  /// - Parameters:
  ///   - request: the statistics.
  ///   - device: what the device can do.
  /// - Throws: `AttentionError.tooLarge` for a Transformer-XL term that cannot be addressed.
  public init(
    _ request: AttentionStatisticsRequest, device: DeviceCapabilities
  ) throws(AttentionError) {
    try self.init(
      request, device: device, operationsPerPiece: AttentionPlan.operationsPerPiece(device))
  }

  /// Plans with a bound of one's own for the work of one submission.
  init(
    _ request: AttentionStatisticsRequest, device: DeviceCapabilities, operationsPerPiece: Double
  ) throws(AttentionError) {
    let attention = request.attention
    self.request = request
    // As the row path of the attention; not measured on a GPU.
    let workgroupSize = device.kind == .cpu ? 32 : 64
    self.workgroupSize = workgroupSize
    block = Self.block(attention)
    if attention.operand(.relativeKeys) != nil, attention.relativeTermLayout == nil {
      throw .tooLarge(tensor: "the Transformer-XL term")
    }
    options = AttentionOptionBits(attention).subtracting([.resume, .returnState])
    scratch = AttentionScratch(attention, options: options, packing: nil, carryByteCount: 0)
    groupLimits = device.maxWorkgroupCount
    pieces =
      !request.hasKeys
      ? []
      : request.statistics.enumerated().flatMap { index, statistic in
        let tokens = statistic.isByKey ? attention.keyTokens : attention.queryTokens
        return PieceCutter(
          tileCount: ceilingDivide(tokens, workgroupSize), heads: attention.queryHeads,
          batches: attention.batchSize, groupLimits: device.maxWorkgroupCount,
          budget: operationsPerPiece, keys: nil
        ) { tiles in
          let end = min(tiles.upperBound * workgroupSize, tokens)
          return request.operations(
            of: statistic, for: tiles.lowerBound * workgroupSize..<end)
        }.pieces().map {
          Piece(statistic: index, tiles: $0.tiles, heads: $0.heads, batches: $0.batches)
        }
      }
  }

  /// As many independent sums as hide a multiply-add's latency; fewer where the unrolled loop would take
  /// long to compile. First runs: D = 256 f32 with 4 rows or keys at once 3.5 s, f16 with 2 of them 1.5 s;
  /// 64 top keys of D = 576 f32 with 2 of them 11 s (lavapipe of Mesa 26.1.6, EPYC Zen 3, machine busy).
  /// What one at a time takes at D = 576 was not measured.
  private static func block(_ attention: AttentionRequest) -> Int {
    max(1, min(4, 512 / attention.headSize))
  }

  /// One dispatch, and what is submitted at once.
  struct Piece: Sendable, Hashable {
    /// The statistic's place in the request.
    let statistic: Int
    /// Tiles of keys or of query rows.
    let tiles: Range<Int>
    let heads: Range<Int>
    let batches: Range<Int>
  }

  /// The pipeline of a statistic.
  func pipelineDescription(
    _ statistic: AttentionStatistic
  ) throws(AttentionError) -> PipelineDescription {
    let shader = try ShaderBinary.required(Self.shaderName)
    let attention = request.attention
    var constants: [String: UInt32] = [
      "local_size_x": UInt32(workgroupSize),
      "HEAD_SIZE_QK": UInt32(attention.headSize),
      "QUERY_TYPE": attention.elementType.shaderConstant,
      "KEY_TYPE": attention.keyType.shaderConstant,
      "BIAS_TYPE": attention.operand(.bias)?.elementType.shaderConstant ?? 0,
      "ALIGNED": attention.isAligned ? 1 : 0,
      "STATISTIC": statistic.shaderConstant,
      "BLOCK": UInt32(block),
    ]
    constants.merge(options.constants) { $1 }
    if case .topKeys(let count) = statistic { constants["TOP_KEYS"] = UInt32(count) }
    return PipelineDescription(shader: shader, constants: constants)
  }
}
