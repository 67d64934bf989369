import VulkanAttention

/// The host's own time for one attention: what a model pays for every layer besides the device.
public struct HostTiming: Sendable, Hashable {
  /// The median of making a plan; done once for each shape.
  public let planSeconds: Double
  /// The median of recording one attention into a new recorder.
  public let recordSeconds: Double
  /// The median of submitting it.
  public let submitSeconds: Double
  /// How often each was measured.
  public let count: Int

  /// Measures an attention that is large enough to be planned like those of a model, and small enough
  /// for hundreds of runs.
  ///
  /// - Parameters:
  ///   - device: where it runs.
  ///   - choice: which way it runs.
  ///   - count: how often; 1 or more.
  /// - Throws: `AttentionError`, `VulkanError`.
  public static func measure(
    on device: ComputeDevice, _ choice: AttentionPathChoice = .automatic, count: Int = 500
  ) async throws -> HostTiming? {
    // 256 rows are packed for on a driver that packs: as many dispatches as a model's. The matrix
    // paths take no f32.
    let request = try AttentionRequest(
      queryTokens: 256, keyTokens: 64, queryHeads: 8, headSize: 64,
      elementType: choice.usesMatrices ? .f16 : .f32)
    let plan = try choice.plan(request, device: device.capabilities)
    let kernel = try AttentionKernel(plan, on: device)
    let inputs = AttentionInputs.random(for: request, seed: "host timing")
    let tensors = try await AttentionTensors(inputs, for: plan, on: device)

    let clock = ContinuousClock()
    var seconds: (plan: [Double], record: [Double], submit: [Double]) = ([], [], [])
    // The first tenth warms up and is not counted.
    for run in 0..<count + count / 10 {
      let start = clock.now
      _ = try choice.plan(request, device: device.capabilities)
      let planned = clock.now
      let recorder = try device.makeRecorder()
      try kernel.record(tensors.buffers, into: recorder)
      let recorded = clock.now
      let submission = try device.submit(recorder)
      let submitted = clock.now
      try submission.wait()
      guard run >= count / 10 else { continue }
      seconds.plan.append((planned - start).inSeconds)
      seconds.record.append((recorded - planned).inSeconds)
      seconds.submit.append((submitted - recorded).inSeconds)
    }
    guard let planned = SampleStatistics(seconds.plan),
      let recorded = SampleStatistics(seconds.record),
      let submitted = SampleStatistics(seconds.submit)
    else { return nil }
    return HostTiming(
      planSeconds: planned.median, recordSeconds: recorded.median,
      submitSeconds: submitted.median, count: count)
  }
}
