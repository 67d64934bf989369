import AttentionReference
import Foundation
import Testing

/// Fails where the relative RMS error is not at most `tolerance`, NaN included.
@discardableResult
public func expectClose(
  _ actual: [Float], to expected: [Double], within tolerance: Double, _ what: String,
  sourceLocation: SourceLocation = #_sourceLocation
) -> ErrorMeasure {
  let measure = ErrorMeasure.relativeRMS(actual: actual, expected: expected)
  expect(measure, within: tolerance, what, sourceLocation)
  return measure
}

/// Fails where the largest absolute error is not at most `tolerance`; infinities must be equal.
@discardableResult
public func expectEach(
  _ actual: [Float], within tolerance: Double, of expected: [Double], _ what: String,
  sourceLocation: SourceLocation = #_sourceLocation
) -> ErrorMeasure {
  let measure = ErrorMeasure.worstAbsolute(actual: actual, expected: expected)
  expect(measure, within: tolerance, what, sourceLocation)
  return measure
}

/// Fails where two arrays differ in a bit, so that NaN equals itself and 0 is not −0.
public func expectSameBits<Element: BitwiseCopyable>(
  _ actual: [Element], _ expected: [Element], _ what: String,
  sourceLocation: SourceLocation = #_sourceLocation
) {
  // Compared as a whole: element by element takes seconds in a debug build.
  let isEqual = actual.withUnsafeBytes { actual in
    expected.withUnsafeBytes { expected in
      guard let first = actual.baseAddress, let second = expected.baseAddress else {
        return actual.count == expected.count
      }
      return actual.count == expected.count && memcmp(first, second, actual.count) == 0
    }
  }
  guard !isEqual else { return }
  let place = zip(actual, expected).enumerated().first { _, pair in
    withUnsafeBytes(of: pair.0) { first in
      withUnsafeBytes(of: pair.1) { !first.elementsEqual($0) }
    }
  }
  Issue.record(
    """
    \(what): \(actual.count) elements, expected \(expected.count); the first that differs: \
    \(place.map { "[\($0.offset)] \($0.element.0), expected \($0.element.1)" } ?? "none")
    """, sourceLocation: sourceLocation)
}

private func expect(
  _ measure: ErrorMeasure, within tolerance: Double, _ what: String,
  _ sourceLocation: SourceLocation
) {
  guard !measure.isWithin(tolerance) else { return }
  Issue.record(
    """
    \(what): error \(measure.error) is not within \(tolerance); the worst is at index \
    \(measure.worstIndex.map { "\($0)" } ?? "?"): \(measure.worstActual ?? .nan), expected \
    \(measure.worstExpected ?? .nan)
    """, sourceLocation: sourceLocation)
}
