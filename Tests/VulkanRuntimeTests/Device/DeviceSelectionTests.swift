import TestSupport
import Testing

@testable import VulkanRuntime

@Suite struct DeviceSelectionTests {
  private static let uuid = "00112233-4455-6677-8899-AABBCCDDEEFF"

  @Test(
    arguments: [
      ("", .best), ("best", .best), ("0", .index(0)), ("12", .index(12)), ("-1", .index(-1)),
      ("llvm", .name("llvm")), ("RTX 4090", .name("RTX 4090")), (uuid, .uuid(uuid)),
      ("00112233445566778899aabbccddeeff", .uuid("00112233445566778899aabbccddeeff")),
      ("00000000000000000000000000000001", .uuid("00000000000000000000000000000001")),
      ("0011223344556677", .index(11_223_344_556_677)), ("0011223g", .name("0011223g")),
    ] as [(String, DeviceSelection)])
  func parses(text: String, selection: DeviceSelection) {
    #expect(DeviceSelection(text) == selection)
  }

  @Test(
    "The best device is the first of the best kind",
    arguments: [
      ([.cpu, .integrated, .discrete, .discrete], 2), ([.cpu, .virtual, .integrated], 2),
      ([.other, .cpu], 1), ([.other], 0), ([.cpu, .cpu], 0),
    ] as [([DeviceCapabilities.Kind], Int)])
  func choosesBest(kinds: [DeviceCapabilities.Kind], index: Int) throws {
    #expect(try DeviceSelection.best.choose(from: devices(kinds)).index == index)
  }

  @Test func choosesByIndexNameAndUUID() throws {
    var devices = try devices([.cpu, .discrete])
    devices[0].name = "llvmpipe (LLVM 19)"
    devices[1].name = "Radeon RX"
    devices[1].deviceUUID = Self.uuid.lowercased().filter { $0 != "-" }
    #expect(try DeviceSelection.index(1).choose(from: devices).name == "Radeon RX")
    #expect(try DeviceSelection.name("LLVM").choose(from: devices).index == 0)
    #expect(try DeviceSelection.name("radeon").choose(from: devices).index == 1)
    #expect(try DeviceSelection(Self.uuid).choose(from: devices).index == 1)
  }

  @Test(
    "What is not there is an error that names what is",
    arguments: [.index(9), .index(-1), .name("no such"), .uuid(uuid)] as [DeviceSelection])
  func refuses(selection: DeviceSelection) throws {
    let devices = try devices([.cpu, .discrete])
    let error = VulkanError.noDevice(
      requested: selection.description,
      available: ["0: Sample software", "1: Sample software"])
    #expect(throws: error) { try selection.choose(from: devices) }
  }

  @Test func noDevicesAtAll() {
    #expect(throws: VulkanError.noDevice(requested: "any device", available: [])) {
      try DeviceSelection.best.choose(from: [])
    }
  }

  private func devices(_ kinds: [DeviceCapabilities.Kind]) throws -> [DeviceCapabilities] {
    try kinds.enumerated().map { index, kind in
      var device = try SampleDevice.software.capabilities(index: index)
      device.kind = kind
      return device
    }
  }
}
