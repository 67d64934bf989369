import AttentionReference
import RealModule
import TestSupport
import Testing

@testable import VulkanAttentionCustom

/// Scores that are no dot products, against their definitions in the reference.
@Suite(.serialized, .timeLimit(.minutes(15)), .needsDevice, .needsShaderc)
struct ScoreFunctionTests {
  private static let heads = LibraryProblem.queryHeads
  private static let keyHeads = LibraryProblem.keyHeads

  /// ‖x‖² of [B, tokens, heads, D], laid out as [B, heads, capacity] with NaN in the room that is left.
  private func squaredNorms(
    _ values: [Float], tokens: Int, heads: Int, channels: Int, capacity: Int
  ) -> [Float] {
    (0..<2).flatMap { b in
      (0..<heads).flatMap { h in
        (0..<capacity).map { t in
          guard t < tokens else { return Float.nan }
          let start = ((b * tokens + t) * heads + h) * channels
          return Float(
            values[start..<start + channels].reduce(0.0) { $0 + Double($1) * Double($1) })
        }
      }
    }
  }

  /// ‖q − k‖² of a pair of tokens.
  private func squaredDistance(
    _ problem: LibraryProblem
  ) -> @Sendable (_ batch: Int, _ head: Int, _ query: Int, _ key: Int) -> Double {
    let (q, k) = (problem.inputs.query, problem.inputs.key)
    let request = problem.request
    return { b, h, i, j in
      let channels = request.headSize
      let query = ((b * request.queryTokens + i) * Self.heads + h) * channels
      let key =
        ((b * request.keyTokens + j) * Self.keyHeads + h / (Self.heads / Self.keyHeads)) * channels
      return (0..<channels).reduce(0) { sum, d in
        let difference = Double(q[query + d]) - Double(k[key + d])
        return sum + difference * difference
      }
    }
  }

  @Test("Gaussian keys weigh by distance", arguments: LibraryProblem.paths)
  func gaussianKeys(path: AttentionPath) async throws {
    let deviation: Float = 1.5
    for (queries, keys) in LibraryProblem.shapes {
      let problem = try LibraryProblem(
        queries: queries, keys: keys, mask: .causal, scale: 1, queryDeviation: 0.5)
      let capacity = keys + 2
      let distance = squaredDistance(problem)
      let precision = 1 / Double(deviation * deviation)
      let expected = problem.reference {
        $0.scoreModification = { _, b, h, i, j in -0.5 * precision * distance(b, h, i, j) }
      }
      // The row's own −‖q‖² / (2σ²) is missing in the log-sum-exp.
      let channels = problem.request.headSize
      let lse = expected.lse.enumerated().map { row, lse in
        problem.inputs.query[row * channels..<(row + 1) * channels].reduce(lse) {
          $0 + 0.5 * precision * Double($1) * Double($1)
        }
      }
      let norms = squaredNorms(
        problem.inputs.key, tokens: keys, heads: Self.keyHeads, channels: channels,
        capacity: capacity)
      try problem.expectEqual(
        await problem.run(
          path, score: .gaussianKeys(deviation: deviation, keyHeads: Self.keyHeads),
          buffers: ["keyNorms": .floats(norms)],
          scalars: ["keyCapacity": .int(Int32(capacity))]),
        o: expected.o, lse: lse, emptyTokens: max(queries - keys, 0),
        "\(path), \(queries) × \(keys)")
    }
  }

  @Test("Mixtures of Gaussian keys are the densities themselves", arguments: LibraryProblem.paths)
  func gaussianMixtureKeys(path: AttentionPath) async throws {
    let deviations = [1.0, 2, 4]
    let weights = [0.2, 0.5, 0.3]
    for (queries, keys) in [(37, 54), (53, 36)] {
      let problem = try LibraryProblem(
        queries: queries, keys: keys, mask: .causal, scale: 1, queryDeviation: 0.5)
      let capacity = keys + 3
      let distance = squaredDistance(problem)
      let expected = problem.reference {
        $0.scoreModification = { _, b, h, i, j in
          let deviation = deviations[j % 3]
          return .log(weights[j % 3] * .exp(-distance(b, h, i, j) / (2 * deviation * deviation)))
        }
      }
      let channels = problem.request.headSize
      try problem.expectEqual(
        await problem.run(
          path,
          score: .gaussianMixtureKeys(
            components: 3, queryHeads: Self.heads, keyHeads: Self.keyHeads),
          buffers: [
            "precisions": .floats(deviations.map { Float(1 / ($0 * $0)) }),
            "logWeights": .floats(weights.map { Float(Double.log($0)) }),
            "queryNorms": .floats(
              squaredNorms(
                problem.inputs.query, tokens: queries, heads: Self.heads, channels: channels,
                capacity: queries)),
            "keyNorms": .floats(
              squaredNorms(
                problem.inputs.key, tokens: keys, heads: Self.keyHeads, channels: channels,
                capacity: capacity)),
          ], scalars: ["keyCapacity": .int(Int32(capacity))]),
        expected, emptyTokens: max(queries - keys, 0), "\(path), \(queries) × \(keys)")
    }
  }

  /// Radii and angles of both sides, [B, tokens, heads, C].
  private struct Polar: Sendable {
    let channels = 5
    let capacity: Int
    let queryRadii, queryAngles, keyRadii, keyAngles: [Float]
    let frequencies: [Float] = [1, 0.5, 0.1, 0.01, 0]

    init(queries: Int, keys: Int) {
      capacity = keys + 4
      queryRadii = libraryNumbers(2 * queries * 4 * channels, seed: "query radii")
      queryAngles = libraryNumbers(2 * queries * 4 * channels, seed: "query angles", deviation: 2)
      keyRadii = libraryNumbers(2 * capacity * 2 * channels, seed: "key radii")
      keyAngles = libraryNumbers(2 * capacity * 2 * channels, seed: "key angles", deviation: 2)
    }

