import CaseFiles
import Foundation
import TestSupport
import Testing

@testable import generate_text

/// A model of few channels with random weights.
enum RandomModel {
  static func configuration() throws -> LanguageModelConfiguration {
    let json = """
      {"vocab_size": 40, "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2,
       "intermediate_size": 24, "max_position_embeddings": 56, "rms_norm_eps": 1e-5, "rope_theta": 100,
       "layer_types": ["softmax", "lightning", "lightning", "softmax"]}
      """
    return try JSONDecoder().decode(LanguageModelConfiguration.self, from: Data(json.utf8))
  }

  static func weights(
    _ configuration: LanguageModelConfiguration, seed: UInt64
  ) -> LanguageModelWeights {
    var random = SplitMix64(seed: seed)
    return LanguageModelWeights(configuration) { name, shape in
      let numbers = random.normal(shape.reduce(1, *), deviation: 0.3)
      if name.hasSuffix("norm.weight") { return numbers.map { 1 + $0 } }
      return name.hasSuffix("decay") ? numbers.map { -abs($0) } : numbers
    }
  }
}

/// What the example reads and drafts.
@Suite struct GenerateTextTests {
  @Test("What followed the longest ending that was there before; repetitions go on")
  func drafts() {
    #expect(NGramDraft.draft(after: [1, 2, 3, 4, 5, 1, 2, 3], count: 2) == [4, 5])
    // The last of several places, and of lengths the longest.
    #expect(NGramDraft.draft(after: [1, 2, 3, 7, 1, 2, 3, 8, 1, 2, 3], count: 1) == [8])
    #expect(NGramDraft.draft(after: [0, 1, 2, 3, 7, 1, 2, 3, 8, 0, 1, 2, 3], count: 1) == [7])
    #expect(NGramDraft.draft(after: [5, 6, 5, 6, 5, 6, 5], count: 5) == [6, 5, 6, 5, 6])
    #expect(NGramDraft.draft(after: [9, 9, 9, 9], count: 3) == [9, 9, 9])
    for history: [Int32] in [[], [1], [1, 1], [1, 1, 1], [1, 2, 1, 2]] {
      #expect(NGramDraft.draft(after: history, count: 4) == nil, "\(history)")
    }
    #expect(NGramDraft.draft(after: [1, 2, 1], count: 2, lengths: 1...2) == [2, 1])
  }

