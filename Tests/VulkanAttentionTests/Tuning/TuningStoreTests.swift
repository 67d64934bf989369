import Foundation
import TestSupport
import Testing

@testable import VulkanAttention

@Suite struct TuningStoreTests {
  private func folder() throws -> URL {
    let folder = FileManager.default.temporaryDirectory.appending(
      path: "vkattn-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    return folder
  }

  private static let tiles: [String: Tuning.Entry] = {
    let tiles: [Tuning.Tile] = [
      .attention(.row(.init(keysPerBlock: 5, workgroupSize: 16, isPacked: true))),
      .attention(
        .subgroup(
          .init(
            rowsPerLane: 2, lanesPerRow: 4, keyTile: 32, keyStep: 8, isStaged: true,
            isWidened: false, workgroupSize: 128))),
      .attention(
        .matrix(
          .init(
            rowFragments: 2, keyTile: 64, subgroups: 4, keepsQueryInShared: true,
            prefetches: false))),
      .attention(
        .matrix2(
          .init(
            rowFragments: 1, keyTile: 32, subgroups: 2, keepsQueryInShared: false,
            prefetches: true))),
      .decode(.init(shape: .row(keysPerBlock: 4), groups: 8)),
      .decode(.init(shape: .subgroup(rows: 4, subgroups: 2), groups: 8)),
      .decode(
        .init(
          shape: .matrix(
            rowFragments: 2, keyTile: 64, subgroups: 4, channelParts: 2, prefetches: true),
          groups: 264)),
      .linear(.init(form: .chunk, path: .row, blockRows: 8, workgroupSize: 32)),
    ]
    return Dictionary(
      uniqueKeysWithValues: tiles.enumerated().map { index, tile in
        ("class \(index)", .init(tile, speedup: 1.25, workload: "w\(index)", time: "now"))
      })
  }()

  @Test func whatIsWrittenIsRead() throws {
    let store = TuningStore(path: try folder().appending(path: "deep/er/tuning.json").path)
    let device = try SampleDevice.software.capabilities(index: 1)
    #expect(try store.tuning(for: device) == .none)
    try store.add(Tuning(Self.tiles), for: device)
    #expect(try store.tuning(for: device).entries == Self.tiles)
    // No other file is left over.
    let names = try FileManager.default.contentsOfDirectory(
      atPath: URL(filePath: store.path).deletingLastPathComponent().path)
    #expect(names == ["tuning.json"])
  }

  @Test("A tile from before problems could share a workgroup has one of them")
  func earlierTiles() throws {
    let text = """
      {"subgroup": {"_0": {"rowsPerLane": 2, "lanesPerRow": 4, "keyTile": 32, "keyStep": 8, \
      "isStaged": true, "isWidened": false, "workgroupSize": 128}}}
      """
    let tile = try JSONDecoder().decode(AttentionTileParameters.self, from: Data(text.utf8))
    guard case .subgroup(var subgroup) = tile else {
      Issue.record("\(tile)")
      return
    }
    #expect(subgroup.problemsPerWorkgroup == 1 && subgroup.lanesPerRow == 4)
    subgroup.problemsPerWorkgroup = 6
    let written = try JSONEncoder().encode(AttentionTileParameters.subgroup(subgroup))
    let read = try JSONDecoder().decode(AttentionTileParameters.self, from: written)
    #expect(read == .subgroup(subgroup))
  }

  @Test func devicesDriversAndSubgroupsAreKeptApart() throws {
    let store = TuningStore(path: try folder().appending(path: "tuning.json").path)
    let device = try SampleDevice.software.capabilities(index: 1)
    try store.add(Tuning(Self.tiles), for: device)
    var others = [device, device, device, device]
    others[0].deviceUUID = "other"
    others[1].driverUUID = "other"
    others[2].driverInfo = "other"
    others[3].subgroupSize = 16
    for other in others { #expect(try store.tuning(for: other) == .none) }
    let first = try #require(Self.tiles["class 0"])
    try store.add(Tuning(["class 0": first]), for: others[3])
    #expect(try store.read().devices.count == 2)
    #expect(try store.tuning(for: device).entries == Self.tiles)
    try store.reset(device)
    #expect(try store.tuning(for: device) == .none)
    #expect(try store.tuning(for: others[3]).entries.count == 1)
    try store.reset()
    #expect(!FileManager.default.fileExists(atPath: store.path))
    try store.reset()
  }

  @Test func newTilesReplaceOldOnes() throws {
    let store = TuningStore(path: try folder().appending(path: "tuning.json").path)
    let device = try SampleDevice.nvidia.capabilities()
    try store.add(Tuning(Self.tiles), for: device)
    let entry = Tuning.Entry(
      .linear(.init(form: .recurrent, path: .subgroup, blockRows: 1, workgroupSize: 64)),
      speedup: 2, workload: "later", time: "later")
    var file = TuningFile()
    file.add(Tuning(["class 0": entry, "class 9": entry]), for: device)
    var merged = try store.read()
    merged.merge(file)
    try store.write(merged)
    let entries = try store.tuning(for: device).entries
    #expect(entries.count == Self.tiles.count + 1 && entries["class 0"] == entry)
  }

  @Test func damagedFilesAreTypedErrors() throws {
    let path = try folder().appending(path: "tuning.json").path
    let store = TuningStore(path: path)
    let device = try SampleDevice.software.capabilities()
    try store.add(Tuning(Self.tiles), for: device)
    let sound = try Data(contentsOf: URL(filePath: path))
    // Cut anywhere, a file is malformed and no crash; the last byte is a line feed.
    for count in stride(from: 0, to: sound.count - 2, by: 97) {
      try sound.prefix(count).write(to: URL(filePath: path))
      let error = #expect(throws: TuningError.self) { try store.read() }
      guard case .malformed? = error else {
        Issue.record("\(count): \(String(describing: error))")
        continue
      }
      // Nothing is added to what cannot be read: it may be worth something.
      #expect(throws: TuningError.self) { try store.add(Tuning(Self.tiles), for: device) }
    }
    for text in [
      "null", "[]", "{}", #"{"format": "other", "version": 1, "devices": []}"#,
      #"{"format": "vulkan-attention-tuning", "version": 1, "devices": [{"name": 1}]}"#,
      #"{"format": "vulkan-attention-tuning", "version": 1}"#,
      String(repeating: "[", count: 100_000), "\u{0}",
    ] {
      try Data(text.utf8).write(to: URL(filePath: path))
      let error = #expect(throws: TuningError.self, "\(text.prefix(80))") { try store.read() }
      guard case .malformed? = error else {
        Issue.record("\(text.prefix(80)): \(String(describing: error))")
        continue
      }
    }
    let later = #"{"format": "vulkan-attention-tuning", "version": 7, "other": []}"#
    try Data(later.utf8).write(to: URL(filePath: path))
    #expect(throws: TuningError.unsupportedVersion(path: path, found: 7)) { try store.read() }
    try store.reset()
    #expect(try store.read() == TuningFile())
  }

  @Test func aTileOfAnotherFamilyIsNotTaken() throws {
    let request = try AttentionRequest(queryTokens: 8, queryHeads: 1, headSize: 64)
    let entry = try #require(Self.tiles["class 3"])
    let plan = try AttentionPlan(
      request, device: SampleDevice.software.capabilities(),
      tuning: Tuning([request.tuningKey: entry]))
    #expect(!plan.isTuned)
  }

  @Test func foldersAndUnwritablePlacesAreTypedErrors() throws {
    let folder = try folder().path
    guard
      case .unreadable? = #expect(
        throws: TuningError.self, performing: { try TuningStore(path: folder).read() })
    else {
      Issue.record("a folder is no file")
      return
    }
    guard
      case .notWritable? = #expect(
        throws: TuningError.self,
        performing: { try TuningStore(path: "/proc/none/tuning.json").write(TuningFile()) })
    else {
      Issue.record("/proc takes no folder")
      return
    }
  }
}
