import AttentionReference
import VulkanAttention

/// One merge of the check.
struct StateMergeCheckCase: Sendable, Hashable {
  /// Where the partial results are.
  enum Layout: String, Sendable, Hashable, CaseIterable {
    /// [N, rows, H, E].
    case partialMajor = ""
    /// [rows, N, H, E].
    case rowMajor = "-row-major"
    /// Two in buffers of their own.
    case separate = "-separate"
    /// Two in buffers of their own, the first replaced.
    case inPlace = "-in-place"
    /// Rows that list their partials.
    case listed = "-listed"
  }

  var group: String
  var partials: Int
  var rows: Int
  var heads: Int
  var channels: Int
  var elementType: VulkanAttention.ElementType
  var mergedElementType: VulkanAttention.ElementType
  var layout = Layout.partialMajor
  /// Whether some of the partials saw no key and hold NaN, of some rows all.
  var hasNeutral = false

  var id: String {
    "merge/\(elementType.rawValue)/N\(partials)-R\(rows)-H\(heads)-E\(channels)"
      + (mergedElementType == elementType ? "" : "-to-\(mergedElementType.rawValue)")
      + layout.rawValue + (hasNeutral ? "-neutral" : "")
  }

  /// The same for cases that share a pipeline.
  var pipelines: String { "E\(channels)-\(elementType)-\(mergedElementType)-\(layout)" }

  func request() throws(AttentionError) -> StateMergeRequest {
    try StateMergeRequest(
      rowCount: rows, headCount: heads,
      partials: layout == .listed ? .total(partialCount) : .perRow(partials),
      valueHeadSize: channels, elementType: elementType, mergedElementType: mergedElementType,
      outputStrides: layout == .rowMajor
        ? .rowMajor(partials: partials, heads: heads, channels: channels) : nil,
      logSumExpStrides: layout == .rowMajor
        ? .rowMajor(partials: partials, heads: heads, channels: 1) : nil)
  }

  /// Where the partials of rows begin that list them: N of most rows, none of every third.
  var starts: [Int] {
    (0..<rows).reduce(into: [0]) { $0.append($0[$1] + ($1 % 3 == 1 ? 0 : partials)) }
  }

  /// Partials of a row, or of all rows together.
  var partialCount: Int { layout == .listed ? starts[rows] : partials }

  /// The partials as they lie in memory, and the expected result.
  func problem() -> (
    outputs: [Float], logSumExps: [Float], expected: (o: [Double], lse: [Double])
  ) {
    var random = SplitMix64(seed: id)
    let rows = layout == .listed ? 1 : rows
    let count = partialCount * rows * heads
    var outputs = random.normal(count * channels).map {
      Float(elementType.storage.rounded(Double($0)))
    }
    var logSumExps = random.normal(count).map { 3 * $0 }
    if hasNeutral {
      let firstEnd = starts[1]
      for index in 0..<count {
        let place = index / heads
        // The first row's partials are all neutral.
        let isOfFirstRow = layout == .listed ? place < firstEnd : place % rows == 0
        guard index % 5 < 2 || isOfFirstRow else { continue }
        logSumExps[index] = -.infinity
        for channel in index * channels..<(index + 1) * channels { outputs[channel] = .nan }
      }
    }
    let (o, lse) = (outputs.map(Double.init), logSumExps.map(Double.init))
    let expected: (o: [Double], lse: [Double])
    switch layout {
    case .listed:
      // The reference has no heads: each is a problem of its own.
      let perHead = (0..<heads).map { head in
        mergeStates(
          outputs: (0..<partialCount).flatMap { partial in
            let first = (partial * heads + head) * channels
            return o[first..<first + channels]
          }, logSumExps: (0..<partialCount).map { lse[$0 * heads + head] }, starts: starts,
          channels: channels)
      }
      expected = (
        (0..<self.rows).flatMap { row in
          perHead.flatMap { $0.o[row * channels..<(row + 1) * channels] }
        }, (0..<self.rows).flatMap { row in perHead.map { $0.lse[row] } }
      )
    case .partialMajor, .rowMajor, .separate, .inPlace:
      let merged = mergeStates(
        outputs: o, logSumExps: lse, partials: partials, rows: rows * heads, channels: channels)
      expected = (merged.o, merged.lse)
    }
    if layout == .rowMajor {
      return (
        Self.rowsFirst(outputs, partials: partials, rows: rows, width: heads * channels),
        Self.rowsFirst(logSumExps, partials: partials, rows: rows, width: heads), expected
      )
    }
    return (outputs, logSumExps, expected)
  }

  /// [rows, N, width] from [N, rows, width].
  private static func rowsFirst(
    _ values: [Float], partials: Int, rows: Int, width: Int
  ) -> [Float] {
    (0..<rows).flatMap { row in
      (0..<partials).flatMap { partial in
        let first = (partial * rows + row) * width
        return values[first..<first + width]
      }
    }
  }
}

/// Holds merges of partial results against the reference in Double.
public enum StateMergeCheck {
  /// The largest absolute error of a merged log-sum-exp.
  static let logSumExpGate = 1e-5

  /// The cases of a depth.
  public static func runs(_ depth: CheckDepth) -> [CheckRun] {
    cases(depth).map { checkCase in
      CheckRun(id: checkCase.id, pipelines: checkCase.pipelines) {
        await run(checkCase, on: $0)
      }
    }
  }

