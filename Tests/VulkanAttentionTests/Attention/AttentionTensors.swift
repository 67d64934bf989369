import AttentionReference
import TestSupport
import Testing

@testable import VulkanAttention

/// The inputs of one attention on the host: contiguous [batch, token, head, channel], in values that
/// the element type holds exactly.
struct AttentionTensors: Sendable {
  let shape: AttentionCase
  let type: ElementType
  var q: [Float]
  var k: [Float]
  var v: [Float]

  init(_ shape: AttentionCase, _ type: ElementType, seed: UInt64 = 1) {
    var random = SplitMix64(seed: seed)
    let dimensions = shape.dimensions
    func tensor(_ count: Int) -> [Float] {
      let numbers = random.normal(count)
      return numbers.map { Float(type.storage.rounded(Double($0))) }
    }
    self.shape = shape
    self.type = type
    q = tensor(dimensions.qCount)
    k = tensor(dimensions.kCount)
    v = tensor(dimensions.vCount)
  }

  /// The exact result.
  func reference() -> AttentionOutput {
    attention(q: q, k: k, v: v, dimensions: shape.dimensions, options: shape.options)
  }

  /// What a careful evaluation in the type reaches.
  func lowPrecision() -> AttentionOutput {
    lowPrecisionAttention(
      q: q.map(Double.init), k: k.map(Double.init), v: v.map(Double.init),
      dimensions: shape.dimensions, options: shape.options,
      storage: type.storage)
  }

  /// Index of element [b, t, 0, c] of k or v, for changes by hand.
  func keyIndex(_ b: Int, _ token: Int, _ head: Int = 0) -> Int {
    ((b * shape.keyTokens + token) * shape.keyHeads + head) * shape.headSize
  }

  /// Index of element [b, t, h, 0] of v.
  func valueIndex(_ b: Int, _ token: Int, _ head: Int = 0) -> Int {
    ((b * shape.keyTokens + token) * shape.keyHeads + head) * shape.valueHeadSize
  }
}

/// What a kernel left: the output contiguous, and the log-sum-exp.
struct AttentionResult: Sendable {
  let o: [Float]
  let lse: [Float]
}

/// How a kernel is asked to work.
enum RunMode: String, Sendable, CaseIterable {
  /// Recorded into one submission.
  case record
  /// Piece by piece.
  case run
}

/// The memory of one attention on a device: inputs behind poison, outputs and scratch poisoned, guards
/// around all of them.
struct DeviceTensors {
  let request: AttentionRequest
  let device: ComputeDevice
  private let q: GuardedBuffer
  private let k: GuardedBuffer
  private let v: GuardedBuffer
  private let o: GuardedBuffer
  private let lse: GuardedBuffer
  private let scratch: GuardedBuffer

  var buffers: AttentionBuffers {
    AttentionBuffers(
      query: q.buffer, key: k.buffer, value: v.buffer, output: o.buffer, logSumExp: lse.buffer,
      scratch: scratch.buffer)
  }

  init(
    _ tensors: AttentionTensors, _ plan: AttentionPlan, on device: ComputeDevice
  ) async throws {
    let request = plan.request
    self.request = request
    self.device = device
    func upload(_ elements: [Float], _ tensor: AttentionRequest.Tensor) async throws
      -> GuardedBuffer
    {
      let view = request.view(of: tensor)
      let label = tensor.rawValue
      switch request.elementType {
      case .f32:
        return try await GuardedBuffer(
          view.scatter(elements, around: .nan), label: label, on: device)
      case .f16:
        return try await GuardedBuffer(
          view.scatter(elements.map { Float16($0) }, around: .nan), label: label, on: device)
      case .bf16:
        return try await GuardedBuffer(
          view.scatter(elements.map { BFloat16($0) }, around: BFloat16(.nan)), label: label,
          on: device)
      }
    }
    q = try await upload(tensors.q, .query)
    k = try await upload(tensors.k, .key)
    v = try await upload(tensors.v, .value)
    o = try await GuardedBuffer(
      byteCount: request.byteCount(of: .output), label: "output", on: device)
    lse = try await GuardedBuffer(
      byteCount: request.logSumExpByteCount, label: "logSumExp", on: device)
    scratch = try await GuardedBuffer(
      byteCount: plan.scratchByteCount, label: "scratch", on: device)
  }

