/// Why a peer could not be timed.
public protocol PeerError: Error {
  /// What becomes of the run of the benchmark.
  var consequence: PeerConsequence { get }
}

/// What becomes of the run of the benchmark after a peer's error.
public enum PeerConsequence: Sendable {
  /// The workload has no such peer; nothing is wrong.
  case skip
  /// The comparison failed; the next workload is tried.
  case fail
  /// The comparison failed, and so would the next.
  case giveUp
}
