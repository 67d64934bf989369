internal import CVulkan

/// The functions of one device, looked up once.
///
/// Variables, so that a test can put a failing function in the place of a driver's.
struct DeviceCalls: @unchecked Sendable {
  var vkDestroyDevice: PFN_vkDestroyDevice
  var vkGetDeviceQueue: PFN_vkGetDeviceQueue
  var vkQueueWaitIdle: PFN_vkQueueWaitIdle
  var vkAllocateMemory: PFN_vkAllocateMemory
  var vkFreeMemory: PFN_vkFreeMemory
  var vkMapMemory: PFN_vkMapMemory
  var vkCreateBuffer: PFN_vkCreateBuffer
  var vkDestroyBuffer: PFN_vkDestroyBuffer
  var vkGetBufferMemoryRequirements: PFN_vkGetBufferMemoryRequirements
  var vkBindBufferMemory: PFN_vkBindBufferMemory
  var vkGetBufferDeviceAddress: PFN_vkGetBufferDeviceAddress
  var vkCreateShaderModule: PFN_vkCreateShaderModule
  var vkDestroyShaderModule: PFN_vkDestroyShaderModule
  var vkCreatePipelineLayout: PFN_vkCreatePipelineLayout
  var vkDestroyPipelineLayout: PFN_vkDestroyPipelineLayout
  var vkCreateComputePipelines: PFN_vkCreateComputePipelines
  var vkDestroyPipeline: PFN_vkDestroyPipeline
  var vkCreatePipelineCache: PFN_vkCreatePipelineCache
  var vkDestroyPipelineCache: PFN_vkDestroyPipelineCache
  var vkGetPipelineCacheData: PFN_vkGetPipelineCacheData
  var vkCreateCommandPool: PFN_vkCreateCommandPool
  var vkDestroyCommandPool: PFN_vkDestroyCommandPool
  var vkResetCommandPool: PFN_vkResetCommandPool
  var vkAllocateCommandBuffers: PFN_vkAllocateCommandBuffers
  var vkBeginCommandBuffer: PFN_vkBeginCommandBuffer
  var vkEndCommandBuffer: PFN_vkEndCommandBuffer
  var vkCmdBindPipeline: PFN_vkCmdBindPipeline
  var vkCmdPushConstants: PFN_vkCmdPushConstants
  var vkCmdDispatch: PFN_vkCmdDispatch
  var vkCmdPipelineBarrier: PFN_vkCmdPipelineBarrier
  var vkCmdCopyBuffer: PFN_vkCmdCopyBuffer
  var vkCmdFillBuffer: PFN_vkCmdFillBuffer
  var vkCmdUpdateBuffer: PFN_vkCmdUpdateBuffer
  var vkCmdResetQueryPool: PFN_vkCmdResetQueryPool
  var vkCmdWriteTimestamp: PFN_vkCmdWriteTimestamp
  var vkCreateQueryPool: PFN_vkCreateQueryPool
  var vkDestroyQueryPool: PFN_vkDestroyQueryPool
  var vkGetQueryPoolResults: PFN_vkGetQueryPoolResults
  var vkCreateSemaphore: PFN_vkCreateSemaphore
  var vkDestroySemaphore: PFN_vkDestroySemaphore
  var vkGetSemaphoreCounterValue: PFN_vkGetSemaphoreCounterValue
  var vkWaitSemaphores: PFN_vkWaitSemaphores
  var vkQueueSubmit: PFN_vkQueueSubmit
  // Nil where the device was made without their extension.
  var vkGetPipelineExecutablePropertiesKHR: PFN_vkGetPipelineExecutablePropertiesKHR?
  var vkGetPipelineExecutableStatisticsKHR: PFN_vkGetPipelineExecutableStatisticsKHR?
  var vkGetMemoryHostPointerPropertiesEXT: PFN_vkGetMemoryHostPointerPropertiesEXT?

