import Foundation
import VulkanAttention

/// The sizes of a BERT encoder, as its `config.json` has them.
struct EncoderConfiguration: Decodable {
  let vocabulary: Int
  let channels: Int
  let layers: Int
  let heads: Int
  let innerChannels: Int
  let positions: Int
  let types: Int
  let epsilon: Float
  let activation: String

  enum CodingKeys: String, CodingKey {
    case vocabulary = "vocab_size"
    case channels = "hidden_size"
    case layers = "num_hidden_layers"
    case heads = "num_attention_heads"
    case innerChannels = "intermediate_size"
    case positions = "max_position_embeddings"
    case types = "type_vocab_size"
    case epsilon = "layer_norm_eps"
    case activation = "hidden_act"
  }

  init(path: String) throws {
    guard let data = FileManager.default.contents(atPath: path) else {
      throw ExampleError("\(path) cannot be read")
    }
    self = try JSONDecoder().decode(Self.self, from: data)
    guard activation == "gelu", layers > 0, heads > 0, channels % heads == 0, positions >= 2 else {
      throw ExampleError(
        "\(path): an encoder with GELU, whole heads and 2 positions or more is what runs here")
    }
  }
}

/// A BERT encoder on a device, its weights in device memory: the mean of the last hidden states of a sentence, of
/// length 1 (Sentence-BERT, https://arxiv.org/abs/1908.10084).
///
/// A batch is one list of commands from the token numbers to the embeddings. Sentences lie one behind the other
/// without padding; attention keeps them apart.
struct SentenceEncoder {
  private struct Projection {
    let weight: DeviceBuffer
    let bias: DeviceBuffer
  }

  private struct Norm {
    let weight: DeviceBuffer
    let bias: DeviceBuffer
  }

  private struct Layer {
    /// Queries, keys and values of all heads: rows of 3 C.
    let queryKeyValue: Projection
    let attentionOutput: Projection
    let attentionNorm: Norm
    let inner: Projection
    let output: Projection
    let outputNorm: Norm
  }

  let configuration: EncoderConfiguration
  private let device: ComputeDevice
  private let weightFormat: WeightFormat
  private let tables: [DeviceBuffer]
  private let embeddingNorm: Norm
  private let layers: [Layer]
  /// What turns the root mean square into the length: 1/√C for every channel.
  private let unitLength: DeviceBuffer

  /// Uploads the weights of a folder with `config.json` and `model.safetensors`.
  init(folder: String, weightType: ElementType, on device: ComputeDevice) async throws {
    let configuration = try EncoderConfiguration(path: folder + "/config.json")
    let file = try WeightFile(path: folder + "/model.safetensors")
    let channels = configuration.channels
    func vector(_ name: String, _ count: Int) async throws -> DeviceBuffer {
      try await device.makeBuffer(file.tensor(name, shape: [count]), label: name)
    }
    func norm(_ name: String) async throws -> Norm {
      Norm(
        weight: try await vector(name + ".weight", channels),
        bias: try await vector(name + ".bias", channels))
    }
    /// One matrix of several, output channels behind output channels.
    func projection(_ names: [String], from inputs: Int, to outputs: Int) async throws -> Projection
    {
      let weights = try names.flatMap {
        try file.tensor($0 + ".weight", shape: [outputs, inputs])
      }
      let biases = try names.flatMap { try file.tensor($0 + ".bias", shape: [outputs]) }
      let weight =
        switch weightType {
        case .f16: try await device.makeBuffer(weights.map { Float16($0) }, label: names[0])
        case .f32, .bf16: try await device.makeBuffer(weights, label: names[0])
        }
      return Projection(
        weight: weight, bias: try await device.makeBuffer(biases, label: names[0]))
    }
    var tables: [DeviceBuffer] = []
    for (name, count) in [
      ("word", configuration.vocabulary), ("position", configuration.positions),
      ("token_type", configuration.types),
    ] {
      let tensor = "embeddings.\(name)_embeddings.weight"
      tables.append(
        try await device.makeBuffer(
          file.tensor(tensor, shape: [count, channels]), label: tensor))
    }
    var layers: [Layer] = []
    for index in 0..<configuration.layers {
      let name = "encoder.layer.\(index)."
      layers.append(
        Layer(
          queryKeyValue: try await projection(
            ["query", "key", "value"].map { name + "attention.self." + $0 }, from: channels,
            to: channels),
          attentionOutput: try await projection(
            [name + "attention.output.dense"], from: channels, to: channels),
          attentionNorm: try await norm(name + "attention.output.LayerNorm"),
          inner: try await projection(
            [name + "intermediate.dense"], from: channels, to: configuration.innerChannels),
          output: try await projection(
            [name + "output.dense"], from: configuration.innerChannels, to: channels),
          outputNorm: try await norm(name + "output.LayerNorm")))
    }
    self.configuration = configuration
    self.device = device
    self.weightFormat = .element(weightType == .f16 ? .f16 : .f32)
    self.tables = tables
    self.layers = layers
    embeddingNorm = try await norm("embeddings.LayerNorm")
    unitLength = try await device.makeBuffer(
      [Float](repeating: 1 / Float(channels).squareRoot(), count: channels), label: "unit length")
  }

