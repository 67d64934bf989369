/// Which pages of a pool hold the keys of each sequence.
///
/// Key j of sequence b lies in slot `j % pageSize` of page `indices[indptr[b] + j / pageSize]`. (The page
/// table of FlashInfer, arXiv:2501.01005; paged attention is Kwon et al. 2023, arXiv:2309.06180.)
public struct PageTable: Sendable, Hashable {
  /// Keys of a page.
  public let pageSize: Int
  /// `[B + 1]`, never falling, from 0: where the pages of each sequence begin in ``indices``.
  public let indptr: [Int]
  /// The numbers of the pages.
  public let indices: [Int]
  /// `[B]`: keys in each sequence's last page, `1...pageSize`, or 0 where it has no page.
  public let lastPageLengths: [Int]

  /// A page table of one's own.
  ///
  /// - Precondition: as the properties say, and no page number is negative.
  public init(pageSize: Int, indptr: [Int], indices: [Int], lastPageLengths: [Int]) {
    precondition(pageSize > 0, "pageSize must be at least 1")
    precondition(indptr.count == lastPageLengths.count + 1, "indptr must be [B + 1]")
    precondition(indptr.first == 0 && indptr.last == indices.count, "indptr must cover indices")
    precondition(zip(indptr, indptr.dropFirst()).allSatisfy { $0 <= $1 }, "indptr must never fall")
    precondition(indices.allSatisfy { $0 >= 0 }, "page numbers must not be negative")
    for (b, length) in lastPageLengths.enumerated() {
      let allowed = indptr[b] == indptr[b + 1] ? 0...0 : 1...pageSize
      precondition(allowed.contains(length), "last page of sequence \(b): \(length) keys")
    }
    self.pageSize = pageSize
    self.indptr = indptr
    self.indices = indices
    self.lastPageLengths = lastPageLengths
  }

  /// B.
  public var sequences: Int { lastPageLengths.count }

  /// The keys of each sequence: `pageSize · (pages − 1) + lastPageLength`.
  public var lengths: [Int] {
    (0..<sequences).map { b in
      let pages = indptr[b + 1] - indptr[b]
      return pages == 0 ? 0 : pageSize * (pages - 1) + lastPageLengths[b]
    }
  }
}

/// The order of the axes in a page.
public enum PageOrder: Sendable, Hashable, CaseIterable {
  /// `[pages, pageSize, G, C]`.
  case nhd
  /// `[pages, G, pageSize, C]`.
  case hnd
}

/// Where a cache holds the keys, or values, of its sequences.
public enum CacheLayout: Sendable, Hashable {
  /// `[B, capacity, G, C]`: key j at place j.
  case contiguous(capacity: Int)
  /// `[B, capacity, G, C]`: key j at place `j % capacity`, where it replaces key `j − capacity`.
  case ring(capacity: Int)
  /// Pages, of which any may belong to any sequence.
  case paged(PageTable, PageOrder = .nhd)

  /// Where the C channels of a key begin.
  ///
  /// - Precondition: there is a place for the key.
  public func start(
    sequence b: Int, position j: Int, head: Int, heads: Int, channels: Int
  ) -> Int {
    precondition(j >= 0 && (0..<heads).contains(head), "no such key")
    switch self {
    case .contiguous(let capacity):
      precondition(j < capacity, "key \(j) is beyond the capacity \(capacity)")
      return ((b * capacity + j) * heads + head) * channels
    case .ring(let capacity):
      return ((b * capacity + j % capacity) * heads + head) * channels
    case .paged(let table, let order):
      let entry = table.indptr[b] + j / table.pageSize
      precondition(entry < table.indptr[b + 1], "key \(j) is beyond the pages of sequence \(b)")
      let (page, slot) = (table.indices[entry], j % table.pageSize)
      switch order {
      case .nhd: return ((page * table.pageSize + slot) * heads + head) * channels
      case .hnd: return ((page * heads + head) * table.pageSize + slot) * channels
      }
    }
  }

