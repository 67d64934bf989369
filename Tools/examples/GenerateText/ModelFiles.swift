import CaseFiles
import Foundation

/// What is wrong with the files or the input of the example.
struct ExampleError: Error, CustomStringConvertible {
  let description: String

  init(_ description: String) {
    self.description = description
  }
}

/// The sizes of a small language model, as its `config.json` has them.
struct LanguageModelConfiguration: Codable, Sendable {
  /// How a layer mixes tokens.
  enum Mixer: String, Codable, Sendable {
    /// Causal softmax attention with grouped queries and rotary embedding.
    case softmax
    /// Lightning attention: linear attention with a constant decay of each head.
    case lightning
  }

  var vocabulary: Int
  var channels: Int
  var heads: Int
  var keyHeads: Int
  var innerChannels: Int
  /// The most tokens of a text.
  var positions: Int
  var epsilon: Float
  var theta: Double
  var layers: [Mixer]

  enum CodingKeys: String, CodingKey {
    case vocabulary = "vocab_size"
    case channels = "hidden_size"
    case heads = "num_attention_heads"
    case keyHeads = "num_key_value_heads"
    case innerChannels = "intermediate_size"
    case positions = "max_position_embeddings"
    case epsilon = "rms_norm_eps"
    case theta = "rope_theta"
    case layers = "layer_types"
  }

  /// The channels of a head.
  var headSize: Int { channels / heads }

  /// The channels of a layer's queries, keys and values together.
  func projectedChannels(_ mixer: Mixer) -> Int {
    switch mixer {
    case .softmax: (heads + 2 * keyHeads) * headSize
    case .lightning: 3 * channels
    }
  }

  /// Reads and checks a file.
  static func read(path: String) throws -> Self {
    guard let data = FileManager.default.contents(atPath: path) else {
      throw ExampleError("\(path) cannot be read")
    }
    let configuration: Self
    do {
      configuration = try JSONDecoder().decode(Self.self, from: data)
    } catch {
      throw ExampleError("\(path) is no configuration of this example: \(error)")
    }
    try configuration.check(path)
    return configuration
  }

  /// Refuses sizes that the model cannot have; all products of those that pass fit an Int.
  private func check(_ path: String) throws {
    let sizes = [
      ("vocab_size", vocabulary), ("hidden_size", channels), ("num_attention_heads", heads),
      ("num_key_value_heads", keyHeads), ("intermediate_size", innerChannels),
      ("max_position_embeddings", positions), ("the number of layer_types", layers.count),
    ]
    for (name, size) in sizes where !(1...1 << 20).contains(size) {
      throw ExampleError("\(path): \(name) is \(size), allowed is 1 to \(1 << 20)")
    }
    guard heads % keyHeads == 0, channels % heads == 0, headSize % 8 == 0, innerChannels % 8 == 0
    else {
      throw ExampleError(
        "\(path): \(channels) channels in \(heads) heads, \(keyHeads) of them for keys, and "
          + "\(innerChannels) inner channels; heads have whole eights of channels, each head for keys serves the "
          + "same number of heads, and inner channels are whole eights")
    }
    guard epsilon >= 0, epsilon.isFinite, theta > 1, theta.isFinite else {
      throw ExampleError(
        "\(path): rms_norm_eps is \(epsilon) and rope_theta \(theta); allowed are finite numbers, from 0 and above 1"
      )
    }
  }
}

/// The tensors of a small language model in the host's memory; matrices are [outputs, inputs].
struct LanguageModelWeights: Sendable {
  struct Layer: Sendable {
    var attentionNorm: [Float]
    var queryKeyValue: [Float]
    /// Of lightning attention: the norm of what it returns, and the natural logarithms of its heads' decays.
    var contextNorm: [Float]?
    var decay: [Float]?
    var attentionOutput: [Float]
    var feedForwardNorm: [Float]
    /// Gates, and behind them what they multiply.
    var gateUp: [Float]
    var down: [Float]
  }

  /// The embeddings, with which the logits are made as well.
  var embedding: [Float]
  var norm: [Float]
  var layers: [Layer]

  /// Makes each tensor by its name in the file and its shape.
  init(
    _ configuration: LanguageModelConfiguration,
    tensor: (_ name: String, _ shape: [Int]) throws -> [Float]
  ) rethrows {
    let channels = configuration.channels
    embedding = try tensor("embedding.weight", [configuration.vocabulary, channels])
    norm = try tensor("norm.weight", [channels])
    layers = []
    for (index, mixer) in configuration.layers.enumerated() {
      let name = "layers.\(index)."
      let isLightning = mixer == .lightning
      layers.append(
        Layer(
          attentionNorm: try tensor(name + "attention_norm.weight", [channels]),
          queryKeyValue: try tensor(
            name + "query_key_value.weight", [configuration.projectedChannels(mixer), channels]),
          contextNorm: isLightning ? try tensor(name + "context_norm.weight", [channels]) : nil,
          decay: isLightning ? try tensor(name + "decay", [configuration.heads]) : nil,
          attentionOutput: try tensor(name + "attention_output.weight", [channels, channels]),
          feedForwardNorm: try tensor(name + "feed_forward_norm.weight", [channels]),
          gateUp: try tensor(
            name + "gate_up.weight", [2 * configuration.innerChannels, channels]),
          down: try tensor(name + "down.weight", [channels, configuration.innerChannels])))
    }
  }

  /// Reads a safetensors file.
  init(path: String, _ configuration: LanguageModelConfiguration) throws {
    let file = try SafetensorsFile(path: path)
    let tensors = Dictionary(
      file.tensors.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
    try self.init(configuration) { name, shape in
      guard let tensor = tensors[name] else { throw ExampleError("\(path) has no tensor \(name)") }
      guard tensor.element == .f32, tensor.shape == shape else {
        throw ExampleError(
          "\(name) of \(path) is \(tensor.element) \(tensor.shape); expected f32 \(shape)")
      }
      return tensor.floats()
    }
  }
}
