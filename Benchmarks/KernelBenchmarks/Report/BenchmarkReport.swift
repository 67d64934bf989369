import VulkanAttention

/// One timed and verified workload.
public struct BenchmarkResult: Sendable {
  /// The workload's id.
  public let id: String
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
