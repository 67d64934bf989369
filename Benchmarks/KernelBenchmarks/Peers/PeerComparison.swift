import RealModule

/// A workload beside a peer, from runs by turns.
public struct PeerComparison: Sendable, Hashable {
  /// The workload's id.
  public let id: String
  /// The path that ran.
  public let path: String
  /// Who is compared with: PyTorch, ggml.
  public let peer: String
  /// What the peer ran on, and its version.
  public let platform: String
  /// Our 10⁹ operations a second.
  public let ours: Double
  /// Theirs.
  public let theirs: Double
  /// Their median time over ours: above 1, ours is faster.
  public var ratio: Double { ours / theirs }

  /// A comparison by its numbers.
  public init(
    id: String, path: String, peer: String, platform: String, ours: Double, theirs: Double
  ) {
    self.id = id
    self.path = path
    self.peer = peer
    self.platform = platform
    self.ours = ours
    self.theirs = theirs
  }
}

extension [PeerComparison] {
  /// The names of the peers, as they first come.
  private var peers: [String] {
    reduce(into: []) { names, row in
      if !names.contains(row.peer) { names.append(row.peer) }
    }
  }

  /// The comparisons: a row for each workload and path, two columns for each peer.
  public var table: TextTable {
    let peers = peers
    var table = TextTable(
      [
        ("beside \(peers.joined(separator: ", "))", .left), ("path", .left),
        ("ours GFLOP/s", .right),
      ]
        + peers.flatMap { [("\($0) GFLOP/s", .right), ("ratio", .right)] })
    var rows: [[PeerComparison]] = []
    for comparison in self {
      let place = rows.firstIndex { row in
        row[0].id == comparison.id && row[0].path == comparison.path
      }
      if let place { rows[place].append(comparison) } else { rows.append([comparison]) }
    }
    for row in rows {
      table.add(
        [row[0].id, row[0].path, Numbers.significant(row[0].ours)]
          + peers.flatMap { peer in
            guard let comparison = row.first(where: { $0.peer == peer }) else { return ["", ""] }
            return [
              Numbers.significant(comparison.theirs),
              Numbers.fixed(comparison.ratio, decimals: 2),
            ]
          })
    }
    return table
  }

  /// For each peer a line: what it ran on, and the ratios in short.
  public var summary: [String] {
    peers.map { peer in
      let rows = filter { $0.peer == peer }
      let least = rows.map(\.ratio).min() ?? .nan
      return "\(peer): \(rows[0].platform); geometric mean "
        + "\(Numbers.fixed(rows.geometricMean, decimals: 2)), least "
        + Numbers.fixed(least, decimals: 2)
    }
  }

  /// The geometric mean of the ratios.
  public var geometricMean: Double {
    isEmpty ? .nan : .exp(reduce(0) { $0 + .log($1.ratio) } / Double(count))
  }
}
