import AttentionReference
import Foundation
import TestSupport
import Testing
import VulkanAttention

/// The tests' own device where a sample opens one, so that a sample has the article's text and is validated.
private enum ComputeDevice {
  typealias Options = VulkanAttention.ComputeDevice.Options

  static func open() throws -> VulkanAttention.ComputeDevice { try TestDevice.shared() }

  static func open(
    _ selection: DeviceSelection, options: Options
  ) throws(VulkanError) -> VulkanAttention.ComputeDevice {
    var options = options
    options.validationLog = TestDevice.options().validationLog
    return try VulkanAttention.ComputeDevice.open(selection, options: options)
  }
}

/// One layer's tensors, as the samples name them.
private struct Layer {
  let query: DeviceBuffer
  let keys: DeviceBuffer
  let values: DeviceBuffer
  let output: DeviceBuffer
}

/// What the articles show, run. `ArticleTextTests` holds the articles against this file's text: change both.
@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct ArticleSampleTests {
  private func numbers(_ count: Int, _ seed: String) -> [Float] {
    var random = SplitMix64(seed: seed)
    return random.normal(count)
  }

  /// Numbers of 16 bits, and what they are exactly.
  private func halves(_ count: Int, _ seed: String) -> (halves: [Float16], exact: [Double]) {
    let halves = numbers(count, seed).map { Float16($0) }
    return (halves, halves.map(Double.init))
  }

  @Test("FirstKernel: ten lines, the plan, the reference, an error")
  func firstKernel() async throws {
    let queries = numbers(256 * 8 * 64, "q")
    let keys = numbers(256 * 2 * 64, "k")
    let values = numbers(256 * 2 * 64, "v")

    let device = try ComputeDevice.open()
    let request = try AttentionRequest(
      queryTokens: 256, queryHeads: 8, keyHeads: 2, headSize: 64, mask: .causal)
    let kernel = try AttentionKernel(request, on: device)
    let q = try await device.makeBuffer(queries)  // [Float], [S, H, D]
    let k = try await device.makeBuffer(keys)  // [T, G, D]
    let v = try await device.makeBuffer(values)  // [T, G, D]
    let o = try device.makeBuffer(byteCount: request.byteCount(of: .output))
    let scratch = try device.makeBuffer(byteCount: kernel.plan.scratchByteCount)
    try await kernel.run(AttentionBuffers(query: q, key: k, value: v, output: o, scratch: scratch))
    let output = try await device.download(Float.self, from: o)  // [S, H, D]

    let plan = try AttentionPlan(request, device: device.capabilities)
    print(plan.path.rawValue, plan.pieces.count, plan.scratchByteCount)
    for line in plan.explanation { print(line) }
    #expect(plan == kernel.plan)

    var options = AttentionOptions()
    options.causal = true
    let reference = AttentionReference.attention(
      q: queries, k: keys, v: values,
      dimensions: AttentionDimensions(
        batch: 1, queryTokens: 256, keyTokens: 256, queryHeads: 8, keyHeads: 2, keyChannels: 64,
        valueChannels: 64),
      options: options, rows: [0, 1000, 2047])
    let rows = [0, 1000, 2047].flatMap { output[$0 * 64..<($0 + 1) * 64] }
    let worst = zip(rows, reference.o).map { abs(Double($0) - $1) }.max()
    #expect(try #require(worst) < 1e-5)
    #expect(rows.count == reference.o.count)

    do {
      _ = try AttentionRequest(queryTokens: 256, queryHeads: 8, keyHeads: 3, headSize: 64)
    } catch {
      print(error)  // keyHeads is 3; allowed: a divisor of queryHeads, 8
    }
    let refusal = #expect(throws: AttentionError.self) {
      try AttentionRequest(queryTokens: 256, queryHeads: 8, keyHeads: 3, headSize: 64)
    }
    #expect(refusal?.description == "keyHeads is 3; allowed: a divisor of queryHeads, 8")
  }

  @Test("ChoosingAKernel: a path that cannot run says why")
  func choosingAKernel() throws {
    let device = try ComputeDevice.open()
    let request = try AttentionRequest(queryTokens: 256, queryHeads: 8, headSize: 64)
    do {
      let kernel = try AttentionKernel(request, on: device, path: .matrix)
      print(kernel.plan.path.rawValue)
    } catch AttentionError.pathUnavailable(let path, let reason) {
      print(path.rawValue, reason)  // matrix units multiply f16, which would cost f32 …
    }
    let refusal = #expect(throws: AttentionError.self) {
      try AttentionKernel(request, on: device, path: .matrix)
    }
    let words = "matrix units multiply f16, which would cost f32"
    #expect(refusal?.description.contains(words) == true)
  }

  @Test("EmbeddingInAnApp: a device with options, and slices of weights")
  func deviceOfAnApp() async throws {
    let folder = try TemporaryFolder()
    let cacheFolder = folder.path
    let logger = ComputeDevice.Options().logger

    var options = ComputeDevice.Options()
    options.pipelineCacheDirectory = cacheFolder  // nil: in memory only
    options.logger = logger  // silent by default
    let device = try ComputeDevice.open(.best, options: options)
    print(device.capabilities.name, device.capabilities.kind)

    let channels = 16
    let numbers = [Float16](repeating: 1, count: 4 * channels * channels)
    let weights = try await device.makeBuffer(numbers, label: "layer 0")
    let projection = try weights.slice(0..<channels * channels * 2)
    #expect(projection.address == weights.address && projection.byteCount == 512)
    #expect(device.reservedByteCount >= weights.byteCount)
  }

  @Test("EmbeddingInAnApp: steps of growing lengths with one plan, beside the reference")
  func stepsOfAnApp() async throws {
    let device = try ComputeDevice.open()
    var lengths = [20, 33]
    let steps = 2

    let cache = try CacheTensor(.f16, .paged(pages: 64, pageSize: 16), heads: 2, channels: 64)
    let decode = try DecodeKernel(
      DecodeRequest(
        batchSize: 2, queryHeads: 8, keyCache: cache, valueCache: cache, maxKeyTokens: 512),
      on: device)
    let append = try CacheAppendKernel(
      CacheAppendRequest(
        tokens: 2,
        storage: CacheStorage(
          key: cache, value: cache, pageTable: CachePageTableShape(sequences: 2, entries: 64)),
        keyType: .f16),
      on: device)
    var schedule = try decode.plan.schedule(lengths: lengths)
    let workspace = try device.makeBuffer(byteCount: decode.plan.maxWorkspaceByteCount ?? 0)

    // Sequence 0 has pages 0 to 31, sequence 1 the others: the cache read in that order is [B, 512, G, D].
    let old = (keys: halves(2 * 512 * 128, "keys"), values: halves(2 * 512 * 128, "values"))
    let new = (query: halves(2 * 512, "q"), key: halves(256, "k"), value: halves(256, "v"))
    let pageStarts = try await device.makeBuffer([0, 32, 64] as [Int32])
    let pages = try await device.makeBuffer((0..<64).map { Int32($0) })
    let sequences = try await device.makeBuffer([0, 1] as [Int32])
    let positions = try device.makeBuffer(byteCount: 8)
    let query = try await device.makeBuffer(new.query.halves)
    let key = try await device.makeBuffer(new.key.halves)
    let value = try await device.makeBuffer(new.value.halves)
    let output = try device.makeBuffer(byteCount: 2 * 512 * 2)
    let layers = [
      Layer(
        query: query, keys: try await device.makeBuffer(old.keys.halves),
        values: try await device.makeBuffer(old.values.halves), output: output)
    ]

    for _ in 0..<steps {
      lengths = lengths.map { $0 + 1 }
      _ = try decode.plan.update(&schedule, lengths: lengths)
      let recorder = try device.makeRecorder()
      try recorder.update(
        positions, with: lengths.flatMap { withUnsafeBytes(of: Int32($0 - 1)) { Array($0) } })
      let step = try decode.prepare(
        schedule, pages: .device(indptr: pageStarts, indices: pages), workspace: workspace,
        into: recorder)
      for layer in layers {
        // … the projections of the layer, into query, key and value …
        try append.record(
          CacheAppendBuffers(
            key: key, value: value, sequences: sequences, positions: positions,
            cache: CacheBuffers(
              key: CacheTensorBuffers(layer.keys), value: CacheTensorBuffers(layer.values),
              pageTable: CachePageTableBuffers(indptr: pageStarts, indices: pages))),
          into: recorder)
        try decode.record(
          DecodeBuffers(
            query: query, keyCache: layer.keys, valueCache: layer.values, output: output),
          step: step, into: recorder)
      }
      try await device.submit(recorder).completed()
    }

    let first = try device.makeRecorder()
    let replayed = try decode.prepare(
      schedule, pages: .device(indptr: pageStarts, indices: pages), workspace: workspace,
      into: first
    ).forReplay()
    try device.submit(first)
    let recorder = try device.makeRecorder(forReplay: true)
    for layer in layers {
      // … likewise, with the step `replayed` …
      try append.record(
        CacheAppendBuffers(
          key: key, value: value, sequences: sequences, positions: positions,
          cache: CacheBuffers(
            key: CacheTensorBuffers(layer.keys), value: CacheTensorBuffers(layer.values),
            pageTable: CachePageTableBuffers(indptr: pageStarts, indices: pages))),
        into: recorder)
      try decode.record(
        DecodeBuffers(
          query: query, keyCache: layer.keys, valueCache: layer.values, output: output),
        step: replayed, into: recorder)
    }
    let wholeStep = try device.makeCommandList(recorder)
    for _ in 0..<steps {
      lengths = lengths.map { $0 + 1 }
      _ = try decode.plan.update(&schedule, lengths: lengths)
      let upload = try device.makeRecorder()
      try upload.update(
        positions, with: lengths.flatMap { withUnsafeBytes(of: Int32($0 - 1)) { Array($0) } })
      try decode.update(replayed, to: schedule, into: upload)
      try device.submit(upload)
      try await device.submit(wholeStep).completed()
    }

    // Each sequence's last keys are the new ones, once for each step of either kind.
    var (keys, values) = (old.keys.exact, old.values.exact)
    for (b, length) in lengths.enumerated() {
      for place in length - 2 * steps..<length {
        let row = (b * 512 + place) * 128
        keys.replaceSubrange(row..<row + 128, with: new.key.exact[b * 128..<(b + 1) * 128])
        values.replaceSubrange(row..<row + 128, with: new.value.exact[b * 128..<(b + 1) * 128])
      }
    }
    #expect(lengths == [24, 37])
    var options = AttentionOptions()
    options.causal = true
    options.kvLengths = lengths
    let reference = attention(
      q: new.query.exact, k: keys, v: values,
      dimensions: AttentionDimensions(
        batch: 2, queryTokens: 1, keyTokens: 512, queryHeads: 8, keyHeads: 2, keyChannels: 64,
        valueChannels: 64), options: options)
    let actual = try await device.download(Float16.self, from: output).map { Float($0) }
    expectClose(actual, to: reference.o, within: 2e-3, "o")
  }

  @Test("EmbeddingInAnApp: a stream beside the device's order")
  func streams() async throws {
    let device = try ComputeDevice.open()
    let request = try AttentionRequest(queryTokens: 64, queryHeads: 4, headSize: 64)
    let kernel = try AttentionKernel(request, on: device)
    let input = try await device.makeBuffer(numbers(64 * 4 * 64, "q"))
    let output = try device.makeBuffer(byteCount: request.byteCount(of: .output))
    let copy = try device.makeBuffer(byteCount: output.byteCount)
    let buffers = AttentionBuffers(
      query: input, key: input, value: input, output: output,
      scratch: try device.makeBuffer(byteCount: kernel.plan.scratchByteCount))

    let prefills = try device.makeStream()
    let recorder = try device.makeRecorder()
    try kernel.record(buffers, into: recorder)
    let prefill = try prefills.submit(recorder)  // beside what the device is at
    let next = try device.makeRecorder()
    try next.copy(from: output, to: copy)
    try await device.submit(next, after: [prefill]).completed()

    let expected = try await device.download(Float.self, from: output)
    #expect(try await device.download(Float.self, from: copy) == expected)
    #expect(expected.contains { $0 != 0 })
  }

  @Test("EmbeddingInAnApp: work that nobody waits for is done when a later submission is")
  func cancelledRun() async throws {
    let device = try ComputeDevice.open()
    let request = try AttentionRequest(queryTokens: 2048, queryHeads: 4, headSize: 64)
    let kernel = try AttentionKernel(request, on: device)
    let input = try await device.makeBuffer(numbers(2048 * 4 * 64, "q"))
    let output = try device.makeBuffer(byteCount: request.byteCount(of: .output))
    let buffers = AttentionBuffers(
      query: input, key: input, value: input, output: output,
      scratch: try device.makeBuffer(byteCount: kernel.plan.scratchByteCount))

    let task = Task { try await kernel.run(buffers) }
    task.cancel()
    do {
      try await task.value
    } catch AttentionError.device(.cancelled) {
      try await device.submit(device.makeRecorder()).completed()  // now nothing uses the buffers
    }

    let recorder = try device.makeRecorder()
    try kernel.record(buffers, into: recorder)
    let submission = try device.submit(recorder)
    let waiting = Task { try await submission.completed() }
    waiting.cancel()
    // A fast device may be done before the task has begun to wait.
    if case .failure(let error) = await waiting.result {
      #expect(error as? VulkanError == .cancelled)
    }
    try await device.submit(device.makeRecorder()).completed()
    #expect(try submission.isComplete)
  }

  @Test("PortingFromFlashInfer: a decode step by a page table, from tensors apart and interleaved")
  func portingFromFlashInfer() async throws {
    let device = try ComputeDevice.open()
    let count = 64 * 16 * 2 * 64
    let (keyData, valueData) = (halves(count, "keys"), halves(count, "values"))
    let queryData = halves(2 * 512, "q")
    let layers = [
      Layer(
        query: try await device.makeBuffer(queryData.halves),
        keys: try await device.makeBuffer(keyData.halves),
        values: try await device.makeBuffer(valueData.halves),
        output: try device.makeBuffer(byteCount: 2 * 512 * 2))
    ]

    let cache = try CacheTensor(.f16, .paged(pages: 64, pageSize: 16), heads: 2, channels: 64)
    let kernel = try DecodeKernel(
      DecodeRequest(batchSize: 2, queryHeads: 8, keyCache: cache, valueCache: cache), on: device)
    let pages = try CachePageTable(
      pageSize: 16, pageCount: 64, indptr: [0, 3, 4], indices: [5, 2, 9, 7],
      lastPageLengths: [13, 8])
    let schedule = try kernel.plan.schedule(lengths: pages.lengths)
    let workspace = try device.makeBuffer(
      byteCount: kernel.plan.workspaceByteCount(for: schedule, pages: pages))
    let recorder = try device.makeRecorder()
    let step = try kernel.prepare(
      schedule, pages: .table(pages), workspace: workspace, into: recorder)
    for layer in layers {
      try kernel.record(
        DecodeBuffers(
          query: layer.query, keyCache: layer.keys, valueCache: layer.values, output: layer.output),
        step: step, into: recorder)
    }
    try await device.submit(recorder).completed()

    #expect(pages.lengths == [45, 8])
    let dimensions = AttentionDimensions(
      batch: 2, queryTokens: 1, keyTokens: 48, queryHeads: 8, keyHeads: 2, keyChannels: 64,
      valueChannels: 64)
    var options = AttentionOptions()
    options.kvLengths = pages.lengths
    func gathered(_ data: [Double]) -> [Double] {
      [5, 2, 9, 7, 0, 0].flatMap { data[$0 * 2048..<($0 + 1) * 2048] }
    }
    let reference = attention(
      q: queryData.exact, k: gathered(keyData.exact), v: gathered(valueData.exact),
      dimensions: dimensions, options: options)
    func expectSame(_ output: DeviceBuffer, _ what: String) async throws {
      let actual = try await device.download(Float16.self, from: output).map { Float($0) }
      expectClose(actual, to: reference.o, within: 2e-3, what)
    }
    try await expectSame(layers[0].output, "o")

    var both: [Float16] = []
    for page in 0..<64 {
      both += keyData.halves[page * 2048..<(page + 1) * 2048]
      both += valueData.halves[page * 2048..<(page + 1) * 2048]
    }
    let paged = try await device.makeBuffer(both)

    let plane = 16 * 2 * 64  // page_size · G · D
    let interleaved = try CacheTensor(
      .f16, .paged(pages: 64, pageSize: 16), heads: 2, channels: 64,
      strides: TensorStrides(batch: 2 * plane, token: 2 * 64, head: 64))
    let keys = paged
    let values = try paged.slice(plane * 2..<paged.byteCount)  // bytes: 2 for each f16

    let second = try DecodeKernel(
      DecodeRequest(
        batchSize: 2, queryHeads: 8, keyCache: interleaved, valueCache: interleaved), on: device)
    let output = try device.makeBuffer(byteCount: 2 * 512 * 2)
    let other = try device.makeRecorder()
    let otherStep = try second.prepare(
      second.plan.schedule(lengths: pages.lengths), pages: .table(pages),
      workspace: device.makeBuffer(byteCount: try #require(second.plan.maxWorkspaceByteCount)),
      into: other)
    try second.record(
      DecodeBuffers(
        query: layers[0].query, keyCache: keys, valueCache: values, output: output),
      step: otherStep, into: other)
    try await device.submit(other).completed()
    try await expectSame(output, "o of the interleaved cache")

    // As the article says: a cache that is written has a buffer for keys and one for values.
    let append = try CacheAppendKernel(
      CacheAppendRequest(
        tokens: 1,
        storage: CacheStorage(
          key: interleaved, value: interleaved,
          pageTable: CachePageTableShape(sequences: 2, entries: 4)), keyType: .f16), on: device)
    let number = try await device.makeBuffer([Int32](repeating: 0, count: 4))
    #expect(
      throws: AttentionError.overlappingOutput(output: "keyCache", with: "valueCache")
    ) {
      try append.record(
        CacheAppendBuffers(
          key: layers[0].query, value: layers[0].query, sequences: number, positions: number,
          cache: CacheBuffers(
            key: CacheTensorBuffers(keys), value: CacheTensorBuffers(values),
            pageTable: CachePageTableBuffers(indptr: number, indices: number))),
        into: device.makeRecorder())
    }
  }

  @Test("PortingFromGGML: a mask of 16 bits that is added, a soft cap, head-major tensors")
  func portingFromGGML() async throws {
    let device = try ComputeDevice.open()
    let (softcap, scale): (Float, Float) = (5, 0.25)
    let queryData = numbers(8 * 32 * 64, "q")
    let (keyData, valueData) = (halves(2 * 96 * 64, "k"), halves(2 * 96 * 64, "v"))
    // Causal, bottom-right, and something besides.
    let maskData = (0..<32 * 96).map { place -> Float16 in
      let (i, j) = (place / 96, place % 96)
      return j > i + 64 ? -.infinity : Float16(i % 5) * 0.125 - Float16(j % 7) * 0.0625
    }
    let q = try await device.makeBuffer(queryData)
    let k = try await device.makeBuffer(keyData.halves)
    let v = try await device.makeBuffer(valueData.halves)
    let mask = try await device.makeBuffer(maskData)
    let o = try device.makeBuffer(byteCount: 32 * 8 * 64 * 4)

    var scores = AttentionScores()
    scores.softcap = softcap
    let request = try AttentionRequest(
      queryTokens: 32, keyTokens: 96, queryHeads: 8, keyHeads: 2, headSize: 64, elementType: .f32,
      keyType: .f16, valueType: .f16, scale: scale, scores: scores,
      operands: [AttentionOperand(.bias, .f16, shared: [.batch, .heads])],
      queryStrides: .headMajor(tokens: 32, heads: 8, channels: 64),
      keyStrides: .headMajor(tokens: 96, heads: 2, channels: 64),
      valueStrides: .headMajor(tokens: 96, heads: 2, channels: 64))
    let kernel = try AttentionKernel(request, on: device)
    let scratch = try device.makeBuffer(byteCount: kernel.plan.scratchByteCount)
    try await kernel.run(
      AttentionBuffers(
        query: q, key: k, value: v, output: o, operands: [.bias: mask], scratch: scratch))

    // ggml's own formula, in plain loops: tensors [H, S, D], [G, T, D], result [S, H, E].
    let output = try await device.download(Float.self, from: o)
    var expected: [Double] = []
    for i in 0..<32 {
      for h in 0..<8 {
        var (sum, row) = (0.0, [Double](repeating: 0, count: 64))
        for j in 0..<96 {
          let key = ((h / 4) * 96 + j) * 64
          var score = 0.0
          for c in 0..<64 {
            score += Double(queryData[(h * 32 + i) * 64 + c]) * keyData.exact[key + c]
          }
          score = Double(softcap) * tanh(Double(scale) * score / Double(softcap))
          let weight = exp(score + Double(maskData[i * 96 + j]))
          sum += weight
          for c in 0..<64 { row[c] += weight * valueData.exact[key + c] }
        }
        expected += row.map { $0 / sum }
      }
    }
    expectClose(output, to: expected, within: 1e-5, "o")
  }

  @Test("PortingFromGGML: the slopes of max_bias", arguments: [8, 12])
  func slopesOfGGML(heads: Int) {
    let maxBias: Float = 8

    let power = 1 << (Int.bitWidth - 1 - heads.leadingZeroBitCount)  // the power of two up to H
    let slopes = (0..<heads).map { h in
      h < power
        ? exp2(-maxBias / Float(power) * Float(h + 1))
        : exp2(-maxBias / 2 / Float(power) * Float(2 * (h - power) + 1))
    }

    // Those of the paper for 8 heads, and between them those of 16 for the others.
    let first = (1...8).map { Float(sign: .plus, exponent: -$0, significand: 1) }
    let others = (0..<4).map { powf(2, -0.5 - Float($0)) }
    #expect(zip(slopes, first + others).allSatisfy { abs($0 - $1) <= 1e-6 * $1 })
  }
}
