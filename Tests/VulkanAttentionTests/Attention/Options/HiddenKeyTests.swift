import KernelBenchmarks
import TestSupport
import Testing

@testable import VulkanAttention

/// Keys and values that a row does not see may hold anything.
@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct HiddenKeyTests {
  let device: ComputeDevice
  private static let (queries, keys, channels, width) = (9, 75, 16, 8)

  init() throws {
    device = try TestDevice.shared()
  }

  /// What hides keys.
  enum Mask: String, Sendable, CaseIterable {
    case bytes, bits, bias, keyBias, segments, window, chunk, keyLengths, leftPadding, tree

    var operands: [AttentionOperand] {
      switch self {
      case .bytes: [AttentionOperand(.mask, shared: .heads)]
      case .bits: [AttentionOperand(.maskBits, shared: .batch)]
      case .bias: [AttentionOperand(.bias, .f16, shared: .heads)]
      case .keyBias: [AttentionOperand(.keyBias, shared: .heads)]
      case .segments: [AttentionOperand(.querySegments), AttentionOperand(.keySegments)]
      case .window, .chunk: []
      case .keyLengths: [AttentionOperand(.keyLengths)]
      case .leftPadding: [AttentionOperand(.leftPadding)]
      case .tree: [AttentionOperand(.treeBits)]
      }
    }
  }

  /// With keys that no row sees, and keys that some rows see.
  private static func problem(_ kind: Mask, _ type: ElementType) throws -> OptionProblem {
    var mask = kind == .keyLengths || kind == .leftPadding ? AttentionMask.causal : .none
    if kind == .window { mask = .window(left: 20, right: 3, isCausal: false) }
    if kind == .chunk { mask.chunkSize = 35 }
    var scores = AttentionScores()
    scores.treeTokens = kind == .tree ? 20 : 0
    var problem = OptionProblem(
      try AttentionRequest(
        batchSize: 2, queryTokens: queries, keyTokens: keys, queryHeads: 2, keyHeads: 1,
        headSize: channels, valueHeadSize: width, elementType: type, mask: mask, scores: scores,
        operands: kind.operands, returnsLogSumExp: true))
    // The first rows of every mask see the first keys; keys 3, 40 and the last are no one's.
    let isHidden = { (key: Int) in key == 3 || key == 40 || key == keys - 1 }
    switch kind {
    case .bytes:
      problem.inputs.operands[.mask] = problem.inputs.operands[.mask]?.enumerated().map {
        isHidden($0 % keys) ? 0 : $0 % keys < 2 ? 1 : $1
      }
    case .bits:
      problem.inputs.operands[.maskBits] = problem.inputs.operands[.maskBits]?.enumerated().map {
        let first = $0 % 10 * 8
        return (0..<8).reduce($1) { isHidden(first + $1) ? $0 & ~(1 << UInt8($1)) : $0 }
      }
    case .bias:
      let count = 2 * queries * keys
      let values = (0..<count).map { index -> Float16 in
        let (row, key) = (index / keys % queries, index % keys)
        return isHidden(key) || key > 2 && (row + key) % 4 == 0 ? -.infinity : Float16(row) / 8
      }
      problem.inputs.operands[.bias] = values.withUnsafeBytes { Array($0) }
    case .keyBias:
      problem.set(.keyBias, (0..<2 * keys).map { isHidden($0 % keys) ? -.infinity : 0.5 })
    case .segments:
      problem.set(.querySegments, (0..<2 * queries).map { Int32($0 % 3) })
      problem.set(.keySegments, (0..<2 * keys).map { isHidden($0 % keys) ? 77 : Int32($0 % 3) })
    case .keyLengths: problem.set(.keyLengths, [40, 67] as [Int32])
    case .leftPadding: problem.set(.leftPadding, [33, 4] as [Int32])
    case .tree:
      problem.inputs.operands[.treeBits] = problem.inputs.operands[.treeBits]?.enumerated().map {
        // Node 4 is no one's.
        $0 % 3 == 0 ? $1 & ~16 : $1
      }
    case .window, .chunk: break
    }
    return problem
  }

  @Test(
    "What a row does not see does not reach it, what it sees does",
    arguments: TypedPath.optionPaths, Mask.allCases)
  func hidden(path: TypedPath, mask: Mask) async throws {
    let problem = try Self.problem(mask, path.type)
    let weights = problem.probabilities()
    let rowCount = 2 * Self.queries * 2
    /// Whether row [b, s, h] sees a key.
    func sees(_ row: Int, _ key: Int) -> Bool { weights[row * Self.keys + key] != 0 }
    let rowsOfEntry = rowCount / 2
    let clean = try await problem.expectExact(path.variant, on: device, "clean")

    // Keys that no row of a batch entry sees hold NaN and infinities, and their values.
    var poisoned = problem
    var hiddenCount = 0
    for b in 0..<2 {
      let rows = b * rowsOfEntry..<(b + 1) * rowsOfEntry
      for key in 0..<Self.keys where !rows.contains(where: { sees($0, key) }) {
        hiddenCount += 1
        let token = b * Self.keys + key
        let (k, v): (Float, Float) = key % 2 == 0 ? (.nan, .infinity) : (-.infinity, .nan)
        for c in 0..<Self.channels { poisoned.inputs.key[token * Self.channels + c] = k }
        for c in 0..<Self.width { poisoned.inputs.value[token * Self.width + c] = v }
      }
    }
    #expect(hiddenCount > 0)
    expectSameBits(
      try await poisoned.run(path.variant, on: device), clean, "\(hiddenCount) hidden keys")

    // A key that some rows see: exactly those are NaN.
    let rows = 0..<rowsOfEntry
    let mixed = (0..<Self.keys).filter { key in
      rows.contains { sees($0, key) } && rows.contains { !sees($0, key) }
    }
    guard let key = mixed.dropFirst(mixed.count / 2).first else {
      // Masks by keys alone hide a key from all rows or none.
      #expect(mask == .keyBias || mask == .leftPadding || mask == .keyLengths)
      return
    }
    for damagesValue in [false, true] {
      var damaged = problem
      if damagesValue {
        damaged.inputs.value[key * Self.width + 5] = .nan
      } else {
        damaged.inputs.key[key * Self.channels + 5] = .nan
      }
      let result = try await damaged.run(path.variant, on: device)
      for row in 0..<rowCount {
        let output = row * Self.width..<(row + 1) * Self.width
        let isSeen = rows.contains(row) && sees(row, key)
        if isSeen {
          #expect(result.output[row * Self.width + 5].isNaN, "row \(row)")
          #expect(result.logSumExp?[row].isNaN == !damagesValue, "row \(row)")
        } else {
          expectSameBits(
            Array(result.output[output]), Array(clean.output[output]), "row \(row), key \(key)")
          #expect(result.logSumExp?[row].bitPattern == clean.logSumExp?[row].bitPattern)
        }
      }
    }
  }

  @Test("A gate of 0 is 0, whatever the row would have been", arguments: TypedPath.optionPaths)
  func gates(path: TypedPath) async throws {
    var problem = OptionProblem(
      try AttentionRequest(
        batchSize: 2, queryTokens: Self.queries, keyTokens: Self.keys, queryHeads: 2,
        keyHeads: 1, headSize: Self.channels, valueHeadSize: Self.width, elementType: path.type,
        operands: [AttentionOperand(.gates)], returnsLogSumExp: true))
    problem.inputs.value = problem.inputs.value.map { _ in .nan }
    problem.inputs.key[7] = .infinity
    let rows = 2 * Self.queries * 2
    problem.set(.gates, (0..<rows).map { $0 % 3 == 0 ? 0 : $0 % 3 == 1 ? -0 : 2 } as [Float])
    let result = try await problem.run(path.variant, on: device)
    for row in 0..<rows {
      let output = result.output[row * Self.width..<(row + 1) * Self.width]
      if row % 3 == 2 {
        #expect(output.allSatisfy { $0.isNaN }, "row \(row)")
      } else {
        #expect(output.allSatisfy { $0 == 0 }, "row \(row)")
        #expect(result.logSumExp?[row] == -.infinity, "row \(row)")
      }
    }
  }

  @Test("The mean over a sequence without keys is 0", arguments: TypedPath.optionPaths)
  func meanOfNoKeys(path: TypedPath) async throws {
    var scores = AttentionScores()
    scores.normalizer = .reluMean
    var problem = OptionProblem(
      try AttentionRequest(
        batchSize: 2, queryTokens: Self.queries, keyTokens: Self.keys, queryHeads: 2,
        keyHeads: 1, headSize: Self.channels, valueHeadSize: Self.width, elementType: path.type,
        scores: scores, operands: [AttentionOperand(.keyLengths)], returnsLogSumExp: true))
    problem.set(.keyLengths, [0, 9] as [Int32])
    let result = try await problem.expectExact(path.variant, on: device, "mean")
    let empty = result.output.prefix(Self.queries * 2 * Self.width)
    #expect(empty.allSatisfy { $0 == 0 })
  }
}
