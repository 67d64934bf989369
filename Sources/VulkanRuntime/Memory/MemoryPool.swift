internal import CVulkan
internal import Synchronization

/// Device memory in large blocks, each one Vulkan buffer, from which buffers are cut.
///
/// Few large allocations because drivers allow as few as 4096 of them, and because one
/// buffer per block makes a device address a plain sum.
final class MemoryPool: Sendable {
  /// 64 MiB: an ordinary layer's tensors share a block, and a wasted block costs little.
  static let blockByteCount = 64 << 20
  /// Multiple of every device's `minStorageBufferOffsetAlignment` and of a cache line.
  static let alignment = 256
  /// What a kernel may read past the end of a buffer. A uniform load is executed even where every
  /// lane is masked off, so a kernel that reads one vector ahead must find readable memory.
  static let readableTailByteCount = 4096

  private struct Pooled: Sendable {
    let block: MemoryBlock
    var free: FreeList
  }

  private let logical: LogicalDevice
  /// The most bytes of all blocks; nil for no limit.
  private let limit: Int?
  private let blocks = Mutex<[Pooled]>([])

  init(_ logical: LogicalDevice, limit: Int?) {
    self.logical = logical
    self.limit = limit
  }

  /// Bytes of all blocks held.
  var reservedByteCount: Int {
    blocks.withLock { Self.byteCount(of: $0) }
  }

  private static func byteCount(of blocks: [Pooled]) -> Int {
    blocks.reduce(0) { $0 + $1.block.byteCount }
  }

  /// Bytes of all ranges that are in use, each rounded up to the alignment.
  var allocatedByteCount: Int {
    blocks.withLock { $0.reduce(0) { $0 + $1.block.byteCount - $1.free.freeByteCount } }
  }

  /// Cuts a range out of a block, or makes a block for it.
  func allocate(
    _ byteCount: Int, purpose: MemoryPurpose, label: String
  ) throws(VulkanError) -> Allocation {
    // Some drivers report no limit; a quarter of the integers leaves room for rounding up.
    let limit =
      min(logical.capabilities.maxAllocationBytes, .max / 4) - Self.readableTailByteCount
    guard byteCount <= limit else {
      throw .limitExceeded(
        what: "memory for \(label) in bytes", requested: byteCount, allowed: limit)
    }
    let size = (max(byteCount, 1) + Self.alignment - 1) / Self.alignment * Self.alignment
    return try blocks.withLock { (pooled) throws(VulkanError) -> Allocation in
      for index in pooled.indices where pooled[index].block.purpose == purpose {
        if let start = pooled[index].free.allocate(size, alignment: Self.alignment) {
          return Allocation(
            pool: self, block: pooled[index].block, range: start..<start + size, label: label)
        }
      }
      // Half a block or more gets a block of its own, so that freeing it frees the memory.
      var blockSize = size > Self.blockByteCount / 2 ? size : Self.blockByteCount
      if let limit = self.limit, Self.byteCount(of: pooled) + blockSize > limit {
        // Blocks in which nothing lies give way, and the new one has no room for others.
        pooled.removeAll { $0.free.isWhole }
        let held = Self.byteCount(of: pooled)
        if held + blockSize > limit { blockSize = size }
        guard held + blockSize <= limit else {
          throw .limitExceeded(
            what: "bytes of device memory, with \(label)", requested: held + blockSize,
            allowed: limit)
        }
      }
      let block: MemoryBlock
      if let huge = hugeBlock(blockSize, purpose: purpose, label: label) {
        block = huge
      } else {
        block = try MemoryBlock(logical, byteCount: blockSize, purpose: purpose, label: label)
      }
      var free = FreeList(byteCount: blockSize)
      _ = free.allocate(size, alignment: Self.alignment)
      pooled.append(Pooled(block: block, free: free))
      return Allocation(pool: self, block: block, range: 0..<size, label: label)
    }
  }

