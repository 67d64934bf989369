import AttentionReference
import CaseFiles
import Testing

/// The reference against the numbers of PyTorch, see Tools/cases.
@Suite struct ShippedCaseTests {
  @Test func casesAreThere() {
    #expect(ShippedCases.attention.count >= 25)
  }

  @Test(arguments: ShippedCases.attention)
  func referenceAgrees(_ name: String) throws {
    guard
      case .attention(let problem) = try CaseFile(
        path: ShippedCases.folder.appending(path: name).path)
    else { return }
    let result = attention(
      q: problem.q.doubles(), k: problem.k.doubles(), v: problem.v.doubles(),
      dimensions: AttentionDimensions(problem), options: AttentionOptions(problem))
    let expectedO = try #require(problem.expectedO)
    let expectedLSE = try #require(problem.expectedLSE)
    // What is expected is stored as F32: relative errors up to 6e-8, of an lse of some hundreds.
    let o = ErrorMeasure.relativeRMS(actual: result.o, expected: expectedO.doubles())
    let lse = ErrorMeasure.worstAbsolute(actual: result.lse, expected: expectedLSE.doubles())
    #expect(o.isWithin(1e-7), "o: \(o)")
    #expect(lse.isWithin(3e-5), "lse: \(lse)")
  }
}
