import VulkanAttention

/// A small language model on a device, its weights in device memory.
struct LanguageModel: Sendable {
  struct Layer: Sendable {
    let mixer: LanguageModelConfiguration.Mixer
    let attentionNorm: DeviceBuffer
    let queryKeyValue: DeviceBuffer
    /// Of lightning attention alone.
    let contextNorm: DeviceBuffer?
    let decay: DeviceBuffer?
    let attentionOutput: DeviceBuffer
    let feedForwardNorm: DeviceBuffer
    let gateUp: DeviceBuffer
    let down: DeviceBuffer
  }

  let configuration: LanguageModelConfiguration
  let device: ComputeDevice
  let embedding: DeviceBuffer
  let norm: DeviceBuffer
  let layers: [Layer]
  let rotary: RotaryEncoding
  let frequencies: DeviceBuffer

  /// Uploads the weights.
  init(
    _ configuration: LanguageModelConfiguration, _ weights: LanguageModelWeights,
    on device: ComputeDevice
  ) async throws {
    self.configuration = configuration
    self.device = device
    embedding = try await device.makeBuffer(weights.embedding, label: "embedding")
    norm = try await device.makeBuffer(weights.norm, label: "norm")
    rotary = try RotaryEncoding(
      rotaryChannels: configuration.headSize, pairing: .halves, theta: configuration.theta)
    frequencies = try await device.makeBuffer(rotary.frequencyTable, label: "frequencies")
    var layers: [Layer] = []
    for (mixer, layer) in zip(configuration.layers, weights.layers) {
      var contextNorm: DeviceBuffer?
      if let weight = layer.contextNorm {
        contextNorm = try await device.makeBuffer(weight, label: "context norm")
      }
      var decay: DeviceBuffer?
      if let numbers = layer.decay {
        decay = try await device.makeBuffer(numbers, label: "decay")
      }
      layers.append(
        Layer(
          mixer: mixer,
          attentionNorm: try await device.makeBuffer(layer.attentionNorm, label: "attention norm"),
          queryKeyValue: try await device.makeBuffer(
            layer.queryKeyValue, label: "query, key, value"),
          contextNorm: contextNorm, decay: decay,
          attentionOutput: try await device.makeBuffer(
            layer.attentionOutput, label: "attention output"),
          feedForwardNorm: try await device.makeBuffer(
            layer.feedForwardNorm, label: "feed-forward norm"),
          gateUp: try await device.makeBuffer(layer.gateUp, label: "gate, up"),
          down: try await device.makeBuffer(layer.down, label: "down")))
    }
    self.layers = layers
  }
}

/// What one text has in device memory: its tokens, and what each layer keeps of them.
struct TextMemory {
  /// What a layer keeps.
  enum LayerMemory {
    /// Keys and values of all tokens, in pages.
    case cache(key: DeviceBuffer, value: DeviceBuffer)
    /// Two pools of states [slots, H, K, V]: the verification of drafts reads one and writes the other.
    case states([DeviceBuffer])
  }

  static let pageSize = 16

  let cache: CacheTensor
  let storage: CacheStorage
  let stateSlots: Int
  let stateByteCount: Int

  /// Int32 [positions + 1]; a step reads the last token here and writes the next behind it.
  let tokens: DeviceBuffer
  /// Int32 [positions]: 0, 1, 2, ….
  let positions: DeviceBuffer
  /// Int32 [positions]: the one sequence of the cache, 0.
  let sequences: DeviceBuffer
  /// f32 [positions + 1]: the uniform number by which each token is drawn.
  let uniforms: DeviceBuffer
  /// Int32 [1]: where the state of the text so far lies in the pool.
  let slot: DeviceBuffer
  let pageStarts: DeviceBuffer
  let pages: DeviceBuffer
  let layers: [LayerMemory]
  /// Which of the two pools has the state of the text so far.
  var pool = 0

  /// Memory for a text of a model.
  ///
  /// - Parameters:
  ///   - stateSlots: states that a pool has room for, as many as a pass verifies tokens.
  ///   - uniforms: a number from 0 up to but not including 1 for each place of a token; empty where none is drawn.
  init(for model: LanguageModel, stateSlots: Int, uniforms numbers: [Float]) async throws {
    let (configuration, device) = (model.configuration, model.device)
    let count = configuration.positions
    let size = configuration.headSize
    let pageCount = (count + Self.pageSize - 1) / Self.pageSize
    cache = try CacheTensor(
      .f32, .paged(pages: pageCount, pageSize: Self.pageSize), heads: configuration.keyHeads,
      channels: size)
    storage = try CacheStorage(
      key: cache, value: cache, pageTable: CachePageTableShape(sequences: 1, entries: pageCount))
    self.stateSlots = stateSlots
    stateByteCount = configuration.channels * size * 4
    tokens = try device.makeBuffer(byteCount: (count + 1) * 4, label: "tokens")
    positions = try await device.makeBuffer((0..<count).map { Int32($0) }, label: "positions")
    sequences = try await device.makeBuffer(
      [Int32](repeating: 0, count: count), label: "sequences")
    uniforms = try await device.makeBuffer(
      numbers.isEmpty ? [Float](repeating: 0, count: count + 1) : numbers, label: "uniforms")
    slot = try await device.makeBuffer([Int32(0)], label: "slot")
    pageStarts = try await device.makeBuffer([0, Int32(pageCount)], label: "page starts")
    // Any pages in any order will do; a pool that several texts share gives them out as they come.
    pages = try await device.makeBuffer(
      (0..<pageCount).reversed().map { Int32($0) }, label: "pages")
    var layers: [LayerMemory] = []
    for layer in model.layers {
      switch layer.mixer {
      case .softmax:
        layers.append(
          .cache(
            key: try device.makeBuffer(byteCount: cache.byteCount, label: "keys"),
            value: try device.makeBuffer(byteCount: cache.byteCount, label: "values")))
      case .lightning:
        let bytes = stateSlots * stateByteCount
        layers.append(
          .states([
            try device.makeBuffer(byteCount: bytes, label: "states"),
            try device.makeBuffer(byteCount: bytes, label: "states"),
          ]))
      }
    }
    self.layers = layers
  }

  /// What a step that is recorded once reads and writes: the token that it chooses is that which its next run reads.
  func makeInputs(on device: ComputeDevice) throws -> ModelPassInputs {
    let token = try device.makeBuffer(byteCount: 4, label: "token")
    return ModelPassInputs(
      tokens: token, positions: try device.makeBuffer(byteCount: 4, label: "position"),
      uniforms: try device.makeBuffer(byteCount: 4, label: "uniform"), next: token)
  }

  /// The cache of a layer.
  func buffers(key: DeviceBuffer, value: DeviceBuffer) -> CacheBuffers {
    CacheBuffers(
      key: CacheTensorBuffers(key), value: CacheTensorBuffers(value),
      pageTable: CachePageTableBuffers(indptr: pageStarts, indices: pages))
  }
}

extension DeviceBuffer {
  /// Numbers of 4 bytes.
  func numbers(_ range: Range<Int>) throws -> DeviceBuffer {
    try slice(range.lowerBound * 4..<range.upperBound * 4)
  }

  /// What lies behind some numbers of 4 bytes.
  func numbers(from start: Int) throws -> DeviceBuffer {
    try slice(start * 4..<byteCount)
  }
}
