import AttentionReference
import CaseFiles
import Testing

/// The reference against the numbers of PyTorch, see Tools/cases.
@Suite struct ShippedCaseTests {
  @Test func casesAreThere() {
    #expect(ShippedCases.attention.count >= 115)
  }

  /// No option of the format is without a case.
  @Test func everyOptionHasACase() throws {
    var missing = Set(AttentionCase.Option.allCases)
    for name in ShippedCases.attention + ShippedCases.custom {
      missing.subtract(try ShippedCases.load(name).optionsInUse)
    }
    #expect(missing.isEmpty)
  }

  @Test(arguments: ShippedCases.attention)
  func referenceAgrees(_ name: String) throws {
    let problem = try ShippedCases.load(name)
    let result = evaluate(problem)
    let expectedO = try #require(problem.expectedO).doubles()
    let expectedLSE = try #require(problem.expectedLSE).doubles()
    // What is expected is stored as F32: relative errors up to 6e-8, of an lse of some hundreds.
    let rows = rowsToCompare(problem)
    let width = problem.valueChannels
    func outputs(_ o: [Double]) -> [Double] {
      rows.flatMap { o[$0 * width..<($0 + 1) * width] }
    }
    let o = ErrorMeasure.relativeRMS(actual: outputs(result.o), expected: outputs(expectedO))
    let lse = ErrorMeasure.worstAbsolute(
      actual: rows.map { result.lse[$0] }, expected: rows.map { expectedLSE[$0] })
    #expect(o.isWithin(1e-7), "o: \(o)")
    #expect(lse.isWithin(3e-5), "lse: \(lse)")
  }

  private func evaluate(_ problem: AttentionCase) -> AttentionOutput {
    let (q, k, v) = (problem.q.doubles(), problem.k.doubles(), problem.v.doubles())
    let options = AttentionOptions(problem)
    return problem.isPacked
      ? variableLengthAttention(
        q: q, k: k, v: v, dimensions: PackedDimensions(problem), options: options)
      : attention(
        q: q, k: k, v: v, dimensions: AttentionDimensions(problem), options: options)
  }

  /// All rows; of packed sequences those that are in one.
  private func rowsToCompare(_ problem: AttentionCase) -> Range<Int> {
    let bounds = problem.cuSeqlensQ?.integers() ?? []
    guard let first = bounds.first, let last = bounds.last else {
      return 0..<problem.batch * problem.queryTokens * problem.queryHeads
    }
    return first * problem.queryHeads..<last * problem.queryHeads
  }
}
