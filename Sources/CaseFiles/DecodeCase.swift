/// A checked case of op `decode` or `paged_decode`.
///
/// It is an attention of few queries, with hints about how its keys may be split, and of `paged_decode`
/// with keys and values in pages.
public struct DecodeCase: Sendable {
  /// How the keys are cut.
  public enum Mode: String, Sendable, Hashable, CaseIterable {
    /// Into equal shares over the whole batch.
    case lean
    /// Of each sequence alike in every batch.
    case fixed
  }

  /// The problem. Of `paged_decode` its keys and values are those of the pages in the order of their
  /// positions: T is the longest sequence, `kvLengths` are the sequences' keys, and what is behind them
  /// is NaN.
  public let attention: AttentionCase
  /// `splits`: parts of a sequence's keys; 0 for the runner's choice. No result depends on it.
  public let splits: Int
  /// `mode`. No result depends on it.
  public let mode: Mode
  /// Keys and values as they lie in pages; nil for op `decode`.
  public let pages: CasePages?

  /// The file as it was named by the caller.
  public var file: String { attention.file }
  /// The operation's name in the file.
  public var operation: String { pages == nil ? "decode" : "paged_decode" }
}

/// Keys and values in pages, and whose pages they are.
///
/// Letters: P pages, G key heads, D key channels, E value channels, B sequences. Slots that hold no key
/// may hold anything.
public struct CasePages: Sendable {
  /// `[P, page, G, D]`; F32, F16 or BF16.
  public let keys: CaseTensor
  /// `[P, page, G, E]`; F32, F16 or BF16.
  public let values: CaseTensor
  /// `[B + 1]`, never falling, from 0: where each sequence's pages begin in ``indices``.
  public let indptr: [Int]
  /// The numbers of the pages, each in `0..<P`.
  public let indices: [Int]
  /// `[B]`: keys in each sequence's last page, `1...page`, or 0 where it has no page.
  public let lastPageLengths: [Int]

  /// Keys of a page.
  public var pageSize: Int { keys.shape[1] }

  /// `[B]`: the keys of each sequence.
  public var lengths: [Int] {
    lastPageLengths.enumerated().map { b, last in
      let pages = indptr[b + 1] - indptr[b]
      return pages == 0 ? 0 : (pages - 1) * pageSize + last
    }
  }
}

// MARK: - Reading

extension DecodeCase {
  private static let parameterNames = ["splits", "mode"]
  private static let pageInputs = [
    "k_pages", "v_pages", "page_indptr", "page_indices", "last_page_len",
  ]

  /// Checks that `file` is a sound case of op `decode`, or with `isPaged` of op `paged_decode`.
  init(
    _ file: SafetensorsFile, _ description: CaseDescription, isPaged: Bool
  ) throws(CaseFileError) {
    var splits = 0
    var mode = Mode.lean
    for member in description.parameters where Self.parameterNames.contains(member.key) {
      let reader = ParameterReader(
        file: file.name, field: "vkattn.params.\(member.key)", value: member.value)
      if member.key == "splits" {
        splits = try reader.integer(0...)
      } else {
        mode = try reader.name()
      }
    }
    let attentionDescription = description.without(parameters: Self.parameterNames)
    let pages = isPaged ? try CasePages(file) : nil
    attention = try AttentionCase(
      try pages.map { pages throws(CaseFileError) in
        SafetensorsFile(
          name: file.name,
          tensors: file.tensors.filter { !Self.pageInputs.contains($0.name) }
            + (try pages.contiguous(file.name)),
          metadata: file.metadata)
      } ?? file, attentionDescription, isPacked: false, moreParameters: Self.parameterNames)
    self.splits = splits
    self.mode = mode
    self.pages = pages
  }
}

extension CaseDescription {
  fileprivate func without(parameters names: [String]) -> CaseDescription {
    var description = self
    description.parameters.removeAll { names.contains($0.key) }
    return description
  }
}

extension CasePages {
  /// The most bytes that keys or values may take in the order of their positions: pages may be named any
  /// number of times.
  private static let contiguousByteLimit = 1 << 30

