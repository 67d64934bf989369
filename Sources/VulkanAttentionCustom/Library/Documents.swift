extension MaskModification {
  /// Documents packed into one sequence: a query sees the keys whose token has the same number as its own.
  ///
  ///     documents[b, p] = documents[b, j],   p = i + positionOffset
  ///
  /// For self-attention, where the query at position p is the token of key p; queries that stand at no key see none.
  /// Queries of other sequences than the keys have two arrays of numbers, the operands `querySegments` and
  /// `keySegments` of a request. Together with a causal mask of the request it is the mask of packed language-model
  /// training; where documents lie one behind the other, packed sequences are faster.
  ///
  /// Paper: Krell et al. 2021, "Efficient Sequence Packing without Cross-contamination",
  /// https://arxiv.org/abs/2107.02027.
  ///
  /// - Buffers: `documents`, [B, keyCapacity] of `int32`.
  /// - Scalars: `keyCapacity`, `int`: keys that each batch entry of the buffer has room for, T or more.
  public static let documents = MaskModification(
    library: """
      int position = queryIndex + positionOffset;
      // What is at no key is not looked up there either.
      int place = clamp(position, 0, int(keyTokens) - 1);
      int first = batch * keyCapacity;
      return place == position && documents(first + place) == documents(first + keyIndex);
      """, buffers: [CustomBuffer("documents", .int32)], scalars: [.keyCapacity])
}
