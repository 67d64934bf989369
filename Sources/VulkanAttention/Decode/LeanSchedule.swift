/// Who reads which keys in a decode step, so that every worker of a device has the same to do.
///
/// Letters: B sequences, G key heads. A *problem* is a key head of a sequence, with all query heads and
/// query tokens that share its keys: problem p = b · G + g. Its visible keys lie in tiles of a fixed
/// length. The tiles of all problems are laid end to end, and each *group* (a workgroup of the kernel)
/// takes an equal run of them, wherever it begins and ends:
///
///     C = Σ over problems of tiles · cost        group i takes the tiles whose start, in cost, lies in
///                                                ⌈i · C / groups⌉ ..< ⌈(i + 1) · C / groups⌉
///
/// (Lean Attention, Sanovar et al. 2024, https://arxiv.org/abs/2405.10480, which is stream-K, Osama et al.
/// 2023, https://arxiv.org/abs/2301.03598, over keys.) With equal costs the groups' shares differ by one
/// tile at most. A problem that lies in one group is written by it; one that groups share leaves a
/// partial result of each, normalised with its log-sum-exp or not as the kernel likes, in consecutive
/// slots that are merged in the order of their keys. Its groups are consecutive, but for groups that
/// tiles of unequal cost leave with nothing to do. Each boundary between two groups adds one segment at
/// most: there are at most nonempty problems + groups − 1 segments, and at most groups − 1 partials more
/// than problems that are split.
///
/// The bits of a result depend on the cuts, and those on the whole batch. ``Mode/fixed(tokensPerSplit:)``
/// cuts every sequence by itself instead, so that its result is the same to the last bit in every batch.
///
/// A problem without keys becomes a segment without tiles, which writes output 0 and log-sum-exp −∞.
/// These segments are spread evenly over the groups, behind their other segments.
///
/// A schedule is a value without any Vulkan call. It is made once for a batch and serves all layers, and
/// ``advance(window:growsEmpty:)`` makes the next step's from it.
///
/// The buffers, as a kernel reads them (words of 32 bits, unsigned):
///
/// - ``segmentWords``, four for each segment: problem; first tile; tile count in bits 0..<30, bit 30 for
///   the problem's first segment, bit 31 for its last; slot, or ``noSlot``.
/// - ``mergeWords``, four for each problem in several segments: problem; first slot; slots; 0.
/// - ``groupStarts``, one for each group and one more: group i has the segments
///   `groupStarts[i]..<groupStarts[i + 1]`.
public struct LeanSchedule: Sendable, Hashable {
  /// How the tiles are cut.
  public enum Mode: Sendable, Hashable {
    /// Into equal shares of this many groups, or of as many as there are tiles where those are fewer.
    case lean(groups: Int)
    /// At every multiple of a number of keys, itself a multiple of the tile length, counted from key 0:
    /// each split is a group of its own. The cuts depend on the sequence alone.
    case fixed(tokensPerSplit: Int)
  }

  /// The slot of a segment that writes its output itself.
  public static let noSlot = UInt32.max
  /// The bit of a segment's third word that says that no segment of the problem comes before it.
  public static let firstBit: UInt32 = 1 << 30
  /// The bit that says that none comes after it.
  public static let lastBit: UInt32 = 1 << 31

  /// The sequences, as they are now.
  public private(set) var sequences: ContiguousArray<LeanSequence>
  /// G.
  public let keyHeads: Int
  /// Keys of a tile.
  public let tileLength: Int
  /// How the tiles are cut.
  public let mode: Mode

  /// Four words for each segment, in the order of the groups.
  public private(set) var segmentWords: ContiguousArray<SIMD4<UInt32>> = []
  /// Four words for each problem in several segments, in the order of the problems.
  public private(set) var mergeWords: ContiguousArray<SIMD4<UInt32>> = []
  /// Where the segments of each group begin, and where the last group's end.
  public private(set) var groupStarts: ContiguousArray<UInt32> = []
  /// The slots for partial results that are used, each by one segment.
  public private(set) var partialCount = 0
  /// The tiles of all problems.
  public private(set) var tileCount = 0
  /// The cost of all tiles.
  public private(set) var totalCost: UInt64 = 0

