internal import CVulkan

/// The chain of feature structures, either empty for a query or filled in for device creation.
///
/// One list serves both, so that what is enabled is exactly what was probed.
final class FeatureChain {
  private let chain = StructureChain()
  let base: UnsafeMutablePointer<VkPhysicalDeviceFeatures2>
  private let vulkan11: UnsafeMutablePointer<VkPhysicalDeviceVulkan11Features>
  private let vulkan12: UnsafeMutablePointer<VkPhysicalDeviceVulkan12Features>
  private var sizeControl: UnsafeMutablePointer<VkPhysicalDeviceSubgroupSizeControlFeatures>?
  private var matrix: UnsafeMutablePointer<VkPhysicalDeviceCooperativeMatrixFeaturesKHR>?
  private var matrix2: UnsafeMutablePointer<VkPhysicalDeviceCooperativeMatrix2FeaturesNV>?
  private var derivatives: UnsafeMutablePointer<VkPhysicalDeviceComputeShaderDerivativesFeaturesNV>?
  private var statistics:
    UnsafeMutablePointer<VkPhysicalDevicePipelineExecutablePropertiesFeaturesKHR>?
  private var maintenance4: UnsafeMutablePointer<VkPhysicalDeviceMaintenance4Features>?
  /// An extension without a feature structure.
  private var isHostMemoryImported = false
  /// The extensions that the enabled features need.
  private(set) var extensions: [String] = []

  /// - Parameter enabling: the features to turn on; nil makes an empty chain for a query.
  init(probe: DeviceProbe, enabling: Set<DeviceCapabilities.Feature>?) {
    func wants(_ feature: DeviceCapabilities.Feature) -> Bool {
      enabling?.contains(feature) ?? true
    }
    var base = VkPhysicalDeviceFeatures2()
    base.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2
    self.base = chain.append(base)
    var vulkan11 = VkPhysicalDeviceVulkan11Features()
    vulkan11.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES
    self.vulkan11 = chain.append(vulkan11)
    var vulkan12 = VkPhysicalDeviceVulkan12Features()
    vulkan12.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES
    self.vulkan12 = chain.append(vulkan12)
    if probe.hasSubgroupSizeControl, wants(.subgroupSizeControl) {
      var control = VkPhysicalDeviceSubgroupSizeControlFeatures()
      control.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES
      sizeControl = chain.append(control)
      require("VK_EXT_subgroup_size_control", of: probe)
    }
    if probe.extensions.contains(VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME), wants(.coopmat) {
      var features = VkPhysicalDeviceCooperativeMatrixFeaturesKHR()
      features.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR
      matrix = chain.append(features)
      require(VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME, of: probe)
    }
    // The second extension needs the first, which a veto may have taken away.
    let ofMatrix2: [DeviceCapabilities.Feature] = [
      .coopmat2, .coopmat2Reductions, .coopmat2Conversions, .coopmat2PerElement,
    ]
    if probe.extensions.contains(VK_NV_COOPERATIVE_MATRIX_2_EXTENSION_NAME),
      ofMatrix2.contains(where: wants), matrix != nil
    {
      var features = VkPhysicalDeviceCooperativeMatrix2FeaturesNV()
      features.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_2_FEATURES_NV
      matrix2 = chain.append(features)
      require(VK_NV_COOPERATIVE_MATRIX_2_EXTENSION_NAME, of: probe)
      // Shaders that do more than choose sizes are of SPIR-V 1.6, whose workgroup sizes need this.
      if probe.apiVersion >= vulkanVersion(1, 3), ofMatrix2.dropFirst().contains(where: wants) {
        var features = VkPhysicalDeviceMaintenance4Features()
        features.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_4_FEATURES
        maintenance4 = chain.append(features)
      }
    }
    if probe.extensions.contains(VK_KHR_COMPUTE_SHADER_DERIVATIVES_EXTENSION_NAME),
      wants(.computeDerivatives)
    {
      // The same structure as NVIDIA's, which older headers have alone.
      var features = VkPhysicalDeviceComputeShaderDerivativesFeaturesNV()
      features.sType =
        VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COMPUTE_SHADER_DERIVATIVES_FEATURES_NV
      derivatives = chain.append(features)
      require(VK_KHR_COMPUTE_SHADER_DERIVATIVES_EXTENSION_NAME, of: probe)
    }
    if probe.extensions.contains(VK_KHR_PIPELINE_EXECUTABLE_PROPERTIES_EXTENSION_NAME),
      wants(.pipelineStatistics)
    {
      var features = VkPhysicalDevicePipelineExecutablePropertiesFeaturesKHR()
      features.sType =
        VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PIPELINE_EXECUTABLE_PROPERTIES_FEATURES_KHR
      statistics = chain.append(features)
      require(VK_KHR_PIPELINE_EXECUTABLE_PROPERTIES_EXTENSION_NAME, of: probe)
    }
    isHostMemoryImported =
      probe.extensions.contains(VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME)
      && wants(.externalMemoryHost)
    if isHostMemoryImported { require(VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME, of: probe) }
    // Vulkan asks that it be enabled wherever a device lists it.
    require("VK_KHR_portability_subset", of: probe)
    if let enabling { enable(enabling) }
  }