  init(
    device: VkDevice, getProcAddress: PFN_vkGetDeviceProcAddr
  ) throws(VulkanError) {
    func load<F>(_ name: String, _ type: F.Type) throws(VulkanError) -> F {
      guard let pointer = getProcAddress(device, name) else { throw .functionMissing(name: name) }
      return unsafeBitCast(pointer, to: F.self)
    }
    vkDestroyDevice = try load("vkDestroyDevice", PFN_vkDestroyDevice.self)
    vkGetDeviceQueue = try load("vkGetDeviceQueue", PFN_vkGetDeviceQueue.self)
    vkQueueWaitIdle = try load("vkQueueWaitIdle", PFN_vkQueueWaitIdle.self)
    vkAllocateMemory = try load("vkAllocateMemory", PFN_vkAllocateMemory.self)
    vkFreeMemory = try load("vkFreeMemory", PFN_vkFreeMemory.self)
    vkMapMemory = try load("vkMapMemory", PFN_vkMapMemory.self)
    vkCreateBuffer = try load("vkCreateBuffer", PFN_vkCreateBuffer.self)
    vkDestroyBuffer = try load("vkDestroyBuffer", PFN_vkDestroyBuffer.self)
    vkGetBufferMemoryRequirements = try load(
      "vkGetBufferMemoryRequirements", PFN_vkGetBufferMemoryRequirements.self)
    vkBindBufferMemory = try load("vkBindBufferMemory", PFN_vkBindBufferMemory.self)
    vkGetBufferDeviceAddress = try load(
      "vkGetBufferDeviceAddress", PFN_vkGetBufferDeviceAddress.self)
    vkCreateShaderModule = try load("vkCreateShaderModule", PFN_vkCreateShaderModule.self)
    vkDestroyShaderModule = try load("vkDestroyShaderModule", PFN_vkDestroyShaderModule.self)
    vkCreatePipelineLayout = try load("vkCreatePipelineLayout", PFN_vkCreatePipelineLayout.self)
    vkDestroyPipelineLayout = try load("vkDestroyPipelineLayout", PFN_vkDestroyPipelineLayout.self)
    vkCreateComputePipelines = try load(
      "vkCreateComputePipelines", PFN_vkCreateComputePipelines.self)
    vkDestroyPipeline = try load("vkDestroyPipeline", PFN_vkDestroyPipeline.self)
    vkCreatePipelineCache = try load("vkCreatePipelineCache", PFN_vkCreatePipelineCache.self)
    vkDestroyPipelineCache = try load("vkDestroyPipelineCache", PFN_vkDestroyPipelineCache.self)
    vkGetPipelineCacheData = try load("vkGetPipelineCacheData", PFN_vkGetPipelineCacheData.self)
    vkCreateCommandPool = try load("vkCreateCommandPool", PFN_vkCreateCommandPool.self)
    vkDestroyCommandPool = try load("vkDestroyCommandPool", PFN_vkDestroyCommandPool.self)
    vkResetCommandPool = try load("vkResetCommandPool", PFN_vkResetCommandPool.self)
    vkAllocateCommandBuffers = try load(
      "vkAllocateCommandBuffers", PFN_vkAllocateCommandBuffers.self)
    vkBeginCommandBuffer = try load("vkBeginCommandBuffer", PFN_vkBeginCommandBuffer.self)
    vkEndCommandBuffer = try load("vkEndCommandBuffer", PFN_vkEndCommandBuffer.self)
    vkCmdBindPipeline = try load("vkCmdBindPipeline", PFN_vkCmdBindPipeline.self)
    vkCmdPushConstants = try load("vkCmdPushConstants", PFN_vkCmdPushConstants.self)
    vkCmdDispatch = try load("vkCmdDispatch", PFN_vkCmdDispatch.self)
    vkCmdPipelineBarrier = try load("vkCmdPipelineBarrier", PFN_vkCmdPipelineBarrier.self)
    vkCmdCopyBuffer = try load("vkCmdCopyBuffer", PFN_vkCmdCopyBuffer.self)
    vkCmdFillBuffer = try load("vkCmdFillBuffer", PFN_vkCmdFillBuffer.self)
    vkCmdUpdateBuffer = try load("vkCmdUpdateBuffer", PFN_vkCmdUpdateBuffer.self)
    vkCmdResetQueryPool = try load("vkCmdResetQueryPool", PFN_vkCmdResetQueryPool.self)
    vkCmdWriteTimestamp = try load("vkCmdWriteTimestamp", PFN_vkCmdWriteTimestamp.self)
    vkCreateQueryPool = try load("vkCreateQueryPool", PFN_vkCreateQueryPool.self)
    vkDestroyQueryPool = try load("vkDestroyQueryPool", PFN_vkDestroyQueryPool.self)
    vkGetQueryPoolResults = try load("vkGetQueryPoolResults", PFN_vkGetQueryPoolResults.self)
    vkCreateSemaphore = try load("vkCreateSemaphore", PFN_vkCreateSemaphore.self)
    vkDestroySemaphore = try load("vkDestroySemaphore", PFN_vkDestroySemaphore.self)
    vkGetSemaphoreCounterValue = try load(
      "vkGetSemaphoreCounterValue", PFN_vkGetSemaphoreCounterValue.self)
    vkWaitSemaphores = try load("vkWaitSemaphores", PFN_vkWaitSemaphores.self)
    vkQueueSubmit = try load("vkQueueSubmit", PFN_vkQueueSubmit.self)
    vkGetPipelineExecutablePropertiesKHR = try? load(
      "vkGetPipelineExecutablePropertiesKHR", PFN_vkGetPipelineExecutablePropertiesKHR.self)
    vkGetPipelineExecutableStatisticsKHR = try? load(
      "vkGetPipelineExecutableStatisticsKHR", PFN_vkGetPipelineExecutableStatisticsKHR.self)
    vkGetMemoryHostPointerPropertiesEXT = try? load(
      "vkGetMemoryHostPointerPropertiesEXT", PFN_vkGetMemoryHostPointerPropertiesEXT.self)
  }
}
