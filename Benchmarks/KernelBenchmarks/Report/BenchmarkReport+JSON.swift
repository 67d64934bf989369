/// The report for programs.
extension BenchmarkReport {
  /// The version of the format, which `Benchmarks/results/FORMAT.md` documents.
  public static let formatVersion = 2

  /// One object: `device`, `driver`, `commit` and `results`, and what else was measured.
  public var json: JSONText {
    [
      "format": "vulkan-attention-bench", "version": .integer(Self.formatVersion),
      "time": .string(time), "device_uuid": .string(deviceUUID),
      "driver_uuid": .string(driverUUID), "device": .string(device), "driver": .string(driver),
      "commit": .string(commit),
      "ceilings": ceilings.map { ceilings in
        [
          "copy_gbps": .number(ceilings.copyBytesPerSecond * 1e-9),
          "fma_gflops": JSONText(ceilings.fmaOperationsPerSecond.map { $0 * 1e-9 }),
          "matrix_gflops": JSONText(ceilings.matrixOperationsPerSecond.map { $0 * 1e-9 }),
        ]
      } ?? .null,
      "decode_host": decodeHost.map { host in
        [
          "sequences": .integer(DecodeHostTiming.sequences),
          "schedule_seconds": .number(host.scheduleSeconds),
          "update_seconds": .number(host.updateSeconds),
          "prepare_seconds": .number(host.prepareSeconds),
          "record_seconds": .number(host.recordSeconds), "count": .integer(host.count),
        ]
      } ?? .null,
      "host": host.map { host in
        [
          "plan_seconds": .number(host.planSeconds), "record_seconds": .number(host.recordSeconds),
          "submit_seconds": .number(host.submitSeconds), "count": .integer(host.count),
        ]
      } ?? .null,
      "results": .array(results.map(json(of:))),
      "peers": .array(
        peers.map { row in
          [
            "id": .string(row.id), "path": .string(row.path), "peer": .string(row.peer),
            "gflops_ours": .number(row.ours), "gflops_theirs": .number(row.theirs),
            "ratio": .number(row.ratio), "theirs": .string(row.platform),
          ]
        }),
      "comparisons": .array(comparisons.map(\.json)),
      "skips": .array(skips.map(JSONText.string)),
      "failures": .array(failures.map(JSONText.string)),
    ]
  }

  private func json(of result: BenchmarkResult) -> JSONText {
    let share = share(result)
    let shares = shares(result)
    let timing = result.timing
    let statistics = result.timing.statistics
    return [
      "id": .string(result.id), "family": .string(result.family), "shape": .string(result.shape),
      "type": .string(result.type), "causal": .bool(result.isCausal),
      "path": .string(result.path), "tile": .string(result.tile),
      "seconds_median": .number(statistics.median), "seconds_p10": .number(statistics.p10),
      "seconds_p90": .number(statistics.p90), "samples": .integer(statistics.count),
      "clock": .string(result.timing.clock.rawValue),
      "wall_seconds_median": .number(result.timing.wallMedian),
      "gpu_seconds_median": JSONText(result.timing.gpuMedian),
      "gflops": .number(result.gigaflops), "gbps": .number(result.gigabytes),
      "ceiling": JSONText(share?.of), "ceiling_share": JSONText(share?.share),
      "mode": result.isCold ? "cold" : "warm", "tuned": .bool(result.isTuned),
      "plan": .string(result.plan), "why": .array(result.why.map(JSONText.string)),
      "operations": .number(result.operations), "bytes": .number(result.bytes),
      "copy_share": JSONText(shares?.copy), "fma_share": JSONText(shares?.fma),
      "matrix_share": JSONText(shares?.matrix),
      "wall_seconds_p10": .number(timing.wall.p10), "wall_seconds_p90": .number(timing.wall.p90),
      "gpu_seconds_p10": JSONText(timing.gpu?.p10), "gpu_seconds_p90": JSONText(timing.gpu?.p90),
      "pipeline_seconds": JSONText(result.pipelineSeconds),
      "first_run_seconds": JSONText(result.firstSeconds),
      "max_error": .number(result.maxError), "relative_rms_error": .number(result.relativeError),
      "verified_rows": .integer(result.verifiedRows),
    ]
  }
}
