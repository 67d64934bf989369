/// The devices that a row of a tuning table is for.
enum DeviceFamily {
  case any
  case cpu
  case nvidia
  case amd
  case intel

  /// By the PCI vendor number, a driver on the processor aside.
  func includes(_ device: DeviceCapabilities) -> Bool {
    switch self {
    case .any: device.kind != .cpu
    case .cpu: device.kind == .cpu
    case .nvidia: device.kind != .cpu && device.vendorID == 0x10DE
    case .amd: device.kind != .cpu && device.vendorID == 0x1002
    case .intel: device.kind != .cpu && device.vendorID == 0x8086
    }
  }
}

/// a / b, rounded up.
func ceilingDivide(_ a: Int, _ b: Int) -> Int { (a + b - 1) / b }
