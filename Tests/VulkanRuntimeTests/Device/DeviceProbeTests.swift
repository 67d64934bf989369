import Foundation
import TestSupport
import Testing

@testable import VulkanRuntime

@Suite struct DeviceProbeTests {
  @Test(
    "VKATTN_DISABLE is a list of feature names; unknown ones are passed over",
    arguments: [
      (nil, []), ("", []), ("coopmat", [.coopmat]), ("coopmat,float16", [.coopmat, .float16]),
      ("coopmat, float16 ", [.coopmat, .float16]), (",,int64,", [.int64]),
      ("coopmat2", [.coopmat2]), ("coopmat2Reductions", [.coopmat2Reductions]),
    ] as [(String?, Set<DeviceCapabilities.Feature>)])
  func vetoes(environment: String?, features: Set<DeviceCapabilities.Feature>) throws {
    #expect(try DeviceProbe.vetoes(environment: environment) == features)
  }

  @Test("A veto of what is no feature is an error", arguments: ["COOPMAT", "int64,x"])
  func unknownVeto(environment: String) {
    #expect {
      try DeviceProbe.vetoes(environment: environment)
    } throws: { error in
      guard case .invalidVariable("VKATTN_DISABLE", _, let allowed)? = error as? VulkanError
      else { return false }
      return allowed.contains("coopmat")
    }
  }

  @Test("Every feature can be vetoed by its name", arguments: DeviceCapabilities.Feature.allCases)
  func everyFeature(feature: DeviceCapabilities.Feature) throws {
    #expect(try DeviceProbe.vetoes(environment: feature.rawValue) == [feature])
  }

  @Test("Capabilities survive JSON", arguments: SampleDevice.allCases)
  func json(sample: SampleDevice) throws {
    let capabilities = try sample.capabilities()
    let data = try JSONEncoder().encode(capabilities)
    #expect(try JSONDecoder().decode(DeviceCapabilities.self, from: data) == capabilities)
  }

  @Test("A real device's capabilities make sense", .needsDevice)
  func probed() throws {
    let devices = try VulkanInstance().devices()
    #expect(devices.map(\.index) == Array(devices.indices))
    for device in devices {
      #expect(!device.name.isEmpty)
      for uuid in [device.deviceUUID, device.driverUUID, device.pipelineCacheUUID] {
        #expect(uuid.count == 32 && uuid.allSatisfy(\.isHexDigit))
      }
      #expect(device.apiVersion.split(separator: ".").count == 3)
      #expect(device.minSubgroupSize <= device.subgroupSize)
      #expect(device.subgroupSize <= device.maxSubgroupSize)
      #expect(device.maxWorkgroupCount.count == 3)
      #expect(device.maxWorkgroupCount.allSatisfy { $0 >= 65_535 })
      #expect(device.maxSharedBytes >= 16 << 10)
      #expect(device.maxPushConstantBytes >= 128)
      #expect(device.maxAllocationBytes > 0 && device.deviceLocalBytes > 0)
      #expect(device.matrixShapes.isEmpty || device.has(.coopmat))
      #expect(device.flexibleMatrixShapes == nil || device.has(.coopmat2))
      for shape in device.matrixShapes + (device.flexibleMatrixShapes ?? []) {
        #expect(shape.m > 0 && shape.n > 0 && shape.k > 0)
      }
      let ofMatrix2: Set<DeviceCapabilities.Feature> = [
        .coopmat2, .coopmat2Reductions, .coopmat2Conversions, .coopmat2PerElement,
      ]
      #expect(device.features.isDisjoint(with: ofMatrix2) || device.has(.coopmat))
    }
  }
}
