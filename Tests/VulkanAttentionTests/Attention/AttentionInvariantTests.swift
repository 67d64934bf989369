import AttentionReference
import TestSupport
import Testing

@testable import VulkanAttention

/// What must hold of every path without a reference.
@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct AttentionInvariantTests {
  let device: ComputeDevice

  init() throws {
    device = try TestDevice.shared()
  }

  private func compute(
    _ path: TypedPath, _ tensors: AttentionTensors, _ request: AttentionRequest? = nil,
    _ mode: RunMode = .record
  ) async throws -> AttentionResult {
    let request = try request ?? tensors.shape.request(path.type)
    let kernel = try path.variant.kernel(request, on: device)
    return try await DeviceTensors(tensors, kernel.plan, on: device).compute(kernel, mode)
  }

  /// Query heads of one key head: with few the row path reads keys and values as they lie, with many
  /// it packs them first.
  private static let headCounts = [1, 8]

  /// Ways to lay out [tokens, heads, channels] of two batch entries.
  private static let layouts: [(String, @Sendable (Int, Int, Int) -> TensorStrides)] = [
    ("head-major", { TensorStrides.headMajor(tokens: $0, heads: $1, channels: $2) }),
    ("fused", fused), ("batches innermost", batchesInnermost), ("padded", padded),
  ]

  /// Rows of one projection that holds more: gaps between tokens and batch entries.
  @Sendable
  private static func fused(_ tokens: Int, _ heads: Int, _ channels: Int) -> TensorStrides {
    let token = heads * channels + 24
    return TensorStrides(batch: tokens * token + 8, token: token, head: channels)
  }

  /// [token, batch, head, channel].
  @Sendable
  private static func batchesInnermost(
    _ tokens: Int, _ heads: Int, _ channels: Int
  ) -> TensorStrides {
    TensorStrides(batch: heads * channels, token: 2 * heads * channels, head: channels)
  }

  /// A gap behind every row.
  @Sendable
  private static func padded(_ tokens: Int, _ heads: Int, _ channels: Int) -> TensorStrides {
    let head = channels + 8
    return TensorStrides(batch: tokens * heads * head, token: heads * head, head: head)
  }

  @Test("Where the rows lie changes no bit", arguments: TypedPath.all)
  func layouts(path: TypedPath) async throws {
    for heads in Self.headCounts {
      let shape = AttentionCase(b: 2, s: 33, t: 65, h: 2 * heads, g: 2, d: 64)
      let tensors = AttentionTensors(shape, path.type)
      let contiguous = try await compute(path, tensors)
      for (name, layout) in Self.layouts {
        let request = try shape.request(path.type, layout)
        let result = try await compute(path, tensors, request)
        expectSameBits(result.o, contiguous.o, "o, \(name), \(shape.testDescription)")
        expectSameBits(result.lse, contiguous.lse, "lse, \(name), \(shape.testDescription)")
      }
    }
  }

  @Test("Grouped heads are repeated heads", arguments: TypedPath.all)
  func groupedHeads(path: TypedPath) async throws {
    let grouped = AttentionCase(b: 2, s: 33, t: 65, h: 4, g: 2, d: 64)
    var repeated = grouped
    repeated.keyHeads = 4
    let tensors = AttentionTensors(grouped, path.type)
    var spread = AttentionTensors(repeated, path.type)
    spread.q = tensors.q
    for b in 0..<2 {
      for t in 0..<65 {
        for h in 0..<4 {
          let (to, from) = (spread.keyIndex(b, t, h), tensors.keyIndex(b, t, h / 2))
          for c in 0..<64 {
            spread.k[to + c] = tensors.k[from + c]
            spread.v[to + c] = tensors.v[from + c]
          }
        }
      }
    }
    let expected = try await compute(path, spread)
    let result = try await compute(path, tensors)
    expectSameBits(result.o, expected.o, "o")
    expectSameBits(result.lse, expected.lse, "lse")
  }

  @Test("A stride of 0 repeats keys and values", arguments: TypedPath.all)
  func repeatedByStride(path: TypedPath) async throws {
    let shape = AttentionCase(b: 2, s: 9, t: 20, h: 2, g: 2, d: 64)
    var tensors = AttentionTensors(shape, path.type)
    for t in 0..<20 {
      for (b, h) in [(0, 1), (1, 0), (1, 1)] {
        let (to, from) = (tensors.keyIndex(b, t, h), tensors.keyIndex(0, t, 0))
        for c in 0..<64 {
          tensors.k[to + c] = tensors.k[from + c]
          tensors.v[to + c] = tensors.v[from + c]
        }
      }
    }
    let expected = try await compute(path, tensors)
    let once = TensorStrides(batch: 0, token: 64, head: 0)
    let request = try AttentionRequest(
      batchSize: 2, queryTokens: 9, keyTokens: 20, queryHeads: 2, headSize: 64,
      elementType: path.type, returnsLogSumExp: true, keyStrides: once, valueStrides: once)
    let result = try await compute(path, tensors, request)
    expectSameBits(result.o, expected.o, "o")
    expectSameBits(result.lse, expected.lse, "lse")
  }

  @Test("Keys that a row does not see never reach it, whatever they hold", arguments: TypedPath.all)
  func causality(path: TypedPath) async throws {
    for heads in Self.headCounts {
      let shape = AttentionCase(s: 70, t: 75, h: heads, g: 1, d: 64, mask: .causal)
      let tensors = AttentionTensors(shape, path.type)
      let clean = try await compute(path, tensors)
      let cuts = [(5, Float.nan), (12, .infinity), (37, .nan), (68, -.infinity), (73, .nan)]
      for (cut, poison) in cuts {
        var poisoned = tensors
        for index in tensors.keyIndex(0, cut + 1)..<tensors.k.count { poisoned.k[index] = poison }
        for index in tensors.valueIndex(0, cut + 1)..<tensors.v.count {
          poisoned.v[index] = poison
        }
        let result = try await compute(path, poisoned)
        // Query i sees keys up to i + 5.
        let rows = (cut - 5 + 1) * heads
        let what = "\(rows) rows before \(poison)"
        expectSameBits(
          Array(result.o[..<(rows * 64)]), Array(clean.o[..<(rows * 64)]), "o, \(what)")
        expectSameBits(Array(result.lse[..<rows]), Array(clean.lse[..<rows]), "lse, \(what)")
        // And the rows that see them say so.
        #expect(result.o[(rows * 64)...].allSatisfy { $0.isNaN }, "o after \(what)")
      }
    }
  }

  @Test("Without a visible key a row is 0 and its log-sum-exp −inf", arguments: TypedPath.all)
  func noVisibleKeys(path: TypedPath) async throws {
    var noKeys = AttentionTensors(AttentionCase(b: 2, s: 5, t: 0, h: 2, d: 24, e: 16), path.type)
    // Not even a NaN in the query shows.
    noKeys.q[3] = .nan
    let empty = try await compute(path, noKeys)
    expectSameBits(empty.o, [Float](repeating: 0, count: 2 * 5 * 2 * 16), "o, T = 0")
    expectSameBits(empty.lse, [Float](repeating: -.infinity, count: 20), "lse, T = 0")

    for heads in [2, 12] {
      let shape = AttentionCase(s: 24, t: 9, h: heads, g: 1, d: 24, e: 16, mask: .causal)
      let hidden = try await compute(path, AttentionTensors(shape, path.type))
      // The first S − T tokens.
      let rows = 15 * heads
      expectSameBits(
        Array(hidden.o[..<(rows * 16)]), [Float](repeating: 0, count: rows * 16), "o, S > T")
      expectSameBits(
        Array(hidden.lse[..<rows]), [Float](repeating: -.infinity, count: rows), "lse, S > T")
      #expect(hidden.o[(rows * 16)...].allSatisfy { $0.isFinite && $0 != 0 })
      #expect(hidden.lse[rows...].allSatisfy { $0.isFinite })
    }
  }

  /// NaN or an infinity in one place of the data.
  enum Damage: String, CaseIterable, Sendable {
    case nanInQuery
    case nanInKey
    case nanInValue
    case infinityInValue
    case infiniteScore
    case hiddenByInfinity
  }

  @Test(
    "NaN and infinities spread as the formula says and no further", arguments: TypedPath.all,
    Damage.allCases)
  func damagedData(path: TypedPath, damage: Damage) async throws {
    for heads in Self.headCounts {
      let shape = AttentionCase(s: 33, t: 65, h: heads, g: 1, d: 64, mask: .causal)
      var tensors = AttentionTensors(shape, path.type)
      let key = tensors.keyIndex(0, 40)
      // Query 5 of the first head.
      let query = 5 * heads * 64
      switch damage {
      case .nanInQuery: tensors.q[query + 3] = .nan
      case .nanInKey: tensors.k[key + 7] = .nan
      case .nanInValue: tensors.v[key + 63] = .nan
      case .infinityInValue: tensors.v[key] = -.infinity
      case .infiniteScore:
        // q·k = +inf for this row alone; all keys are positive there, for 0 · inf would be NaN.
        tensors.q[query + 3] = .infinity
        for t in 0..<65 { tensors.k[tensors.keyIndex(0, t) + 3] = 1 }
      case .hiddenByInfinity:
        // Scores of −inf: the key takes no part.
        for row in 0..<33 * heads { tensors.q[row * 64] = 1 }
        tensors.k[key] = -.infinity
      }
      let result = try await compute(path, tensors)
      let expected = tensors.reference()
      expectSameKind(result.o, expected.o, "o")
      expectSameKind(result.lse, expected.lse, "lse")
      let finite = zip(result.o, expected.o).filter { $0.1.isFinite }
      expectClose(
        finite.map(\.0), to: finite.map(\.1), within: path.type.outputGate, "the rest")
    }
  }

  private func expectSameKind(_ actual: [Float], _ expected: [Double], _ what: String) {
    #expect(actual.count == expected.count)
    let wrong = zip(actual, expected).enumerated().first { _, pair in
      let (actual, expected) = pair
      if expected.isNaN { return !actual.isNaN }
      if expected.isInfinite { return Double(actual) != expected }
      return !actual.isFinite
    }
    if let wrong {
      Issue.record("\(what)[\(wrong.offset)] is \(wrong.element.0), expected \(wrong.element.1)")
    }
  }

  @Test(
    "Between two numbers of a 16-bit type the even one is stored",
    arguments: TypedPath.all.filter { $0.type != .f32 })
  func tiesToEven(path: TypedPath) async throws {
    for heads in Self.headCounts {
      // Equal scores: o is the mean of two neighbours, the even one below it or above.
      let shape = AttentionCase(s: 33, t: 2, h: heads, g: 1, d: 8, scale: 0)
      var tensors = AttentionTensors(shape, path.type)
      let step: Float = path.type == .f16 ? 0x1p-10 : 0x1p-7
      for c in 0..<8 {
        let even: Float = c % 2 == 0 ? 1 : 1 + 2 * step
        tensors.v[tensors.valueIndex(0, 0) + c] = c < 4 ? even : -even
        tensors.v[tensors.valueIndex(0, 1) + c] = c < 4 ? 1 + step : -1 - step
      }
      let result = try await compute(path, tensors)
      let row: [Float] = [1, 1 + 2 * step, 1, 1 + 2 * step]
      let rows = (0..<33 * heads).flatMap { _ in row + row.map { -$0 } }
      expectSameBits(result.o, rows, "o")
    }
  }

  @Test("The same work gives the same bits, twenty times", arguments: TypedPath.all)
  func deterministic(path: TypedPath) async throws {
    let shape = AttentionCase(b: 2, s: 33, t: 65, h: 4, g: 2, d: 64, mask: .causal)
    let tensors = AttentionTensors(shape, path.type)
    let first = try await compute(path, tensors)
    for _ in 1..<20 {
      let again = try await compute(path, tensors)
      expectSameBits(again.o, first.o, "o")
      expectSameBits(again.lse, first.lse, "lse")
    }
  }

  @Test("The log-sum-exp is written only where it is asked for", arguments: TypedPath.all)
  func optionalLogSumExp(path: TypedPath) async throws {
    let shape = AttentionCase(b: 2, s: 33, t: 65, h: 4, g: 2, d: 64)
    let tensors = AttentionTensors(shape, path.type)
    let with = try await compute(path, tensors)
    let without = try await compute(
      path, tensors, shape.request(path.type, returnsLogSumExp: false))
    expectSameBits(without.o, with.o, "o")
    #expect(without.lse.allSatisfy { $0.bitPattern == GuardedBuffer.poison })
  }
}
