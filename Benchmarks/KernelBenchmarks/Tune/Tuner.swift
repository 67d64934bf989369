import VulkanAttention

/// What became of the search for one class of shapes.
public struct TuningOutcome: Sendable {
  /// How a search ended.
  public enum Verdict: Sendable, Hashable {
    /// A tile is faster than the built-in one by more than the noise.
    case found
    /// The built-in tile is as fast as any that was tried.
    case kept(String)
    /// It could not be searched.
    case failed(String)
  }

  /// The workload that was measured.
  public let workload: String
  /// The class of shapes.
  public let key: String
  /// The built-in tile's seconds, the least of some runs.
  public let builtInSeconds: Double?
  /// The tile that was found.
  public let entry: Tuning.Entry?
  /// Tiles that were timed.
  public let triedCount: Int
  /// Tiles that the plan, the device or the driver refused.
  public let refusedCount: Int
  /// Tiles whose results were wrong, with what was wrong; never expected.
  public let wrong: [String]
  /// How the search ended.
  public let verdict: Verdict
}

/// Whether a tile is faster than another by more than the noise, from interleaved runs.
public struct PairedComparison: Sendable, Hashable {
  /// The built-in tile's time over the candidate's, the median over all pairs of runs.
  public let median: Double
  /// Nine tenths of the pairs are at least this.
  public let p10: Double

  /// The rule in words.
  public static let rule = """
    of 15 pairs of interleaved runs the built-in tile's time over the tuned one's is 1.03 or more in the \
    median, and above 1 in nine of ten pairs
    """

  /// Compares pairs of runs; nil without any, or with times that are none.
  public init?(builtIn: [Double], candidate: [Double]) {
    guard builtIn.count == candidate.count,
      let ratios = SampleStatistics(zip(builtIn, candidate).map { $0 / $1 })
    else { return nil }
    median = ratios.median
    p10 = ratios.p10
  }

  /// Whether the candidate is faster by more than the noise.
  public var isFaster: Bool { median >= 1 + BenchmarkComparison.leastChange && p10 > 1 }
}

/// Searches for faster tiles on a device: from each path's built-in tile along neighbours that differ in one number, as
/// long as they are faster, and holds the best against the built-in one again by turns.
public struct Tuner {
  private let device: ComputeDevice
  private let time: String
  /// Whether the search is to end at once.
  private let isInterrupted: @Sendable () -> Bool
  private let progress: (String) -> Void

  private static let samples = 3
  /// Pairs of runs that decide.
  static let pairs = 15
  /// A tile is followed where it is faster by so much: less is noise, of which a search would make a walk.
  private static let leastGain = 1.01

  /// A search on a device.
  ///
  /// - Parameters:
  ///   - device: where it runs.
  ///   - time: when, for the entries.
  ///   - isInterrupted: asked between runs.
  ///   - progress: called with what is tried.
  public init(
    on device: ComputeDevice, time: String, isInterrupted: @escaping @Sendable () -> Bool,
    progress: @escaping (String) -> Void
  ) {
    self.device = device
    self.time = time
    self.isInterrupted = isInterrupted
    self.progress = progress
  }

  /// Searches for one workload's class of shapes.
  ///
  /// - Parameters:
  ///   - workload: what is measured.
  ///   - seconds: how long, about: what is running then is ended, and the best tile is validated.
  /// - Returns: what was found; nil where the search was interrupted.
  public func tune(_ workload: BenchmarkWorkload, seconds: Double) async -> TuningOutcome? {
    var search = Search(workload)
    let clock = ContinuousClock()
    let end = clock.now + .seconds(seconds)
    func isOver() -> Bool { isInterrupted() || clock.now >= end }
    do {
      search.key = try workload.tuningKey()
      let builtIn = try await WorkloadBenchmark(on: device).prepare(workload)
      let builtInSeconds = try await least(builtIn)
      search.builtInSeconds = builtInSeconds
      var best: (tile: Tuning.Tile, seconds: Double, run: PreparedWorkload)?
      var tried: Set<Tuning.Tile> = []
      func measure(_ tile: Tuning.Tile) async throws {
        guard tried.insert(tile).inserted else { return }
        progress("\(workload.id) \(search.triedCount + 1): \(tile.summary)")
        guard let run = try await prepared(workload, tile, &search) else { return }
        search.triedCount += 1
        let seconds = try await least(run, atMost: 2 * (best?.seconds ?? builtInSeconds))
        if seconds * Self.leastGain < best?.seconds ?? .infinity { best = (tile, seconds, run) }
      }
      let starts = workload.builtInTiles(on: device.capabilities)
      for tile in starts where !isOver() { try await measure(tile) }
      var center = best?.tile
      while let tile = center, !isOver() {
        for neighbour in tile.neighbours where !isOver() { try await measure(neighbour) }
        center = best?.tile == tile ? nil : best?.tile
      }
      if isInterrupted() { return nil }
      guard let best, best.tile != starts.first else {
        return search.outcome(.kept("none of \(search.triedCount) tiles is faster"))
      }
      progress("\(workload.id): once more, by turns")
      guard let pairs = try await comparePairs(builtIn, best.run) else { return nil }
      guard pairs.isFaster else {
        return search.outcome(
          .kept(
            "by turns the best of \(search.triedCount) was \(Numbers.fixed(pairs.median, decimals: 2)) "
              + "times as fast, not more than the noise"))
      }
      search.entry = Tuning.Entry(
        best.tile, speedup: pairs.median, workload: workload.id, time: time)
      return search.outcome(.found)
    } catch {
      return search.outcome(.failed("\(error)"))
    }
  }

