internal import CVulkan
internal import Synchronization

/// What a device uses of memory that others own: adopted buffers, and imported ranges of the host's.
///
/// Barriers and overlap checks go by the block, so the same memory must never stand behind two of them.
final class ForeignMemory: Sendable {
  private struct Adopted: Sendable {
    weak var block: MemoryBlock?
  }

  private struct State {
    /// By the number of the `VkBuffer`.
    var adopted: [UInt: Adopted] = [:]
    var imported: [Range<UInt>] = []
  }

  private let state = Mutex(State())

  /// The block of an app's own buffer: the one that is in use already, else a new one.
  func block(
    of foreign: ForeignBuffer, _ buffer: VkBuffer, label: String, on logical: LogicalDevice
  ) throws(VulkanError) -> MemoryBlock {
    let key = UInt(bitPattern: buffer)
    return try state.withLock { (state) throws(VulkanError) -> MemoryBlock in
      // A handle may come again while the block of the buffer that had it is on its way out, which tells the app before
      // it is gone: the address is another one then, or the block is as good.
      if let known = state.adopted[key]?.block, known.address == logical.address(of: buffer) {
        guard known.byteCount == foreign.bufferByteCount, known.usage == foreign.usage,
          known.mapped == foreign.mapped
        else {
          throw .notAdoptable(
            what: "the VkBuffer of \(label)",
            reason: "it is in use here, described with another size, usage or mapping")
        }
        return known
      }
      // Handles come again after the app has freed a buffer: what is gone is forgotten here.
      state.adopted = state.adopted.filter { $0.value.block != nil }
      let block = MemoryBlock(
        logical, buffer: buffer, byteCount: foreign.bufferByteCount, usage: foreign.usage,
        mapped: foreign.mapped, memory: nil, freed: nil)
      state.adopted[key] = Adopted(block: block)
      return block
    }
  }

  /// Notes a range of the host's memory as imported.
  func claim(_ range: Range<UInt>, label: String) throws(VulkanError) {
    try state.withLock { (state) throws(VulkanError) in
      guard !state.imported.contains(where: { $0.overlaps(range) }) else {
        throw .notAdoptable(
          what: "the memory of \(label)", reason: "a part of it is imported already; slice that")
      }
      state.imported.append(range)
    }
  }

  /// Forgets an imported range.
  func release(_ range: Range<UInt>) {
    state.withLock { $0.imported.removeAll { $0 == range } }
  }
}
