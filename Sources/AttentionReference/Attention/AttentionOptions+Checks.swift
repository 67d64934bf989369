extension AttentionOptions {
  /// Stops on options that do not fit the sizes: a mistake of the caller.
  func check(_ dimensions: AttentionDimensions) {
    checkVisibility(dimensions)
    checkScore(dimensions)
    checkRow(dimensions)
  }

  private func checkVisibility(_ dimensions: AttentionDimensions) {
    precondition((windowLeft ?? 0) >= 0 && (windowRight ?? 0) >= 0, "windows must not be negative")
    precondition(causalBlock >= 1, "causalBlock must be at least 1")
    precondition(
      sinkTokens >= 0 && prefixTokens >= 0 && chunk >= 0 && treeTokens >= 0,
      "sinkTokens, prefixTokens, chunk and treeTokens must not be negative")
    if let headWindows {
      precondition(headWindows.count == dimensions.queryHeads, "headWindows must have H windows")
      precondition(
        headWindows.allSatisfy { ($0.left ?? 0) >= 0 && ($0.right ?? 0) >= 0 },
        "windows must not be negative")
    }
    for (lengths, name) in [(kvLengths, "kvLengths"), (leftPadding, "leftPadding")] {
      guard let lengths else { continue }
      precondition(lengths.count == dimensions.batch, "\(name) must have B values")
      precondition(
        lengths.allSatisfy { (0...dimensions.keyTokens).contains($0) },
        "\(name) must lie in 0...T")
    }
    if let prefixLengths {
      precondition(prefixLengths.count == dimensions.batch, "prefixLengths must have B values")
      precondition(prefixLengths.allSatisfy { $0 >= 0 }, "prefixLengths must not be negative")
    }
    precondition(
      (querySegments == nil) == (keySegments == nil), "segments of queries and keys go together")
    querySegments?.checkShape(dimensions, tokens: dimensions.queryTokens, name: "querySegments")
    keySegments?.checkShape(dimensions, tokens: dimensions.keyTokens, name: "keySegments")
    precondition(
      (querySegments?.width ?? 1) == 1 && (keySegments?.width ?? 1) == 1,
      "a token has one segment")
    mask?.checkShape(dimensions, name: "mask")
    blockMap?.checkShape(dimensions)
    if let treeBits {
      precondition(treeTokens >= 1, "treeBits need treeTokens")
      precondition(
        treeBits.width == (treeTokens + 7) / 8, "treeBits must have ⌈treeTokens/8⌉ bytes")
      treeBits.checkShape(dimensions, tokens: dimensions.queryTokens, name: "treeBits")
    }
  }

  private func checkScore(_ dimensions: AttentionDimensions) {
    let (heads, channels) = (dimensions.queryHeads, dimensions.keyChannels)
    precondition(softcap >= 0, "softcap must not be negative")
    precondition(
      relativeLeft >= 0 && relativeRight >= 0, "relative distances must not be negative"
    )
    queryScales?.checkShape(dimensions, name: "queryScales")
    bias?.checkShape(dimensions, name: "bias")
    keyBias?.checkShape(dimensions, name: "keyBias")
    for perHead in [sinks, alibiSlopes] {
      precondition(
        (perHead?.count ?? heads) == heads, "sinks and alibiSlopes must have H values")
    }
    for perChannel in [queryBias, relativeQueryBias] {
      precondition(
        (perChannel?.count ?? heads * channels) == heads * channels,
        "queryBias and relativeQueryBias must be [H, D]")
    }
    let distances = relativeLeft + 1 + relativeRight
    if let relativeBias {
      precondition(
        [distances, heads * distances].contains(relativeBias.count),
        "relativeBias must be [H or 1, relativeLeft + 1 + relativeRight]")
    }
    if let relativeKeys {
      precondition(
        relativeKeys.count == distances * heads * channels,
        "relativeKeys must be [relativeLeft + 1 + relativeRight, H, D]")
    }
    precondition(
      relativeQueryBias == nil || relativeKeys != nil, "relativeQueryBias needs relativeKeys")
    if let gridBias {
      precondition(gridHeight >= 1 && gridWidth >= 1, "gridBias needs gridHeight and gridWidth")
      precondition(
        gridBias.count == (2 * gridHeight - 1) * (2 * gridWidth - 1) * heads,
        "gridBias must be [(2·gridHeight − 1)·(2·gridWidth − 1), H]")
      precondition(
        max(dimensions.queryTokens, dimensions.keyTokens) <= gridHeight * gridWidth,
        "S and T must lie in the window of gridBias")
    }
  }

  private func checkRow(_ dimensions: AttentionDimensions) {
    precondition(sinks == nil || normalizer == .softmax, "sinks go with softmax only")
    gates?.checkShape(dimensions, name: "gates")
    if let initialState {
      precondition(normalizer != .reluMean, "reluMean cannot go on from a state")
      precondition(
        initialState.max.count == dimensions.rowCount
          && initialState.sum.count == dimensions.rowCount
          && initialState.output.count == dimensions.oCount,
        "the initial state must be [B, S, H], [B, S, H] and [B, S, H, E]")
    }
  }
}
