import VulkanAttention
import VulkanAttentionCustom

/// An option of the attention written as modifications, so that the two can be held against each other.
struct CustomEquivalent: Sendable {
  var score: ScoreModification?
  var mask: MaskModification?
  var output: OutputModification?
  /// The operand in whose memory each buffer of the modifications lies.
  var buffers: [String: AttentionOperand.Kind] = [:]
  var scalars: [String: CustomScalar.Value] = [:]
  /// Whether a causal mask stays with the library.
  var isCausal = false
  /// Whether the log-sum-exp is the option's too.
  var keepsLogSumExp = true
}

extension CustomEquivalent {
  /// The options that are written as modifications, in the order of their ids.
  static let options: [AttentionCheckOption] = [
    .alibi, .softcap, .bias, .relativeBias, .gridBias, .topLeft, .causalBlock, .prefix, .window,
    .twoSidedWindow, .chunk, .sinkTokens, .segments, .otherSegments, .mask, .headGates,
  ]

  /// The option of a request that has it and nothing else.
  ///
  /// - Throws: what the modifications' initialisers throw.
  init?(_ option: AttentionCheckOption, _ request: AttentionRequest) throws(CustomAttentionError) {
    let mask = request.mask
    let scores = request.scores
    let sizes: [String: CustomScalar.Value] = [
      "queries": .int(Int32(clamping: request.queryTokens)),
      "keys": .int(Int32(clamping: request.keyTokens)),
      "heads": .int(Int32(clamping: request.queryHeads)),
    ]
    func scalar(_ name: String) -> CustomScalar { CustomScalar(name, .int) }
    /// A mask by position; the numbers are those of the request.
    func positional(
      _ condition: String, _ numbers: [String: Int] = [:]
    ) throws(CustomAttentionError) {
      self.mask = try MaskModification(
        "int position = queryIndex + positionOffset;\nreturn \(condition);",
        declarations: """
          // x / n rounded towards minus infinity: positions may be negative.
          int floorOf(int x, int n) { return x >= 0 ? x / n : -((-x + n - 1) / n); }
          """, scalars: numbers.keys.sorted().map { scalar($0) })
      scalars = numbers.mapValues { .int(Int32(clamping: $0)) }
    }
    switch option {
    case .alibi:
      score = try ScoreModification(
        "return score - slopes(head) * float(abs(keyIndex - queryIndex - positionOffset));",
        buffers: [CustomBuffer("slopes", .f32)])
      buffers = ["slopes": .alibiSlopes]
      isCausal = true
    case .softcap:
      score = try ScoreModification(
        "return cap * tanh(score / cap);", scalars: [CustomScalar("cap", .float)])
      scalars = ["cap": .float(scores.softcap)]
    case .bias:
      score = try ScoreModification(
        "return score + bias((head * queries + queryIndex) * keys + keyIndex);",
        buffers: [CustomBuffer("bias", .f16)], scalars: [scalar("queries"), scalar("keys")])
      buffers = ["bias": .bias]
      scalars = sizes.filter { $0.key != "heads" }
    case .relativeBias:
      score = try ScoreModification(
        """
        int distance = clamp(keyIndex - queryIndex - positionOffset, -left, right);
        return score + table(head * (left + 1 + right) + distance + left);
        """, buffers: [CustomBuffer("table", .f32)], scalars: [scalar("left"), scalar("right")])
      buffers = ["table": .relativeBias]
      scalars = [
        "left": .int(Int32(scores.relativeLeft)), "right": .int(Int32(scores.relativeRight)),
      ]
    case .gridBias:
      score = try ScoreModification(
        """
        int dy = queryIndex / width - keyIndex / width + height - 1;
        int dx = queryIndex % width - keyIndex % width + width - 1;
        return score + table((dy * (2 * width - 1) + dx) * heads + head);
        """, buffers: [CustomBuffer("table", .f32)],
        scalars: [scalar("width"), scalar("height"), scalar("heads")])
      buffers = ["table": .gridBias]
      scalars = [
        "width": .int(Int32(scores.gridWidth)), "height": .int(Int32(scores.gridHeight)),
        "heads": .int(Int32(request.queryHeads)),
      ]
    case .topLeft: self.mask = try MaskModification("return keyIndex <= queryIndex;")
    case .causalBlock:
      try positional(
        "floorOf(keyIndex, size) <= floorOf(position, size)", ["size": mask.causalBlock])
    case .prefix:
      try positional("keyIndex <= position || keyIndex < prefix", ["prefix": mask.prefixTokens])
    case .window:
      try positional(
        "keyIndex <= position && position - keyIndex <= left", ["left": mask.windowLeft ?? 0])
    case .twoSidedWindow:
      try positional(
        "position - keyIndex <= left && keyIndex - position <= right",
        ["left": mask.windowLeft ?? 0, "right": mask.windowRight ?? 0])
    case .chunk:
      try positional(
        "keyIndex <= position && keyIndex / size == floorOf(position, size)",
        ["size": mask.chunkSize ?? 1])
    case .sinkTokens:
      try positional(
        "keyIndex <= position && (position - keyIndex <= left || keyIndex < sinks)",
        ["left": mask.windowLeft ?? 0, "sinks": mask.sinkTokens])
    case .segments, .otherSegments:
      self.mask = try MaskModification(
        """
        bool isSame =
          querySegments(batch * queries + queryIndex) == keySegments(batch * keys + keyIndex);
        return isSame != seesOthers;
        """,
        declarations: "const bool seesOthers = \(option == .otherSegments);",
        buffers: [CustomBuffer("querySegments", .int32), CustomBuffer("keySegments", .int32)],
        scalars: [scalar("queries"), scalar("keys")])
      buffers = ["querySegments": .querySegments, "keySegments": .keySegments]
      scalars = sizes.filter { $0.key != "heads" }
    case .mask:
      self.mask = try MaskModification(
        "return seen(((batch * heads + head) * queries + queryIndex) * keys + keyIndex) != 0;",
        buffers: [CustomBuffer("seen", .uint8)],
        scalars: [scalar("heads"), scalar("queries"), scalar("keys")])
      buffers = ["seen": .mask]
      scalars = sizes
    case .headGates:
      output = try OutputModification(
        "return value * gates(head);", buffers: [CustomBuffer("gates", .f32)])
      buffers = ["gates": .gates]
      // A head that is gated off has no log-sum-exp with the library.
      keepsLogSumExp = false
    default: return nil
    }
  }

  /// The buffers of the modifications on a device.
  ///
  /// - Parameter operands: what lies in the memory of the option's operands.
  func upload(
    _ operands: [AttentionOperand.Kind: [UInt8]], to device: ComputeDevice
  ) async throws -> [String: DeviceBuffer] {
    var uploaded: [String: DeviceBuffer] = [:]
    for (name, kind) in buffers {
      uploaded[name] = try await device.makeBuffer(operands[kind] ?? [], label: name)
    }
    return uploaded
  }
}
