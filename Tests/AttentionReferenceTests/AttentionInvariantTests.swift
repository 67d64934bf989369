import AttentionReference
import Testing

/// Two ways to say the same problem, which must give the same result.
@Suite struct AttentionInvariantTests {
  /// A problem of random numbers.
  private struct Problem {
    var dimensions: AttentionDimensions
    var q: [Double]
    var k: [Double]
    var v: [Double]

    init(
      batch: Int = 2, queries: Int = 5, keys: Int = 9, heads: Int = 4, keyHeads: Int = 2,
      seed: UInt64
    ) {
      dimensions = AttentionDimensions(
        batch: batch, queryTokens: queries, keyTokens: keys, queryHeads: heads,
        keyHeads: keyHeads, keyChannels: 3, valueChannels: 4)
      var numbers = SeededNumbers(seed: seed)
      q = numbers.normal(dimensions.qCount)
      k = numbers.normal(dimensions.kCount)
      v = numbers.normal(dimensions.vCount)
    }

    func callAsFunction(_ options: AttentionOptions) -> AttentionOutput {
      attention(q: q, k: k, v: v, dimensions: dimensions, options: options)
    }

    /// The same problem with the keys `range` alone.
    func keys(_ range: Range<Int>) -> Problem {
      var part = self
      let old = dimensions
      part.dimensions = AttentionDimensions(
        batch: old.batch, queryTokens: old.queryTokens, keyTokens: range.count,
        queryHeads: old.queryHeads, keyHeads: old.keyHeads, keyChannels: old.keyChannels,
        valueChannels: old.valueChannels)
      func slice(_ values: [Double], _ width: Int) -> [Double] {
        (0..<old.batch).flatMap { b in
          let start = b * old.keyTokens
          return values[(start + range.lowerBound) * width..<(start + range.upperBound) * width]
        }
      }
      part.k = slice(k, old.keyHeads * old.keyChannels)
      part.v = slice(v, old.keyHeads * old.valueChannels)
      return part
    }
  }

  private func options(_ change: (inout AttentionOptions) -> Void) -> AttentionOptions {
    var options = AttentionOptions()
    change(&options)
    return options
  }

  private func expectEqual(
    _ actual: AttentionOutput, _ expected: AttentionOutput,
    sourceLocation: SourceLocation = #_sourceLocation
  ) {
    let o = ErrorMeasure.worstAbsolute(actual: actual.o, expected: expected.o)
    let lse = ErrorMeasure.worstAbsolute(actual: actual.lse, expected: expected.lse)
    #expect(o.isWithin(1e-13), "o: \(o)", sourceLocation: sourceLocation)
    #expect(lse.isWithin(1e-13), "lse: \(lse)", sourceLocation: sourceLocation)
  }

  @Test func optionsThatHideNothing() {
    let problem = Problem(seed: 1)
    let causal = problem(AttentionOptions(causal: true))
    let plain = problem(AttentionOptions())
    expectEqual(
      problem(
        options {
          $0.causal = true
          $0.prefixTokens = 9
        }), plain)
    expectEqual(
      problem(
        options {
          $0.causal = true
          $0.causalBlock = 9
        }), plain)
    expectEqual(
      problem(
        options {
          $0.causal = true
          $0.chunk = 9
        }), causal)
    expectEqual(
      problem(
        options {
          $0.chunk = 2
          $0.sinkTokens = 9
        }), plain)
    expectEqual(
      problem(
        options { $0.headWindows = Array(repeating: HeadWindow(left: nil, right: 0), count: 4) }),
      causal)
  }

  @Test func leftPaddingIsSlicing() {
    // Distances stay: bottom-right, padding moves queries and keys alike.
    let problem = Problem(seed: 2)
    func common(_ options: inout AttentionOptions) {
      options.causal = true
      options.windowLeft = 3
      options.alibiSlopes = [0.1, 0.2, 0.3, 0.4]
    }
    let padded = problem(
      options {
        common(&$0)
        $0.leftPadding = [3, 3]
      })
    expectEqual(padded, problem.keys(3..<9)(options { common(&$0) }))
  }

