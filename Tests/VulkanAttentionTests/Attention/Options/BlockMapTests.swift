import AttentionReference
import TestSupport
import Testing

@testable import KernelBenchmarks
@testable import VulkanAttention

/// Block maps: what they say is done, on every path, and what the device says of masks.
@Suite(.serialized, .timeLimit(.minutes(15)), .needsDevice, .silentValidation)
struct BlockMapTests {
  let device: ComputeDevice

  init() throws {
    device = try TestDevice.shared()
  }

  /// Two batch entries of two heads, some blocks of which are cut by the end.
  private func request(
    _ type: ElementType = .f32, queries: Int = 200, keys: Int = 330, mask: AttentionMask = .none,
    rows: Int = 64, blockKeys: Int = 128, operands: [AttentionOperand]
  ) throws -> AttentionRequest {
    var mask = mask
    (mask.blockMapRows, mask.blockMapKeys) = (rows, blockKeys)
    return try AttentionRequest(
      batchSize: 2, queryTokens: queries, keyTokens: keys, queryHeads: 2, headSize: 16,
      elementType: type, mask: mask, operands: operands, returnsLogSumExp: true)
  }

  /// A map's entries beside a mask: blocks of all three kinds, hidden ones at both ends, a row of blocks that sees
  /// nothing.
  @Test(arguments: TypedPath.optionPaths, [false, true])
  func mapsAreFollowed(path: TypedPath, isWindowed: Bool) async throws {
    let request = try request(
      path.type, mask: isWindowed ? .window(left: 150) : .none,
      operands: [.init(.mask, shared: .batch), .init(.blockMap)])
    var problem = OptionProblem(request)
    let count = request.byteCount(of: .blockMap) / 4
    var map = problem.integers(of: .blockMap).map { Int32($0) }
    #expect(count == 2 * 2 * 4 * 3 && Set(map) == [0, 1, 2])
    map.replaceSubrange(0..<6, with: [0, 2, 0, 0, 0, 0])
    problem.set(.blockMap, map)
    let result = try await problem.expectExact(path.variant, on: device, "\(path) \(isWindowed)")
    // The second row of blocks of the first head sees nothing.
    #expect(result.output[(64 * 2) * 16] == 0)
    #expect(result.logSumExp?[64 * 2] == -.infinity)
  }

  /// Keys and values of hidden blocks are not multiplied, and may hold NaN.
  @Test(arguments: TypedPath.optionPaths)
  func hiddenBlocksMayHoldAnything(path: TypedPath) async throws {
    let request = try request(
      path.type, operands: [.init(.blockMap, shared: [.batch, .heads])])
    var problem = OptionProblem(request)
    problem.set(
      .blockMap, [Int32](repeating: 2, count: 12).enumerated().map { $0 % 3 == 1 ? 0 : $1 })
    for batch in 0..<2 {
      let row = 2 * 16
      for place in (batch * 330 + 128) * row..<(batch * 330 + 256) * row {
        problem.inputs.key[place] = .nan
        problem.inputs.value[place] = .nan
      }
    }
    let result = try await problem.expectExact(path.variant, on: device, "\(path)")
    #expect(result.output.allSatisfy { $0.isFinite })
  }

  /// Hidden blocks are passed several at a time: before, between and behind those that are seen.
  @Test(arguments: TypedPath.optionPaths, [false, true])
  func hiddenStretches(path: TypedPath, hasSinks: Bool) async throws {
    var mask = AttentionMask.none
    if hasSinks {
      // Between the sink tokens and the window there is a gap.
      mask = .window(left: 1000)
      mask.sinkTokens = 100
    }
    let request = try request(
      path.type, queries: 70, keys: 1990, mask: mask, blockKeys: 64,
      operands: [.init(.mask, shared: [.batch, .heads]), .init(.blockMap, shared: .batch)])
    var problem = OptionProblem(request)
    // Of two heads, two rows of 32 blocks each.
    let seen: [[Int: Int32]] = [[17: 1], [0: 2, 9: 1, 31: 2], [8: 2, 16: 1], [30: 2, 31: 1]]
    problem.set(.blockMap, seen.flatMap { row in (0..<32).map { row[$0] ?? 0 } })
    try await problem.expectExact(path.variant, on: device, "\(path) \(hasSinks)")
  }

  /// Pieces of rows and of keys follow the map as well, to the bit.
  @Test(arguments: TypedPath.optionPaths)
  func piecesAreTheSame(path: TypedPath) async throws {
    let problem = OptionProblem(
      try request(path.type, operands: [.init(.maskBits), .init(.blockMap, shared: .heads)]))
    let whole = try await problem.run(path.variant, on: device)
    let pieces = try await problem.run(path.variant, on: device, budget: 2e5)
    let plan = try problem.kernel(path.variant, on: device, budget: 2e5).plan
    #expect(plan.pieces.count > 8)
    expectSameBits(pieces, whole, "\(path)")
  }