  /// Runs the kernel, checks all guards and returns the result.
  func compute(
    _ kernel: AttentionKernel, _ mode: RunMode = .record,
    sourceLocation: SourceLocation = #_sourceLocation
  ) async throws -> AttentionResult {
    switch mode {
    case .record:
      return try await compute(sourceLocation: sourceLocation) { recorder in
        try kernel.record(buffers, into: recorder)
      }
    case .run:
      try await kernel.run(buffers)
      return try await checkedResult(sourceLocation)
    }
  }

  /// Submits what `record` appends, checks all guards and returns the result.
  func compute(
    sourceLocation: SourceLocation = #_sourceLocation, _ record: (Recorder) throws -> Void
  ) async throws -> AttentionResult {
    let recorder = try device.makeRecorder()
    try record(recorder)
    try await device.submit(recorder).completed()
    return try await checkedResult(sourceLocation)
  }

  private func checkedResult(_ sourceLocation: SourceLocation) async throws -> AttentionResult {
    for guarded in [q, k, v, o, lse, scratch] {
      try await guarded.expectGuardsIntact(sourceLocation: sourceLocation)
    }
    return try await result(sourceLocation: sourceLocation)
  }

  /// The outputs as they are; what lies between the rows must still be poison.
  func result(sourceLocation: SourceLocation = #_sourceLocation) async throws -> AttentionResult {
    let view = request.view(of: .output)
    let elements: [Float]
    switch request.elementType {
    case .f32:
      let memory = try await device.download(Float.self, from: o.buffer)
      elements = view.gather(memory)
      view.expectGapsPoisoned(
        memory.map { UInt32($0.bitPattern) }, GuardedBuffer.poison, sourceLocation)
    case .f16:
      let memory = try await device.download(Float16.self, from: o.buffer)
      elements = view.gather(memory).map { Float($0) }
      view.expectGapsPoisoned(
        memory.map { UInt32($0.bitPattern) }, GuardedBuffer.poison & 0xFFFF, sourceLocation)
    case .bf16:
      let memory = try await device.download(BFloat16.self, from: o.buffer)
      elements = view.gather(memory).map { Float($0) }
      view.expectGapsPoisoned(
        memory.map { UInt32($0.bitPattern) }, GuardedBuffer.poison & 0xFFFF, sourceLocation)
    }
    return AttentionResult(
      o: elements, lse: try await device.download(Float.self, from: lse.buffer))
  }
}

extension TensorView {
  /// Where the rows of contiguous [batch, token, head] begin.
  private var rowStarts: [Int] {
    (0..<batch).flatMap { b in
      (0..<tokens).flatMap { t in
        (0..<heads).map { b * strides.batch + t * strides.token + $0 * strides.head }
      }
    }
  }

  /// Puts contiguous rows where the strides say.
  func scatter<Element>(_ rows: [Element], around gap: Element) -> [Element] {
    var memory = [Element](repeating: gap, count: elementCount ?? 0)
    for (row, start) in rowStarts.enumerated() {
      memory.replaceSubrange(
        start..<start + channels, with: rows[row * channels..<(row + 1) * channels])
    }
    return memory
  }

  /// Takes the rows out of strided memory.
  func gather<Element>(_ memory: [Element]) -> [Element] {
    rowStarts.flatMap { memory[$0..<$0 + channels] }
  }

  /// Fails where an element that belongs to no row has changed.
  func expectGapsPoisoned(_ memory: [UInt32], _ poison: UInt32, _ sourceLocation: SourceLocation) {
    guard memory.count > rowStarts.count * channels else { return }
    var isGap = [Bool](repeating: true, count: memory.count)
    for start in rowStarts { for index in start..<start + channels { isGap[index] = false } }
    let written = memory.indices.first { isGap[$0] && memory[$0] != poison }
    if let written {
      Issue.record(
        "element \(written) of \(name), between two rows, was written",
        sourceLocation: sourceLocation)
    }
  }
}
