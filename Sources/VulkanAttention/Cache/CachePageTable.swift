/// Which pages of a pool hold the keys of each sequence, in FlashInfer's form
/// (https://arxiv.org/abs/2501.01005): key j of sequence b lies in page
/// `indices[indptr[b] + j / pageSize]`.
public struct CachePageTable: Sendable, Hashable {
  /// `[B + 1]`, never falling, from 0: where the pages of each sequence begin in ``indices``.
  public let indptr: [Int32]
  /// The numbers of the pages.
  public let indices: [Int32]
  /// `[B]`: keys in each sequence's last page, 1 to the page size, or 0 where it has no page.
  public let lastPageLengths: [Int32]
  /// Keys of a page.
  public let pageSize: Int

  /// A page table, checked.
  ///
  /// - Parameters:
  ///   - pageSize: keys of a page.
  ///   - pageCount: pages of the pool.
  ///   - indptr: where the pages of each sequence begin in `indices`.
  ///   - indices: pages, each from 0 below `pageCount`; those behind the last one used are ignored.
  ///   - lastPageLengths: keys in each sequence's last page.
  /// - Throws: `AttentionError.invalidArgument`.
  public init(
    pageSize: Int, pageCount: Int, indptr: [Int32], indices: [Int32], lastPageLengths: [Int32]
  ) throws(AttentionError) {
    func refuse(_ name: String, _ value: some Any, _ allowed: String) -> AttentionError {
      .invalidArgument(name: name, value: "\(value)", allowed: allowed)
    }
    guard (1...AttentionMask.largestExtent).contains(pageSize) else {
      throw refuse("pageSize", pageSize, "1 to \(AttentionMask.largestExtent)")
    }
    guard indptr.count == lastPageLengths.count + 1, let last = indptr.last else {
      throw refuse(
        "indptr", "\(indptr.count) numbers", "one more than the \(lastPageLengths.count) sequences")
    }
    guard indptr[0] == 0 else { throw refuse("indptr[0]", indptr[0], "0") }
    for (b, length) in lastPageLengths.enumerated() {
      guard indptr[b + 1] >= indptr[b] else {
        throw refuse("indptr[\(b + 1)]", indptr[b + 1], "at least indptr[\(b)], \(indptr[b])")
      }
      let pages = Int(indptr[b + 1] - indptr[b])
      let allowed = pages == 0 ? 0...0 : 1...pageSize
      guard allowed.contains(Int(length)) else {
        throw refuse(
          "lastPageLengths[\(b)]", length,
          "\(allowed.lowerBound) to \(allowed.upperBound) for \(pages) pages of \(pageSize) keys")
      }
      guard pages <= AttentionMask.largestExtent / pageSize else {
        throw refuse(
          "indptr[\(b + 1)]", "\(pages) pages of sequence \(b)",
          "at most \(AttentionMask.largestExtent) keys in a sequence")
      }
    }
    guard Int(last) <= indices.count else {
      throw refuse("indptr[\(indptr.count - 1)]", last, "at most the \(indices.count) indices")
    }
    for (place, page) in indices.prefix(Int(last)).enumerated()
    where page < 0 || page >= pageCount {
      throw refuse("indices[\(place)]", page, "0 to \(pageCount - 1), pages of the pool")
    }
    self.pageSize = pageSize
    self.indptr = indptr
    self.indices = indices
    self.lastPageLengths = lastPageLengths
  }

  /// B.
  public var sequences: Int { lastPageLengths.count }

  /// The keys of each sequence.
  public var lengths: [Int] {
    lastPageLengths.indices.map { b in
      let pages = Int(indptr[b + 1] - indptr[b])
      return pages == 0 ? 0 : (pages - 1) * pageSize + Int(lastPageLengths[b])
    }
  }
}
