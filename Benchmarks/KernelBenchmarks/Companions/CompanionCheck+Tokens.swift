import AttentionReference
import VulkanAttention

/// Tokens in and tokens out.
extension CompanionCheck {
  static func embeddings(_ depth: CheckDepth) -> [CheckRun] {
    let widths: [Int] =
      switch depth {
      case .quick: [32]
      case .standard: [32, 59, 384]
      case .full: [1, 3, 32, 59, 64, 100, 384, 1024, 4096]
      }
    let types = VulkanAttention.ElementType.allCases
    return widths.enumerated().flatMap { number, channels in
      WeightFormat.allCases.enumerated().filter { channels % $1.blockSize == 0 }.map {
        index, format in
        let tables = (number + index) % 3 + 1
        let type = types[index % 3]
        let id = "embedding/\(format.name)/D\(channels)-\(tables)-tables-\(type)"
        return checkRun(id, group: "embedding", type: type, path: "embedding") {
          device, random, finding in
          try await embedding(
            EmbeddingRequest(
              rows: 23, channels: channels, entries: Array([101, 17, 2].prefix(tables)),
              format: format, outputType: type, scale: 1.5, outputStride: channels + 8),
            device, &random, &finding)
        }
      }
    }
  }

  private static func embedding(
    _ request: EmbeddingRequest, _ device: ComputeDevice, _ random: inout SplitMix64,
    _ finding: inout Finding
  ) async throws {
    let kernel = try EmbeddingKernel(request, on: device)
    var tables: [(entries: [Double], numbers: [Int])] = []
    let output = try await CompanionTensor(
      rows: request.rows, channels: request.channels, stride: request.channels + 8,
      type: request.outputType
    ).poisoned("y", on: device)
    var buffers = EmbeddingBuffers(tables: [], output: output.buffer)
    for count in request.entries {
      let stored = request.format.stored(random.normal(count * request.channels))
      let numbers = (0..<request.rows).map { _ in Int(random.next() % UInt64(count)) }
      tables.append((stored.numbers, numbers))
      buffers.tables.append(
        EmbeddingBuffers.Table(
          entries: try await device.makeBuffer(stored.bytes, label: "table"),
          numbers: try await device.makeBuffer(numbers.map { Int32($0) }, label: "numbers")))
    }
    let bound = buffers
    try await run(on: device) { try kernel.record(bound, into: $0) }
    finding.compare(
      "y", try await output.read(on: device, problems: &finding.problems),
      CompanionReference.embedded(
        tables, channels: request.channels, scale: Double(request.scale)), request.outputType)
  }

  static func samplings(_ depth: CheckDepth) -> [CheckRun] {
    let vocabularies =
      switch depth {
      case .quick: [59]
      case .standard: [1, 59, 1000]
      case .full: [1, 2, 7, 8, 9, 59, 256, 1000, 5003, 32000]
      }
    let methods: [(name: String, method: SamplingRequest.Method)] = [
      ("greedy", .greedy), ("draw", .draw(temperature: 1)), ("cold", .draw(temperature: 0.3)),
      ("top-k", .draw(temperature: 0.8, topTokens: 5)),
      ("top-p", .draw(temperature: 1, topMass: 0.7)),
      ("top-k-top-p", .draw(temperature: 1.5, topTokens: 20, topMass: 0.6)),
    ]
    return vocabularies.flatMap { vocabulary in
      VulkanAttention.ElementType.allCases.flatMap { type in
        methods.map { name, method in
          checkRun(
            "sampling/\(type)/V\(vocabulary)-\(name)", group: "sampling", type: type,
            path: "sampling"
          ) { device, random, finding in
            try await sampling(
              SamplingRequest(
                rows: 37, vocabulary: vocabulary, method: method, elementType: type,
                stride: vocabulary + 3), device, &random, &finding)
          }
        }
      }
    }
  }

  /// How near a uniform number may be to a border between two tokens without being decided: sums are f32.
  private static let border = 1e-5

  private static func sampling(
    _ request: SamplingRequest, _ device: ComputeDevice, _ random: inout SplitMix64,
    _ finding: inout Finding
  ) async throws {
    let kernel = try SamplingKernel(request, on: device)
    let logits = CompanionTensor(
      rows: request.rows, channels: request.vocabulary, stride: request.vocabulary + 3,
      type: request.elementType)
    // Logits of 16 bits have equal ones among them.
    let x = logits.numbers(&random)
    let uniforms = (0..<request.rows).map { _ in Float(random.next() >> 40) * 0x1p-24 }
    let tokens = try await CompanionTensor(rows: 1, channels: request.rows).poisoned(
      "tokens", on: device)
    let buffers = SamplingBuffers(
      logits: try await logits.upload(x, "logits", on: device),
      uniforms: request.takesUniforms
        ? try await device.makeBuffer(uniforms, label: "uniforms") : nil,
      tokens: tokens.buffer)
    try await run(on: device) { try kernel.record(buffers, into: $0) }
    let drawn = try await tokens.read(on: device, problems: &finding.problems).map {
      Int(Int32(bitPattern: $0.bitPattern))
    }
    var wrong = 0
    for row in 0..<request.rows {
      let own = x[row * request.vocabulary..<(row + 1) * request.vocabulary].map(Double.init)
      let expected: Int?
      var isNearBorder = false
      switch request.method {
      case .greedy:
        expected = TokenDistribution(logits: own, topTokens: 1).tokens.first
      case .draw(let temperature, let topTokens, let topMass):
        let distribution = TokenDistribution(
          logits: own, temperature: Double(temperature), topTokens: topTokens,
          topMass: Double(topMass))
        let u = Double(uniforms[row])
        expected = distribution.token(uniform: u)
        isNearBorder = distribution.distanceToBorder(uniform: u) < border
      }
      if drawn[row] != expected, !isNearBorder {
        wrong += 1
        finding.problems.append(
          "row \(row): token \(drawn[row]), expected \(expected.map { "\($0)" } ?? "none")")
      }
    }
    finding.errors.append(
      CheckError("wrong tokens", Double(wrong) / Double(request.rows), gate: 0))
  }
}
