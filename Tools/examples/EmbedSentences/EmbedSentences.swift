import ArgumentParser
import Foundation
import VulkanAttention

/// Sentence embeddings with a BERT encoder on a Vulkan device.
@main
struct EmbedSentences: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "embed-sentences",
    abstract: "Embeds sentences with a BERT encoder, all of it on a Vulkan device.",
    discussion: """
      Reads sentences from the standard input, one a line, and prints a JSON object: of each sentence its token \
      numbers and its embedding of length 1, and what a run of all took. The folder of the model holds \
      config.json, vocab.txt and model.safetensors, as all-MiniLM-L6-v2 has them.
      """)

  @Argument(help: "The folder of the model.")
  var model: String

  @Option(help: ArgumentHelp("The type of the matrices: f32 or f16.", valueName: "type"))
  var weights = "f32"

  @Option(help: "The most tokens of a sentence; what is longer is cut.")
  var maxTokens = 256

  @Option(help: "How often the batch is run after the first time; each is timed.")
  var repeats = 0

  private struct Report: Encodable {
    struct Sentence: Encodable {
      let text: String
      let tokens: [Int32]
      let embedding: [Float]
    }
    let device: String
    let driver: String
    let weights: String
    /// Of each run after the first: from the start of recording to the embeddings, in seconds.
    let seconds: [Double]
    let sentences: [Sentence]
  }

  func validate() throws {
    guard weights == "f32" || weights == "f16" else {
      throw ValidationError("--weights is f32 or f16")
    }
    guard maxTokens >= 2, repeats >= 0 else {
      throw ValidationError("--max-tokens is 2 or more, --repeats 0 or more")
    }
  }

  func run() async throws {
    SoftwareDriver.preferWideVectors()
    var texts: [String] = []
    while let line = readLine() {
      if line.contains(where: { !$0.isWhitespace }) { texts.append(line) }
    }
    guard !texts.isEmpty else { throw ExampleError("the standard input has no sentence") }
    let tokenizer = try WordPieceTokenizer(path: model + "/vocab.txt")
    let device = try ComputeDevice.open()
    let encoder = try await SentenceEncoder(
      folder: model, weightType: weights == "f16" ? .f16 : .f32, on: device)
    let limit = min(maxTokens, encoder.configuration.positions)
    let tokens = texts.map { tokenizer.tokens(of: $0, limit: limit) }
    let batch = try await encoder.prepare(tokens)
    try await encoder.run(batch)
    var seconds: [Double] = []
    for _ in 0..<repeats {
      let start = ContinuousClock.now
      try await encoder.run(batch)
      let (whole, rest) = (ContinuousClock.now - start).components
      seconds.append(Double(whole) + Double(rest) * 1e-18)
    }
    let embeddings = try await encoder.embeddings(of: batch)
    let report = Report(
      device: device.capabilities.name, driver: device.capabilities.driverInfo, weights: weights,
      seconds: seconds,
      sentences: texts.indices.map {
        Report.Sentence(text: texts[$0], tokens: tokens[$0], embedding: embeddings[$0])
      })
    FileHandle.standardOutput.write(try JSONEncoder().encode(report) + Data("\n".utf8))
  }
}
