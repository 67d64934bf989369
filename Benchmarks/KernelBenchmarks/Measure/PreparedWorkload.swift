import VulkanAttention

/// A workload on a device whose result was verified, ready to be timed.
struct PreparedWorkload {
  let device: ComputeDevice
  /// Appends the kernel to a recorder.
  let record: (Recorder) throws -> Void
  /// Runs work that is too long for one submission, as an application does; nil for other work.
  let runInPieces: (() async throws -> Void)?
  /// What is known before the timing.
  let result: (Timing) -> BenchmarkResult

  /// Warms up and times it.
  func time(_ options: TimingOptions) async throws -> BenchmarkResult {
    let stopwatch = Stopwatch(device: device, options: options)
    let timing =
      if let runInPieces {
        try await stopwatch.time(inPieces: runInPieces)
      } else {
        try stopwatch.time(record)
      }
    guard let timing else { throw BenchmarkRefusal(description: "no sample was taken") }
    var result = result(timing)
    result.isCold = options.isCold
    return result
  }

  /// Runs it once.
  ///
  /// - Returns: seconds by the device's timestamps, or the host's clock where these make no sense.
  func once() async throws -> Double {
    guard let runInPieces else {
      return try Stopwatch(device: device, options: TimingOptions()).once(record)
    }
    let clock = ContinuousClock()
    let start = clock.now
    try await runInPieces()
    return (clock.now - start).inSeconds
  }
}

extension Stopwatch {
  /// Times long work, piece by piece, by the host's clock.
  func time(inPieces run: () async throws -> Void) async throws -> Timing? {
    let scrub = options.isCold ? try CacheScrub(device) : nil
    let clock = ContinuousClock()
    var wall: [Double] = []
    while needsMore(count: wall.count, seconds: wall.reduce(0, +)) {
      try scrub?.run()
      let start = clock.now
      try await run()
      wall.append((clock.now - start).inSeconds)
    }
    return Timing(gpu: [], wall: wall)
  }
}

/// Seconds that a body takes by the host's clock, and what it returns.
func timed<Result>(_ body: () throws -> Result) rethrows -> (seconds: Double, result: Result) {
  let clock = ContinuousClock()
  let start = clock.now
  let result = try body()
  return ((clock.now - start).inSeconds, result)
}

/// Verifies and times workloads of every family on a device.
public struct WorkloadBenchmark: Sendable {
  private let device: ComputeDevice
  private let options: TimingOptions
  private let tuning: Tuning

  /// Benchmarks on a device, with a user's tuned tiles.
  public init(
    on device: ComputeDevice, options: TimingOptions = TimingOptions(), tuning: Tuning = .none
  ) {
    self.device = device
    self.options = options
    self.tuning = tuning
  }

  /// Verifies a workload, warms up and times it.
  ///
  /// - Parameters:
  ///   - workload: what is run.
  ///   - choice: which way, of an attention or a decode step.
  ///   - linear: which way, of a linear attention.
  /// - Throws: ``BenchmarkRefusal`` for a wrong result, `AttentionError` (`pathUnavailable` where
  ///   the path cannot run), `VulkanError`.
  public func run(
    _ workload: BenchmarkWorkload, _ choice: AttentionPathChoice = .automatic,
    linear: LinearAttentionChoice = LinearAttentionChoice()
  ) async throws -> BenchmarkResult {
    try await prepare(workload, choice, linear: linear).time(options)
  }

  /// Verifies a workload.
  func prepare(
    _ workload: BenchmarkWorkload, _ choice: AttentionPathChoice = .automatic,
    linear: LinearAttentionChoice = LinearAttentionChoice()
  ) async throws -> PreparedWorkload {
    let prepared =
      switch workload.problem {
      case .attention(let attention):
        try await AttentionBenchmark(on: device, tuning: tuning)
          .prepare(attention, choice)
      case .decode(let decode):
        try await DecodeBenchmark(on: device, tuning: tuning)
          .prepare(decode, choice)
      case .linear(let attention):
        try await LinearAttentionBenchmark(on: device, tuning: tuning)
          .prepare(attention, linear)
      }
    return PreparedWorkload(
      device: prepared.device, record: prepared.record, runInPieces: prepared.runInPieces
    ) { timing in
      var result = prepared.result(timing)
      result.id = workload.id
      return result
    }
  }
}
