/// One merge of partial results of an attention over disjoint sets of keys.
///
///     M = max over p of lse[p]        w[p] = exp(lse[p] − M)
///     O = Σ_p w[p] · O[p] / Σ_p w[p]        LSE = M + ln Σ_p w[p]
///
/// for every row and head, with the partials in the order p = 0 … N − 1, so that the result is the
/// attention over all keys: keys split for decoding, a cached prefix shared by many sequences, a ring of
/// devices. Papers: FlashInfer, https://arxiv.org/abs/2501.01005 (section 2.2; its functions `merge_state`
/// and `merge_states` take a log-sum-exp in base 2); FlashAttention, https://arxiv.org/abs/2205.14135; online softmax,
/// https://arxiv.org/abs/1805.02867.
///
/// Letters: N partials, H heads, E channels of an output. Log-sum-exps are natural logarithms in f32.
///
/// - A partial with lse = −∞ saw no key and counts for nothing, whatever its output holds, NaN included. A
///   row without another gives O = 0 and LSE = −∞.
/// - An lse of NaN, or NaN in the output of a partial that counts, makes the row NaN.
/// - Beside lse = +∞ the finite ones weigh nothing; several infinite ones weigh the same.
public struct StateMergeRequest: Sendable, Hashable {
  /// How many partial results the rows have.
  public enum Partials: Sendable, Hashable {
    /// N of every row, 1 or more.
    case perRow(Int)
    /// As many of all rows together, 0 or more. Row r merges those from starts[r] up to starts[r + 1] of a
    /// buffer of `rowCount` + 1 Int32 in device memory, all heads alike (FlashInfer's `merge_indptr`). What
    /// of this lies beyond the total is left out.
    case total(Int)
  }

  /// The number of rows, as a rule the tokens of all batch entries.
  public let rowCount: Int
  /// H, the heads of a row.
  public let headCount: Int
  /// The number of partial results.
  public let partials: Partials
  /// E, the channels of one output.
  public let valueHeadSize: Int
  /// The type of the partial outputs.
  public let elementType: ElementType
  /// The type of the merged output [rowCount, H, E], which is contiguous.
  public let mergedElementType: ElementType
  /// Whether the merged log-sum-exp [rowCount, H] is returned as well.
  public let returnsLogSumExp: Bool
  /// Where the partial outputs [N, rowCount, H, E] lie.
  public let outputStrides: StateStrides
  /// Where the partial log-sum-exps [N, rowCount, H] lie.
  public let logSumExpStrides: StateStrides

  /// Head sizes that the kernel takes: beyond those of the attention kernels, for latent attention.
  public static let valueHeadSizes = 1...576

  /// States a merge; everything that no device could run is refused here.
  ///
  /// - Parameters:
  ///   - rowCount: 1 or more.
  ///   - headCount: H, 1 or more. What has no heads, or none that matter, has one.
  ///   - partials: how many partial results there are.
  ///   - valueHeadSize: E, from 1 to 576; multiples of 8, with such strides, are the fastest.
  ///   - elementType: the type of the partial outputs.
  ///   - mergedElementType: the type of the merged output; `elementType` by default.
  ///   - returnsLogSumExp: whether the merged log-sum-exp is returned as well.
  ///   - outputStrides: contiguous [N, rowCount, H, E] by default. A request for two states in buffers of
  ///     their own has no use for the stride from partial to partial.
  ///   - logSumExpStrides: contiguous [N, rowCount, H] by default.
  /// - Throws: `AttentionError.invalidArgument` or `tooLarge`.
  public init(
    rowCount: Int, headCount: Int = 1, partials: Partials, valueHeadSize: Int,
    elementType: ElementType = .f32, mergedElementType: ElementType? = nil,
    returnsLogSumExp: Bool = true, outputStrides: StateStrides? = nil,
    logSumExpStrides: StateStrides? = nil
  ) throws(AttentionError) {
    try Self.checkCount("rowCount", rowCount, from: 1)
    try Self.checkCount("headCount", headCount, from: 1)
    switch partials {
    case .perRow(let count): try Self.checkCount("partials", count, from: 1)
    case .total(let count): try Self.checkCount("partials", count, from: 0)
    }
    guard Self.valueHeadSizes.contains(valueHeadSize) else {
      throw .invalidArgument(
        name: "valueHeadSize", value: "\(valueHeadSize)",
        allowed: "\(Self.valueHeadSizes.lowerBound) to \(Self.valueHeadSizes.upperBound)")
    }
    self.rowCount = rowCount
    self.headCount = headCount
    self.partials = partials
    self.valueHeadSize = valueHeadSize
    self.elementType = elementType
    self.mergedElementType = mergedElementType ?? elementType
    self.returnsLogSumExp = returnsLogSumExp
    func contiguous(channels: Int) -> StateStrides {
      switch partials {
      case .perRow: .partialMajor(rows: rowCount, heads: headCount, channels: channels)
      case .total: .listed(heads: headCount, channels: channels)
      }
    }
    self.outputStrides = outputStrides ?? contiguous(channels: valueHeadSize)
    self.logSumExpStrides = logSumExpStrides ?? contiguous(channels: 1)
    // The shader numbers its invocations in 32 bits.
    let (vectors, overflows) = (rowCount * headCount).multipliedReportingOverflow(
      by: ceilingDivide(valueHeadSize, 8))
    guard !overflows, vectors <= Int(Int32.max) else { throw .tooLarge(tensor: "output") }
    try check(self.outputStrides, "outputStrides", "partialOutputs", channels: valueHeadSize)
    try check(self.logSumExpStrides, "logSumExpStrides", "partialLogSumExps", channels: 1)
  }

