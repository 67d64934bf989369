internal import CVulkan

/// A chain of Vulkan structures linked by `pNext`, alive as long as this object.
final class StructureChain {
  private var nodes: [UnsafeMutablePointer<VkBaseOutStructure>] = []
  private var deallocations: [() -> Void] = []

  /// Copies a structure, its `sType` set, to the end of the chain and returns where it lies.
  @discardableResult
  func append<Structure>(_ structure: Structure) -> UnsafeMutablePointer<Structure> {
    let pointer = UnsafeMutablePointer<Structure>.allocate(capacity: 1)
    pointer.initialize(to: structure)
    deallocations.append { pointer.deallocate() }
    // Every chained structure begins with sType and pNext, which is all VkBaseOutStructure has.
    let node = UnsafeMutableRawPointer(pointer).assumingMemoryBound(to: VkBaseOutStructure.self)
    node.pointee.pNext = nil
    nodes.last?.pointee.pNext = node
    nodes.append(node)
    return pointer
  }

  /// The head of the chain, for a `pNext` field.
  var head: UnsafeMutableRawPointer? { nodes.first.map { UnsafeMutableRawPointer($0) } }

  deinit {
    for deallocate in deallocations { deallocate() }
  }
}