  /// Makes the schedule of a batch.
  ///
  /// - Parameters:
  ///   - sequences: the keys that each sequence reads; firstKey ≤ endKey < 2³⁰.
  ///   - keyHeads: G, at least 1. A kernel that spreads the query rows of a key head over several tiles
  ///     of rows counts each as a head.
  ///   - tileLength: keys of a tile, at least 1.
  ///   - mode: how the tiles are cut.
  /// - Throws: `invalidArgument` for a number that is not allowed, `tooLarge` where there are more than
  ///   2²⁶ problems or segments, or their costs add up to 2⁶² or more.
  public init<Sequences: Collection<LeanSequence>>(
    sequences: Sequences, keyHeads: Int, tileLength: Int, mode: Mode
  ) throws(AttentionError) {
    try checkRange("keyHeads", keyHeads, 1...Self.largestCount)
    try checkRange("tileLength", tileLength, 1...AttentionMask.largestExtent)
    switch mode {
    case .lean(let groups):
      try checkRange("groups", groups, 1...Self.largestCount)
    case .fixed(let tokens):
      try checkRange("tokensPerSplit", tokens, 1...AttentionMask.largestExtent)
      guard tokens % tileLength == 0 else {
        throw .invalidArgument(
          name: "tokensPerSplit", value: "\(tokens)",
          allowed: "multiples of the tile length \(tileLength)")
      }
    }
    let (problems, overflow) = sequences.count.multipliedReportingOverflow(by: keyHeads)
    guard !overflow, problems <= Self.largestCount else { throw .tooLarge(tensor: "the schedule") }
    self.sequences = ContiguousArray(sequences)
    self.keyHeads = keyHeads
    self.tileLength = tileLength
    self.mode = mode
    if case .lean(let groups) = mode {
      // No batch of this size needs more, however its lengths grow.
      segmentWords.reserveCapacity(problems + groups)
      mergeWords.reserveCapacity(min(problems, groups))
      groupStarts.reserveCapacity(groups + 1)
    }
    try Self.check(self.sequences)
    build(try measure(self.sequences))
  }

  /// The problems, B · G.
  public var problemCount: Int { sequences.count * keyHeads }
  /// The groups, each a workgroup of the kernel. Some may have nothing to do where costs differ.
  public var groupCount: Int { groupStarts.count - 1 }
  /// The segments of all groups.
  public var segmentCount: Int { segmentWords.count }
  /// The problems whose partial results are merged.
  public var mergeCount: Int { mergeWords.count }

  /// A segment by its number.
  public func segment(_ index: Int) -> LeanSegment {
    let words = segmentWords[index]
    let first = Int(words.y)
    return LeanSegment(
      problem: Int(words.x), tiles: first..<first + Int(words.z & (Self.firstBit - 1)),
      isFirst: words.z & Self.firstBit != 0, isLast: words.z & Self.lastBit != 0,
      slot: words.w == Self.noSlot ? nil : Int(words.w))
  }

  /// The numbers of a group's segments.
  public func segments(ofGroup group: Int) -> Range<Int> {
    Int(groupStarts[group])..<Int(groupStarts[group + 1])
  }

  /// A merge by its number.
  public func merge(_ index: Int) -> LeanMerge {
    let words = mergeWords[index]
    return LeanMerge(problem: Int(words.x), slots: Int(words.y)..<Int(words.y + words.z))
  }

  static let largestCount = 1 << 26

  private static func check(
    _ sequences: some Collection<LeanSequence>
  ) throws(AttentionError) {
    for (index, sequence) in sequences.enumerated() {
      guard sequence.firstKey >= 0, sequence.endKey >= sequence.firstKey,
        sequence.endKey <= AttentionMask.largestExtent
      else {
        throw .invalidArgument(
          name: "sequences[\(index)]", value: "keys \(sequence.firstKey)..<\(sequence.endKey)",
          allowed: "0 ≤ firstKey ≤ endKey ≤ \(AttentionMask.largestExtent)")
      }
      guard sequence.tileCost >= 1 else {
        throw .invalidArgument(
          name: "sequences[\(index)].tileCost", value: "0", allowed: "1 and more")
      }
    }
  }
}

// MARK: - The next step

