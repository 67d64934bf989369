import Foundation
import TestSupport
import Testing
import VulkanAttention

@testable import KernelBenchmarks

/// Memory over many steps.
@Suite(.serialized, .timeLimit(.minutes(30))) struct SoakTests {
  private static let isFull = ProcessInfo.processInfo.environment["VKATTN_FULL_TESTS"] == "1"

  private func sample(_ count: Int, host: Int?, reserved: Int) -> DecodeSoak.Sample {
    DecodeSoak.Sample(
      count: count, hostByteCount: host, reservedByteCount: reserved, allocatedByteCount: 0)
  }

  @Test("Growth is told from what fills at the start")
  func growth() {
    func problems(_ samples: [DecodeSoak.Sample]) -> [String] {
      DecodeSoak.growth(of: samples, from: 10, tolerating: 100, "steps")
    }
    // Before the tenth step everything may grow.
    let start = sample(0, host: 0, reserved: 0)
    let warm = sample(10, host: 5000, reserved: 64)
    #expect(problems([start, warm, sample(20, host: 5100, reserved: 64)]) == [])
    #expect(problems([start, warm, sample(20, host: 4000, reserved: 0)]) == [])
    #expect(problems([start, warm, sample(20, host: nil, reserved: 64)]) == [])
    #expect(problems([start, warm]) == [] && problems([]) == [])
    let host = problems([start, warm, sample(20, host: 5101, reserved: 64)])
    #expect(host.count == 1 && host.first?.hasPrefix("host memory: 5101 bytes") == true)
    let device = problems([start, warm, sample(20, host: 5000, reserved: 65)])
    #expect(device.count == 1 && device.first?.hasPrefix("device memory: 65 bytes") == true)
  }

  @Test func residentMemoryIsMeasured() throws {
    #if os(Linux)
      let before = try #require(HostMemory.residentByteCount)
      #expect(before > 1 << 20)
      let byteCount = 256 << 20
      let memory = UnsafeMutableRawPointer.allocate(byteCount: byteCount, alignment: 4096)
      defer { memory.deallocate() }
      memory.initializeMemory(as: UInt8.self, repeating: 1, count: byteCount)
      // Other tests take and give back memory meanwhile, but not as much.
      #expect(try #require(HostMemory.residentByteCount) - before > byteCount / 2)
    #endif
  }

  @Test("Steps leave nothing in the device's memory, and right outputs", .needsDevice)
  func deviceMemory() async throws {
    var soak = DecodeSoak()
    soak.stepCount = 10
    soak.warmUpCount = 2
    // More devices than steps.
    soak.deviceCount = 28
    // What other tests do to the process's memory is not this test's business.
    soak.toleratedHostBytes = .max / 4
    soak.toleratedHostBytesPerDevice = 0
    let report = try await soak.run { () throws(VulkanError) in
      try ComputeDevice.open(options: TestDevice.options())
    }
    #expect(report.problems == [])
    #expect(report.steps.last?.count == 10 && report.devices.map(\.count) == Array(1...28))
    #expect(report.worstError > 0)
    #expect(Set(report.steps.map(\.allocatedByteCount)).count == 1)
  }

  /// In a process of its own, for the host's memory is the process's.
  @Test("Memory is flat over a thousand steps, fewer without VKATTN_FULL_TESTS", .needsDevice)
  func hostMemory() async throws {
    let counts = Self.isFull ? ["1000", "100"] : ["150", "40"]
    let (soak, output) = commandProcess([
      "soak", "--json", "--steps", counts[0], "--devices", counts[1],
    ])
    try soak.run()
    let data = try output.fileHandleForReading.readToEnd() ?? Data()
    soak.waitUntilExit()
    let text = String(decoding: data, as: UTF8.self)
    #expect(soak.terminationStatus == 0, "\(text)")
    let report = try #require(
      try JSONSerialization.jsonObject(with: data) as? [String: Any], "\(text)")
    #expect((report["problems"] as? [String]) == [], "\(text)")
    let steps = try #require(report["steps"] as? [[String: Any]])
    #expect(steps.last?["count"] as? Int == Int(counts[0]))
    #if os(Linux)
      #expect(steps.allSatisfy { ($0["host_bytes"] as? Int ?? 0) > 1 << 20 })
    #endif
  }
}
