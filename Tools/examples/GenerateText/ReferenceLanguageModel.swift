import Foundation

/// The model in plain Double on the host, token after token: what the device's tokens are held against.
struct ReferenceLanguageModel {
  private struct Layer {
    let mixer: LanguageModelConfiguration.Mixer
    let weights: LanguageModelWeights.Layer
    /// Rotated keys and the values of all tokens so far, of softmax attention: [T, G, D].
    var keys: [Double] = []
    var values: [Double] = []
    /// The state of lightning attention: [H, K, V].
    var state: [Double]
  }

  private let configuration: LanguageModelConfiguration
  private let embedding: [Float]
  private let norm: [Float]
  private var layers: [Layer]
  private var position = 0

  init(_ configuration: LanguageModelConfiguration, _ weights: LanguageModelWeights) {
    self.configuration = configuration
    embedding = weights.embedding
    norm = weights.norm
    let state = configuration.channels * configuration.headSize
    layers = zip(configuration.layers, weights.layers).map {
      Layer(mixer: $0, weights: $1, state: [Double](repeating: 0, count: state))
    }
  }

  /// The logits of the token that follows the tokens given so far and this one.
  mutating func logits(after token: Int32) -> [Double] {
    let channels = configuration.channels
    let start = Int(token) * channels
    var hidden = embedding[start..<start + channels].map { Double($0) }
    for index in layers.indices {
      let weights = layers[index].weights
      let normed = normalized(hidden, weights.attentionNorm)
      let projected = product(weights.queryKeyValue, normed)
      let context =
        switch layers[index].mixer {
        case .softmax: softmaxAttention(projected, &layers[index])
        case .lightning: lightningAttention(projected, &layers[index])
        }
      add(product(weights.attentionOutput, context), to: &hidden)
      let inner = product(weights.gateUp, normalized(hidden, weights.feedForwardNorm))
      let count = configuration.innerChannels
      let gated = (0..<count).map { silu(inner[$0]) * inner[count + $0] }
      add(product(weights.down, gated), to: &hidden)
    }
    position += 1
    return product(embedding, normalized(hidden, norm))
  }

  /// The tokens that greedily follow a prompt of 1 token or more, and the logits of the last of them.
  mutating func continuation(
    of prompt: [Int32], count: Int
  ) -> (tokens: [Int32], logits: [Double]) {
    var logits: [Double] = []
    for token in prompt { logits = self.logits(after: token) }
    var tokens: [Int32] = []
    while tokens.count < count {
      if let last = tokens.last { logits = self.logits(after: last) }
      var best = 0
      for index in logits.indices where logits[index] > logits[best] { best = index }
      tokens.append(Int32(best))
    }
    return (tokens, logits)
  }

  private func softmaxAttention(_ projected: [Double], _ layer: inout Layer) -> [Double] {
    let (heads, keyHeads, size) = (
      configuration.heads, configuration.keyHeads, configuration.headSize
    )
    func head(_ index: Int) -> [Double] { Array(projected[index * size..<(index + 1) * size]) }
    for g in 0..<keyHeads {
      layer.keys += rotated(head(heads + g))
      layer.values += head(heads + keyHeads + g)
    }
    var context: [Double] = []
    for h in 0..<heads {
      let query = rotated(head(h))
      let g = h / (heads / keyHeads)
      func start(_ token: Int) -> Int { (token * keyHeads + g) * size }
      let scores = (0...position).map { token in
        (0..<size).reduce(0.0) { $0 + query[$1] * layer.keys[start(token) + $1] }
          / Double(size).squareRoot()
      }
      let largest = scores.max() ?? 0
      let powers = scores.map { exp($0 - largest) }
      let sum = powers.reduce(0, +)
      context += (0..<size).map { channel in
        (0...position).reduce(0.0) { $0 + powers[$1] * layer.values[start($1) + channel] } / sum
      }
    }
    return context
  }

  private func lightningAttention(_ projected: [Double], _ layer: inout Layer) -> [Double] {
    let (channels, size) = (configuration.channels, configuration.headSize)
    let active = projected.map(silu)
    var context = [Double](repeating: 0, count: channels)
    for h in 0..<configuration.heads {
      let decay = exp(Double(layer.weights.decay?[h] ?? 0))
      for row in 0..<size {
        let query = active[h * size + row]
        let key = active[channels + h * size + row]
        for column in 0..<size {
          let place = (h * size + row) * size + column
          let value = active[2 * channels + h * size + column]
          layer.state[place] = decay * layer.state[place] + key * value
          context[h * size + column] += query * layer.state[place]
        }
      }
    }
    return normalized(context, layer.weights.contextNorm ?? [])
  }

  /// The pairs (c, c + D/2) of a head, turned by the angles of the position.
  private func rotated(_ head: [Double]) -> [Double] {
    let pairs = head.count / 2
    var result = head
    for pair in 0..<pairs {
      let angle =
        Double(position) * pow(configuration.theta, -2 * Double(pair) / Double(head.count))
      result[pair] = head[pair] * cos(angle) - head[pair + pairs] * sin(angle)
      result[pair + pairs] = head[pair] * sin(angle) + head[pair + pairs] * cos(angle)
    }
    return result
  }

  private func normalized(_ x: [Double], _ weight: [Float]) -> [Double] {
    let meanSquare = x.reduce(0.0) { $0 + $1 * $1 } / Double(x.count)
    let factor = 1 / (meanSquare + Double(configuration.epsilon)).squareRoot()
    return zip(x, weight).map { $0 * factor * Double($1) }
  }

  private func product(_ matrix: [Float], _ x: [Double]) -> [Double] {
    matrix.withUnsafeBufferPointer { matrix in
      x.withUnsafeBufferPointer { x in
        (0..<matrix.count / x.count).map { row in
          var sum = 0.0
          var place = row * x.count
          for value in x {
            sum += Double(matrix[place]) * value
            place += 1
          }
          return sum
        }
      }
    }
  }

  private func silu(_ x: Double) -> Double { x / (1 + exp(-x)) }

  private func add(_ addend: [Double], to sum: inout [Double]) {
    for index in sum.indices { sum[index] += addend[index] }
  }
}
