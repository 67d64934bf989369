internal import VulkanAttention

extension ScoreModification {
  /// Attention with linear biases (ALiBi): score − slope[h] · |p − j|, p = i + `positionOffset`.
  ///
  /// Paper: Press et al. 2021, "Train Short, Test Long: Attention with Linear Biases Enables Input Length
  /// Extrapolation", https://arxiv.org/abs/2108.12409. The operand `alibiSlopes` of a request says the same.
  ///
  /// - Buffers: `slopes`, [H] of `f32`; 2^(−8(h + 1)/H) in the paper, H being a power of 2.
  public static let alibi = ScoreModification(
    library: """
      float distance = float(abs(keyIndex - queryIndex - positionOffset));
      return score - slopes(head) * distance;
      """, buffers: [CustomBuffer("slopes", .f32)])

  /// T5's relative position bias: score + weights[bucket(j − p), h], p = i + `positionOffset`.
  ///
  /// Half of a side's buckets hold one distance each, the others grow with its logarithm up to `maxDistance`; keys
  /// behind the query have half of all buckets where the bias is bidirectional, and count as distance 0 elsewhere.
  /// The distances at which buckets begin are those of `RelativeBuckets`, f32 rounding included, and are written into
  /// the text, so that no device's logarithm decides on a bucket. Expanded by distance, the operand `relativeBias` of
  /// a request says the same.
  ///
  /// Paper: Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer",
  /// https://arxiv.org/abs/1910.10683, section 2.1. T5 does not scale q·k: the request's `scale` is 1 there.
  ///
  /// - Buffers: `weights`, [buckets, H] of `f32`, as models store them.
  ///
  /// - Parameters:
  ///   - heads: H, the query heads of the request.
  ///   - buckets: all buckets, 2 to 256; 4 or more and even if bidirectional.
  ///   - maxDistance: from there on a side shares its last bucket; above the distances of one bucket each.
  ///   - isBidirectional: true in encoders, false in decoders.
  /// - Throws: `CustomAttentionError.attention(.invalidArgument)`.
  public static func t5RelativeBias(
    heads: Int, buckets: Int = 32, maxDistance: Int = 128, isBidirectional: Bool
  ) throws(CustomAttentionError) -> ScoreModification {
    try LibraryArgument.check("heads", heads, from: 1)
    // Each bucket beyond those of one distance is a comparison for every score.
    try LibraryArgument.check("buckets", buckets, from: 2, to: 256)
    let rule = try wrappingAttentionErrors { () throws(AttentionError) in
      try RelativeBuckets(
        count: buckets, maxDistance: maxDistance, isBidirectional: isBidirectional)
    }
    let exact = (isBidirectional ? buckets / 2 : buckets) / 2
    let comparisons = rule.firstDistances(above: exact).map {
      "bucket += distance >= \($0) ? 1 : 0;\n"
    }
    return ScoreModification(
      library: """
        int offset = keyIndex - queryIndex - positionOffset;
        int distance = \(isBidirectional ? "abs(offset)" : "max(-offset, 0)");
        int bucket = min(distance, \(exact));
        \(comparisons.joined())\
        bucket += \(isBidirectional ? "offset > 0 ? \(buckets / 2) : 0" : "0");
        return score + weights(bucket * \(heads) + head);
        """, buffers: [CustomBuffer("weights", .f32)])
  }

  /// Forgetting attention's decay: score + c[b,h,p] − c[b,h,j], c being the running sum of a head's log forget gates.
  ///
  ///     c[b,h,t] = Σ_(l ≤ t) ln f[b,h,l],   so that the bias is ln of the product of the gates of j + 1 ... p
  ///
  /// It goes with the causal mask of a request. Its sum is f32: over long sequences let c begin near the tokens that
  /// matter, since only differences count. A query that stands at no key takes the nearest one's c.
  ///
  /// Paper: Lin et al. 2025, "Forgetting Transformer: Softmax Attention with a Forget Gate",
  /// https://arxiv.org/abs/2503.02130.
  ///
  /// - Buffers: `decay`, c, [B, H, keyCapacity] of `f32`, natural logarithms.
  /// - Scalars: `keyCapacity`, `int`: keys that each row of the buffer has room for, T or more.
  ///
  /// - Parameter heads: H, the query heads of the request.
  /// - Throws: `CustomAttentionError.attention(.invalidArgument)`.
  public static func decay(heads: Int) throws(CustomAttentionError) -> ScoreModification {
    try LibraryArgument.check("heads", heads, from: 1)
    return ScoreModification(
      library: """
        int place = clamp(queryIndex + positionOffset, 0, int(keyTokens) - 1);
        int first = (batch * \(heads) + head) * keyCapacity;
        return score + (decay(first + place) - decay(first + keyIndex));
        """, buffers: [CustomBuffer("decay", .f32)], scalars: [.keyCapacity])
  }

  /// ConViT's positional scores, w[h] · (‖δ‖², δx, δy), in the place of the score; δ is the key's offset from the
  /// query on a grid whose tokens follow one another row by row.
  ///
  /// Gated positional self-attention mixes two softmaxes, which no function of one score can:
  ///
  ///     (1 − g[h]) · softmax(q·k / √D) v + g[h] · softmax(w[h] · (‖δ‖², δx, δy)) v,   g = sigmoid(λ)
  ///
  /// It separates: run a plain attention and one with these scores, each with its share of g as the operand `gates`
  /// of its request, and add the outputs (`ElementwiseRequest`).
  ///
  /// Paper: d'Ascoli et al. 2021, "ConViT", https://arxiv.org/abs/2103.10697.
  ///
  /// - Buffers: `positionWeights`, w, [H, 3] of `f32`.
  ///
  /// - Parameter gridWidth: tokens of a row of the grid.
  /// - Throws: `CustomAttentionError.attention(.invalidArgument)`.
  public static func gridPositions(gridWidth: Int) throws(CustomAttentionError) -> ScoreModification
  {
    try LibraryArgument.check("gridWidth", gridWidth, from: 1, to: LibraryArgument.largestSide)
    return ScoreModification(
      library: """
        int position = queryIndex + positionOffset;
        // Rounded down: a query may stand before the grid.
        int row = position >= 0 ? position / \(gridWidth) : -((\(gridWidth) - 1 - position) / \(gridWidth));
        float x = float(keyIndex % \(gridWidth) - (position - row * \(gridWidth)));
        float y = float(keyIndex / \(gridWidth) - row);
        float weighted = positionWeights(head * 3) * (x * x + y * y);
        weighted += positionWeights(head * 3 + 1) * x + positionWeights(head * 3 + 2) * y;
        // A query or key that is no number stays none.
        return isnan(score) ? score : weighted;
        """, buffers: [CustomBuffer("positionWeights", .f32)])
  }
}

extension RelativeBuckets {
  /// The distances before the query at which its buckets begin that hold more than one distance, except for the first
  /// of them, which begins at `exact`.
  func firstDistances(above exact: Int) -> [Int] {
    let last = bucket(ofDistance: -maxDistance)
    guard last > exact else { return [] }
    return (exact + 1...last).map { wanted in
      // Buckets never fall with the distance.
      var (lowest, highest) = (exact, maxDistance)
      while lowest < highest {
        let middle = (lowest + highest) / 2
        if bucket(ofDistance: -middle) >= wanted { highest = middle } else { lowest = middle + 1 }
      }
      return lowest
    }
  }
}