    func buffers(frequencies: [Float]) -> [String: LibraryBuffer] {
      [
        "queryRadii": .floats(queryRadii), "queryAngles": .floats(queryAngles),
        "keyRadii": .floats(keyRadii), "keyAngles": .floats(keyAngles),
        "frequencies": .floats(frequencies),
      ]
    }
  }

  @Test("Polar scores with an adaptation that does not split", arguments: LibraryProblem.paths)
  func polar(path: AttentionPath) async throws {
    let strengths: [Float] = [0.5, 1, 2, 0.125]
    for (queries, keys) in LibraryProblem.shapes {
      let problem = try LibraryProblem(queries: queries, keys: keys, mask: .causal)
      let polar = Polar(queries: queries, keys: keys)
      let channels = polar.channels
      let offset = problem.positionOffset
      let expected = problem.reference {
        $0.scoreModification = { _, b, h, i, j in
          let query = ((b * queries + i) * 4 + h) * channels
          let key = ((b * polar.capacity + j) * 2 + h / 2) * channels
          return 0.5
            * (0..<channels).reduce(0) { sum, c in
              let difference = Double(polar.queryAngles[query + c] - polar.keyAngles[key + c])
              // A rational function: devices' sines have 3 digits.
              let adapted =
                difference / (1 + Double(strengths[h]) * difference * difference) + Double(c) / 8
              let turned = adapted + Double(i + offset - j) * Double(polar.frequencies[c])
              return sum + Double(polar.queryRadii[query + c]) * Double(polar.keyRadii[key + c])
                * .cos(turned)
            }
        }
      }
      let score = try ScoreModification.polar(
        adapt:
          """
          float shrunk = difference / (1.0 + strengths(head) * difference * difference);
          return shrunk + 0.125 * float(channel);  // learned
          """,
        buffers: [CustomBuffer("strengths", .f32)], channels: channels, queryHeads: 4, keyHeads: 2,
        scale: 0.5)
      var buffers = polar.buffers(frequencies: polar.frequencies)
      buffers["strengths"] = .floats(strengths)
      try problem.expectEqual(
        await problem.run(
          path, score: score, buffers: buffers,
          scalars: ["keyCapacity": .int(Int32(polar.capacity))]),
        o: expected.o, lse: expected.lse, emptyTokens: max(-offset, 0),
        "\(path), \(queries) × \(keys)", within: 3e-5)
    }
  }

  @Test("Polar scores without an adaptation are dot products", arguments: LibraryProblem.paths)
  func polarAndRectangular(path: AttentionPath) async throws {
    let (queries, keys) = (37, 53)
    let polar = Polar(queries: queries, keys: keys)
    var problem = try LibraryProblem(
      queries: queries, keys: keys, scale: 0.25, headSize: 2 * polar.channels)
    func rectangular(_ radii: [Float], _ angles: [Float]) -> [Float] {
      zip(radii, angles).flatMap { radius, angle -> [Float] in
        let (cosine, sine) = (Double.cos(Double(angle)), Double.sin(Double(angle)))
        return [radius * Float(cosine), radius * Float(sine)]
      }
    }
    // What is beyond the keys is left out.
    func held(_ values: [Float]) -> [Float] {
      let width = 2 * polar.channels
      return (0..<2).flatMap {
        values[$0 * polar.capacity * width..<($0 * polar.capacity + keys) * width]
      }
    }
    problem.inputs.query = rectangular(polar.queryRadii, polar.queryAngles)
    problem.inputs.key = rectangular(held(polar.keyRadii), held(polar.keyAngles))
    let score = try ScoreModification.polar(
      channels: polar.channels, queryHeads: 4, keyHeads: 2, scale: 0.25)
    let still = [Float](repeating: 0, count: polar.channels)
    try problem.expectEqual(
      await problem.run(
        path, score: score, buffers: polar.buffers(frequencies: still),
        scalars: ["keyCapacity": .int(Int32(polar.capacity))]),
      await problem.runBuiltIn(path), emptyTokens: 0, "\(path)")
  }

  @Test("Arguments that make no score are refused")
  func arguments() throws {
    for deviation in [0, -1, .infinity, .nan, 1e-30] as [Float] {
      expectRefused("deviation") {
        try ScoreModification.gaussianKeys(deviation: deviation, keyHeads: 1)
      }
    }
    expectRefused("keyHeads") { try ScoreModification.gaussianKeys(deviation: 1, keyHeads: 0) }
    expectRefused("components") {
      try ScoreModification.gaussianMixtureKeys(components: 0, queryHeads: 1, keyHeads: 1)
    }
    expectRefused("queryHeads") {
      try ScoreModification.gaussianMixtureKeys(components: 1, queryHeads: -1, keyHeads: 1)
    }
    expectRefused("channels") {
      try ScoreModification.polar(channels: 0, queryHeads: 1, keyHeads: 1, scale: 1)
    }
    expectRefused("scale") {
      try ScoreModification.polar(channels: 1, queryHeads: 1, keyHeads: 1, scale: .infinity)
    }
    // A body that would close its function, one that reads what is not there, and a name that is taken.
    #expect(throws: CustomAttentionError.self) {
      try ScoreModification.polar(
        adapt: "return 1.0; } float other() { return 2.0;", channels: 1, queryHeads: 1,
        keyHeads: 1, scale: 1)
    }
    #expect(throws: CustomAttentionError.self) {
      try ScoreModification.polar(
        adapt: "return 1.0;", buffers: [CustomBuffer("keyRadii", .f32)], channels: 1,
        queryHeads: 1, keyHeads: 1, scale: 1)
    }
  }
}
