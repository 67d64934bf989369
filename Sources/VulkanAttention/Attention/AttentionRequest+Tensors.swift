extension AttentionRequest {
  /// The tensors of an attention.
  public enum Tensor: String, Sendable, Hashable, CaseIterable {
    /// q [B, S, H, D].
    case query
    /// k [B, T, G, D].
    case key
    /// v [B, T, G, E].
    case value
    /// o [B, S, H, E].
    case output
  }

  /// The size in bytes that a tensor's buffer needs: up to the end of its last row.
  public func byteCount(of tensor: Tensor) -> Int {
    // `init` has checked that this does not overflow.
    (view(of: tensor).elementCount ?? 0) * type(of: tensor).byteCount
  }

  /// The type of a tensor's elements.
  public func type(of tensor: Tensor) -> ElementType {
    switch tensor {
    case .query: elementType
    case .key: keyType
    case .value: valueType
    case .output: outputType
    }
  }

  func view(of tensor: Tensor) -> TensorView {
    let isQuery = tensor == .query || tensor == .output
    let strides =
      switch tensor {
      case .query: queryStrides
      case .key: keyStrides
      case .value: valueStrides
      case .output: outputStrides
      }
    let tokens =
      isQuery
      ? packedSequences?.queryTokens ?? queryTokens : packedSequences?.keyTokens ?? keyTokens
    // Each key source is a tensor of one head.
    return TensorView(
      name: tensor.rawValue, strides: strides, batch: packedSequences == nil ? batchSize : 1,
      tokens: tokens, heads: isQuery ? queryHeads : hasKeySources ? 1 : keyHeads,
      channels: tensor == .query || tensor == .key ? headSize : valueHeadSize)
  }
}

/// A tensor's extents with its strides.
struct TensorView {
  let name: String
  let strides: TensorStrides
  let batch: Int
  let tokens: Int
  let heads: Int
  let channels: Int

  /// The extents and strides of the outer axes.
  private var axes: [(name: String, extent: Int, stride: Int)] {
    [
      ("batch", batch, strides.batch), ("token", tokens, strides.token),
      ("head", heads, strides.head),
    ]
  }

  /// Elements up to the end of the last row; nil where that is more than can be counted.
  var elementCount: Int? {
    if axes.contains(where: { $0.extent == 0 }) { return 0 }
    var last = channels
    for axis in axes {
      let (product, overflows) = (axis.extent - 1).multipliedReportingOverflow(by: axis.stride)
      let (sum, sumOverflows) = last.addingReportingOverflow(product)
      if overflows || sumOverflows { return nil }
      last = sum
    }
    return last
  }

  /// The strides of the axes that have more than one entry.
  var steps: [Int] { axes.filter { $0.extent > 1 }.map(\.stride) }

  /// Whether rows begin at multiples of 8 elements and have whole eights of them.
  var isAligned: Bool {
    let granularity = AttentionRequest.elementGranularity
    return channels % granularity == 0
      && axes.allSatisfy { $0.extent <= 1 || $0.stride % granularity == 0 }
  }

  func check(areStridesGiven: Bool) throws(AttentionError) {
    for axis in axes where axis.extent > 1 {
      if !areStridesGiven, axis.stride < 0 || axis.stride > Int(UInt32.max) {
        throw .tooLarge(tensor: name)
      }
      guard axis.stride >= 0, axis.stride <= Int(UInt32.max) else {
        throw .invalidArgument(
          name: "\(name)Strides.\(axis.name)", value: "\(axis.stride)",
          allowed: "0 to \(UInt32.max) elements")
      }
    }
    // 2^48 elements lie beyond every device's address space.
    guard let elementCount, elementCount <= 1 << 48 else { throw .tooLarge(tensor: name) }
  }

  /// Refuses strides that let two rows share elements.
  ///
  /// Sorted by stride, each axis must step over all that the smaller ones cover.
  func checkRowsAreApart() throws(AttentionError) {
    var covered = channels
    for axis in axes.filter({ $0.extent > 1 }).sorted(by: { $0.stride < $1.stride }) {
      guard axis.stride >= covered else {
        throw .invalidArgument(
          name: "\(name)Strides.\(axis.name)", value: "\(axis.stride)",
          allowed: "at least \(covered), so that no two rows share memory")
      }
      covered = (axis.extent - 1) * axis.stride + covered
    }
  }
}