  /// A batch of sentences, planned and with its memory, to be run as often as one likes.
  struct Batch {
    fileprivate let sentences: Int
    fileprivate let tokens: Int
    fileprivate let kernels: Kernels
    fileprivate let memory: Memory
  }

  fileprivate struct Kernels {
    let embedding: EmbeddingKernel
    let norm: NormalizationKernel
    let normOfSum: NormalizationKernel
    let queryKeyValue: MatrixProductKernel
    let attention: AttentionKernel
    let attentionOutput: MatrixProductKernel
    let inner: MatrixProductKernel
    let output: MatrixProductKernel
    let pooling: AttentionKernel
    let unit: NormalizationKernel
  }

  fileprivate struct Memory {
    let numbers: [DeviceBuffer]
    let starts: DeviceBuffer
    /// One query for each sentence.
    let poolingStarts: DeviceBuffer
    let poolingQueries: DeviceBuffer
    let hidden: DeviceBuffer
    let sum: DeviceBuffer
    let queryKeyValue: DeviceBuffer
    let context: DeviceBuffer
    let inner: DeviceBuffer
    let scratch: DeviceBuffer
    let pooled: DeviceBuffer
    let embeddings: DeviceBuffer
  }

  /// Plans a batch: sentences of 1 token or more.
  func prepare(_ sentences: [[Int32]]) async throws -> Batch {
    let lengths = sentences.map(\.count)
    guard let longest = lengths.max(), lengths.allSatisfy({ $0 > 0 }) else {
      throw ExampleError("a batch has a sentence or more, and a sentence a token or more")
    }
    let tokens = lengths.reduce(0, +)
    let (channels, heads) = (configuration.channels, configuration.heads)
    let headSize = channels / heads
    let inner = configuration.innerChannels
    let device = device
    func product(_ inputs: Int, _ outputs: Int, _ activation: Activation = .none) throws
      -> MatrixProductKernel
    {
      try MatrixProductKernel(
        MatrixProductRequest(
          rows: tokens, outputChannels: outputs, inputChannels: inputs, weightFormat: weightFormat,
          biasType: .f32, activation: activation), on: device)
    }
    let strides = TensorStrides(batch: 0, token: 3 * channels, head: headSize)
    let packed = PackedSequences(queryTokens: tokens, keyTokens: tokens)
    let kernels = Kernels(
      embedding: try EmbeddingKernel(
        EmbeddingRequest(
          rows: tokens, channels: channels,
          entries: [configuration.vocabulary, configuration.positions, configuration.types]),
        on: device),
      norm: try NormalizationKernel(
        NormalizationRequest(
          rows: tokens, channels: channels, kind: .layer, epsilon: configuration.epsilon,
          hasBias: true), on: device),
      normOfSum: try NormalizationKernel(
        NormalizationRequest(
          rows: tokens, channels: channels, kind: .layer, epsilon: configuration.epsilon,
          residualType: .f32, hasBias: true), on: device),
      queryKeyValue: try product(channels, 3 * channels),
      attention: try AttentionKernel(
        AttentionRequest(
          batchSize: sentences.count, queryTokens: longest, queryHeads: heads, headSize: headSize,
          packedSequences: packed, queryStrides: strides, keyStrides: strides,
          valueStrides: strides), on: device),
      attentionOutput: try product(channels, channels),
      inner: try product(channels, inner, .geluErf), output: try product(inner, channels),
      // The softmax of equal scores weighs all tokens of a sentence alike: attention of a query of zeros is the mean.
      pooling: try AttentionKernel(
        AttentionRequest(
          batchSize: sentences.count, queryTokens: 1, keyTokens: longest, queryHeads: 1,
          headSize: channels,
          packedSequences: PackedSequences(queryTokens: sentences.count, keyTokens: tokens),
          valuesAreKeys: true), on: device),
      unit: try NormalizationKernel(
        NormalizationRequest(
          rows: sentences.count, channels: channels, kind: .rootMeanSquare, epsilon: 0), on: device)
    )
    func floats(_ count: Int, _ label: String) throws -> DeviceBuffer {
      try device.makeBuffer(byteCount: count * 4, label: label)
    }
    var starts: [Int32] = [0]
    for length in lengths { starts.append((starts.last ?? 0) + Int32(length)) }
    let memory = Memory(
      numbers: [
        try await device.makeBuffer(sentences.flatMap { $0 }, label: "tokens"),
        try await device.makeBuffer(
          lengths.flatMap { (0..<$0).map { Int32($0) } }, label: "positions"),
        try await device.makeBuffer([Int32](repeating: 0, count: tokens), label: "types"),
      ],
      starts: try await device.makeBuffer(starts, label: "starts"),
      poolingStarts: try await device.makeBuffer(
        (0...sentences.count).map { Int32($0) }, label: "pooling starts"),
      poolingQueries: try await device.makeBuffer(
        [Float](repeating: 0, count: sentences.count * channels), label: "pooling queries"),
      hidden: try floats(tokens * channels, "hidden"), sum: try floats(tokens * channels, "sum"),
      queryKeyValue: try floats(tokens * 3 * channels, "query, key, value"),
      context: try floats(tokens * channels, "context"), inner: try floats(tokens * inner, "inner"),
      scratch: try device.makeBuffer(
        byteCount: max(
          kernels.attention.plan.scratchByteCount, kernels.pooling.plan.scratchByteCount, 16),
        label: "scratch"), pooled: try floats(sentences.count * channels, "pooled"),
      embeddings: try floats(sentences.count * channels, "embeddings"))
    return Batch(sentences: sentences.count, tokens: tokens, kernels: kernels, memory: memory)
  }

