import RealModule

/// A workload beside its peer, from runs by turns.
public struct PeerComparison: Sendable {
  /// The workload's id.
  public let id: String
  /// The path that ran.
  public let path: String
  /// Our 10⁹ operations a second.
  public let ours: Double
  /// Theirs.
  public let theirs: Double
  /// Their median time over ours: above 1, ours is faster.
  public var ratio: Double { ours / theirs }

  /// A comparison by its numbers.
  public init(id: String, path: String, ours: Double, theirs: Double) {
    self.id = id
    self.path = path
    self.ours = ours
    self.theirs = theirs
  }
}

extension [PeerComparison] {
  /// The comparisons, a row for each.
  public var table: TextTable {
    var table = TextTable([
      ("beside PyTorch", .left), ("path", .left), ("ours GFLOP/s", .right),
      ("theirs GFLOP/s", .right), ("ratio", .right),
    ])
    for row in self {
      table.add([
        row.id, row.path, Numbers.significant(row.ours), Numbers.significant(row.theirs),
        Numbers.fixed(row.ratio, decimals: 2),
      ])
    }
    return table
  }

  /// The geometric mean of the ratios.
  public var geometricMean: Double {
    isEmpty ? .nan : .exp(reduce(0) { $0 + .log($1.ratio) } / Double(count))
  }
}
