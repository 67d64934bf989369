import TestSupport
import Testing

@testable import VulkanAttention
@testable import VulkanRuntime

/// Buffers that do not fit an append, a rotation or a move are refused before anything is recorded.
@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct CacheBuffersTests {
  let device: ComputeDevice
  let whole: DeviceBuffer

  init() throws {
    device = try TestDevice.shared()
    whole = try device.makeBuffer(byteCount: 65536, label: "whole")
    let recorder = try device.makeRecorder()
    try recorder.fill(whole, with: 0)
    try device.submit(recorder).wait()
  }

  private func slice(_ start: Int, _ count: Int) throws -> DeviceBuffer {
    try whole.slice(start..<start + count)
  }

  /// 2 tokens of 2 heads of 32 channels into pages: keys f16, values int8 with scales.
  private func kernel() throws -> CacheAppendKernel {
    let pages = CacheArrangement.paged(pages: 4, pageSize: 2)
    let storage = try CacheStorage(
      key: CacheTensor(.f16, pages, heads: 2, channels: 32),
      value: CacheTensor(.int8(groupSize: 32, scaleType: .f16), pages, heads: 2, channels: 32),
      pageTable: CachePageTableShape(sequences: 3, entries: 4))
    return try CacheAppendKernel(
      CacheAppendRequest(
        tokens: 2, storage: storage, rotary: RotaryEncoding(rotaryChannels: 32)), on: device)
  }

  private func buffers() throws -> CacheAppendBuffers {
    CacheAppendBuffers(
      key: try slice(0, 512), value: try slice(512, 512), sequences: try slice(1024, 8),
      positions: try slice(1040, 8), frequencies: try slice(2048, 128),
      rotaryPositions: try slice(1056, 8), cache: try cache())
  }

  private func cache() throws -> CacheBuffers {
    CacheBuffers(
      key: CacheTensorBuffers(try slice(4096, 1024)),
      value: CacheTensorBuffers(try slice(8192, 512), scales: try slice(12288, 32)),
      pageTable: CachePageTableBuffers(indptr: try slice(3072, 16), indices: try slice(3200, 16)))
  }

  private func expectRefused(
    _ expected: AttentionError, sourceLocation: SourceLocation = #_sourceLocation,
    _ change: (inout CacheAppendBuffers) throws -> Void
  ) throws {
    let kernel = try kernel()
    let recorder = try device.makeRecorder()
    var buffers = try buffers()
    try change(&buffers)
    let changed = buffers
    #expect(throws: expected, sourceLocation: sourceLocation) {
      try kernel.record(changed, into: recorder)
    }
    #expect(recorder.retained.isEmpty, sourceLocation: sourceLocation)
  }

  private func expectRefused(
    _ name: String, sourceLocation: SourceLocation = #_sourceLocation,
    _ change: (inout CacheAppendBuffers) throws -> Void
  ) throws {
    let kernel = try kernel()
    let recorder = try device.makeRecorder()
    var buffers = try buffers()
    try change(&buffers)
    let changed = buffers
    let error = #expect(throws: AttentionError.self, sourceLocation: sourceLocation) {
      try kernel.record(changed, into: recorder)
    }
    guard case .invalidArgument(name, _, _)? = error else {
      Issue.record("another error: \(String(describing: error))", sourceLocation: sourceLocation)
      return
    }
    #expect(recorder.retained.isEmpty, sourceLocation: sourceLocation)
  }

  @Test func fittingBuffersAreTaken() async throws {
    let recorder = try device.makeRecorder()
    try kernel().record(buffers(), into: recorder)
    try await device.submit(recorder).completed()
  }

  @Test func tooSmall() throws {
    func small(_ tensor: String, _ required: Int) -> AttentionError {
      .bufferTooSmall(tensor: tensor, requiredBytes: required, availableBytes: required - 2)
    }
    try expectRefused(small("k", 512)) { $0.key = try slice(0, 510) }
    try expectRefused(small("v", 512)) { $0.value = try slice(512, 510) }
    try expectRefused(small("sequences", 8)) { $0.sequences = try slice(1024, 6) }
    try expectRefused(small("positions", 8)) { $0.positions = try slice(1040, 6) }
    try expectRefused(small("frequencies", 128)) { $0.frequencies = try slice(2048, 126) }
    try expectRefused(small("rotaryPositions", 8)) { $0.rotaryPositions = try slice(1056, 6) }
    try expectRefused(small("keyCache", 1024)) { $0.cache.key.data = try slice(4096, 1022) }
    try expectRefused(small("valueCache", 512)) { $0.cache.value?.data = try slice(8192, 510) }
    try expectRefused(small("valueScales", 32)) { $0.cache.value?.scales = try slice(12288, 30) }
    try expectRefused(small("indptr", 16)) { $0.cache.pageTable?.indptr = try slice(3072, 14) }
    try expectRefused(small("indices", 16)) { $0.cache.pageTable?.indices = try slice(3200, 14) }
  }

  @Test func misaligned() throws {
    func shifted(_ tensor: String, _ start: Int, _ alignment: Int) -> AttentionError {
      .misaligned(
        tensor: tensor, address: whole.address + UInt64(start), requiredAlignment: alignment)
    }
    try expectRefused(shifted("k", 8, 16)) { $0.key = try slice(8, 512) }
    try expectRefused(shifted("positions", 1042, 4)) { $0.positions = try slice(1042, 8) }
    try expectRefused(shifted("frequencies", 2052, 8)) { $0.frequencies = try slice(2052, 128) }
    try expectRefused(shifted("keyCache", 4104, 16)) { $0.cache.key.data = try slice(4104, 1024) }
    try expectRefused(shifted("valueScales", 12289, 2)) {
      $0.cache.value?.scales = try slice(12289, 32)
    }
  }

  @Test func missingOrTooMany() throws {
    try expectRefused("v") { $0.value = nil }
    try expectRefused("frequencies") { $0.frequencies = nil }
    try expectRefused("value") { $0.cache.value = nil }
    try expectRefused("valueScales") { $0.cache.value?.scales = nil }
    try expectRefused("keyScales") { $0.cache.key.scales = try slice(20000, 64) }
    try expectRefused("pageTable") { $0.cache.pageTable = nil }
    try expectRefused("lengths") { $0.lengths = try slice(20000, 64) }
    let plain = try CacheAppendKernel(
      CacheAppendRequest(
        tokens: 2,
        storage: CacheStorage(
          key: CacheTensor(.f16, .contiguous(sequences: 4, capacity: 2), heads: 2, channels: 32))),
      on: device)
    for change: (inout CacheAppendBuffers) throws -> Void in [
      { _ in }, { $0.value = nil }, { ($0.value, $0.frequencies) = (nil, nil) },
      { ($0.value, $0.frequencies, $0.rotaryPositions) = (nil, nil, nil) },
      { ($0.value, $0.frequencies, $0.rotaryPositions, $0.cache.value) = (nil, nil, nil, nil) },
    ] {
      var buffers = try buffers()
      try change(&buffers)
      let changed = buffers
      let recorder = try device.makeRecorder()
      #expect(throws: AttentionError.self) { try plain.record(changed, into: recorder) }
      #expect(recorder.retained.isEmpty)
    }
    var buffers = try buffers()
    (buffers.value, buffers.frequencies, buffers.rotaryPositions) = (nil, nil, nil)
    buffers.cache = CacheBuffers(key: buffers.cache.key)
    let recorder = try device.makeRecorder()
    try plain.record(buffers, into: recorder)
    try device.submit(recorder).wait()
  }

  @Test func overlaps() throws {
    func shared(_ output: String, _ other: String) -> AttentionError {
      .overlappingOutput(output: output, with: other)
    }
    try expectRefused(shared("keyCache", "k")) { $0.key = try slice(4096, 512) }
    try expectRefused(shared("keyCache", "valueCache")) {
      $0.cache.value?.data = try slice(5104, 512)
    }
    try expectRefused(shared("keyCache", "positions")) { $0.positions = try slice(4096, 8) }
    try expectRefused(shared("valueScales", "indices")) {
      $0.cache.pageTable?.indices = try slice(12288, 16)
    }
  }

  @Test func rotations() throws {
    let rotary = try RotaryEncoding(rotaryChannels: 32)
    let kernel = try RotaryKernel(
      RotaryRequest(tokens: 2, heads: 2, channels: 32, rotary: rotary), on: device)
    let wide = try RotaryKernel(
      RotaryRequest(
        tokens: 2, heads: 2, channels: 32, rotary: rotary, elementType: .f16, outputType: .f32),
      on: device)
    let fitting = RotaryBuffers(
      input: try slice(0, 512), output: try slice(512, 512), positions: try slice(1024, 8),
      frequencies: try slice(2048, 128))
    func expect(
      _ expected: AttentionError, _ kernel: RotaryKernel,
      _ change: (inout RotaryBuffers) throws -> Void
    ) throws {
      var buffers = fitting
      try change(&buffers)
      let changed = buffers
      let recorder = try device.makeRecorder()
      #expect(throws: expected) { try kernel.record(changed, into: recorder) }
      #expect(recorder.retained.isEmpty)
    }
    try expect(.overlappingOutput(output: "y", with: "x"), kernel) {
      $0.output = try slice(16, 512)
    }
    try expect(.overlappingOutput(output: "y", with: "x"), wide) { $0.output = $0.input }
    try expect(
      .bufferTooSmall(tensor: "y", requiredBytes: 512, availableBytes: 508), kernel
    ) { $0.output = try slice(512, 508) }
    let recorder = try device.makeRecorder()
    try kernel.record(fitting, into: recorder)
    var inPlace = fitting
    inPlace.output = fitting.input
    try kernel.record(inPlace, into: recorder)
    try device.submit(recorder).wait()
  }

  @Test func moves() throws {
    let storage = try kernel().request.storage
    let compact = try CacheCompactKernel(
      CacheCompactRequest(storage: storage, nodes: 4), on: device)
    let copy = try CacheCopyPagesKernel(
      CacheCopyPagesRequest(storage: storage, copies: 2), on: device)
    var buffers = CacheCompactBuffers(
      committed: try slice(0, 12), paths: try slice(64, 48), pathLengths: try slice(128, 12),
      cache: try cache())
    let recorder = try device.makeRecorder()
    try compact.record(buffers, into: recorder)
    try copy.record(copies: slice(256, 16), cache: cache(), into: recorder)
    try device.submit(recorder).wait()
    buffers.paths = try slice(64, 44)
    let small = buffers
    let other = try device.makeRecorder()
    #expect(
      throws: AttentionError.bufferTooSmall(
        tensor: "paths", requiredBytes: 48, availableBytes: 44)
    ) { try compact.record(small, into: other) }
    #expect(
      throws: AttentionError.bufferTooSmall(
        tensor: "copies", requiredBytes: 16, availableBytes: 8)
    ) { try copy.record(copies: slice(256, 8), cache: cache(), into: other) }
    #expect(throws: AttentionError.overlappingOutput(output: "keyCache", with: "copies")) {
      try copy.record(copies: slice(4096, 16), cache: cache(), into: other)
    }
    #expect(other.retained.isEmpty)
  }
}