  /// The first key that is still there of a sequence of `length` keys.
  public func firstKey(length: Int) -> Int {
    if case .ring(let capacity) = self { return max(0, length - capacity) }
    return 0
  }
}

/// The keys, or values, of a cache as one tensor `[B, T, G, C]`, in the order of their positions.
///
/// - Parameters:
///   - cache: the cache's elements.
///   - layout: where they lie.
///   - lengths: `[B]`: keys of each sequence, those included that a ring has forgotten.
///   - heads: G.
///   - channels: C.
///   - keyTokens: T; nil for the longest sequence.
///   - filler: what stands where a sequence has no key, or has it no longer.
public func gatheredCache<Element>(
  _ cache: [Element], layout: CacheLayout, lengths: [Int], heads: Int, channels: Int,
  keyTokens: Int? = nil, filler: Element
) -> [Element] {
  let keyTokens = keyTokens ?? lengths.max() ?? 0
  var keys: [Element] = []
  keys.reserveCapacity(lengths.count * keyTokens * heads * channels)
  for (b, length) in lengths.enumerated() {
    precondition(length <= keyTokens, "sequence \(b) is longer than T")
    let held = layout.firstKey(length: length)..<length
    for j in 0..<keyTokens {
      for head in 0..<heads {
        if held.contains(j) {
          let start = layout.start(
            sequence: b, position: j, head: head, heads: heads, channels: channels)
          keys += cache[start..<start + channels]
        } else {
          keys += Array(repeating: filler, count: channels)
        }
      }
    }
  }
  return keys
}

/// Writes keys, or values, into a cache.
///
/// - Parameters:
///   - tokens: `[N, G, C]`, row-major.
///   - sequences: `[N]`: whose they are.
///   - positions: `[N]`: their positions; a ring takes them in rising order.
///   - cache: the cache's elements.
///   - layout: where they lie; a page table has the pages of these positions already.
///   - heads: G.
///   - channels: C.
public func appendToCache<Element>(
  _ tokens: [Element], sequences: [Int], positions: [Int], cache: inout [Element],
  layout: CacheLayout, heads: Int, channels: Int
) {
  precondition(
    tokens.count == positions.count * heads * channels && sequences.count == positions.count,
    "tokens must be [N, G, C]")
  for (number, (b, position)) in zip(sequences, positions).enumerated() {
    for head in 0..<heads {
      let from = (number * heads + head) * channels
      let to = layout.start(
        sequence: b, position: position, head: head, heads: heads, channels: channels)
      for c in 0..<channels { cache[to + c] = tokens[from + c] }
    }
  }
}

/// Writes new keys, rotated to their positions, and new values into their caches: what a decode step does
/// before it attends.
///
/// - Parameters:
///   - k: `[N, G, D]`, not rotated.
///   - v: `[N, G, E]`.
///   - sequences: `[N]`.
///   - positions: `[N]`.
///   - keyCache: the keys' cache.
///   - valueCache: the values' cache.
///   - layout: where both lie.
///   - heads: G.
///   - keyChannels: D.
///   - valueChannels: E.
///   - rotary: the rotation; nil for keys that are cached as they are.
public func appendToCaches(
  k: [Double], v: [Double], sequences: [Int], positions: [Int], keyCache: inout [Double],
  valueCache: inout [Double], layout: CacheLayout, heads: Int, keyChannels: Int,
  valueChannels: Int, rotary: RotaryEmbedding? = nil
) {
  let rotated =
    rotary?.rotated(k, positions: positions, heads: heads, channels: keyChannels) ?? k
  appendToCache(
    rotated, sequences: sequences, positions: positions, cache: &keyCache, layout: layout,
    heads: heads, channels: keyChannels)
  appendToCache(
    v, sequences: sequences, positions: positions, cache: &valueCache, layout: layout,
    heads: heads, channels: valueChannels)
}
