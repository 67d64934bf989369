extension MaskModification {
  /// A sliding window: p − left ≤ j ≤ p + right, p = i + `positionOffset` being the query's position.
  ///
  /// Paper: Beltagy et al. 2020, "Longformer", https://arxiv.org/abs/2004.05150. Reads no buffer and no scalar.
  /// `AttentionMask.window(left:right:isCausal:)` says the same, and is faster.
  ///
  /// - Parameters:
  ///   - left: keys before the query's own, 0 or more; nil for no limit.
  ///   - right: keys behind it, likewise; 0 makes the window causal.
  /// - Throws: `CustomAttentionError.attention(.invalidArgument)`.
  public static func slidingWindow(
    left: Int?, right: Int? = 0
  ) throws(CustomAttentionError) -> MaskModification {
    try dilatedWindow(left: left, right: right, dilation: 1)
  }

  /// A sliding window with gaps: of the keys p − left · dilation ≤ j ≤ p + right · dilation those whose distance to
  /// the query is a multiple of the dilation.
  ///
  /// Paper: Beltagy et al. 2020, "Longformer", https://arxiv.org/abs/2004.05150, section 3.1. At the ends of the
  /// sequence the window is cut off; ``neighborhood(grid:kernel:dilation:)`` shifts it instead. Reads no buffer and no
  /// scalar.
  ///
  /// - Parameters:
  ///   - left: keys seen before the query's own, 0 or more; nil for no limit.
  ///   - right: keys seen behind it, likewise.
  ///   - dilation: the distance of neighbours in the window, 1 or more.
  /// - Throws: `CustomAttentionError.attention(.invalidArgument)`.
  public static func dilatedWindow(
    left: Int?, right: Int? = 0, dilation: Int
  ) throws(CustomAttentionError) -> MaskModification {
    try LibraryArgument.check("dilation", dilation, from: 1)
    let longest = AttentionMask.largestExtent / dilation
    try LibraryArgument.check("left", left ?? 0, from: 0, to: longest)
    try LibraryArgument.check("right", right ?? 0, from: 0, to: longest)
    var conditions: [String] = []
    if dilation > 1 { conditions.append("distance % \(dilation) == 0") }
    if let left { conditions.append("keyIndex >= position - \(left * dilation)") }
    if let right { conditions.append("keyIndex <= position + \(right * dilation)") }
    return MaskModification(
      library: """
        int position = queryIndex + positionOffset;
        int distance = abs(position - keyIndex);
        return \(conditions.isEmpty ? "true" : conditions.joined(separator: " && "));
        """)
  }
}
