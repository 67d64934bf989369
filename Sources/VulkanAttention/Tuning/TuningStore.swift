#if canImport(FoundationEssentials)
  internal import FoundationEssentials
#else
  internal import Foundation
#endif
#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// Why tuned tiles cannot be read or kept.
public enum TuningError: Error, Sendable, Hashable {
  /// There is no home folder, and no variable names another one.
  case noFolder
  /// The system does not let the file be read.
  case unreadable(path: String, reason: String)
  /// The file is no file of tuned tiles, or damaged.
  case malformed(path: String, reason: String)
  /// The file is of a format that this build does not know.
  case unsupportedVersion(path: String, found: Int)
  /// The system does not let the file be written.
  case notWritable(path: String, reason: String)
}

extension TuningError: CustomStringConvertible {
  /// What is wrong, and what to do.
  public var description: String {
    switch self {
    case .noFolder:
      "no folder for tuned tiles: none of VKATTN_DATA, XDG_DATA_HOME and HOME is set"
    case .unreadable(let path, let reason): "\(path) cannot be read: \(reason)"
    case .malformed(let path, let reason):
      "\(path) is no file of tuned tiles: \(reason); vkattn tune --reset removes it"
    case .unsupportedVersion(let path, let found):
      "\(path) is of version \(found), this build knows \(TuningFile.version); "
        + "vkattn tune --reset removes it"
    case .notWritable(let path, let reason): "\(path) cannot be written: \(reason)"
    }
  }
}

/// The devices of a file of tuned tiles.
public struct TuningFile: Sendable, Hashable, Codable {
  /// A device with its driver; what was tuned with one driver says nothing of the next.
  public struct Identity: Sendable, Hashable, Codable {
    /// The device's UUID.
    public var deviceUUID: String
    /// The driver's UUID.
    public var driverUUID: String
    /// The driver's version text: not every driver has a new UUID for each version.
    public var driverInfo: String
    /// The subgroup size: a software driver may have another one with the same UUIDs.
    public var subgroupSize: Int

    /// The identity of a device.
    public init(_ device: DeviceCapabilities) {
      deviceUUID = device.deviceUUID
      driverUUID = device.driverUUID
      driverInfo = device.driverInfo
      subgroupSize = device.subgroupSize
    }
  }

  /// What was tuned on a device.
  public struct Device: Sendable, Hashable, Codable {
    /// Which device and driver.
    public var identity: Identity
    /// The device's name, for people.
    public var name: String
    /// Its tiles.
    public var tuning: Tuning
  }

  /// The version of the format.
  static let version = 1
  static let format = "vulkan-attention-tuning"

  private var format = Self.format
  private var version = Self.version
  /// The devices, each once.
  public private(set) var devices: [Device] = []

  /// A file without devices.
  public init() {}

  /// The tiles of a device; none where nothing was tuned on it.
  public func tuning(for device: DeviceCapabilities) -> Tuning {
    let identity = Identity(device)
    return devices.first { $0.identity == identity }?.tuning ?? .none
  }

  /// Adds a device's tiles; of a class that has one, the new one counts.
  public mutating func add(_ tuning: Tuning, for device: DeviceCapabilities) {
    add(Device(identity: Identity(device), name: device.name, tuning: tuning))
  }

  /// Takes a device's tiles out.
  public mutating func remove(_ device: DeviceCapabilities) {
    let identity = Identity(device)
    devices.removeAll { $0.identity == identity }
  }

  /// Adds the devices of another file; where both have a tile, the other's counts.
  public mutating func merge(_ other: TuningFile) {
    for device in other.devices { add(device) }
  }

  private mutating func add(_ device: Device) {
    if let index = devices.firstIndex(where: { $0.identity == device.identity }) {
      devices[index].tuning.merge(device.tuning)
    } else {
      devices.append(device)
    }
  }

  /// Reads a file's bytes.
  ///
  /// - Parameters:
  ///   - bytes: JSON.
  ///   - path: the file's name, for errors.
  /// - Throws: `TuningError.malformed` or `unsupportedVersion`.
  public init(_ bytes: [UInt8], path: String) throws(TuningError) {
    struct Head: Decodable {
      let format: String
      let version: Int
    }
    let file: TuningFile
    do {
      // The version first: the rest of a later one may look otherwise.
      let head = try JSONDecoder().decode(Head.self, from: Data(bytes))
      guard head.format == Self.format else {
        throw TuningError.malformed(
          path: path, reason: "its format is \"\(head.format.prefix(40))\"")
      }
      guard head.version == Self.version else {
        throw TuningError.unsupportedVersion(path: path, found: head.version)
      }
      file = try JSONDecoder().decode(TuningFile.self, from: Data(bytes))
    } catch let error as TuningError {
      throw error
    } catch {
      throw .malformed(path: path, reason: Self.reason(error))
    }
    guard Set(file.devices.map(\.identity)).count == file.devices.count else {
      throw .malformed(path: path, reason: "it has a device twice")
    }
    self = file
  }

  private static func reason(_ error: any Error) -> String {
    guard let error = error as? DecodingError else { return "it is not JSON" }
    func at(_ context: DecodingError.Context) -> String {
      context.codingPath.isEmpty
        ? "" : " at " + context.codingPath.map(\.stringValue).joined(separator: ".")
    }
    switch error {
    case .keyNotFound(let key, let context): return "no \"\(key.stringValue)\"\(at(context))"
    case .typeMismatch(_, let context), .valueNotFound(_, let context):
      return "a value of another kind\(at(context))"
    case .dataCorrupted(let context): return "malformed JSON\(at(context))"
    @unknown default: return "malformed JSON"
    }
  }

