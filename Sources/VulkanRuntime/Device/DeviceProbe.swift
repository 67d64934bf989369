internal import CVulkan

/// Reads a physical device's properties and features.
struct DeviceProbe {
  private let device: VkPhysicalDevice
  private let calls: InstanceCalls
  /// The names of the device's extensions.
  let extensions: Set<String>
  let apiVersion: UInt32

  init(_ device: VkPhysicalDevice, calls: InstanceCalls) throws(VulkanError) {
    self.device = device
    self.calls = calls
    let properties = try vulkanArray(
      of: "vkEnumerateDeviceExtensionProperties", filledWith: VkExtensionProperties()
    ) { calls.vkEnumerateDeviceExtensionProperties(device, nil, $0, $1) }
    extensions = Set(properties.map { text($0.extensionName) })
    var base = VkPhysicalDeviceProperties2()
    base.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2
    calls.vkGetPhysicalDeviceProperties2(device, &base)
    apiVersion = base.properties.apiVersion
  }

  /// Whether the version or the extension brings subgroup size control.
  var hasSubgroupSizeControl: Bool {
    apiVersion >= vulkanVersion(1, 3) || extensions.contains("VK_EXT_subgroup_size_control")
  }

  /// The features that `VKATTN_DISABLE` names, separated by commas or spaces.
  ///
  /// - Throws: `invalidVariable` for a name that is none: a veto with a typing error would test
  ///   nothing.
  static func vetoes(
    environment: String?
  ) throws(VulkanError) -> Set<DeviceCapabilities.Feature> {
    var vetoes: Set<DeviceCapabilities.Feature> = []
    for name in (environment ?? "").split(whereSeparator: { $0 == "," || $0.isWhitespace }) {
      guard let feature = DeviceCapabilities.Feature(rawValue: String(name)) else {
        throw .invalidVariable(
          name: "VKATTN_DISABLE", value: String(name),
          allowed: DeviceCapabilities.Feature.allCases.map(\.rawValue))
      }
      vetoes.insert(feature)
    }
    return vetoes
  }

  /// What subgroups can do in compute shaders.
  private static func features(
    of subgroup: VkPhysicalDeviceSubgroupProperties
  ) -> Set<DeviceCapabilities.Feature> {
    guard subgroup.supportedStages & VK_SHADER_STAGE_COMPUTE_BIT.rawValue != 0 else { return [] }
    let operations: [(DeviceCapabilities.Feature, UInt32)] = [
      (.subgroupVote, VK_SUBGROUP_FEATURE_VOTE_BIT.rawValue),
      (.subgroupArithmetic, VK_SUBGROUP_FEATURE_ARITHMETIC_BIT.rawValue),
      (.subgroupShuffle, VK_SUBGROUP_FEATURE_SHUFFLE_BIT.rawValue),
    ]
    return Set(operations.filter { subgroup.supportedOperations & $0.1 != 0 }.map(\.0))
  }

