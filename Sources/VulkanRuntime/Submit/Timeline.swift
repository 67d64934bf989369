internal import CVulkan

/// A timeline semaphore, whose value is that of the last work done.
final class Timeline: @unchecked Sendable {
  // Unchecked: the semaphore is set once in `init`, and Vulkan lets any thread ask and wait.
  let logical: LogicalDevice
  let semaphore: VkSemaphore

  init(_ logical: LogicalDevice) throws(VulkanError) {
    var type = VkSemaphoreTypeCreateInfo()
    type.sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO
    type.semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE
    var created: VkSemaphore?
    let result = withUnsafePointer(to: type) { type in
      var info = VkSemaphoreCreateInfo()
      info.sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO
      info.pNext = UnsafeRawPointer(type)
      return logical.calls.vkCreateSemaphore(logical.handle, &info, nil, &created)
    }
    try logical.check(result, "vkCreateSemaphore")
    guard let created else {
      throw .callFailed(function: "vkCreateSemaphore", result: .initializationFailed)
    }
    self.logical = logical
    semaphore = created
  }

  /// Who signals it, or waits for it on the device, holds it until that is done.
  deinit {
    logical.calls.vkDestroySemaphore(logical.handle, semaphore, nil)
  }

  /// The value of the last work done.
  func value() throws(VulkanError) -> UInt64 {
    var value: UInt64 = 0
    try logical.check(
      logical.calls.vkGetSemaphoreCounterValue(logical.handle, semaphore, &value),
      "vkGetSemaphoreCounterValue")
    return value
  }

  /// Waits in Vulkan; false where the time ran out.
  func block(until value: UInt64, nanoseconds: UInt64) throws(VulkanError) -> Bool {
    let result = withUnsafePointer(to: Optional(semaphore)) { semaphore in
      withUnsafePointer(to: value) { value in
        var info = VkSemaphoreWaitInfo()
        info.sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO
        info.semaphoreCount = 1
        info.pSemaphores = semaphore
        info.pValues = value
        return VulkanResult(logical.calls.vkWaitSemaphores(logical.handle, &info, nanoseconds))
      }
    }
    if result == .timeout { return false }
    try logical.check(result, "vkWaitSemaphores")
    return true
  }
}
