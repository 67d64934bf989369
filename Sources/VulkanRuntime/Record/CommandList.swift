internal import Synchronization

/// Commands that were recorded once and are submitted as often as one likes, without being recorded again.
///
/// It is made of a recorder that was opened for replay. The commands name the same buffers each time; what changes
/// between two runs is what lies in them. A run sees what earlier submissions wrote, and several runs may be under way:
///
///     let recorder = try device.makeRecorder(forReplay: true)
///     // … kernels are recorded …
///     let step = try device.makeCommandList(recorder)
///     for _ in 0..<steps { try device.submit(step) }
///
/// Safe to share between tasks. It keeps the buffers and pipelines that it names alive as long as it lives or runs.
public final class CommandList: Sendable {
  let logical: LogicalDevice
  let slot: CommandSlot
  let timedRun = TimedRun()
  private let retained: [any AnyObject & Sendable]

  init(_ logical: LogicalDevice, slot: CommandSlot, retained: [any AnyObject & Sendable]) {
    self.logical = logical
    self.slot = slot
    self.retained = retained
  }
}

/// Which queue runs a list with timestamps, for which there is one place each.
final class TimedRun: Sendable {
  private struct Holder {
    var isTaken = false
    /// Weak: the queue holds the list while it runs, and gives the place back where it goes meanwhile.
    weak var queue: SubmissionQueue?
  }

  private let holder = Mutex(Holder())

  /// Where a run is under way, or was and its timestamps are not read.
  var queue: SubmissionQueue? { holder.withLock { $0.queue } }

  /// Takes the timestamps for a run; false where another one has them.
  func begin(on queue: SubmissionQueue) -> Bool {
    holder.withLock { holder in
      guard !holder.isTaken else { return false }
      holder = Holder(isTaken: true, queue: queue)
      return true
    }
  }

  /// Gives them back.
  func end() {
    holder.withLock { $0 = Holder() }
  }
}
