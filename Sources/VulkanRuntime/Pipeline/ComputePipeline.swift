internal import CVulkan
internal import ShaderLibrary

/// A compiled compute shader, ready to be dispatched.
public final class ComputePipeline: @unchecked Sendable {
  // Unchecked: handles set once in `init`, which Vulkan allows any thread to use.
  let logical: LogicalDevice
  let handle: VkPipeline
  let layout: VkPipelineLayout
  /// The shader's name.
  public let name: String
  /// The size of the push constants in bytes.
  public let pushConstantByteCount: Int

  init(
    _ logical: LogicalDevice, description: PipelineDescription, cache: VkPipelineCache?
  ) throws(VulkanError) {
    let shader = description.shader
    let constants = try description.numberedConstants()
    try description.check(on: logical.capabilities)
    let words: [UInt32]
    do {
      words = try shader.words()
    } catch {
      throw .shaderUnavailable(name: shader.name, reason: "\(error)")
    }
    let limit = logical.capabilities.maxPushConstantBytes
    guard shader.pushConstantByteCount <= limit else {
      throw .limitExceeded(
        what: "bytes of push constants in \(shader.name)",
        requested: shader.pushConstantByteCount, allowed: limit)
    }

    let layout = try Self.makeLayout(logical, byteCount: shader.pushConstantByteCount)
    var ownsLayout = true
    defer {
      if ownsLayout { logical.calls.vkDestroyPipelineLayout(logical.handle, layout, nil) }
    }
    let module = try Self.makeModule(logical, words: words)
    defer { logical.calls.vkDestroyShaderModule(logical.handle, module, nil) }

    handle = try Self.makePipeline(
      logical, description: description, constants: constants, module: module, layout: layout,
      cache: cache)
    ownsLayout = false
    self.logical = logical
    self.layout = layout
    name = shader.name
    pushConstantByteCount = shader.pushConstantByteCount
  }

  deinit {
    logical.calls.vkDestroyPipeline(logical.handle, handle, nil)
    logical.calls.vkDestroyPipelineLayout(logical.handle, layout, nil)
  }

  private static func makeLayout(
    _ logical: LogicalDevice, byteCount: Int
  ) throws(VulkanError) -> VkPipelineLayout {
    var created: VkPipelineLayout?
    let range = VkPushConstantRange(
      stageFlags: VK_SHADER_STAGE_COMPUTE_BIT.rawValue, offset: 0, size: UInt32(byteCount))
    let result = withUnsafePointer(to: range) { range in
      var info = VkPipelineLayoutCreateInfo()
      info.sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO
      info.pushConstantRangeCount = byteCount > 0 ? 1 : 0
      info.pPushConstantRanges = range
      return logical.calls.vkCreatePipelineLayout(logical.handle, &info, nil, &created)
    }
    try logical.check(result, "vkCreatePipelineLayout")
    guard let created else {
      throw .callFailed(function: "vkCreatePipelineLayout", result: .initializationFailed)
    }
    return created
  }

  private static func makeModule(
    _ logical: LogicalDevice, words: [UInt32]
  ) throws(VulkanError) -> VkShaderModule {
    var created: VkShaderModule?
    let result = words.withUnsafeBufferPointer { words in
      var info = VkShaderModuleCreateInfo()
      info.sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO
      info.codeSize = words.count * 4
      info.pCode = words.baseAddress
      return logical.calls.vkCreateShaderModule(logical.handle, &info, nil, &created)
    }
    try logical.check(result, "vkCreateShaderModule")
    guard let created else {
      throw .callFailed(function: "vkCreateShaderModule", result: .initializationFailed)
    }
    return created
  }

  private static func makePipeline(
    _ logical: LogicalDevice, description: PipelineDescription,
    constants: [(id: UInt32, bits: UInt32)], module: VkShaderModule, layout: VkPipelineLayout,
    cache: VkPipelineCache?
  ) throws(VulkanError) -> VkPipeline {
    let entries = constants.enumerated().map { index, constant in
      VkSpecializationMapEntry(constantID: constant.id, offset: UInt32(index * 4), size: 4)
    }
    let bits = constants.map(\.bits)
    let sizeControl = StructureChain()
    if let size = description.subgroupSize {
      var info = VkPipelineShaderStageRequiredSubgroupSizeCreateInfo()
      info.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO
      info.requiredSubgroupSize = UInt32(size)
      sizeControl.append(info)
    }
    var created: VkPipeline?
    let result = entries.withUnsafeBufferPointer { entries in
      bits.withUnsafeBytes { bits in
        let specialization = VkSpecializationInfo(
          mapEntryCount: UInt32(entries.count), pMapEntries: entries.baseAddress,
          dataSize: bits.count, pData: bits.baseAddress)
        return withUnsafePointer(to: specialization) { specialization in
          "main".withCString { name in
            var info = VkComputePipelineCreateInfo()
            info.sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO
            info.stage.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO
            info.stage.pNext = UnsafeRawPointer(sizeControl.head)
            if description.requiresFullSubgroups {
              info.stage.flags =
                VK_PIPELINE_SHADER_STAGE_CREATE_REQUIRE_FULL_SUBGROUPS_BIT.rawValue
            }
            info.stage.stage = VK_SHADER_STAGE_COMPUTE_BIT
            info.stage.module = module
            info.stage.pName = name
            info.stage.pSpecializationInfo = specialization
            info.layout = layout
            if logical.capabilities.has(.pipelineStatistics) {
              info.flags = VK_PIPELINE_CREATE_CAPTURE_STATISTICS_BIT_KHR.rawValue
            }
            return logical.calls.vkCreateComputePipelines(
              logical.handle, cache, 1, &info, nil, &created)
          }
        }
      }
    }
    try logical.check(result, "vkCreateComputePipelines")
    guard let created else {
      throw .callFailed(function: "vkCreateComputePipelines", result: .initializationFailed)
    }
    return created
  }
}
