import VulkanAttention

/// One timed and verified workload.
public struct BenchmarkResult: Sendable {
  /// The workload's id.
  public var id: String
  /// The kernel family.
  public let family: String
  /// The sizes, as in the id.
  public let shape: String
  /// The type of the tensors.
  public let type: String
  /// Whether keys after a query's own position are hidden.
  public let isCausal: Bool
  /// The path that ran.
  public let path: String
  /// The path's tile in words.
  public let tile: String
  /// The timings.
  public let timing: Timing
  /// Multiplications and additions of the problem.
  public let operations: Double
  /// Bytes that must move at least.
  public let bytes: Double
  /// The largest absolute error of o over the rows that were verified.
  public let maxError: Double
  /// RMS(error)/RMS(reference) of o over these rows.
  public let relativeError: Double
  /// The rows of o that were verified against the reference.
  public let verifiedRows: Int
  /// The cuts of the plan in words: tiles, submissions, scratch memory.
  public var plan = ""
  /// Why the plan took this path and tile.
  public var why: [String] = []
  /// Whether the tile is the user's tuned one.
  public var isTuned = false
  /// Whether the device's caches were overwritten before each sample.
  public var isCold = false
  /// Seconds until the pipelines were there: compiled, or loaded from the cache of an earlier run.
  public var pipelineSeconds: Double?
  /// Seconds of the very first run by the host's clock, nothing warmed up.
  public var firstSeconds: Double?

  /// Operations per second, 10⁹.
  public var gigaflops: Double { operations / timing.statistics.median * 1e-9 }
  /// Compulsory bytes per second, 10⁹.
  public var gigabytes: Double { bytes / timing.statistics.median * 1e-9 }
}

/// Everything that one run of the benchmark measured.
public struct BenchmarkReport: Sendable {
  /// The device's name.
  public let device: String
  /// The driver's name and version.
  public let driver: String
  /// The UUIDs of device and driver; empty where the report is of no device.
  public var deviceUUID = ""
  /// The driver's UUID.
  public var driverUUID = ""
  /// When the run began, UTC, as 2026-11-21T18:00:00Z; empty where nobody said.
  public var time = ""
  /// The commit of the checkout, or `unknown`.
  public let commit: String
  /// What the device reaches at best.
  public var ceilings: DeviceCeilings?
  /// The host's time for one attention.
  public var host: HostTiming?
  /// The host's time for decode steps.
  public var decodeHost: DecodeHostTiming?
  /// The timed workloads.
  public var results: [BenchmarkResult] = []
  /// Workloads that could not run on the path asked for, with the reason.
  public var skips: [String] = []
  /// Workloads that failed, with the reason.
  public var failures: [String] = []
  /// Workloads beside what users would pick instead.
  public var peers: [PeerComparison] = []
  /// Modifications beside the options that say the same.
  public var comparisons: [CustomComparison] = []

  /// A report of nothing yet.
  public init(device: String, driver: String, commit: String) {
    self.device = device
    self.driver = driver
    self.commit = commit
  }

  /// A report of nothing yet, on a device.
  public init(_ device: DeviceCapabilities, commit: String) {
    // Some drivers repeat their name in their version.
    let driver =
      device.driverInfo.hasPrefix(device.driverName)
      ? device.driverInfo : "\(device.driverName) \(device.driverInfo)"
    self.init(device: device.name, driver: driver, commit: commit)
    deviceUUID = device.deviceUUID
    driverUUID = device.driverUUID
  }

  /// The shares of every ceiling that was measured: what part of its rate a result reaches.
  public func shares(
    _ result: BenchmarkResult
  ) -> (copy: Double, fma: Double?, matrix: Double?)? {
    ceilings.map { ceilings in
      let seconds = result.timing.statistics.median
      return (
        result.bytes / seconds / ceilings.copyBytesPerSecond,
        ceilings.fmaOperationsPerSecond.map { result.operations / seconds / $0 },
        ceilings.matrixOperationsPerSecond.map { result.operations / seconds / $0 }
      )
    }
  }

  /// The share of the ceiling that bounds a result: of arithmetic or of memory, whichever takes
  /// longer for its operations and bytes. The matrix path is held against the matrix units.
  public func share(_ result: BenchmarkResult) -> (share: Double, of: String)? {
    guard let ceilings else { return nil }
    let usesMatrices = result.path.hasPrefix(AttentionPath.matrix.rawValue)
    let arithmetic: (rate: Double, name: String)? =
      if usesMatrices, let rate = ceilings.matrixOperationsPerSecond {
        (rate, "matrix")
      } else {
        ceilings.fmaOperationsPerSecond.map { ($0, "fma") }
      }
    let seconds = result.timing.statistics.median
    let memorySeconds = result.bytes / ceilings.copyBytesPerSecond
    if let arithmetic, result.operations / arithmetic.rate > memorySeconds {
      return (result.operations / arithmetic.rate / seconds, arithmetic.name)
    }
    return (memorySeconds / seconds, "copy")
  }
}
