import AttentionReference
import Foundation
import Testing

/// One head, one channel, worked by hand.
///
/// Two queries 1 and 2, three keys 0, ln 2 and ln 3, scale 1: the scores are 0, ln 2, ln 3 and
/// twice that, so the exponentials are 1, 2, 3 and 1, 4, 9. The values are 6, 12 and 18. S = 2 and
/// T = 3: bottom-right, query 0 stands at key 1 and query 1 at key 2.
@Suite struct HandWorkedAttentionTests {
  private let dimensions = AttentionDimensions(
    batch: 1, queryTokens: 2, keyTokens: 3, queryHeads: 1, keyHeads: 1, keyChannels: 1,
    valueChannels: 1)

  private func expectRows(
    _ options: AttentionOptions, o: [Double], lse: [Double],
    sourceLocation: SourceLocation = #_sourceLocation
  ) {
    var options = options
    options.scale = 1
    let result = attention(
      q: [1, 2], k: [0, ln(2), ln(3)], v: [6, 12, 18], dimensions: dimensions, options: options)
    let oError = ErrorMeasure.worstAbsolute(actual: result.o, expected: o)
    let lseError = ErrorMeasure.worstAbsolute(actual: result.lse, expected: lse)
    #expect(oError.isWithin(1e-13), "\(result.o)", sourceLocation: sourceLocation)
    #expect(lseError.isWithin(1e-13), "\(result.lse)", sourceLocation: sourceLocation)
  }

  private func options(_ change: (inout AttentionOptions) -> Void) -> AttentionOptions {
    var options = AttentionOptions()
    change(&options)
    return options
  }

  @Test func plain() {
    // (1·6 + 2·12 + 3·18) / 6 = 84/6 and (1·6 + 4·12 + 9·18) / 14 = 216/14.
    expectRows(AttentionOptions(), o: [14, 216.0 / 14], lse: [ln(6), ln(14)])
  }

  @Test func causalBottomRight() {
    // Query 0 loses key 2: (6 + 24) / 3.
    expectRows(AttentionOptions(causal: true), o: [10, 216.0 / 14], lse: [ln(3), ln(14)])
  }

  @Test func causalTopLeft() {
    // Query 0 sees key 0 only, query 1 keys 0 and 1: (6 + 48) / 5.
    let topLeft = options {
      $0.causal = true
      $0.alignment = .topLeft
    }
    expectRows(topLeft, o: [6, 54.0 / 5], lse: [0, ln(5)])
  }

  @Test func window() {
    // Each query sees the key it stands at; the score of (1, 2) is 2·ln 3.
    let own = options {
      $0.windowLeft = 0
      $0.windowRight = 0
    }
    expectRows(own, o: [12, 18], lse: [ln(2), ln(9)])
    // Key 0 stays: (6 + 24) / 3 and (6 + 162) / 10.
    let withFirst = options {
      $0.windowLeft = 0
      $0.windowRight = 0
      $0.sinkTokens = 1
    }
    expectRows(withFirst, o: [10, 16.8], lse: [ln(3), ln(10)])
  }

  @Test func softcap() {
    // 2·tanh(ln x / 2) = 2·(x − 1)/(x + 1): 0, 2/3, 1 for 1, 2, 3 and 6/5, 8/5 for 4 and 9.
    let (a, b, c, d) = (e(2.0 / 3), e(1), e(1.2), e(1.6))
    expectRows(
      options { $0.softcap = 2 },
      o: [(6 + 12 * a + 18 * b) / (1 + a + b), (6 + 12 * c + 18 * d) / (1 + c + d)],
      lse: [ln(1 + a + b), ln(1 + c + d)])
  }

  @Test func alibi() {
    // Slope ln 2 halves an exponential for each step away from keys 1 and 2:
    // 1/2, 2, 3/2 and 1/4, 2, 9.
    expectRows(
      options { $0.alibiSlopes = [ln(2)] },
      o: [(3 + 24 + 27) / 4.0, (1.5 + 24 + 162) / 11.25], lse: [ln(4), ln(11.25)])
  }

  @Test func biasAndMask() {
    // The bias makes the exponentials 2, 2, 3 and 1, 4, 0 (−inf hides); the mask hides (0, 1).
    let changed = options {
      $0.bias = PerScore([ln(2), 0, 0, 0, 0, -.infinity])
      $0.mask = PerScore([1, 0, 1, 1, 1, 1])
    }
    expectRows(changed, o: [(12 + 54) / 5.0, 54.0 / 5], lse: [ln(5), ln(5)])
  }

  @Test func sinks() {
    // A sink of ln 4 adds 4 to the denominators 6 and 14.
    expectRows(options { $0.sinks = [ln(4)] }, o: [8.4, 12], lse: [ln(10), ln(18)])
  }

  @Test func keyCounts() {
    // With 1 key the last query stands at key 0 and query 0 before it: causal, it sees nothing.
    let one = options {
      $0.causal = true
      $0.kvLengths = [1]
    }
    expectRows(one, o: [0, 6], lse: [-.infinity, 0])
    // Nothing visible but a sink: its logit.
    let withSink = options {
      $0.causal = true
      $0.kvLengths = [1]
      $0.sinks = [0]
    }
    expectRows(withSink, o: [0, 3], lse: [0, ln(2)])
  }
}

private func ln(_ value: Double) -> Double { log(value) }
private func e(_ value: Double) -> Double { exp(value) }
