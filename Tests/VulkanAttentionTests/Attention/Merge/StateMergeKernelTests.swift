import AttentionReference
import TestSupport
import Testing

@testable import VulkanAttention

/// Merges of partial attentions on the device, against the reference in Double.
@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct StateMergeKernelTests {
  let device: ComputeDevice

  init() throws {
    device = try TestDevice.shared()
  }

  private func expectMerged(
    _ result: AttentionResult, _ expected: AttentionOutput, _ type: ElementType, _ what: String,
    sourceLocation: SourceLocation = #_sourceLocation
  ) {
    expectClose(
      result.o, to: expected.o, within: type.outputGate, "o, \(what)",
      sourceLocation: sourceLocation)
    expectEach(
      result.lse, within: 1e-5, of: expected.lse, "lse, \(what)", sourceLocation: sourceLocation)
  }

  /// Partials, rows, heads and channels: every way to access a row, with a last vector cut short and
  /// without, loops unrolled and not.
  private static let shapes = [
    (1, 1, 1, 128), (2, 7, 3, 128), (3, 7, 1, 64), (17, 7, 2, 100), (64, 1, 1, 59),
    (2, 1000, 1, 59),
    (3, 1000, 1, 100), (5, 31, 4, 8), (4, 7, 1, 1), (64, 2, 1, 576), (2, 5, 1, 12), (2, 5, 2, 40),
  ]

  @Test("The merge is the reference's", arguments: ElementType.allCases, ElementType.allCases)
  func matchesReference(type: ElementType, merged: ElementType) async throws {
    for (index, (n, rows, heads, channels)) in Self.shapes.enumerated() {
      // All shapes where the type stays, some where it changes.
      if type != merged, index % 3 != 1 { continue }
      let tensors = StateMergeTensors(n: n, rows: rows, heads: heads, e: channels, type)
      let run = try StateMergeRun(tensors.request(merged: merged), on: device)
      let result = try await run.strided(tensors)
      expectMerged(
        result, tensors.reference(), merged, "N\(n) rows\(rows) H\(heads) E\(channels)")
    }
  }

  @Test("A GPU's accesses, 16 bytes at a time, change no bit", arguments: ElementType.allCases)
  func wideAccesses(type: ElementType) async throws {
    var capabilities = device.capabilities
    for (n, channels) in [(2, 64), (7, 64), (3, 72), (2, 100), (2, 59)] {
      let tensors = StateMergeTensors(n: n, rows: 33, heads: 2, e: channels, type)
      var results: [AttentionResult] = []
      for kind in [DeviceCapabilities.Kind.cpu, .discrete] {
        capabilities.kind = kind
        let plan = try StateMergePlan(tensors.request(), device: capabilities)
        let kernel = try StateMergeKernel(plan, on: device)
        results.append(try await StateMergeRun(kernel, on: device).strided(tensors))
      }
      expectSameBits(results[1].o, results[0].o, "o, N\(n) E\(channels)")
      expectSameBits(results[1].lse, results[0].lse, "lse, N\(n) E\(channels)")
      expectMerged(results[1], tensors.reference(), type, "N\(n) E\(channels)")
    }
  }

  @Test("Rows beyond a grid's limit along x are rows along y")
  func manyRows() async throws {
    let tensors = StateMergeTensors(n: 2, rows: 1000, e: 59, .f32)
    var capabilities = device.capabilities
    capabilities.maxWorkgroupCount[0] = 7
    let plan = try StateMergePlan(tensors.request(), device: capabilities)
    #expect(plan.groups.x == 7 && plan.groups.y > 1)
    let kernel = try StateMergeKernel(plan, on: device)
    let result = try await StateMergeRun(kernel, on: device).strided(tensors)
    expectMerged(result, tensors.reference(), .f32, "1000 rows")
  }

  @Test("Partials that saw no key count for nothing, NaN in them included", arguments: [59, 64])
  func neutralPartials(channels: Int) async throws {
    for n in [1, 2, 3, 17] {
      var tensors = StateMergeTensors(n: n, rows: 32, heads: 2, e: channels, .f32)
      // About half of them, another half in every row and head; those of row 5 all.
      for p in 0..<n {
        for row in 0..<32 {
          for head in 0..<2 where row == 5 || (p * 7 + row * 3 + head) % 5 < 2 {
            tensors.fill(p, row: row, head: head, with: (p + row) % 2 == 0 ? .nan : .infinity)
            tensors.logSumExps[tensors.index(p, row: row, head: head)] = -.infinity
          }
        }
      }
      let result = try await StateMergeRun(tensors.request(), on: device).strided(tensors)
      expectMerged(result, tensors.reference(), .f32, "N\(n) E\(channels)")
      #expect(result.o[5 * 2 * channels..<6 * 2 * channels].allSatisfy { $0 == 0 })
      #expect(result.lse[10] == -.infinity && result.lse[11] == -.infinity)
    }
  }

  @Test("Nothing but partials that saw no key", arguments: ElementType.allCases)
  func allNeutral(type: ElementType) async throws {
    var tensors = StateMergeTensors(n: 3, rows: 7, heads: 2, e: 40, type)
    tensors.outputs = tensors.outputs.map { _ in .nan }
    tensors.logSumExps = tensors.logSumExps.map { _ in -.infinity }
    let result = try await StateMergeRun(tensors.request(), on: device).strided(tensors)
    expectSameBits(result.o, [Float](repeating: 0, count: 14 * 40), "o")
    expectSameBits(result.lse, [Float](repeating: -.infinity, count: 14), "lse")
  }

  @Test("One partial is its own merge, bit for bit", arguments: ElementType.allCases)
  func onePartial(type: ElementType) async throws {
    let tensors = StateMergeTensors(n: 1, rows: 13, heads: 2, e: 40, type)
    let result = try await StateMergeRun(tensors.request(), on: device).strided(tensors)
    expectSameBits(result.o, tensors.outputs, "o")
    expectSameBits(result.lse, tensors.logSumExps, "lse")
  }

  @Test("NaN reaches its own row, and no other", arguments: ElementType.allCases, [2, 9])
  func notANumber(type: ElementType, n: Int) async throws {
    var tensors = StateMergeTensors(n: n, rows: 20, e: 40, type)
    let clean = tensors.reference()
    // Rows 3 and 4 by a log-sum-exp, first and last; row 8 by an output.
    tensors.logSumExps[tensors.index(0, row: 3)] = .nan
    tensors.logSumExps[tensors.index(n - 1, row: 4)] = .nan
    tensors.fill(1, row: 8, head: 0, with: .nan)
    // Row 12 holds nothing else.
    for p in 0..<n { tensors.logSumExps[tensors.index(p, row: 12)] = p == 1 ? .nan : -.infinity }
    let result = try await StateMergeRun(tensors.request(), on: device).strided(tensors)
    let hurt: Set = [3, 4, 8, 12]
    for row in 0..<20 {
      let o = Array(result.o[row * 40..<(row + 1) * 40])
      if hurt.contains(row) {
        #expect(o.allSatisfy { $0.isNaN }, "row \(row)")
        #expect(result.lse[row].isNaN == (row != 8), "row \(row)")
      } else {
        expectClose(
          o, to: Array(clean.o[row * 40..<(row + 1) * 40]), within: type.outputGate, "row \(row)")
        expectEach([result.lse[row]], within: 1e-5, of: [clean.lse[row]], "row \(row)")
      }
    }
  }

  @Test("Weights far apart, huge and infinite")
  func extremeWeights() async throws {
    let infinity = Float.infinity
    let rows: [[Float]] = [
      [0, -1000, 3], [1000, 1001, -1000], [-3e38, 3e38, 0], [3e38, 3e38, 3e38],
      [-2000, -2001, -2002],
      [infinity, 1, -infinity], [1, infinity, infinity], [-infinity, -3e38, -infinity],
      [90, 0, -90], [-90, 0, 90],
    ]
    var tensors = StateMergeTensors(n: 3, rows: rows.count, e: 24, .f32)
    for (row, values) in rows.enumerated() {
      for (p, value) in values.enumerated() {
        tensors.logSumExps[tensors.index(p, row: row)] = value
      }
    }
    let result = try await StateMergeRun(tensors.request(), on: device).strided(tensors)
    let expected = tensors.reference()
    for row in rows.indices {
      let range = row * 24..<(row + 1) * 24
      expectClose(
        Array(result.o[range]), to: Array(expected.o[range]), within: 1e-5, "o, \(rows[row])")
      let magnitude = expected.lse[row].isFinite ? abs(expected.lse[row]) : 0
      expectEach(
        [result.lse[row]], within: 1e-6 + 1e-6 * magnitude, of: [expected.lse[row]],
        "lse, \(rows[row])")
    }
  }

  @Test("Where the partials lie changes no bit", arguments: ElementType.allCases, [59, 64])
  func layouts(type: ElementType, channels: Int) async throws {
    let (n, rows, heads) = (5, 9, 3)
    let tensors = StateMergeTensors(n: n, rows: rows, heads: heads, e: channels, type)
    let contiguous = try await StateMergeRun(tensors.request(), on: device).strided(tensors)
    let padded = channels + 4
    let layouts: [(String, StateStrides, StateStrides)] = [
      (
        "row-major", .rowMajor(partials: n, heads: heads, channels: channels),
        .rowMajor(partials: n, heads: heads, channels: 1)
      ),
      (
        "heads first",
        StateStrides(partial: channels, row: n * channels, head: rows * n * channels),
        StateStrides(partial: rows, row: 1, head: rows * n)
      ),
      (
        "padded",
        StateStrides(
          partial: rows * heads * padded + 16, row: heads * padded, head: padded),
        StateStrides(partial: rows * heads * 2 + 3, row: heads * 2, head: 2)
      ),
    ]
    for (name, outputStrides, logSumExpStrides) in layouts {
      let request = try tensors.request(
        outputStrides: outputStrides, logSumExpStrides: logSumExpStrides)
      let result = try await StateMergeRun(request, on: device).strided(tensors)
      expectSameBits(result.o, contiguous.o, "o, \(name)")
      expectSameBits(result.lse, contiguous.lse, "lse, \(name)")
    }
  }

  @Test(
    "Two states in buffers of their own need no copy", arguments: ElementType.allCases, [59, 64])
  func separateStates(type: ElementType, channels: Int) async throws {
    let tensors = StateMergeTensors(n: 2, rows: 21, heads: 2, e: channels, type)
    let run = try StateMergeRun(tensors.request(), on: device)
    let expected = try await run.strided(tensors)
    // In memory the second one lies behind the first and before it.
    for isSecondFirst in [false, true] {
      let result = try await run.separate(tensors, isSecondFirst: isSecondFirst)
      expectSameBits(result.o, expected.o, "o")
      expectSameBits(result.lse, expected.lse, "lse")
    }
  }

  @Test(
    "Results may replace the first partial", arguments: StateMergeRun.Target.allCases,
    ElementType.allCases)
  func inPlace(target: StateMergeRun.Target, type: ElementType) async throws {
    for (n, channels) in [(2, 576), (2, 59), (7, 64)] {
      let tensors = StateMergeTensors(n: n, rows: 40, heads: 2, e: channels, type)
      let run = try StateMergeRun(tensors.request(), on: device)
      let expected = try await run.strided(tensors)
      let result = try await run.strided(tensors, target: target)
      expectSameBits(result.o, expected.o, "o, N\(n)")
      expectSameBits(result.lse, expected.lse, "lse, N\(n)")
      if n == 2 {
        let result = try await run.separate(tensors, target: target)
        expectSameBits(result.o, expected.o, "o, separate")
        expectSameBits(result.lse, expected.lse, "lse, separate")
      }
    }
  }

  @Test("Rows list their partials", arguments: ElementType.allCases, [59, 64])
  func listedPartials(type: ElementType, channels: Int) async throws {
    let total = 50
    // One row, for the partials belong to no row but by the list.
    let tensors = StateMergeTensors(n: total, rows: 1, heads: 2, e: channels, type)
    // Empty rows, long ones, ones that go back, and indices that do not exist.
    let starts: [Int32] = [
      0, 0, 1, 4, 4, 37, 37, 30, 50, 50, 60, .max, -1, 3, .min, 2, 49, 50,
    ]
    let rows = starts.count - 1
    let request = try StateMergeRequest(
      rowCount: rows, headCount: 2, partials: .total(total), valueHeadSize: channels,
      elementType: type)
    let result = try await StateMergeRun(request, on: device).strided(tensors, starts: starts)
    for head in 0..<2 {
      let members = (0..<total).map { $0 * 2 + head }
      let expected = mergeStates(
        outputs: members.flatMap {
          tensors.outputs[$0 * channels..<($0 + 1) * channels].map(Double.init)
        }, logSumExps: members.map { Double(tensors.logSumExps[$0]) },
        starts: starts.map(Int.init), channels: channels)
      let mine = (0..<rows).map { $0 * 2 + head }
      let result = AttentionResult(
        o: mine.flatMap { result.o[$0 * channels..<($0 + 1) * channels] },
        lse: mine.map { result.lse[$0] })
      expectMerged(result, expected, type, "head \(head)")
    }
  }

  @Test("Without any partial every row is empty")
  func noPartials() async throws {
    let tensors = StateMergeTensors(n: 0, rows: 1, e: 16, .f32)
    let request = try StateMergeRequest(rowCount: 3, partials: .total(0), valueHeadSize: 16)
    let result = try await StateMergeRun(request, on: device).strided(
      tensors, starts: [0, 0, 5, 9])
    expectSameBits(result.o, [Float](repeating: 0, count: 48), "o")
    expectSameBits(result.lse, [Float](repeating: -.infinity, count: 3), "lse")
  }

  @Test("Without a log-sum-exp to return no buffer is needed")
  func withoutLogSumExp() async throws {
    let tensors = StateMergeTensors(n: 2, rows: 3, e: 16, .f32)
    let request = try StateMergeRequest(
      rowCount: 3, partials: .perRow(2), valueHeadSize: 16, returnsLogSumExp: false)
    let memory = TypedMemory(device: device)
    let outputs = try await memory.upload(tensors.outputs, as: .f32, "outputs")
    let logSumExps = try await memory.upload(tensors.logSumExps, as: .f32, "lses")
    let output = try await GuardedBuffer(byteCount: 3 * 64, label: "output", on: device)
    let recorder = try device.makeRecorder()
    try StateMergeKernel(request, on: device).record(
      StateMergeBuffers(
        AttentionState(output: outputs.buffer, logSumExp: logSumExps.buffer),
        output: output.buffer), into: recorder)
    try await device.submit(recorder).completed()
    try await output.expectGuardsIntact()
    expectClose(
      try await memory.download(.f32, output), to: tensors.reference().o, within: 1e-5, "o")
  }
}
