import AttentionReference
import CaseFiles
import VulkanAttention

/// Runs cases of linear attention from files and compares with the answers they bring.
public struct LinearAttentionReplay: Sendable {
  private let device: ComputeDevice

  /// Runs cases on a device.
  public init(on device: ComputeDevice) {
    self.device = device
  }

  /// Runs a case in a form and on a path.
  public func run(
    _ linearCase: LinearAttentionCase, _ choice: LinearAttentionChoice
  ) async -> ReplayOutcome {
    func ended(_ verdict: ReplayOutcome.Verdict) -> ReplayOutcome {
      ReplayOutcome(
        name: caseName(linearCase.file), operation: linearCase.operation,
        path: choice.description, outputs: [], verdict: verdict)
    }
    do throws(AttentionError) {
      _ = try linearCase.request()
    } catch {
      return ended(.unsupported("\(error)"))
    }
    do {
      let request = try linearCase.request()
      let hint: LinearAttentionForm? =
        switch linearCase.form {
        case .auto: nil
        case .chunk: .chunk
        case .recurrent: .recurrent
        }
      let plan = try LinearAttentionPlan(
        request, device: device.capabilities,
        form: choice.form ?? (choice.path == nil ? hint : nil), path: choice.path)
      let tensors = try await LinearAttentionTensors(linearCase.inputs(), for: plan, on: device)
      try await mapFeatures(of: linearCase, into: tensors.buffers)
      try await LinearAttentionKernel(plan, on: device).run(tensors.buffers)
      return compare(try await tensors.read(), with: linearCase, path: plan.wayName)
    } catch let error as AttentionError {
      if case .pathUnavailable(_, let reason) = error { return ended(.skipped(reason)) }
      return ended(.failed("\(error)"))
    } catch {
      return ended(.failed("\(error)"))
    }
  }

  /// Maps q and k on the device to where the attention reads them.
  private func mapFeatures(
    of linearCase: LinearAttentionCase, into buffers: LinearAttentionBuffers
  ) async throws {
    guard linearCase.feature != .none else { return }
    let attention = try linearCase.request()
    var starts: DeviceBuffer?
    if let values = linearCase.inputs[.starts]?.integers() {
      starts = try await device.makeBuffer(values.map { Int32($0) }, label: "starts")
    }
    for (tensor, output, strides) in [
      (linearCase.q, buffers.query, attention.queryStrides),
      (linearCase.k, buffers.key, attention.keyStrides),
    ] {
      let request = try FeatureMapRequest(
        batchSize: linearCase.batch, tokens: linearCase.tokens, heads: linearCase.keyHeads,
        channels: linearCase.keyChannels, map: linearCase.featureMap,
        elementType: tensor.elementType, outputType: attention.elementType,
        packedSequences: attention.packedSequences, outputStrides: strides)
      let plan = try FeatureMapPlan(request, device: device.capabilities)
      var maps = FeatureMapBuffers(
        input: try await input(tensor, for: request), output: output, sequenceStarts: starts)
      if plan.scratchByteCount > 0 {
        maps.scratch = try device.makeBuffer(byteCount: plan.scratchByteCount, label: "scratch")
      }
      let recorder = try device.makeRecorder()
      try FeatureMapKernel(plan, on: device).record(maps, into: recorder)
      try await device.submit(recorder).completed()
    }
  }

  /// A case's q or k as it is in the file, with NaN behind it.
  private func input(
    _ tensor: CaseTensor, for request: FeatureMapRequest
  ) async throws -> DeviceBuffer {
    let memory = TensorMemory(
      batch: request.batchSize, tokens: request.tokens, heads: request.heads,
      channels: request.channels, strides: request.strides, elementType: request.elementType,
      byteCount: request.inputByteCount)
    return try await device.makeBuffer(memory.encode(tensor.floats()), label: "x")
      .slice(0..<request.inputByteCount)
  }