  @Test func packedMaskIsTheMask() {
    let problem = Problem(queries: 3, keys: 11, seed: 3)
    var numbers = SeededNumbers(seed: 4)
    let rows = 2 * 4 * 3
    let bytes = (0..<rows * 2).map { _ in UInt8(truncatingIfNeeded: numbers.bits()) }
    let mask = (0..<rows).flatMap { row in
      (0..<11).map { j in bytes[row * 2 + j / 8] & (1 << (j % 8)) == 0 ? 0 : 7 as UInt8 }
    }
    expectEqual(
      problem(
        options {
          $0.mask = PerScore(maskBits: bytes, keyTokens: 11, batch: 2, heads: 4, queries: 3)
        }), problem(options { $0.mask = PerScore(mask, batch: 2, heads: 4) }))
  }

  @Test func scoreTermsAreBiases() {
    // Each term by its own formula, written out as a bias of every score.
    let problem = Problem(seed: 5)
    let (batch, queries, keys, heads) = (2, 5, 9, 4)
    var numbers = SeededNumbers(seed: 6)
    func expectBias(
      _ change: (inout AttentionOptions) -> Void, sourceLocation: SourceLocation = #_sourceLocation,
      _ value: (_ b: Int, _ h: Int, _ i: Int, _ j: Int) -> Double
    ) {
      var bias: [Double] = []
      for b in 0..<batch {
        for h in 0..<heads {
          for i in 0..<queries { for j in 0..<keys { bias.append(value(b, h, i, j)) } }
        }
      }
      expectEqual(
        problem(options(change)),
        problem(options { $0.bias = PerScore(bias, batch: batch, heads: heads) }),
        sourceLocation: sourceLocation)
    }

    let perKey = numbers.normal(batch * heads * keys)
    expectBias {
      $0.keyBias = PerKey(perKey, batch: batch, heads: heads)
    } _: { b, h, _, j in
      perKey[(b * heads + h) * keys + j]
    }
    expectBias {
      $0.keyBias = PerKey(Array(perKey[..<18]), batch: 2)
    } _: { b, _, _, j in
      perKey[b * keys + j]
    }
    let perQueryless = PerScore(perKey, batch: batch, heads: heads, queries: 1)
    expectBias {
      $0.bias = perQueryless
    } _: { b, h, _, j in
      perKey[(b * heads + h) * keys + j]
    }

    // j − p goes from −8 to 4: beyond the table on both sides.
    let table = numbers.normal(heads * 6)
    expectBias {
      $0.relativeBias = table
      $0.relativeLeft = 3
      $0.relativeRight = 2
    } _: { _, h, i, j in
      table[h * 6 + [0, 1, 2, 3, 4, 5][max(0, min(5, j - (i + 4) + 3))]]
    }
    expectBias {
      $0.relativeBias = (0...12).map { -0.3 * abs(Double($0) - 8) }
      $0.relativeLeft = 8
      $0.relativeRight = 4
    } _: { _, _, i, j in
      -0.3 * abs(Double(i + 4 - j))
    }

    let scale = 1 / 3.0.squareRoot()
    let relativeKeys = numbers.normal(6 * heads * 3)
    let relativeQueryBias = numbers.normal(heads * 3)
    expectBias {
      $0.relativeKeys = relativeKeys
      $0.relativeQueryBias = relativeQueryBias
      $0.relativeLeft = 3
      $0.relativeRight = 2
    } _: { b, h, i, j in
      let e = max(0, min(5, j - (i + 4) + 3))
      return (0..<3).reduce(0.0) { sum, d in
        let query =
          problem.q[((b * queries + i) * heads + h) * 3 + d] + relativeQueryBias[h * 3 + d]
        return sum + scale * query * relativeKeys[(e * heads + h) * 3 + d]
      }
    }
    let queryBias = numbers.normal(heads * 3)
    expectBias {
      $0.queryBias = queryBias
    } _: { b, h, _, j in
      (0..<3).reduce(0.0) { sum, d in
        sum + scale * queryBias[h * 3 + d] * problem.k[((b * keys + j) * 2 + h / 2) * 3 + d]
      }
    }

    // A window of 2 × 5 with a value for each offset.
    let grid = numbers.normal(3 * 9 * heads)
    expectBias {
      $0.gridBias = grid
      $0.gridHeight = 2
      $0.gridWidth = 5
    } _: { _, h, i, j in
      let (down, right) = (i / 5 - j / 5, i % 5 - j % 5)
      return grid[((down + 1) * 9 + right + 4) * heads + h]
    }
  }

