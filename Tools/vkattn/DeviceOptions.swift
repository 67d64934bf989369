import ArgumentParser
import Logging
import VulkanAttention

/// Which device a command uses, and what it tells of its doings.
struct DeviceOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "The device: its number, a part of its name, or its UUID, as 'vkattn devices' lists them.",
      valueName: "device"))
  var device = "best"

  @Option(
    help: ArgumentHelp(
      "Prints log messages from this level on to stderr: trace, debug, info, notice, warning, error.",
      valueName: "level"))
  var logLevel: LogLevel?

  /// Opens the device.
  func open(
    validationLog: ValidationLog? = nil, keepsPipelineStatistics: Bool = false,
    compilesOnly: Bool = false
  ) throws(VulkanError) -> ComputeDevice {
    var options = ComputeDevice.Options()
    options.validationLog = validationLog
    options.keepsPipelineStatistics = keepsPipelineStatistics
    options.compilesOnly = compilesOnly
    if let level = logLevel?.level {
      options.logger = Logger(label: "vkattn") { StreamLogHandler.standardError(label: $0) }
      options.logger.logLevel = level
    }
    return try ComputeDevice.open(DeviceSelection(device), options: options)
  }

  /// What the device can do, without opening it.
  func capabilities() throws(VulkanError) -> DeviceCapabilities {
    try DeviceSelection(device).choose(from: VulkanInstance().devices())
  }
}

/// A level of the log as the command line has it.
struct LogLevel: ExpressibleByArgument {
  let level: Logger.Level

  init?(argument: String) {
    guard let level = Logger.Level(rawValue: argument) else { return nil }
    self.level = level
  }

  static var allValueStrings: [String] { Logger.Level.allCases.map(\.rawValue) }
}