extension LeanSchedule {
  /// Lets each sequence grow by one key: the schedule of the next decode step.
  ///
  /// Most steps fill up tiles that are there. The buffers then stay as they are, and what was uploaded of
  /// them stays valid: a kernel takes a sequence's exact keys from its length, not from the schedule.
  /// Otherwise the schedule is made anew in the same memory. Nothing changes where an error is thrown.
  ///
  /// - Parameters:
  ///   - window: the most keys that a sequence sees; earlier ones are left behind. Nil for no window.
  ///   - growsEmpty: whether a sequence without keys gets its first one, instead of staying an unused
  ///     place of the batch.
  /// - Returns: whether the buffers have changed.
  /// - Throws: `invalidArgument` where a sequence or the window is out of range, `tooLarge` as the
  ///   initialiser.
  public mutating func advance(
    window: Int? = nil, growsEmpty: Bool = false
  ) throws(AttentionError) -> Bool {
    if let window { try checkRange("window", window, 1...AttentionMask.largestExtent) }
    let length = Int32(tileLength)
    let window = Int32(window ?? AttentionMask.largestExtent)
    let full = sequences.firstIndex {
      $0.endKey >= AttentionMask.largestExtent && (growsEmpty || !$0.isEmpty)
    }
    if let full {
      throw .invalidArgument(
        name: "sequences[\(full)]", value: "\(sequences[full].endKey) keys and one more",
        allowed: "at most \(AttentionMask.largestExtent)")
    }
    func next(_ sequence: LeanSequence) -> LeanSequence {
      if sequence.isEmpty && !growsEmpty { return sequence }
      var next = sequence
      next.endKey += 1
      next.firstKey = max(next.firstKey, next.endKey - window)
      return next
    }
    // The last tile was full, or the window leaves a tile behind.
    let isChanged = !sequences.allSatisfy {
      $0.tiles(length: length) == next($0).tiles(length: length)
    }
    let work = isChanged ? try measure(sequences.lazy.map(next)) : nil
    for index in sequences.indices { sequences[index] = next(sequences[index]) }
    if let work { build(work) }
    return isChanged
  }

  /// Replaces the sequences' keys, for steps of more than one token, for roll-backs and for sequences
  /// that others take the place of.
  ///
  /// - Parameter newSequences: as many as there are.
  /// - Returns: whether the buffers have changed.
  /// - Throws: as the initialiser; nothing changes then.
  public mutating func update<Sequences: Collection<LeanSequence>>(
    _ newSequences: Sequences
  ) throws(AttentionError) -> Bool {
    guard newSequences.count == sequences.count else {
      throw .invalidArgument(
        name: "sequences", value: "\(newSequences.count)", allowed: "\(sequences.count)")
    }
    try Self.check(newSequences)
    let length = Int32(tileLength)
    let isChanged = !zip(sequences, newSequences).allSatisfy {
      $0.tiles(length: length) == $1.tiles(length: length) && $0.tileCost == $1.tileCost
    }
    let work = isChanged ? try measure(newSequences) : nil
    for (index, sequence) in newSequences.enumerated() { sequences[index] = sequence }
    if let work { build(work) }
    return isChanged
  }
}

// MARK: - Building

extension LeanSchedule {
  /// What all problems are together.
  private struct Work {
    var tiles = 0
    var cost: UInt64 = 0
    /// Problems of sequences without keys.
    var emptyProblems = 0
    /// Segments of a fixed schedule.
    var splits = 0
  }

  private func measure(_ sequences: some Sequence<LeanSequence>) throws(AttentionError) -> Work {
    let length = Int32(tileLength)
    var work = Work()
    var isTooLarge = false
    for sequence in sequences {
      let own = sequence.tiles(length: length)
      if own.isEmpty {
        work.emptyProblems += keyHeads
        work.splits += keyHeads
        continue
      }
      // Less than 2³⁰ tiles for each of 2²⁶ problems.
      work.tiles += own.count * keyHeads
      let ofHead = UInt64(own.count) * UInt64(sequence.tileCost)
      let (ofAll, overflow) = ofHead.multipliedReportingOverflow(by: UInt64(keyHeads))
      let (sum, sumOverflow) = work.cost.addingReportingOverflow(ofAll)
      if overflow || sumOverflow || sum >= 1 << 62 { isTooLarge = true }
      work.cost = sum
      if case .fixed(let tokens) = mode {
        let perSplit = Int32(tokens / tileLength)
        let splits = (own.upperBound - 1) / perSplit - own.lowerBound / perSplit + 1
        work.splits += Int(splits) * keyHeads
        if work.splits > Self.largestCount { isTooLarge = true }
      }
    }
    if isTooLarge { throw .tooLarge(tensor: "the schedule") }
    return work
  }

  /// Fills the buffers for the sequences, in the memory that they have.
  private mutating func build(_ work: Work) {
    segmentWords.removeAll(keepingCapacity: true)
    mergeWords.removeAll(keepingCapacity: true)
    groupStarts.removeAll(keepingCapacity: true)
    partialCount = 0
    tileCount = work.tiles
    totalCost = work.cost
    groupStarts.append(0)
    switch mode {
    case .lean(let groups):
      buildLean(
        groups: min(groups, max(work.tiles, work.emptyProblems)),
        emptyProblems: work.emptyProblems)
    case .fixed(let tokens):
      buildFixed(tilesPerSplit: tokens / tileLength)
    }
  }

