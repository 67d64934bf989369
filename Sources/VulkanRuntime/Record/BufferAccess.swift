/// What a dispatch does with a buffer, said where the buffer is bound; barriers follow from it.
public enum BufferAccess: Sendable {
  /// The dispatch reads the buffer.
  case read(DeviceBuffer)
  /// The dispatch writes the buffer.
  case write(DeviceBuffer)
  /// The dispatch reads and writes the buffer.
  case readWrite(DeviceBuffer)

  /// The buffer in question.
  public var buffer: DeviceBuffer {
    switch self {
    case .read(let buffer), .write(let buffer), .readWrite(let buffer): buffer
    }
  }

  /// Whether the dispatch may change the buffer.
  public var isWrite: Bool {
    if case .read = self { false } else { true }
  }
}
