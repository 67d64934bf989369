import AttentionReference
import TestSupport
import Testing

@testable import VulkanAttention

/// Compaction after speculative steps and copies of pages, on whole rows of bytes.
@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct CacheMoveTests {
  let device: ComputeDevice

  init() throws {
    device = try TestDevice.shared()
  }

  /// Bytes that differ from row to row.
  private static func random(_ tensor: CacheTensor, seed: UInt64) -> CacheModel {
    var random = SplitMix64(seed: seed)
    var model = CacheModel(tensor)
    for index in model.data.indices { model.data[index] = UInt8(truncatingIfNeeded: random.next()) }
    for index in model.scales.indices {
      model.scales[index] = UInt8(truncatingIfNeeded: random.next())
    }
    return model
  }

  private struct Tree {
    var committed: [Int32]
    var paths: [[Int32]]
    var lengths: [Int32]
  }

  /// What the memory is after the moves, row by row.
  private func compacted(
    _ model: CacheModel, _ tree: Tree, nodes: Int, _ setting: CacheAppendCase
  ) -> CacheModel {
    var model = model
    let tensor = model.tensor
    func place(_ b: Int, _ position: Int) -> (block: Int, slot: Int)? {
      guard (0...Int(Int32.max)).contains(position) else { return nil }
      var one = setting
      one.sequences = [Int32(b)]
      one.positions = [Int32(position)]
      return one.place(0)
    }
    for b in tree.committed.indices where tree.committed[b] >= 0 {
      for i in 0..<min(max(Int(tree.lengths[b]), 0), tree.paths[b].count) {
        let node = Int(tree.paths[b][i])
        guard node > i, node < nodes, let from = place(b, Int(tree.committed[b]) + node),
          let to = place(b, Int(tree.committed[b]) + i)
        else { continue }
        for head in 0..<tensor.heads {
          func start(_ place: (block: Int, slot: Int), _ strides: TensorStrides) -> Int {
            place.block * strides.batch + place.slot * strides.token + head * strides.head
          }
          let bytes = tensor.format.byteCount(channels: tensor.channels)
          let source = tensor.format.byteCount(channels: start(from, tensor.strides))
          let target = tensor.format.byteCount(channels: start(to, tensor.strides))
          model.data.replaceSubrange(
            target..<target + bytes, with: model.data[source..<source + bytes])
          guard let type = tensor.format.scaleType else { continue }
          let scaleBytes = tensor.scalesPerRow * type.byteCount
          let first = start(from, tensor.scaleStrides) * type.byteCount
          let last = start(to, tensor.scaleStrides) * type.byteCount
          model.scales.replaceSubrange(
            last..<last + scaleBytes, with: model.scales[first..<first + scaleBytes])
        }
      }
    }
    return model
  }

  private func expectCompacted(
    _ tree: Tree, nodes: Int, _ setting: CacheAppendCase, _ what: String
  ) async throws {
    let request = try CacheCompactRequest(
      storage: setting.storage, nodes: nodes, pathTokens: tree.paths[0].count)
    let kernel = try CacheCompactKernel(request, on: device)
    let before = Self.random(setting.storage.key, seed: 4)
    let key = try await CacheTensorMemory(setting.storage.key, holding: before, on: device)
    var value: (CacheTensorMemory, CacheModel)?
    if let tensor = setting.storage.value {
      let model = Self.random(tensor, seed: 5)
      value = (try await CacheTensorMemory(tensor, holding: model, on: device), model)
    }
    let committed = try await GuardedBuffer(tree.committed, label: "committed", on: device)
    let paths = try await GuardedBuffer(tree.paths.flatMap { $0 }, label: "paths", on: device)
    let lengths = try await GuardedBuffer(tree.lengths, label: "lengths", on: device)
    var table: CachePageTableBuffers?
    var buffers: [GuardedBuffer] = []
    if let (indptr, indices) = setting.pageTable {
      buffers = [
        try await GuardedBuffer(indptr, label: "indptr", on: device),
        try await GuardedBuffer(indices, label: "indices", on: device),
      ]
      table = CachePageTableBuffers(indptr: buffers[0].buffer, indices: buffers[1].buffer)
    }
    let recorder = try device.makeRecorder()
    try kernel.record(
      CacheCompactBuffers(
        committed: committed.buffer, paths: paths.buffer, pathLengths: lengths.buffer,
        cache: CacheBuffers(key: key.buffers, value: value?.0.buffers, pageTable: table)),
      into: recorder)
    try await device.submit(recorder).completed()
    try await key.expectEqual(
      compacted(before, tree, nodes: nodes, setting), "\(what), keys", on: device)
    if let (memory, model) = value {
      try await memory.expectEqual(
        compacted(model, tree, nodes: nodes, setting), "\(what), values", on: device)
    }
  }

  @Test("Accepted nodes come down, in every arrangement", arguments: CacheSetting.allCases)
  func compaction(setting: CacheSetting) async throws {
    let tree = Tree(
      committed: setting == .paged ? [3, 0, 7] : setting == .ring ? [3, 8, 1001] : [1, 0, 0],
      paths: [[1, 2, 3, 4], [0, 2, 4, 9], [0, 1, 3, -1]], lengths: [4, 3, 3])
    for (key, value, channels) in [
      (CacheFormat.f16, CacheFormat.q4, 64), (.q8, .int8(groupSize: 16, scaleType: .f16), 64),
      (.int4(groupSize: 8, scaleType: .f32), .q4WithMinimum, 96), (.f32, .e5m2, 10),
    ] where value.blockChannels == 1 || channels % 32 == 0 {
      for order in CacheArrangement.Order.allCases {
        let storage = try setting.storage(key, value, channels: channels, order: order)
        try await expectCompacted(
          tree, nodes: 5, setting.append(storage), "\(setting) \(key) \(value) \(order)")
      }
    }
  }

  @Test("What compaction leaves is what the reference leaves")
  func compactionReference() async throws {
    let storage = try CacheSetting.contiguous.storage(.f32)
    let setting = CacheSetting.contiguous.append(storage)
    let before = Self.random(storage.key, seed: 4)
    let tree = Tree(
      committed: [0, 0, 1], paths: [[0, 1, 2], [1, 2, 4], [1, 3, 0]], lengths: [3, 3, 2])
    var words: [UInt32] = stride(from: 0, to: before.data.count, by: 4).map { start in
      (0..<4).reduce(0) { $0 | UInt32(before.data[start + $1]) << (8 * $1) }
    }
    for (b, path) in [[0, 1, 2], [1, 2, 4], [1, 3]].enumerated() {
      compactCache(
        &words, layout: .contiguous(capacity: 5), sequence: b, committed: Int(tree.committed[b]),
        path: path, heads: 2, channels: 64)
    }
    let expected = compacted(before, tree, nodes: 5, setting)
    let bytes = words.flatMap { word in withUnsafeBytes(of: word) { Array($0) } }
    expectSameBits(bytes, expected.data, "model")
    try await expectCompacted(tree, nodes: 5, setting, "reference")
  }

  @Test("Paths that are out of range move nothing", arguments: CacheSetting.allCases)
  func hostilePaths(setting: CacheSetting) async throws {
    let storage = try setting.storage(.f16, .int8(groupSize: 32, scaleType: .f32))
    let append = setting.append(storage)
    for number: Int32 in [-1, .min, .max, 5, 4, 1 << 30, 1_000_000] {
      for tree in [
        Tree(committed: [1, number, 0], paths: [[1, 3], [0, 2], [2, 3]], lengths: [2, 2, 2]),
        Tree(
          committed: [1, 0, 0], paths: [[number, 3], [1, number], [number, 4]], lengths: [2, 2, 2]),
        Tree(
          committed: [1, 0, 0], paths: [[1, 3], [1, 3], [2, 3]], lengths: [number, 2, number]),
      ] {
        // The tree's sequences are 3 in every setting.
        try await expectCompacted(tree, nodes: 5, append, "\(setting) \(number)")
        guard setting == .paged else { continue }
        var bad = append
        bad.pageTable?.indptr[1] = number
        bad.pageTable?.indices[2] = number == 5 ? 7 : number
        try await expectCompacted(tree, nodes: 5, bad, "\(number), pages")
      }
    }
  }

  @Test("Pages are copied whole, and pages out of range not at all")
  func copies() async throws {
    for (format, channels) in [
      (CacheFormat.f16, 64), (.q8, 32), (.int8(groupSize: 16, scaleType: .f16), 48), (.f16, 7),
      (.int4(groupSize: 12, scaleType: .f32), 12),
    ] {
      for order in CacheArrangement.Order.allCases {
        let pages = try CacheStorage(
          key: CacheTensor(
            format, .contiguous(sequences: 9, capacity: 5, order: order), heads: 2,
            channels: channels))
        let list: [Int32] = [
          2, 0, 5, 5, 7, 3, -1, 1, 1, -1, 9, 4, 4, 9, .max, 6, 6, .min, 8, 1, 1 << 30, 2, 0,
          1 << 28,
        ]
        let kernel = try CacheCopyPagesKernel(
          CacheCopyPagesRequest(storage: pages, copies: list.count / 2), on: device)
        let model = Self.random(pages.key, seed: 8)
        var expected = model
        for (from, to) in [(2, 0), (7, 3), (8, 1)] {
          let bytes = expected.data.count / 9
          expected.data.replaceSubrange(
            to * bytes..<(to + 1) * bytes, with: model.data[from * bytes..<(from + 1) * bytes])
          let scales = expected.scales.count / 9
          expected.scales.replaceSubrange(
            to * scales..<(to + 1) * scales, with: model.scales[from * scales..<(from + 1) * scales]
          )
        }
        let memory = try await CacheTensorMemory(pages.key, holding: model, on: device)
        let copies = try await GuardedBuffer(list, label: "copies", on: device)
        let recorder = try device.makeRecorder()
        try kernel.record(
          copies: copies.buffer, cache: CacheBuffers(key: memory.buffers), into: recorder)
        try await device.submit(recorder).completed()
        try await memory.expectEqual(expected, "\(format) \(order)", on: device)
      }
    }
  }
}
