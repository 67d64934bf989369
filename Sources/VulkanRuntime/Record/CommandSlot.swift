internal import CVulkan
internal import Synchronization

/// The slots of a device that no one uses: recorders come from the device, and their work ends in any of its streams.
final class CommandSlots: Sendable {
  private let free = Mutex<[CommandSlot]>([])

  func take() -> CommandSlot? { free.withLock { $0.popLast() } }

  func give(_ slot: CommandSlot) { free.withLock { $0.append(slot) } }
}

/// A command buffer with its pool and its timestamps, used again once its work is done.
final class CommandSlot: @unchecked Sendable {
  // Unchecked: owned by one recorder, then by one submission or command list, then by the free list.
  private let logical: LogicalDevice
  private let pool: VkCommandPool
  let commands: VkCommandBuffer
  private var queries: VkQueryPool?
  private(set) var timestampCount: UInt32 = 0

  /// Timestamps of one recorder: 64 marks time every kernel of a layer.
  static let timestampCapacity: UInt32 = 64

  init(_ logical: LogicalDevice) throws(VulkanError) {
    let calls = logical.calls
    var poolInfo = VkCommandPoolCreateInfo()
    poolInfo.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO
    poolInfo.flags = VK_COMMAND_POOL_CREATE_TRANSIENT_BIT.rawValue
    poolInfo.queueFamilyIndex = logical.queueFamily
    var createdPool: VkCommandPool?
    try logical.check(
      calls.vkCreateCommandPool(logical.handle, &poolInfo, nil, &createdPool),
      "vkCreateCommandPool")
    guard let pool = createdPool else {
      throw .callFailed(function: "vkCreateCommandPool", result: .initializationFailed)
    }
    var info = VkCommandBufferAllocateInfo()
    info.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO
    info.commandPool = pool
    info.level = VK_COMMAND_BUFFER_LEVEL_PRIMARY
    info.commandBufferCount = 1
    var allocated: VkCommandBuffer?
    let result = VulkanResult(calls.vkAllocateCommandBuffers(logical.handle, &info, &allocated))
    guard result == .success, let commands = allocated else {
      calls.vkDestroyCommandPool(logical.handle, pool, nil)
      throw .callFailed(function: "vkAllocateCommandBuffers", result: result)
    }
    self.logical = logical
    self.pool = pool
    self.commands = commands
  }

  deinit {
    if let queries { logical.calls.vkDestroyQueryPool(logical.handle, queries, nil) }
    logical.calls.vkDestroyCommandPool(logical.handle, pool, nil)
  }

  /// Empties the command buffer and opens it for recording.
  ///
  /// - Parameter isReplayable: whether it will be submitted more than once, also while it runs.
  func begin(isReplayable: Bool) throws(VulkanError) {
    timestampCount = 0
    try logical.check(
      logical.calls.vkResetCommandPool(logical.handle, pool, 0), "vkResetCommandPool")
    var info = VkCommandBufferBeginInfo()
    info.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO
    info.flags =
      isReplayable
      ? VK_COMMAND_BUFFER_USAGE_SIMULTANEOUS_USE_BIT.rawValue
      : VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT.rawValue
    try logical.check(
      logical.calls.vkBeginCommandBuffer(commands, &info), "vkBeginCommandBuffer")
  }

  /// Records a timestamp once all earlier commands are done.
  func writeTimestamp() throws(VulkanError) {
    guard timestampCount < Self.timestampCapacity else {
      throw .limitExceeded(
        what: "timestamps in one recorder", requested: Int(timestampCount) + 1,
        allowed: Int(Self.timestampCapacity))
    }
    let queries = try queryPool()
    if timestampCount == 0 {
      logical.calls.vkCmdResetQueryPool(commands, queries, 0, Self.timestampCapacity)
    }
    logical.calls.vkCmdWriteTimestamp(
      commands, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, queries, timestampCount)
    timestampCount += 1
  }

  /// The timestamps of finished work in nanoseconds since the first, in the order of recording.
  func readTimestamps() throws(VulkanError) -> [Double] {
    guard timestampCount > 0, let queries else { return [] }
    var ticks = [UInt64](repeating: 0, count: Int(timestampCount))
    let result = ticks.withUnsafeMutableBytes { bytes in
      logical.calls.vkGetQueryPoolResults(
        logical.handle, queries, 0, timestampCount, bytes.count, bytes.baseAddress, 8,
        VK_QUERY_RESULT_64_BIT.rawValue | VK_QUERY_RESULT_WAIT_BIT.rawValue)
    }
    try logical.check(result, "vkGetQueryPoolResults")
    // Differences in whole ticks: as a Double, a clock that counts from 1970 is off by 256 ns.
    return ticks.map {
      Double(($0 &- ticks[0]) & logical.timestampMask) * logical.capabilities.timestampPeriod
    }
  }

  private func queryPool() throws(VulkanError) -> VkQueryPool {
    if let queries { return queries }
    guard logical.capabilities.timestampPeriod > 0 else {
      throw .missingFeatures(
        device: logical.capabilities.name, features: ["timestamps on the compute queue"])
    }
    var info = VkQueryPoolCreateInfo()
    info.sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO
    info.queryType = VK_QUERY_TYPE_TIMESTAMP
    info.queryCount = Self.timestampCapacity
    var created: VkQueryPool?
    try logical.check(
      logical.calls.vkCreateQueryPool(logical.handle, &info, nil, &created), "vkCreateQueryPool")
    guard let created else {
      throw .callFailed(function: "vkCreateQueryPool", result: .initializationFailed)
    }
    queries = created
    return created
  }
}
