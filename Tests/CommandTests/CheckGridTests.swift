import Testing
import VulkanAttention

@testable import KernelBenchmarks

@Suite struct CheckGridTests {
  @Test(arguments: CheckDepth.allCases)
  func everyCaseIsAProblem(_ depth: CheckDepth) throws {
    let cases = AttentionCheckGrid.cases(depth)
    for checkCase in cases {
      #expect(throws: Never.self, "\(checkCase.id)") { try checkCase.request() }
    }
    #expect(Set(cases.map(\.group)).count >= 6)
  }

  @Test func depthsGrow() {
    let counts = [CheckDepth.quick, .standard, .full].map { AttentionCheckGrid.cases($0).count }
    #expect(counts[0] < counts[1] && counts[1] < counts[2])
  }

  @Test func standardGridHasTheHardCases() {
    let cases = AttentionCheckGrid.cases(.standard)
    func has(_ what: String, _ isMeant: (AttentionCheckCase) -> Bool) {
      let isThere = cases.contains(where: isMeant)
      #expect(isThere, "\(what)")
    }
    for type in ElementType.allCases {
      has("no keys") { $0.elementType == type && $0.shape.keyTokens == 0 }
      has("rows without a key") {
        $0.elementType == type && $0.isCausal && $0.shape.queryTokens > $0.shape.keyTokens
          && $0.shape.keyTokens > 0
      }
      has("one key head") {
        $0.elementType == type && $0.shape.keyHeads == 1 && $0.shape.queryHeads > 1
      }
      has("the largest head") { $0.elementType == type && $0.shape.headSize == 256 }
      has("unequal heads") {
        $0.elementType == type && $0.shape.headSize != $0.shape.valueHeadSize
      }
      has("gaps") { $0.elementType == type && $0.layout == .padded }
      has("NaN") { $0.elementType == type && $0.poisonedKeys > 1 }
    }
    for length in AttentionCheckGrid.lengths {
      has("S = \(length)") { $0.shape.queryTokens == length }
      has("T = \(length)") { $0.shape.keyTokens == length }
    }
  }

  @Test func dataBelongToTheCase() throws {
    let first = try #require(AttentionCheckGrid.cases(.quick).first { $0.poisonedKeys == 7 })
    let request = try first.request()
    let inputs = first.inputs(for: request)
    #expect(inputs.query == first.inputs(for: request).query)
    let rowWidth = first.shape.keyHeads * first.shape.headSize
    let hidden = inputs.key.suffix(7 * rowWidth)
    #expect(hidden.allSatisfy { !$0.isFinite })
    #expect(inputs.key.dropLast(7 * rowWidth).allSatisfy { $0.isFinite })
  }
}

/// The comparison itself must be able to fail.
@Suite struct AttentionComparisonTests {
  private let checkCase = AttentionCheckCase(
    "test", AttentionShape(queryTokens: 5, keyTokens: 9, queryHeads: 2, headSize: 16), .f16,
    isCausal: true, data: .nanInLastKeys(2))

  private func comparison() throws -> (AttentionComparison, o: [Float], lse: [Float]) {
    let request = try checkCase.request()
    let comparison = AttentionComparison(checkCase, request, checkCase.inputs(for: request))
    var o = [Float](repeating: .nan, count: comparison.dimensions.oCount)
    var lse = [Float](repeating: .nan, count: comparison.dimensions.rowCount)
    for (index, row) in comparison.rows.enumerated() {
      for channel in 0..<16 {
        o[row * 16 + channel] = Float(comparison.expected.o[index * 16 + channel])
      }
      lse[row] = Float(comparison.expected.lse[index])
    }
    return (comparison, o, lse)
  }

  private func problems(
    _ change: (inout [Float], inout [Float]) -> Void
  ) throws -> [String] {
    var (comparison, o, lse) = try comparison()
    change(&o, &lse)
    var problems: [String] = []
    _ = comparison.output(o, problems: &problems)
    _ = comparison.logSumExp(lse, problems: &problems)
    comparison.checkPoisonedRows(
      AttentionReadback(output: o, logSumExp: lse, state: nil, strayWrites: []), problems: &problems
    )
    return problems
  }

  @Test func rowsThatSeeNoPoisonAreCompared() throws {
    let (comparison, _, _) = try comparison()
    // S = 5 with 2 poisoned keys at the end: rows 0, 1 and 2 of both heads see none of them.
    #expect(comparison.rows == [0, 1, 2, 3, 4, 5])
  }

