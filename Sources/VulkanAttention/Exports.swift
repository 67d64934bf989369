// Devices, buffers, recorders and submissions are part of this module's interface.
@_exported public import VulkanRuntime