  private func compare(
    _ result: LinearAttentionReadback, with linearCase: LinearAttentionCase, path: String
  ) -> ReplayOutcome {
    var outputs: [ReplayOutcome.Output] = []
    var problems = result.strayWrites
    func compare(_ name: String, _ actual: [Float], _ expected: [Double], tolerance: Double) {
      let measure = ErrorMeasure.relativeRMS(actual: actual, expected: expected)
      let error = CheckError(name, measure, gate: tolerance, problems: &problems)
      outputs.append(
        ReplayOutcome.Output(name: name, error: error.value, tolerance: tolerance))
    }
    if let expected = linearCase.expectedO {
      // Tokens outside of every sequence are not written.
      let starts = linearCase.inputs[.starts]?.integers()
      let row = linearCase.valueHeads * linearCase.valueChannels
      let covered =
        (starts?.first ?? 0) * row..<(starts?.last ?? linearCase.batch * linearCase.tokens) * row
      compare(
        linearCase.outputName, Array(result.output[covered]), Array(expected.doubles()[covered]),
        tolerance: linearCase.oTolerance)
    }
    if let expected = linearCase.expectedState {
      compare(
        "final_state", result.states[.finalState] ?? [], expected.doubles(),
        tolerance: linearCase.stateTolerance)
    }
    return ReplayOutcome(
      name: caseName(linearCase.file), operation: linearCase.operation, path: path,
      outputs: outputs,
      verdict: problems.isEmpty ? .passed : .failed(problems.joined(separator: "; ")))
  }
}

extension LinearAttentionCase {
  /// The feature map as the kernels know it.
  fileprivate var featureMap: AttentionFeatureMap {
    switch feature {
    case .none: .identity
    case .relu: .relu
    case .elu1: .eluPlusOne
    case .taylor2: .taylor2(.full)
    case .softmax: .softmax
    }
  }

  /// The case's tensors beside q, k and v by the request's names.
  private var operandInputs: [(LinearAttentionOperand, CaseTensor)] {
    let names: [Input: LinearAttentionOperand] = [
      .decay: .headDecay, .valueGate: .valueDecay, .beta: .beta, .eraseKeys: .eraseKeys,
      .eraseGates: .eraseGates, .writeGates: .writeGates, .lowRankA: .lowRankA,
      .lowRankB: .lowRankB, .bonus: .bonus, .initialState: .initialState,
      .sequenceIDs: .sequenceIDs, .starts: .sequenceStarts, .rate: .rate, .skip: .skip,
      .outputGate: .outputGate, .timeStepBias: .timeStepBias,
    ]
    return inputs.compactMap { input, tensor in
      if input == .gate {
        return (
          isStateSpace ? .timeStep : tensor.shape.count == 4 ? .keyDecay : .decay, tensor
        )
      }
      return names[input].map { ($0, tensor) }
    }
  }

  func request() throws(AttentionError) -> LinearAttentionRequest {
    let isMapped = feature != .none
    let sequences = inputs[.starts].map { $0.count - 1 }
    return try LinearAttentionRequest(
      batchSize: batch, tokens: tokens, keyHeads: keyHeads, valueHeads: valueHeads,
      keyHeadSize: stateRows, valueHeadSize: valueChannels,
      elementType: isMapped ? .f32 : q.elementType, valueType: v.elementType,
      outputType: v.elementType,
      scale: isStateSpace ? 1 : Float(scale ?? 1 / Double(keyChannels).squareRoot()),
      erases: rule == .delta, readsBeforeUpdate: read == .before, isCausal: causal,
      appliesSoftplus: appliesSoftplus, normalizer: normalize ? .sum(epsilon: 1e-10) : .none,
      packedSequences: sequences,
      operands: Set(operandInputs.map(\.0)).subtracting([.sequenceStarts]).union([.finalState]))
  }

  func inputs() -> LinearAttentionInputs {
    // Where the kernel of feature maps writes, there is NaN before.
    func poisoned(_ tensor: CaseTensor) -> [Float] {
      feature == .none
        ? tensor.floats()
        : [Float](repeating: .nan, count: batch * tokens * keyHeads * stateRows)
    }
    var result = LinearAttentionInputs(query: poisoned(q), key: poisoned(k), value: v.floats())
    for (operand, tensor) in operandInputs {
      result.operands[operand] =
        tensor.integers().map { .integers($0.map { Int32($0) }) } ?? .numbers(tensor.floats())
    }
    return result
  }
}

extension CaseTensor {
  /// The element type as the kernels take it.
  fileprivate var elementType: VulkanAttention.ElementType {
    switch element {
    case .f16: .f16
    case .bf16: .bf16
    default: .f32
    }
  }
}