  /// A block in large pages; nil where the device is not a processor or has no use for memory of ours.
  private func hugeBlock(_ byteCount: Int, purpose: MemoryPurpose, label: String) -> MemoryBlock? {
    // Of less than a block's size up to a page would be wasted.
    guard byteCount >= Self.blockByteCount, logical.memoryTypes.isUnified,
      logical.capabilities.kind == .cpu,
      logical.capabilities.has(.externalMemoryHost),
      let pages = HugePages(byteCount + Self.readableTailByteCount)
    else { return nil }
    do throws(VulkanError) {
      return try MemoryBlock(
        importing: pages.start, byteCount: pages.byteCount, usedByteCount: byteCount,
        purpose: purpose, label: label, into: logical
      ) { pages.unmap() }
    } catch {
      // The driver's own memory may do, and says so if it does not.
      pages.unmap()
      return nil
    }
  }

  /// Takes back a range; an empty block is released unless it is the last of its purpose.
  fileprivate func free(_ range: Range<Int>, of block: MemoryBlock) {
    blocks.withLock { pooled in
      guard let index = pooled.firstIndex(where: { $0.block === block }) else { return }
      pooled[index].free.free(range)
      let isSpare = pooled.contains { $0.block !== block && $0.block.purpose == block.purpose }
      if pooled[index].free.isWhole, isSpare || block.byteCount > Self.blockByteCount {
        pooled.remove(at: index)
      }
    }
  }
}

/// One piece of device memory with one buffer over all of it: allocated, imported or an app's own.
final class MemoryBlock: @unchecked Sendable {
  // Unchecked: handles set once in `init`; the mapped bytes are the caller's to order.
  let logical: LogicalDevice
  let byteCount: Int
  let purpose: MemoryPurpose
  let buffer: VkBuffer
  let address: UInt64
  /// Where the host sees the block, if it does.
  let mapped: UnsafeMutableRawPointer?
  /// What the buffer was made for: flags of `VkBufferUsageFlagBits`.
  let usage: UInt32
  /// The memory that goes with the block; nil where it is an app's own, and the buffer as well.
  private let memory: VkDeviceMemory?
  private let freed: (@Sendable () -> Void)?

  /// What every buffer of this library's own is made for.
  static let fullUsage =
    VK_BUFFER_USAGE_STORAGE_BUFFER_BIT.rawValue | VK_BUFFER_USAGE_TRANSFER_SRC_BIT.rawValue
    | VK_BUFFER_USAGE_TRANSFER_DST_BIT.rawValue
    | VK_BUFFER_USAGE_SHADER_DEVICE_ADDRESS_BIT.rawValue

  init(
    _ logical: LogicalDevice, byteCount: Int, purpose: MemoryPurpose, label: String
  ) throws(VulkanError) {
    let calls = logical.calls
    let buffer = try logical.makeBuffer(
      byteCount: byteCount + MemoryPool.readableTailByteCount, usage: Self.fullUsage)
    var ownsBuffer = true
    defer { if ownsBuffer { calls.vkDestroyBuffer(logical.handle, buffer, nil) } }

    var requirements = VkMemoryRequirements()
    calls.vkGetBufferMemoryRequirements(logical.handle, buffer, &requirements)
    guard
      let type = logical.memoryTypes.index(for: purpose, allowed: requirements.memoryTypeBits)
    else {
      throw .missingFeatures(
        device: logical.capabilities.name, features: ["a memory type for \(purpose) buffers"])
    }
    let memory = try logical.allocateMemory(
      byteCount: requirements.size, type: type, for: label)
    var ownsMemory = true
    defer { if ownsMemory { calls.vkFreeMemory(logical.handle, memory, nil) } }

    try logical.check(
      calls.vkBindBufferMemory(logical.handle, buffer, memory, 0), "vkBindBufferMemory")
    var pointer: UnsafeMutableRawPointer?
    if logical.memoryTypes.isMapped(type), purpose != .device || logical.memoryTypes.isUnified {
      try logical.check(
        calls.vkMapMemory(logical.handle, memory, 0, VK_WHOLE_SIZE, 0, &pointer), "vkMapMemory")
    }
    self.logical = logical
    self.byteCount = byteCount
    self.purpose = purpose
    self.buffer = buffer
    self.memory = memory
    mapped = pointer
    address = logical.address(of: buffer)
    usage = Self.fullUsage
    freed = nil
    ownsBuffer = false
    ownsMemory = false
  }