  private mutating func buildLean(groups: Int, emptyProblems: Int) {
    let length = Int32(tileLength)
    let groupCount = UInt64(max(groups, 1))
    let (quotient, remainder) = totalCost.quotientAndRemainder(dividingBy: groupCount)
    // Where the group ends, ⌈(group + 1) · C / groups⌉: the quotient's whole part and its rest.
    var group: UInt64 = 0
    var whole = quotient
    var rest = remainder
    var end = whole + (rest > 0 ? 1 : 0)
    var position: UInt64 = 0
    var empty = EmptyProblems(heads: keyHeads)

    func closeGroup(_ schedule: inout LeanSchedule) {
      if emptyProblems > 0 {
        // Each group in which a share of them ends takes one.
        let problems = UInt64(emptyProblems)
        let count = (group + 1) * problems / groupCount - group * problems / groupCount
        for _ in 0..<count { schedule.appendEmpty(problem: empty.next(schedule.sequences)) }
      }
      schedule.groupStarts.append(UInt32(schedule.segmentWords.count))
      group += 1
      whole += quotient
      rest += remainder
      if rest >= groupCount {
        rest -= groupCount
        whole += 1
      }
      end = whole + (rest > 0 ? 1 : 0)
    }

    for (index, sequence) in sequences.enumerated() {
      let tiles = sequence.tiles(length: length)
      if tiles.isEmpty { continue }
      let tileCost = UInt64(sequence.tileCost)
      for problem in index * keyHeads..<(index + 1) * keyHeads {
        var tile = tiles.lowerBound
        while tile < tiles.upperBound {
          while position >= end { closeGroup(&self) }
          let left = UInt64(tiles.upperBound - tile)
          let room = end - position
          // Tiles that start within the group; a division costs more than all else here.
          var count = left
          if left * tileCost > room {
            count = tileCost == 1 ? room : min(left, (room + tileCost - 1) / tileCost)
          }
          append(problem: problem, tile: tile, count: Int32(count), of: tiles)
          tile += Int32(count)
          position += count * tileCost
        }
      }
    }
    while group < UInt64(groups) { closeGroup(&self) }
  }

  private mutating func buildFixed(tilesPerSplit: Int) {
    let length = Int32(tileLength)
    let perSplit = Int32(tilesPerSplit)
    for (index, sequence) in sequences.enumerated() {
      let tiles = sequence.tiles(length: length)
      for problem in index * keyHeads..<(index + 1) * keyHeads {
        if tiles.isEmpty {
          appendEmpty(problem: problem)
          groupStarts.append(UInt32(segmentWords.count))
        }
        var tile = tiles.lowerBound
        while tile < tiles.upperBound {
          let count = min(perSplit - tile % perSplit, tiles.upperBound - tile)
          append(problem: problem, tile: tile, count: count, of: tiles)
          groupStarts.append(UInt32(segmentWords.count))
          tile += count
        }
      }
    }
  }

  /// The next tiles of a problem, with a slot where they are not all of them.
  private mutating func append(problem: Int, tile: Int32, count: Int32, of tiles: Range<Int32>) {
    let isFirst = tile == tiles.lowerBound
    let isLast = tile + count == tiles.upperBound
    var slot = Self.noSlot
    if !(isFirst && isLast) {
      slot = UInt32(partialCount)
      partialCount += 1
      if isFirst {
        mergeWords.append(SIMD4(UInt32(problem), slot, 1, 0))
      } else {
        mergeWords[mergeWords.count - 1].z += 1
      }
    }
    segmentWords.append(
      SIMD4(
        UInt32(problem), UInt32(tile),
        UInt32(count) | (isFirst ? Self.firstBit : 0) | (isLast ? Self.lastBit : 0), slot))
  }

  private mutating func appendEmpty(problem: Int) {
    segmentWords.append(
      SIMD4(UInt32(problem), 0, Self.firstBit | Self.lastBit, Self.noSlot))
  }
}

/// Walks over the problems of sequences without keys.
private struct EmptyProblems {
  let heads: Int
  private var sequence = 0
  private var head = 0

  init(heads: Int) { self.heads = heads }

  /// The next problem; there is one.
  mutating func next(_ sequences: ContiguousArray<LeanSequence>) -> Int {
    while sequence < sequences.count, !sequences[sequence].isEmpty { sequence += 1 }
    let problem = sequence * heads + head
    head += 1
    if head == heads {
      head = 0
      sequence += 1
    }
    return problem
  }
}
