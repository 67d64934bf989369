import AttentionReference
import VulkanAttention
import VulkanAttentionCustom

/// An option of tiled attention beside the modification that says the same, known by its id:
/// `custom/alibi/f32/B1-S1024-T1024-H8-G8-D64-E64`.
public struct CustomWorkload: Sendable, Hashable {
  /// The option.
  public let option: AttentionCheckOption
  /// The sizes.
  public let shape: AttentionShape
  /// The type of all tensors.
  public let elementType: VulkanAttention.ElementType
  /// The keys that a query sees in a window; nil for those of the check.
  public let window: Int?
  /// The documents, of one length, whose tokens see each other alone; nil for segments of the check.
  public let documents: Int?

  /// A workload by its parts.
  public init(
    _ option: AttentionCheckOption, _ shape: AttentionShape,
    _ elementType: VulkanAttention.ElementType, window: Int? = nil, documents: Int? = nil
  ) {
    self.option = option
    self.window = window
    self.documents = documents
    self.shape = shape
    self.elementType = elementType
  }

  /// The workload's name.
  public var id: String {
    let name =
      documents.map { "documents\($0)" } ?? option.rawValue + (window.map { "\($0)" } ?? "")
    return "custom/\(name)/\(elementType.rawValue)/\(shape)"
  }

  /// The options that modifications can say.
  public static let options = CustomEquivalent.options

  /// What is timed where nothing else is asked.
  public static let standard: [CustomWorkload] = workloads(
    [.alibi, .softcap, .relativeBias, .topLeft, .window, .segments, .bias],
    [AttentionShape(queryTokens: 2048, queryHeads: 8, headSize: 64)])

  /// A few of them.
  public static let quick: [CustomWorkload] = workloads(
    [.alibi], [AttentionShape(queryTokens: 512, queryHeads: 8, headSize: 64)])

  /// Workloads of some shapes.
  public static func workloads(
    _ options: [AttentionCheckOption], _ shapes: [AttentionShape]
  ) -> [CustomWorkload] {
    options.flatMap { option in
      shapes.flatMap { shape in
        [VulkanAttention.ElementType.f32, .f16].map {
          // 16 documents hide 94 % of all pairs.
          CustomWorkload(
            option, shape, $0, window: option == .window ? 256 : nil,
            documents: option == .segments ? 16 : nil)
        }
      }
    }
  }
}

/// How a modification stands to the option that says the same, from interleaved runs.
public struct CustomComparison: Sendable {
  /// The workload's id.
  public let id: String
  /// The path that ran.
  public let path: String
  /// Multiplications and additions of the problem.
  public let operations: Double
  /// Seconds of the library's own option.
  public let builtIn: SampleStatistics
  /// Seconds of the modification.
  public let custom: SampleStatistics
  /// The modification's time over the option's, over the pairs of runs.
  public let ratio: SampleStatistics
  /// Seconds of the map of a mask's blocks, which is computed once and not counted; nil without a mask.
  public let blockMap: Double?
  /// Seconds of the modification without the map, every key asked of the mask; nil without a mask.
  public let withoutMap: SampleStatistics?
  /// RMS(error)/RMS(reference) of o, of the option and of the modification.
  public let errors: (builtIn: Double, custom: Double)
  /// Seconds from the GLSL to the SPIR-V: by the compiler, and from a file that an earlier run left.
  public let compilation: (first: Double, disk: Double)

  /// The modification beside the option, and beside itself without a block map, as peers of it: above 1, the
  /// modification is faster.
  public func peers(_ platform: String) -> [PeerComparison] {
    func beside(_ peer: String, _ times: SampleStatistics) -> PeerComparison {
      PeerComparison(
        id: id, path: path, peer: peer, platform: platform,
        ours: operations / custom.median * 1e-9, theirs: operations / times.median * 1e-9)
    }
    return [beside("built-in option", builtIn)]
      + (withoutMap.map { [beside("without its block map", $0)] } ?? [])
  }

  /// The columns of ``row``.
  public static let columns: [(title: String, alignment: TextTable.Alignment)] = [
    ("workload", .left), ("path", .left), ("built-in", .right), ("snippet", .right),
    ("ratio", .right), ("p10…p90", .right), ("block map", .right), ("without it", .right),
    ("errors", .left), ("compiled", .right), ("from disk", .right),
  ]

  /// The comparison as a row of a table.
  public var row: [String] {
    [
      id, path, Numbers.seconds(builtIn.median), Numbers.seconds(custom.median),
      Numbers.fixed(ratio.median),
      "\(Numbers.fixed(ratio.p10))…\(Numbers.fixed(ratio.p90))",
      blockMap.map { Numbers.seconds($0) } ?? "",
      withoutMap.map { "\(Numbers.fixed($0.median / custom.median)) ×" } ?? "",
      "\(Numbers.scientific(errors.builtIn)), \(Numbers.scientific(errors.custom))",
      Numbers.seconds(compilation.first), Numbers.seconds(compilation.disk),
    ]
  }

