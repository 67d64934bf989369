import VulkanAttention

/// The host's own time for decode steps of a large batch.
public struct DecodeHostTiming: Sendable, Hashable {
  /// Sequences of the batch.
  public static let sequences = 256

  /// The median of making a schedule from lengths.
  public let scheduleSeconds: Double
  /// The median of the next step's from it: every sequence grows by a key.
  public let updateSeconds: Double
  /// The median of preparing a step: its upload, appended to a recorder.
  public let prepareSeconds: Double
  /// The median of recording one layer.
  public let recordSeconds: Double
  /// How often each was measured.
  public let count: Int

  /// Measures ragged batches of some thousand keys each, in pages, without running them.
  ///
  /// - Throws: `AttentionError`, `VulkanError`.
  public static func measure(
    on device: ComputeDevice, _ path: AttentionPath? = nil, count: Int = 500
  ) async throws -> DecodeHostTiming? {
    var lengths = (0..<sequences).map { 1 + $0 * 7919 % 4000 }
    // One pool of few pages: nothing is run, and any page may belong to any sequence.
    let pageSize = 64
    let cache = try CacheTensor(
      .f16, .paged(pages: 16, pageSize: pageSize), heads: 1, channels: 64)
    let request = try DecodeRequest(
      batchSize: sequences, queryHeads: 4, keyCache: cache, valueCache: cache,
      maxKeyTokens: 8192)
    let kernel = try DecodeKernel(request, on: device, path: path)
    let pages = try CachePageTable(
      pageSize: pageSize, pageCount: 16,
      indptr: (0...Int32(sequences)).map { $0 * 128 },
      indices: (0..<Int32(sequences * 128)).map { $0 % 16 },
      lastPageLengths: Array(repeating: Int32(pageSize), count: sequences))
    var schedule = try kernel.plan.schedule(lengths: lengths)
    guard let most = kernel.plan.maxWorkspaceByteCount else { return nil }
    let workspace = try device.makeBuffer(byteCount: most, label: "workspace")
    func buffer(_ byteCount: Int) throws -> DeviceBuffer {
      try device.makeBuffer(byteCount: byteCount, label: "host timing")
    }
    let buffers = DecodeBuffers(
      query: try buffer(request.attention.byteCount(of: .query)),
      keyCache: try buffer(cache.byteCount), valueCache: try buffer(cache.byteCount),
      output: try buffer(request.attention.byteCount(of: .output)))

    let clock = ContinuousClock()
    var seconds: (schedule: [Double], update: [Double], prepare: [Double], record: [Double]) =
      ([], [], [], [])
    // The first tenth warms up and is not counted.
    for run in 0..<count + count / 10 {
      let start = clock.now
      _ = try kernel.plan.schedule(lengths: lengths)
      let scheduled = clock.now
      for b in lengths.indices { lengths[b] = lengths[b] % 8000 + 1 }
      let grown = clock.now
      _ = try kernel.plan.update(&schedule, lengths: lengths)
      let updated = clock.now
      let recorder = try device.makeRecorder()
      let begun = clock.now
      let step = try kernel.prepare(
        schedule, pages: .table(pages), workspace: workspace, into: recorder)
      let prepared = clock.now
      try kernel.record(buffers, step: step, into: recorder)
      let recorded = clock.now
      guard run >= count / 10 else { continue }
      seconds.schedule.append((scheduled - start).inSeconds)
      seconds.update.append((updated - grown).inSeconds)
      seconds.prepare.append((prepared - begun).inSeconds)
      seconds.record.append((recorded - prepared).inSeconds)
    }
    guard let scheduled = SampleStatistics(seconds.schedule),
      let updated = SampleStatistics(seconds.update),
      let prepared = SampleStatistics(seconds.prepare),
      let recorded = SampleStatistics(seconds.record)
    else { return nil }
    return DecodeHostTiming(
      scheduleSeconds: scheduled.median, updateSeconds: updated.median,
      prepareSeconds: prepared.median, recordSeconds: recorded.median, count: count)
  }
}