  /// A workload with a tile of one's own; nil where it cannot run or is wrong.
  private func prepared(
    _ workload: BenchmarkWorkload, _ tile: Tuning.Tile, _ search: inout Search
  ) async throws -> PreparedWorkload? {
    let tuning = Tuning([
      search.key: .init(tile, speedup: 1, workload: workload.id, time: time)
    ])
    guard try workload.usesTuning(tuning, on: device.capabilities) else {
      search.refusedCount += 1
      return nil
    }
    do {
      return try await WorkloadBenchmark(on: device, tuning: tuning).prepare(workload)
    } catch let refusal as BenchmarkRefusal {
      search.wrong.append("\(tile.summary): \(refusal.description)")
      return nil
    } catch AttentionError.device(.deviceLost(let device, let call)) {
      throw AttentionError.device(.deviceLost(device: device, during: call))
    } catch is AttentionError {
      // A driver may refuse to compile what the limits allow.
      search.refusedCount += 1
      return nil
    }
  }

  /// The least seconds of some runs, after one that warms up; of fewer where one takes longer than a bound.
  private func least(_ run: PreparedWorkload, atMost bound: Double = .infinity) async throws
    -> Double
  {
    var least = try await run.once()
    for _ in 0..<Self.samples where least < bound && !isInterrupted() {
      least = min(least, try await run.once())
    }
    return least
  }

  /// Both by turns, each first as often as the other; nil where interrupted.
  private func comparePairs(
    _ builtIn: PreparedWorkload, _ candidate: PreparedWorkload
  ) async throws -> PairedComparison? {
    _ = (try await builtIn.once(), try await candidate.once())
    var seconds: (builtIn: [Double], candidate: [Double]) = ([], [])
    for pair in 0..<Self.pairs {
      if isInterrupted() { return nil }
      if pair % 2 == 0 {
        seconds.builtIn.append(try await builtIn.once())
        seconds.candidate.append(try await candidate.once())
      } else {
        seconds.candidate.append(try await candidate.once())
        seconds.builtIn.append(try await builtIn.once())
      }
    }
    return PairedComparison(builtIn: seconds.builtIn, candidate: seconds.candidate)
  }

  /// What is known so far.
  private struct Search {
    let workload: String
    var key = ""
    var builtInSeconds: Double?
    var entry: Tuning.Entry?
    var triedCount = 0
    var refusedCount = 0
    var wrong: [String] = []

    init(_ workload: BenchmarkWorkload) { self.workload = workload.id }

    func outcome(_ verdict: TuningOutcome.Verdict) -> TuningOutcome {
      TuningOutcome(
        workload: workload, key: key, builtInSeconds: builtInSeconds, entry: entry,
        triedCount: triedCount, refusedCount: refusedCount, wrong: wrong, verdict: verdict)
    }
  }
}

extension BenchmarkWorkload {
  /// The class of shapes that a tile found with it is for.
  func tuningKey() throws(AttentionError) -> String {
    switch problem {
    case .attention(let workload): try workload.request().tuningKey
    case .decode(let workload): try workload.request().tuningKey
    case .linear(let workload): try workload.request().tuningKey
    }
  }

