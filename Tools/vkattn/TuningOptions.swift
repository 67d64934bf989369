import ArgumentParser
import KernelBenchmarks
import VulkanAttention

/// Whether a command takes the user's tuned tiles.
struct TuningOptions: ParsableArguments {
  @Flag(help: "Takes the built-in tiles, and not those that vkattn tune has found on the device.")
  var noTuning = false

  /// The user's tiles for a device; none, with a warning, where their file cannot be read.
  func tuning(for device: DeviceCapabilities) -> Tuning {
    if noTuning { return .none }
    do throws(TuningError) {
      return try TuningStore.user().tuning(for: device)
    } catch .noFolder {
      return .none
    } catch {
      Console.current.error("vkattn: warning: built-in tiles are used: \(error)")
      return .none
    }
  }
}
