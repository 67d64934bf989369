import AttentionReference
import CaseFiles
import VulkanAttention

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

  /// The options that the kernels have; a case with any other is unsupported.
  static let supportedOptions: Set<AttentionCase.Option> = [.causal]

  /// Why no kernel of this build runs a case, or nil where one may.
  static func unsupported(_ attentionCase: AttentionCase) -> String? {
    let missing = attentionCase.optionsInUse.filter { !supportedOptions.contains($0) }
    if !missing.isEmpty {
      return "no kernel has \(missing.map(\.rawValue).joined(separator: ", "))"
    }
    if Self.elementType(attentionCase) == nil {
      return "no kernel takes \(attentionCase.q.element.rawValue)"
    }
    return nil
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
    if let reason = Self.unsupported(attentionCase) { return ended(.unsupported(reason)) }
    let request: AttentionRequest
    do throws(AttentionError) {
      request = try Self.request(attentionCase)
    } catch {
      return ended(.unsupported("\(error)"))
    }
    do {
      let plan = try choice.plan(request, device: device.capabilities)
      try plan.checkMemory(of: device.capabilities)
      let inputs = AttentionInputs(
        query: attentionCase.q.floats(), key: attentionCase.k.floats(),
        value: attentionCase.v.floats())
      let tensors = try await AttentionTensors(inputs, for: plan, on: device)
      try await AttentionKernel(plan, on: device).run(tensors.buffers)
      return compare(
        try await tensors.read(), with: attentionCase, path: choice.name(of: plan))
    } catch let error as AttentionError {
      if case .pathUnavailable(_, let reason) = error { return ended(.skipped(reason)) }
      return ended(.failed("\(error)"))
    } catch {
      return ended(.failed("\(error)"))
    }
  }

  private static func elementType(_ attentionCase: AttentionCase) -> VulkanAttention.ElementType? {
    switch attentionCase.q.element {
    case .f32: .f32
    case .f16: .f16
    case .bf16: .bf16
    case .i32, .u8: nil
    }
  }

  private static func request(
    _ attentionCase: AttentionCase
  ) throws(AttentionError) -> AttentionRequest {
    try AttentionRequest(
      batchSize: attentionCase.batch, queryTokens: attentionCase.queryTokens,
      keyTokens: attentionCase.keyTokens, queryHeads: attentionCase.queryHeads,
      keyHeads: attentionCase.keyHeads, headSize: attentionCase.keyChannels,
      valueHeadSize: attentionCase.valueChannels,
      elementType: elementType(attentionCase) ?? .f32,
      scale: attentionCase.parameters.scale.map { Float($0) },
      mask: attentionCase.parameters.causal ? .causal : .none,
      returnsLogSumExp: attentionCase.expectedLSE != nil)
  }

  private func compare(
    _ result: AttentionReadback, with attentionCase: AttentionCase, path: String
  ) -> ReplayOutcome {
    var outputs: [ReplayOutcome.Output] = []
    var problems = result.strayWrites
    func compare(_ name: String, _ measure: ErrorMeasure, tolerance: Double) {
      outputs.append(
        ReplayOutcome.Output(name: name, error: measure.error, tolerance: tolerance))
      guard !measure.isWithin(tolerance) else { return }
      var problem =
        "\(name): error \(Numbers.scientific(measure.error)) above "
        + Numbers.scientific(tolerance)
      if let index = measure.worstIndex, let actual = measure.worstActual,
        let expected = measure.worstExpected
      {
        problem +=
          "; worst at element \(index): \(Numbers.plain(Float(actual))), "
          + "expected \(Numbers.plain(Float(expected)))"
      }
      problems.append(problem)
    }
    if let expected = attentionCase.expectedO {
      compare(
        "o", .relativeRMS(actual: result.output, expected: expected.doubles()),
        tolerance: attentionCase.oTolerance)
    }
    if let expected = attentionCase.expectedLSE {
      compare(
        "lse", .worstAbsolute(actual: result.logSumExp ?? [], expected: expected.doubles()),
        tolerance: attentionCase.lseTolerance)
    }
    return ReplayOutcome(
      name: caseName(attentionCase.file), operation: attentionCase.operation, path: path,
      outputs: outputs,
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
    return ReplayOutcome(
      name: caseName(file), operation: operation, path: "", outputs: [],
      verdict: .unsupported("no kernel has this op"))
  }
}
