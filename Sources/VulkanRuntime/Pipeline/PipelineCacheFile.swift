internal import Synchronization

#if canImport(Glibc)
  internal import Glibc
#elseif canImport(Musl)
  internal import Musl
#else
  internal import Darwin
#endif

/// Compiled pipelines on disk, one file for each device and driver.
///
/// A driver may crash on data of another driver or on damaged data, so a header of our own stands
/// before the driver's bytes and is checked first. The file is replaced in one step by renaming.
package struct PipelineCacheFile: Sendable {
  /// What was found on disk.
  package enum Contents: Equatable {
    /// There is no file.
    case absent
    /// The file cannot be used, and why; the next write replaces it.
    case invalid(reason: String)
    /// The driver's bytes.
    case valid([UInt8])
  }

  private static let magic = Array("VKATPIPE".utf8)
  private static let version: UInt32 = 1
  private static let writeCount = Atomic(0)

  private let directory: String
  private let identity: [UInt8]
  package let path: String

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
    self.directory = directory
    identity = Array(
      """
      \(capabilities.vendorID) \(capabilities.deviceID) \(capabilities.deviceUUID) \
      \(capabilities.driverUUID) \(capabilities.pipelineCacheUUID) \(capabilities.driverInfo)
      """.utf8)
    path = directory + "/pipelines-\(capabilities.deviceUUID)-\(Self.hash(identity)).bin"
  }

  package func read() -> Contents {
    guard let file = fopen(path, "rb") else { return .absent }
    defer { fclose(file) }
    var bytes: [UInt8] = []
    var piece = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = fread(&piece, 1, piece.count, file)
      if count == 0 { break }
      bytes.append(contentsOf: piece[..<count])
    }
    let header = header(for: [])
    let hashCount = 8
    let headerCount = header.count - hashCount
    guard bytes.count >= header.count else { return .invalid(reason: "it is truncated") }
    guard Array(bytes[..<headerCount]) == Array(header[..<headerCount]) else {
      return .invalid(reason: "it is of another device, driver or version")
    }
    let payload = Array(bytes[header.count...])
    guard Array(bytes[headerCount..<header.count]) == Self.bytes(of: Self.hash(payload)) else {
      return .invalid(reason: "its checksum is wrong")
    }
    return .valid(payload)
  }

  package func write(_ payload: [UInt8]) throws(VulkanError) {
    try makeDirectory()
    // Numbers keep two writers apart, of two processes and of two devices in one; the last rename
    // wins, and both files are whole.
    let number = Self.writeCount.wrappingAdd(1, ordering: .relaxed).newValue
    let temporary = "\(path).\(getpid()).\(number)"
    guard let file = fopen(temporary, "wb") else { throw notWritable() }
    let bytes = header(for: payload) + payload
    let written = fwrite(bytes, 1, bytes.count, file)
    let isClosed = fclose(file) == 0
    guard written == bytes.count, isClosed, rename(temporary, path) == 0 else {
      let error = notWritable()
      unlink(temporary)
      throw error
    }
  }

  /// Makes the folder and those above it.
  private func makeDirectory() throws(VulkanError) {
    var partial = directory.hasPrefix("/") ? "" : "."
    for component in directory.split(separator: "/") {
      partial += "/" + component
      if mkdir(partial, 0o700) != 0, errno != EEXIST { throw notWritable() }
    }
  }

  private func notWritable() -> VulkanError {
    .cacheNotWritable(path: directory, reason: String(cString: strerror(errno)))
  }

  private func header(for payload: [UInt8]) -> [UInt8] {
    Self.magic + Self.bytes(of: Self.version) + Self.bytes(of: UInt32(identity.count)) + identity
      + Self.bytes(of: Self.hash(payload))
  }

  private static func bytes<Number: FixedWidthInteger>(of number: Number) -> [UInt8] {
    withUnsafeBytes(of: number.littleEndian) { Array($0) }
  }

  /// FNV-1a, which finds damage; nothing here defends against an attacker with write access.
  private static func hash(_ bytes: [UInt8]) -> UInt64 {
    bytes.reduce(0xCBF2_9CE4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
  }
}
