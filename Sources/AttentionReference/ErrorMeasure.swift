/// How far a result is from the expected one, as a number that a tolerance is held against.
///
/// Comparisons are written so that NaN fails: a NaN in the result that is not expected makes
/// ``error`` NaN, and ``isWithin(_:)`` is then false for every tolerance.
public struct ErrorMeasure: Sendable, Hashable {
  /// The error: relative RMS or largest absolute, as the function that made it says.
  public let error: Double
  /// The element that is furthest off (a NaN or a wrong infinity before all others); nil when
  /// everything is equal or nothing could be compared.
  public let worstIndex: Int?
  /// The result at ``worstIndex``.
  public let worstActual: Double?
  /// What was expected at ``worstIndex``.
  public let worstExpected: Double?

  /// Whether the error is a number and at most `tolerance`.
  public func isWithin(_ tolerance: Double) -> Bool { error <= tolerance }

  /// RMS(actual − expected) / RMS(expected).
  ///
  /// When everything expected is zero there is nothing to be relative to and the error is
  /// RMS(actual). Arrays of unequal length have an infinite error.
  public static func relativeRMS(actual: [Double], expected: [Double]) -> ErrorMeasure {
    measureRelativeRMS(actual, expected)
  }

  /// RMS(actual − expected) / RMS(expected), of a result in Float.
  public static func relativeRMS(actual: [Float], expected: [Double]) -> ErrorMeasure {
    measureRelativeRMS(actual, expected)
  }

  /// The largest |actual − expected|; infinities must match exactly, sign included.
  ///
  /// For log-sum-exp and other statistics, where −inf marks a row with no visible key. An
  /// infinity on one side only gives an infinite error. Arrays of unequal length have one too.
  public static func worstAbsolute(actual: [Double], expected: [Double]) -> ErrorMeasure {
    measureWorstAbsolute(actual, expected)
  }

  /// The largest |actual − expected| of a result in Float; infinities must match exactly.
  public static func worstAbsolute(actual: [Float], expected: [Double]) -> ErrorMeasure {
    measureWorstAbsolute(actual, expected)
  }

  /// A comparison that could not be made because the lengths differ.
  private static let unequalLengths = ErrorMeasure(
    error: .infinity, worstIndex: nil, worstActual: nil, worstExpected: nil)

  private static func measureRelativeRMS<Element: BinaryFloatingPoint>(
    _ actual: [Element], _ expected: [Double]
  ) -> ErrorMeasure {
    guard actual.count == expected.count else { return unequalLengths }
    guard !actual.isEmpty else { return worst(0, nil, actual, expected) }
    var differenceSquares = 0.0
    var expectedSquares = 0.0
    var search = WorstSearch()
    for (index, wanted) in expected.enumerated() {
      let difference = Double(actual[index]) - wanted
      differenceSquares += difference * difference
      expectedSquares += wanted * wanted
      search.see(difference.magnitude, at: index)
    }
    let count = Double(expected.count)
    // `==` is false for NaN, which stays in the quotient.
    let reference = expectedSquares == 0 ? count : expectedSquares
    return worst((differenceSquares / reference).squareRoot(), search.index, actual, expected)
  }

  private static func measureWorstAbsolute<Element: BinaryFloatingPoint>(
    _ actual: [Element], _ expected: [Double]
  ) -> ErrorMeasure {
    guard actual.count == expected.count else { return unequalLengths }
    var search = WorstSearch()
    for (index, wanted) in expected.enumerated() {
      let value = Double(actual[index])
      // Equal infinities differ by NaN; they are equal all the same.
      search.see(value == wanted ? 0 : (value - wanted).magnitude, at: index)
    }
    return worst(search.largest, search.index, actual, expected)
  }

  private static func worst<Element: BinaryFloatingPoint>(
    _ error: Double, _ index: Int?, _ actual: [Element], _ expected: [Double]
  ) -> ErrorMeasure {
    ErrorMeasure(
      error: error, worstIndex: index, worstActual: index.map { Double(actual[$0]) },
      worstExpected: index.map { expected[$0] })
  }
}

/// Finds the largest of some magnitudes and where it is; the first NaN beats every number.
private struct WorstSearch {
  var largest = 0.0
  var index: Int?

  mutating func see(_ magnitude: Double, at position: Int) {
    // Not `magnitude > largest`, which no NaN would ever pass.
    if !largest.isNaN && !(magnitude <= largest) {
      largest = magnitude
      index = position
    }
  }
}
