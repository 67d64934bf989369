import AttentionReference
import VulkanAttention

/// Many decode steps in a row, as a server runs them, whose memory must stay flat.
///
/// Every step is a longer one: its kernel, its buffers, its workspace and its recorder are made anew and freed,
/// and its output is held against the reference now and then. Some times a device is opened, used and closed.
public struct DecodeSoak: Sendable {
  /// Steps in all.
  public var stepCount = 1000
  /// Steps whose memory is not judged: caches of the driver and of the C library fill first.
  public var warmUpCount = 200
  /// A device of its own is opened, used and closed so often.
  public var deviceCount = 40
  /// Devices whose memory is not judged.
  public var deviceWarmUpCount = 10
  /// How much more host memory may be resident at the end than after the warm-up: less than 6 KiB for each of a
  /// thousand steps, and more than the pages that an allocator keeps or gives back between two samples (on lavapipe
  /// up to 3.3 MiB from the tenth of thirty devices on, with no more after sixty than after thirty).
  public var toleratedHostBytes = 4 << 20
  /// How much host memory each device may leave behind, beside that.
  public var toleratedHostBytesPerDevice = 256 << 10

  /// A soak with its defaults.
  public init() {}

  /// The memory at one time.
  public struct Sample: Sendable {
    /// Steps, or devices, before it.
    public let count: Int
    /// Resident bytes of the process; nil where the system does not tell.
    public let hostByteCount: Int?
    /// Bytes that the device's pools hold.
    public let reservedByteCount: Int
    /// Bytes of them that buffers hold.
    public let allocatedByteCount: Int
  }

  /// What was measured.
  public struct Report: Sendable {
    /// Over the steps, the last one after all of them.
    public internal(set) var steps: [Sample] = []
    /// After each device that was opened and closed.
    public internal(set) var devices: [Sample] = []
    /// The largest relative RMS error of an output that was checked.
    public internal(set) var worstError = 0.0
    /// What is wrong; empty where memory is flat and outputs are right.
    public internal(set) var problems: [String] = []
  }

  private static let batch = 2
  private static let firstLength = 16

  /// Runs all steps.
  ///
  /// - Parameters:
  ///   - open: opens a device; called once for the steps and once for each device that is opened and closed.
  ///   - progress: hears every sample.
  public func run(
    open: () throws(VulkanError) -> ComputeDevice, progress: (Sample) -> Void = { _ in }
  ) async throws -> Report {
    var report = Report()
    let problem = try makeProblem()
    let device = try open()
    let caches = try await Caches(problem, on: device)
    let baseline = device.allocatedByteCount
    let interval = max(1, stepCount / 20)
    // The longest first: what grows with the lengths has then grown.
    try await step(stepCount - 1, problem, caches, device, &report)
    for index in 0..<stepCount {
      let isSampled = index % interval == 0 || index == warmUpCount
      if isSampled { sample(index, device, &report.steps, progress) }
      try await step(index, problem, caches, device, &report)
    }
    sample(stepCount, device, &report.steps, progress)
    if device.allocatedByteCount != baseline {
      report.problems.append(
        "device memory: \(device.allocatedByteCount) bytes in buffers after \(stepCount) steps, "
          + "\(baseline) before them")
    }
    report.problems += Self.growth(
      of: report.steps, from: warmUpCount, tolerating: toleratedHostBytes, "steps")
    for index in 0..<deviceCount {
      let other = try open()
      let otherCaches = try await Caches(problem, on: other)
      try await step(index % stepCount, problem, otherCaches, other, &report)
      sample(index + 1, device, &report.devices, progress)
    }
    let judgedDevices = max(0, deviceCount - deviceWarmUpCount)
    report.problems += Self.growth(
      of: report.devices, from: deviceWarmUpCount,
      tolerating: toleratedHostBytes + toleratedHostBytesPerDevice * judgedDevices, "devices")
    return report
  }