  fileprivate init(_ file: SafetensorsFile) throws(CaseFileError) {
    let tensors = try TensorTable(file, allowed: file.tensors.map(\.name))
    for name in ["k", "v", "kv_lengths"] where tensors.has(name) {
      throw tensors.error(name, .invalid("op paged_decode does not take it"))
    }
    let floats: [ElementType] = [.f32, .f16, .bf16]
    let q = try tensors.required("q", floats)
    guard q.shape.count == 4, q.shape.allSatisfy({ $0 > 0 }) else {
      throw tensors.shapeError(q, "[B, S, H, D] with sizes of at least 1")
    }
    let (batch, channels) = (q.shape[0], q.shape[3])
    keys = try tensors.required("k_pages", floats)
    guard keys.shape.count == 4, keys.shape[1] > 0, keys.shape[2] > 0, keys.shape[3] == channels
    else {
      throw tensors.shapeError(keys, "[P, page, G, \(channels)]")
    }
    values = try tensors.required("v_pages", floats)
    guard values.shape.count == 4, values.shape[..<3] == keys.shape[..<3], values.shape[3] > 0
    else {
      let sizes = keys.shape[..<3].map { "\($0), " }.joined()
      throw tensors.shapeError(values, "[\(sizes)E]")
    }
    guard q.shape[2] % keys.shape[2] == 0 else {
      throw tensors.error(
        "k_pages: shape",
        .invalid("\(q.shape[2]) query heads are no multiple of \(keys.shape[2]) heads"))
    }
    let (pages, pageSize) = (keys.shape[0], keys.shape[1])

    func integers(_ name: String, count: Int?) throws(CaseFileError) -> [Int] {
      let tensor = try tensors.required(name, [.i32])
      guard tensor.shape.count == 1, count == nil || tensor.count == count else {
        throw tensors.shapeError(tensor, count.map { "[\($0)]" } ?? "one axis")
      }
      return tensor.integers() ?? []
    }
    let starts = try integers("page_indptr", count: batch + 1)
    let all = try integers("page_indices", count: nil)
    let last = try integers("last_page_len", count: batch)
    if let first = starts.first, first != 0 {
      throw tensors.error("page_indptr", .invalid("begins at \(first), not at 0"))
    }
    for (start, end) in zip(starts, starts.dropFirst()) where end < start {
      throw tensors.error("page_indptr", .invalid("falls from \(start) to \(end)"))
    }
    let used = starts.last ?? 0
    guard used <= all.count else {
      throw tensors.error(
        "page_indptr", .invalid("ends at \(used), and page_indices has \(all.count)"))
    }
    for index in all[..<used] where !(0..<pages).contains(index) {
      throw tensors.error("page_indices", .invalid("\(index) is not one of \(pages) pages"))
    }
    for (b, length) in last.enumerated() {
      let allowed = starts[b] == starts[b + 1] ? 0...0 : 1...pageSize
      guard allowed.contains(length) else {
        throw tensors.error(
          "last_page_len",
          .invalid(
            "\(length) of sequence \(b) is not within "
              + "\(allowed.lowerBound)...\(allowed.upperBound)"))
      }
    }
    indptr = starts
    indices = Array(all[..<used])
    lastPageLengths = last
  }

  /// k `[B, T, G, D]`, v `[B, T, G, E]` and kv_lengths `[B]`, T being the longest sequence.
  fileprivate func contiguous(_ file: String) throws(CaseFileError) -> [CaseTensor] {
    let lengths = lengths
    let longest = lengths.max() ?? 0
    return [
      try contiguous("k", keys, lengths, longest, file),
      try contiguous("v", values, lengths, longest, file),
      CaseTensor(
        name: "kv_lengths", element: .i32, shape: [lengths.count],
        values: lengths.map { Double($0) }),
    ]
  }

  private func contiguous(
    _ name: String, _ pages: CaseTensor, _ lengths: [Int], _ longest: Int, _ file: String
  ) throws(CaseFileError) -> CaseTensor {
    // Key counts fit 64 bits by far, their product with the sizes of a page need not.
    func checkBytes(_ sizes: Int...) throws(CaseFileError) -> Int {
      var byteCount = pages.element.byteCount
      for size in sizes {
        let (product, overflow) = byteCount.multipliedReportingOverflow(by: size)
        guard !overflow, product <= Self.contiguousByteLimit else {
          throw CaseFileError(
            file, "tensor page_indptr",
            .invalid("names pages for more than \(Self.contiguousByteLimit) bytes of \(name)"))
        }
        byteCount = product
      }
      return byteCount
    }
    let rowBytes = try checkBytes(pages.shape[2], pages.shape[3])
    // Where there are no pages, no data vouch for their size.
    _ = try checkBytes(pages.shape[2], pages.shape[3], pageSize)
    let byteCount = try checkBytes(pages.shape[2], pages.shape[3], longest, lengths.count)
    // 0xFF throughout is NaN in all three types.
    var bytes = [UInt8](repeating: 0xFF, count: byteCount)
    for (b, length) in lengths.enumerated() {
      for page in 0..<indptr[b + 1] - indptr[b] {
        let count = min(pageSize, length - page * pageSize)
        let from = pages.bytes.startIndex + indices[indptr[b] + page] * pageSize * rowBytes
        let to = (b * longest + page * pageSize) * rowBytes
        bytes.replaceSubrange(
          to..<to + count * rowBytes, with: pages.bytes[from..<from + count * rowBytes])
      }
    }
    return CaseTensor(
      name: name, element: pages.element,
      shape: [lengths.count, longest, pages.shape[2], pages.shape[3]], checkedBytes: bytes[...])
  }
}
