import AttentionReference
import VulkanAttention

/// Verifies decode steps on a device and makes them ready to be timed.
struct DecodeBenchmark: Sendable {
  private let device: ComputeDevice
  private let tuning: Tuning

  /// Rows that are compared with the reference.
  private static let verifiedRowCount = 8

  /// Benchmarks on a device, with a user's tuned tiles.
  init(on device: ComputeDevice, tuning: Tuning) {
    self.device = device
    self.tuning = tuning
  }

  /// Verifies a workload: the attention of one layer, with its merge and without the upload that the layers of a step
  /// share.
  func prepare(
    _ workload: DecodeWorkload, _ choice: AttentionPathChoice
  ) async throws -> PreparedWorkload {
    let request = try workload.request()
    var plan = try DecodePlan(
      request, device: device.capabilities, path: choice.path, tile: choice.tile, tuning: tuning)
    if workload.cut == .oneSplit {
      let longest = workload.lengths.max() ?? 0
      plan = try DecodePlan(
        request, device: device.capabilities, path: choice.path, tile: choice.tile,
        mode: .fixed(
          tokensPerSplit: (longest + plan.tile.keys) / plan.tile.keys * plan.tile.keys),
        tuning: tuning)
    }
    try request.checkMemory(of: device.capabilities)
    let schedule = try plan.schedule(lengths: workload.lengths)
    let usedPlan = plan
    let (pipelineSeconds, kernel) = try timed { try DecodeKernel(usedPlan, on: device) }
    let problem = DecodeProblem(
      request, lengths: workload.lengths, pages: try workload.pages(), seed: workload.id)
    let tensors = try await DecodeTensors(problem, for: plan, schedule, on: device)
    let recorder = try device.makeRecorder()
    let step = try kernel.prepare(
      schedule, pages: problem.pages.map { .table($0) }, workspace: tensors.workspace,
      into: recorder)
    try kernel.record(tensors.buffers, step: step, into: recorder)
    let clock = ContinuousClock()
    let first = clock.now
    try await device.submit(recorder).completed()
    let firstSeconds = (clock.now - first).inSeconds
    let verification = try verify(try await tensors.readOutput(), problem)
    return PreparedWorkload(
      device: device, record: { try kernel.record(tensors.buffers, step: step, into: $0) },
      runInPieces: nil
    ) { timing in
      BenchmarkResult(
        id: workload.id, family: DecodeWorkload.family, shape: workload.shape.description,
        type: workload.elementType.rawValue, isCausal: false,
        path: choice.tile == .tuned ? usedPlan.path.rawValue : choice.description,
        tile: usedPlan.summary(of: schedule), timing: timing,
        operations: request.floatingPointOperations(lengths: workload.lengths),
        bytes: request.compulsoryBytes(lengths: workload.lengths),
        maxError: verification.largest, relativeError: verification.relative,
        verifiedRows: verification.rowCount,
        plan: "\(schedule.tileCount) tiles of \(schedule.problemCount) problems in "
          + "\(schedule.groupCount) groups, \(schedule.segmentCount) segments, "
          + "\(schedule.mergeCount) merges, "
          + "\(usedPlan.workspaceByteCount(for: schedule)) bytes workspace",
        why: usedPlan.explanation, isTuned: usedPlan.isTuned, pipelineSeconds: pipelineSeconds,
        firstSeconds: firstSeconds)
    }
  }

  private func verify(
    _ output: [Float], _ problem: DecodeProblem
  ) throws -> (largest: Double, relative: Double, rowCount: Int) {
    // Every row was poisoned with NaN: one that is left was not written.
    if let index = output.firstIndex(where: { !$0.isFinite }) {
      throw BenchmarkRefusal(
        description: "o: element \(index) is \(Numbers.plain(output[index])); "
          + "it was not written, or is wrong")
    }
    let attention = problem.request.attention
    let dimensions = attention.dimensions
    // Of every sequence one at least, and heads in turn.
    let rows = Set(dimensions.sampledRows(count: Self.verifiedRowCount)).union(
      (0..<dimensions.batch).map {
        dimensions.row(batch: $0, token: 0, head: $0 % dimensions.queryHeads)
      }
    ).sorted()
    let expected = problem.expected(rows: rows).o
    let actual = gather(rows, width: attention.valueHeadSize, from: output)
    let relative = ErrorMeasure.relativeRMS(actual: actual, expected: expected)
    let gate = AttentionGates.output(attention.outputType)
    guard relative.isWithin(gate) else {
      throw BenchmarkRefusal(
        description: "o: error \(Numbers.scientific(relative.error)) above "
          + "\(Numbers.scientific(gate)) over \(rows.count) rows")
    }
    let largest = ErrorMeasure.worstAbsolute(actual: actual, expected: expected).error
    return (largest, relative.error, rows.count)
  }
}

extension DecodePlan {
  /// Tile and cuts in a few words, for a column of a table.
  public func summary(of schedule: LeanSchedule) -> String {
    let constants = tile.constants.sorted { $0.key < $1.key }.map { " \($0.key)=\($0.value)" }
    return "rows=\(tile.rows) keys=\(tile.keys) groups=\(schedule.groupCount) "
      + "partials=\(schedule.partialCount)\(constants.joined())"
  }
}
