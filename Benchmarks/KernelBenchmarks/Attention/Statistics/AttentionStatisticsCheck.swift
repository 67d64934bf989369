import VulkanAttention

/// Holds the statistics of attentions against the reference in Double: all four kinds of each case at once.
public enum AttentionStatisticsCheck {
  private static let topKeys = 5

  /// The cases of a depth; the options are those of the attention that are a softmax.
  public static func runs(_ depth: CheckDepth) -> [CheckRun] {
    cases(depth).map { checkCase in
      let id = "statistics" + checkCase.id.dropFirst(AttentionWorkload.family.count)
      return CheckRun(id: id, pipelines: checkCase.pipelines) {
        await run(checkCase, id: id, on: $0)
      }
    }
  }

  static func cases(_ depth: CheckDepth) -> [AttentionCheckCase] {
    AttentionCheckGrid.cases(depth).filter { checkCase in
      guard checkCase.data == .normal, checkCase.layout == .tokenMajor || depth != .quick else {
        return false
      }
      switch checkCase.option {
      case .reluMean, .reluSum, .sigmoid: return false
      default: return true
      }
    }
  }

  private static func run(
    _ checkCase: AttentionCheckCase, id: String, on device: ComputeDevice
  ) async -> CheckOutcome {
    var problems: [String] = []
    var errors: [CheckError] = []
    do {
      let request = try request(checkCase)
      let attention = request.attention
      let inputs = checkCase.inputs(for: attention)
      // The path whose log-sum-exp is f32 throughout, on every device.
      let kernel = try AttentionKernel(attention, on: device, path: .row)
      let tensors = try await AttentionTensors(inputs, for: kernel.plan, on: device)
      try await kernel.run(tensors.buffers)
      let statistics = try AttentionStatisticsKernel(request, on: device)
      let list = list(attention)
      let results = try await AttentionStatisticsTensors(
        statistics.plan, of: tensors.buffers, rows: list, on: device)
      try await statistics.run(results.buffers)
      errors = AttentionStatisticsComparison(request, inputs, list: list)
        .compare(try await results.read(), problems: &problems)
    } catch {
      problems.append("\(error)")
    }
    return CheckOutcome(
      id: id, group: checkCase.group, elementType: checkCase.elementType, path: "statistics",
      verdict: problems.isEmpty ? .passed : .failed(problems), errors: errors)
  }

  static func request(_ checkCase: AttentionCheckCase) throws(AttentionError)
    -> AttentionStatisticsRequest
  {
    let attention = try checkCase.request()
    // Of some cases the last rows alone.
    let lastRows = checkCase.isCausal ? max(1, attention.queryTokens / 3) : nil
    return try AttentionStatisticsRequest(
      attention,
      statistics: [
        .keySums(lastRows: lastRows), .entropy, .probabilities(rowCount: list(attention).count),
        .topKeys(topKeys),
      ])
  }

  /// The first row, the last and one between, and rows that there are not.
  static func list(_ attention: AttentionRequest) -> [Int32] {
    let last = Int32(attention.queryTokens - 1)
    return [last, 0, last / 2, -7, 1 << 30]
  }
}
