import VulkanAttention

/// What a driver's compiler says of the pipelines that a workload needs; nothing is run.
///
/// A driver that compiles for hardware that is not there is enough: Mesa's RADV before version 26 with
/// `RADV_FORCE_FAMILY`, for example.
public struct WorkloadPipelines: Sendable {
  /// The workload's id.
  public let id: String
  /// The path and the tile.
  public let tile: String
  /// The pipelines, by name.
  public let pipelines: [WorkloadProfile.Pipeline]

  /// Compiles what a workload needs.
  ///
  /// - Parameters:
  ///   - workload: what would be run.
  ///   - device: a device that nothing else was compiled on, opened with `keepsPipelineStatistics`.
  ///   - choice: which way, of an attention or a decode step.
  ///   - linear: which way, of a linear attention.
  ///   - tuning: the user's tuned tiles.
  /// - Throws: `AttentionError` (`pathUnavailable` where the path cannot run), `VulkanError`.
  public static func compile(
    _ workload: BenchmarkWorkload, on device: ComputeDevice,
    _ choice: AttentionPathChoice = .automatic,
    linear: LinearAttentionChoice = LinearAttentionChoice(), tuning: Tuning = .none
  ) throws -> WorkloadPipelines {
    let capabilities = device.capabilities
    let tile: String
    switch workload.problem {
    case .attention(let attention):
      let plan = try choice.plan(attention.request(), device: capabilities, tuning: tuning)
      _ = try AttentionKernel(plan, on: device)
      tile = "\(plan.path.rawValue), \(plan.tile.summary)"
    case .decode(let decode):
      let plan = try DecodePlan(
        decode.request(), device: capabilities, path: choice.path, tile: choice.tile,
        tuning: tuning)
      _ = try DecodeKernel(plan, on: device)
      tile =
        "\(plan.path.rawValue), \(plan.summary(of: try plan.schedule(lengths: decode.lengths)))"
    case .linear(let attention):
      let plan = try linear.plan(attention.request(), device: capabilities, tuning: tuning)
      _ = try LinearAttentionKernel(plan, on: device)
      tile = "\(plan.wayName), \(plan.tileSummary)"
    }
    let pipelines = try device.compiledPipelines.map { pipeline throws(VulkanError) in
      try WorkloadProfile.Pipeline(pipeline)
    }
    return WorkloadPipelines(id: workload.id, tile: tile, pipelines: pipelines)
  }

  /// The figures as JSON.
  public var json: JSONText {
    ["id": .string(id), "tile": .string(tile), "pipelines": .array(pipelines.map(\.json))]
  }

  /// The figures for people.
  public var lines: [String] { ["\(id), \(tile)"] + pipelines.flatMap(\.lines) }
}

extension WorkloadProfile.Pipeline {
  /// The figures as JSON.
  var json: JSONText {
    [
      "name": .string(name),
      "executables": .array(
        statistics.map { program in
          [
            "name": .string(program.executable), "subgroup_size": .integer(program.subgroupSize),
            "statistics": .object(
              program.figures.map { figure in
                let value: JSONText =
                  switch figure.value {
                  case .flag(let value): .bool(value)
                  case .signed(let value): .integer(Int(value))
                  case .unsigned(let value): .integer(Int(clamping: value))
                  case .real(let value): .number(value)
                  }
                return .init(figure.name, value)
              }),
          ]
        }),
    ]
  }

  /// Some lines for each program, in the driver's words, without what only names the program.
  var lines: [String] {
    statistics.flatMap { program in
      var lines = ["pipeline: \(name), subgroups of \(program.subgroupSize)"]
      var line = ""
      for figure in program.figures where !figure.name.lowercased().hasSuffix("hash") {
        let text = "\(figure.name) \(figure.value)"
        if line.count + text.count > 96 {
          lines.append("  \(line),")
          line = text
        } else {
          line += line.isEmpty ? text : ", \(text)"
        }
      }
      return line.isEmpty ? lines : lines + ["  \(line)"]
    }
  }
}