  @Test func configurations() throws {
    let folder = try TemporaryFolder()
    let path = folder.path + "/config.json"
    func read(_ changes: [String: Any]) throws -> LanguageModelConfiguration {
      let plain: [String: Any] = [
        "vocab_size": 256, "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2,
        "intermediate_size": 64, "max_position_embeddings": 16, "rms_norm_eps": 1e-5,
        "rope_theta": 10_000, "layer_types": ["softmax", "lightning"],
      ]
      let object = plain.merging(changes) { $1 }
      try JSONSerialization.data(withJSONObject: object).write(to: URL(filePath: path))
      return try LanguageModelConfiguration.read(path: path)
    }
    let good = try read([:])
    #expect(good.headSize == 8)
    #expect(good.projectedChannels(.softmax) == 64)
    #expect(good.projectedChannels(.lightning) == 96)
    for changes: [String: Any] in [
      ["vocab_size": 0], ["hidden_size": 28], ["hidden_size": 16], ["num_key_value_heads": 3],
      ["num_attention_heads": -4], ["intermediate_size": 60], ["max_position_embeddings": 0],
      ["rms_norm_eps": -1], ["rope_theta": 1], ["layer_types": [String]()],
      ["layer_types": ["gated"]], ["hidden_size": 1 << 40], ["vocab_size": "256"],
    ] {
      #expect(throws: ExampleError.self, "\(changes)") { try read(changes) }
    }
    #expect(throws: ExampleError.self) {
      try LanguageModelConfiguration.read(path: folder.path + "/none.json")
    }
  }

  @Test("Weights come back from a file; what is missing or of another shape is refused")
  func weightFiles() throws {
    let configuration = try RandomModel.configuration()
    let folder = try TemporaryFolder()
    let path = folder.path + "/model.safetensors"
    var tensors: [CaseTensor] = []
    let written = LanguageModelWeights(configuration) { name, shape in
      let numbers = (0..<shape.reduce(1, *)).map { Float($0 + tensors.count) }
      tensors.append(
        CaseTensor(name: name, element: .f32, shape: shape, values: numbers.map { Double($0) }))
      return numbers
    }
    try SafetensorsFile(name: "model", tensors: tensors, metadata: [:]).write(path: path)
    let read = try LanguageModelWeights(path: path, configuration)
    #expect(read.embedding == written.embedding)
    #expect(read.layers.map(\.queryKeyValue) == written.layers.map(\.queryKeyValue))
    #expect(read.layers.map(\.decay) == written.layers.map(\.decay))
    #expect(read.layers.map(\.down) == written.layers.map(\.down))
    var other = configuration
    other.innerChannels += 8
    #expect(throws: ExampleError.self) { try LanguageModelWeights(path: path, other) }
    other = configuration
    other.layers.append(.softmax)
    #expect(throws: ExampleError.self) { try LanguageModelWeights(path: path, other) }
  }

  /// Numbers of the model in PyTorch (Tools/examples/language-model/train.py), with the weights that the file's
  /// function makes: the logits behind the tokens 3, 1, 4, 1, 5, the first four of them.
  @Test func referenceAgainstPyTorch() throws {
    let configuration = try RandomModel.configuration()
    var tensor = 0
    let weights = LanguageModelWeights(configuration) { name, shape in
      tensor += 1
      return (0..<shape.reduce(1, *)).map { index in
        let wave = Float(sin(Double(index) * 0.7 + Double(index * index % 101) + Double(tensor)))
        if name.hasSuffix("norm.weight") { return 1 + wave / 4 }
        return name.hasSuffix("decay") ? -abs(wave) : wave / 4
      }
    }
    var reference = ReferenceLanguageModel(configuration, weights)
    var logits: [Double] = []
    for token: Int32 in [3, 1, 4, 1, 5] { logits = reference.logits(after: token) }
    expectEach(
      logits.prefix(4).map { Float($0) }, within: 1e-5, of: Self.pyTorchLogits, "logits")
  }

  private static let pyTorchLogits: [Double] = [
    1.2739237, 0.9740843, -0.5637017, 1.5873224,
  ]
}

/// Texts on the device against the reference on the host.
@Suite(.needsDevice, .silentValidation) struct TextGeneratorTests {
  private struct Fixture {
    let configuration: LanguageModelConfiguration
    let weights: LanguageModelWeights
    let model: LanguageModel

    init(seed: UInt64 = 1) async throws {
      configuration = try RandomModel.configuration()
      weights = RandomModel.weights(configuration, seed: seed)
      model = try await LanguageModel(configuration, weights, on: TestDevice.shared())
    }

    func expected(_ prompt: [Int32], _ count: Int) -> (tokens: [Int32], logits: [Double]) {
      var reference = ReferenceLanguageModel(configuration, weights)
      return reference.continuation(of: prompt, count: count)
    }
  }

