/// How well a way to cut the work fills a device: figures of a model, not measurements.
///
/// A worker takes one work item at a time, for as long as the item's tiles cost. The model knows no
/// bandwidth limit, no launch and no merge.
public struct ScheduleEfficiency: Sendable, Hashable {
  /// A way to cut the work of a decode step.
  public enum Strategy: String, Sendable, Hashable, CaseIterable {
    /// The schedule that was asked.
    case own
    /// One work item for each problem.
    case oneSplit = "one split per head"
    /// One number of splits for the whole batch, chosen as FlashAttention does.
    case commonSplits = "common split count"
    /// Chunks of one length for the whole batch, chosen as FlashInfer does.
    case commonChunk = "common chunk length"
    /// One number of splits for the whole batch, chosen as ggml's Vulkan backend does.
    case twoPerCore = "two work items per core"
  }

  /// How the work is cut.
  public let strategy: Strategy
  /// Work items.
  public let items: Int
  /// Partial results that are merged afterwards.
  public let partials: Int
  /// The splits of the longest sequence.
  public let splits: Int
  /// The cost after which the last worker is done.
  public let makespan: UInt64
  /// The cost of a worker's equal share, rounded up: no cut does better.
  public let ideal: UInt64

  /// ``ideal`` / ``makespan``, 1 for no work at all.
  public var efficiency: Double { makespan == 0 ? 1 : Double(ideal) / Double(makespan) }
}

extension LeanSchedule {
  /// How well this schedule and the heuristics of other libraries fill a device with this batch.
  ///
  /// All cut at tiles of this schedule's length. The rules, in the words of this file:
  ///
  /// - *common split count* (FlashAttention 2 and 3, `num_splits_heuristic`,
  ///   https://github.com/Dao-AILab/flash-attention): one split where the problems fill 80 % of the
  ///   workers. Otherwise, for each number of splits up to 128, the workers and the tiles of the longest
  ///   sequence, leaving out those that do not make splits shorter, let waves = problems · splits /
  ///   workers and efficiency = waves / ⌈waves⌉; the smallest number is taken that reaches 85 % of the
  ///   best efficiency. Each sequence is cut in so many parts.
  /// - *common chunk length* (FlashInfer's decode plan, https://arxiv.org/abs/2501.01005): whole problems
  ///   where they are as many as the workers; otherwise the smallest length, at least 128 keys, for which
  ///   all chunks together are no more than the workers, found by binary search.
  /// - *two work items per core* (ggml's Vulkan backend, https://github.com/ggml-org/llama.cpp): workers,
  ///   being twice the cores, / problems, rounded down, is the number of splits; their length is that of
  ///   the longest sequence over it, in whole tiles.
  ///
  /// Items are handed out in their order, each to the worker that is free first.
  ///
  /// - Parameter workers: work items that run at the same time, at most 65 536; nil for this schedule's groups.
  public func efficiencies(workers: Int? = nil) -> [ScheduleEfficiency] {
    let workers = min(max(1, workers ?? groupCount), 1 << 16)
    return ScheduleEfficiency.Strategy.allCases.map { efficiency($0, workers: workers) }
  }

