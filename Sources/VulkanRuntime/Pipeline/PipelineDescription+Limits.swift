package import ShaderLibrary

extension DeviceCapabilities {
  /// The features that go with the SPIR-V capabilities which a device may lack.
  private static let featureOfCapability: [String: Feature] = [
    "Int16": .int16,
    "Int64": .int64,
    "Float16": .float16,
    "StorageBuffer16BitAccess": .storage16,
    "PhysicalStorageBufferAddresses": .bufferDeviceAddress,
    "VulkanMemoryModel": .memoryModel,
    "VulkanMemoryModelDeviceScope": .memoryModel,
    "CooperativeMatrixKHR": .coopmat,
    "CooperativeMatrixReductionsNV": .coopmat2Reductions,
    "CooperativeMatrixConversionsNV": .coopmat2Conversions,
    "CooperativeMatrixPerElementOperationsNV": .coopmat2PerElement,
    "ComputeDerivativeGroupLinearKHR": .computeDerivatives,
    "GroupNonUniformVote": .subgroupVote,
    "GroupNonUniformArithmetic": .subgroupArithmetic,
    "GroupNonUniformShuffle": .subgroupShuffle,
  ]

  /// What a shader needs and the device does not have.
  package func missingFeatures(for shader: ShaderBinary) -> [Feature] {
    let needed = Set(shader.capabilities.compactMap { Self.featureOfCapability[$0] })
    return Feature.allCases.filter { needed.contains($0) && !has($0) }
  }
}

extension PipelineDescription {
  /// Refuses what the device would answer with undefined behaviour: a plan may have been made for
  /// another device.
  func check(on device: DeviceCapabilities) throws(VulkanError) {
    let missing = device.missingFeatures(for: shader)
    guard missing.isEmpty else {
      throw .missingFeatures(device: device.name, features: missing.map(\.rawValue))
    }
    if subgroupSize != nil || requiresFullSubgroups, !device.has(.subgroupSizeControl) {
      throw .missingFeatures(
        device: device.name, features: [DeviceCapabilities.Feature.subgroupSizeControl.rawValue])
    }
    if let size = subgroupSize {
      guard size >= device.minSubgroupSize, size <= device.maxSubgroupSize,
        size & (size - 1) == 0
      else {
        throw .limitExceeded(
          what: "subgroup size of \(shader.name)", requested: size,
          allowed: device.maxSubgroupSize)
      }
    }
    let sizes = shader.localSize.map { size in
      switch size {
      case .fixed(let value): Int(value)
      case .specialized(let id): workgroupSize(id)
      }
    }
    let invocations = sizes.reduce(1) { $0.multipliedReportingOverflow(by: $1).partialValue }
    guard invocations > 0, invocations <= device.maxWorkgroupInvocations,
      sizes.first ?? 1 <= device.maxWorkgroupSizeX
    else {
      throw .limitExceeded(
        what: "invocations in a workgroup of \(shader.name)", requested: invocations,
        allowed: min(device.maxWorkgroupInvocations, device.maxWorkgroupSizeX))
    }
  }

  /// The workgroup size that a specialization constant gives.
  private func workgroupSize(_ id: UInt32) -> Int {
    guard let constant = shader.specializationConstants.first(where: { $0.id == id }) else {
      return 1
    }
    return constants[constant.name].map(Int.init) ?? Int(clamping: constant.defaultBits)
  }
}
