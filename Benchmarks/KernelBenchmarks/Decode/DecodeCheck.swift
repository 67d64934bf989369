import AttentionReference
import VulkanAttention

/// One decode step of the check.
public struct DecodeCheckCase: Sendable, Hashable {
  var group: String
  /// [B]: keys of each sequence.
  var lengths: [Int]
  var queryTokens = 1
  var queryHeads = 8
  var keyHeads = 2
  var headSize = 64
  /// Nil where values are keys: the first ``valueHeadSize`` channels.
  var valueFormat: CacheFormat? = .f16
  var valueHeadSize = 64
  var keyFormat = CacheFormat.f16
  var elementType = VulkanAttention.ElementType.f16
  var kind = CacheArrangement.Kind.contiguous
  var order = CacheArrangement.Order.nhd
  /// Keys of a page, or places of a ring.
  var blockTokens = 0
  var option: AttentionCheckOption?
  var isCausal = true
  var rotation: DecodeRequest.KeyRotation?
  /// A gap behind each row of the cache, in channels.
  var padding = 0
  /// Keys of a split of the fixed mode, in tiles; 0 for the lean mode.
  var fixedTiles = 0
  /// Groups of the lean mode; 0 for the plan's choice.
  var groups = 0
  /// The name that the data belongs to; nil for the case's own.
  var seed: String?

  /// The case's name, by which it is reported and can be run alone.
  public var id: String {
    var id =
      "decode/\(elementType.rawValue)/B\(lengths.count)-S\(queryTokens)-H\(queryHeads)-G\(keyHeads)"
    id += "-D\(headSize)-E\(valueHeadSize)-T\(lengths.max() ?? 0)"
    if Set(lengths).count > 1 { id += "-ragged" }
    if lengths.contains(0) { id += "-empty" }
    switch kind {
    case .contiguous: break
    case .ring: id += "-ring\(blockTokens)"
    case .paged: id += "-page\(blockTokens)"
    }
    if order == .hnd { id += "-hnd" }
    id += "-\(keyFormat)"
    if valueFormat != keyFormat { id += "-\(valueFormat.map { "\($0)" } ?? "values-are-keys")" }
    if !isCausal { id += "-all" }
    if let option { id += "-\(option.rawValue)" }
    if let rotation { id += "-rotated-\(rotation.pairing.rawValue)\(rotation.channels)" }
    if padding > 0 { id += "-padded" }
    if fixedTiles > 0 { id += "-fixed\(fixedTiles)" }
    if groups > 0 { id += "-groups\(groups)" }
    return id
  }

  /// What the case's pipelines depend on, in short: cases with the same text had better run one after the other.
  var pipelines: String {
    var own = self
    own.lengths = []
    own.groups = 0
    own.fixedTiles = 0
    return own.id
  }

  /// Pages in an order of their own, with some that belong to no one.
  private func pages() throws(AttentionError) -> CachePageTable? {
    guard kind == .paged else { return nil }
    var generator = SplitMix64(seed: "\(seed ?? id) pages")
    let counts = lengths.map { ($0 + blockTokens - 1) / blockTokens }
    let order = (0..<Int32(pageCount)).shuffled(using: &generator)
    return try CachePageTable(
      pageSize: blockTokens, pageCount: pageCount,
      indptr: counts.reduce(into: [0]) { $0.append(($0.last ?? 0) + Int32($1)) },
      indices: order,
      lastPageLengths: zip(lengths, counts).map { length, count in
        Int32(count == 0 ? 0 : length - (count - 1) * blockTokens)
      })
  }

  private var pageCount: Int {
    lengths.reduce(3) { $0 + ($1 + blockTokens - 1) / blockTokens }
  }

