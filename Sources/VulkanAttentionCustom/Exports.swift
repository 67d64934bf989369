// Requests, buffers and devices are part of this module's interface.
@_exported public import VulkanAttention