  static func cases(_ depth: CheckDepth) -> [StateMergeCheckCase] {
    let shapes: [(partials: Int, rows: Int, heads: Int, channels: Int)] =
      switch depth {
      case .quick: [(2, 33, 4, 64), (5, 7, 2, 59)]
      case .standard:
        [
          (1, 1, 1, 8), (2, 33, 4, 64), (2, 1000, 2, 128), (3, 7, 3, 100), (4, 65, 1, 1),
          (5, 7, 2, 59), (17, 31, 2, 72), (64, 5, 1, 576),
        ]
      case .full:
        [1, 2, 3, 4, 5, 8, 17, 64].flatMap { partials in
          [1, 7, 8, 12, 59, 64, 100, 128, 256, 512, 576].map { (partials, 67, 3, $0) }
        }
      }
    let types = VulkanAttention.ElementType.allCases
    return types.enumerated().flatMap { number, type in
      shapes.flatMap { shape in
        let plain = StateMergeCheckCase(
          group: "shapes", partials: shape.partials, rows: shape.rows, heads: shape.heads,
          channels: shape.channels, elementType: type, mergedElementType: type)
        func with(
          _ group: String, _ change: (inout StateMergeCheckCase) -> Void
        ) -> StateMergeCheckCase {
          var changed = plain
          changed.group = group
          change(&changed)
          return changed
        }
        var cases = [
          plain, with("layouts") { $0.layout = .rowMajor },
          with("neutral partials") { $0.hasNeutral = true },
          with("listed partials") { $0.layout = .listed },
          with("listed partials") { ($0.layout, $0.hasNeutral) = (.listed, true) },
          with("other types") { $0.mergedElementType = types[(number + 1) % types.count] },
        ]
        if shape.partials == 2 {
          cases += [
            with("two states") { $0.layout = .separate },
            with("two states") { $0.layout = .inPlace },
          ]
        }
        return cases
      }
    }
  }

  private static func run(
    _ checkCase: StateMergeCheckCase, on device: ComputeDevice
  ) async -> CheckOutcome {
    var problems: [String] = []
    var errors: [CheckError] = []
    do {
      let (outputs, logSumExps, expected) = checkCase.problem()
      let (o, lse) = try await merge(checkCase, outputs, logSumExps, on: device, &problems)
      errors = [
        CheckError(
          "o", .relativeRMS(actual: o, expected: expected.o),
          gate: AttentionGates.output(checkCase.mergedElementType), problems: &problems),
        CheckError(
          "lse", .worstAbsolute(actual: lse, expected: expected.lse), gate: logSumExpGate,
          problems: &problems),
      ]
    } catch {
      problems.append("\(error)")
    }
    return CheckOutcome(
      id: checkCase.id, group: checkCase.group, elementType: checkCase.elementType, path: "merge",
      verdict: problems.isEmpty ? .passed : .failed(problems), errors: errors)
  }

  /// The merged output and log-sum-exp as a device makes them.
  private static func merge(
    _ checkCase: StateMergeCheckCase, _ outputs: [Float], _ logSumExps: [Float],
    on device: ComputeDevice, _ problems: inout [String]
  ) async throws -> (o: [Double], lse: [Double]) {
    let kernel = try StateMergeKernel(try checkCase.request(), on: device)
    let request = kernel.request
    func state(
      _ outputs: [Float], _ logSumExps: [Float]
    ) async throws -> VulkanAttention.AttentionState {
      VulkanAttention.AttentionState(
        output: try await device.makeBuffer(
          memory(outputs, checkCase.elementType), label: "partial outputs"),
        logSumExp: try await device.makeBuffer(logSumExps, label: "partial log-sum-exps"))
    }
    let output = try await PoisonedMemory(
      byteCount: request.outputByteCount, label: "output", on: device)
    let logSumExp = try await PoisonedMemory(
      byteCount: request.logSumExpByteCount, label: "logSumExp", on: device)
    var buffers: StateMergeBuffers
    switch checkCase.layout {
    case .separate, .inPlace:
      let (half, rows) = (outputs.count / 2, logSumExps.count / 2)
      buffers = StateMergeBuffers(
        try await state(Array(outputs[..<half]), Array(logSumExps[..<rows])),
        try await state(Array(outputs[half...]), Array(logSumExps[rows...])),
        output: output.buffer, logSumExp: logSumExp.buffer)
    case .partialMajor, .rowMajor, .listed:
      buffers = StateMergeBuffers(
        try await state(outputs, logSumExps), output: output.buffer, logSumExp: logSumExp.buffer)
    }
    if checkCase.layout == .listed {
      buffers.partialStarts = try await device.makeBuffer(
        checkCase.starts.map { Int32($0) }, label: "starts")
    }
    if checkCase.layout == .inPlace, case .separate(let first, _) = buffers.partials {
      buffers.output = first.output
      buffers.logSumExp = first.logSumExp
    }
    let recorder = try device.makeRecorder()
    try kernel.record(buffers, into: recorder)
    try await device.submit(recorder).completed()
    var o = try await output.read(problems: &problems)
    var lse = try await logSumExp.read(problems: &problems)
    if checkCase.layout == .inPlace, case .separate(let first, _) = buffers.partials {
      o = try await device.download(UInt8.self, from: first.output)
      lse = try await device.download(UInt8.self, from: first.logSumExp)
    }
    return (numbers(o, checkCase.mergedElementType), numbers(lse))
  }
}
