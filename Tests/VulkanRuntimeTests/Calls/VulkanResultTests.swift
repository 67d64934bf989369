import Testing

@testable import VulkanRuntime

@Suite struct VulkanResultTests {
  @Test(
    "Known results print as the C constant, others as their number",
    arguments: [
      (0, "VK_SUCCESS"), (1, "VK_NOT_READY"), (2, "VK_TIMEOUT"), (5, "VK_INCOMPLETE"),
      (-1, "VK_ERROR_OUT_OF_HOST_MEMORY"), (-2, "VK_ERROR_OUT_OF_DEVICE_MEMORY"),
      (-3, "VK_ERROR_INITIALIZATION_FAILED"), (-4, "VK_ERROR_DEVICE_LOST"),
      (-9, "VK_ERROR_INCOMPATIBLE_DRIVER"),
      (-1_000_257_000, "VK_ERROR_INVALID_OPAQUE_CAPTURE_ADDRESS"),
      (-1_000_999_999, "VkResult -1000999999"), (77, "VkResult 77"),
    ] as [(Int32, String)])
  func description(number: Int32, name: String) {
    let result = VulkanResult(rawValue: number)
    #expect("\(result)" == name)
    #expect(result.rawValue == number)
  }
}

@Suite struct VulkanErrorTests {
  @Test(
    "Every error says what was asked, what is allowed and what to do",
    arguments: [
      (
        .loaderMissing(tried: ["a.so", "b.so"], reason: "no file"),
        ["a.so, b.so", "no file", "Tools/setup"]
      ),
      (.functionMissing(name: "vkFoo"), ["vkFoo", "1.2"]),
      (.validationLayerMissing, ["VK_LAYER_KHRONOS_validation", "Tools/setup"]),
      (.noDevice(requested: "device 7", available: ["0: llvmpipe"]), ["device 7", "0: llvmpipe"]),
      (.noDevice(requested: "device 7", available: []), ["device 7", "none"]),
      (
        .missingFeatures(device: "Old", features: ["int64", "storage16"]),
        ["Old", "int64, storage16"]
      ),
      (
        .callFailed(function: "vkFoo", result: .tooManyObjects),
        ["vkFoo", "VK_ERROR_TOO_MANY_OBJECTS"]
      ),
      (.deviceLost(device: "Card", during: "vkQueueSubmit"), ["Card", "vkQueueSubmit", "again"]),
      (
        .outOfMemory(requestedBytes: 123, purpose: "keys", result: .outOfDeviceMemory),
        ["123", "keys", "VK_ERROR_OUT_OF_DEVICE_MEMORY"]
      ),
      (
        .limitExceeded(what: "workgroups", requested: 70_000, allowed: 65_535),
        ["workgroups", "70000", "65535"]
      ),
      (.outOfBounds(what: "a slice", requestedBytes: 9, availableBytes: 8), ["a slice", "9", "8"]),
      (.overlappingCopy(source: "from", destination: "to"), ["from", "to", "overlap"]),
      (.wrongDevice(what: "buffer q", expected: "A", actual: "B"), ["buffer q", "A", "B"]),
      (.shaderUnavailable(name: "s", reason: "left out"), ["s", "left out"]),
      (.shaderMismatch(name: "s", reason: "no constant X"), ["s", "no constant X"]),
      (.cacheNotWritable(path: "/p", reason: "full"), ["/p", "full", "VKATTN_CACHE"]),
      (.alreadySubmitted, ["submitted", "new"]),
      (.notReplayable, ["once", "forReplay"]),
      (.cancelled, ["cancelled"]),
      (.timedOut(seconds: 1.5), ["1.5", "running"]),
    ] as [(VulkanError, [String])])
  func description(error: VulkanError, parts: [String]) {
    for part in parts { #expect("\(error)".contains(part)) }
  }
}
