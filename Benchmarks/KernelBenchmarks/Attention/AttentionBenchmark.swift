import AttentionReference
import VulkanAttention

/// A kernel whose result is wrong; it is not timed.
public struct BenchmarkRefusal: Error, Sendable, CustomStringConvertible {
  /// What is wrong.
  public let description: String
}

/// Verifies attentions on a device and makes them ready to be timed.
struct AttentionBenchmark: Sendable {
  private let device: ComputeDevice
  private let tuning: Tuning

  /// Multiplications and additions that verifying one workload may take on the host: about half a
  /// second of one core.
  private static let verifiedOperations = 5e8

  /// Benchmarks on a device, with a user's tuned tiles.
  init(on device: ComputeDevice, tuning: Tuning) {
    self.device = device
    self.tuning = tuning
  }

  /// Verifies a workload.
  func prepare(
    _ workload: AttentionWorkload, _ choice: AttentionPathChoice
  ) async throws -> PreparedWorkload {
    let request = try workload.request()
    let plan = try choice.plan(request, device: device.capabilities, tuning: tuning)
    try plan.checkMemory(of: device.capabilities)
    let inputs = workload.inputs(for: request)
    let (pipelineSeconds, kernel) = try timed { try AttentionKernel(plan, on: device) }
    let tensors = try await AttentionTensors(inputs, for: plan, on: device)
    if request.operand(.blockMap) != nil {
      let map = try AttentionBlockMapKernel(request, on: device)
      try await map.run(
        operands: tensors.buffers.operands,
        scratch: device.makeBuffer(byteCount: map.scratchByteCount))
    }

    let clock = ContinuousClock()
    let first = clock.now
    try await kernel.run(tensors.buffers)
    let firstSeconds = (clock.now - first).inSeconds
    let verification = try verify(try await tensors.read(), request, inputs)
    // The second run and not the first, in which a driver may still compile.
    let second = clock.now
    try await kernel.run(tensors.buffers)
    let isLong = (clock.now - second).inSeconds > TimingOptions.longestSubmission
    return PreparedWorkload(
      device: device, record: { try kernel.record(tensors.buffers, into: $0) },
      runInPieces: isLong ? { try await kernel.run(tensors.buffers) } : nil
    ) { timing in
      BenchmarkResult(
        id: workload.id, family: AttentionWorkload.family, shape: workload.shape.description,
        type: workload.elementType.rawValue, isCausal: workload.isCausal,
        path: choice.name(of: plan), tile: plan.tile.summary, timing: timing,
        operations: request.floatingPointOperations, bytes: request.compulsoryBytes,
        maxError: verification.largest, relativeError: verification.relative,
        verifiedRows: verification.rowCount, plan: plan.summary, why: plan.explanation,
        isTuned: plan.isTuned,
        pipelineSeconds: pipelineSeconds, firstSeconds: firstSeconds)
    }
  }

  /// Holds rows of a result against the reference.
  ///
  /// - Throws: ``BenchmarkRefusal`` for a wrong result.
  func verify(
    _ result: AttentionReadback, _ request: AttentionRequest, _ inputs: AttentionInputs
  ) throws -> (largest: Double, relative: Double, rowCount: Int) {
    if let stray = result.strayWrites.first { throw BenchmarkRefusal(description: stray) }
    // Every row was poisoned with NaN: one that is left was not written.
    if let index = result.output.firstIndex(where: { !$0.isFinite }) {
      throw BenchmarkRefusal(
        description: "o: element \(index) is \(Numbers.plain(result.output[index])); "
          + "it was not written, or is wrong")
    }
    let dimensions = request.dimensions
    let rowOperations =
      2 * Double(max(1, request.keyTokens)) * Double(request.headSize + request.valueHeadSize)
    let rows = dimensions.sampledRows(count: Int(max(16, Self.verifiedOperations / rowOperations)))
    let expected = attention(
      q: inputs.query, k: inputs.key, v: inputs.value, dimensions: dimensions,
      options: request.referenceOptions(inputs.operands), rows: rows
    ).o
    let actual = gather(rows, width: request.valueHeadSize, from: result.output)
    let relative = ErrorMeasure.relativeRMS(actual: actual, expected: expected)
    let gate = AttentionGates.output(request.elementType)
    guard relative.isWithin(gate) else {
      throw BenchmarkRefusal(
        description: "o: error \(Numbers.scientific(relative.error)) above "
          + "\(Numbers.scientific(gate)) over \(rows.count) rows")
    }
    let largest = ErrorMeasure.worstAbsolute(actual: actual, expected: expected).error
    return (largest, relative.error, rows.count)
  }
}

extension AttentionPlan {
  /// The cuts in a few words.
  var summary: String {
    "\(tileCount) tiles x \(request.queryHeads) heads x \(request.batchSize) batch entries, "
      + "\(pieces.count) submissions, \(scratchByteCount) bytes scratch"
  }
}

extension AttentionTile {
  /// The tile in a few words, for a column of a table: rows, invocations and constants.
  public var summary: String {
    let constants = constants.sorted { $0.key < $1.key }.map { " \($0.key)=\($0.value)" }
    let packed = packedKeysPerBlock.map { " packed=\($0)" } ?? ""
    return "rows=\(queryRows) workgroup=\(workgroupSize)\(packed)\(constants.joined())"
  }
}
