import AttentionReference
import CaseFiles
import VulkanAttention
import VulkanAttentionCustom

/// Runs decode cases from files and compares with the answers they bring.
public struct DecodeReplay: Sendable {
  private let device: ComputeDevice

  /// Runs cases on a device.
  public init(on device: ComputeDevice) {
    self.device = device
  }

  /// Runs a case of op `decode` or `paged_decode` on a path.
  public func run(
    _ decodeCase: DecodeCase, _ choice: AttentionPathChoice
  ) async -> ReplayOutcome {
    let attention = decodeCase.attention
    return await run(
      decodeCase.file, decodeCase.operation, choice, attention.parameters,
      mode: { decodeCase.mode(of: $0) },
      channels: attention.valueChannels, expectedO: attention.expectedO,
      expectedLSE: attention.expectedLSE,
      tolerances: (attention.oTolerance, attention.lseTolerance)
    ) { () throws(AttentionError) in try decodeCase.problem() }
  }

  /// Runs a case of op `mla_decode` on a path.
  public func run(
    _ decodeCase: LatentDecodeCase, _ choice: AttentionPathChoice
  ) async -> ReplayOutcome {
    await run(
      decodeCase.file, decodeCase.operation, choice, nil, mode: { _ in nil },
      channels: decodeCase.latentChannels, expectedO: decodeCase.expectedO,
      expectedLSE: decodeCase.expectedLSE,
      tolerances: (decodeCase.oTolerance, decodeCase.lseTolerance)
    ) { () throws(AttentionError) in try decodeCase.problem() }
  }

  private func run(
    _ file: String, _ operation: String, _ choice: AttentionPathChoice,
    _ parameters: AttentionParameters?,
    mode: (DecodePlan) -> LeanSchedule.Mode?, channels: Int, expectedO: CaseTensor?,
    expectedLSE: CaseTensor?, tolerances: (o: Double, lse: Double),
    problem: () throws(AttentionError) -> DecodeProblem
  ) async -> ReplayOutcome {
    var path = choice.description
    func ended(_ verdict: ReplayOutcome.Verdict) -> ReplayOutcome {
      ReplayOutcome(
        name: caseName(file), operation: operation, path: path, outputs: [], verdict: verdict)
    }
    let made: DecodeProblem
    do throws(AttentionError) {
      made = try problem()
    } catch {
      return ended(.unsupported("\(error)"))
    }
    do {
      let device = device
      var plan = try DecodePlan(
        made.request, device: device.capabilities, path: choice.path, tile: choice.tile)
      if let mode = mode(plan) {
        plan = try DecodePlan(
          made.request, device: device.capabilities, path: choice.path, tile: choice.tile,
          mode: mode)
      }
      var problems: [String] = []
      let result: (output: [Float], logSumExp: [Float])
      if let custom = try parameters?.modifications() {
        let kernel = try await CustomDecode(
          made.request, score: custom.score, mask: custom.mask, on: device, path: choice.path,
          tile: choice.tile, mode: plan.mode)
        plan = kernel.plan
        result = try await made.run(kernel, on: device, problems: &problems)
      } else {
        result = try await made.run(
          DecodeKernel(plan, on: device), on: device, problems: &problems)
      }
      path = choice.tile == .tuned ? plan.path.rawValue : choice.description
      var comparison = ReplayComparison(problems: problems)
      comparison.compare(
        o: result.output, lse: result.logSumExp, rows: 0..<result.output.count / channels,
        channels: channels, expectedO: expectedO, expectedLSE: expectedLSE, tolerances: tolerances)
      return comparison.outcome(file: file, operation: operation, path: path)
    } catch {
      return ended(.ofError(error))
    }
  }
}

extension DecodeCase {
  /// The cut that the case asks for.
  fileprivate func mode(of plan: DecodePlan) -> LeanSchedule.Mode? {
    if mode == .fixed { return .fixed(tokensPerSplit: plan.tile.keys) }
    return splits > 0
      ? .lean(groups: splits * attention.batch * attention.keyHeads * plan.rowTiles) : nil
  }

  fileprivate func problem() throws(AttentionError) -> DecodeProblem {
    let (request, inputs) = try attention.problem()
    let table: CachePageTable?
    let arrangement: CacheArrangement
    if let pages {
      let count = max(1, pages.keys.shape[0])
      arrangement = .paged(pages: count, pageSize: pages.pageSize)
      table = try CachePageTable(
        pageSize: pages.pageSize, pageCount: count, indptr: pages.indptr.map { Int32($0) },
        indices: pages.indices.map { Int32($0) },
        lastPageLengths: pages.lastPageLengths.map { Int32($0) })
    } else {
      arrangement = .contiguous(
        sequences: request.batchSize, capacity: max(1, request.keyTokens))
      table = nil
    }
    func cache(
      _ type: VulkanAttention.ElementType, _ channels: Int
    ) throws(AttentionError) -> CacheTensor {
      try CacheTensor(.element(type), arrangement, heads: request.keyHeads, channels: channels)
    }
    return DecodeProblem(
      try DecodeRequest(
        batchSize: request.batchSize, queryTokens: request.queryTokens,
        queryHeads: request.queryHeads, keyCache: cache(request.keyType, request.headSize),
        valueCache: cache(request.valueType, request.valueHeadSize),
        maxKeyTokens: request.keyTokens, elementType: request.elementType, scale: request.scale,
        mask: request.mask, scores: request.scores,
        operands: request.operands.filter { $0.kind != .keyLengths }, returnsLogSumExp: true),
      lengths: inputs.operands[.keyLengths].map { integers($0).map(Int.init) }
        ?? Array(repeating: request.keyTokens, count: request.batchSize),
      pages: table, query: inputs.query, key: inputs.key, value: inputs.value,
      operands: inputs.operands)
  }
}

extension LatentDecodeCase {
  fileprivate func problem() throws(AttentionError) -> DecodeProblem {
    let channels = latentChannels + rotaryChannels
    let arrangement = CacheArrangement.contiguous(sequences: batch, capacity: max(1, keyTokens))
    let request = try DecodeRequest(
      batchSize: batch, queryTokens: queryTokens, queryHeads: heads,
      keyCache: CacheTensor(
        .element(latent.kernelType), arrangement, heads: 1, channels: channels),
      valueCache: nil, valueHeadSize: latentChannels, maxKeyTokens: keyTokens,
      elementType: qLatent.kernelType, scale: scale.map { Float($0) },
      mask: causal ? .causal : .none, returnsLogSumExp: true)
    return DecodeProblem(
      request,
      lengths: kvLengths?.integers() ?? Array(repeating: keyTokens, count: batch),
      query: Self.joined(qLatent.floats(), latentChannels, qRotary.floats(), rotaryChannels),
      key: Self.joined(latent.floats(), latentChannels, rotaryKeys.floats(), rotaryChannels),
      value: nil)
  }

  /// The channels of two tensors side by side.
  private static func joined(
    _ first: [Float], _ firstChannels: Int, _ second: [Float], _ secondChannels: Int
  ) -> [Float] {
    var joined: [Float] = []
    joined.reserveCapacity(first.count + second.count)
    for row in 0..<first.count / firstChannels {
      joined += first[row * firstChannels..<(row + 1) * firstChannels]
      joined += second[row * secondChannels..<(row + 1) * secondChannels]
    }
    return joined
  }
}
