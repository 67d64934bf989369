/// Decides before which commands a barrier is needed, from what each command reads and writes.
///
/// A barrier is needed where a range was written since the last barrier and is now read or written,
/// or was read and is now written. One memory barrier covers all earlier commands, so after it the
/// history is empty.
struct BarrierTracker {
  /// A range of bytes in the memory block with that identity.
  struct Range {
    var block: ObjectIdentifier
    var bytes: Swift.Range<Int>
    var isWrite: Bool

    func conflicts(with other: Range) -> Bool {
      (isWrite || other.isWrite) && block == other.block && bytes.overlaps(other.bytes)
    }
  }

  private var history: [Range] = []
  /// Beyond this many accesses a barrier is cheaper than comparing each new access with all of them.
  private static let historyLimit = 1024

  /// Takes note of a command's accesses and says whether a barrier must come before it.
  mutating func needsBarrier(before accesses: [Range]) -> Bool {
    let conflicts =
      history.count > Self.historyLimit
      || accesses.contains { access in history.contains { $0.conflicts(with: access) } }
    if conflicts { history.removeAll(keepingCapacity: true) }
    history.append(contentsOf: accesses)
    return conflicts
  }
}

extension BufferAccess {
  var trackedRange: BarrierTracker.Range {
    BarrierTracker.Range(
      block: ObjectIdentifier(buffer.allocation.block),
      bytes: buffer.offsetInBlock..<buffer.offsetInBlock + buffer.byteCount, isWrite: isWrite)
  }
}
