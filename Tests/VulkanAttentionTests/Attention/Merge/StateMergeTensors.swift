import AttentionReference
import TestSupport
import Testing

@testable import VulkanAttention

/// One merge on the host: outputs [N, rows, H, E] in values that the element type holds exactly, and
/// log-sum-exps [N, rows, H].
struct StateMergeTensors: Sendable {
  let partials: Int
  let rows: Int
  let heads: Int
  let channels: Int
  let type: ElementType
  var outputs: [Float]
  var logSumExps: [Float]

  /// - Parameter rows: 1 for partials that rows list.
  init(
    n partials: Int, rows: Int, heads: Int = 1, e channels: Int, _ type: ElementType,
    seed: UInt64 = 1
  ) {
    var random = SplitMix64(seed: seed)
    self.partials = partials
    self.rows = rows
    self.heads = heads
    self.channels = channels
    self.type = type
    outputs = random.normal(partials * rows * heads * channels).map {
      Float(type.storage.rounded(Double($0)))
    }
    logSumExps = random.normal(partials * rows * heads).map { 3 * $0 }
  }

  /// Fills the output of a partial, of every head of a row or of one.
  mutating func fill(_ partial: Int, row: Int, head: Int, with value: Float) {
    let start = ((partial * rows + row) * heads + head) * channels
    for index in start..<start + channels { outputs[index] = value }
  }

  /// Index of a log-sum-exp.
  func index(_ partial: Int, row: Int, head: Int = 0) -> Int {
    (partial * rows + row) * heads + head
  }

  func reference() -> AttentionOutput {
    mergeStates(
      outputs: outputs.map(Double.init), logSumExps: logSumExps.map(Double.init),
      partials: partials, rows: rows * heads, channels: channels)
  }

  func request(
    merged: ElementType? = nil, outputStrides: StateStrides? = nil,
    logSumExpStrides: StateStrides? = nil
  ) throws -> StateMergeRequest {
    try StateMergeRequest(
      rowCount: rows, headCount: heads, partials: .perRow(partials), valueHeadSize: channels,
      elementType: type, mergedElementType: merged, outputStrides: outputStrides,
      logSumExpStrides: logSumExpStrides)
  }
}

/// Contiguous [partial, row, head] elements of so many channels, put where strides say.
func scattered<Element>(
  _ elements: [Element], _ strides: StateStrides, partials: Int, rows: Int, heads: Int,
  channels: Int, around gap: Element
) -> [Element] {
  let last =
    (partials - 1) * strides.partial + (rows - 1) * strides.row + (heads - 1) * strides.head
  var memory = [Element](repeating: gap, count: last + channels)
  var next = 0
  for p in 0..<partials {
    for r in 0..<rows {
      for h in 0..<heads {
        let start = p * strides.partial + r * strides.row + h * strides.head
        memory.replaceSubrange(start..<start + channels, with: elements[next..<next + channels])
        next += channels
      }
    }
  }
  return memory
}

/// Moves values of a type between arrays of Float and guarded device memory.
struct TypedMemory {
  let device: ComputeDevice

  func upload(_ values: [Float], as type: ElementType, _ label: String) async throws
    -> GuardedBuffer
  {
    switch type {
    case .f32: try await GuardedBuffer(values, label: label, on: device)
    case .f16: try await GuardedBuffer(values.map { Float16($0) }, label: label, on: device)
    case .bf16: try await GuardedBuffer(values.map { BFloat16($0) }, label: label, on: device)
    }
  }

  func download(_ type: ElementType, _ guarded: GuardedBuffer) async throws -> [Float] {
    switch type {
    case .f32: try await device.download(Float.self, from: guarded.buffer)
    case .f16: try await device.download(Float16.self, from: guarded.buffer).map { Float($0) }
    case .bf16: try await device.download(BFloat16.self, from: guarded.buffer).map { Float($0) }
    }
  }
}

/// Merges and gives back the results, all guards checked.
struct StateMergeRun {
  /// What the merged results replace.
  enum Target: Sendable, CaseIterable {
    case ownBuffers, output, logSumExp, both
  }

  let kernel: StateMergeKernel
  let device: ComputeDevice

  init(_ kernel: StateMergeKernel, on device: ComputeDevice) {
    self.kernel = kernel
    self.device = device
  }

  init(_ request: StateMergeRequest, on device: ComputeDevice) throws {
    self.init(try StateMergeKernel(request, on: device), on: device)
  }

