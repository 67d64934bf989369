import VulkanAttention

/// Memory of results: NaN before a kernel runs, with a guard behind that must stay as it is.
struct PoisonedMemory: Sendable {
  /// What the kernel gets.
  let buffer: DeviceBuffer
  private let whole: DeviceBuffer
  private let device: ComputeDevice

  init(byteCount: Int, label: String, on device: ComputeDevice) async throws {
    let pattern = TensorMemory.poison(.f32)
    let bytes = (0..<byteCount + TensorMemory.guardByteCount).map { pattern[$0 % pattern.count] }
    whole = try await device.makeBuffer(bytes, label: label)
    buffer = try whole.slice(0..<byteCount)
    self.device = device
  }

  /// The memory's bytes; a write behind it is said among the problems.
  func read(problems: inout [String]) async throws -> [UInt8] {
    let bytes = try await device.download(UInt8.self, from: whole)
    let pattern = TensorMemory.poison(.f32)
    let stray = bytes.indices.dropFirst(buffer.byteCount).first {
      bytes[$0] != pattern[$0 % pattern.count]
    }
    if let stray {
      problems.append("\(buffer.label): byte \(stray) was written, there are \(buffer.byteCount)")
    }
    return Array(bytes.prefix(buffer.byteCount))
  }
}
