import RealModule

extension AttentionProblem {
  /// The keys that the row sees, in rising order, and their finished scores; a key whose score is
  /// −inf counts as hidden.
  func visibleScores(of place: RowPlace) -> (keys: [Int], scores: [Double]) {
    let query = query(of: place, plus: options.queryBias)
    let relativeQuery =
      options.relativeKeys == nil ? [] : self.query(of: place, plus: options.relativeQueryBias)
    var keys: [Int] = []
    var scores: [Double] = []
    for j in 0..<place.length where isVisible(j, to: place) {
      var score = product(query, key: j, at: place)
      if let relativeKeys = options.relativeKeys {
        score += product(relativeQuery, relativeKeys, key: j, at: place)
      }
      score *= scale(of: place)
      if options.softcap > 0 { score = options.softcap * .tanh(score / options.softcap) }
      score += added(key: j, at: place)
      if score == -.infinity { continue }
      if let modification = options.scoreModification {
        score = modification(score, place.batch, place.head, place.token, j)
        if score == -.infinity { continue }
      }
      keys.append(j)
      scores.append(score)
    }
    return (keys, scores)
  }

  /// The row's D query channels, with its head's `[H, D]` bias added.
  private func query(of place: RowPlace, plus bias: [Double]?) -> [Double] {
    let channels = dimensions.keyChannels
    return (0..<channels).map { d in
      Double(q[place.row * channels + d]) + (bias?[place.head * channels + d] ?? 0)
    }
  }

  private func scale(of place: RowPlace) -> Double {
    let scale = options.scale ?? 1 / Double(dimensions.keyChannels).squareRoot()
    return scale
      * (options.queryScales?.value(batch: place.batch, token: place.token, head: place.head) ?? 1)
  }

  /// q·k.
  private func product(_ query: [Double], key j: Int, at place: RowPlace) -> Double {
    let token = place.batch * dimensions.keyTokens + j
    let start = (token * dimensions.keyHeads + place.group) * query.count
    return query.withUnsafeBufferPointer { query in
      k.withUnsafeBufferPointer { k in
        var sum = 0.0
        for d in query.indices { sum += query[d] * Double(k[start + d]) }
        return sum
      }
    }
  }

  /// The query's product with the key of j's distance.
  private func product(
    _ query: [Double], _ relativeKeys: [Double], key j: Int, at place: RowPlace
  ) -> Double {
    let start = (distanceEntry(j, place) * dimensions.queryHeads + place.head) * query.count
    var sum = 0.0
    for d in query.indices { sum += query[d] * relativeKeys[start + d] }
    return sum
  }

  /// What is added to a score after the soft cap.
  private func added(key j: Int, at place: RowPlace) -> Double {
    var sum = 0.0
    let (b, h, i) = (place.batch, place.head, place.token)
    if let bias = options.bias {
      sum += bias.values[bias.start(batch: b, head: h, token: i, dimensions) + j]
    }
    if let keyBias = options.keyBias {
      sum += keyBias.values[keyBias.start(batch: b, head: h, dimensions) + j]
    }
    if let relativeBias = options.relativeBias {
      let distances = options.relativeLeft + 1 + options.relativeRight
      let row = relativeBias.count == distances ? 0 : h
      sum += relativeBias[row * distances + distanceEntry(j, place)]
    }
    if let gridBias = options.gridBias {
      let (height, width) = (options.gridHeight, options.gridWidth)
      let y = i / width - j / width + height - 1
      let x = i % width - j % width + width - 1
      sum += gridBias[(y * (2 * width - 1) + x) * dimensions.queryHeads + h]
    }
    if let slopes = options.alibiSlopes { sum -= slopes[h] * Double(abs(place.position - j)) }
    return sum
  }

  /// The entry of key j in a table by distance.
  private func distanceEntry(_ j: Int, _ place: RowPlace) -> Int {
    let distance = j - place.position
    return min(max(distance, -options.relativeLeft), options.relativeRight) + options.relativeLeft
  }
}
