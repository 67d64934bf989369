import KernelBenchmarks
import VulkanAttention

/// How a decode step would run on a device.
struct DecodePlanReport {
  private let workload: DecodeWorkload
  private let plan: DecodePlan
  private let schedule: LeanSchedule
  private let device: DeviceCapabilities
  private let explains: Bool

  /// - Parameters:
  ///   - shape: B and T are those of `lengths` where these are not empty.
  ///   - fixedSplit: keys of a split of the fixed mode; nil for the lean mode.
  ///   - explains: whether the cuts of other libraries are shown as well.
  init(
    _ shape: AttentionShape, _ type: ElementType, lengths: [Int], path: AttentionPathChoice,
    fixedSplit: Int?, explains: Bool, device: DeviceCapabilities, tuning: Tuning
  ) throws(AttentionError) {
    var shape = shape
    if !lengths.isEmpty {
      shape.batchSize = lengths.count
      shape.keyTokens = max(1, lengths.max() ?? 0)
    }
    workload = DecodeWorkload(shape, type, lengths: lengths.isEmpty ? nil : lengths)
    plan = try DecodePlan(
      workload.request(), device: device, path: path.path, tile: path.tile,
      mode: fixedSplit.map { .fixed(tokensPerSplit: $0) }, tuning: tuning)
    schedule = try plan.schedule(lengths: workload.lengths)
    self.device = device
    self.explains = explains
  }

  private var efficiencies: [ScheduleEfficiency] { schedule.efficiencies() }

  var lines: [String] {
    let request = plan.request
    let tile = plan.tile
    let constants = tile.constants.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
    let keys = workload.lengths.reduce(0, +)
    let rows: [(String, String)] = [
      ("workload", workload.id),
      ("device", device.name),
      ("path", plan.path.rawValue),
      ("shader", tile.shaderName),
      (
        "tile",
        "\(tile.rows) rows of \(request.attention.queryTokens * request.attention.headsPerGroup), "
          + "\(tile.keys) keys, \(tile.workgroupSize) invocations, "
          + "\(Numbers.bytes(tile.sharedBytes)) shared"
          + (tile.subgroupSize.map { ", subgroups of \($0)" } ?? "")
      ),
      ("constants", constants.joined(separator: " ")),
      ("batch", "\(workload.lengths.count) sequences, \(keys) keys"),
      (
        "schedule",
        "\(schedule.tileCount) tiles of \(schedule.problemCount) problems in "
          + "\(schedule.groupCount) groups, \(schedule.segmentCount) segments"
      ),
      (
        "merge",
        "\(schedule.partialCount) partial results of \(schedule.mergeCount) problems"
      ),
      ("workspace", Numbers.bytes(plan.workspaceByteCount(for: schedule))),
      (
        "work",
        "\(Numbers.significant(request.floatingPointOperations(lengths: workload.lengths) * 1e-9)) "
          + "GFLOP, at least "
          + Numbers.bytes(Int(request.compulsoryBytes(lengths: workload.lengths)))
      ),
    ]
    var lines = planLines(rows, why: plan.explanation)
    if explains {
      var table = TextTable([
        ("cut", .left), ("items", .right), ("partials", .right), ("splits", .right),
        ("makespan", .right), ("ideal", .right), ("efficiency", .right),
      ])
      for row in efficiencies {
        table.add([
          row.strategy.rawValue, "\(row.items)", "\(row.partials)", "\(row.splits)",
          "\(row.makespan)", "\(row.ideal)",
          "\(Numbers.fixed(row.efficiency * 100, decimals: 1)) %",
        ])
      }
      lines += [""] + table.lines
    }
    return lines
  }

  var json: JSONText {
    [
      "id": .string(workload.id), "device": .string(device.name),
      "path": .string(plan.path.rawValue), "shader": .string(plan.tile.shaderName),
      "lengths": .array(workload.lengths.map(JSONText.integer)),
      "tile": [
        "rows": .integer(plan.tile.rows), "keys": .integer(plan.tile.keys),
        "workgroup_size": .integer(plan.tile.workgroupSize),
        "shared_bytes": .integer(plan.tile.sharedBytes),
        "provenance": .string(plan.tile.provenance),
      ],
      "groups": .integer(schedule.groupCount), "segments": .integer(schedule.segmentCount),
      "partials": .integer(schedule.partialCount), "merges": .integer(schedule.mergeCount),
      "workspace_bytes": .integer(plan.workspaceByteCount(for: schedule)),
      "cuts": .array(
        efficiencies.map { row in
          [
            "cut": .string(row.strategy.rawValue), "items": .integer(row.items),
            "partials": .integer(row.partials), "splits": .integer(row.splits),
            "makespan": .integer(Int(clamping: row.makespan)),
            "ideal": .integer(Int(clamping: row.ideal)),
            "efficiency": .number(row.efficiency),
          ]
        }),
      "why": .array(plan.explanation.map(JSONText.string)),
      "schedules": explains ? .array(bars.map(\.json)) : [],
    ]
  }

  /// The schedule beside whole problems and splits of 2048 keys, which servers have by default.
  private var bars: [ScheduleBars] {
    ScheduleBars.all(schedule, tilesPerSplit: [nil, max(1, 2048 / plan.tile.keys)])
  }
}