  /// The comparison as JSON, times in seconds.
  public var json: JSONText {
    [
      "id": .string(id), "path": .string(path), "pairs": .integer(ratio.count),
      "built_in_median": .number(builtIn.median), "custom_median": .number(custom.median),
      "ratio_median": .number(ratio.median), "ratio_p10": .number(ratio.p10),
      "ratio_p90": .number(ratio.p90), "built_in_error": .number(errors.builtIn),
      "custom_error": .number(errors.custom), "block_map": blockMap.map { .number($0) } ?? .null,
      "without_map_median": withoutMap.map { .number($0.median) } ?? .null,
      "compile": .number(compilation.first),
      "compile_from_disk": .number(compilation.disk),
    ]
  }
}

/// Verifies and times modifications beside the options that say the same.
public struct CustomBenchmark: Sendable {
  private let device: ComputeDevice
  private let pairs: Int
  /// Both kernels run this often before they are timed.
  private static let warmUps = 2

  /// Benchmarks on a device with a number of pairs of runs.
  public init(on device: ComputeDevice, pairs: Int = 15) {
    self.device = device
    self.pairs = pairs
  }

  /// Whether an error says that this machine cannot run a path, which is no fault of a kernel.
  public static func cannotRun(_ error: any Error) -> Bool {
    if case .skipped = ReplayOutcome.Verdict.ofError(error) { true } else { false }
  }

  /// Verifies both kernels and times them by turns.
  ///
  /// - Throws: ``BenchmarkRefusal`` for a wrong result, `AttentionError`, `CustomAttentionError`, `VulkanError`.
  public func run(
    _ workload: CustomWorkload, _ choice: AttentionPathChoice
  ) async throws -> CustomComparison {
    let ownCase = AttentionCheckCase(
      "custom", workload.shape, workload.elementType, option: workload.option)
    let request = try workload.request(ownCase.request())
    guard let equivalent = try CustomEquivalent(workload.option, request) else {
      throw BenchmarkRefusal(description: "no modification says \(workload.option.rawValue)")
    }
    let unmapped = try AttentionCheckCase(
      "custom", workload.shape, workload.elementType, isCausal: equivalent.isCausal
    ).request()
    let plain = try unmapped.withBlockMap(equivalent.mask != nil)
    let plan = try choice.plan(request, device: device.capabilities)
    try plan.checkMemory(of: device.capabilities)
    let inputs = workload.inputs(ownCase.inputs(for: request))
    let builtIn = try AttentionKernel(plan, on: device)
    // The same path, so that the two differ in nothing else.
    let custom = try await CustomAttention(
      plain, score: equivalent.score, mask: equivalent.mask, output: equivalent.output, on: device,
      path: plan.path, tile: choice.tile)
    var dense: CustomAttention?
    if let mask = equivalent.mask {
      dense = try await CustomAttention(
        unmapped, mask: mask, on: device, path: plan.path, tile: choice.tile)
    }
    let own = try await AttentionTensors(inputs, for: plan, on: device)
    let others = try await AttentionTensors(
      AttentionInputs(
        query: inputs.query, key: inputs.key, value: inputs.value, operands: plain.unknownBlocks),
      for: custom.plan, on: device)
    let buffers = try await equivalent.upload(inputs.operands, to: device)
    let mapSeconds = try await computeMap(equivalent, plain, others, buffers)

    let verifier = AttentionBenchmark(on: device, tuning: .none)
    try await builtIn.run(own.buffers)
    try await custom.run(others.buffers, userBuffers: buffers, scalars: equivalent.scalars)
    let ownError = try verifier.verify(try await own.read(), request, inputs).relative
    let customError = try verifier.verify(try await others.read(), request, inputs).relative
    // Tensors of its own: in the others' output stands what it must find.
    var unmappedTensors: AttentionTensors?
    if let dense {
      let tensors = try await AttentionTensors(
        AttentionInputs(query: inputs.query, key: inputs.key, value: inputs.value, operands: [:]),
        for: dense.plan, on: device)
      try await dense.run(tensors.buffers, userBuffers: buffers, scalars: equivalent.scalars)
      _ = try verifier.verify(try await tensors.read(), request, inputs)
      unmappedTensors = tensors
    }

    let stopwatch = Stopwatch(device: device, options: TimingOptions())
    func first() throws -> Double {
      try stopwatch.once { try builtIn.record(own.buffers, into: $0) }
    }
    func second() throws -> Double {
      try stopwatch.once {
        try custom.record(
          others.buffers, userBuffers: buffers, scalars: equivalent.scalars, into: $0)
      }
    }
    func third() throws -> Double? {
      guard let dense, let unmappedTensors else { return nil }
      return try stopwatch.once {
        try dense.record(
          unmappedTensors.buffers, userBuffers: buffers, scalars: equivalent.scalars, into: $0)
      }
    }
    for _ in 0..<Self.warmUps { _ = (try first(), try second(), try third()) }
    var times: (builtIn: [Double], custom: [Double], dense: [Double]) = ([], [], [])
    for pair in 0..<pairs {
      // Each goes first as often as the other.
      if pair % 2 == 0 { times.builtIn.append(try first()) }
      times.custom.append(try second())
      if pair % 2 == 1 { times.builtIn.append(try first()) }
      // Before and not between the two, which are compared more closely.
      if let time = try third() { times.dense.append(time) }
    }
    guard let ownTimes = SampleStatistics(times.builtIn),
      let customTimes = SampleStatistics(times.custom),
      let ratio = SampleStatistics(zip(times.custom, times.builtIn).map { $0 / $1 })
    else { throw BenchmarkRefusal(description: "no sample was taken") }
    return CustomComparison(
      id: workload.id, path: choice.name(of: plan),
      operations: request.floatingPointOperations, builtIn: ownTimes, custom: customTimes,
      ratio: ratio, blockMap: mapSeconds, withoutMap: SampleStatistics(times.dense),
      errors: (ownError, customError),
      compilation: try await CustomCompiler.compilationSeconds(
        of: custom.plan.shaderName, score: equivalent.score, mask: equivalent.mask,
        output: equivalent.output, device: device.capabilities))
  }
  /// Computes the block map of a mask, twice.
  ///
  /// - Returns: seconds of the second time; nil where there is no mask.
  private func computeMap(
    _ equivalent: CustomEquivalent, _ request: AttentionRequest, _ tensors: AttentionTensors,
    _ buffers: [String: DeviceBuffer]
  ) async throws -> Double? {
    guard let mask = equivalent.mask else { return nil }
    let map = try await CustomBlockMap(request, mask: mask, on: device)
    let scratch = try device.makeBuffer(byteCount: map.scratchByteCount)
    let stopwatch = Stopwatch(device: device, options: TimingOptions())
    func seconds() throws -> Double {
      try stopwatch.once {
        try map.record(
          operands: tensors.buffers.operands, userBuffers: buffers, scalars: equivalent.scalars,
          scratch: scratch, into: $0)
      }
    }
    _ = try seconds()
    return try seconds()
  }
}