  private func efficiency(
    _ strategy: ScheduleEfficiency.Strategy, workers: Int
  ) -> ScheduleEfficiency {
    let ideal = (totalCost + UInt64(workers) - 1) / UInt64(workers)
    var clock = WorkerClock(workers: workers)
    func result(items: Int, partials: Int, splits: Int) -> ScheduleEfficiency {
      ScheduleEfficiency(
        strategy: strategy, items: items, partials: partials, splits: splits,
        makespan: clock.makespan, ideal: ideal)
    }
    if strategy == .own {
      for cost in groupCosts() { clock.run(cost) }
      let splits = mergeWords.reduce(tileCount > 0 ? 1 : 0) { max($0, Int($1.z)) }
      return result(items: groupCount, partials: partialCount, splits: splits)
    }

    let tiles = sequences.map { $0.tiles(length: Int32(tileLength)).count }
    let longest = tiles.max() ?? 0
    /// Tiles of a work item of a sequence of some tiles.
    let portion: (Int) -> Int
    switch strategy {
    case .own, .oneSplit: portion = { $0 }
    case .commonSplits:
      let splits = Self.commonSplits(problems: problemCount, workers: workers, tiles: longest)
      portion = { ceilingDivide($0, splits) }
    case .commonChunk:
      let chunk = Self.commonChunk(
        tiles, heads: keyHeads, workers: workers, least: ceilingDivide(128, tileLength))
      portion = { min($0, chunk) }
    case .twoPerCore:
      let splits = max(1, workers / max(1, problemCount))
      let chunk = max(1, ceilingDivide(longest, splits))
      portion = { min($0, chunk) }
    }
    var items = 0
    var partials = 0
    var mostSplits = 0
    for (sequence, tiles) in zip(sequences, tiles) where tiles > 0 {
      let portion = max(1, portion(tiles))
      let splits = ceilingDivide(tiles, portion)
      mostSplits = max(mostSplits, splits)
      items += splits * keyHeads
      if splits > 1 { partials += splits * keyHeads }
      for _ in 0..<keyHeads {
        for split in 0..<splits {
          let count = min(portion, tiles - split * portion)
          clock.run(UInt64(count) * UInt64(sequence.tileCost))
        }
      }
    }
    return result(items: items, partials: partials, splits: mostSplits)
  }

  /// The cost of each group's tiles.
  public func groupCosts() -> [UInt64] {
    (0..<groupCount).map { group in
      segments(ofGroup: group).reduce(0) { sum, index in
        let segment = segment(index)
        let cost = sequences[segment.problem / keyHeads].tileCost
        return sum + UInt64(segment.tiles.count) * UInt64(cost)
      }
    }
  }

  /// The number of splits that FlashAttention's rule takes.
  static func commonSplits(problems: Int, workers: Int, tiles: Int) -> Int {
    // 0.8 of the workers, in whole numbers.
    if 5 * problems >= 4 * workers || tiles <= 1 { return 1 }
    let candidates = (1...min(128, workers, tiles)).filter {
      $0 == 1 || ceilingDivide(tiles, $0) != ceilingDivide(tiles, $0 - 1)
    }
    func efficiency(_ splits: Int) -> Double {
      let waves = Double(problems * splits) / Double(workers)
      return waves == 0 ? 1 : waves / waves.rounded(.up)
    }
    let best = candidates.map(efficiency).max() ?? 1
    return candidates.first { efficiency($0) >= 0.85 * best } ?? 1
  }

  /// The tiles of a chunk that FlashInfer's rule takes.
  static func commonChunk(_ tiles: [Int], heads: Int, workers: Int, least: Int) -> Int {
    let longest = max(1, tiles.max() ?? 0)
    if tiles.count * heads >= workers { return longest }
    func items(_ chunk: Int) -> Int {
      tiles.reduce(0) { $0 + ceilingDivide($1, chunk) } * heads
    }
    var low = min(least, longest)
    var high = longest
    while low < high {
      let middle = (low + high) / 2
      if items(middle) <= workers { high = middle } else { low = middle + 1 }
    }
    return low
  }
}

/// Workers that take work items in their order, each when it is free: a heap of the times.
private struct WorkerClock {
  private var times: [UInt64]
  private(set) var makespan: UInt64 = 0

  init(workers: Int) { times = Array(repeating: 0, count: workers) }

  mutating func run(_ cost: UInt64) {
    let end = times[0] + cost
    makespan = max(makespan, end)
    var place = 0
    while true {
      var child = 2 * place + 1
      guard child < times.count else { break }
      if child + 1 < times.count, times[child + 1] < times[child] { child += 1 }
      guard times[child] < end else { break }
      times[place] = times[child]
      place = child
    }
    times[place] = end
  }
}
