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
  private let retained: [any AnyObject & Sendable]

  init(_ logical: LogicalDevice, slot: CommandSlot, retained: [any AnyObject & Sendable]) {
    self.logical = logical
    self.slot = slot
    self.retained = retained
  }
}
