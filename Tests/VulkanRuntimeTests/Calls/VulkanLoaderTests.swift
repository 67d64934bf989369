import TestSupport
import Testing

@testable import VulkanRuntime

@Suite struct VulkanLoaderTests {
  @Test("Without a Vulkan loader the error names what was tried")
  func missingLoader() throws {
    let error = try #require(throws: VulkanError.self) {
      try VulkanInstance(loaderLibraries: ["libno-such-vulkan.so", "libneither.so"])
    }
    guard case .loaderMissing(let tried, let reason) = error else {
      Issue.record("another error: \(error)")
      return
    }
    #expect(tried == ["libno-such-vulkan.so", "libneither.so"])
    #expect(reason.contains("libneither.so"))
  }

  @Test("A library that is no Vulkan loader is refused")
  func wrongLibrary() {
    #if os(Linux)
      let error = #expect(throws: VulkanError.self) {
        try VulkanInstance(loaderLibraries: ["libm.so.6"])
      }
      guard case .loaderMissing(_, let reason) = error else {
        Issue.record("another error: \(String(describing: error))")
        return
      }
      #expect(reason.contains("vkGetInstanceProcAddr"))
    #endif
  }

  @Test func noNamesAtAll() {
    #expect(throws: VulkanError.loaderMissing(tried: [], reason: "no library named")) {
      try VulkanInstance(loaderLibraries: [])
    }
  }

  @Test("A function that Vulkan does not have is an error", .needsDevice)
  func missingFunction() throws {
    let loader = try VulkanLoader()
    #expect(throws: VulkanError.functionMissing(name: "vkNoSuchFunction")) {
      try loader.function("vkNoSuchFunction", of: nil, as: (@convention(c) () -> Void).self)
    }
  }

  @Test("Vulkan's two-call arrays: empty, grown in between, failed")
  func arrays() throws {
    let empty = try vulkanArray(of: "f", filledWith: 0) { count, _ in
      count.pointee = 0
      return .init(0)
    }
    #expect(empty == [])

    var calls = 0
    let grown = try vulkanArray(of: "f", filledWith: 0) { count, elements in
      calls += 1
      guard let elements else {
        count.pointee = calls == 1 ? 1 : 2
        return .init(0)
      }
      if count.pointee < 2 { return .init(VulkanResult.incomplete.rawValue) }
      elements[0] = 5
      elements[1] = 6
      return .init(0)
    }
    #expect(grown == [5, 6])
    #expect(calls == 4)

    #expect(throws: VulkanError.callFailed(function: "f", result: .initializationFailed)) {
      try vulkanArray(of: "f", filledWith: 0) { _, _ in
        .init(VulkanResult.initializationFailed.rawValue)
      }
    }
  }
}
