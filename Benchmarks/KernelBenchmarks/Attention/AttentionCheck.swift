import AttentionReference
import VulkanAttention

/// Holds kernels against the reference in Double.
public enum AttentionCheck {
  /// The cases on the paths that can run them, and what cannot run.
  ///
  /// A case is one run for all of its paths, which have its reference in common. Where a path is chosen
  /// with its tuned tile and with another one, the other one leaves out the cases that only vary a case
  /// that it has.
  public static func runs(
    _ cases: [AttentionCheckCase], _ choices: [AttentionPathChoice],
    on device: DeviceCapabilities
  ) -> (runs: [CheckRun], skipped: [CheckOutcome]) {
    var runs: [CheckRun] = []
    var skipped: [[CheckOutcome]] = choices.map { _ in [] }
    for checkCase in cases {
      var paths: [Path] = []
      for (place, choice) in choices.enumerated() {
        let isFurtherTile =
          choice.tile != .tuned && choices.contains(AttentionPathChoice(choice.path))
        if checkCase.isVariation, isFurtherTile { continue }
        let choice = checkCase.choice(choice)
        let plan = Result { () throws(AttentionError) in
          try choice.plan(try checkCase.request(), device: device)
        }
        // A path that cannot run is no fault of the kernel; anything else is.
        if case .failure(.pathUnavailable(_, let reason)) = plan {
          skipped[place].append(checkCase.outcome(choice.description, .skipped(reason)))
        } else {
          paths.append(Path(place: place, choice: choice, plan: plan))
        }
      }
      guard !paths.isEmpty else { continue }
      runs.append(
        CheckRun(
          id: checkCase.id, pipelines: checkCase.pipelines, outcomeCount: paths.count
        ) { [paths] device, report in await run(checkCase, paths, on: device, report) })
    }
    return (runs, skipped.flatMap { $0 })
  }

  /// A path that a case is run on.
  private struct Path {
    /// Its place among the paths that were chosen.
    let place: Int
    let choice: AttentionPathChoice
    let plan: Result<AttentionPlan, AttentionError>
  }

  private static func run(
    _ checkCase: AttentionCheckCase, _ paths: [Path], on device: ComputeDevice,
    _ report: CheckRun.Report
  ) async {
    // The same for all paths, and made only where one of them runs.
    var shared: (inputs: AttentionInputs, comparison: AttentionComparison)?
    for path in paths {
      do {
        let plan = try path.plan.get()
        let problem: (inputs: AttentionInputs, comparison: AttentionComparison)
        if let shared {
          problem = shared
        } else {
          let inputs = checkCase.inputs(for: plan.request)
          problem = (inputs, AttentionComparison(checkCase, plan.request, inputs))
          shared = problem
        }
        report(
          path.place,
          try await run(
            problem.inputs, problem.comparison, plan, pathName: path.choice.name(of: plan),
            on: device))
      } catch {
        report(
          path.place, checkCase.outcome(path.choice.description, .failed(["\(error)"])))
      }
    }
  }

  private static func run(
    _ inputs: AttentionInputs, _ comparison: AttentionComparison, _ plan: AttentionPlan,
    pathName: String, on device: ComputeDevice
  ) async throws -> CheckOutcome {
    let tensors = try await AttentionTensors(inputs, for: plan, on: device)
    try await AttentionKernel(plan, on: device).run(tensors.buffers)
    let result = try await tensors.read()

    var problems = result.strayWrites
    let output = comparison.output(result.output, problems: &problems)
    let logSumExp = comparison.logSumExp(result.logSumExp ?? [], problems: &problems)
    comparison.checkPoisonedRows(result, problems: &problems)
    return comparison.checkCase.outcome(
      pathName, problems.isEmpty ? .passed : .failed(problems),
      errors: [
        CheckError("o", output, gate: comparison.outputGate),
        CheckError("lse", logSumExp, gate: AttentionGates.logSumExp),
      ])
  }
}

extension AttentionCheckCase {
  /// What became of the case on a path.
  fileprivate func outcome(
    _ path: String, _ verdict: CheckOutcome.Verdict, errors: [CheckError] = []
  ) -> CheckOutcome {
    CheckOutcome(
      id: id, group: group, elementType: elementType, path: path, verdict: verdict, errors: errors)
  }
}

/// The expected answer of a case and what a result is held against.
struct AttentionComparison {
  let checkCase: AttentionCheckCase
  let dimensions: AttentionDimensions
  /// Rows that see no poisoned key.
  let rows: [Int]
  let expected: AttentionOutput
  /// The gate of o by type and data.
  let outputGate: Double
  /// The error of a careful evaluation in 16 bits, for 16-bit cases.
  let lowPrecisionError: Double?

