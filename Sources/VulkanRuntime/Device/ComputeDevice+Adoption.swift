/// Vulkan objects and memory of an app's own.
extension ComputeDevice {
  /// The bytes behind a buffer that kernels may read and never use; an app's own buffers and memory have as
  /// many behind what they are used for.
  public static let readableTailByteCount = MemoryPool.readableTailByteCount

  /// Works on a Vulkan device of an app's own, whose handles are left alone at the end.
  ///
  /// Semaphores, command pools, pipelines and memory of its own are made on that device and are gone when
  /// ``ForeignDevice/released`` is called. Other queues of the device are not touched, and not waited for.
  ///
  /// - Parameters:
  ///   - foreign: the handles, and what the app enabled.
  ///   - options: as for a device that is opened; validation layers are the business of the instance's owner.
  /// - Throws: `notAdoptable` for null handles and those that do not belong together; `missingFeatures` naming
  ///   what the device does not have or was created without; `limitExceeded` for the queue family's index;
  ///   `loaderMissing`, `functionMissing`, or the failed call.
  public convenience init(
    adopting foreign: ForeignDevice, options: Options = Options()
  ) throws(VulkanError) {
    try self.init(adopting: foreign, options: options) { _ in }
  }

  convenience init(
    adopting foreign: ForeignDevice, options: Options, adjustCalls: (inout DeviceCalls) -> Void
  ) throws(VulkanError) {
    guard options.validationLog == nil else {
      throw .notAdoptable(
        what: "the VkInstance",
        reason: "its layers are chosen where it is made; give no validationLog"
      )
    }
    var checked = try foreign.checked()
    if options.forcesStaging { checked.capabilities.hasUnifiedMemory = false }
    try self.init(
      LogicalDevice(adopting: foreign, checked, adjustCalls: adjustCalls), options: options)
  }

  /// Uses a part of a `VkBuffer` of an app's own, which is left alone at the end.
  ///
  /// Parts of one buffer may be adopted one by one; barriers between kernels follow as for slices of one.
  /// Barriers between these and the app's own commands are the app's: what is submitted here starts behind
  /// what was submitted to the same queue before, as far as the memory accesses of compute and transfers go.
  ///
  /// - Parameters:
  ///   - foreign: the handle, what it was created with, and the part.
  ///   - label: what it is for, named in errors.
  /// - Throws: `notAdoptable`, `missingUsage`, `outOfBounds`, `deviceLost`.
  public func adopt(
    _ foreign: ForeignBuffer, label: String = "buffer"
  ) throws(VulkanError) -> DeviceBuffer {
    try logical.checkAlive("adoption")
    let (buffer, bytes) = try foreign.checked(label)
    let block = try foreignMemory.block(of: foreign, buffer, label: label, on: logical)
    return DeviceBuffer(
      allocation: Allocation(
        pool: nil, block: block, range: bytes, label: label, released: foreign.released),
      byteCount: bytes.count)
  }

  /// How many bytes of an app's own memory a buffer of `byteCount` bytes takes: with the readable tail, rounded
  /// up to ``DeviceCapabilities/hostPointerAlignment``.
  ///
  /// - Throws: `missingFeatures` where the device imports no memory, `outOfBounds` for a negative size,
  ///   `limitExceeded`.
  public func importedByteCount(for byteCount: Int) throws(VulkanError) -> Int {
    guard capabilities.has(.externalMemoryHost), let alignment = capabilities.hostPointerAlignment,
      alignment > 0
    else {
      throw .missingFeatures(
        device: capabilities.name,
        features: [DeviceCapabilities.Feature.externalMemoryHost.rawValue])
    }
    guard byteCount >= 0 else {
      throw .outOfBounds(what: "imported memory", requestedBytes: byteCount, availableBytes: 0)
    }
    let limit = min(capabilities.maxAllocationBytes, .max / 4)
    guard byteCount <= limit - alignment - Self.readableTailByteCount else {
      throw .limitExceeded(what: "imported memory in bytes", requested: byteCount, allowed: limit)
    }
    return (byteCount + Self.readableTailByteCount + alignment - 1) / alignment * alignment
  }

  /// Makes a buffer over memory that the app owns, without a copy: what kernels write is in the app's memory
  /// as soon as their work was waited for, and what the app writes before it submits is what they read.
  ///
  /// By [VK_EXT_external_memory_host](https://registry.khronos.org/vulkan/specs/latest/man/html/VK_EXT_external_memory_host.html).
  /// The memory is the app's: mapped, not moved and not freed until `released` was called, which is once the
  /// buffer, its slices and all work with them are gone. On a device with memory of its own, kernels reach this
  /// memory over the bus.
  ///
  /// - Parameters:
  ///   - pointer: the first byte, at a multiple of ``DeviceCapabilities/hostPointerAlignment``.
  ///   - availableByteCount: how many bytes there are, at least ``importedByteCount(for:)`` of `byteCount`.
  ///   - byteCount: the size of the buffer, 0 or more.
  ///   - label: what it is for, named in errors.
  ///   - released: called once, on any thread, when the memory is the app's alone again.
  /// - Throws: `missingFeatures` where the device lacks the extension; `misaligned`; `outOfBounds`,
  ///   `limitExceeded`; `notAdoptable` where a part of the memory is imported already; `outOfMemory`,
  ///   `deviceLost`, or the failed call. `released` is then not called.
  public func importMemory(
    at pointer: UnsafeMutableRawPointer, availableByteCount: Int, byteCount: Int,
    label: String = "buffer", released: (@Sendable () -> Void)? = nil
  ) throws(VulkanError) -> DeviceBuffer {
    try logical.checkAlive("import")
    let imported = try importedByteCount(for: byteCount)
    let alignment = capabilities.hostPointerAlignment ?? 1
    let start = UInt(bitPattern: pointer)
    guard start.isMultiple(of: UInt(alignment)) else {
      throw .misaligned(
        what: "the address of the memory of \(label)", value: UInt64(start), alignment: alignment)
    }
    guard imported <= availableByteCount else {
      throw .outOfBounds(
        what:
          "\(label), rounded up and with \(Self.readableTailByteCount) readable bytes behind it,",
        requestedBytes: imported, availableBytes: availableByteCount)
    }
    let (end, overflows) = start.addingReportingOverflow(UInt(imported))
    guard !overflows else {
      throw .outOfBounds(what: label, requestedBytes: imported, availableBytes: 0)
    }
    let range = start..<end
    let foreignMemory = foreignMemory
    try foreignMemory.claim(range, label: label)
    let block: MemoryBlock
    do throws(VulkanError) {
      block = try MemoryBlock(
        importing: pointer, byteCount: imported, label: label, into: logical
      ) {
        foreignMemory.release(range)
        released?()
      }
    } catch {
      foreignMemory.release(range)
      throw error
    }
    return DeviceBuffer(
      allocation: Allocation(pool: nil, block: block, range: 0..<byteCount, label: label),
      byteCount: byteCount)
  }
}