  private func require(_ name: String, of probe: DeviceProbe) {
    if probe.extensions.contains(name) { extensions.append(name) }
  }

  private func enable(_ features: Set<DeviceCapabilities.Feature>) {
    func flag(_ feature: DeviceCapabilities.Feature) -> VkBool32 {
      features.contains(feature) ? 1 : 0
    }
    base.pointee.features.shaderInt64 = flag(.int64)
    base.pointee.features.shaderInt16 = flag(.int16)
    vulkan11.pointee.storageBuffer16BitAccess = flag(.storage16)
    vulkan12.pointee.shaderFloat16 = flag(.float16)
    vulkan12.pointee.bufferDeviceAddress = flag(.bufferDeviceAddress)
    vulkan12.pointee.timelineSemaphore = flag(.timelineSemaphore)
    vulkan12.pointee.scalarBlockLayout = flag(.scalarBlockLayout)
    vulkan12.pointee.vulkanMemoryModel = flag(.memoryModel)
    vulkan12.pointee.vulkanMemoryModelDeviceScope = flag(.memoryModel)
    sizeControl?.pointee.subgroupSizeControl = flag(.subgroupSizeControl)
    sizeControl?.pointee.computeFullSubgroups = flag(.subgroupSizeControl)
    matrix?.pointee.cooperativeMatrix = flag(.coopmat)
    matrix2?.pointee.cooperativeMatrixFlexibleDimensions = flag(.coopmat2)
    matrix2?.pointee.cooperativeMatrixReductions = flag(.coopmat2Reductions)
    matrix2?.pointee.cooperativeMatrixConversions = flag(.coopmat2Conversions)
    matrix2?.pointee.cooperativeMatrixPerElementOperations = flag(.coopmat2PerElement)
    maintenance4?.pointee.maintenance4 = 1
    derivatives?.pointee.computeDerivativeGroupLinear = flag(.computeDerivatives)
    statistics?.pointee.pipelineExecutableInfo = flag(.pipelineStatistics)
  }

  /// The features that a query filled in.
  var features: Set<DeviceCapabilities.Feature> {
    var found: Set<DeviceCapabilities.Feature> = []
    func add(_ feature: DeviceCapabilities.Feature, if values: VkBool32...) {
      if values.allSatisfy({ $0 != 0 }) { found.insert(feature) }
    }
    add(.int64, if: base.pointee.features.shaderInt64)
    add(.int16, if: base.pointee.features.shaderInt16)
    add(.storage16, if: vulkan11.pointee.storageBuffer16BitAccess)
    add(.float16, if: vulkan12.pointee.shaderFloat16)
    add(.bufferDeviceAddress, if: vulkan12.pointee.bufferDeviceAddress)
    add(.timelineSemaphore, if: vulkan12.pointee.timelineSemaphore)
    add(.scalarBlockLayout, if: vulkan12.pointee.scalarBlockLayout)
    add(
      .memoryModel, if: vulkan12.pointee.vulkanMemoryModel,
      vulkan12.pointee.vulkanMemoryModelDeviceScope)
    if let control = sizeControl?.pointee {
      add(.subgroupSizeControl, if: control.subgroupSizeControl, control.computeFullSubgroups)
    }
    if isHostMemoryImported { found.insert(.externalMemoryHost) }
    add(.coopmat, if: matrix?.pointee.cooperativeMatrix ?? 0)
    if let matrix2 = matrix2?.pointee {
      let isThere = matrix?.pointee.cooperativeMatrix ?? 0
      add(.coopmat2, if: isThere, matrix2.cooperativeMatrixFlexibleDimensions)
      let runsShaders = maintenance4?.pointee.maintenance4 ?? 0
      add(.coopmat2Reductions, if: isThere, runsShaders, matrix2.cooperativeMatrixReductions)
      add(.coopmat2Conversions, if: isThere, runsShaders, matrix2.cooperativeMatrixConversions)
      add(
        .coopmat2PerElement, if: isThere, runsShaders,
        matrix2.cooperativeMatrixPerElementOperations)
    }
    add(.computeDerivatives, if: derivatives?.pointee.computeDerivativeGroupLinear ?? 0)
    add(.pipelineStatistics, if: statistics?.pointee.pipelineExecutableInfo ?? 0)
    return found
  }
}
