import AttentionReference
import Testing

/// Steps small enough to be done by hand.
@Suite struct HandWorkedLinearTests {
  /// One head with two key channels and one value channel.
  private func step(
    q: [Double], k: [Double], v: [Double], _ options: LinearAttentionOptions = .init(),
    updates: Int = 1
  ) -> LinearAttentionOutput {
    var options = options
    options.scale = options.scale ?? 1
    return linearAttention(
      q: q, k: k, v: v,
      dimensions: LinearAttentionDimensions(
        tokens: q.count / 2, valueHeads: 1, keyChannels: 2, valueChannels: 1,
        updatesPerToken: updates), options: options)
  }

  private func close(_ actual: [Double], _ expected: [Double]) -> Bool {
    actual.count == expected.count
      && zip(actual, expected).allSatisfy { ($0 - $1).magnitude < 1e-12 }
  }

  private let half = -0.693_147_180_559_945_3

  @Test func plain() {
    let result = step(q: [1, 2, 2, 1], k: [3, 4, 1, -1], v: [5, 2])
    // S = (15, 20), then (17, 18).
    #expect(result.o == [55, 52] && result.state == [17, 18] && result.sum == [4, 3])
  }

  @Test func defaultScale() {
    let result = linearAttention(
      q: [1, 1, 1, 1], k: [1, 1, 1, 1], v: [6],
      dimensions: LinearAttentionDimensions(
        tokens: 1, valueHeads: 1, keyChannels: 4, valueChannels: 1))
    #expect(result.o == [12])
  }

  @Test func decays() {
    var options = LinearAttentionOptions()
    options.decay = [0, half]
    // S = (15, 20), (7.5, 10) + 2 (1, -1).
    #expect(close(step(q: [1, 2, 2, 1], k: [3, 4, 1, -1], v: [5, 2], options).o, [55, 27]))
    options.decay = nil
    options.headDecay = [half]
    options.initialState = [2, 4]
    #expect(close(step(q: [1, 10], k: [1, 1], v: [3], options).o, [4 + 50]))
    options.headDecay = nil
    options.keyDecay = [half, 0]
    #expect(close(step(q: [1, 10], k: [1, 1], v: [3], options).state, [4, 7]))
    options.keyDecay = nil
    options.valueDecay = [half]
    #expect(close(step(q: [1, 10], k: [1, 1], v: [3], options).state, [4, 5]))
    // Above 0 is 0.
    options.valueDecay = [3]
    #expect(step(q: [1, 10], k: [1, 1], v: [3], options).state == [5, 7])
  }

  @Test func deltaRule() {
    var options = LinearAttentionOptions()
    options.erases = true
    options.beta = [0.5]
    options.initialState = [15, 20]
    // x = 0.5 · 6 − 0.5 · 20 = −7.
    #expect(step(q: [1, 1], k: [0, 1], v: [6], options).state == [15, 13])
    // Another key is erased: x = 3 − 0.5 · (15 + 40).
    options.eraseKeys = [1, 2]
    #expect(step(q: [1, 1], k: [0, 1], v: [6], options).state == [15, -4.5])
    // Channel gates of the erasure and of the write: x = 0.5 · 2 · 6 − 0.5 · (0 · 15 + 3 · 2 · 20).
    options.eraseGates = [0, 3]
    options.writeGates = [2]
    #expect(step(q: [1, 1], k: [0, 1], v: [6], options).state == [15, 20 + 6 - 60])
  }

  @Test func deltaProduct() {
    var options = LinearAttentionOptions()
    options.erases = true
    options.beta = [1, 0.5]
    options.decay = [half]
    options.initialState = [4, 8]
    // (2, 4); the first update writes 6 for (1, 0): (6, 4); the second half of 10 − 4 for (0, 1).
    let result = step(q: [1, 10], k: [1, 0, 0, 1], v: [6, 10], options, updates: 2)
    #expect(close(result.state, [6, 7]) && close(result.o, [76]))
  }

  @Test func lowRank() {
    var options = LinearAttentionOptions()
    options.initialState = [2, 3]
    options.keyDecay = [half, 0]
    options.lowRank = .init(a: [1, 1], b: [0.5, 1])
    // aᵀ S = 5; S = (1, 3) + (1, 2) · 10 + 5 (0.5, 1).
    let result = step(q: [1, 1], k: [1, 2], v: [10], options)
    #expect(close(result.state, [13.5, 28]) && close(result.o, [41.5]))
  }

  @Test func readBeforeUpdate() {
    var options = LinearAttentionOptions()
    options.initialState = [2, 3]
    options.keyDecay = [half, 0]
    options.readsBeforeUpdate = true
    #expect(close(step(q: [1, 10], k: [1, 2], v: [10], options).o, [32]))
    options.bonus = [3, 0.5]
    // 32 + (1 · 3 · 1 + 10 · 0.5 · 2) · 10.
    let result = step(q: [1, 10], k: [1, 2], v: [10], options)
    #expect(close(result.o, [162]) && close(result.state, [11, 23]))
  }

