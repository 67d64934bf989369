import AttentionReference
import TestSupport
import Testing

@testable import VulkanAttentionCustom

/// Masks by position: against the library's own options, or the rule of the paper in the reference.
@Suite(.serialized, .timeLimit(.minutes(15)), .needsDevice, .needsShaderc)
struct PositionMaskTests {
  /// Holds a mask against a rule of batch entry, position of the query and key.
  private func expect(
    _ mask: MaskModification, _ path: AttentionPath, queries: Int, keys: Int, emptyTokens: Int,
    _ what: String, sourceLocation: SourceLocation = #_sourceLocation,
    _ isVisible: @escaping @Sendable (_ batch: Int, _ position: Int, _ key: Int) -> Bool
  ) async throws {
    let problem = try LibraryProblem(queries: queries, keys: keys)
    let offset = problem.positionOffset
    let expected = problem.reference {
      $0.maskModification = { b, _, i, j in isVisible(b, i + offset, j) }
    }
    try problem.expectEqual(
      await problem.run(path, mask: mask), expected, emptyTokens: emptyTokens,
      "\(path), \(queries) × \(keys), \(what)", sourceLocation: sourceLocation)
  }

  @Test("Causal, sliding and prefix masks are the built-in ones", arguments: LibraryProblem.paths)
  func builtInMasks(path: AttentionPath) async throws {
    for (queries, keys) in LibraryProblem.shapes {
      let early = max(queries - keys, 0)
      let plain = try LibraryProblem(queries: queries, keys: keys)
      let causal = try LibraryProblem(queries: queries, keys: keys, mask: .causal)
      try plain.expectEqual(
        await plain.run(path, mask: .causal), await causal.runBuiltIn(path), emptyTokens: early,
        "\(path), \(queries) × \(keys), causal")

      for (left, right) in [(9, 0), (3, 5), (nil, 2), (0, nil)] as [(Int?, Int?)] {
        let windowed = try LibraryProblem(
          queries: queries, keys: keys,
          mask: .window(left: left, right: right, isCausal: false))
        try plain.expectEqual(
          await plain.run(path, mask: .slidingWindow(left: left, right: right)),
          await windowed.runBuiltIn(path), emptyTokens: max(early - (right ?? queries), 0),
          "\(path), \(queries) × \(keys), window \(left ?? -1), \(right ?? -1)")
      }

      let prefixes: [Int32] = [11, 0]
      var prefixed = try LibraryProblem(
        queries: queries, keys: keys, mask: .causal, operands: [AttentionOperand(.prefixLengths)])
      prefixed.inputs = plain.inputs
      prefixed.inputs.operands[.prefixLengths] = libraryMemory(prefixes)
      let expected = try await prefixed.runBuiltIn(path)
      // Batch entry 1 has no prefix: half of the early rows.
      let result = try await plain.run(
        path, mask: .prefixCausal, buffers: ["prefixLengths": .integers(prefixes)])
      #expect(result.logSumExp?.count { $0 == -.infinity } == early * LibraryProblem.queryHeads)
      expectClose(
        result.output, to: expected.output.map(Double.init), within: 1e-5, "o, prefix, \(path)")
      expectEach(
        try #require(result.logSumExp), within: 1e-4,
        of: try #require(expected.logSumExp).map(Double.init), "lse, prefix, \(path)")
    }
  }

  @Test(
    "A dilated window sees every n-th key, cut off at the ends", arguments: LibraryProblem.paths)
  func dilatedWindow(path: AttentionPath) async throws {
    try await expect(
      .dilatedWindow(left: 4, right: 2, dilation: 3), path, queries: 37, keys: 53, emptyTokens: 0,
      "4, 2, dilation 3"
    ) { _, p, j in (-4...2).contains { j == p + 3 * $0 } }
    // Positions −7 and earlier are too far from key 0.
    try await expect(
      .dilatedWindow(left: nil, right: 2, dilation: 3), path, queries: 53, keys: 37,
      emptyTokens: 10, "nil, 2, dilation 3"
    ) { _, p, j in j <= p + 6 && stride(from: p + 6, through: -99, by: -3).contains(j) }
  }

  @Test("Documents are the built-in segments", arguments: LibraryProblem.paths)
  func documents(path: AttentionPath) async throws {
    for (queries, keys) in LibraryProblem.shapes {
      // Room for more keys than there are; what is there belongs to nobody.
      let capacity = keys + 6
      let numbers = (0..<2 * capacity).map { index -> Int32 in
        let (b, token) = (index / capacity, index % capacity)
        return token < keys ? Int32(token * (b + 2) / 17) : -9
      }
      let plain = try LibraryProblem(queries: queries, keys: keys)
      let result = try await plain.run(
        path, mask: .documents, buffers: ["documents": .integers(numbers)],
        scalars: ["keyCapacity": .int(Int32(capacity))])
      var segmented = try LibraryProblem(
        queries: queries, keys: keys,
        operands: [AttentionOperand(.querySegments), AttentionOperand(.keySegments)])
      segmented.inputs = plain.inputs
      let offset = plain.positionOffset
      let querySegments = (0..<2 * queries).map { index -> Int32 in
        let position = index % queries + offset
        // Queries before all keys are of no document.
        return position < 0 ? -1 : numbers[index / queries * capacity + position]
      }
      let keySegments = (0..<2 * keys).map { numbers[$0 / keys * capacity + $0 % keys] }
      segmented.inputs.operands[.querySegments] = libraryMemory(querySegments)
      segmented.inputs.operands[.keySegments] = libraryMemory(keySegments)
      try plain.expectEqual(
        result, await segmented.runBuiltIn(path), emptyTokens: max(-offset, 0),
        "\(path), \(queries) × \(keys)")
    }
  }

  @Test("PHD's repeated tokens see first copies and their own", arguments: LibraryProblem.paths)
  func repeatedTokens(path: AttentionPath) async throws {
    for (queries, keys) in LibraryProblem.shapes {
      try await expect(
        .repeatedTokens(copies: 3), path, queries: queries, keys: keys,
        emptyTokens: max(queries - keys, 0), "3 copies"
      ) { _, p, j in
        guard p >= 0 else { return false }
        // As pairs of token and copy, both from 1, as the paper counts.
        let (n, i) = (p / 3 + 1, p % 3 + 1)
        let (m, l) = (j / 3 + 1, j % 3 + 1)
        return (l == 1 && m < n) || (m == n && l <= i)
      }
    }
  }

  @Test("MTLA's queries see themselves and finished chunks", arguments: LibraryProblem.paths)
  func temporalLatent(path: AttentionPath) async throws {
    for (queries, keys) in LibraryProblem.shapes {
      try await expect(
        .temporalLatent(stride: 4), path, queries: queries, keys: keys,
        emptyTokens: max(queries - keys, 0), "stride 4"
      ) { _, p, j in
        j == p || (j < p && Set(stride(from: 3, to: 53, by: 4)).contains(j))
      }
    }
  }

  @Test("ACDiT's noised blocks skip their own clean one", arguments: LibraryProblem.paths)
  func skipCausal(path: AttentionPath) async throws {
    // 20 clean tokens in 3 blocks of 7, the last one cut short, then noised ones.
    for (queries, keys) in LibraryProblem.shapes {
      try await expect(
        .skipCausal(blockTokens: 7, cleanTokens: 20), path, queries: queries, keys: keys,
        emptyTokens: max(queries - keys, 0), "20 clean tokens, blocks of 7"
      ) { _, p, j in
        guard p >= 0 else { return false }
        switch (p < 20, j < 20) {
        case (true, true): return j / 7 <= p / 7
        case (true, false): return false
        case (false, true): return j / 7 < (p - 20) / 7
        case (false, false): return (j - 20) / 7 == (p - 20) / 7
        }
      }
    }
  }

  @Test("Arguments that make no mask are refused")
  func arguments() {
    expectRefused("dilation") { try MaskModification.dilatedWindow(left: 1, dilation: 0) }
    expectRefused("left") { try MaskModification.slidingWindow(left: -1) }
    expectRefused("left") { try MaskModification.dilatedWindow(left: 1 << 20, dilation: 1 << 20) }
    expectRefused("right") { try MaskModification.slidingWindow(left: 1, right: 1 << 40) }
    expectRefused("copies") { try MaskModification.repeatedTokens(copies: 0) }
    expectRefused("stride") { try MaskModification.temporalLatent(stride: -1) }
    expectRefused("blockTokens") {
      try MaskModification.skipCausal(blockTokens: 0, cleanTokens: 1)
    }
    expectRefused("cleanTokens") {
      try MaskModification.skipCausal(blockTokens: 1, cleanTokens: -1)
    }
  }
}

/// Fails where an argument is not refused by its name.
func expectRefused<Modification>(
  _ name: String, sourceLocation: SourceLocation = #_sourceLocation,
  _ make: () throws -> Modification
) {
  do {
    _ = try make()
    Issue.record("\(name) was taken", sourceLocation: sourceLocation)
  } catch CustomAttentionError.attention(.invalidArgument(let refused, _, _)) {
    #expect(refused == name, sourceLocation: sourceLocation)
  } catch {
    Issue.record("\(error)", sourceLocation: sourceLocation)
  }
}