  /// The problem with its data.
  func problem() throws(AttentionError) -> DecodeProblem {
    let keyTokens = max(1, lengths.max() ?? 0)
    let arrangement: CacheArrangement =
      switch kind {
      case .contiguous: .contiguous(sequences: lengths.count, capacity: keyTokens + 3, order: order)
      case .ring: .ring(sequences: lengths.count, capacity: blockTokens, order: order)
      case .paged: .paged(pages: pageCount, pageSize: blockTokens, order: order)
      }
    func cache(_ format: CacheFormat, _ channels: Int) throws(AttentionError) -> CacheTensor {
      var strides: TensorStrides?
      if padding > 0 {
        let tokens = arrangement.blockTokens
        strides =
          order == .nhd
          ? .tokenMajor(tokens: tokens, heads: keyHeads, channels: channels + padding)
          : .headMajor(tokens: tokens, heads: keyHeads, channels: channels + padding)
      }
      return try CacheTensor(
        format, arrangement, heads: keyHeads, channels: channels, strides: strides)
    }
    let shape = AttentionShape(
      batchSize: lengths.count, queryTokens: queryTokens, keyTokens: keyTokens,
      queryHeads: queryHeads, keyHeads: keyHeads, headSize: headSize, valueHeadSize: valueHeadSize)
    let parts = option?.parts(shape)
    let request = try DecodeRequest(
      batchSize: lengths.count, queryTokens: queryTokens, queryHeads: queryHeads,
      keyCache: cache(keyFormat, headSize),
      valueCache: valueFormat.map { (format) throws(AttentionError) in
        try cache(format, valueHeadSize)
      }, valueHeadSize: valueHeadSize, maxKeyTokens: keyTokens, elementType: elementType,
      mask: parts?.mask ?? (isCausal ? .causal : .none),
      scores: parts?.scores ?? AttentionScores(), operands: parts?.operands ?? [],
      returnsLogSumExp: true, keyRotation: rotation)
    return DecodeProblem(request, lengths: lengths, pages: try pages(), seed: seed ?? id)
  }
}

/// Holds decode kernels against the reference in Double.
public enum DecodeCheck {
  /// The cases of a grid on a path.
  public static func runs(_ depth: CheckDepth, _ choice: AttentionPathChoice) -> [CheckRun] {
    DecodeCheckGrid.cases(depth, choice.path).map { checkCase in
      CheckRun(
        id: "\(choice) \(checkCase.id)", pipelines: "\(choice) \(checkCase.pipelines)"
      ) { device in
        await run(checkCase, choice, on: device)
      }
    }
  }

  static func run(
    _ checkCase: DecodeCheckCase, _ choice: AttentionPathChoice, on device: ComputeDevice
  ) async -> CheckOutcome {
    var ran = choice.description
    func ended(_ verdict: CheckOutcome.Verdict, _ errors: [CheckError] = []) -> CheckOutcome {
      CheckOutcome(
        id: checkCase.id, group: checkCase.group, elementType: checkCase.elementType, path: ran,
        verdict: verdict, errors: errors)
    }
    do {
      let problem = try checkCase.problem()
      var plan = try DecodePlan(
        problem.request, device: device.capabilities, path: choice.path, tile: choice.tile)
      if checkCase.fixedTiles > 0 || checkCase.groups > 0 {
        plan = try DecodePlan(
          problem.request, device: device.capabilities, path: choice.path, tile: choice.tile,
          mode: checkCase.fixedTiles > 0
            ? .fixed(tokensPerSplit: checkCase.fixedTiles * plan.tile.keys)
            : .lean(groups: checkCase.groups))
      }
      if choice.path == nil { ran = plan.path.rawValue }
      var problems: [String] = []
      let result = try await problem.run(
        DecodeKernel(plan, on: device), on: device, problems: &problems)
      let expected = problem.expected()
      let errors = [
        CheckError(
          "o", .relativeRMS(actual: result.output, expected: expected.o),
          gate: AttentionGates.output(checkCase.elementType), problems: &problems),
        CheckError(
          "lse", .worstAbsolute(actual: result.logSumExp, expected: expected.lse),
          gate: AttentionGates.logSumExp, problems: &problems),
      ]
      return ended(problems.isEmpty ? .passed : .failed(problems), errors)
    } catch AttentionError.pathUnavailable(_, let reason) {
      return ended(.skipped(reason))
    } catch {
      return ended(.failed(["\(error)"]))
    }
  }
}