extension CustomWorkload {
  /// Inputs with the workload's own documents.
  fileprivate func inputs(_ inputs: AttentionInputs) -> AttentionInputs {
    guard let documents else { return inputs }
    func ids(_ count: Int) -> [UInt8] {
      memory((0..<shape.batchSize * count).map { Int32($0 % count * documents / count) })
    }
    var inputs = inputs
    inputs.operands[.querySegments] = ids(shape.queryTokens)
    inputs.operands[.keySegments] = ids(shape.keyTokens)
    return inputs
  }

  /// The option's problem with the workload's own window.
  fileprivate func request(_ request: AttentionRequest) throws -> AttentionRequest {
    guard let window else { return request }
    var mask = request.mask
    mask.windowLeft = window - 1
    return try request.replacing(mask, operands: request.operands)
  }
}

extension AttentionRequest {
  /// The same problem with another mask and other operands; only for requests of plain tensors.
  fileprivate func replacing(
    _ mask: AttentionMask, operands: [AttentionOperand]
  ) throws(AttentionError) -> AttentionRequest {
    try AttentionRequest(
      batchSize: batchSize, queryTokens: queryTokens, keyTokens: keyTokens, queryHeads: queryHeads,
      keyHeads: keyHeads, headSize: headSize, valueHeadSize: valueHeadSize,
      elementType: elementType, scale: scale, mask: mask, scores: scores, operands: operands,
      returnsLogSumExp: returnsLogSumExp)
  }

  /// The same problem with a map of blocks of 64 by 64.
  fileprivate func withBlockMap(_ hasMap: Bool) throws(AttentionError) -> AttentionRequest {
    guard hasMap else { return self }
    var mask = mask
    (mask.blockMapRows, mask.blockMapKeys) = (64, 64)
    return try replacing(mask, operands: operands + [AttentionOperand(.blockMap)])
  }

  /// A map that knows nothing yet, where the request has one.
  fileprivate var unknownBlocks: [AttentionOperand.Kind: [UInt8]] {
    guard operand(.blockMap) != nil else { return [:] }
    return [.blockMap: memory([Int32](repeating: 1, count: byteCount(of: .blockMap) / 4))]
  }
}
