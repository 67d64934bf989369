import AttentionReference
import VulkanAttention
import VulkanAttentionCustom

/// Holds modifications against the reference in Double of the options that they say again.
public enum CustomCheck {
  /// The cases of a grid on the paths that are chosen, tiled attention first.
  public static func runs(_ depth: CheckDepth, _ choices: [AttentionPathChoice]) -> [CheckRun] {
    choices.flatMap { choice in
      (attentions(depth).map { Case.attention($0, choice) }
        + decodes(depth, choice.path).map { Case.decode($0, choice) }).map { checkCase in
          CheckRun(id: "\(choice) \(checkCase.id)", pipelines: checkCase.id) { device in
            await checkCase.run(on: device)
          }
        }
    }
  }

  private static func attentions(_ depth: CheckDepth) -> [AttentionCheckCase] {
    let options: [AttentionCheckOption] =
      depth == .quick ? [.alibi, .window, .headGates] : CustomEquivalent.options
    let types: [VulkanAttention.ElementType] = depth == .quick ? [.f16] : [.f32, .f16]
    var shapes = [
      AttentionShape(
        batchSize: 2, queryTokens: 37, keyTokens: 67, queryHeads: 4, keyHeads: 2, headSize: 64)
    ]
    if depth == .full {
      // More queries than keys: some rows see none.
      shapes += [
        AttentionShape(
          batchSize: 1, queryTokens: 129, keyTokens: 70, queryHeads: 3, headSize: 40,
          valueHeadSize: 24),
        AttentionShape(queryTokens: 65, queryHeads: 2, headSize: 128),
      ]
    }
    let all = depth == .full ? types + [.bf16] : types
    return options.flatMap { option in
      shapes.flatMap { shape in
        all.map { AttentionCheckCase("custom", shape, $0, option: option) }
      }
    }
  }

  private static func decodes(_ depth: CheckDepth, _ path: AttentionPath?) -> [DecodeCheckCase] {
    let options: [AttentionCheckOption] =
      depth == .quick ? [.alibi] : [.alibi, .softcap, .window, .sinkTokens, .mask]
    let kinds: [CacheArrangement.Kind] =
      depth == .full ? [.contiguous, .paged, .ring] : [.contiguous, .paged]
    return options.flatMap { option in
      kinds.map { kind in
        var checkCase = DecodeCheckCase(group: "custom decode", lengths: [83, 1, 200])
        checkCase.queryTokens = 2
        checkCase.kind = kind
        checkCase.blockTokens = kind == .paged ? 16 : kind == .ring ? 256 : 0
        checkCase.option = option
        if path != .matrix {
          checkCase.elementType = .f32
          checkCase.keyFormat = .f32
          checkCase.valueFormat = .f32
        }
        return checkCase
      }
    }
  }

  /// One problem on one path.
  private enum Case: Sendable {
    case attention(AttentionCheckCase, AttentionPathChoice)
    case decode(DecodeCheckCase, AttentionPathChoice)

    var id: String {
      switch self {
      case .attention(let checkCase, _): "custom/\(checkCase.id)"
      case .decode(let checkCase, _): "custom/\(checkCase.id)"
      }
    }

    func run(on device: ComputeDevice) async -> CheckOutcome {
      var ran: String
      switch self {
      case .attention(_, let choice), .decode(_, let choice): ran = choice.description
      }
      do {
        switch self {
        case .attention(let checkCase, let choice):
          return outcome(
            checkCase.elementType, checkCase.group,
            try await CustomCheck.run(checkCase, choice, on: device, ran: &ran), ran)
        case .decode(let checkCase, let choice):
          return outcome(
            checkCase.elementType, checkCase.group,
            try await CustomCheck.run(checkCase, choice, on: device, ran: &ran), ran)
        }
      } catch CustomAttentionError.attention(.pathUnavailable(_, let reason)) {
        return ended(.skipped(reason), ran)
      } catch CustomAttentionError.compilerTooOld(let extensions, let library) {
        return ended(.skipped("\(library) lacks \(extensions.joined(separator: ", "))"), ran)
      } catch {
        return ended(.failed(["\(error)"]), ran)
      }
    }

    private func ended(_ verdict: CheckOutcome.Verdict, _ path: String) -> CheckOutcome {
      switch self {
      case .attention(let checkCase, _):
        CheckOutcome(
          id: id, group: checkCase.group, elementType: checkCase.elementType, path: path,
          verdict: verdict)
      case .decode(let checkCase, _):
        CheckOutcome(
          id: id, group: checkCase.group, elementType: checkCase.elementType, path: path,
          verdict: verdict)
      }
    }

    private func outcome(
      _ type: VulkanAttention.ElementType, _ group: String,
      _ result: (errors: [CheckError], problems: [String]), _ path: String
    ) -> CheckOutcome {
      CheckOutcome(
        id: id, group: group, elementType: type, path: path,
        verdict: result.problems.isEmpty ? .passed : .failed(result.problems),
        errors: result.errors)
    }
  }