  /// What is wrong with memory from a number of steps or devices on.
  static func growth(
    of samples: [Sample], from first: Int, tolerating tolerance: Int, _ what: String
  ) -> [String] {
    guard let start = samples.first(where: { $0.count >= first }), let end = samples.last,
      end.count > start.count
    else { return [] }
    var problems: [String] = []
    if end.reservedByteCount > start.reservedByteCount {
      problems.append(
        "device memory: \(end.reservedByteCount) bytes in pools after \(end.count) \(what), "
          + "\(start.reservedByteCount) after \(start.count)")
    }
    if let before = start.hostByteCount, let after = end.hostByteCount, after - before > tolerance {
      problems.append(
        "host memory: \(after) bytes resident after \(end.count) \(what), \(before) after "
          + "\(start.count); allowed are \(tolerance) more")
    }
    return problems
  }

  private func sample(
    _ count: Int, _ device: ComputeDevice, _ samples: inout [Sample], _ progress: (Sample) -> Void
  ) {
    HostMemory.trim()
    let sample = Sample(
      count: count, hostByteCount: HostMemory.residentByteCount,
      reservedByteCount: device.reservedByteCount, allocatedByteCount: device.allocatedByteCount)
    samples.append(sample)
    progress(sample)
  }

  /// Small heads and full-length caches in f32.
  private func makeProblem() throws -> DecodeProblem {
    let tokens = Self.firstLength + stepCount
    let cache = try CacheTensor(
      .f32, .contiguous(sequences: Self.batch, capacity: tokens), heads: 2, channels: 16)
    let request = try DecodeRequest(
      batchSize: Self.batch, queryHeads: 4, keyCache: cache, valueCache: cache,
      maxKeyTokens: tokens, elementType: .f32, returnsLogSumExp: true)
    return DecodeProblem(
      request, lengths: [Int](repeating: tokens, count: Self.batch), seed: "soak")
  }

  /// The keys and values on a device.
  private struct Caches {
    let keys: DeviceBuffer
    let values: DeviceBuffer

    init(_ problem: DecodeProblem, on device: ComputeDevice) async throws {
      keys = try await device.makeBuffer(problem.keys.bytes, label: "keys")
      values = try await device.makeBuffer(problem.values?.bytes ?? [], label: "values")
    }
  }

  /// One step from its plan to its output, with nothing kept.
  private func step(
    _ index: Int, _ problem: DecodeProblem, _ caches: Caches, _ device: ComputeDevice,
    _ report: inout Report
  ) async throws {
    let request = problem.request
    let attention = request.attention
    // The second sequence is half as long.
    let length = Self.firstLength + index
    let lengths = [length, length / 2]
    let kernel = try DecodeKernel(request, on: device)
    let schedule = try kernel.plan.schedule(lengths: lengths)
    let query = try await device.makeBuffer(problem.query, label: "query")
    let output = try device.makeBuffer(byteCount: attention.byteCount(of: .output))
    let logSumExp = try device.makeBuffer(byteCount: attention.logSumExpByteCount)
    let workspace = try device.makeBuffer(
      byteCount: kernel.plan.workspaceByteCount(for: schedule), label: "workspace")
    let recorder = try device.makeRecorder()
    let prepared = try kernel.prepare(schedule, workspace: workspace, into: recorder)
    try kernel.record(
      DecodeBuffers(
        query: query, keyCache: caches.keys, valueCache: caches.values, output: output,
        logSumExp: logSumExp), step: prepared, into: recorder)
    try await device.submit(recorder).completed()
    let o = try await device.download(Float.self, from: output)
    guard index % max(1, stepCount / 5) == 0 || index == stepCount - 1 else { return }
    let expected = DecodeProblem(
      request, lengths: lengths, query: problem.query, key: problem.keys.values,
      value: problem.values?.values
    ).expected()
    let error = ErrorMeasure.relativeRMS(actual: o, expected: expected.o)
    report.worstError = max(report.worstError, error.error)
    if !error.isWithin(1e-5) {
      report.problems.append("step \(index): o is off by \(error.error), allowed is 1e-5")
    }
  }
}