  @Test func rowScalesScaleTheQuery() {
    let problem = Problem(seed: 7)
    var numbers = SeededNumbers(seed: 8)
    let scales = numbers.normal(2 * 5 * 4)
    var scaled = problem
    for index in scaled.q.indices { scaled.q[index] *= scales[index / 3] }
    expectEqual(
      problem(options { $0.queryScales = PerRow(scales, batch: 2, queries: 5, heads: 4) }),
      scaled(AttentionOptions()))
    // Shared by batch and heads.
    for index in scaled.q.indices { scaled.q[index] = problem.q[index] * scales[index / 12 % 5] }
    expectEqual(
      problem(options { $0.queryScales = PerRow(Array(scales[..<5]), queries: 5) }),
      scaled(AttentionOptions()))
  }

  @Test func softmaxOffByOneIsASinkOfZero() {
    let problem = Problem(seed: 9)
    expectEqual(
      problem(
        options {
          $0.causal = true
          $0.windowLeft = 1
          $0.normalizer = .softmaxOffByOne
        }),
      problem(
        options {
          $0.causal = true
          $0.windowLeft = 1
          $0.sinks = [0, 0, 0, 0]
        }))
  }

  @Test func aSingleKey() {
    // Softmax of one score is 1; sigmoid is its logistic function, ReLU itself.
    let problem = Problem(batch: 1, queries: 1, keys: 1, heads: 1, keyHeads: 1, seed: 10)
    let plain = problem(AttentionOptions(scale: 2))
    let score = plain.lse[0]
    #expect(plain.o == problem.v && score != 0)
    let sigmoid = problem(
      options {
        $0.scale = 2
        $0.normalizer = .sigmoid(bias: 0)
      })
    // o/(v − o) = exp(score).
    for (o, v) in zip(sigmoid.o, problem.v) {
      #expect(abs(o - v + o / .exp(score)) < 1e-13)
    }
  }

  @Test(arguments: [
    AttentionNormalizer.softmax, .softmaxOffByOne, .reluSum, .sigmoid(bias: -1),
  ])
  func goingOnFromAStateIsTheWhole(_ normalizer: AttentionNormalizer) {
    let problem = Problem(seed: 11)
    func common(_ options: inout AttentionOptions) {
      options.normalizer = normalizer
      options.alignment = .topLeft
      options.gates = PerRow([0.5, 0, 1, -2, 3], queries: 5)
      if normalizer == .softmax { options.sinks = [0.5, -.infinity, 1, 2] }
    }
    let whole = problem(options { common(&$0) })
    for cut in [0, 1, 4, 9] {
      let (first, last) = (problem.keys(0..<cut), problem.keys(cut..<9))
      let state = attentionState(
        q: first.q, k: first.k, v: first.v, dimensions: first.dimensions,
        options: options { common(&$0) })
      expectEqual(
        last(
          options {
            common(&$0)
            $0.initialState = state
          }), whole)
      // A state of a state.
      let both = attentionState(
        q: last.q, k: last.k, v: last.v, dimensions: last.dimensions,
        options: options {
          common(&$0)
          $0.initialState = state
        })
      expectEqual(
        problem.keys(0..<0)(
          options {
            common(&$0)
            $0.initialState = both
          }), whole)
    }
  }

  @Test func probabilitiesMakeTheOutput() {
    let problem = Problem(seed: 12)
    let normalizers: [AttentionNormalizer] = [
      .softmax, .softmaxOffByOne, .reluMean, .reluSum, .sigmoid(bias: 0.5),
    ]
    for normalizer in normalizers {
      let options = options {
        $0.normalizer = normalizer
        $0.causal = true
        $0.kvLengths = [9, 3]
      }
      let result = problem(options)
      let rows = Array((0..<problem.dimensions.rowCount).reversed())
      let p = attentionProbabilities(
        q: problem.q, k: problem.k, dimensions: problem.dimensions, options: options, rows: rows)
      for (index, row) in rows.enumerated() {
        let (b, h) = (row / 20, row % 4)
        for e in 0..<4 {
          let sum = (0..<9).reduce(0.0) { sum, j in
            sum + p[index * 9 + j] * problem.v[((b * 9 + j) * 2 + h / 2) * 4 + e]
          }
          #expect(abs(sum - result.o[row * 4 + e]) < 1e-13)
        }
      }
    }
  }
}
