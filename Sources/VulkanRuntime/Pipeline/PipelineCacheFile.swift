/// Compiled pipelines on disk, one file for each device and driver.
///
/// A driver may crash on data of another driver or on damaged data, so a header of our own stands
/// before the driver's bytes and is checked first.
package struct PipelineCacheFile: Sendable {
  private let file: IdentifiedFile

  package var path: String { file.path }

  /// `$VKATTN_CACHE`, else `vulkan-attention` in `$XDG_CACHE_HOME` or in `~/.cache`.
  public static var defaultDirectory: String? {
    func variable(_ name: String) -> String? {
      HostEnvironment.variable(name).flatMap { $0.isEmpty ? nil : $0 }
    }
    if let explicit = variable("VKATTN_CACHE") { return explicit }
    let base = variable("XDG_CACHE_HOME") ?? variable("HOME").map { $0 + "/.cache" }
    return base.map { $0 + "/vulkan-attention" }
  }

  package init(directory: String, capabilities: DeviceCapabilities) {
    let identity = Array(
      """
      \(capabilities.vendorID) \(capabilities.deviceID) \(capabilities.deviceUUID) \
      \(capabilities.driverUUID) \(capabilities.pipelineCacheUUID) \(capabilities.driverInfo)
      """.utf8)
    file = IdentifiedFile(
      directory: directory,
      name: "pipelines-\(capabilities.deviceUUID)-\(IdentifiedFile.hash(identity)).bin",
      magic: "VKATPIPE", version: 1, identity: identity,
      identityParts: "device, driver or version")
  }

  /// The driver's bytes, where there is a file of this device and driver.
  package func read() -> IdentifiedFile.Contents { file.read() }

  package func write(_ payload: [UInt8]) throws(VulkanError) { try file.write(payload) }
}
