internal import CVulkan

/// The number of workgroups of a dispatch along x, y and z.
public struct WorkgroupCount: Sendable, Hashable {
  /// Workgroups along x.
  public var x: Int
  /// Workgroups along y.
  public var y: Int
  /// Workgroups along z.
  public var z: Int

  /// A grid; axes that are not named have one workgroup.
  public init(x: Int, y: Int = 1, z: Int = 1) {
    self.x = x
    self.y = y
    self.z = z
  }
}

/// A list of commands for the device, appended to by kernels and submitted by the caller.
///
/// A recorder belongs to one task. It keeps the buffers and pipelines that it names alive until its
/// work is done. It is used up by its submission; one that was opened for replay can become a ``CommandList`` instead.
public final class Recorder {
  let logical: LogicalDevice
  /// Whether its commands may be submitted more than once.
  let isReplayable: Bool
  private(set) var slot: CommandSlot?
  private var tracker = BarrierTracker()
  private(set) var retained: [any AnyObject & Sendable] = []
  /// Whether a timestamp is taken before the first dispatch and after each one, as long as a recorder has any left:
  /// for profiles. Where dispatches overlap, the later one has what is left of its time.
  public var timesDispatches = false
  /// The pipelines of the dispatches that were timed, in their order: the n-th ran between timestamps n and n + 1.
  public private(set) var timedDispatches: [ComputePipeline] = []

  /// Every stage that a recorder has commands for.
  static let work =
    VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT.rawValue | VK_PIPELINE_STAGE_TRANSFER_BIT.rawValue
  private static let shaderAccess =
    VK_ACCESS_SHADER_READ_BIT.rawValue | VK_ACCESS_SHADER_WRITE_BIT.rawValue
    | VK_ACCESS_TRANSFER_READ_BIT.rawValue | VK_ACCESS_TRANSFER_WRITE_BIT.rawValue

  init(
    _ logical: LogicalDevice, slot: CommandSlot, isReplayable: Bool = false
  ) throws(VulkanError) {
    self.logical = logical
    self.slot = slot
    self.isReplayable = isReplayable
    try slot.begin(isReplayable: isReplayable)
    // Submissions to one queue start in order but may overlap: what earlier ones wrote must be
    // visible here.
    barrier(
      to: Self.work, sourceAccess: VK_ACCESS_MEMORY_WRITE_BIT.rawValue,
      destinationAccess: Self.shaderAccess)
  }

  /// Appends one dispatch of a compute pipeline.
  ///
  /// - Parameters:
  ///   - pipeline: the shader with its constants, of the recorder's device.
  ///   - pushConstants: the shader's push constants, of exactly the size that it declares.
  ///   - groups: the grid; an empty grid is a no-op.
  ///   - accesses: every buffer that the dispatch touches.
  /// - Throws: `shaderMismatch`, `limitExceeded`, `wrongDevice`, `alreadySubmitted`; `missingFeatures` where
  ///   dispatches are to be timed and the queue has no timestamps.
  public func dispatch<PushConstants: BitwiseCopyable>(
    _ pipeline: ComputePipeline, pushConstants: PushConstants, groups: WorkgroupCount,
    accesses: [BufferAccess]
  ) throws(VulkanError) {
    let commands = try openCommands()
    guard pipeline.logical === logical else {
      throw wrongDevice("pipeline \(pipeline.name)", pipeline.logical)
    }
    guard MemoryLayout<PushConstants>.size == pipeline.pushConstantByteCount else {
      throw .shaderMismatch(
        name: pipeline.name,
        reason: "it declares \(pipeline.pushConstantByteCount) bytes of push constants, "
          + "the caller passes \(MemoryLayout<PushConstants>.size)")
    }
    for (axis, count) in [groups.x, groups.y, groups.z].enumerated() {
      let allowed = logical.capabilities.maxWorkgroupCount[axis]
      guard count >= 0, count <= allowed else {
        throw .limitExceeded(
          what: "workgroups of \(pipeline.name) along axis \(axis)", requested: count,
          allowed: allowed)
      }
    }
    if groups.x == 0 || groups.y == 0 || groups.z == 0 { return }
    let isTimed =
      timesDispatches && timedDispatches.count + 1 < Int(CommandSlot.timestampCapacity)
    if isTimed, timedDispatches.isEmpty { try timestamp() }
    try prepare(accesses)
    retained.append(pipeline)
    let calls = logical.calls
    calls.vkCmdBindPipeline(commands, VK_PIPELINE_BIND_POINT_COMPUTE, pipeline.handle)
    withUnsafeBytes(of: pushConstants) { bytes in
      calls.vkCmdPushConstants(
        commands, pipeline.layout, VK_SHADER_STAGE_COMPUTE_BIT.rawValue, 0, UInt32(bytes.count),
        bytes.baseAddress)
    }
    calls.vkCmdDispatch(commands, UInt32(groups.x), UInt32(groups.y), UInt32(groups.z))
    if isTimed {
      try timestamp()
      timedDispatches.append(pipeline)
    }
  }

