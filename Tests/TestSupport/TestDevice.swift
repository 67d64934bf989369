import Foundation
import Synchronization
import Testing
import VulkanAttention

/// The Vulkan device that tests run on: the best there is, with the validation layers where they are
/// installed.
public enum TestDevice {
  private struct State {
    var shared: ComputeDevice?
    var logs: [ValidationLog] = []
  }

  private static let state = Mutex(State())

  /// The folder for the pipelines of this run; never the user's own.
  private static let pipelineFolder = FileManager.default.temporaryDirectory
    .appending(path: "vulkan-attention-tests-\(ProcessInfo.processInfo.processIdentifier)").path

  /// Whether the validation layers are installed, as the loader says: the library's own word would make a library that
  /// does not find them pass.
  public static let isValidated = RawVulkan.listsValidationLayer

  /// Why no device can be opened; nil where one can.
  public static let reasonForAbsence: String? = {
    do {
      _ = try shared()
      return nil
    } catch {
      return "\(error)"
    }
  }()

  /// The device that suites share, opened by the first of them.
  public static func shared() throws -> ComputeDevice {
    try state.withLock { state in
      if let device = state.shared { return device }
      let (options, log) = makeOptions(validates: isValidated)
      if let log { state.logs.append(log) }
      let device = try ComputeDevice.open(options: options)
      state.shared = device
      return device
    }
  }

  /// Options for a device of a test's own: validated, its pipelines in memory only.
  public static func options() -> ComputeDevice.Options {
    var (options, log) = makeOptions(validates: isValidated)
    options.pipelineCacheDirectory = nil
    if let log { state.withLock { $0.logs.append(log) } }
    return options
  }

  /// A device of a test's own.
  public static func open() throws -> ComputeDevice {
    try ComputeDevice.open(options: options())
  }

  /// Forgets and returns what the validation layers said of all devices above.
  public static func drainValidationMessages() -> [ValidationLog.Message] {
    let logs = state.withLock { $0.logs }
    return logs.flatMap { $0.drain() }
  }

  private static func makeOptions(
    validates: Bool
  ) -> (options: ComputeDevice.Options, log: ValidationLog?) {
    var options = ComputeDevice.Options()
    options.validationLog = validates ? ValidationLog() : nil
    options.pipelineCacheDirectory = pipelineFolder
    return (options, options.validationLog)
  }
}

extension Trait where Self == ConditionTrait {
  /// Skips, visibly and with the reason, where there is no Vulkan device.
  public static var needsDevice: Self {
    .enabled(
      if: TestDevice.reasonForAbsence == nil,
      "there is no Vulkan device: \(TestDevice.reasonForAbsence ?? "")")
  }

  /// Skips, visibly, where the validation layers are not installed.
  public static var needsValidation: Self {
    .enabled(
      if: TestDevice.reasonForAbsence == nil && TestDevice.isValidated,
      "the Vulkan validation layers are not installed")
  }
}