  /// The built-in tile of each path that can run it here, that of the plan's own choice first.
  func builtInTiles(on device: DeviceCapabilities) -> [Tuning.Tile] {
    let paths = [nil] + AttentionPath.allCases.map { Optional($0) }
    var tiles: [Tuning.Tile] = []
    func add(_ tile: Tuning.Tile?) {
      if let tile, !tiles.contains(tile) { tiles.append(tile) }
    }
    switch problem {
    case .attention(let workload):
      for path in paths {
        let plan = try? AttentionPlan(workload.request(), device: device, path: path)
        add(plan.map { .attention($0.tile.parameters) })
      }
    case .decode(let workload):
      for path in paths {
        let plan = try? DecodePlan(workload.request(), device: device, path: path)
        add(plan.map { .decode($0.tile.parameters) })
      }
    case .linear(let workload):
      for choice in [LinearAttentionChoice()] + LinearAttentionChoice.all {
        let plan = try? choice.plan(workload.request(), device: device)
        add(plan.map { .linear($0.tileParameters) })
      }
    }
    return tiles
  }

  /// Whether a plan takes a tuning's tile.
  func usesTuning(_ tuning: Tuning, on device: DeviceCapabilities) throws(AttentionError) -> Bool {
    switch problem {
    case .attention(let workload):
      try AttentionPlan(workload.request(), device: device, tuning: tuning).isTuned
    case .decode(let workload):
      try DecodePlan(workload.request(), device: device, tuning: tuning).isTuned
    case .linear(let workload):
      try LinearAttentionPlan(workload.request(), device: device, tuning: tuning).isTuned
    }
  }

  /// What is tuned where no shapes are given: one workload for each class that models have most of.
  public static let tuningTargets: [BenchmarkWorkload] = {
    let attention = [64, 128].flatMap { headSize in
      [ElementType.f16, .f32].flatMap { type in
        [false, true].map { isCausal in
          BenchmarkWorkload(
            AttentionWorkload(
              AttentionShape(queryTokens: 1024, queryHeads: 8, headSize: headSize), type,
              isCausal: isCausal))
        }
      }
    }
    let linear = [LinearAttentionModel.lightning, .gatedDelta].flatMap { model in
      [16, 64, 1024].map { tokens in
        BenchmarkWorkload(
          LinearAttentionWorkload(model, tokens: tokens, heads: 8, headSize: 128, .f32))
      }
    }
    return attention + DecodeWorkload.quick.map { BenchmarkWorkload($0) } + linear
  }()
}

extension Tuning.Tile {
  /// Tiles that differ in one number.
  var neighbours: [Tuning.Tile] {
    switch self {
    case .attention(let tile): tile.neighbours.map { .attention($0) }
    case .decode(let tile): tile.neighbours.map { .decode($0) }
    case .linear(let tile): tile.neighbours.map { .linear($0) }
    }
  }

  /// The numbers in a line.
  public var summary: String {
    func flag(_ name: String, _ isSet: Bool) -> String { isSet ? " \(name)" : "" }
    switch self {
    case .attention(.row(let tile)):
      return "row keys=\(tile.keysPerBlock) workgroup=\(tile.workgroupSize)"
        + flag("packed", tile.isPacked)
    case .attention(.subgroup(let tile)):
      return "subgroup rows=\(tile.rowsPerLane) lanes=\(tile.lanesPerRow) tile=\(tile.keyTile) "
        + "step=\(tile.keyStep) workgroup=\(tile.workgroupSize)" + flag("staged", tile.isStaged)
        + flag("widened", tile.isWidened)
        + flag("problems=\(tile.problemsPerWorkgroup)", tile.problemsPerWorkgroup > 1)
    case .attention(.matrix(let tile)), .attention(.matrix2(let tile)):
      let path = self == .attention(.matrix(tile)) ? "matrix" : "matrix2"
      return "\(path) fragments=\(tile.rowFragments) tile=\(tile.keyTile) "
        + "subgroups=\(tile.subgroups)" + flag("query-in-shared", tile.keepsQueryInShared)
        + flag("prefetch", tile.prefetches)
    case .decode(let tile):
      let shape =
        switch tile.shape {
        case .row(let keys): "keys=\(keys)"
        case .subgroup(let rows, let subgroups): "rows=\(rows) subgroups=\(subgroups)"
        case .matrix(let rows, let keys, let subgroups, let parts, let prefetches):
          "fragments=\(rows) tile=\(keys) subgroups=\(subgroups) parts=\(parts)"
            + flag("prefetch", prefetches)
        }
      return "\(tile.path.rawValue) \(shape) groups=\(tile.groups)"
    case .linear(let tile):
      return "\(tile.form.rawValue) \(tile.path.rawValue) rows=\(tile.blockRows) "
        + "workgroup=\(tile.workgroupSize)"
    }
  }
}