  /// Appends a copy of as many bytes as the source has.
  ///
  /// - Throws: `outOfBounds`, `overlappingCopy`, `missingUsage`, `wrongDevice`, `alreadySubmitted`.
  public func copy(from source: DeviceBuffer, to destination: DeviceBuffer) throws(VulkanError) {
    let commands = try openCommands()
    guard source.byteCount <= destination.byteCount else {
      throw .outOfBounds(
        what: "a copy to \(destination.label)", requestedBytes: source.byteCount,
        availableBytes: destination.byteCount)
    }
    // As many bytes as the source has; the rest of the destination is not touched.
    let target = try destination.slice(0..<source.byteCount)
    guard !source.overlaps(target) else {
      throw .overlappingCopy(source: source.label, destination: destination.label)
    }
    if source.byteCount == 0 { return }
    try source.checkUsage(VK_BUFFER_USAGE_TRANSFER_SRC_BIT)
    try target.checkUsage(VK_BUFFER_USAGE_TRANSFER_DST_BIT)
    try prepare([.read(source), .write(target)])
    var region = VkBufferCopy(
      srcOffset: UInt64(source.offsetInBlock), dstOffset: UInt64(destination.offsetInBlock),
      size: UInt64(source.byteCount))
    logical.calls.vkCmdCopyBuffer(commands, source.handle, destination.handle, 1, &region)
  }

  /// Appends a fill of the buffer with a repeated 32-bit word; its size is a multiple of 4 bytes.
  public func fill(_ buffer: DeviceBuffer, with word: UInt32) throws(VulkanError) {
    let commands = try openCommands()
    guard buffer.byteCount % 4 == 0, buffer.offsetInBlock % 4 == 0 else {
      throw .outOfBounds(
        what: "a fill of \(buffer.label) by 4-byte words",
        requestedBytes: (buffer.byteCount + 3) / 4 * 4, availableBytes: buffer.byteCount)
    }
    if buffer.byteCount == 0 { return }
    try buffer.checkUsage(VK_BUFFER_USAGE_TRANSFER_DST_BIT)
    try prepare([.write(buffer)])
    logical.calls.vkCmdFillBuffer(
      commands, buffer.handle, UInt64(buffer.offsetInBlock), UInt64(buffer.byteCount), word)
  }

  /// The most bytes that one update carries, by Vulkan's rules.
  public static let updateByteLimit = 65536

  /// Appends a copy of bytes that the command list itself carries: small tables and parameters.
  ///
  /// - Parameters:
  ///   - buffer: where they go, at a multiple of 4 bytes; at least as large as they are.
  ///   - bytes: a multiple of 4 and at most ``updateByteLimit`` of them.
  /// - Throws: `outOfBounds`, `limitExceeded`, `missingUsage`, `wrongDevice`, `alreadySubmitted`.
  public func update(_ buffer: DeviceBuffer, with bytes: [UInt8]) throws(VulkanError) {
    let commands = try openCommands()
    guard bytes.count <= buffer.byteCount, bytes.count % 4 == 0, buffer.offsetInBlock % 4 == 0
    else {
      throw .outOfBounds(
        what: "an update of \(buffer.label) by 4-byte words",
        requestedBytes: (bytes.count + 3) / 4 * 4, availableBytes: buffer.byteCount)
    }
    guard bytes.count <= Self.updateByteLimit else {
      throw .limitExceeded(
        what: "bytes of an update of \(buffer.label)", requested: bytes.count,
        allowed: Self.updateByteLimit)
    }
    if bytes.isEmpty { return }
    try buffer.checkUsage(VK_BUFFER_USAGE_TRANSFER_DST_BIT)
    try prepare([.write(try buffer.slice(0..<bytes.count))])
    bytes.withUnsafeBytes { source in
      logical.calls.vkCmdUpdateBuffer(
        commands, buffer.handle, UInt64(buffer.offsetInBlock), UInt64(source.count),
        source.baseAddress)
    }
  }

  /// Appends a timestamp, taken when all earlier commands are done.
  ///
  /// - Throws: `limitExceeded` beyond 64 timestamps, `missingFeatures` where the queue has none.
  public func timestamp() throws(VulkanError) {
    _ = try openCommands()
    guard let slot else { throw .alreadySubmitted }
    try slot.writeTimestamp()
  }

  /// Closes the list and hands its command buffer to the queue, with what it keeps alive.
  func finish() throws(VulkanError) -> (
    slot: CommandSlot, retained: [any AnyObject & Sendable]
  ) {
    let commands = try openCommands()
    guard let slot else { throw .alreadySubmitted }
    // The host reads results as soon as the submission is done.
    barrier(
      to: VK_PIPELINE_STAGE_HOST_BIT.rawValue, sourceAccess: Self.shaderAccess,
      destinationAccess: VK_ACCESS_HOST_READ_BIT.rawValue)
    self.slot = nil
    defer { retained = [] }
    try logical.check(logical.calls.vkEndCommandBuffer(commands), "vkEndCommandBuffer")
    return (slot, retained)
  }

  private func openCommands() throws(VulkanError) -> VkCommandBuffer {
    guard let slot else { throw .alreadySubmitted }
    return slot.commands
  }

  private func prepare(_ accesses: [BufferAccess]) throws(VulkanError) {
    for access in accesses where access.buffer.logical !== logical {
      throw wrongDevice("buffer \(access.buffer.label)", access.buffer.logical)
    }
    if tracker.needsBarrier(before: accesses.map(\.trackedRange)) {
      barrier(
        to: Self.work, sourceAccess: Self.shaderAccess, destinationAccess: Self.shaderAccess)
    }
    for access in accesses { retained.append(access.buffer.allocation) }
  }

  private func barrier(to stages: UInt32, sourceAccess: UInt32, destinationAccess: UInt32) {
    guard let slot else { return }
    var barrier = VkMemoryBarrier()
    barrier.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER
    barrier.srcAccessMask = sourceAccess
    barrier.dstAccessMask = destinationAccess
    logical.calls.vkCmdPipelineBarrier(
      slot.commands, Self.work, stages, 0, 1, &barrier, 0, nil, 0, nil)
  }

  private func wrongDevice(_ what: String, _ other: LogicalDevice) -> VulkanError {
    .wrongDevice(
      what: what, expected: logical.capabilities.name, actual: other.capabilities.name)
  }
}
