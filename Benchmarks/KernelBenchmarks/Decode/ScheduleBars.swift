import VulkanAttention

/// Which tiles of a decode step each workgroup computes, and when, by a model in which every tile takes one unit of
/// time: what a Gantt chart shows.
public struct ScheduleBars: Sendable, Hashable {
  /// Consecutive tiles of one problem on one worker.
  public struct Bar: Sendable, Hashable {
    /// The workgroup.
    public let worker: Int
    /// When it begins.
    public let start: Int
    /// How long it takes.
    public let tiles: Int
    /// sequence · key heads and row tiles + head.
    public let problem: Int
  }

  /// How the work is cut, in words.
  public let name: String
  /// Workgroups that run at the same time.
  public let workers: Int
  /// When the last one is done.
  public let makespan: Int
  /// When all were done if they were equally busy.
  public let ideal: Int
  /// The work.
  public let bars: [Bar]

  private init(_ name: String, workers: Int, _ bars: [Bar]) {
    self.name = name
    self.workers = workers
    self.bars = bars
    makespan = bars.map { $0.start + $0.tiles }.max() ?? 0
    let total = bars.reduce(0) { $0 + $1.tiles }
    ideal = (total + workers - 1) / max(1, workers)
  }

  /// The schedule itself, and beside it cuts of one length for all, dealt out in their order to the worker that is
  /// free first.
  ///
  /// - Parameter tilesPerSplit: the lengths of the cuts to compare with; nil for whole problems.
  public static func all(_ schedule: LeanSchedule, tilesPerSplit: [Int?]) -> [ScheduleBars] {
    let workers = max(1, schedule.groupCount)
    let isFixed = if case .fixed = schedule.mode { true } else { false }
    var own: [Bar] = []
    for group in 0..<schedule.groupCount {
      var start = 0
      for index in schedule.segments(ofGroup: group) {
        let segment = schedule.segment(index)
        guard !segment.tiles.isEmpty else { continue }
        own.append(
          Bar(worker: group, start: start, tiles: segment.tiles.count, problem: segment.problem))
        start += segment.tiles.count
      }
    }
    return [ScheduleBars(isFixed ? "fixed splits" : "lean", workers: workers, own)]
      + tilesPerSplit.map { dealt(schedule, $0, workers: workers) }
  }

  private static func dealt(
    _ schedule: LeanSchedule, _ tilesPerSplit: Int?, workers: Int
  ) -> ScheduleBars {
    var free = Array(repeating: 0, count: workers)
    var bars: [Bar] = []
    for (index, sequence) in schedule.sequences.enumerated() {
      let tiles = sequence.tiles(length: Int32(schedule.tileLength)).count
      for head in 0..<schedule.keyHeads {
        var done = 0
        while done < tiles {
          let count = min(tilesPerSplit.map { max(1, $0) } ?? tiles, tiles - done)
          let worker = free.indices.min { free[$0] < free[$1] } ?? 0
          bars.append(
            Bar(
              worker: worker, start: free[worker], tiles: count,
              problem: index * schedule.keyHeads + head))
          free[worker] += count
          done += count
        }
      }
    }
    let name =
      tilesPerSplit.map { "splits of \($0 * schedule.tileLength) keys" }
      ?? "a split for each problem"
    return ScheduleBars(name, workers: workers, bars)
  }

  /// The bars as JSON.
  public var json: JSONText {
    [
      "name": .string(name), "workers": .integer(workers), "makespan": .integer(makespan),
      "ideal": .integer(ideal),
      "bars": .array(
        bars.map { bar in
          [
            "worker": .integer(bar.worker), "start": .integer(bar.start),
            "tiles": .integer(bar.tiles), "problem": .integer(bar.problem),
          ]
        }),
    ]
  }
}
