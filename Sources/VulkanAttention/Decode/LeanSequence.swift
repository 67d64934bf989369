/// The keys that one sequence of a batch reads in a decode step, and what a tile of them costs.
public struct LeanSequence: Sendable, Hashable {
  /// The first visible key: 0, or more where a window has left earlier keys behind.
  public var firstKey: Int32
  /// The key behind the last visible one. Equal to ``firstKey`` for a sequence without keys.
  public var endKey: Int32
  /// What a tile of this sequence costs in relation to those of others, at least 1: more for pages than
  /// for contiguous keys, more for many query rows than for few. All 1 where all cost the same.
  public var tileCost: UInt32

  /// A sequence that reads the keys `firstKey..<endKey`.
  public init(firstKey: Int32 = 0, endKey: Int32, tileCost: UInt32 = 1) {
    self.firstKey = firstKey
    self.endKey = endKey
    self.tileCost = tileCost
  }

  /// Whether the sequence reads no key: its output is 0 and its log-sum-exp −∞.
  public var isEmpty: Bool { endKey <= firstKey }

  /// The tiles that hold the visible keys. Tiles begin at multiples of their length counted from key 0,
  /// wherever the first visible key is: they stay where they are while a window moves on.
  @inlinable
  public func tiles(length: Int32) -> Range<Int32> {
    let first = firstKey / length
    // Not (endKey + length − 1) / length: the sum may not fit.
    return isEmpty ? first..<first : first..<(endKey - 1) / length + 1
  }
}

/// A run of consecutive tiles of one problem in one group of a ``LeanSchedule``.
public struct LeanSegment: Sendable, Hashable {
  /// sequence · keyHeads + key head.
  public let problem: Int
  /// The tiles, numbered from key 0 of the sequence: tile t holds keys t · tileLength up to
  /// (t + 1) · tileLength, of which those outside of the visible range are hidden. Empty for a problem
  /// without keys, which is written as output 0 and log-sum-exp −∞.
  public let tiles: Range<Int>
  /// Whether no segment of the problem comes before this one.
  public let isFirst: Bool
  /// Whether none comes after it.
  public let isLast: Bool
  /// The slot for the partial result; nil where this is the problem's only segment, which writes the
  /// output itself.
  public let slot: Int?
}

/// The partial results that make up one problem of a ``LeanSchedule``.
public struct LeanMerge: Sendable, Hashable {
  /// sequence · keyHeads + key head.
  public let problem: Int
  /// Their slots, at least two, in the order of their keys.
  public let slots: Range<Int>
}
