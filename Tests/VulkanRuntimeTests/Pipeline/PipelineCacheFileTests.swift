import Foundation
import TestSupport
import Testing

@testable import VulkanRuntime

@Suite struct PipelineCacheFileTests {
  private let folder: TemporaryFolder
  private let payload = (0..<5000).map { UInt8(truncatingIfNeeded: $0 * 7) }

  init() throws {
    folder = try TemporaryFolder()
  }

  private func file(
    _ path: String? = nil, _ change: (inout DeviceCapabilities) -> Void = { _ in }
  ) throws -> PipelineCacheFile {
    var capabilities = try SampleDevice.software.capabilities()
    change(&capabilities)
    return PipelineCacheFile(directory: path ?? folder.path, capabilities: capabilities)
  }

  @Test func roundTrip() throws {
    let file = try file()
    #expect(file.read() == .absent)
    try file.write(payload)
    #expect(file.read() == .valid(payload))
    try file.write([])
    #expect(file.read() == .valid([]))
    // Nothing but the file is left behind.
    let names = try FileManager.default.contentsOfDirectory(atPath: folder.path)
    #expect(names == [URL(filePath: file.path).lastPathComponent])
  }

  @Test func makesTheFoldersAbove() throws {
    let deep = try file(folder.path + "/a/b//c")
    try deep.write(payload)
    #expect(deep.read() == .valid(payload))
  }

  @Test("A file cut anywhere is refused", arguments: [0, 1, 7, 8, 40, 100, 2000])
  func truncated(length: Int) throws {
    let file = try file()
    try file.write(payload)
    let bytes = try Data(contentsOf: URL(filePath: file.path))
    try bytes.prefix(length).write(to: URL(filePath: file.path))
    guard case .invalid = file.read() else {
      Issue.record("\(length) bytes were taken")
      return
    }
  }

  @Test("A file that lost its last byte, or has one too many, is refused")
  func offByOne() throws {
    let file = try file()
    try file.write(payload)
    let bytes = try Data(contentsOf: URL(filePath: file.path))
    for damaged in [bytes.dropLast(), bytes + [0]] {
      try Data(damaged).write(to: URL(filePath: file.path))
      #expect(file.read() == .invalid(reason: "its checksum is wrong"))
    }
  }

  @Test("A flipped bit anywhere is found")
  func flippedBit() throws {
    let file = try file()
    try file.write(payload)
    let whole = try Data(contentsOf: URL(filePath: file.path))
    for index in stride(from: 0, to: whole.count, by: 61) {
      var bytes = whole
      bytes[index] ^= 1 << (index % 8)
      try bytes.write(to: URL(filePath: file.path))
      guard case .invalid = file.read() else {
        Issue.record("the flipped bit in byte \(index) was not found")
        return
      }
    }
    // An invalid file is replaced.
    try file.write(payload)
    #expect(file.read() == .valid(payload))
  }

  @Test("Another device, driver or driver version never gets the file")
  func otherIdentity() throws {
    let file = try file()
    try file.write(payload)
    let others: [(inout DeviceCapabilities) -> Void] = [
      { $0.vendorID += 1 }, { $0.deviceID += 1 }, { $0.deviceUUID = "77" },
      { $0.driverUUID = "88" }, { $0.pipelineCacheUUID = "99" }, { $0.driverInfo = "1.0.1" },
    ]
    for change in others {
      let other = try self.file(nil, change)
      #expect(other.path != file.path)
      #expect(other.read() == .absent)
      // Not even where someone has copied it to the other's name.
      try FileManager.default.copyItem(atPath: file.path, toPath: other.path)
      #expect(other.read() == .invalid(reason: "it is of another device, driver or version"))
    }
  }

  @Test("A folder that cannot be made is a typed error")
  func unwritable() throws {
    // The path leads through a file, which stops root as well.
    let obstacle = folder.path + "/obstacle"
    try Data([1]).write(to: URL(filePath: obstacle))
    for path in [obstacle, obstacle + "/cache"] {
      let file = try file(path)
      #expect(file.read() == .absent)
      let error = #expect(throws: VulkanError.self) { try file.write(payload) }
      guard case .cacheNotWritable(path, let reason) = error else {
        Issue.record("another error: \(String(describing: error))")
        return
      }
      #expect(!reason.isEmpty && !reason.contains("Success"))
    }
  }

  @Test("A folder in the file's place is a typed error and leaves no litter")
  func folderInTheWay() throws {
    let file = try file()
    try FileManager.default.createDirectory(
      atPath: file.path + "/x", withIntermediateDirectories: true)
    guard case .invalid = file.read() else {
      Issue.record("a folder was read")
      return
    }
    #expect(throws: VulkanError.self) { try file.write(payload) }
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).count == 1)
  }

  @Test("Writers at the same time leave one whole file")
  func concurrentWriters() async throws {
    let file = try file()
    try await withThrowingTaskGroup(of: Void.self) { group in
      for writer in 0..<8 {
        group.addTask {
          for round in 0..<20 {
            try file.write([UInt8](repeating: UInt8(writer), count: 20_000 + round))
          }
        }
      }
      try await group.waitForAll()
    }
    guard case .valid(let bytes) = file.read() else {
      Issue.record("the file is damaged: \(file.read())")
      return
    }
    #expect(Set(bytes).count == 1 && bytes.count == 20_019)
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).count == 1)
  }
}