  /// A case that no modification says.
  private struct Inexpressible: Error, CustomStringConvertible {
    let description: String
  }

  private static func equivalent(
    _ option: AttentionCheckOption?, _ request: AttentionRequest
  ) throws -> CustomEquivalent {
    guard let option, let equivalent = try CustomEquivalent(option, request) else {
      throw Inexpressible(description: "no modification says \(option?.rawValue ?? "nothing")")
    }
    return equivalent
  }

  private static func run(
    _ checkCase: AttentionCheckCase, _ choice: AttentionPathChoice, on device: ComputeDevice,
    ran: inout String
  ) async throws -> (errors: [CheckError], problems: [String]) {
    let request = try checkCase.request()
    let inputs = checkCase.inputs(for: request)
    let equivalent = try equivalent(checkCase.option, request)
    let plain = AttentionCheckCase(
      checkCase.group, checkCase.shape, checkCase.elementType, isCausal: equivalent.isCausal)
    let kernel = try await CustomAttention(
      try plain.request(), score: equivalent.score, mask: equivalent.mask,
      output: equivalent.output, on: device, path: choice.path, tile: choice.tile,
      isChecked: true)
    ran = choice.name(of: kernel.plan)
    let tensors = try await AttentionTensors(
      AttentionInputs(query: inputs.query, key: inputs.key, value: inputs.value),
      for: kernel.plan, on: device)
    try await kernel.run(
      tensors.buffers, userBuffers: equivalent.upload(inputs.operands, to: device),
      scalars: equivalent.scalars)
    let result = try await tensors.read()
    let expected = AttentionReference.attention(
      q: inputs.query.map(Double.init), k: inputs.key.map(Double.init),
      v: inputs.value.map(Double.init), dimensions: request.dimensions,
      options: request.referenceOptions(inputs.operands), rows: nil)
    var problems = result.strayWrites
    return (
      errors(
        result.output, equivalent.keepsLogSumExp ? result.logSumExp : nil, expected,
        checkCase.elementType, &problems), problems
    )
  }

  private static func run(
    _ checkCase: DecodeCheckCase, _ choice: AttentionPathChoice, on device: ComputeDevice,
    ran: inout String
  ) async throws -> (errors: [CheckError], problems: [String]) {
    let problem = try checkCase.problem()
    let equivalent = try equivalent(checkCase.option, problem.request.attention)
    var plainCase = checkCase
    plainCase.option = nil
    plainCase.isCausal = equivalent.isCausal
    plainCase.seed = checkCase.id
    let plain = try plainCase.problem()
    let kernel = try await CustomDecode(
      plain.request, score: equivalent.score, mask: equivalent.mask, on: device,
      path: choice.path, tile: choice.tile, isChecked: true)
    if choice.path == nil { ran = kernel.plan.path.rawValue }
    var problems: [String] = []
    let result = try await plain.run(
      kernel, userBuffers: equivalent.upload(problem.operands, to: device),
      scalars: equivalent.scalars, on: device, problems: &problems)
    return (
      errors(
        result.output, equivalent.keepsLogSumExp ? result.logSumExp : nil, problem.expected(),
        checkCase.elementType, &problems), problems
    )
  }

  private static func errors(
    _ output: [Float], _ logSumExp: [Float]?, _ expected: AttentionOutput,
    _ type: VulkanAttention.ElementType, _ problems: inout [String]
  ) -> [CheckError] {
    var errors = [
      CheckError(
        "o", .relativeRMS(actual: output, expected: expected.o), gate: AttentionGates.output(type),
        problems: &problems)
    ]
    if let logSumExp {
      errors.append(
        CheckError(
          "lse", .worstAbsolute(actual: logSumExp, expected: expected.lse),
          gate: AttentionGates.logSumExp, problems: &problems))
    }
    return errors
  }
}

extension DecodeProblem {
  /// Runs the problem once with modifications.
  ///
  /// - Returns: o [B, S, H, E] and lse [B, S, H].
  func run(
    _ kernel: CustomDecode, userBuffers: [String: DeviceBuffer] = [:],
    scalars: [String: CustomScalar.Value] = [:], on device: ComputeDevice,
    problems: inout [String]
  ) async throws -> (output: [Float], logSumExp: [Float]) {
    let schedule = try kernel.plan.schedule(lengths: lengths)
    let tensors = try await DecodeTensors(self, for: kernel.plan, schedule, on: device)
    let recorder = try device.makeRecorder()
    let step = try kernel.prepare(
      schedule, pages: pages.map { .table($0) }, operands: tensors.operands,
      rotations: tensors.rotations, userBuffers: userBuffers, scalars: scalars,
      workspace: tensors.workspace, into: recorder)
    try kernel.record(tensors.buffers, step: step, into: recorder)
    try await device.submit(recorder).completed()
    return try await tensors.read(problems: &problems)
  }
}