  @Test func aRightAnswerPasses() throws {
    let found = try problems { _, _ in }
    #expect(found == [])
  }

  @Test func aNaNFails() throws {
    let inOutput = try problems { o, _ in o[17] = .nan }
    #expect(inOutput.contains { $0.contains("[0, 0, 1, 1]") })
    let inStatistics = try problems { _, lse in lse[3] = .nan }
    #expect(inStatistics.count == 1)
  }

  @Test func aWrongNumberFails() throws {
    let output = try problems { o, _ in o[0] += 1 }
    #expect(!output.isEmpty)
    let statistics = try problems { _, lse in lse[0] += 0.01 }
    #expect(statistics.count == 1)
    let infinity = try problems { _, lse in lse[0] = -.infinity }
    #expect(infinity.count == 1)
  }

  @Test func theLowPrecisionRuleFailsBeforeTheGate() throws {
    // Well below the gate of 2e-3, far above what rounding to f16 costs.
    let found = try problems { o, _ in for index in o.indices { o[index] *= 1.0015 } }
    #expect(found.count == 1 && found[0].contains("careful evaluation"))
  }

  @Test func aNumberWhereNaNWasSeenFails() throws {
    let found = try problems { o, _ in o[o.count - 3] = 0.5 }
    #expect(found.count == 1 && found[0].contains("sees a NaN key"))
  }
}

/// The grids of statistics and merges, and that their comparison can fail.
@Suite struct OtherCheckTests {
  @Test(arguments: CheckDepth.allCases)
  func everyCaseIsAProblem(_ depth: CheckDepth) throws {
    let statistics = AttentionStatisticsCheck.cases(depth)
    for checkCase in statistics {
      #expect(throws: Never.self, "\(checkCase.id)") {
        try AttentionStatisticsCheck.request(checkCase)
      }
    }
    let merges = StateMergeCheck.cases(depth)
    for checkCase in merges {
      #expect(throws: Never.self, "\(checkCase.id)") { try checkCase.request() }
    }
    #expect(AttentionStatisticsCheck.runs(depth).count == statistics.count)
    #expect(Set(StateMergeCheck.runs(depth).map(\.id)).count == merges.count)
    #expect(Set(merges.map(\.layout)).count == StateMergeCheckCase.Layout.allCases.count)
  }

  @Test("A wrong number or a wrong key in any statistic is a problem")
  func comparison() throws {
    let checkCase = AttentionCheckCase(
      "test", AttentionShape(queryTokens: 5, keyTokens: 9, queryHeads: 2, headSize: 16), .f32,
      isCausal: true)
    let request = try AttentionStatisticsCheck.request(checkCase)
    let comparison = AttentionStatisticsComparison(
      request, checkCase.inputs(for: request.attention),
      list: AttentionStatisticsCheck.list(request.attention))
    func problems(_ change: (inout AttentionStatisticsReadback) -> Void) -> [String] {
      var result = comparison.expected
      change(&result)
      var problems: [String] = []
      _ = comparison.compare(result, problems: &problems)
      return problems
    }
    #expect(problems { _ in } == [])
    #expect(problems { $0.keySums[3] = .nan }.count == 1)
    #expect(problems { $0.keySums[3] += 0.01 }.count == 1)
    #expect(problems { $0.entropy[0] += 0.01 }.count == 1)
    #expect(problems { $0.probabilities[0] += 0.01 }.count == 1)
    // The value of another key, and another key with this one's value.
    #expect(problems { $0.topKeyProbabilities.swapAt(0, 1) }.count == 2)
    #expect(problems { $0.topKeyIndices.swapAt(0, 1) }.count == 1)
    #expect(problems { $0.topKeyIndices[1] = $0.topKeyIndices[0] }.count == 1)
    #expect(problems { $0.strayWrites = ["entropy: byte 9"] }.count == 1)
    #expect(problems { $0.entropy.removeLast() }.count == 1)
  }

  @Test("Merges of the check are the reference's own")
  func mergeProblems() {
    for checkCase in StateMergeCheck.cases(.quick) {
      let (outputs, logSumExps, expected) = checkCase.problem()
      #expect(outputs.count == logSumExps.count * checkCase.channels)
      #expect(expected.lse.count == checkCase.rows * checkCase.heads, "\(checkCase.id)")
      #expect(expected.o.allSatisfy { $0.isFinite }, "\(checkCase.id)")
      #expect(
        expected.lse.contains(-.infinity) == (checkCase.hasNeutral || checkCase.layout == .listed))
    }
  }
}
