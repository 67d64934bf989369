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
    let attention = request.attention
    self.request = request
    // As the row path of the attention; not measured on a GPU.
    workgroupSize = device.kind == .cpu ? 32 : 64
    block = Self.block(attention)
    if attention.operand(.relativeKeys) != nil, attention.relativeTermLayout == nil {
      throw .tooLarge(tensor: "the Transformer-XL term")
    }
    options = AttentionOptionBits(attention).subtracting([.resume, .returnState])
    scratch = AttentionScratch(attention, options: options, packing: nil, carryByteCount: 0)
    groupLimits = device.maxWorkgroupCount
  }

  /// As many independent sums as hide a multiply-add's latency; fewer where the unrolled loop would take
  /// long to compile. First runs: D = 256 f32 with 4 rows or keys at once 3.5 s, f16 with 2 of them 1.5 s;
  /// 64 top keys of D = 576 f32 with 2 of them 11 s (lavapipe of Mesa 26.1.6, EPYC Zen 3, machine busy).
  /// What one at a time takes at D = 576 was not measured.
  private static func block(_ attention: AttentionRequest) -> Int {
    max(1, min(4, 512 / attention.headSize))
  }

  /// One dispatch.
  struct Dispatch: Hashable {
    let tiles: Range<Int>
    let heads: Range<Int>
    let batches: Range<Int>
  }

  /// What computes a statistic, within the device's limits; nothing where there are no keys.
  func dispatches(_ statistic: AttentionStatistic) -> [Dispatch] {
    let attention = request.attention
    if attention.keyTokens == 0 { return [] }
    let tiles = ceilingDivide(
      statistic.isByKey ? attention.keyTokens : attention.queryTokens, workgroupSize)
    func portions(_ count: Int, _ axis: Int) -> [Range<Int>] {
      PieceCutter.portions(of: count, atMost: groupLimits[axis])
    }
    return portions(attention.batchSize, 2).flatMap { batches in
      portions(attention.queryHeads, 1).flatMap { heads in
        portions(tiles, 0).map { Dispatch(tiles: $0, heads: heads, batches: batches) }
      }
    }
  }

  /// The pipeline of a statistic.
  func pipelineDescription(
    _ statistic: AttentionStatistic
  ) throws(AttentionError) -> PipelineDescription {
    guard let shader = ShaderBinary.named(Self.shaderName) else {
      throw .noPath(reasons: ["this build has no shader \(Self.shaderName)"])
    }
    let attention = request.attention
    var constants: [String: UInt32] = [
      "local_size_x": UInt32(workgroupSize),
      "HEAD_SIZE_QK": UInt32(attention.headSize),
      "QUERY_TYPE": attention.elementType.shaderConstant,
      "KEY_TYPE": attention.keyType.shaderConstant,
      "BIAS_TYPE": attention.operand(.bias)?.elementType.shaderConstant ?? 0,
      "OPTIONS": options.rawValue,
      "ALIGNED": attention.isAligned ? 1 : 0,
      "STATISTIC": statistic.shaderConstant,
      "BLOCK": UInt32(block),
    ]
    if case .topKeys(let count) = statistic { constants["TOP_KEYS"] = UInt32(count) }
    return PipelineDescription(shader: shader, constants: constants)
  }
}
