import VulkanAttention
import VulkanAttentionCustom

/// What a mask in GLSL hides and shows, block by block: the map that lets a kernel skip whole tiles, as a picture.
public struct MaskMap: Sendable, Hashable {
  /// What is known of a block; the numbers are those of the map on the device.
  public enum Block: Int32, Sendable, CaseIterable {
    /// No query of the block sees a key of it: it is skipped.
    case empty = 0
    /// The mask is asked for each pair.
    case partial
    /// Every query sees every key: the mask is not asked.
    case full
  }

  /// The mask's text.
  public let mask: String
  /// S.
  public let queryTokens: Int
  /// T.
  public let keyTokens: Int
  /// Query tokens of a block.
  public let blockRows: Int
  /// Keys of a block.
  public let blockKeys: Int
  /// [⌈S / rows⌉][⌈T / keys⌉].
  public let blocks: [[Block]]

  /// Computes the map of a mask on a device, for the first head of the first batch entry.
  ///
  /// - Parameters:
  ///   - mask: GLSL that returns a `bool`, or one expression.
  ///   - declarations: functions and constants before it.
  ///   - scalars: what it reads by name.
  ///   - queryTokens: S.
  ///   - keyTokens: T.
  ///   - blockRows: query tokens of a block, a power of two from 64 to 4096.
  ///   - blockKeys: keys of a block, likewise.
  ///   - device: where it is computed.
  /// - Throws: `CustomAttentionError` for what does not compile, `AttentionError` for sizes that are not allowed,
  ///   `VulkanError`.
  public static func compute(
    _ mask: String, declarations: String = "", scalars: [String: CustomScalar.Value] = [:],
    queryTokens: Int, keyTokens: Int, blockRows: Int, blockKeys: Int, on device: ComputeDevice
  ) async throws -> MaskMap {
    var blocks = AttentionMask.none
    (blocks.blockMapRows, blocks.blockMapKeys) = (blockRows, blockKeys)
    let request = try AttentionRequest(
      queryTokens: queryTokens, keyTokens: keyTokens, queryHeads: 1, headSize: 8, mask: blocks,
      operands: [AttentionOperand(.blockMap)])
    let modification = try MaskModification(
      isExpression(mask) ? "return \(mask);" : mask, declarations: declarations,
      scalars: scalars.sorted { $0.key < $1.key }.map { CustomScalar($0.key, $0.value.kind) })
    let kernel = try await CustomBlockMap(request, mask: modification, on: device)
    let map = try device.makeBuffer(byteCount: request.byteCount(of: .blockMap), label: "map")
    let scratch = try device.makeBuffer(byteCount: kernel.scratchByteCount, label: "scratch")
    try await kernel.run(operands: [.blockMap: map], scalars: scalars, scratch: scratch)
    let numbers = try await device.download(Int32.self, from: map)
    let columns = (keyTokens + blockKeys - 1) / blockKeys
    return MaskMap(
      mask: mask, queryTokens: queryTokens, keyTokens: keyTokens, blockRows: blockRows,
      blockKeys: blockKeys,
      blocks: stride(from: 0, to: numbers.count, by: columns).map { start in
        numbers[start..<start + columns].map { Block(rawValue: $0) ?? .partial }
      })
  }

  /// Whether a text is what stands behind `return`.
  static func isExpression(_ text: String) -> Bool {
    !text.contains(";") && !text.split(whereSeparator: { !$0.isLetter }).contains("return")
  }

  /// How many blocks are of a kind.
  public func count(_ block: Block) -> Int {
    blocks.reduce(0) { $0 + $1.count { $0 == block } }
  }

  /// The share of blocks that are skipped.
  public var sparsity: Double {
    let all = blocks.reduce(0) { $0 + $1.count }
    return all == 0 ? 0 : Double(count(.empty)) / Double(all)
  }

  /// The picture in letters: a line for each row of blocks; nil where it is wider than `columns`.
  public func picture(columns: Int = 120) -> [String]? {
    guard (blocks.first?.count ?? 0) <= columns else { return nil }
    return blocks.map { row in
      row.map {
        switch $0 {
        case .empty: "·"
        case .partial: "▒"
        case .full: "█"
        }
      }.joined()
    }
  }

  /// The map as JSON, rows of blocks as texts of digits: 0 empty, 1 partial, 2 full.
  public var json: JSONText {
    [
      "format": "vkattn-mask", "version": 1, "mask": .string(mask),
      "query_tokens": .integer(queryTokens), "key_tokens": .integer(keyTokens),
      "block_rows": .integer(blockRows), "block_keys": .integer(blockKeys),
      "full": .integer(count(.full)), "partial": .integer(count(.partial)),
      "empty": .integer(count(.empty)),
      "blocks": .array(blocks.map { row in .string(row.map { "\($0.rawValue)" }.joined()) }),
    ]
  }
}
