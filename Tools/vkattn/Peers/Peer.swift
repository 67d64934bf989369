import KernelBenchmarks

/// What users would pick instead of a kernel of this package.
protocol Peer {
  /// Its name, as in tables.
  var name: String { get }

  /// Whether it has a part for such problems at all; of others nothing is said.
  func covers(_ problem: PeerProblem) -> Bool

  /// Times a problem.
  func time(_ problem: PeerProblem) throws -> PeerMeasurement
}

extension Peer {
  func covers(_ problem: PeerProblem) -> Bool { true }
}

/// A problem that peers may have something for.
enum PeerProblem {
  /// Softmax attention, a prefill or a decode step.
  case attention(AttentionWorkload)
  /// Linear attention.
  case linear(LinearAttentionWorkload)

  /// The workload's name.
  var id: String {
    switch self {
    case .attention(let workload): workload.id
    case .linear(let workload): workload.id
    }
  }
}

/// One run of a peer.
struct PeerMeasurement {
  /// 10⁹ operations a second.
  let gigaflops: Double
  /// What it ran on, and its version.
  let platform: String
}

/// The peers of one run of the benchmark.
struct PeerGroup {
  private var peers: [any Peer]

  init(_ peers: [any Peer]) {
    self.peers = peers
  }

  /// Compares a result that was just measured: each peer, each peer again from the last to the first,
  /// then ours again, so that other load hits all alike. A peer that cannot go on is left out from
  /// then on; the report tells why.
  mutating func compare(
    _ result: BenchmarkResult, of problem: PeerProblem, in report: inout BenchmarkReport,
    measureAgain: () async throws -> BenchmarkResult
  ) async throws {
    let covering = peers.filter { $0.covers(problem) }
    var measured: [String: [PeerMeasurement]] = [:]
    var missing: Set<String> = []
    for peer in covering + covering.reversed() where !missing.contains(peer.name) {
      do {
        measured[peer.name, default: []].append(try peer.time(problem))
      } catch {
        missing.insert(peer.name)
        let message = "\(problem.id) beside \(peer.name): \(error)"
        switch (error as? any PeerError)?.consequence ?? .fail {
        case .skip: report.skips.append(message)
        case .fail: report.failures.append(message)
        case .giveUp:
          report.failures.append(message)
          peers.removeAll { $0.name == peer.name }
        }
      }
    }
    guard covering.contains(where: { !missing.contains($0.name) }) else { return }
    let second = try await measureAgain()
    for peer in covering where !missing.contains(peer.name) {
      guard let theirs = measured[peer.name], let first = theirs.first else { continue }
      report.peers.append(
        PeerComparison(
          id: result.id, path: result.path, peer: peer.name, platform: first.platform,
          ours: (result.gigaflops + second.gigaflops) / 2,
          theirs: theirs.reduce(0) { $0 + $1.gigaflops } / Double(theirs.count)))
    }
  }
}