  /// Runs a batch: one submission from the token numbers to the embeddings.
  func run(_ batch: Batch) async throws {
    let recorder = try device.makeRecorder()
    let (kernels, memory) = (batch.kernels, batch.memory)
    let width = configuration.channels * 4
    try kernels.embedding.record(
      EmbeddingBuffers(
        tables: zip(tables, memory.numbers).map { .init(entries: $0, numbers: $1) },
        output: memory.sum), into: recorder)
    try kernels.norm.record(
      NormalizationBuffers(
        input: memory.sum, output: memory.sum, weight: embeddingNorm.weight,
        bias: embeddingNorm.bias), into: recorder)
    // The residual stream and a projection's result change places after each norm.
    var (hidden, other) = (memory.sum, memory.hidden)
    func project(
      _ kernel: MatrixProductKernel, _ projection: Projection, _ input: DeviceBuffer,
      _ output: DeviceBuffer
    ) throws {
      try kernel.record(
        MatrixProductBuffers(
          input: input, weight: projection.weight, bias: projection.bias, output: output),
        into: recorder)
    }
    func addAndNormalize(_ norm: Norm) throws {
      try kernels.normOfSum.record(
        NormalizationBuffers(
          input: other, output: other, residual: hidden, weight: norm.weight, bias: norm.bias),
        into: recorder)
      swap(&hidden, &other)
    }
    let all = memory.queryKeyValue
    for layer in layers {
      try project(kernels.queryKeyValue, layer.queryKeyValue, hidden, all)
      try kernels.attention.record(
        AttentionBuffers(
          query: all, key: all.slice(width..<all.byteCount),
          value: all.slice(2 * width..<all.byteCount), output: memory.context,
          operands: [.queryStarts: memory.starts, .keyStarts: memory.starts],
          scratch: memory.scratch), into: recorder)
      try project(kernels.attentionOutput, layer.attentionOutput, memory.context, other)
      try addAndNormalize(layer.attentionNorm)
      try project(kernels.inner, layer.inner, hidden, memory.inner)
      try project(kernels.output, layer.output, memory.inner, other)
      try addAndNormalize(layer.outputNorm)
    }
    try kernels.pooling.record(
      AttentionBuffers(
        query: memory.poolingQueries, key: hidden, value: hidden, output: memory.pooled,
        operands: [.queryStarts: memory.poolingStarts, .keyStarts: memory.starts],
        scratch: memory.scratch), into: recorder)
    try kernels.unit.record(
      NormalizationBuffers(input: memory.pooled, output: memory.embeddings, weight: unitLength),
      into: recorder)
    try await device.submit(recorder).completed()
  }

  /// The embeddings of the batch that has run, one for each sentence.
  func embeddings(of batch: Batch) async throws -> [[Float]] {
    let all = try await device.download(Float.self, from: batch.memory.embeddings)
    let channels = configuration.channels
    return (0..<batch.sentences).map { Array(all[$0 * channels..<($0 + 1) * channels]) }
  }
}
