import Foundation
import VulkanAttention

/// Devices as drivers describe them, for tests that need no device.
public enum SampleDevice: String, Sendable, CaseIterable {
  /// Mesa's lavapipe: a CPU with cooperative matrices of 8x8x8.
  case software
  /// A data-center card with matrices of 16x16x16.
  case nvidia
  /// A desktop card with subgroups of 32 to 64 lanes.
  case amd
  /// A desktop card with subgroups of 8 to 32 lanes and matrices of 8x16x16.
  case intel
  /// A phone's GPU without cooperative matrices.
  case mobile
  /// The least shared memory and the smallest workgroups that Vulkan allows.
  case smallest
  /// A GPU without what the library needs.
  case unusable

  /// What the device can do.
  public func capabilities(index: Int = 0) throws -> DeviceCapabilities {
    var device = try JSONDecoder().decode(DeviceCapabilities.self, from: Data(Self.base.utf8))
    device.index = index
    device.name = "Sample \(rawValue)"
    device.deviceUUID = String(repeating: "\(index)", count: 32)
    let required = DeviceCapabilities.requiredFeatures
    device.features = Set(
      required + [
        .float16, .int16, .memoryModel, .subgroupSizeControl, .coopmat, .subgroupVote,
        .subgroupArithmetic, .subgroupShuffle,
      ])
    switch self {
    case .software:
      device.kind = .cpu
      device.features.insert(.computeDerivatives)
      device.features.formUnion(Self.ofMatrix2)
      device.matrixShapes = [
        .init(m: 8, n: 8, k: 8, input: .f16, accumulator: .f16),
        .init(m: 8, n: 8, k: 8, input: .f16, accumulator: .f32),
        .init(m: 8, n: 8, k: 8, input: .other, accumulator: .other),
      ]
    case .nvidia:
      device.vendorID = 0x10DE
      device.setSubgroups(32...32)
      device.maxSharedBytes = 48 << 10
      device.features.formUnion(Self.ofMatrix2)
      device.matrixShapes = [
        .init(m: 16, n: 16, k: 16, input: .f16, accumulator: .f16),
        .init(m: 16, n: 16, k: 16, input: .f16, accumulator: .f32),
        .init(m: 16, n: 8, k: 16, input: .f16, accumulator: .f32),
      ]
    case .amd:
      device.vendorID = 0x1002
      device.setSubgroups(32...64)
      device.subgroupSize = 64
      device.maxSharedBytes = 64 << 10
      device.matrixShapes = [.init(m: 16, n: 16, k: 16, input: .f16, accumulator: .f32)]
    case .intel:
      device.vendorID = 0x8086
      device.setSubgroups(8...32)
      device.subgroupSize = 32
      device.maxSharedBytes = 64 << 10
      device.matrixShapes = [.init(m: 8, n: 16, k: 16, input: .f16, accumulator: .f32)]
    case .mobile:
      device.kind = .integrated
      device.setSubgroups(64...128)
      device.hasUnifiedMemory = true
      device.features.remove(.coopmat)
    case .smallest:
      device.kind = .integrated
      device.setSubgroups(16...16)
      device.maxSharedBytes = 16 << 10
      device.maxWorkgroupInvocations = 128
      device.maxWorkgroupSizeX = 128
      device.features.subtract([.coopmat, .float16, .int16])
    case .unusable:
      device.features = [.timelineSemaphore]
    }
    return device
  }

  /// What a driver with `VK_NV_cooperative_matrix2` has of it.
  private static let ofMatrix2: [DeviceCapabilities.Feature] = [
    .coopmat2, .coopmat2Reductions, .coopmat2Conversions, .coopmat2PerElement,
  ]

  /// Values that most devices share; the struct has no public initialiser.
  private static let base = """
    {
      "index": 0, "name": "", "kind": "discrete", "vendorID": 1, "deviceID": 2,
      "deviceUUID": "", "driverUUID": "00112233445566778899aabbccddeeff",
      "pipelineCacheUUID": "ffeeddccbbaa99887766554433221100", "driverName": "sample",
      "driverInfo": "1.0", "apiVersion": "1.3.0", "features": [],
      "subgroupSize": 8, "minSubgroupSize": 8, "maxSubgroupSize": 8,
      "maxWorkgroupInvocations": 1024, "maxWorkgroupSizeX": 1024,
      "maxWorkgroupCount": [65535, 65535, 65535], "maxSharedBytes": 32768,
      "maxPushConstantBytes": 128, "maxAllocationBytes": 2147483648,
      "deviceLocalBytes": 8589934592, "hasUnifiedMemory": false, "timestampPeriod": 1,
      "matrixShapes": []
    }
    """
}

extension DeviceCapabilities {
  fileprivate mutating func setSubgroups(_ sizes: ClosedRange<Int>) {
    subgroupSize = sizes.lowerBound
    minSubgroupSize = sizes.lowerBound
    maxSubgroupSize = sizes.upperBound
  }
}
