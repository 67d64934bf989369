import VulkanAttention

/// Timings of one piece of work on a device.
public struct Timing: Sendable, Hashable {
  /// Which clock a timing comes from.
  public enum Clock: String, Sendable, Hashable {
    /// The device's timestamps around the work.
    case gpu
    /// The host's clock from submission to completion.
    case wall
  }

  /// The clock that ``statistics`` come from.
  public let clock: Clock
  /// Seconds of the work.
  public let statistics: SampleStatistics
  /// Seconds by the host's clock, submission and completion included.
  public let wall: SampleStatistics
  /// Seconds by the device's timestamps, plausible or not; nil where it has none.
  public let gpu: SampleStatistics?

  /// The median of the host's clock, submission and completion included.
  public var wallMedian: Double { wall.median }
  /// The median of the device's timestamps, plausible or not; nil where it has none.
  public var gpuMedian: Double? { gpu?.median }

  /// Chooses the clock for samples of both; nil without samples.
  ///
  /// - Parameters:
  ///   - gpu: seconds by the device's timestamps; empty where it has none.
  ///   - wall: seconds by the host's clock.
  init?(gpu: [Double], wall: [Double]) {
    guard let wallStatistics = SampleStatistics(wall) else { return nil }
    let gpuStatistics = gpu.count == wall.count ? SampleStatistics(gpu) : nil
    self.wall = wallStatistics
    self.gpu = gpuStatistics
    if let gpuStatistics,
      Self.isPlausible(gpu: gpuStatistics.median, wall: wallStatistics.median)
    {
      clock = .gpu
      statistics = gpuStatistics
    } else {
      clock = .wall
      statistics = wallStatistics
    }
  }

  /// Whether timestamps can be meant seriously beside the host's clock: above zero, not above the
  /// whole round trip, and not so far below it that submitting could not explain the difference.
  static func isPlausible(gpu: Double, wall: Double) -> Bool {
    let longestSubmission = 5e-3
    return gpu > 0 && gpu <= wall * 1.02 && (gpu >= wall / 2 || wall - gpu <= longestSubmission)
  }
}

/// How long work is measured.
public struct TimingOptions: Sendable, Hashable {
  /// The number of samples; nil for at least 15, and up to 60 while they take less than a second.
  public var samples: Int?
  /// Whether the device's caches are overwritten before each sample. In a model the inputs were
  /// written just before, so they are warm by default.
  public var isCold = false

  /// The defaults.
  public init() {}

  static let leastSamples = 15
  static let mostSamples = 60
  static let sampleSeconds = 1.0
  /// Warm-up lasts until clocks and caches have settled: five runs, or this long.
  static let warmUpSeconds = 0.3
  static let warmUpRuns = 5
  /// Work that takes longer than this is submitted in pieces, so that no watchdog ends it.
  static let longestSubmission = 1.0
}

/// Measures work on a device.
struct Stopwatch {
  let device: ComputeDevice
  let options: TimingOptions

  /// Times what `record` appends, one submission for each sample, after warming up.
  func time(_ record: (Recorder) throws -> Void) throws -> Timing? {
    let scrub = options.isCold ? try CacheScrub(device) : nil
    var runs = 0
    var spent = 0.0
    while runs < TimingOptions.warmUpRuns, spent < TimingOptions.warmUpSeconds {
      spent += try sample(record).wall
      runs += 1
    }
    var gpu: [Double] = []
    var wall: [Double] = []
    while needsMore(count: wall.count, seconds: wall.reduce(0, +)) {
      try scrub?.run()
      let sample = try sample(record)
      wall.append(sample.wall)
      if let seconds = sample.gpu { gpu.append(seconds) }
    }
    return Timing(gpu: gpu, wall: wall)
  }

  func needsMore(count: Int, seconds: Double) -> Bool {
    if let samples = options.samples { return count < samples }
    return count < TimingOptions.leastSamples
      || count < TimingOptions.mostSamples && seconds < TimingOptions.sampleSeconds
  }

  /// Times what `record` appends once; the seconds of the clock to compare by.
  func once(_ record: (Recorder) throws -> Void) throws -> Double {
    let sample = try sample(record)
    if let gpu = sample.gpu, Timing.isPlausible(gpu: gpu, wall: sample.wall) { return gpu }
    return sample.wall
  }

  private func sample(_ record: (Recorder) throws -> Void) throws -> (gpu: Double?, wall: Double) {
    let hasTimestamps = device.capabilities.timestampPeriod > 0
    let recorder = try device.makeRecorder()
    if hasTimestamps { try recorder.timestamp() }
    try record(recorder)
    if hasTimestamps { try recorder.timestamp() }
    let clock = ContinuousClock()
    let start = clock.now
    let submission = try device.submit(recorder)
    try submission.wait()
    let wall = (clock.now - start).inSeconds
    let timestamps = try submission.timestamps()
    guard timestamps.count == 2 else { return (nil, wall) }
    return ((timestamps[1] - timestamps[0]) * 1e-9, wall)
  }
}

/// Overwrites the device's caches.
struct CacheScrub {
  /// More than the last-level cache of any device at hand.
  static let byteCount = 256 << 20
  let device: ComputeDevice
  let buffer: DeviceBuffer

  init(_ device: ComputeDevice) throws {
    self.device = device
    buffer = try device.makeBuffer(byteCount: Self.byteCount, label: "cache scrub")
  }

  func run() throws {
    let recorder = try device.makeRecorder()
    try recorder.fill(buffer, with: 0)
    try device.submit(recorder).wait()
  }
}

extension Duration {
  /// The duration in seconds.
  public var inSeconds: Double {
    Double(components.seconds) + Double(components.attoseconds) * 1e-18
  }
}
