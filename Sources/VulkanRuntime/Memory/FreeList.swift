/// The free ranges of one memory block, by first fit; neighbours are merged when freed.
struct FreeList {
  private(set) var ranges: [Range<Int>]
  let byteCount: Int

  init(byteCount: Int) {
    self.byteCount = byteCount
    ranges = [0..<byteCount]
  }

  /// Whether nothing is allocated.
  var isWhole: Bool { ranges == [0..<byteCount] }

  /// The bytes that are not allocated.
  var freeByteCount: Int { ranges.reduce(0) { $0 + $1.count } }

  /// Takes `count` bytes at a multiple of `alignment`, or returns nil where they do not fit.
  mutating func allocate(_ count: Int, alignment: Int) -> Int? {
    for (index, range) in ranges.enumerated() {
      let start = (range.lowerBound + alignment - 1) / alignment * alignment
      guard start <= range.upperBound, range.upperBound - start >= count else { continue }
      var rest: [Range<Int>] = []
      if start > range.lowerBound { rest.append(range.lowerBound..<start) }
      if start + count < range.upperBound { rest.append(start + count..<range.upperBound) }
      ranges.replaceSubrange(index...index, with: rest)
      return start
    }
    return nil
  }

  /// Gives a range back.
  mutating func free(_ range: Range<Int>) {
    let next = ranges.firstIndex { $0.lowerBound >= range.upperBound } ?? ranges.endIndex
    var merged = range
    var replaced = next..<next
    if next < ranges.endIndex, ranges[next].lowerBound == range.upperBound {
      merged = merged.lowerBound..<ranges[next].upperBound
      replaced = next..<next + 1
    }
    if next > 0, ranges[next - 1].upperBound == range.lowerBound {
      merged = ranges[next - 1].lowerBound..<merged.upperBound
      replaced = next - 1..<replaced.upperBound
    }
    ranges.replaceSubrange(replaced, with: [merged])
  }
}
