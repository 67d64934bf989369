import VulkanAttention

/// The sizes of an attention as they are written in ids and on the command line:
/// `B1-S1024-T1024-H8-G8-D64-E64`.
public struct AttentionShape: Sendable, Hashable {
  /// B, batch entries.
  public var batchSize: Int
  /// S, query tokens.
  public var queryTokens: Int
  /// T, key tokens.
  public var keyTokens: Int
  /// H, query heads.
  public var queryHeads: Int
  /// G, key and value heads.
  public var keyHeads: Int
  /// D, channels of a query and a key.
  public var headSize: Int
  /// E, channels of a value and an output.
  public var valueHeadSize: Int

  /// Sizes by their values; T, G and E follow S, H and D where they are not given.
  public init(
    batchSize: Int = 1, queryTokens: Int, keyTokens: Int? = nil, queryHeads: Int,
    keyHeads: Int? = nil, headSize: Int, valueHeadSize: Int? = nil
  ) {
    self.batchSize = batchSize
    self.queryTokens = queryTokens
    self.keyTokens = keyTokens ?? queryTokens
    self.queryHeads = queryHeads
    self.keyHeads = keyHeads ?? queryHeads
    self.headSize = headSize
    self.valueHeadSize = valueHeadSize ?? headSize
  }

  /// No request takes larger sizes.
  private static let largestSize = 1 << 30 - 1
  /// A workload has a length for each batch entry.
  private static let mostEntries = 1 << 20

  /// Reads `B1,S1024,T1024,H8,G8,D64,E64`, with commas or dashes, in any order. S, H and D are
  /// needed; B is 1, T is S, G is H and E is D where they are left out.
  ///
  /// - Throws: ``ShapeError`` with what is wrong and what is needed.
  public init(_ text: String) throws(ShapeError) {
    var sizes: [Character: Int] = [:]
    for part in text.split(omittingEmptySubsequences: false, whereSeparator: { ",-".contains($0) })
    {
      guard let letter = part.first?.uppercased().first, "BSTHGDE".contains(letter) else {
        throw ShapeError("\"\(part)\" does not begin with one of the letters B S T H G D E")
      }
      guard part.dropFirst().allSatisfy({ ("0"..."9").contains($0) }),
        let size = Int(part.dropFirst())
      else { throw ShapeError("\"\(part)\" has no whole number after its letter") }
      let most = letter == "B" ? Self.mostEntries : Self.largestSize
      guard size <= most else {
        throw ShapeError("\(letter) is \(size); allowed: at most \(most)")
      }
      guard sizes.updateValue(size, forKey: letter) == nil else {
        throw ShapeError("\(letter) is given twice")
      }
    }
    guard let queryTokens = sizes["S"], let queryHeads = sizes["H"], let headSize = sizes["D"]
    else {
      let missing = ["S", "H", "D"].filter { sizes[Character($0)] == nil }
      throw ShapeError("\(missing.joined(separator: ", ")) is missing, as in S1024,H8,D64")
    }
    self.init(
      batchSize: sizes["B"] ?? 1, queryTokens: queryTokens, keyTokens: sizes["T"],
      queryHeads: queryHeads, keyHeads: sizes["G"], headSize: headSize,
      valueHeadSize: sizes["E"])
  }
}

extension AttentionShape: CustomStringConvertible {
  /// The sizes as they stand in ids.
  public var description: String {
    "B\(batchSize)-S\(queryTokens)-T\(keyTokens)-H\(queryHeads)-G\(keyHeads)"
      + "-D\(headSize)-E\(valueHeadSize)"
  }
}

/// A text that is no shape.
public struct ShapeError: Error, Hashable, Sendable, CustomStringConvertible {
  /// What is wrong with it.
  public let description: String

  init(_ description: String) {
    self.description = description
  }
}