  @Test func normalizers() {
    var options = LinearAttentionOptions()
    options.normalizer = .sum(epsilon: 1)
    options.initialSum = [1, 1]
    options.headDecay = [half]
    // z = (0.5, 0.5) + (3, 4); S = (6, 8).
    let result = step(q: [1, 2], k: [3, 4], v: [2], options)
    #expect(close(result.sum, [3.5, 4.5]) && close(result.o, [22 / 13.5]))
    options.normalizer = .retention
    #expect(close(step(q: [-1, -2], k: [3, 4], v: [2], options).o, [-22 / 12.5]))
    #expect(close(step(q: [0.01, 0], k: [3, 4], v: [2], options).o, [0.06]))
  }

  @Test func notCausal() {
    var options = LinearAttentionOptions()
    options.causal = false
    #expect(step(q: [1, 2, 2, 1], k: [3, 4, 1, -1], v: [5, 2], options).o == [53, 52])
    options.normalizer = .sum(epsilon: 0)
    #expect(
      close(step(q: [1, 2, 2, 1], k: [3, 4, 1, -1], v: [5, 2], options).o, [53 / 10, 52 / 11]))
  }

  @Test func sequenceIDs() {
    var options = LinearAttentionOptions()
    options.sequenceIDs = [7, 7, 9]
    options.initialState = [1, 1]
    let result = step(q: [1, 0, 1, 0, 1, 0], k: [1, 0, 1, 0, 1, 0], v: [1, 2, 4], options)
    #expect(result.o == [2, 4, 4] && result.state == [4, 0])
  }

  @Test func stateSpace() {
    var options = StateSpaceOptions()
    options.skip = [3]
    options.initialState = [1, 2]
    // exp(2 · −ln 2 / 2) = 1/2; S = (0.5, 1) + 2 · 5 (1, 3); y = 10.5 + 31 · 2 + 3 · 5.
    let result = stateSpaceDuality(
      x: [5], dt: [2], a: [half / 2], b: [1, 3], c: [1, 2],
      dimensions: LinearAttentionDimensions(
        tokens: 1, valueHeads: 1, keyChannels: 2, valueChannels: 1), options: options)
    #expect(close(result.state, [10.5, 31]) && close(result.o, [87.5]))
  }

  @Test func stateSpaceGates() {
    var options = StateSpaceOptions()
    options.outputGate = [0, 100]
    options.timeStepBias = [-1]
    options.appliesSoftplus = true
    // softplus(1 − 1) = ln 2, softplus(101 − 1) = 100.
    let result = stateSpaceDuality(
      x: [5, 1], dt: [1, 101], a: [0], b: [1, 0, 0, 1], c: [1, 0, 0, 1],
      dimensions: LinearAttentionDimensions(
        tokens: 2, valueHeads: 1, keyChannels: 2, valueChannels: 1), options: options)
    #expect(close(result.state, [-half * 5, 100]) && close(result.o, [0, 10_000]))
  }

  @Test func gatedSlots() {
    // One slot: its softmax is 1, and the output the decayed sum of what was written.
    let o = gatedSlotAttention(
      q: [1, 2], k: [1, 1], v: [3, 5], s: [1, 2], decay: [0, half], slots: 1,
      dimensions: LinearAttentionDimensions(
        tokens: 2, valueHeads: 1, keyChannels: 1, valueChannels: 1))
    #expect(close(o, [3, 11.5]))
  }

  @Test func featureMaps() {
    let x = [-2.0, 1, 0, 3]
    func mapped(_ map: FeatureMap) -> [Double] { map.mapped(x, heads: 1, channels: 2) }
    #expect(mapped(.identity) == x)
    #expect(mapped(.relu) == [0, 1, 0, 3])
    #expect(mapped(.squaredReLU) == [0, 1, 0, 9])
    #expect(close(mapped(.eluPlusOne), [0.135_335_283_236_612_7, 2, 1, 4]))
    #expect(
      close(mapped(.l2Norm(epsilon: 0)), [-2 / 5.0.squareRoot(), 1 / 5.0.squareRoot(), 0, 1]))
    let low = 0.047_425_873_177_566_78
    #expect(close(mapped(.softmax), [low, 1 - low, low, 1 - low]))
    let small = 0.119_202_922_022_117_55
    #expect(close(mapped(.tokenSoftmax), [small, small, 1 - small, 1 - small]))
    // φ(q)·φ(k) = 1 + s + s²/2, s = q·k / √2 = 3 / √2.
    let phi = mapped(.taylor2)
    #expect(phi.count == 14)
    let s = 3 / 2.0.squareRoot()
    let dot = (0..<7).reduce(0.0) { $0 + phi[$1] * phi[7 + $1] }
    #expect((dot - (1 + s + s * s / 2)).magnitude < 1e-12)
    let favor = mapped(.favorPlus(projection: [1, 0, 0, 1]))
    #expect(
      close(
        favor.map { $0 * 2.0.squareRoot() },
        [
          0.011_108_996_538_242_306, 0.223_130_160_148_429_8, 0.011_108_996_538_242_306,
          0.223_130_160_148_429_8,
        ]))
    // Token 1 of at most 2 turns by π/4.
    let turned = mapped(.cosFormer(maximum: 2))
    #expect(close(turned, [0, 1, 0, 0, 0, 3 / 2.0.squareRoot(), 0, 3 / 2.0.squareRoot()]))
  }
}