  init(
    _ checkCase: AttentionCheckCase, _ request: AttentionRequest, _ inputs: AttentionInputs
  ) {
    let dimensions = request.dimensions
    let options = request.referenceOptions(inputs.operands)
    // With n poisoned keys at the end, a causal row i sees one of them where i ≥ S − n.
    let firstPoisoned = dimensions.queryTokens - checkCase.poisonedKeys
    // Packed rows outside of every sequence would be left out; the check has none.
    let allRows = request.packedSequences.map { $0.queryTokens * request.queryHeads }
    let rows = (0..<(allRows ?? dimensions.rowCount)).filter { row in
      allRows != nil || row / dimensions.queryHeads % dimensions.queryTokens < firstPoisoned
    }
    func evaluate(_ storage: (q: StorageType, k: StorageType, v: StorageType)?) -> AttentionOutput {
      if let packed = request.packedDimensions(inputs.operands) {
        return variableLengthAttention(
          q: inputs.query.map(Double.init), k: inputs.key.map(Double.init),
          v: inputs.value.map(Double.init), dimensions: packed, options: options,
          storage: storage?.q, keyStorage: storage?.k, valueStorage: storage?.v)
      }
      guard let storage else {
        return attention(
          q: inputs.query, k: inputs.key, v: inputs.value, dimensions: dimensions,
          options: options, rows: rows)
      }
      return lowPrecisionAttention(
        q: inputs.query.map(Double.init), k: inputs.key.map(Double.init),
        v: inputs.value.map(Double.init), dimensions: dimensions, options: options,
        storage: storage.q, keyStorage: storage.k, valueStorage: storage.v, rows: rows)
    }
    expected = evaluate(nil)
    lowPrecisionError =
      checkCase.elementType == .f32
      ? nil
      : ErrorMeasure.relativeRMS(
        actual: evaluate(
          (
            request.elementType.storage, request.keyType.storage, request.valueType.storage
          )
        ).o,
        expected: expected.o
      ).error
    let largest = expected.lse.lazy.filter(\.isFinite).map(\.magnitude).max() ?? 0
    outputGate =
      AttentionGates.output(checkCase.elementType)
      + (checkCase.data == .largeScores ? AttentionGates.allowance(largestScore: largest) : 0)
    self.checkCase = checkCase
    self.dimensions = dimensions
    self.rows = rows
  }

  func output(_ actual: [Float], problems: inout [String]) -> Double {
    let width = dimensions.valueChannels
    let measure = ErrorMeasure.relativeRMS(
      actual: gather(rows, width: width, from: actual), expected: expected.o)
    if !measure.isWithin(outputGate) {
      problems.append(
        "o: error \(Numbers.scientific(measure.error)) above \(Numbers.scientific(outputGate))"
          + worst(measure, width: width))
    }
    if measure.isWithin(outputGate), let lowPrecisionError {
      let allowed = max(
        AttentionGates.lowPrecisionFactor * lowPrecisionError, AttentionGates.lowPrecisionFloor)
      if !measure.isWithin(allowed) {
        problems.append(
          "o: error \(Numbers.scientific(measure.error)) is more than "
            + "\(Numbers.fixed(AttentionGates.lowPrecisionFactor, decimals: 0)) times that of a "
            + "careful evaluation in \(checkCase.elementType.rawValue), "
            + Numbers.scientific(lowPrecisionError))
      }
    }
    return measure.error
  }

  func logSumExp(_ actual: [Float], problems: inout [String]) -> Double {
    let measure = ErrorMeasure.worstAbsolute(
      actual: gather(rows, width: 1, from: actual), expected: expected.lse)
    if !measure.isWithin(AttentionGates.logSumExp) {
      problems.append(
        "lse: error \(Numbers.scientific(measure.error)) above "
          + "\(Numbers.scientific(AttentionGates.logSumExp))" + worst(measure, width: 1))
    }
    return measure.error
  }

  /// A row that sees a NaN must be NaN: a kernel that hides it hides a fault of the model.
  func checkPoisonedRows(_ result: AttentionReadback, problems: inout [String]) {
    guard case .nanInLastKeys = checkCase.data else { return }
    let width = dimensions.valueChannels
    let compared = Set(rows)
    for row in 0..<dimensions.rowCount where !compared.contains(row) {
      let output = result.output[row * width..<(row + 1) * width]
      if let channel = output.firstIndex(where: { !$0.isNaN }) {
        problems.append(
          "o: \(place(row: row, channel: channel - row * width)) is "
            + "\(output[channel]) though the row sees a NaN key")
        return
      }
    }
  }

  private func worst(_ measure: ErrorMeasure, width: Int) -> String {
    guard let index = measure.worstIndex, let actual = measure.worstActual,
      let expected = measure.worstExpected
    else { return "" }
    let place = place(row: rows[index / width], channel: width > 1 ? index % width : nil)
    return "; worst at \(place): "
      + "\(Numbers.plain(Float(actual))), expected \(Numbers.plain(Float(expected)))"
  }

  /// An element as [batch, token, head, channel].
  private func place(row: Int, channel: Int?) -> String {
    let h = row % dimensions.queryHeads
    let i = row / dimensions.queryHeads % dimensions.queryTokens
    let b = row / dimensions.queryHeads / dimensions.queryTokens
    return "[\(b), \(i), \(h)\(channel.map { ", \($0)" } ?? "")]"
  }
}
