extension ScoreModification {
  /// Gemma 2's soft cap: cap · tanh(score / cap).
  ///
  /// Paper: "Gemma 2: Improving Open Language Models at a Practical Size", https://arxiv.org/abs/2408.00118,
  /// section 2. `AttentionScores.softcap` says the same; this one comes behind the request's biases. Reads no buffer
  /// and no scalar.
  ///
  /// - Parameter cap: above 0; 50 in Gemma 2.
  /// - Throws: `CustomAttentionError.attention(.invalidArgument)`.
  public static func softcap(_ cap: Float) throws(CustomAttentionError) -> ScoreModification {
    try LibraryArgument.checkPositive("cap", cap)
    return ScoreModification(
      library:
        "return \(LibraryArgument.text(cap)) * softcapTanh(score / \(LibraryArgument.text(cap)));",
      declarations: """
        float softcapTanh(float x) {
          // GLSL's tanh may overflow for large arguments, and the quotient cancels near 0: there its Taylor series.
          float square = x * x;
          float series = x * (1.0 + square * (-1.0 / 3.0 + square * (2.0 / 15.0 + square * (-17.0 / 315.0
            + square * (62.0 / 2835.0 + square * (-1382.0 / 155925.0))))));
          return abs(x) < 0.5 ? series : 1.0 - 2.0 / (1.0 + exp(2.0 * x));
        }
        """)
  }

  /// Scores of keys that are the centres of Gaussians of one width: −‖q − k‖² / (2σ²) up to what is equal for all keys
  /// of a row.
  ///
  ///     (q·k − ‖k‖² / 2) / σ²
  ///
  /// Outputs are those of the distances. The log-sum-exp lacks −‖q‖² / (2σ²), which a row's keys share. The `scale` of
  /// the request must be 1, so that the score that is handed on is q·k.
  ///
  /// Paper: Nguyen et al. 2021, "Improving Transformers with Probabilistic Attention Keys" (Transformer-MGK),
  /// https://arxiv.org/abs/2110.08678.
  ///
  /// - Buffers: `keyNorms`, ‖k‖², [B, G, keyCapacity] of `f32`.
  /// - Scalars: `keyCapacity`, `int`: keys that each row of the buffer has room for, T or more.
  ///
  /// - Parameters:
  ///   - deviation: σ, above 0.
  ///   - keyHeads: G, the key heads of the request.
  /// - Throws: `CustomAttentionError.attention(.invalidArgument)`.
  public static func gaussianKeys(
    deviation: Float, keyHeads: Int
  ) throws(CustomAttentionError) -> ScoreModification {
    try LibraryArgument.checkPositive("deviation", deviation)
    try LibraryArgument.check("keyHeads", keyHeads, from: 1)
    let precision = LibraryArgument.text(1 / (deviation * deviation))
    return ScoreModification(
      library: """
        int key = (batch * \(keyHeads) + int(keyHead)) * keyCapacity + keyIndex;
        return (score - 0.5 * keyNorms(key)) * \(precision);
        """, buffers: [CustomBuffer("keyNorms", .f32)], scalars: [.keyCapacity])
  }

  /// Scores of keys that are mixtures of Gaussians (Transformer-MGK): the keys of a token are the centres of its M
  /// components, each with a weight and a width.
  ///
  ///     ln π[r] − ‖q − k‖² / (2σ[r]²),   r = j mod M
  ///
  /// Keys are expanded: key j is component j mod M of token ⌊j / M⌋, and the values are repeated for it, so that
  /// softmax over all keys gives the paper's weights of tokens. The `scale` of the request must be 1, so that the
  /// score that is handed on is q·k. A causal mask of a request counts expanded keys, as do the masks of
  /// this library.
  ///
  /// Paper: Nguyen et al. 2021, "Improving Transformers with Probabilistic Attention Keys",
  /// https://arxiv.org/abs/2110.08678.
  ///
  /// - Buffers: `precisions`, 1 / σ[r]², [M] of `f32`; `logWeights`, ln π[r], [M] of `f32`; `queryNorms`, ‖q‖²,
  ///   [B, H, S] of `f32`; `keyNorms`, ‖k‖², [B, G, keyCapacity] of `f32`.
  /// - Scalars: `keyCapacity`, `int`: expanded keys that each row of `keyNorms` has room for, T or more.
  ///
  /// - Parameters:
  ///   - components: M, 1 or more.
  ///   - queryHeads: H, the query heads of the request.
  ///   - keyHeads: G, the key heads of the request.
  /// - Throws: `CustomAttentionError.attention(.invalidArgument)`.
  public static func gaussianMixtureKeys(
    components: Int, queryHeads: Int, keyHeads: Int
  ) throws(CustomAttentionError) -> ScoreModification {
    try LibraryArgument.check("components", components, from: 1)
    try LibraryArgument.check("queryHeads", queryHeads, from: 1)
    try LibraryArgument.check("keyHeads", keyHeads, from: 1)
    return ScoreModification(
      library: """
        int query = (batch * \(queryHeads) + head) * int(queryTokens) + queryIndex;
        int key = (batch * \(keyHeads) + int(keyHead)) * keyCapacity + keyIndex;
        int component = keyIndex % \(components);
        float halfSquare = score - 0.5 * (queryNorms(query) + keyNorms(key));
        return halfSquare * precisions(component) + logWeights(component);
        """,
      buffers: [
        CustomBuffer("precisions", .f32), CustomBuffer("logWeights", .f32),
        CustomBuffer("queryNorms", .f32), CustomBuffer("keyNorms", .f32),
      ], scalars: [.keyCapacity])
  }