  /// What the device makes of masks is what a look at each key gives; an attention with that map is the one without.
  @Test(arguments: [AttentionOperand.Kind.mask, .maskBits, .querySegments, .treeBits])
  func mapsOfMasks(kind: AttentionOperand.Kind) async throws {
    var scores = AttentionScores()
    scores.treeTokens = 200
    let shared: AttentionOperand.Axes =
      [.mask, .maskBits].contains(kind) ? [] : .heads
    var operands: [AttentionOperand] = [.init(kind)]
    if kind == .querySegments { operands.append(.init(.keySegments)) }
    var mask = AttentionMask.none
    (mask.blockMapRows, mask.blockMapKeys) = (128, 64)
    let request = try AttentionRequest(
      batchSize: 2, queryTokens: 200, keyTokens: 330, queryHeads: 2, headSize: 16, mask: mask,
      scores: scores, operands: operands + [.init(.keyLengths), .init(.blockMap, shared: shared)],
      returnsLogSumExp: true)
    var problem = OptionProblem(request)
    problem.set(.keyLengths, [330, 201] as [Int32])
    // Long runs, so that there are blocks of every kind.
    switch kind {
    case .querySegments:
      let queries: [Int32] = (0..<400).map { $0 / 128 }
      let keys: [Int32] = (0..<660).map { $0 / 70 }
      problem.set(.querySegments, queries)
      problem.set(.keySegments, keys)
    default:
      let bytesPerRow = kind == .mask ? 330 : kind == .maskBits ? 42 : 25
      let bytes = problem.inputs.operands[kind] ?? []
      problem.inputs.operands[kind] = bytes.enumerated().map { index, value in
        let key = index % bytesPerRow * (kind == .mask ? 1 : 8)
        return [0, 255, value][key / 64 % 3]
      }
    }
    let entries = try await computedMap(problem)
    #expect(entries == expectedMap(problem))
    #expect(Set(entries) == [0, 1, 2])

    problem.set(.blockMap, entries)
    var withoutMap = OptionProblem(
      try AttentionRequest(
        batchSize: 2, queryTokens: 200, keyTokens: 330, queryHeads: 2, headSize: 16,
        scores: scores, operands: operands + [.init(.keyLengths)], returnsLogSumExp: true))
    withoutMap.inputs = problem.inputs
    withoutMap.inputs.operands[.blockMap] = nil
    let result = try await problem.run(.row, on: device)
    problem.expectClose(result, to: withoutMap.reference(), "\(kind)")
  }

  /// The map by the kernel, cut into pieces.
  private func computedMap(_ problem: OptionProblem) async throws -> [Int32] {
    let kernel = try AttentionBlockMapKernel(
      problem.request, on: device, operationsPerPiece: 300_000)
    #expect(kernel.pieces.count > 2)
    var buffers: [AttentionOperand.Kind: DeviceBuffer] = [:]
    for (kind, bytes) in problem.inputs.operands where kind != .blockMap {
      buffers[kind] = try await device.makeBuffer(bytes)
    }
    let byteCount = problem.request.byteCount(of: .blockMap)
    // One word more, which must stay.
    let map = try await device.makeBuffer([UInt8](repeating: 0xab, count: byteCount + 4))
    buffers[.blockMap] = map
    let scratch = try device.makeBuffer(byteCount: kernel.scratchByteCount)
    try await kernel.run(operands: buffers, scratch: scratch)
    let bytes = try await device.download(UInt8.self, from: map)
    #expect(bytes.suffix(4) == [0xab, 0xab, 0xab, 0xab])
    return KernelBenchmarks.integers(Array(bytes.prefix(byteCount)))
  }

  /// The map by the reference's weights: those of 0 are hidden keys.
  private func expectedMap(_ problem: OptionProblem) -> [Int32] {
    let request = problem.request
    let (rows, keys) = (request.mask.blockMapRows, request.mask.blockMapKeys)
    var asked = problem
    asked.set(.blockMap, [Int32](repeating: 1, count: request.byteCount(of: .blockMap) / 4))
    let weights = asked.probabilities()
    let lengths = problem.integers(of: .keyLengths)
    let heads = request.operand(.blockMap)?.shared.contains(.heads) == true ? 1 : 2
    var map: [Int32] = []
    for batch in 0..<2 {
      for head in 0..<heads {
        for row in stride(from: 0, to: 200, by: rows) {
          for key in stride(from: 0, to: 330, by: keys) {
            var seen: Set<Bool> = []
            for i in row..<min(row + rows, 200) {
              for j in key..<max(key, min(key + keys, lengths[batch])) {
                seen.insert(weights[((batch * 200 + i) * 2 + head) * 330 + j] > 0)
              }
            }
            map.append(seen.isEmpty || seen == [false] ? 0 : seen == [true] ? 2 : 1)
          }
        }
      }
    }
    return map
  }

  @Test func refusals() async throws {
    #expect(throws: AttentionError.self) {
      try self.request(rows: 96, operands: [.init(.blockMap)])
    }
    #expect(throws: AttentionError.self) {
      try self.request(blockKeys: 32, operands: [.init(.blockMap)])
    }
    #expect(throws: AttentionError.self) {
      try self.request(keys: 0, operands: [.init(.blockMap)])
    }
    #expect(throws: AttentionError.self) {
      try AttentionBlockMapKernel(request(operands: [.init(.mask)]), on: device)
    }
    // A map for all heads of a mask that differs between them.
    let wrong = try request(operands: [.init(.mask), .init(.blockMap, shared: .heads)])
    do {
      _ = try AttentionBlockMapKernel(wrong, on: device)
      Issue.record("a map was planned that says nothing of its mask")
    } catch AttentionError.invalidArgument(let name, _, let allowed) {
      #expect(name == "operands.block_map" && allowed.contains("mask"))
    }
    let kernel = try AttentionBlockMapKernel(
      request(operands: [.init(.mask), .init(.blockMap)]), on: device)
    let map = try device.makeBuffer(byteCount: kernel.request.byteCount(of: .blockMap))
    let recorder = try device.makeRecorder()
    #expect(throws: AttentionError.missingOperandBuffer(operand: .mask)) {
      try kernel.record(operands: [.blockMap: map], scratch: nil, into: recorder)
    }
  }
}
