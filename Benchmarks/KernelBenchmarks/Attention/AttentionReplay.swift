import AttentionReference
import CaseFiles
import VulkanAttention
import VulkanAttentionCustom

/// What became of one case file on one path.
public struct ReplayOutcome: Sendable {
  /// One output held against its tolerance.
  public struct Output: Sendable, Hashable {
    /// The output's name in the file.
    public let name: String
    /// RMS(error)/RMS(expected) of o, the largest absolute error of lse.
    public let error: Double
    /// What it may be.
    public let tolerance: Double
    /// Whether it is; false for NaN.
    public var passes: Bool { error <= tolerance }
  }

  /// How it ended.
  public enum Verdict: Sendable, Hashable {
    /// Every output is within its tolerance.
    case passed
    /// What was wrong.
    case failed(String)
    /// The path cannot run the case here.
    case skipped(String)
    /// The case is sound, and asks for something that no kernel of this build does.
    case unsupported(String)
  }

  /// The file's name without folder and extension.
  public let name: String
  /// The operation, where it is known.
  public let operation: String
  /// The path that ran, or that was asked for where none did.
  public let path: String
  /// The outputs that were compared.
  public let outputs: [Output]
  /// How it ended.
  public let verdict: Verdict

  /// The outcome as JSON.
  public var json: JSONText {
    let (word, reason): (String, String?) =
      switch verdict {
      case .passed: ("passed", nil)
      case .failed(let reason): ("failed", reason)
      case .skipped(let reason): ("skipped", reason)
      case .unsupported(let reason): ("unsupported", reason)
      }
    return [
      "name": .string(name), "op": .string(operation), "path": .string(path),
      "result": .string(word), "reason": JSONText(reason),
      "outputs": .array(
        outputs.map { output in
          [
            "name": .string(output.name), "error": .number(output.error),
            "tolerance": .number(output.tolerance), "passed": .bool(output.passes),
          ]
        }),
    ]
  }
}

/// Runs cases from files and compares with the answers they bring.
public struct AttentionReplay: Sendable {
  private let device: ComputeDevice

  /// Runs cases on a device.
  public init(on device: ComputeDevice) {
    self.device = device
  }

  /// Runs a case on a path.
  public func run(
    _ attentionCase: AttentionCase, _ choice: AttentionPathChoice
  ) async -> ReplayOutcome {
    func ended(_ verdict: ReplayOutcome.Verdict, path: String? = nil) -> ReplayOutcome {
      ReplayOutcome(
        name: caseName(attentionCase.file), operation: attentionCase.operation,
        path: path ?? choice.description, outputs: [], verdict: verdict)
    }
    let request: AttentionRequest
    let inputs: AttentionInputs
    do throws(AttentionError) {
      (request, inputs) = try attentionCase.problem()
    } catch {
      return ended(.unsupported("\(error)"))
    }
    do {
      let plan: AttentionPlan
      let tensors: AttentionTensors
      if let custom = try attentionCase.parameters.modifications() {
        let kernel = try await CustomAttention(
          request, score: custom.score, mask: custom.mask, on: device, path: choice.path,
          tile: choice.tile)
        plan = kernel.plan
        try plan.checkMemory(of: device.capabilities)
        tensors = try await AttentionTensors(inputs, for: plan, on: device)
        try await kernel.run(tensors.buffers)
      } else {
        plan = try choice.plan(request, device: device.capabilities)
        try plan.checkMemory(of: device.capabilities)
        tensors = try await AttentionTensors(inputs, for: plan, on: device)
        try await AttentionKernel(plan, on: device).run(tensors.buffers)
      }
      return compare(
        try await tensors.read(), with: attentionCase, path: choice.name(of: plan))
    } catch {
      return ended(.ofError(error))
    }
  }

  private func compare(
    _ result: AttentionReadback, with attentionCase: AttentionCase, path: String
  ) -> ReplayOutcome {
    // Packed rows outside of every sequence are not written.
    let heads = attentionCase.queryHeads
    let starts = attentionCase.cuSeqlensQ?.integers()
    let rows =
      (starts?.first ?? 0)
      * heads..<(starts?.last ?? attentionCase.batch * attentionCase.queryTokens) * heads
    var comparison = ReplayComparison(problems: result.strayWrites)
    comparison.compare(
      o: result.output, lse: result.logSumExp ?? [], rows: rows,
      channels: attentionCase.valueChannels,
      expectedO: attentionCase.expectedO, expectedLSE: attentionCase.expectedLSE,
      tolerances: (attentionCase.oTolerance, attentionCase.lseTolerance))
    return comparison.outcome(
      file: attentionCase.file, operation: attentionCase.operation, path: path)
  }
}

/// The outputs of a case held against the file's.
struct ReplayComparison {
  private(set) var outputs: [ReplayOutcome.Output] = []
  var problems: [String]

  /// Compares what the case brings of o and lse.
  mutating func compare(
    o: [Float], lse: [Float], rows: Range<Int>, channels: Int, expectedO: CaseTensor?,
    expectedLSE: CaseTensor?, tolerances: (o: Double, lse: Double)
  ) {
    if let expectedO {
      let elements = rows.lowerBound * channels..<rows.upperBound * channels
      add(
        "o",
        .relativeRMS(
          actual: Array(o[elements]), expected: Array(expectedO.doubles()[elements])),
        tolerance: tolerances.o)
    }
    if let expectedLSE {
      add(
        "lse",
        .worstAbsolute(actual: Array(lse[rows]), expected: Array(expectedLSE.doubles()[rows])),
        tolerance: tolerances.lse)
    }
  }

  private mutating func add(_ name: String, _ measure: ErrorMeasure, tolerance: Double) {
    outputs.append(ReplayOutcome.Output(name: name, error: measure.error, tolerance: tolerance))
    _ = CheckError(name, measure, gate: tolerance, problems: &problems)
  }

  func outcome(file: String, operation: String, path: String) -> ReplayOutcome {
    ReplayOutcome(
      name: caseName(file), operation: operation, path: path, outputs: outputs,
      verdict: problems.isEmpty ? .passed : .failed(problems.joined(separator: "; ")))
  }
}

/// A file's name without its folder and extension.
public func caseName(_ path: String) -> String {
  let file = path.split(separator: "/").last.map(String.init) ?? path
  let suffix = ".safetensors"
  return file.hasSuffix(suffix) ? String(file.dropLast(suffix.count)) : file
}

extension ReplayOutcome {
  /// The outcome of a file whose operation this build has no kernel for.
  public static func unsupported(_ file: String, _ error: CaseFileError) -> ReplayOutcome {
    var operation = ""
    if case .unsupportedOperation(let name) = error.problem { operation = name }
    return unsupported(file, operation: operation)
  }

  /// The outcome of a sound file whose operation this build has no kernel for.
  public static func unsupported(_ file: String, operation: String) -> ReplayOutcome {
    ReplayOutcome(
      name: caseName(file), operation: operation, path: "", outputs: [],
      verdict: .unsupported("no kernel for op \(operation)"))
  }
}