  private static let prompt: [Int32] = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2]

  @Test(
    "Every way of making tokens gives those of the reference",
    arguments: [
      TextGenerator.Strategy.recomputed, .cached(tokensPerSubmission: 1),
      .cached(tokensPerSubmission: 7), .replayed(tokensPerWait: 1), .replayed(tokensPerWait: 7),
      .speculative(draftTokens: 1), .speculative(draftTokens: 4),
    ])
  func strategies(_ strategy: TextGenerator.Strategy) async throws {
    let fixture = try await Fixture()
    let generator = try TextGenerator(fixture.model)
    // The last one fills all positions: where no draft fits any more, single steps go on.
    for (length, count) in [(1, 9), (17, 1), (17, 39)] {
      let prompt = Array(Self.prompt.prefix(length))
      let expected = fixture.expected(prompt, count)
      let actual = try await generator.continuation(of: prompt, count: count, strategy: strategy)
      #expect(actual.tokens == expected.tokens, "\(length) and \(count)")
      expectClose(actual.logits, to: expected.logits, within: 1e-4, "\(length) and \(count)")
    }
  }

  /// Accepted drafts save passes; rejected ones leave no trace in the caches and states.
  @Test func drafts() async throws {
    var saved = 0
    var rejected = 0
    for seed: UInt64 in 1...4 {
      let fixture = try await Fixture(seed: seed)
      let generator = try TextGenerator(fixture.model)
      // A prompt that repeats itself is drafted from, and this model does not follow it.
      let prompt = [Int32](repeating: 7, count: 4) + Self.prompt[..<4] + Self.prompt[..<4]
      let expected = fixture.expected(prompt, 40)
      let actual = try await generator.continuation(
        of: prompt, count: 40, strategy: .speculative(draftTokens: 3))
      #expect(actual.tokens == expected.tokens, "seed \(seed)")
      expectClose(actual.logits, to: expected.logits, within: 1e-4, "seed \(seed)")
      saved += 39 - actual.passes
      // 4 tokens a pass are the most.
      rejected += actual.passes * 4 - 39
    }
    #expect(saved > 0)
    #expect(rejected > 0)
  }

  @Test("Drawn tokens are those that the uniform numbers fall on, however many a submission has")
  func drawing() async throws {
    let fixture = try await Fixture()
    var random = SplitMix64(seed: 5)
    let uniforms = (0...fixture.configuration.positions).map { _ in
      Float.random(in: 0..<1, using: &random)
    }
    let generator = try TextGenerator(
      fixture.model, method: .draw(temperature: 2), uniforms: uniforms)
    let prompt = Array(Self.prompt.prefix(6))
    let text = try await generator.continuation(
      of: prompt, count: 24, strategy: .cached(tokensPerSubmission: 5))
    let single = try await generator.continuation(
      of: prompt, count: 24, strategy: .cached(tokensPerSubmission: 1))
    #expect(text.tokens == single.tokens)
    let replayed = try await generator.continuation(
      of: prompt, count: 24, strategy: .replayed(tokensPerWait: 5))
    #expect(text.tokens == replayed.tokens)
    var reference = ReferenceLanguageModel(fixture.configuration, fixture.weights)
    let tokens = prompt + text.tokens
    for (place, token) in tokens.dropLast().enumerated() {
      let powers = reference.logits(after: token).map { exp($0 / 2) }
      guard place + 1 >= prompt.count else { continue }
      let next = Int(tokens[place + 1])
      let sum = powers.reduce(0, +)
      let before = powers[..<next].reduce(0, +) / sum
      let after = before + powers[next] / sum
      #expect((before - 1e-4..<after + 1e-4).contains(Double(uniforms[place + 1])), "\(place)")
    }
  }

  @Test func refusals() async throws {
    let fixture = try await Fixture()
    let generator = try TextGenerator(fixture.model)
    for (prompt, count) in [([], 1), ([1], 0), ([1], 56), ([40], 1), ([-1], 1)] as [([Int32], Int)]
    {
      await #expect(throws: ExampleError.self, "\(prompt), \(count)") {
        try await generator.continuation(of: prompt, count: count, strategy: .recomputed)
      }
    }
    for strategy in [
      TextGenerator.Strategy.cached(tokensPerSubmission: 0), .replayed(tokensPerWait: 0),
      .speculative(draftTokens: 0),
      .speculative(draftTokens: 56),
    ] {
      await #expect(throws: ExampleError.self, "\(strategy)") {
        try await generator.continuation(of: [1], count: 2, strategy: strategy)
      }
    }
    #expect(throws: ExampleError.self) {
      try TextGenerator(fixture.model, method: .draw(temperature: 1))
    }
    let drawing = try TextGenerator(
      fixture.model, method: .draw(temperature: 1), uniforms: [Float](repeating: 0, count: 57))
    await #expect(throws: ExampleError.self) {
      try await drawing.continuation(
        of: [1], count: 2, strategy: .speculative(draftTokens: 2))
    }
  }
}
