import Synchronization
import VulkanAttention

/// Runs the problems of a check, several at a time.
///
/// A software driver compiles a pipeline at its first dispatch, on the one thread of the device's queue; a
/// GPU's driver does it on the caller's. A second device of its own, and not a second task of the same
/// device, is what lets one problem compile while another runs.
public enum CheckRunner {
  /// An outcome and where it belongs.
  public struct Result: Sendable {
    /// The outcome.
    public let outcome: CheckOutcome
    /// The place of its run among the runs.
    public let run: Int
    /// Its place among the outcomes of its run.
    public let place: Int
    /// What it took, compilation included.
    public let seconds: Double
  }

  /// How many devices keep a machine busy: one for each processor that a software driver may use (but a
  /// device takes memory), two where a GPU does the work.
  public static func deviceCount(_ capabilities: DeviceCapabilities, processors: Int) -> Int {
    capabilities.kind == .cpu ? min(max(processors, 1), 8) : 2
  }

  /// Into how many portions the runs can be divided.
  public static func batchCount(_ runs: [CheckRun]) -> Int { Set(runs.map(\.pipelines)).count }

  /// Runs each problem on one of the devices.
  ///
  /// - Parameter finished: called with each outcome when it is there, by several tasks at once.
  public static func run(
    _ runs: [CheckRun], on devices: [ComputeDevice],
    finished: @escaping @Sendable (Result) -> Void
  ) async {
    let schedule = Schedule(batches(runs))
    await withTaskGroup(of: Void.self) { group in
      for device in devices {
        group.addTask {
          while let batch = schedule.next() {
            for index in batch { await run(runs[index], index, on: device, finished) }
          }
        }
      }
    }
  }

  private static func run(
    _ run: CheckRun, _ index: Int, on device: ComputeDevice,
    _ finished: @escaping @Sendable (Result) -> Void
  ) async {
    let watch = Watch()
    await run.run(on: device) { place, outcome in
      finished(Result(outcome: outcome, run: index, place: place, seconds: watch.lap()))
    }
  }

  /// What is left to do.
  private final class Schedule: Sendable {
    private let rest: Mutex<ArraySlice<[Int]>>

    init(_ batches: [[Int]]) { rest = Mutex(batches[...]) }

    func next() -> [Int]? { rest.withLock { $0.popFirst() } }
  }

  /// Tells how long it was since it was last asked.
  private final class Watch: Sendable {
    private let start = Mutex(ContinuousClock.now)

    func lap() -> Double {
      let now = ContinuousClock.now
      return start.withLock { start in
        defer { start = now }
        return (now - start).inSeconds
      }
    }
  }

  /// The runs that share pipelines, by the first of each; a pipeline is then compiled on one device only.
  static func batches(_ runs: [CheckRun]) -> [[Int]] {
    var batches: [[Int]] = []
    var places: [String: Int] = [:]
    for (index, run) in runs.enumerated() {
      if let place = places[run.pipelines] {
        batches[place].append(index)
      } else {
        places[run.pipelines] = batches.count
        batches.append([index])
      }
    }
    return batches
  }
}