  private var memory: TypedMemory { TypedMemory(device: device) }

  /// The partials in one buffer, at the strides of the request.
  func strided(
    _ tensors: StateMergeTensors, starts: [Int32]? = nil, target: Target = .ownBuffers,
    sourceLocation: SourceLocation = #_sourceLocation
  ) async throws -> AttentionResult {
    let request = kernel.request
    func placed(_ elements: [Float], _ strides: StateStrides, channels: Int) -> [Float] {
      elements.isEmpty
        ? []
        : scattered(
          elements, strides, partials: tensors.partials, rows: tensors.rows,
          heads: tensors.heads, channels: channels, around: .nan)
    }
    let outputs = try await memory.upload(
      placed(tensors.outputs, request.outputStrides, channels: tensors.channels),
      as: tensors.type, "outputs")
    let logSumExps = try await memory.upload(
      placed(tensors.logSumExps, request.logSumExpStrides, channels: 1), as: .f32, "lses")
    var startBuffer: GuardedBuffer?
    if let starts { startBuffer = try await GuardedBuffer(starts, label: "starts", on: device) }
    return try await compute(
      inputs: [outputs, logSumExps] + (startBuffer.map { [$0] } ?? []), target: target,
      sourceLocation: sourceLocation
    ) { output, logSumExp in
      StateMergeBuffers(
        AttentionState(output: outputs.buffer, logSumExp: logSumExps.buffer),
        partialStarts: startBuffer?.buffer, output: output, logSumExp: logSumExp)
    }
  }

  /// Two partials in buffers of their own, the second one made first if asked.
  func separate(
    _ tensors: StateMergeTensors, isSecondFirst: Bool = false, target: Target = .ownBuffers,
    sourceLocation: SourceLocation = #_sourceLocation
  ) async throws -> AttentionResult {
    let half = tensors.outputs.count / 2
    let rows = tensors.logSumExps.count / 2
    func state(_ index: Int) async throws -> (GuardedBuffer, GuardedBuffer) {
      (
        try await memory.upload(
          Array(tensors.outputs[index * half..<(index + 1) * half]), as: tensors.type,
          "output \(index)"),
        try await memory.upload(
          Array(tensors.logSumExps[index * rows..<(index + 1) * rows]), as: .f32,
          "lse \(index)")
      )
    }
    let one = try await state(isSecondFirst ? 1 : 0)
    let other = try await state(isSecondFirst ? 0 : 1)
    let (first, second) = isSecondFirst ? (other, one) : (one, other)
    return try await compute(
      inputs: [first.0, first.1, second.0, second.1], target: target,
      sourceLocation: sourceLocation
    ) { output, logSumExp in
      StateMergeBuffers(
        AttentionState(output: first.0.buffer, logSumExp: first.1.buffer),
        AttentionState(output: second.0.buffer, logSumExp: second.1.buffer), output: output,
        logSumExp: logSumExp)
    }
  }

  /// Runs with results that replace the first two inputs or have memory of their own.
  private func compute(
    inputs: [GuardedBuffer], target: Target, sourceLocation: SourceLocation,
    _ buffers: (DeviceBuffer, DeviceBuffer) -> StateMergeBuffers
  ) async throws -> AttentionResult {
    let request = kernel.request
    let ownOutput = try await GuardedBuffer(
      byteCount: request.outputByteCount, label: "output", on: device)
    let ownLogSumExp = try await GuardedBuffer(
      byteCount: request.logSumExpByteCount, label: "logSumExp", on: device)
    let output = target == .output || target == .both ? inputs[0] : ownOutput
    let logSumExp = target == .logSumExp || target == .both ? inputs[1] : ownLogSumExp
    let recorder = try device.makeRecorder()
    try kernel.record(buffers(output.buffer, logSumExp.buffer), into: recorder)
    try await device.submit(recorder).completed()
    for guarded in inputs + [ownOutput, ownLogSumExp] {
      try await guarded.expectGuardsIntact(sourceLocation: sourceLocation)
    }
    let count = request.rowCount * request.headCount
    let o = try await memory.download(request.mergedElementType, output)
    let lse = try await memory.download(.f32, logSumExp)
    return AttentionResult(
      o: Array(o.prefix(count * request.valueHeadSize)), lse: Array(lse.prefix(count)))
  }
}
