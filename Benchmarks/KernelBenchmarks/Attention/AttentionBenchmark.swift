import AttentionReference
import VulkanAttention

/// A kernel whose result is wrong; it is not timed.
public struct BenchmarkRefusal: Error, Sendable, CustomStringConvertible {
  /// What is wrong.
  public let description: String
}

/// Verifies and times attentions on a device.
public struct AttentionBenchmark: Sendable {
  private let device: ComputeDevice
  private let options: TimingOptions

  /// Multiplications and additions that verifying one workload may take on the host: about half a
  /// second of one core.
  private static let verifiedOperations = 5e8

  /// Benchmarks on a device.
  public init(on device: ComputeDevice, options: TimingOptions = TimingOptions()) {
    self.device = device
    self.options = options
  }

  /// Verifies a workload, warms up and times it.
  ///
  /// - Throws: ``BenchmarkRefusal`` for a wrong result, `AttentionError` (`pathUnavailable` where
  ///   the path cannot run), `VulkanError`.
  public func run(
    _ workload: AttentionWorkload, _ choice: AttentionPathChoice
  ) async throws -> BenchmarkResult {
    let request = try workload.request()
    let plan = try choice.plan(request, device: device.capabilities)
    try plan.checkMemory(of: device.capabilities)
    let inputs = AttentionInputs.random(for: request, seed: workload.shape.description)
    let kernel = try AttentionKernel(plan, on: device)
    let tensors = try await AttentionTensors(inputs, for: plan, on: device)

    try await kernel.run(tensors.buffers)
    let verification = try verify(try await tensors.read(), request, inputs)
    // The second run and not the first, in which a driver may still compile.
    let clock = ContinuousClock()
    let start = clock.now
    try await kernel.run(tensors.buffers)
    let timing =
      (clock.now - start).inSeconds <= TimingOptions.longestSubmission
      ? try Stopwatch(device: device, options: options).time { recorder in
        try kernel.record(tensors.buffers, into: recorder)
      }
      : try await timeInPieces(kernel, tensors)
    guard let timing else { throw BenchmarkRefusal(description: "no sample was taken") }
    return BenchmarkResult(
      id: workload.id, family: AttentionWorkload.family, shape: workload.shape.description,
      type: workload.elementType.rawValue, isCausal: workload.isCausal,
      path: choice.name(of: plan), tile: plan.tile.summary, timing: timing,
      operations: request.floatingPointOperations, bytes: request.compulsoryBytes,
      maxError: verification.largest, relativeError: verification.relative,
      verifiedRows: verification.rowCount)
  }

  /// Times a long attention as an application runs it, piece by piece, by the host's clock.
  private func timeInPieces(
    _ kernel: AttentionKernel, _ tensors: AttentionTensors
  ) async throws -> Timing? {
    let stopwatch = Stopwatch(device: device, options: options)
    let clock = ContinuousClock()
    var wall: [Double] = []
    while stopwatch.needsMore(count: wall.count, seconds: wall.reduce(0, +)) {
      let start = clock.now
      try await kernel.run(tensors.buffers)
      wall.append((clock.now - start).inSeconds)
    }
    return Timing(gpu: [], wall: wall)
  }

  private func verify(
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

extension AttentionTile {
  /// The tile in a few words, for a column of a table: rows, invocations and constants.
  public var summary: String {
    let constants = constants.sorted { $0.key < $1.key }.map { " \($0.key)=\($0.value)" }
    let packed = packedKeysPerBlock.map { " packed=\($0)" } ?? ""
    return "rows=\(queryRows) workgroup=\(workgroupSize)\(packed)\(constants.joined())"
  }
}
