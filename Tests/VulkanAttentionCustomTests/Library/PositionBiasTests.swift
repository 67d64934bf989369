import AttentionReference
import KernelBenchmarks
import RealModule
import TestSupport
import Testing

@testable import VulkanAttentionCustom

/// Biases by position: against the library's own options, or the paper's formula in the reference.
@Suite(.serialized, .timeLimit(.minutes(15)), .needsDevice, .needsShaderc)
struct PositionBiasTests {
  @Test("ALiBi and the soft cap are the built-in ones", arguments: LibraryProblem.paths)
  func alibiAndSoftcap(path: AttentionPath) async throws {
    let slopes: [Float] = [0.5, 0.25, 0.125, 0.0625]
    for (queries, keys) in LibraryProblem.shapes {
      let empty = max(queries - keys, 0)
      let plain = try LibraryProblem(
        queries: queries, keys: keys, mask: .causal, queryDeviation: 4)
      var biased = try LibraryProblem(
        queries: queries, keys: keys, mask: .causal,
        operands: [AttentionOperand(.alibiSlopes, shared: .batch)])
      biased.inputs = plain.inputs
      biased.inputs.operands[.alibiSlopes] = libraryMemory(slopes)
      try plain.expectEqual(
        await plain.run(path, score: .alibi, buffers: ["slopes": .floats(slopes)]),
        await biased.runBuiltIn(path), emptyTokens: empty, "ALiBi, \(path), \(queries) × \(keys)")

      // Scores of some tens are far in the bend of the first and in the straight part of the second.
      for cap in [Float(2), 50] {
        var scores = AttentionScores()
        scores.softcap = cap
        var capped = try LibraryProblem(
          queries: queries, keys: keys, mask: .causal, scores: scores)
        capped.inputs = plain.inputs
        try plain.expectEqual(
          await plain.run(path, score: .softcap(cap)), await capped.runBuiltIn(path),
          emptyTokens: empty, "soft cap \(cap), \(path), \(queries) × \(keys)")
      }
    }
  }

  @Test("A soft cap holds scores of any size", arguments: LibraryProblem.paths)
  func softcapOfLargeScores(path: AttentionPath) async throws {
    let problem = try LibraryProblem(queries: 9, keys: 21, queryDeviation: 1e4)
    let expected = problem.reference {
      $0.scoreModification = { score, _, _, _, _ in 30 * .tanh(score / 30) }
    }
    try problem.expectEqual(
      await problem.run(path, score: .softcap(30)), expected, emptyTokens: 0, "\(path)")
  }

  @Test("T5's bias takes every bucket of T5", arguments: LibraryProblem.paths)
  func t5RelativeBias(path: AttentionPath) async throws {
    let heads = LibraryProblem.queryHeads
    for (buckets, maxDistance, isBidirectional, queries, keys) in [
      (8, 20, true, 37, 53), (8, 20, false, 53, 37), (32, 128, true, 151, 307),
    ] {
      let weights = libraryNumbers(buckets * heads, seed: "t5", deviation: 2)
      let problem = try LibraryProblem(queries: queries, keys: keys, scale: 1)
      let offset = problem.positionOffset
      let expected = problem.reference {
        $0.scoreModification = { score, _, h, i, j in
          let bucket = t5Bucket(
            j - i - offset, buckets: buckets, maxDistance: maxDistance,
            bidirectional: isBidirectional)
          return score + Double(weights[bucket * heads + h])
        }
      }
      let score = try ScoreModification.t5RelativeBias(
        heads: heads, buckets: buckets, maxDistance: maxDistance, isBidirectional: isBidirectional)
      try problem.expectEqual(
        await problem.run(path, score: score, buffers: ["weights": .floats(weights)]), expected,
        emptyTokens: 0, "\(path), \(buckets) buckets to \(maxDistance), \(isBidirectional)")
    }
  }

  @Test("Distances at which T5's buckets begin give every distance its bucket")
  func t5Distances() throws {
    for (buckets, maxDistance, isBidirectional) in [
      (32, 128, true), (32, 128, false), (8, 20, true), (4, 2, true), (4, 3, true), (2, 2, false),
      (3, 9, false), (64, 1000, true), (256, 129, false), (256, 5000, true),
    ] {
      let exact = (isBidirectional ? buckets / 2 : buckets) / 2
      let first = try RelativeBuckets(
        count: buckets, maxDistance: maxDistance, isBidirectional: isBidirectional
      ).firstDistances(above: exact)
      let found = (0...maxDistance + 3).map { distance in
        min(distance, exact) + first.count { distance >= $0 }
      }
      let expected = (0...maxDistance + 3).map {
        t5Bucket(-$0, buckets: buckets, maxDistance: maxDistance, bidirectional: isBidirectional)
      }
      #expect(found == expected, "\(buckets) buckets to \(maxDistance)")
    }
  }

