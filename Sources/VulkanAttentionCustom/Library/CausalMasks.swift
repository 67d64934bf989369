extension MaskModification {
  /// The causal mask: query i at position p = i + `positionOffset` sees key j where j ≤ p.
  ///
  /// Paper: Vaswani et al. 2017, "Attention Is All You Need", https://arxiv.org/abs/1706.03762, section 3.2.3.
  /// Reads no buffer and no scalar. `AttentionMask.causal` says the same, and is faster.
  public static let causal = MaskModification(
    library: "return keyIndex <= queryIndex + positionOffset;")

  /// The causal mask with a prefix that is seen from everywhere: j ≤ p or j < prefix of the batch entry.
  ///
  /// Paper: Dong et al. 2019, "Unified Language Model Pre-training" (UniLM), https://arxiv.org/abs/1905.03197.
  /// `AttentionMask.prefixTokens` says the same, and is faster.
  ///
  /// Buffers: `prefixLengths`, [B] of `int32`, keys of each batch entry's prefix, any number.
  public static let prefixCausal = MaskModification(
    library: "return keyIndex <= queryIndex + positionOffset || keyIndex < prefixLengths(batch);",
    buffers: [CustomBuffer("prefixLengths", .int32)])

  /// The skip-causal mask of ACDiT over a sequence of clean tokens followed by noised ones.
  ///
  /// Keys 0 ..< `cleanTokens` are the clean blocks, later ones the noised blocks, both in order and of `blockTokens`
  /// each; there may be a noised block more than there are clean ones. With c(t) the block of a token among those of
  /// its kind, query p sees key j where
  ///
  ///     clean p, clean j:   c(j) ≤ c(p)
  ///     clean p, noised j:  never
  ///     noised p, clean j:  c(j) < c(p)
  ///     noised p, noised j: c(j) = c(p)
  ///
  /// This is for training and for scoring whole sequences; when blocks are generated one by one over a cache of clean
  /// blocks, a noised block sees all of the cache and needs no mask.
  ///
  /// Paper: Hu et al. 2024, "ACDiT", https://arxiv.org/abs/2412.07720. Reads no buffer and no scalar.
  ///
  /// - Parameters:
  ///   - blockTokens: tokens of a block, 1 or more.
  ///   - cleanTokens: clean tokens in front, 0 or more.
  /// - Throws: `CustomAttentionError.attention(.invalidArgument)`.
  public static func skipCausal(
    blockTokens: Int, cleanTokens: Int
  ) throws(CustomAttentionError) -> MaskModification {
    try LibraryArgument.check("blockTokens", blockTokens, from: 1)
    try LibraryArgument.check("cleanTokens", cleanTokens, from: 0)
    return MaskModification(
      library: """
        int position = queryIndex + positionOffset;
        bool queryIsClean = position < \(cleanTokens);
        bool keyIsClean = keyIndex < \(cleanTokens);
        int queryBlock = (position - (queryIsClean ? 0 : \(cleanTokens))) / \(blockTokens);
        int keyBlock = (keyIndex - (keyIsClean ? 0 : \(cleanTokens))) / \(blockTokens);
        bool seesClean = queryIsClean ? keyBlock <= queryBlock : keyBlock < queryBlock;
        return position >= 0 && (keyIsClean ? seesClean : !queryIsClean && keyBlock == queryBlock);
        """)
  }

  /// The two-class rule of parallel hidden decoding (PHD), whose every token is repeated.
  ///
  /// Token t of the sequence is copy t mod K of token t / K of the text, K being `copies`. A query sees the first
  /// copies of all earlier tokens of the text, and the copies of its own token up to itself:
  ///
  ///     t_q = (n, i), t_k = (m, l):   (l = 0 and m < n) or (m = n and l ≤ i)
  ///
  /// It is for sequences that hold all copies. Where the cache keeps first copies alone, the keys are others, and so
  /// is the rule.
  ///
  /// Paper: Wu et al. 2025, "Efficient Pretraining Length Scaling" (PHD-Transformer), https://arxiv.org/abs/2504.14992.
  /// Reads no buffer and no scalar.
  ///
  /// - Parameter copies: K, 1 or more; with 1 it is the causal mask.
  /// - Throws: `CustomAttentionError.attention(.invalidArgument)`.
  public static func repeatedTokens(copies: Int) throws(CustomAttentionError) -> MaskModification {
    try LibraryArgument.check("copies", copies, from: 1)
    return MaskModification(
      library: """
        int position = queryIndex + positionOffset;
        int token = keyIndex / \(copies);
        int ownToken = position / \(copies);
        bool isEarlier = token < ownToken && keyIndex % \(copies) == 0;
        return position >= 0 && (isEarlier || (token == ownToken && keyIndex <= position));
        """)
  }

  /// The stride-aware causal mask of multi-head temporal latent attention (MTLA).
  ///
  /// Each key is the merge of its chunk of `stride` tokens as far as it has come, so that a query sees itself and the
  /// finished chunks: j = p, or j < p with (j + 1) mod stride = 0.
  ///
  /// Paper: Deng and Woodland 2025, "Multi-head Temporal Latent Attention", https://arxiv.org/abs/2505.13544. Reads no
  /// buffer and no scalar.
  ///
  /// - Parameter stride: tokens merged into one slot, 1 or more; with 1 it is the causal mask.
  /// - Throws: `CustomAttentionError.attention(.invalidArgument)`.
  public static func temporalLatent(stride: Int) throws(CustomAttentionError) -> MaskModification {
    try LibraryArgument.check("stride", stride, from: 1)
    return MaskModification(
      library: """
        int position = queryIndex + positionOffset;
        return keyIndex == position || (keyIndex < position && (keyIndex + 1) % \(stride) == 0);
        """)
  }
}
