/// The report for people.
extension BenchmarkReport {
  /// What was measured on, in a few lines.
  public var heading: [String] {
    var lines = ["\(device) · \(driver) · commit \(commit)"]
    if let ceilings {
      var line = "ceilings: copy \(Numbers.significant(ceilings.copyBytesPerSecond * 1e-9)) GB/s"
      if let fma = ceilings.fmaOperationsPerSecond {
        line += ", f32 fma \(Numbers.significant(fma * 1e-9)) GFLOP/s"
      }
      if let matrix = ceilings.matrixOperationsPerSecond {
        line += ", f16 matrices \(Numbers.significant(matrix * 1e-9)) GFLOP/s"
      }
      lines.append(line)
    }
    if let host = decodeHost {
      lines.append(
        "host, decode of \(DecodeHostTiming.sequences) sequences: "
          + "schedule \(Numbers.seconds(host.scheduleSeconds)), "
          + "the next \(Numbers.seconds(host.updateSeconds)), "
          + "prepare \(Numbers.seconds(host.prepareSeconds)), "
          + "record a layer \(Numbers.seconds(host.recordSeconds)) (medians of \(host.count))")
    }
    if let host {
      lines.append(
        "host: plan \(Numbers.seconds(host.planSeconds)), "
          + "record \(Numbers.seconds(host.recordSeconds)), "
          + "submit \(Numbers.seconds(host.submitSeconds)) (medians of \(host.count))")
    }
    return lines
  }

  /// The results, a row for each.
  public var table: TextTable {
    var table = TextTable([
      ("workload", .left), ("path", .left), ("median", .right),
      ("p10", .right), ("p90", .right), ("clock", .left), ("wall", .right), ("GFLOP/s", .right),
      ("GB/s", .right),
      ("share", .right), ("error", .right), ("tile", .left),
    ])
    for result in results {
      let statistics = result.timing.statistics
      table.add([
        result.id, result.path + (result.isTuned ? " tuned" : ""),
        Numbers.seconds(statistics.median),
        Numbers.seconds(statistics.p10), Numbers.seconds(statistics.p90),
        result.timing.clock.rawValue, Numbers.seconds(result.timing.wallMedian),
        Numbers.significant(result.gigaflops),
        Numbers.significant(result.gigabytes),
        share(result).map { "\(Numbers.percent($0.share)) \($0.of)" } ?? "",
        Numbers.scientific(result.relativeError), result.tile,
      ])
    }
    return table
  }
}
