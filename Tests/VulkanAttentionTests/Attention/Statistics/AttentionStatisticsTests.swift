import AttentionReference
import Foundation
import TestSupport
import Testing

@testable import VulkanAttention

/// Statistics on the device, against the probabilities of the reference in Double.
@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct AttentionStatisticsTests {
  let device: ComputeDevice

  init() throws {
    device = try TestDevice.shared()
  }

  /// p = exp(s − lse) in f32: scores of a few tens are good to some 1e-6, and so is p relative to itself.
  private static let gate = 2e-5

  /// Each key's sum over the last rows.
  private func keySums(_ p: [Double], _ shape: AttentionCase, lastRows: Int? = nil) -> [Double] {
    let (s, t, h) = (shape.queryTokens, shape.keyTokens, shape.queryHeads)
    var sums = [Double](repeating: 0, count: shape.batch * h * t)
    for b in 0..<shape.batch {
      for i in max(0, s - (lastRows ?? s))..<s {
        for head in 0..<h {
          for j in 0..<t { sums[(b * h + head) * t + j] += p[((b * s + i) * h + head) * t + j] }
        }
      }
    }
    return sums
  }

  /// The rows [B·S·H] of p [B·S·H, T].
  private func rows(_ p: [Double], _ shape: AttentionCase) -> [[Double]] {
    let t = shape.keyTokens
    return (0..<shape.dimensions.rowCount).map { Array(p[$0 * t..<($0 + 1) * t]) }
  }

  private func expectTopKeys(
    _ result: StatisticsResult, _ count: Int, _ rows: [[Double]], _ what: String,
    sourceLocation: SourceLocation = #_sourceLocation
  ) {
    for (row, p) in rows.enumerated() {
      let keys = result.topKeyIndices[row * count..<(row + 1) * count].map(Int.init)
      let weights = Array(result.topKeyProbabilities[row * count..<(row + 1) * count])
      let visible = p.filter { $0 > 0 }.sorted(by: >)
      let found = min(count, visible.count)
      let isRight =
        Set(keys.prefix(found)).count == found
        && keys.prefix(found).allSatisfy { p.indices.contains($0) }
        && keys.dropFirst(found).allSatisfy { $0 == -1 }
        && weights.dropFirst(found).allSatisfy { $0 == 0 }
        && zip(weights, weights.dropFirst()).allSatisfy { $0 >= $1 }
        && (0..<found).allSatisfy { n in
          let gate = 1e-4 * visible[n] + 1e-9
          return abs(Double(weights[n]) - visible[n]) <= gate
            && abs(Double(weights[n]) - p[keys[n]]) <= gate
        }
      guard isRight else {
        Issue.record(
          "\(what), row \(row): \(keys) \(weights), expected \(visible.prefix(count))",
          sourceLocation: sourceLocation)
        return
      }
    }
  }

  private static let everyCase = StatisticsCase.plain + StatisticsCase.options

  @Test("Every statistic is the reference's", arguments: everyCase)
  func matchesReference(example: StatisticsCase) async throws {
    let shape = example.shape
    let tensors = AttentionTensors(shape, example.type)
    let p = example.probabilities(tensors)
    let s = shape.queryTokens
    let list = [Int32(s - 1), 0, Int32(s / 2), -7, 1 << 30]
    let count = 5
    let result = try await StatisticsRun(example, tensors, on: device).compute(
      [.keySums(lastRows: nil), .entropy, .probabilities(rowCount: 5), .topKeys(count)],
      rows: list)
    let sums = keySums(p, shape)
    let rows = rows(p, shape)
    expectClose(result.keySums, to: sums, within: Self.gate, "key sums")
    expectEach(
      result.entropy, within: Self.gate * 10,
      of: rows.map { $0.reduce(0) { $0 - ($1 > 0 ? $1 * log($1) : 0) } }, "entropy")
    let listed = (0..<shape.batch).flatMap { b in
      list.flatMap { row in
        (0..<shape.queryHeads).flatMap { head in
          rows[shape.dimensions.row(batch: b, token: min(max(Int(row), 0), s - 1), head: head)]
        }
      }
    }
    expectClose(result.probabilities, to: listed, within: Self.gate, "probabilities")
    for (actual, expected) in zip(result.probabilities, listed) where expected == 0 {
      #expect(actual == 0)
    }
    expectTopKeys(result, count, rows, "top keys")
    if example.rowsAddUpToOne {
      let seeing = rows.filter { $0.contains { $0 > 0 } }.count
      let total = result.keySums.reduce(0.0) { $0 + Double($1) }
      #expect(abs(total - Double(seeing)) <= 1e-5 * Double(seeing))
    }
  }

  @Test(
    "Key sums over the last rows alone", arguments: [AttentionMask.none, .causal, .window(left: 6)])
  func lastRows(mask: AttentionMask) async throws {
    let example = StatisticsCase("last", .init(b: 2, s: 37, t: 70, h: 2, d: 16, mask: mask))
    let tensors = AttentionTensors(example.shape, .f32)
    let p = example.probabilities(tensors)
    let run = try await StatisticsRun(example, tensors, on: device)
    for count in [1, 3, 36, 37, 1000] {
      let result = try await run.compute([.keySums(lastRows: count)])
      expectClose(
        result.keySums, to: keySums(p, example.shape, lastRows: count), within: Self.gate,
        "the last \(count) rows")
    }
  }

  @Test(
    "Equal scores: the entropy of a row that sees n keys is ln n, and its top keys are the first")
  func equalScores() async throws {
    let example = StatisticsCase("equal", .init(s: 40, t: 40, h: 2, d: 16, mask: .causal, scale: 0))
    let tensors = AttentionTensors(example.shape, .f32)
    let result = try await StatisticsRun(example, tensors, on: device).compute(
      [.entropy, .topKeys(7)])
    expectEach(
      result.entropy, within: 1e-5, of: (0..<80).map { log(Double($0 / 2 + 1)) }, "entropy")
    for row in 0..<80 {
      let seen = row / 2 + 1
      let keys = Array(result.topKeyIndices[row * 7..<(row + 1) * 7])
      #expect(keys == (0..<7).map { $0 < seen ? Int32($0) : -1 }, "row \(row)")
    }
  }

  @Test("As many top keys as there may be", arguments: [1, 2, 16, 64])
  func topKeyCounts(count: Int) async throws {
    let example = StatisticsCase("top", .init(s: 45, t: 100, h: 2, g: 1, d: 16, mask: .causal))
    var tensors = AttentionTensors(example.shape, .f32)
    // Keys 30 ... 39 are the same: equal probabilities.
    for token in 31..<40 {
      let (from, to) = (tensors.keyIndex(0, 30), tensors.keyIndex(0, token))
      for d in 0..<16 { tensors.k[to + d] = tensors.k[from + d] }
    }
    let result = try await StatisticsRun(example, tensors, on: device).compute([.topKeys(count)])
    let rows = rows(example.probabilities(tensors), example.shape)
    expectTopKeys(result, count, rows, "\(count) keys")
    // Equal ones stand by rising key.
    for row in rows.indices {
      let twins = result.topKeyIndices[row * count..<(row + 1) * count].filter {
        (30..<40).contains($0)
      }
      #expect(twins == Array(twins.indices.map { Int32(30 + $0) }), "row \(row)")
    }
  }

  @Test("A small grid and another run give the same bits")
  func smallGrid() async throws {
    let example = StatisticsCase(
      "grid", .init(b: 3, s: 131, t: 100, h: 4, g: 2, d: 16, mask: .causal))
    let tensors = AttentionTensors(example.shape, .f32)
    let run = try await StatisticsRun(example, tensors, on: device)
    var capabilities = device.capabilities
    var results: [StatisticsResult] = []
    for limits in [capabilities.maxWorkgroupCount, [2, 3, 2], [1, 1, 1]] {
      capabilities.maxWorkgroupCount = limits
      results.append(
        try await run.compute(
          [.keySums(lastRows: 90), .entropy, .probabilities(rowCount: 3), .topKeys(3)],
          rows: [5, 130, 5], capabilities: capabilities))
    }
    for result in results.dropFirst() { expectSameBits(result, results[0], "a small grid") }
  }

  @Test("Cut into pieces, recorded or submitted one by one, every bit is the same")
  func pieces() async throws {
    var example = StatisticsCase(
      "pieces", .init(b: 2, s: 131, t: 100, h: 4, g: 2, d: 16, mask: .causal))
    // What is prepared once serves all pieces: a block of options and a relative term.
    let keys = AttentionTensors(.init(s: 30, t: 1, h: 4, d: 16), .f32).q
    example.scores.relativeLeft = 26
    example.scores.relativeRight = 3
    example.operands = [(.init(.relativeKeys), .floats(keys))]
    let tensors = AttentionTensors(example.shape, .f32)
    let run = try await StatisticsRun(example, tensors, on: device)
    let statistics: [AttentionStatistic] = [
      .keySums(lastRows: 90), .entropy, .probabilities(rowCount: 3), .topKeys(3),
    ]
    let whole = try await run.compute(statistics, rows: [5, 130, 5])
    // Of one tile of one head about 1e5.
    for budget in [1e6, 2e5, 1e-3] {
      for mode in RunMode.allCases {
        let cut = try await run.compute(
          statistics, rows: [5, 130, 5], budget: budget, mode: mode)
        expectSameBits(cut, whole, "pieces of \(budget) by \(mode.rawValue)")
      }
    }
  }

  @Test("Where the rows lie changes no bit, nor keys of heads at places of their own")
  func layouts() async throws {
    let shape = AttentionCase(b: 2, s: 19, t: 37, h: 4, g: 2, d: 24)
    let example = StatisticsCase("layout", shape)
    let tensors = AttentionTensors(shape, .f32)
    let statistics: [AttentionStatistic] = [.keySums(lastRows: nil), .entropy]
    let expected = try await StatisticsRun(example, tensors, on: device).compute(statistics)
    let gaps = try shape.request(.f32) { tokens, heads, channels in
      let head = channels + 8
      return TensorStrides(batch: tokens * heads * head + 16, token: heads * head, head: head)
    }
    let odd = try shape.request(.f32) { tokens, heads, channels in
      let head = channels + 3
      return TensorStrides(batch: tokens * heads * head + 1, token: heads * head, head: head)
    }
    for request in [try shape.request(.f32, TensorStrides.headMajor), gaps, odd] {
      let result = try await StatisticsRun(example, tensors, request: request, on: device)
        .compute(statistics)
      if request == odd {
        // Rows at odd places have another tile, whose log-sum-exp differs in its last bits.
        expectClose(
          result.keySums, to: expected.keySums.map(Double.init), within: 1e-6, "key sums")
        expectClose(
          result.entropy, to: expected.entropy.map(Double.init), within: 1e-6, "entropy")
        continue
      }
      expectSameBits(result.keySums, expected.keySums, "key sums")
      expectSameBits(result.entropy, expected.entropy, "entropy")
    }

    // The keys of each head in a buffer of its own, the log-sum-exp from an attention that has them together.
    var sources: [GuardedBuffer] = []
    for g in 0..<2 {
      let keys = stride(from: g * 24, to: tensors.k.count, by: 48).flatMap {
        tensors.k[$0..<$0 + 24]
      }
      sources.append(try await GuardedBuffer(keys, label: "keys \(g)", on: device))
    }
    let request = try AttentionRequest(
      batchSize: 2, queryTokens: 19, keyTokens: 37, queryHeads: 4, keyHeads: 2, headSize: 24,
      hasKeySources: true)
    let result = try await StatisticsRun(example, tensors, on: device).compute(
      statistics, of: request,
      change: { buffers in
        buffers.keySources = sources.map { AttentionKeySource(key: $0.buffer, value: $0.buffer) }
      })
    expectSameBits(result.keySums, expected.keySums, "key sums of sources")
    expectSameBits(result.entropy, expected.entropy, "entropy of sources")
    for source in sources { try await source.expectGuardsIntact() }
  }

  @Test("NaN in hidden keys changes nothing; in a visible one it reaches the rows that see it")
  func notANumber() async throws {
    let example = StatisticsCase("NaN", .init(s: 20, t: 20, d: 16, mask: .causal))
    let clean = AttentionTensors(example.shape, .f32)
    var tensors = clean
    for d in 0..<16 { tensors.k[tensors.keyIndex(0, 12) + d] = .nan }
    let statistics: [AttentionStatistic] = [
      .entropy, .topKeys(3), .probabilities(rowCount: 2), .keySums(lastRows: nil),
    ]
    let expected = try await StatisticsRun(example, clean, on: device).compute(
      statistics, rows: [11, 12])
    let result = try await StatisticsRun(example, tensors, on: device).compute(
      statistics, rows: [11, 12])
    expectSameBits(Array(result.entropy[..<12]), Array(expected.entropy[..<12]), "entropy")
    expectSameBits(
      Array(result.topKeyIndices[..<36]), Array(expected.topKeyIndices[..<36]), "indices")
    expectSameBits(
      Array(result.probabilities[..<20]), Array(expected.probabilities[..<20]), "row 11")
    #expect(result.entropy[12...].allSatisfy { $0.isNaN })
    #expect(result.topKeyIndices[36..<39] == [0, 1, 2])
    #expect(result.topKeyProbabilities[36...].allSatisfy { $0.isNaN })
    #expect(result.probabilities[20..<33].allSatisfy { $0.isNaN })
    #expect(result.probabilities[33...].allSatisfy { $0 == 0 })
    // Every key is seen by the last row.
    #expect(result.keySums.allSatisfy { $0.isNaN })
  }
}

/// Fails where two results differ in a bit.
private func expectSameBits(
  _ actual: StatisticsResult, _ expected: StatisticsResult, _ what: String,
  sourceLocation: SourceLocation = #_sourceLocation
) {
  func compare<Element: BitwiseCopyable>(
    _ values: KeyPath<StatisticsResult, [Element]>, _ name: String
  ) {
    TestSupport.expectSameBits(
      actual[keyPath: values], expected[keyPath: values], "\(name), \(what)",
      sourceLocation: sourceLocation)
  }
  compare(\.keySums, "key sums")
  compare(\.entropy, "entropy")
  compare(\.probabilities, "probabilities")
  compare(\.topKeyIndices, "indices")
  compare(\.topKeyProbabilities, "top keys")
}