  func capabilities(index: Int) throws(VulkanError) -> DeviceCapabilities {
    let chain = StructureChain()
    var id = VkPhysicalDeviceIDProperties()
    id.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_ID_PROPERTIES
    let ids = chain.append(id)
    var driver = VkPhysicalDeviceDriverProperties()
    driver.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES
    let drivers = chain.append(driver)
    var subgroup = VkPhysicalDeviceSubgroupProperties()
    subgroup.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES
    let subgroups = chain.append(subgroup)
    var maintenance = VkPhysicalDeviceMaintenance3Properties()
    maintenance.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES
    let maintenances = chain.append(maintenance)
    var sizes: UnsafeMutablePointer<VkPhysicalDeviceSubgroupSizeControlProperties>?
    if hasSubgroupSizeControl {
      var size = VkPhysicalDeviceSubgroupSizeControlProperties()
      size.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_PROPERTIES
      sizes = chain.append(size)
    }
    var multiprocessors: UnsafeMutablePointer<VkPhysicalDeviceShaderSMBuiltinsPropertiesNV>?
    if extensions.contains("VK_NV_shader_sm_builtins") {
      var builtins = VkPhysicalDeviceShaderSMBuiltinsPropertiesNV()
      builtins.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_SM_BUILTINS_PROPERTIES_NV
      multiprocessors = chain.append(builtins)
    }
    var cores: UnsafeMutablePointer<VkPhysicalDeviceShaderCoreProperties2AMD>?
    if extensions.contains("VK_AMD_shader_core_properties2") {
      var core = VkPhysicalDeviceShaderCoreProperties2AMD()
      core.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_CORE_PROPERTIES_2_AMD
      cores = chain.append(core)
    }
    var imports: UnsafeMutablePointer<VkPhysicalDeviceExternalMemoryHostPropertiesEXT>?
    if extensions.contains(VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME) {
      var host = VkPhysicalDeviceExternalMemoryHostPropertiesEXT()
      host.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_MEMORY_HOST_PROPERTIES_EXT
      imports = chain.append(host)
    }
    var base = VkPhysicalDeviceProperties2()
    base.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2
    base.pNext = chain.head
    calls.vkGetPhysicalDeviceProperties2(device, &base)
    let properties = base.properties
    let limits = properties.limits

    let kind = Self.kind(properties.deviceType)
    let memory = memory()
    let subgroupSize = Int(subgroups.pointee.subgroupSize)
    let told =
      multiprocessors.map { Int($0.pointee.shaderSMCount) }
      ?? cores.map { Int($0.pointee.activeComputeUnitCount) }
      ?? (kind == .cpu ? HostEnvironment.processorCount : nil)
    // RADV tells 0 of hardware that it only compiles for.
    let computeUnits = told.flatMap { $0 > 0 ? $0 : nil }
    let features = features().union(Self.features(of: subgroups.pointee)).subtracting(
      try Self.vetoes(environment: HostEnvironment.variable("VKATTN_DISABLE")))
    return DeviceCapabilities(
      index: index, name: text(properties.deviceName), kind: kind,
      vendorID: properties.vendorID, deviceID: properties.deviceID,
      deviceUUID: hexadecimal(ids.pointee.deviceUUID),
      driverUUID: hexadecimal(ids.pointee.driverUUID),
      pipelineCacheUUID: hexadecimal(properties.pipelineCacheUUID),
      driverName: text(drivers.pointee.driverName), driverInfo: text(drivers.pointee.driverInfo),
      apiVersion:
        "\(apiVersion >> 22 & 0x7F).\(apiVersion >> 12 & 0x3FF).\(apiVersion & 0xFFF)",
      features: features, subgroupSize: subgroupSize,
      minSubgroupSize: sizes.map { Int($0.pointee.minSubgroupSize) } ?? subgroupSize,
      maxSubgroupSize: sizes.map { Int($0.pointee.maxSubgroupSize) } ?? subgroupSize,
      maxWorkgroupInvocations: Int(limits.maxComputeWorkGroupInvocations),
      maxWorkgroupSizeX: Int(limits.maxComputeWorkGroupSize.0),
      maxWorkgroupCount: [
        Int(limits.maxComputeWorkGroupCount.0), Int(limits.maxComputeWorkGroupCount.1),
        Int(limits.maxComputeWorkGroupCount.2),
      ],
      maxSharedBytes: Int(limits.maxComputeSharedMemorySize),
      maxPushConstantBytes: Int(limits.maxPushConstantsSize),
      maxAllocationBytes: Int(clamping: maintenances.pointee.maxMemoryAllocationSize),
      deviceLocalBytes: memory.deviceLocalBytes, hasUnifiedMemory: memory.isUnified,
      timestampPeriod: limits.timestampComputeAndGraphics != 0
        ? Double(limits.timestampPeriod) : 0,
      computeUnits: computeUnits,
      matrixShapes: features.contains(.coopmat) ? try matrixShapes() : [],
      flexibleMatrixShapes: features.contains(.coopmat2) ? try flexibleMatrixShapes() : nil,
      hostPointerAlignment: imports.map {
        Int(clamping: $0.pointee.minImportedHostPointerAlignment)
      })
  }

