extension AttentionProblem {
  /// Whether key j, one of the sequence's own n, is visible: every option must allow it.
  func isVisible(_ j: Int, to place: RowPlace) -> Bool {
    if let padding = options.leftPadding, j < padding[place.batch] { return false }
    if options.causal && isInFuture(j, of: place) { return false }
    if j >= options.sinkTokens && !isNear(j, to: place) { return false }
    switch options.blockMap?.value(
      batch: place.batch, head: place.head, token: place.token, key: j, dimensions)
    {
    case 0: return false
    case 2: return true
    default: return passesDataMasks(j, at: place)
    }
  }

  /// Whether the masks that are data leave key j to the query.
  private func passesDataMasks(_ j: Int, at place: RowPlace) -> Bool {
    if let queries = options.querySegments, let keys = options.keySegments {
      let query = queries.start(batch: place.batch, token: place.token, of: dimensions.queryTokens)
      let key = keys.start(batch: place.batch, token: j, of: dimensions.keyTokens)
      let same = queries.values[query] == keys.values[key]
      if same != (options.segmentRule == .same) { return false }
    }
    if let mask = options.mask {
      let start = mask.start(batch: place.batch, head: place.head, token: place.token, dimensions)
      if mask.values[start + j] == 0 { return false }
    }
    if let tree = options.treeBits {
      let w = j - (place.length - options.treeTokens)
      let start = tree.start(batch: place.batch, token: place.token, of: dimensions.queryTokens)
      if w >= 0 && tree.values[start + w / 8] >> (w % 8) & 1 == 0 { return false }
    }
    return options.maskModification?(place.batch, place.head, place.token, j) ?? true
  }

  /// Behind the query's causal block and not in the prefix.
  private func isInFuture(_ j: Int, of place: RowPlace) -> Bool {
    let prefix = options.prefixLengths?[place.batch] ?? options.prefixTokens
    return j >= prefix
      && floored(j, by: options.causalBlock) > floored(place.position, by: options.causalBlock)
  }

  /// In the query's window and in its chunk.
  private func isNear(_ j: Int, to place: RowPlace) -> Bool {
    let window = options.headWindows?[place.head]
    let left = window.map(\.left) ?? options.windowLeft
    let right = window.map(\.right) ?? options.windowRight
    if let left, j < place.position - left { return false }
    if let right, j > place.position + right { return false }
    return options.chunk == 0
      || floored(j, by: options.chunk) == floored(place.position, by: options.chunk)
  }

  /// ⌊x / size⌋, towards −∞: a position may be negative.
  private func floored(_ x: Int, by size: Int) -> Int {
    x >= 0 ? x / size : -((-x + size - 1) / size)
  }
}
