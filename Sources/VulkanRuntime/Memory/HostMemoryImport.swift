internal import CVulkan

/// Memory of an app's own, imported by `VK_EXT_external_memory_host` with one buffer over it.
extension MemoryBlock {
  private static let handleType = VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT

  /// - Parameters:
  ///   - pointer: the first byte, at a multiple of the device's alignment.
  ///   - byteCount: a multiple of the device's alignment.
  ///   - usedByteCount: how many of them the block counts; nil for all.
  ///   - purpose: what the block is for.
  convenience init(
    importing pointer: UnsafeMutableRawPointer, byteCount: Int, usedByteCount: Int? = nil,
    purpose: MemoryPurpose = .device, label: String, into logical: LogicalDevice,
    freed: @escaping @Sendable () -> Void
  ) throws(VulkanError) {
    guard let getProperties = logical.calls.vkGetMemoryHostPointerPropertiesEXT else {
      throw .functionMissing(name: "vkGetMemoryHostPointerPropertiesEXT")
    }
    var properties = VkMemoryHostPointerPropertiesEXT()
    properties.sType = VK_STRUCTURE_TYPE_MEMORY_HOST_POINTER_PROPERTIES_EXT
    try logical.check(
      getProperties(logical.handle, Self.handleType, pointer, &properties),
      "vkGetMemoryHostPointerPropertiesEXT")
    let buffer = try Self.makeBuffer(byteCount, logical)
    do throws(VulkanError) {
      let memory = try Self.makeMemory(
        pointer, byteCount, allowed: properties.memoryTypeBits, for: buffer, label, logical)
      do throws(VulkanError) {
        try logical.check(
          logical.calls.vkBindBufferMemory(logical.handle, buffer, memory, 0),
          "vkBindBufferMemory")
      } catch {
        logical.calls.vkFreeMemory(logical.handle, memory, nil)
        throw error
      }
      self.init(
        logical, buffer: buffer, byteCount: usedByteCount ?? byteCount, purpose: purpose,
        usage: Self.fullUsage, mapped: pointer, memory: memory, freed: freed)
    } catch {
      logical.calls.vkDestroyBuffer(logical.handle, buffer, nil)
      throw error
    }
  }

  private static func makeBuffer(
    _ byteCount: Int, _ logical: LogicalDevice
  ) throws(VulkanError) -> VkBuffer {
    var external = VkExternalMemoryBufferCreateInfo()
    external.sType = VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_BUFFER_CREATE_INFO
    external.handleTypes = handleType.rawValue
    let chain = StructureChain()
    chain.append(external)
    return try logical.makeBuffer(byteCount: byteCount, usage: fullUsage, extendedBy: chain)
  }

  private static func makeMemory(
    _ pointer: UnsafeMutableRawPointer, _ byteCount: Int, allowed: UInt32, for buffer: VkBuffer,
    _ label: String, _ logical: LogicalDevice
  ) throws(VulkanError) -> VkDeviceMemory {
    var requirements = VkMemoryRequirements()
    logical.calls.vkGetBufferMemoryRequirements(logical.handle, buffer, &requirements)
    guard requirements.size <= UInt64(byteCount) else {
      throw .outOfBounds(
        what: label, requestedBytes: Int(clamping: requirements.size), availableBytes: byteCount)
    }
    // Coherent, so that the app sees results in its own memory without a call.
    let types = logical.memoryTypes
    guard let type = types.indexForImport(allowed: allowed & requirements.memoryTypeBits) else {
      throw .missingFeatures(
        device: logical.capabilities.name,
        features: ["a host-coherent memory type for the memory of \(label)"])
    }
    var source = VkImportMemoryHostPointerInfoEXT()
    source.sType = VK_STRUCTURE_TYPE_IMPORT_MEMORY_HOST_POINTER_INFO_EXT
    source.handleType = handleType
    source.pHostPointer = pointer
    let chain = StructureChain()
    chain.append(source)
    return try logical.allocateMemory(
      byteCount: UInt64(byteCount), type: type, for: label, extendedBy: chain)
  }
}