  private func features() -> Set<DeviceCapabilities.Feature> {
    let chain = FeatureChain(probe: self, enabling: nil)
    calls.vkGetPhysicalDeviceFeatures2(device, chain.base)
    return chain.features
  }

  private func memory() -> (deviceLocalBytes: Int, isUnified: Bool) {
    var properties = VkPhysicalDeviceMemoryProperties()
    calls.vkGetPhysicalDeviceMemoryProperties(device, &properties)
    let table = MemoryTypes(properties)
    return (table.deviceLocalBytes, table.isUnified)
  }

  private func matrixShapes() throws(VulkanError) -> [DeviceCapabilities.MatrixShape] {
    guard let call = calls.vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR else { return [] }
    var empty = VkCooperativeMatrixPropertiesKHR()
    empty.sType = VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR
    let listed = try vulkanArray(
      of: "vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR", filledWith: empty
    ) { call(device, $0, $1) }
    return listed.compactMap { shape in
      guard shape.scope == VK_SCOPE_SUBGROUP_KHR, shape.AType == shape.BType,
        shape.CType == shape.ResultType
      else { return nil }
      return DeviceCapabilities.MatrixShape(
        m: Int(shape.MSize), n: Int(shape.NSize), k: Int(shape.KSize),
        input: Self.element(shape.AType), accumulator: Self.element(shape.CType))
    }
  }

  private func flexibleMatrixShapes() throws(VulkanError) -> [DeviceCapabilities.MatrixShape]? {
    guard let call = calls.vkGetPhysicalDeviceCooperativeMatrixFlexibleDimensionsPropertiesNV
    else { return nil }
    var empty = VkCooperativeMatrixFlexibleDimensionsPropertiesNV()
    empty.sType = VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_FLEXIBLE_DIMENSIONS_PROPERTIES_NV
    let listed = try vulkanArray(
      of: "vkGetPhysicalDeviceCooperativeMatrixFlexibleDimensionsPropertiesNV", filledWith: empty
    ) { call(device, $0, $1) }
    let shapes: [DeviceCapabilities.MatrixShape] = listed.compactMap { shape in
      guard shape.scope == VK_SCOPE_SUBGROUP_KHR, shape.AType == shape.BType,
        shape.CType == shape.ResultType, shape.MGranularity > 0, shape.NGranularity > 0,
        shape.KGranularity > 0
      else { return nil }
      return DeviceCapabilities.MatrixShape(
        m: Int(shape.MGranularity), n: Int(shape.NGranularity), k: Int(shape.KGranularity),
        input: Self.element(shape.AType), accumulator: Self.element(shape.CType))
    }
    return shapes.isEmpty ? nil : shapes
  }

  private static func element(
    _ type: VkComponentTypeKHR
  ) -> DeviceCapabilities.MatrixShape.Element {
    switch type {
    case VK_COMPONENT_TYPE_FLOAT16_KHR: .f16
    case VK_COMPONENT_TYPE_FLOAT32_KHR: .f32
    default: .other
    }
  }

  private static func kind(_ type: VkPhysicalDeviceType) -> DeviceCapabilities.Kind {
    switch type {
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU: .discrete
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU: .integrated
    case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU: .virtual
    case VK_PHYSICAL_DEVICE_TYPE_CPU: .cpu
    default: .other
    }
  }

  private func hexadecimal<Bytes>(_ bytes: Bytes) -> String {
    let digits = Array("0123456789abcdef")
    return withUnsafeBytes(of: bytes) { bytes in
      String(bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] })
    }
  }
}
