/// The sizes of an attention, read off q, k, v and the bounds of packed sequences.
struct CaseSizes {
  let q: CaseTensor
  let k: CaseTensor
  let v: CaseTensor
  let cuSeqlensQ: CaseTensor?
  let cuSeqlensK: CaseTensor?
  /// B; of packed sequences N.
  let batch: Int
  let queryTokens: Int
  let keyTokens: Int
  let queryHeads: Int
  let keyHeads: Int
  let keyChannels: Int
  let valueChannels: Int
  /// T of each sequence.
  private let ownKeyTokens: [Int]

  /// The shape of lse.
  var rows: [Int] {
    cuSeqlensQ == nil ? [batch, queryTokens, queryHeads] : [queryTokens, queryHeads]
  }

  init(_ tensors: TensorTable, isPacked: Bool) throws(CaseFileError) {
    let floats: [ElementType] = [.f32, .f16, .bf16]
    q = try tensors.required("q", floats)
    k = try tensors.required("k", floats)
    v = try tensors.required("v", floats)
    // The sizes before S and T: [B], or nothing.
    let lead = isPacked ? 0 : 1
    let letters = isPacked ? "" : "B, "
    guard q.shape.count == lead + 3, q.shape.allSatisfy({ $0 > 0 }) else {
      throw tensors.shapeError(q, "[\(letters)S, H, D] with sizes of at least 1")
    }
    let batchSizes = Array(q.shape[..<lead])
    let batchText = batchSizes.map { "\($0), " }.joined()
    (queryTokens, queryHeads) = (q.shape[lead], q.shape[lead + 1])
    keyChannels = q.shape[lead + 2]
    guard k.shape.count == lead + 3, Array(k.shape[..<lead]) == batchSizes,
      k.shape[lead + 1] > 0, k.shape[lead + 2] == keyChannels
    else {
      throw tensors.shapeError(k, "[\(batchText)T, G, \(keyChannels)]")
    }
    (keyTokens, keyHeads) = (k.shape[lead], k.shape[lead + 1])
    guard v.shape.count == lead + 3, Array(v.shape[..<(lead + 2)]) == Array(k.shape[..<(lead + 2)]),
      v.shape[lead + 2] > 0
    else {
      throw tensors.shapeError(v, "[\(batchText)\(keyTokens), \(keyHeads), E]")
    }
    valueChannels = v.shape[lead + 2]
    guard queryHeads % keyHeads == 0 else {
      throw tensors.error(
        "k: shape", .invalid("\(queryHeads) query heads are no multiple of \(keyHeads) heads"))
    }
    // With T = 0 the values have no bytes, and E is the one size that no data vouch for.
    let rowCount = q.count / keyChannels
    let (oCount, overflow) = rowCount.multipliedReportingOverflow(by: valueChannels)
    if overflow || oCount > SafetensorsFile.fileByteLimit / 4 {
      throw tensors.error("v: shape", .invalid("\(valueChannels) value channels are too many"))
    }

    guard isPacked else {
      (cuSeqlensQ, cuSeqlensK) = (nil, nil)
      batch = batchSizes[0]
      ownKeyTokens = Array(repeating: keyTokens, count: batch)
      return
    }
    let queryBounds = try tensors.required("cu_seqlens_q", [.i32])
    guard queryBounds.shape.count == 1, queryBounds.count >= 2 else {
      throw tensors.shapeError(queryBounds, "[N + 1] for 1 or more sequences")
    }
    let keyBounds = try tensors.required("cu_seqlens_k", [.i32])
    guard keyBounds.shape == queryBounds.shape else {
      throw tensors.shapeError(keyBounds, "\(queryBounds.shape)")
    }
    for (bounds, tokens) in [(queryBounds, queryTokens), (keyBounds, keyTokens)] {
      let values = bounds.integers() ?? []
      for value in values where !(0...tokens).contains(value) {
        throw tensors.error(bounds.name, .invalid("\(value) is not within 0...\(tokens)"))
      }
      for (value, next) in zip(values, values.dropFirst()) where next < value {
        throw tensors.error(bounds.name, .invalid("falls from \(value) to \(next)"))
      }
    }
    (cuSeqlensQ, cuSeqlensK) = (queryBounds, keyBounds)
    batch = queryBounds.count - 1
    let starts = keyBounds.integers() ?? []
    ownKeyTokens = zip(starts, starts.dropFirst()).map { $1 - $0 }
  }

  /// An optional `[B]` I32 tensor of counts, none negative; with `withinKeys` none above the
  /// sequence's own T.
  func perSequence(
    _ name: String, _ tensors: TensorTable, withinKeys: Bool
  ) throws(CaseFileError) -> CaseTensor? {
    guard let counts = try tensors.optional(name, [.i32], shape: [batch]) else { return nil }
    for (count, limit) in zip(counts.integers() ?? [], ownKeyTokens) {
      if withinKeys && !(0...limit).contains(count) {
        throw tensors.error(name, .invalid("\(count) is not within 0...\(limit)"))
      }
      if count < 0 { throw tensors.error(name, .invalid("\(count) is negative")) }
    }
    return counts
  }
}