  private static func checkCount(
    _ name: String, _ value: Int, from lowest: Int
  ) throws(AttentionError) {
    guard value >= lowest, value <= Int(Int32.max) else {
      throw .invalidArgument(
        name: name, value: "\(value)", allowed: "\(lowest) to \(Int32.max)")
    }
  }

  private func check(
    _ strides: StateStrides, _ name: String, _ tensor: String, channels: Int
  ) throws(AttentionError) {
    for (axis, stride) in [
      ("partial", strides.partial), ("row", strides.row), ("head", strides.head),
    ] where stride < 0 {
      throw .invalidArgument(
        name: "\(name).\(axis)", value: "\(stride)", allowed: "0 elements or more")
    }
    if case .total = partials, strides.row != 0 {
      throw .invalidArgument(
        name: "\(name).row", value: "\(strides.row)",
        allowed: "0 with a total of partials, which rows find by their starts")
    }
    // 2^48 elements lie beyond every device's address space.
    guard let count = elementCount(strides, channels: channels, partials: partialCount),
      count <= 1 << 48
    else { throw .tooLarge(tensor: tensor) }
  }
}

extension StateMergeRequest {
  /// The partials of one row, or of all rows together.
  var partialCount: Int {
    switch partials {
    case .perRow(let count), .total(let count): count
    }
  }

  /// The strides' axes with their extents.
  private func axes(
    _ strides: StateStrides, partials count: Int
  ) -> [(extent: Int, stride: Int)] {
    [(count, strides.partial), (rowCount, strides.row), (headCount, strides.head)]
  }

  /// Elements up to the end of the last one; nil where that is more than can be counted.
  private func elementCount(_ strides: StateStrides, channels: Int, partials count: Int) -> Int? {
    if count == 0 { return 0 }
    var last = channels
    for axis in axes(strides, partials: count) {
      let (product, overflows) = (axis.extent - 1).multipliedReportingOverflow(by: axis.stride)
      let (sum, sumOverflows) = last.addingReportingOverflow(product)
      if overflows || sumOverflows { return nil }
      last = sum
    }
    return last
  }

  // `init` has checked that none of these overflows.

  /// Bytes from the first partial output to the end of the last one.
  public var partialOutputByteCount: Int { outputByteCount(partials: partialCount) }

  /// Bytes from the first partial log-sum-exp to the end of the last one.
  public var partialLogSumExpByteCount: Int { logSumExpByteCount(partials: partialCount) }

  /// The size of the merged output in bytes.
  public var outputByteCount: Int {
    rowCount * headCount * valueHeadSize * mergedElementType.byteCount
  }

  /// The size of the merged log-sum-exp in bytes.
  public var logSumExpByteCount: Int { rowCount * headCount * MemoryLayout<Float>.size }

  /// The size of the starts in bytes, 0 where every row has the same number of partials.
  public var partialStartByteCount: Int {
    if case .total = partials { (rowCount + 1) * MemoryLayout<Int32>.size } else { 0 }
  }

  /// As many outputs, one for a state in a buffer of its own.
  func outputByteCount(partials count: Int) -> Int {
    (elementCount(outputStrides, channels: valueHeadSize, partials: count) ?? 0)
      * elementType.byteCount
  }

  func logSumExpByteCount(partials count: Int) -> Int {
    (elementCount(logSumExpStrides, channels: 1, partials: count) ?? 0)
      * MemoryLayout<Float>.size
  }

  /// The bytes that must move at least; with a total of partials, if each is of one row.
  public var compulsoryBytes: Double {
    let merged = Double(rowCount) * Double(headCount)
    let read =
      switch partials {
      case .perRow(let count): merged * Double(count)
      case .total(let count): Double(count) * Double(headCount)
      }
    return read * Double(valueHeadSize * elementType.byteCount + 4)
      + merged * Double(valueHeadSize * mergedElementType.byteCount)
      + (returnsLogSumExp ? merged * 4 : 0) + Double(partialStartByteCount)
  }

  /// Channels that can be moved at once: 8 or 4 where head size and strides are multiples of them, or 1.
  var channelsPerAccess: Int {
    let strides = axes(outputStrides, partials: partialCount).filter { $0.extent > 1 }
    return [8, 4].first { width in
      valueHeadSize % width == 0 && strides.allSatisfy { $0.stride % width == 0 }
    } ?? 1
  }

  /// What the addresses of outputs of a type must be multiples of.
  func alignment(of type: ElementType) -> Int {
    switch channelsPerAccess {
    case 8: 16
    case 4: 8
    default: type.byteCount
    }
  }

  /// Whether the first partial lies as the merged result does, and apart from the others.
  ///
  /// - Parameter isAlone: whether it has a buffer of its own.
  func isFirstPartialContiguous(
    _ strides: StateStrides, channels: Int, isAlone: Bool
  ) -> Bool {
    guard case .perRow(let count) = partials else { return false }
    let contiguous = StateStrides.partialMajor(
      rows: rowCount, heads: headCount, channels: channels)
    return (headCount == 1 || strides.head == contiguous.head)
      && (rowCount == 1 || strides.row == contiguous.row)
      && (isAlone || count == 1 || strides.partial >= contiguous.partial)
  }
}
