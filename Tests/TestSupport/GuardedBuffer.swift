import Testing
import VulkanAttention

/// A buffer between two guards, all of it filled with NaN before use.
///
/// The poison shows what a kernel forgot to write and what it read beyond the end; the guards show
/// what it wrote beyond either end.
public struct GuardedBuffer: Sendable {
  /// NaN as one f32 and as two f16 or bf16.
  public static let poison: UInt32 = 0x7FFF_7FFF
  /// The guard at either end: at least as much as a kernel may read past the end.
  public static let guardByteCount = 4096

  /// What the kernel gets.
  public let buffer: DeviceBuffer
  private let whole: DeviceBuffer
  private let device: ComputeDevice

  /// Makes a poisoned buffer.
  public init(byteCount: Int, label: String, on device: ComputeDevice) async throws {
    self.device = device
    // Fills go by words; a guard begins right behind the last byte all the same.
    let rounded = (byteCount + 3) / 4 * 4
    whole = try device.makeBuffer(byteCount: rounded + 2 * Self.guardByteCount, label: label)
    buffer = try whole.slice(Self.guardByteCount..<Self.guardByteCount + byteCount)
    let recorder = try device.makeRecorder()
    try recorder.fill(whole, with: Self.poison)
    try await device.submit(recorder).completed()
  }

  /// Makes a buffer with the given elements between poisoned guards.
  public init<Element: BitwiseCopyable & Sendable>(
    _ elements: [Element], label: String, on device: ComputeDevice
  ) async throws {
    try await self.init(
      byteCount: elements.count * MemoryLayout<Element>.stride, label: label, on: device)
    try await device.upload(elements, to: buffer)
  }

  /// Fails where a byte outside the buffer has changed.
  public func expectGuardsIntact(
    sourceLocation: SourceLocation = #_sourceLocation
  ) async throws {
    let bytes = try await device.download(UInt8.self, from: whole)
    let poison = withUnsafeBytes(of: Self.poison) { Array($0) }
    let front = 0..<Self.guardByteCount
    let tail = Self.guardByteCount + buffer.byteCount..<bytes.count
    for index in [front, tail].joined() where bytes[index] != poison[index % 4] {
      Issue.record(
        """
        a byte \(index < Self.guardByteCount ? "before" : "behind") \(buffer.label) was written, \
        \(index - Self.guardByteCount) bytes from its start, which has \(buffer.byteCount)
        """, sourceLocation: sourceLocation)
      return
    }
  }
}