  @Test(
    "Decay is the logarithm of the gates between key and query", arguments: LibraryProblem.paths)
  func decay(path: AttentionPath) async throws {
    let heads = LibraryProblem.queryHeads
    for (queries, keys) in LibraryProblem.shapes {
      let capacity = keys + 3
      // Forget gates of 0.5 to 1.
      let gates = (0..<2 * heads * capacity).map { index -> Double in
        let step = (index / capacity * 31 + index % capacity * 17) % 97
        return 0.5 + Double(step) / 194
      }
      var sums: [Float] = []
      for row in 0..<2 * heads {
        var sum = 0.0
        for t in 0..<capacity {
          sum += .log(gates[row * capacity + t])
          // What belongs to no key must not count.
          sums.append(t < keys ? Float(sum) : .nan)
        }
      }
      let problem = try LibraryProblem(queries: queries, keys: keys, mask: .causal)
      let offset = problem.positionOffset
      let expected = problem.reference {
        $0.scoreModification = { score, b, h, i, j in
          let first = (b * heads + h) * capacity
          return (j + 1..<max(i + offset, j) + 1).reduce(score) { $0 + .log(gates[first + $1]) }
        }
      }
      try problem.expectEqual(
        await problem.run(
          path, score: .decay(heads: heads), buffers: ["decay": .floats(sums)],
          scalars: ["keyCapacity": .int(Int32(capacity))]),
        expected, emptyTokens: max(-offset, 0), "\(path), \(queries) × \(keys)")
    }
  }

  @Test("ConViT's positional scores, and their gated mix", arguments: LibraryProblem.paths)
  func gridPositions(path: AttentionPath) async throws {
    let width = 9
    let heads = LibraryProblem.queryHeads
    // Heads that look at their own place, to the left, upwards and anywhere: −α (1, −2Δx, −2Δy).
    let weights: [Float] = [-1, 0, 0, -0.5, -1, 0, -0.25, 0, -1, 0.01, -0.02, 0.03]
    let positional: ScoreFunction = { _, _, h, i, j in
      let x = Double(j % width - (i + width) % width)
      let y = Double(j / width - ((i + width) / width - 1))
      return Double(weights[3 * h]) * (x * x + y * y) + Double(weights[3 * h + 1]) * x
        + Double(weights[3 * h + 2]) * y
    }
    // As many keys as queries, fewer queries by a row, and a row of queries before the grid.
    for (queries, keys) in [(45, 45), (36, 45), (54, 45)] {
      let problem = try LibraryProblem(queries: queries, keys: keys)
      let offset = problem.positionOffset
      let expected = problem.reference {
        $0.scoreModification = { positional($0, $1, $2, $3 + offset, $4) }
      }
      try problem.expectEqual(
        await problem.run(
          path, score: .gridPositions(gridWidth: width),
          buffers: ["positionWeights": .floats(weights)]),
        expected, emptyTokens: 0, "\(path), \(queries) × \(keys)")
    }

    // The mix of both softmaxes is the sum of two gated outputs.
    let gates: [Float] = [0.25, 0.5, 0.75, 0.9375]
    let gated = AttentionOperand(.gates, shared: [.batch, .queries])
    var content = try LibraryProblem(queries: 45, keys: 45, operands: [gated])
    var places = content
    content.inputs.operands[.gates] = libraryMemory(gates.map { 1 - $0 })
    places.inputs.operands[.gates] = libraryMemory(gates)
    let first = try await content.runBuiltIn(path)
    let second = try await places.run(
      path, score: .gridPositions(gridWidth: width),
      buffers: ["positionWeights": .floats(weights)])
    let byContent = content.reference { _ in }
    let byPlace = content.reference { $0.scoreModification = positional }
    let size = content.request.valueHeadSize
    expectClose(
      zip(first.output, second.output).map { $0 + $1 },
      to: byContent.o.indices.map {
        let gate = Double(gates[$0 / size % heads])
        return (1 - gate) * byContent.o[$0] + gate * byPlace.o[$0]
      }, within: 1e-5, "mix, \(path)")
  }

  @Test("Arguments that make no score are refused")
  func arguments() {
    for cap in [0, -1, .infinity, .nan] as [Float] {
      expectRefused("cap") { try ScoreModification.softcap(cap) }
    }
    expectRefused("heads") { try ScoreModification.decay(heads: 0) }
    expectRefused("heads") { try ScoreModification.t5RelativeBias(heads: 0, isBidirectional: true) }
    expectRefused("buckets") {
      try ScoreModification.t5RelativeBias(heads: 1, buckets: 257, isBidirectional: false)
    }
    expectRefused("count") {
      try ScoreModification.t5RelativeBias(heads: 1, buckets: 5, isBidirectional: true)
    }
    expectRefused("maxDistance") {
      try ScoreModification.t5RelativeBias(heads: 1, maxDistance: 8, isBidirectional: true)
    }
    expectRefused("gridWidth") { try ScoreModification.gridPositions(gridWidth: 0) }
  }
}
