/// The results for spreadsheets.
extension BenchmarkReport {
  /// A record for each result, named as the members of the JSON, with the run's device, driver and commit in
  /// each, so that files can be put one behind the other.
  public var csv: CSV {
    var csv = CSV([
      "id", "family", "shape", "type", "causal", "path", "mode", "tuned", "seconds_median",
      "seconds_p10", "seconds_p90", "samples", "clock", "wall_seconds_median",
      "gpu_seconds_median", "gflops", "gbps", "operations", "bytes", "ceiling", "ceiling_share",
      "copy_share", "fma_share", "matrix_share", "max_error", "relative_rms_error",
      "verified_rows", "pipeline_seconds", "first_run_seconds", "tile", "plan", "device", "driver",
      "commit", "time",
    ])
    func text(_ value: Double?) -> String {
      value.map { $0.isFinite ? "\($0)" : "" } ?? ""
    }
    for result in results {
      let timing = result.timing
      let statistics = timing.statistics
      let share = share(result)
      let shares = shares(result)
      csv.add([
        result.id, result.family, result.shape, result.type, "\(result.isCausal)", result.path,
        result.isCold ? "cold" : "warm", "\(result.isTuned)", text(statistics.median),
        text(statistics.p10), text(statistics.p90), "\(statistics.count)", timing.clock.rawValue,
        text(timing.wallMedian), text(timing.gpuMedian), text(result.gigaflops),
        text(result.gigabytes), text(result.operations), text(result.bytes), share?.of ?? "",
        text(share?.share), text(shares?.copy), text(shares?.fma), text(shares?.matrix),
        text(result.maxError), text(result.relativeError), "\(result.verifiedRows)",
        text(result.pipelineSeconds), text(result.firstSeconds), result.tile, result.plan, device,
        driver, commit, time,
      ])
    }
    return csv
  }
}
