/// The report for programs.
extension BenchmarkReport {
  /// One object: `device`, `driver`, `commit` and `results`, and what else was measured.
  public var json: JSONText {
    [
      "device": .string(device), "driver": .string(driver), "commit": .string(commit),
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
      "skips": .array(skips.map(JSONText.string)),
      "failures": .array(failures.map(JSONText.string)),
    ]
  }

  private func json(of result: BenchmarkResult) -> JSONText {
    let share = share(result)
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
      "max_error": .number(result.maxError), "relative_rms_error": .number(result.relativeError),
      "verified_rows": .integer(result.verifiedRows),
    ]
  }
}