  /// Scores of queries and keys in polar form, whose angle difference a function of one's own adapts, in the place of
  /// the score:
  ///
  ///     scale · Σ_c ρq[c] · ρk[c] · cos(adapt(θq[c] − θk[c]) + (p − j) · ω[c]),   p = i + positionOffset
  ///
  /// A function that is not affine cannot be split between query and key: each score takes C cosines here, far more
  /// work than a dot product. With an affine one it can; rotary embedding and plain attention of the rectangular form
  /// give the same then.
  ///
  /// The form is that of ComplexFormer (Shao et al. 2025, https://arxiv.org/abs/2505.10222, withdrawn by its authors),
  /// whose adaptation is learned for each head and whose position term is taken for rotary frequencies here. q and k
  /// of the request are not looked at, except that a pair whose q·k is NaN keeps it.
  ///
  /// - Buffers: `queryRadii` and `queryAngles`, ρq and θq, [B, S, H, C] of `f32`; `keyRadii` and `keyAngles`, ρk and
  ///   θk, [B, keyCapacity, G, C] of `f32`; `frequencies`, ω, [C] of `f32` in radians; those of `buffers`.
  /// - Scalars: `keyCapacity`, `int`: keys that each batch entry of the buffers has room for, T or more.
  ///
  /// - Parameters:
  ///   - adapt: GLSL, the body of `float adapt(float difference, int head, int channel)`.
  ///   - buffers: what it reads by index, at most 3.
  ///   - channels: C, complex channels of a head.
  ///   - queryHeads: H, the query heads of the request.
  ///   - keyHeads: G, the key heads of the request.
  ///   - scale: finite.
  /// - Throws: `CustomAttentionError.attention(.invalidArgument)`; `refused`, `snippetTooLarge`, `invalidParameters`
  ///   for what is wrong with `adapt` and its buffers.
  public static func polar(
    adapt: String = "return difference;", buffers: [CustomBuffer] = [], channels: Int,
    queryHeads: Int, keyHeads: Int, scale: Float
  ) throws(CustomAttentionError) -> ScoreModification {
    try LibraryArgument.check("channels", channels, from: 1)
    try LibraryArgument.check("queryHeads", queryHeads, from: 1)
    try LibraryArgument.check("keyHeads", keyHeads, from: 1)
    guard scale.isFinite else {
      throw LibraryArgument.invalid("scale", "\(scale)", "a finite number")
    }
    // On its own first, so that it cannot close the function around it.
    try SnippetScanner.check(adapt, .scoreDeclarations)
    return try ScoreModification(
      """
      int query = ((batch * int(queryTokens) + queryIndex) * \(queryHeads) + head) * \(channels);
      int key = ((batch * keyCapacity + keyIndex) * \(keyHeads) + int(keyHead)) * \(channels);
      float distance = float(queryIndex + positionOffset - keyIndex);
      float sum = 0.0;
      for (int channel = 0; channel < \(channels); ++channel) {
        float angle = polarAdapt(queryAngles(query + channel) - keyAngles(key + channel), head, channel);
        float product = queryRadii(query + channel) * keyRadii(key + channel);
        sum += product * polarCosine(angle + distance * frequencies(channel));
      }
      return isnan(score) ? score : \(LibraryArgument.text(scale)) * sum;
      """,
      declarations: """
        float polarAdapt(float difference, int head, int channel) { \(adapt)
        }
        float polarCosine(float angle) {
          // GLSL promises 3 digits between -pi and pi alone. cos(2 pi a) = sin(2 pi (1/4 - a)), a in 0 ... 1/2.
          float turns = angle * 0.15915494309189535;
          float x = 6.283185307179586 * (0.25 - abs(turns - round(turns)));
          float square = x * x;
          return x * (1.0 + square * (-1.0 / 6.0 + square * (1.0 / 120.0 + square * (-1.0 / 5040.0
            + square * (1.0 / 362880.0 + square * (-1.0 / 39916800.0))))));
        }
        """,
      buffers: [
        CustomBuffer("queryRadii", .f32), CustomBuffer("queryAngles", .f32),
        CustomBuffer("keyRadii", .f32), CustomBuffer("keyAngles", .f32),
        CustomBuffer("frequencies", .f32),
      ] + buffers, scalars: [.keyCapacity])
  }
}
