/// Which device to open.
public enum DeviceSelection: Sendable, Hashable, CustomStringConvertible {
  /// The first of the best kind: discrete, integrated, virtual, CPU.
  case best
  /// The device at a place in the loader's list, or one with the number in its name.
  case index(Int)
  /// The first device whose name contains the text, case aside.
  case name(String)
  /// The device with this UUID, in hexadecimal digits with or without dashes.
  case uuid(String)

  /// Reads `best`, a number, a UUID or a part of a name.
  public init(_ text: String) {
    let hexadecimal = Self.normalizedUUID(text)
    if text.isEmpty || text == "best" {
      self = .best
    } else if hexadecimal.count == 32, hexadecimal.allSatisfy(\.isHexDigit) {
      self = .uuid(text)
    } else if let index = Int(text) {
      self = .index(index)
    } else {
      self = .name(text)
    }
  }

  /// The selection in words.
  public var description: String {
    switch self {
    case .best: "any device"
    case .index(let index): "device \(index)"
    case .name(let name): "a name with \"\(name)\""
    case .uuid(let uuid): "UUID \(uuid)"
    }
  }

  /// The device that the selection means.
  ///
  /// - Throws: `VulkanError.noDevice` with the names of those there are.
  public func choose(
    from devices: [DeviceCapabilities]
  ) throws(VulkanError) -> DeviceCapabilities {
    let chosen: DeviceCapabilities? =
      switch self {
      case .best:
        // A device that can run nothing is the last resort: opening it says what it lacks.
        Self.firstOfBestKind(devices.filter { $0.missingRequiredFeatures.isEmpty })
          ?? Self.firstOfBestKind(devices)
      case .index(let index):
        // A number that is no place may be a part of a name, such as 4090.
        devices.first { $0.index == index } ?? devices.first { $0.name.contains("\(index)") }
      case .name(let name):
        devices.first { $0.name.lowercased().contains(name.lowercased()) }
      case .uuid(let uuid): devices.first { $0.deviceUUID == Self.normalizedUUID(uuid) }
      }
    guard let chosen else {
      throw .noDevice(
        requested: description, available: devices.map { "\($0.index): \($0.name)" })
    }
    return chosen
  }

  private static func firstOfBestKind(_ devices: [DeviceCapabilities]) -> DeviceCapabilities? {
    DeviceCapabilities.Kind.allCases.lazy
      .compactMap { kind in devices.first { $0.kind == kind } }.first
  }

  private static func normalizedUUID(_ text: String) -> String {
    text.lowercased().filter { $0 != "-" }
  }
}
