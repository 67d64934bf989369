import VulkanAttention

/// Where the time of one workload goes: on the host, and on the device in each dispatch.
public struct WorkloadProfile: Sendable {
  /// A part of the host's time.
  public struct Phase: Sendable, Hashable {
    /// What the host does.
    public let name: String
    /// How long, over some runs; the first pipelines are made once.
    public let seconds: SampleStatistics
  }

  /// A dispatch.
  public struct Dispatch: Sendable, Hashable {
    /// The shader's name.
    public let name: String
    /// How long by the device's timestamps.
    public let seconds: SampleStatistics
  }

  /// What the driver's compiler says of one pipeline.
  public struct Pipeline: Sendable, Hashable {
    /// The shader's name.
    public let name: String
    /// A program of it with its figures; empty where the device has none to tell, or was not asked to keep them.
    public let statistics: [PipelineStatistics]

    /// Asks the driver.
    public init(_ pipeline: ComputePipeline) throws(VulkanError) {
      name = pipeline.name
      statistics = try pipeline.statistics()
    }
  }

  /// The workload's id.
  public let id: String
  /// Plan, pipeline, first run, record, submit, wait.
  public let phases: [Phase]
  /// The dispatches of one run in their order, the first 63 of them; empty where the device has no timestamps.
  public let dispatches: [Dispatch]
  /// The pipelines of the dispatches, each once.
  public let pipelines: [Pipeline]
  /// The path that ran, and its tile.
  public let path: String
  /// The tile.
  public let tile: String

  /// Verifies a workload, and measures it.
  ///
  /// - Parameters:
  ///   - workload: what is run.
  ///   - device: where.
  ///   - choice: which way, of an attention or a decode step.
  ///   - linear: which way, of a linear attention.
  ///   - tuning: the user's tuned tiles.
  ///   - count: how often each phase is measured; 1 or more.
  /// - Throws: as ``WorkloadBenchmark``.
  public static func measure(
    _ workload: BenchmarkWorkload, on device: ComputeDevice,
    _ choice: AttentionPathChoice = .automatic,
    linear: LinearAttentionChoice = LinearAttentionChoice(), tuning: Tuning = .none, count: Int = 50
  ) async throws -> WorkloadProfile {
    let prepared = try await WorkloadBenchmark(on: device, tuning: tuning)
      .prepare(workload, choice, linear: linear)
    let once = try await prepared.once()
    guard let timing = Timing(gpu: [once], wall: [once]) else {
      throw BenchmarkRefusal(description: "no sample was taken")
    }
    let result = prepared.result(timing)
    var seconds: [String: [Double]] = [:]
    var gpu: [[Double]] = []
    var ran: [ComputePipeline] = []
    let times = device.capabilities.timestampPeriod > 0
    for _ in 0..<max(1, count) {
      func measure<Result>(_ name: String, _ body: () throws -> Result) rethrows -> Result {
        let (time, result) = try timed(body)
        seconds[name, default: []].append(time)
        return result
      }
      try measure("plan") { try workload.checkPlan(on: device.capabilities) }
      let recorder = try measure("record") {
        let recorder = try device.makeRecorder()
        try prepared.record(recorder)
        return recorder
      }
      let submission = try measure("submit") { try device.submit(recorder) }
      try measure("wait") { try submission.wait() }
      guard times else { continue }
      // Timed apart: a timestamp after each dispatch costs time of its own.
      let timedRecorder = try device.makeRecorder()
      timedRecorder.timesDispatches = true
      try prepared.record(timedRecorder)
      ran = timedRecorder.timedDispatches
      let timedSubmission = try device.submit(timedRecorder)
      try timedSubmission.wait()
      let marks = try timedSubmission.timestamps()
      gpu.append(zip(marks, marks.dropFirst()).map { ($1 - $0) * 1e-9 })
    }
    var phases: [Phase] = []
    func add(_ name: String, _ samples: [Double]) {
      if let statistics = SampleStatistics(samples) {
        phases.append(Phase(name: name, seconds: statistics))
      }
    }
    add("plan", seconds["plan"] ?? [])
    add("pipelines, once", result.pipelineSeconds.map { [$0] } ?? [])
    add("first run, once", result.firstSeconds.map { [$0] } ?? [])
    for name in ["record", "submit", "wait"] { add(name, seconds[name] ?? []) }
    let dispatches = ran.enumerated().compactMap { index, pipeline in
      SampleStatistics(gpu.compactMap { $0.indices.contains(index) ? $0[index] : nil })
        .map { Dispatch(name: pipeline.name, seconds: $0) }
    }
    var seen: Set<ObjectIdentifier> = []
    let pipelines = try ran.filter { seen.insert(ObjectIdentifier($0)).inserted }
      .map { pipeline throws(VulkanError) in try Pipeline(pipeline) }
    return WorkloadProfile(
      id: workload.id, phases: phases, dispatches: dispatches, pipelines: pipelines,
      path: result.path, tile: result.tile)
  }

  /// The profile as JSON.
  public var json: JSONText {
    func statistics(_ name: String, _ value: SampleStatistics) -> JSONText {
      [
        "name": .string(name), "seconds_median": .number(value.median),
        "seconds_p10": .number(value.p10), "seconds_p90": .number(value.p90),
        "samples": .integer(value.count),
      ]
    }
    return [
      "id": .string(id), "path": .string(path), "tile": .string(tile),
      "host": .array(phases.map { statistics($0.name, $0.seconds) }),
      "dispatches": .array(dispatches.map { statistics($0.name, $0.seconds) }),
      "pipelines": .array(pipelines.map(\.json)),
    ]
  }

  /// The profile for people; dispatches of one shader that follow each other are one row.
  public var lines: [String] {
    var table = TextTable([
      ("", .left), ("median", .right), ("p10", .right), ("p90", .right), ("", .left),
    ])
    func row(_ name: String, _ seconds: SampleStatistics, _ note: String) {
      table.add([
        name, Numbers.seconds(seconds.median), Numbers.seconds(seconds.p10),
        Numbers.seconds(seconds.p90), note,
      ])
    }
    for phase in phases { row("host: \(phase.name)", phase.seconds, "") }
    let total = dispatches.reduce(0) { $0 + $1.seconds.median }
    for dispatch in dispatches {
      row(
        "device: \(dispatch.name)", dispatch.seconds,
        total > 0 ? Numbers.percent(dispatch.seconds.median / total) : "")
    }
    return ["\(id), \(path), \(tile)"] + table.lines + pipelines.flatMap(\.lines)
  }
}
