import CVulkan
import TestSupport
import Testing

@testable import VulkanRuntime

/// What a driver tells of its pipelines, by a driver that is made up: lavapipe tells nothing.
@Suite(.timeLimit(.minutes(5)), .needsDevice, .silentValidation)
struct PipelineStatisticsTests {
  private static func fill<Characters>(_ characters: inout Characters, with text: String) {
    withUnsafeMutableBytes(of: &characters) { $0.copyBytes(from: text.utf8) }
  }

  @Test("Every format of a figure is read, and one of a later Vulkan is left out")
  func figures() throws {
    let device = try ComputeDevice.open(.best, options: TestDevice.options()) { calls in
      calls.vkGetPipelineExecutablePropertiesKHR = { _, _, count, properties in
        count?.pointee = 2
        guard let properties else { return VK_SUCCESS }
        for index in 0..<2 {
          PipelineStatisticsTests.fill(&properties[index].name, with: "program \(index)")
          properties[index].subgroupSize = UInt32(32 << index)
        }
        return VK_SUCCESS
      }
      calls.vkGetPipelineExecutableStatisticsKHR = { _, info, count, figures in
        count?.pointee = 5
        guard let info, let figures else { return VK_SUCCESS }
        for index in 0..<5 {
          PipelineStatisticsTests.fill(&figures[index].name, with: "figure \(index)")
          PipelineStatisticsTests.fill(&figures[index].description, with: "what it is")
          figures[index].format = VkPipelineExecutableStatisticFormatKHR(
            rawValue: index < 4 ? UInt32(index) : 1000)
        }
        figures[0].value.b32 = 1
        figures[1].value.i64 = -5
        figures[2].value.u64 = UInt64(info.pointee.executableIndex) + (1 << 40)
        figures[3].value.f64 = 0.5
        return VK_SUCCESS
      }
    }
    let statistics = try device.pipeline(MultiplyAdd.description()).statistics()
    #expect(statistics.map(\.executable) == ["program 0", "program 1"])
    #expect(statistics.map(\.subgroupSize) == [32, 64])
    let figures = try #require(statistics.last).figures
    #expect(figures.map(\.name) == (0..<4).map { "figure \($0)" })
    #expect(figures.allSatisfy { $0.explanation == "what it is" })
    #expect(
      figures.map(\.value) == [.flag(true), .signed(-5), .unsigned((1 << 40) + 1), .real(0.5)])
    #expect(figures.map { "\($0.value)" } == ["yes", "-5", "1099511627777", "0.5"])
  }

  @Test("A driver's error is an error")
  func failure() throws {
    let device = try ComputeDevice.open(.best, options: TestDevice.options()) { calls in
      calls.vkGetPipelineExecutablePropertiesKHR = { _, _, _, _ in VK_ERROR_OUT_OF_HOST_MEMORY }
      calls.vkGetPipelineExecutableStatisticsKHR = { _, _, _, _ in VK_SUCCESS }
    }
    let pipeline = try device.pipeline(MultiplyAdd.description())
    #expect(throws: VulkanError.self) { try pipeline.statistics() }
  }

  @Test("Without the option there are none")
  func none() throws {
    #expect(try TestDevice.open().pipeline(MultiplyAdd.description()).statistics() == [])
  }

  @Test("A device that only compiles makes pipelines, and refuses to record")
  func compilesOnly() throws {
    var options = TestDevice.options()
    options.compilesOnly = true
    let device = try ComputeDevice.open(options: options)
    #expect(device.compiledPipelines.isEmpty)
    let pipeline = try device.pipeline(MultiplyAdd.description())
    #expect(device.compiledPipelines.map { ObjectIdentifier($0) } == [ObjectIdentifier(pipeline)])
    let error = VulkanError.missingFeatures(
      device: device.capabilities.name,
      features: ["a queue, since it was opened to compile only"])
    #expect(throws: error) { try device.makeRecorder() }
  }
}
