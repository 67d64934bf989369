extension MaskModification {
  private static let treeTokens = CustomScalar("treeTokens", .int)

  /// A tree of draft tokens by its nodes' parents: a query sees all keys before the tree, its ancestors in it and
  /// itself.
  ///
  /// The last W = `treeTokens` keys are the nodes, parents before their children. The query at position
  /// p = i + `positionOffset` is node p − (n − W), n being the sequence's keys; one before the tree sees j ≤ p.
  /// ``treeAncestors`` looks one bit up instead of walking up the tree, for more memory.
  ///
  /// Paper: Miao et al. 2023, "SpecInfer", https://arxiv.org/abs/2305.09781.
  ///
  /// - Buffers: `parents`, [B, W] of `int32`: the number of each node's parent, less than its own; −1 for a root.
  /// - Scalars: `treeTokens`, `int`: W, 0 to n.
  public static let treeParents = MaskModification(
    library: """
      int tree = int(keyTokens) - treeTokens;
      int node = queryIndex + positionOffset - tree;
      int wanted = keyIndex - tree;
      if (node < 0) { return keyIndex <= queryIndex + positionOffset; }
      if (wanted < 0) { return true; }
      node = min(node, treeTokens - 1);
      while (node > wanted) {
        // Downwards in any case, so that a wrong parent ends nowhere else. Lanes that have arrived may load as well.
        node = min(parents(batch * treeTokens + max(node, 0)), node - 1);
      }
      return node == wanted;
      """, buffers: [CustomBuffer("parents", .int32)], scalars: [treeTokens])

  /// A tree of draft tokens by bits: query i sees all keys before the tree, and of the last W = `treeTokens` keys
  /// those whose bit is set.
  ///
  /// Key n − W + w is node w, n being the sequence's keys; bit w mod 8, the lowest first, of byte ⌊w / 8⌋ of row i is
  /// 1 where the query sees it, its own node included. The operand `treeBits` of a request has the same bytes and says
  /// the same.
  ///
  /// Papers: Miao et al. 2023, "SpecInfer", https://arxiv.org/abs/2305.09781; Cai et al. 2024, "Medusa",
  /// https://arxiv.org/abs/2401.10774.
  ///
  /// - Buffers: `ancestors`, [B, S, ⌈W / 8⌉] of `uint8`.
  /// - Scalars: `treeTokens`, `int`: W, 1 to n.
  public static let treeAncestors = MaskModification(
    library: """
      int node = keyIndex - (int(keyTokens) - treeTokens);
      int row = (batch * int(queryTokens) + queryIndex) * ((treeTokens + 7) / 8);
      // Keys before the tree have no bit, and must not be looked up before the buffer.
      int place = max(node, 0);
      return node < 0 || (ancestors(row + place / 8) >> (place % 8) & 1) == 1;
      """, buffers: [CustomBuffer("ancestors", .uint8)], scalars: [treeTokens])
}