  /// The file's bytes: JSON, sorted, so that two files can be compared line by line.
  ///
  /// - Throws: `TuningError.notWritable` for a number that JSON does not have.
  public func bytes(path: String) throws(TuningError) -> [UInt8] {
    do {
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
      return Array(try encoder.encode(self)) + [UInt8(ascii: "\n")]
    } catch {
      throw .notWritable(path: path, reason: "\(error)")
    }
  }
}

// The store has a method of that name.
private let systemRead = read

/// The user's tuned tiles in a file, for all devices.
///
/// Reading one that is not there gives no tiles. Writing replaces the file in one step; of two processes that
/// write at the same time, the later one's file stays, whole.
public struct TuningStore: Sendable, Hashable {
  /// The file.
  public let path: String

  /// Far above any file of tiles.
  private static let mostBytes = 16 << 20

  /// A store in a file.
  public init(path: String) {
    self.path = path
  }

  /// The user's store: `tuning.json` in `$VKATTN_DATA`, else in `vulkan-attention` in `$XDG_DATA_HOME` or in
  /// `~/.local/share`.
  ///
  /// - Throws: `TuningError.noFolder`.
  public static func user() throws(TuningError) -> TuningStore {
    func variable(_ name: String) -> String? {
      getenv(name).map { String(cString: $0) }.flatMap { $0.isEmpty ? nil : $0 }
    }
    if let explicit = variable("VKATTN_DATA") {
      return TuningStore(path: explicit + "/tuning.json")
    }
    guard
      let base = variable("XDG_DATA_HOME") ?? variable("HOME").map({ $0 + "/.local/share" })
    else { throw .noFolder }
    return TuningStore(path: base + "/vulkan-attention/tuning.json")
  }

  /// The tiles of a device; none where nothing was tuned on it.
  ///
  /// - Throws: `TuningError.unreadable`, `malformed` or `unsupportedVersion`.
  public func tuning(for device: DeviceCapabilities) throws(TuningError) -> Tuning {
    try read().tuning(for: device)
  }

  /// The whole file; empty where there is none.
  ///
  /// - Throws: `TuningError.unreadable`, `malformed` or `unsupportedVersion`.
  public func read() throws(TuningError) -> TuningFile {
    // Non-blocking, so that opening a FIFO returns and can be refused below.
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else {
      if errno == ENOENT || errno == ENOTDIR { return TuningFile() }
      throw .unreadable(path: path, reason: Self.systemReason)
    }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
      throw .unreadable(path: path, reason: "it is no regular file")
    }
    guard status.st_size <= Self.mostBytes else {
      throw .malformed(path: path, reason: "it is larger than \(Self.mostBytes) bytes")
    }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while bytes.count <= Self.mostBytes {
      let count = systemRead(descriptor, &buffer, buffer.count)
      if count < 0, errno == EINTR { continue }
      if count < 0 { throw .unreadable(path: path, reason: Self.systemReason) }
      if count == 0 { break }
      bytes += buffer[..<count]
    }
    return try TuningFile(bytes, path: path)
  }

  /// Adds tiles of a device.
  ///
  /// - Throws: as ``read()``, so that a file of a later version is not lost, and `TuningError.notWritable`.
  public func add(_ tuning: Tuning, for device: DeviceCapabilities) throws(TuningError) {
    var file = try read()
    file.add(tuning, for: device)
    try write(file)
  }

  /// Replaces the file.
  ///
  /// - Throws: `TuningError.notWritable`.
  public func write(_ file: TuningFile) throws(TuningError) {
    let bytes = try file.bytes(path: path)
    var partial = path.hasPrefix("/") ? "" : "."
    for component in path.split(separator: "/").dropLast() {
      partial += "/" + component
      if mkdir(partial, 0o700) != 0, errno != EEXIST { throw notWritable() }
    }
    let temporary = "\(path).\(getpid()).\(UInt64.random(in: 0 ... .max))"
    guard let stream = fopen(temporary, "wb") else { throw notWritable() }
    let written = fwrite(bytes, 1, bytes.count, stream)
    // Its contents before its name, or a crash could leave an empty file.
    let isFlushed = fflush(stream) == 0 && fsync(fileno(stream)) == 0
    let isClosed = fclose(stream) == 0
    guard written == bytes.count, isFlushed, isClosed, rename(temporary, path) == 0 else {
      let error = notWritable()
      unlink(temporary)
      throw error
    }
  }

  /// Takes a device's tiles out, or removes the file, whatever is in it.
  ///
  /// - Parameter device: nil for all devices.
  /// - Throws: as ``read()`` for a device, and `TuningError.notWritable`.
  public func reset(_ device: DeviceCapabilities? = nil) throws(TuningError) {
    if let device {
      var file = try read()
      file.remove(device)
      try write(file)
    } else if unlink(path) != 0, errno != ENOENT, errno != ENOTDIR {
      throw notWritable()
    }
  }

  private static var systemReason: String { String(cString: strerror(errno)) }

  private func notWritable() -> TuningError { .notWritable(path: path, reason: Self.systemReason) }
}