  /// A buffer that is there already, its memory bound.
  ///
  /// - Parameters:
  ///   - memory: what is freed at the end, and the buffer with it; nil leaves both alone.
  ///   - freed: called when the memory is freed.
  init(
    _ logical: LogicalDevice, buffer: VkBuffer, byteCount: Int, purpose: MemoryPurpose = .device,
    usage: UInt32, mapped: UnsafeMutableRawPointer?, memory: VkDeviceMemory?,
    freed: (@Sendable () -> Void)?
  ) {
    self.logical = logical
    self.byteCount = byteCount
    self.purpose = purpose
    self.buffer = buffer
    self.usage = usage
    self.mapped = mapped
    self.memory = memory
    self.freed = freed
    address = logical.address(of: buffer)
  }

  deinit {
    if let memory {
      logical.calls.vkDestroyBuffer(logical.handle, buffer, nil)
      // Freeing unmaps.
      logical.calls.vkFreeMemory(logical.handle, memory, nil)
    }
    freed?()
  }
}

/// A range of a block, given back when the last buffer over it goes.
final class Allocation: Sendable {
  /// Nil where the block is not cut into ranges that come back.
  private let pool: MemoryPool?
  let block: MemoryBlock
  let range: Range<Int>
  let label: String
  /// Called when the last buffer is gone.
  private let released: (@Sendable () -> Void)?

  init(
    pool: MemoryPool?, block: MemoryBlock, range: Range<Int>, label: String,
    released: (@Sendable () -> Void)? = nil
  ) {
    self.pool = pool
    self.block = block
    self.range = range
    self.label = label
    self.released = released
  }

  deinit {
    pool?.free(range, of: block)
    released?()
  }
}

extension LogicalDevice {
  /// Makes a buffer without memory.
  ///
  /// - Parameter chain: structures of extensions.
  func makeBuffer(
    byteCount: Int, usage: UInt32, extendedBy chain: StructureChain = StructureChain()
  ) throws(VulkanError) -> VkBuffer {
    var info = VkBufferCreateInfo()
    info.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO
    info.pNext = UnsafeRawPointer(chain.head)
    info.size = UInt64(byteCount)
    info.usage = usage
    info.sharingMode = VK_SHARING_MODE_EXCLUSIVE
    var created: VkBuffer?
    let result = withExtendedLifetime(chain) {
      calls.vkCreateBuffer(handle, &info, nil, &created)
    }
    try check(result, "vkCreateBuffer")
    guard let created else {
      throw .callFailed(function: "vkCreateBuffer", result: .initializationFailed)
    }
    return created
  }

  /// Allocates memory for a buffer that shaders address.
  ///
  /// - Parameters:
  ///   - type: the memory type's index.
  ///   - label: what it is for, named in errors.
  ///   - chain: structures of extensions.
  func allocateMemory(
    byteCount: UInt64, type: Int, for label: String,
    extendedBy chain: StructureChain = StructureChain()
  ) throws(VulkanError) -> VkDeviceMemory {
    var flags = VkMemoryAllocateFlagsInfo()
    flags.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_FLAGS_INFO
    flags.flags = VK_MEMORY_ALLOCATE_DEVICE_ADDRESS_BIT.rawValue
    chain.append(flags)
    var info = VkMemoryAllocateInfo()
    info.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO
    info.pNext = UnsafeRawPointer(chain.head)
    info.allocationSize = byteCount
    info.memoryTypeIndex = UInt32(type)
    var allocated: VkDeviceMemory?
    let result = withExtendedLifetime(chain) {
      VulkanResult(calls.vkAllocateMemory(handle, &info, nil, &allocated))
    }
    if result == .outOfDeviceMemory || result == .outOfHostMemory {
      throw .outOfMemory(requestedBytes: Int(byteCount), purpose: label, result: result)
    }
    try check(result, "vkAllocateMemory")
    guard let allocated else {
      throw .callFailed(function: "vkAllocateMemory", result: .initializationFailed)
    }
    return allocated
  }

  /// Where shaders find a buffer.
  func address(of buffer: VkBuffer) -> UInt64 {
    var info = VkBufferDeviceAddressInfo()
    info.sType = VK_STRUCTURE_TYPE_BUFFER_DEVICE_ADDRESS_INFO
    info.buffer = buffer
    return calls.vkGetBufferDeviceAddress(handle, &info)
  }
}
