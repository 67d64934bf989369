import AttentionReference
import Testing

@Suite struct ErrorMeasureTests {
  @Test func relativeRMSByHand() {
    // Differences 3 and 4, expected 6 and 8: 5/10.
    let measure = ErrorMeasure.relativeRMS(actual: [9, 4] as [Double], expected: [6, 8])
    #expect(measure.error == 0.5)
    #expect(measure.worstIndex == 1 && measure.worstActual == 4 && measure.worstExpected == 8)
    #expect(measure.isWithin(0.5) && !measure.isWithin(0.49))
  }

  @Test func worstAbsoluteByHand() {
    let measure = ErrorMeasure.worstAbsolute(
      actual: [1, 2, 5] as [Float], expected: [1, 2.5, 5.25])
    #expect(measure.error == 0.5 && measure.worstIndex == 1)
  }

  @Test func equalHasNoWorst() {
    let measure = ErrorMeasure.relativeRMS(actual: [1, 2] as [Double], expected: [1, 2])
    #expect(measure.error == 0 && measure.worstIndex == nil && measure.isWithin(0))
  }

  @Test(arguments: [Double.nan, .infinity, -.infinity])
  func nonFiniteFails(_ bad: Double) {
    for position in 0..<3 {
      var actual = [1.0, 2, 3]
      actual[position] = bad
      let relative = ErrorMeasure.relativeRMS(actual: actual, expected: [1, 2, 3])
      let absolute = ErrorMeasure.worstAbsolute(actual: actual, expected: [1, 2, 3])
      #expect(!relative.isWithin(1e300) && relative.worstIndex == position)
      #expect(!absolute.isWithin(1e300) && absolute.worstIndex == position)
      // An unexpected finite value is as wrong as an unexpected infinity.
      #expect(
        !ErrorMeasure.worstAbsolute(actual: [1, 2, 3] as [Double], expected: actual).isWithin(1e300)
      )
    }
  }

  @Test func aNaNIsWorseThanAnyNumber() {
    let measure = ErrorMeasure.worstAbsolute(
      actual: [1e300, .nan, 5, .nan] as [Double], expected: [0, 0, 0, 0])
    #expect(measure.error.isNaN && measure.worstIndex == 1)
  }

  @Test func infinitiesMustMatch() {
    let expected = [-Double.infinity, 1, .infinity]
    #expect(ErrorMeasure.worstAbsolute(actual: expected, expected: expected).isWithin(0))
    let flipped = ErrorMeasure.worstAbsolute(
      actual: [.infinity, 1, .infinity] as [Double], expected: expected)
    #expect(!flipped.isWithin(1e300) && flipped.worstIndex == 0)
    // A finite stand-in for −inf is not −inf.
    #expect(
      !ErrorMeasure.worstAbsolute(actual: [-1e30, 1, .infinity] as [Double], expected: expected)
        .isWithin(1))
  }

  @Test func zeroExpectedIsAbsolute() {
    #expect(ErrorMeasure.relativeRMS(actual: [0, 0] as [Double], expected: [0, 0]).error == 0)
    #expect(ErrorMeasure.relativeRMS(actual: [3, 3] as [Double], expected: [0, 0]).error == 3)
    #expect(
      !ErrorMeasure.relativeRMS(actual: [.nan, 0] as [Double], expected: [0, 0]).isWithin(1))
  }

  @Test func unequalLengthsFail() {
    #expect(!ErrorMeasure.relativeRMS(actual: [1] as [Double], expected: [1, 1]).isWithin(1e300))
    #expect(
      !ErrorMeasure.worstAbsolute(actual: [1, 1, 1] as [Double], expected: [1, 1]).isWithin(1e300))
    #expect(ErrorMeasure.worstAbsolute(actual: [] as [Double], expected: []).isWithin(0))
  }
}
