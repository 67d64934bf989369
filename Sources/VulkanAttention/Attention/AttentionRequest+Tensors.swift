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
    (view(of: tensor).elementCount ?? 0) * elementType.byteCount
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
    return TensorView(
      name: tensor.rawValue, strides: strides, batch: batchSize,
      tokens: isQuery ? queryTokens : keyTokens, heads: isQuery ? queryHeads : keyHeads,
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

  func check(areStridesGiven: Bool) throws(AttentionError) {
    let granularity = AttentionRequest.elementGranularity
    for axis in axes where axis.extent > 1 {
      if !areStridesGiven, axis.stride < 0 || axis.stride > Int(UInt32.max) {
        throw .tooLarge(tensor: name)
      }
      guard axis.stride >= 0, axis.stride <= Int(UInt32.max), axis.stride % granularity == 0 else {
        throw .invalidArgument(
          name: "\(name)Strides.\(axis.name)", value: "\(axis.stride)",
          allowed: "a multiple of \(granularity) elements from 0 to \(UInt32.max)")
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
