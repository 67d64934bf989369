import ArgumentParser
import Foundation
import VulkanAttention

/// Text from a small language model on a Vulkan device.
@main
struct GenerateText: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "generate-text",
    abstract: "Continues a text with a small language model, all of it on a Vulkan device.",
    discussion: """
      The model reads and writes bytes of UTF-8; its layers alternate softmax attention over a paged cache and \
      lightning attention with a state. The folder of the model holds config.json and model.safetensors, as \
      Tools/examples/language-model/train.py writes them.
      """)

  @Argument(help: "The folder of the model.")
  var model: String

  @Option(help: "The text that is continued.")
  var prompt = "The licenses for most software "

  @Option(help: "How many tokens are made.")
  var tokens = 128

  @Option(help: "Tokens are drawn at this temperature; at 0 the most probable one is taken.")
  var temperature: Float = 0

  @Option(help: "Tokens are drawn from this many of the most probable ones.")
  var topTokens: Int?

  @Option(help: "Tokens are drawn from the most probable ones with this part of the mass.")
  var topMass: Float = 1

  @Option(help: "What the random numbers begin with; the same seed gives the same text.")
  var seed: UInt64 = 1

  @Option(help: "How many tokens the device makes before the host waits for them.")
  var tokensPerSubmission = 16

  @Option(
    help: "How many tokens are drafted from the text itself and verified at once; 0 for none.")
  var draft = 0

  @Flag(help: "Holds the tokens of every way of making them against plain Double code on the host.")
  var verify = false

  @Flag(help: "Prints the speed of every way of making tokens.")
  var compare = false

  @Option(help: "How often each way runs with --compare, after a first time that is not counted.")
  var rounds = 5

  @Flag(help: "Prints the tokens and the text as a JSON object.")
  var json = false

  private struct Report: Encodable {
    let tokens: [Int32]
    let text: String
    let prefillSeconds: Double
    let decodeSeconds: Double
  }

  func validate() throws {
    guard temperature >= 0, temperature.isFinite else {
      throw ValidationError("--temperature is a finite number from 0")
    }
    guard temperature == 0 || draft == 0 && !verify && !compare else {
      throw ValidationError("--draft, --verify and --compare are for --temperature 0")
    }
    guard tokens > 0, tokensPerSubmission > 0, draft >= 0, rounds > 0 else {
      throw ValidationError(
        "--tokens, --tokens-per-submission and --rounds are 1 or more, --draft 0 or more")
    }
  }

  func run() async throws {
    SoftwareDriver.preferWideVectors()
    let configuration = try LanguageModelConfiguration.read(path: model + "/config.json")
    guard configuration.vocabulary == 256 else {
      throw ExampleError(
        "\(model) has a vocabulary of \(configuration.vocabulary); the 256 bytes are what runs here"
      )
    }
    let weights = try LanguageModelWeights(path: model + "/model.safetensors", configuration)
    let device = try ComputeDevice.open()
    let languageModel = try await LanguageModel(configuration, weights, on: device)
    let generator = try makeGenerator(languageModel)
    let bytes = prompt.utf8.map { Int32($0) }
    let strategy: TextGenerator.Strategy =
      draft > 0
      ? .speculative(draftTokens: draft) : .replayed(tokensPerWait: tokensPerSubmission)
    let result = try await generator.continuation(of: bytes, count: tokens, strategy: strategy)
    if json {
      let report = Report(
        tokens: result.tokens, text: text(result.tokens), prefillSeconds: result.prefillSeconds,
        decodeSeconds: result.decodeSeconds)
      FileHandle.standardOutput.write(try JSONEncoder().encode(report) + Data("\n".utf8))
    } else {
      print(prompt + text(result.tokens))
    }
    if verify {
      var reference = ReferenceLanguageModel(configuration, weights)
      let expected = reference.continuation(of: bytes, count: tokens)
      for way in ways {
        let actual = try await generator.continuation(
          of: bytes, count: tokens, strategy: way.strategy)
        try Self.hold(actual, against: expected, way.name)
      }
    }
    if compare { try await compareWays(generator, bytes, device) }
  }

  private func makeGenerator(_ model: LanguageModel) throws -> TextGenerator {
    guard temperature > 0 else { return try TextGenerator(model) }
    var random = SeededNumbers(seed: seed)
    let uniforms = (0...model.configuration.positions).map { _ in
      Float.random(in: 0..<1, using: &random)
    }
    return try TextGenerator(
      model, method: .draw(temperature: temperature, topTokens: topTokens, topMass: topMass),
      uniforms: uniforms)
  }

  /// What --verify and --compare run.
  private var ways: [(name: String, strategy: TextGenerator.Strategy)] {
    [
      ("the whole text again for each token", .recomputed),
      ("cache and states, 1 token a submission", .cached(tokensPerSubmission: 1)),
      (
        "cache and states, \(tokensPerSubmission) tokens a submission",
        .cached(tokensPerSubmission: tokensPerSubmission)
      ),
      (
        "recorded once, \(tokensPerSubmission) tokens a wait",
        .replayed(tokensPerWait: tokensPerSubmission)
      ),
      (
        "drafts of \(draft > 0 ? draft : 7) tokens verified at once",
        .speculative(draftTokens: draft > 0 ? draft : 7)
      ),
    ]
  }

  private static func hold(
    _ actual: TextGenerator.Continuation, against expected: (tokens: [Int32], logits: [Double]),
    _ name: String
  ) throws {
    let same = zip(actual.tokens, expected.tokens).prefix { $0 == $1 }.count
    guard actual.tokens == expected.tokens else {
      throw ExampleError("\(name): token \(same) is not that of the reference in Double")
    }
    let difference = zip(actual.logits, expected.logits).map { abs(Double($0) - $1) }.max() ?? .nan
    print(
      "\(name): the same \(same) tokens as the reference in Double, last logits within "
        + String(format: "%.1e", difference))
  }

  private func compareWays(
    _ generator: TextGenerator, _ prompt: [Int32], _ device: ComputeDevice
  ) async throws {
    let ways = ways
    var results: [[TextGenerator.Continuation]] = ways.map { _ in [] }
    // The first round plans and compiles; the others go by turns, so that a busy machine slows all of them.
    for round in 0...rounds {
      for (index, way) in ways.enumerated() {
        let result = try await generator.continuation(
          of: prompt, count: tokens, strategy: way.strategy)
        if round > 0 { results[index].append(result) }
      }
    }
    let expected = results[0][0].tokens
    for (way, results) in zip(ways, results)
    where results.contains(where: { $0.tokens != expected }) {
      throw ExampleError("\(way.name): the tokens are not those of the other ways")
    }
    print("\(device.capabilities.name) · \(device.capabilities.driverInfo)")
    print(
      "\(tokens) tokens behind \(prompt.count), medians of \(rounds) runs by turns; the first token, the prefill, "
        + String(
          format: "takes %.1f ms", 1e3 * Self.median(results.joined().map(\.prefillSeconds))))
    for (way, results) in zip(ways, results) {
      let speed = Self.median(results.map(\.tokensPerSecond))
      let perPass = Double(tokens - 1) / Double(max(results[0].passes, 1))
      print(
        "  " + way.name.padding(toLength: 44, withPad: " ", startingAt: 0)
          + String(format: "%8.1f tokens/s  %4.2f tokens a pass", speed, perPass))
    }
  }

  private func text(_ tokens: [Int32]) -> String {
    String(decoding: tokens.map { UInt8(truncatingIfNeeded: $0) }, as: UTF8.self)
  }

  private static func median(_ values: [Double]) -> Double {
    let sorted = values.sorted()
    return (sorted[(sorted.count - 1) / 2] + sorted[sorted.count / 2]) / 2
  }
}

/// Random numbers that a seed gives again, on every machine (SplitMix64).
struct SeededNumbers: RandomNumberGenerator {
  private var state: UInt64

  init(seed: UInt64) {
    state = seed
  }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }
}
