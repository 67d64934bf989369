import AttentionReference
import TestSupport
import Testing

@testable import KernelBenchmarks
@testable import VulkanAttention

/// The decode kernels on a device, against the reference and against each other.
@Suite(.needsDevice, .silentValidation) struct DecodeKernelTests {
  private static let paths: [AttentionPath] = [.row, .subgroup]

  private func run(
    _ problem: DecodeProblem, _ path: AttentionPath, mode: LeanSchedule.Mode? = nil
  ) async throws -> (output: [Float], logSumExp: [Float]) {
    let device = try TestDevice.shared()
    var problems: [String] = []
    let kernel = try DecodeKernel(problem.request, on: device, path: path, mode: mode)
    let result = try await problem.run(kernel, on: device, problems: &problems)
    #expect(problems == [])
    return result
  }

  /// A case of tiny heads, so that its pipelines compile fast.
  private func small(
    lengths: [Int] = [300, 0, 129], _ change: (inout DecodeCheckCase) -> Void = { _ in }
  ) -> DecodeCheckCase {
    var own = DecodeCheckCase(group: "tests", lengths: lengths)
    (own.headSize, own.valueHeadSize) = (16, 16)
    own.elementType = .f32
    own.keyFormat = .f32
    own.valueFormat = .f32
    change(&own)
    return own
  }

  @Test(arguments: paths)
  func agreesWithTheReference(_ path: AttentionPath) async throws {
    for option in [nil, AttentionCheckOption.window, .tree, .sinks, .softcap, .leftPadding] {
      let problem = try small {
        $0.option = option
        $0.queryTokens = 3
        $0.lengths = [150, 61]
      }.problem()
      let result = try await run(problem, path)
      let expected = problem.expected()
      expectClose(result.output, to: expected.o, within: 1e-5, "o")
      expectEach(result.logSumExp, within: 1e-4, of: expected.lse, "lse")
    }
  }

  @Test(arguments: paths)
  func everyFormatAgreesWithTheReference(_ path: AttentionPath) async throws {
    let formats: [CacheFormat] = [
      .bf16, .q8, .q4, .q4WithMinimum, .int8(groupSize: 16, scaleType: .f16),
      .int4(groupSize: 32, scaleType: .f32), .e4m3, .e5m2,
    ]
    for format in formats {
      let problem = try small(lengths: [40]) {
        ($0.headSize, $0.valueHeadSize) = (32, 32)
        $0.keyFormat = format
        $0.valueFormat = format
      }.problem()
      let result = try await run(problem, path)
      expectClose(result.output, to: problem.expected().o, within: 1e-5, "\(format)")
    }
  }

  /// Masks, and formats of the cache, with queries and results of f16.
  @Test func matrixUnitsAgreeWithTheReference() async throws {
    let device = try TestDevice.shared()
    if case .failure(let refusal) = AttentionPlan.matrixFragment(on: device.capabilities, .tuned) {
      try Test.cancel("\(refusal.reason)")
    }
    func expectReference(_ problem: DecodeProblem, _ what: String) async throws {
      let result = try await run(problem, .matrix)
      let expected = problem.expected()
      expectClose(result.output, to: expected.o, within: 1e-3, "\(what): o")
      expectEach(result.logSumExp, within: 2e-3, of: expected.lse, "\(what): lse")
    }
    for option in [nil, AttentionCheckOption.window, .tree, .sinks, .softcap, .leftPadding] {
      // 61 and 150 keys end amid a tile.
      let problem = try small(lengths: [150, 61]) {
        $0.option = option
        $0.queryTokens = 3
        ($0.elementType, $0.keyFormat, $0.valueFormat) = (.f16, .f16, .f16)
      }.problem()
      try await expectReference(problem, option?.rawValue ?? "plain")
    }
    for format in [CacheFormat.q8, .q4WithMinimum, .int8(groupSize: 16, scaleType: .f16), .e4m3] {
      let problem = try small(lengths: [40]) {
        ($0.headSize, $0.valueHeadSize) = (32, 32)
        ($0.elementType, $0.keyFormat, $0.valueFormat) = (.f16, format, format)
      }.problem()
      try await expectReference(problem, "\(format)")
    }
  }

  /// Both shaders for software drivers, tiles of one to eight rows, and a key whose scores are all -inf.
  @Test(arguments: [true, false], [1, 3, 6])
  func softwareDriversWithAndWithoutDerivatives(_ hasThem: Bool, _ heads: Int) async throws {
    let device = try TestDevice.shared()
    var capabilities = device.capabilities
    guard capabilities.kind == .cpu, capabilities.has(.computeDerivatives) else {
      try Test.cancel("\(capabilities.name) is no software driver with derivatives")
    }
    if !hasThem { capabilities.features.remove(.computeDerivatives) }
    let plain = try small(lengths: [300, 77]) {
      ($0.queryHeads, $0.keyHeads) = (2 * heads, 2)
      ($0.headSize, $0.valueHeadSize) = (24, 40)
    }.problem()
    let channels = plain.request.attention.headSize
    var keys = plain.keys.values
    keys[5 * 2 * channels] = -.infinity
    let problem = DecodeProblem(
      plain.request, lengths: plain.lengths, query: plain.query.map { abs($0) }, key: keys,
      value: try #require(plain.values).values)
    let plan = try DecodePlan(problem.request, device: capabilities, path: .subgroup)
    let name = hasThem ? "decode_subgroup_differences" : "decode_subgroup_software"
    #expect(plan.tile.shaderName == name)
    var problems: [String] = []
    let result = try await problem.run(
      DecodeKernel(plan, on: device), on: device, problems: &problems)
    #expect(problems == [])
    let expected = problem.expected()
    expectClose(result.output, to: expected.o, within: 1e-5, "o")
    expectEach(result.logSumExp, within: 1e-4, of: expected.lse, "lse")
  }

  /// Scores that grow with the keys, far beyond what the weights of the first ones are relative to.
  @Test(arguments: paths)
  func largerScoresMayComeLate(_ path: AttentionPath) async throws {
    let plain = try small(lengths: [300]).problem()
    let channels = 32
    let keys = plain.keys.values.enumerated().map { index, number in
      number * Float(1 + index / channels) / 4
    }
    let problem = DecodeProblem(
      plain.request, lengths: [300], query: plain.query, key: keys,
      value: try #require(plain.values).values)
    for mode in [LeanSchedule.Mode.lean(groups: 1), .lean(groups: 7)] {
      let result = try await run(problem, path, mode: mode)
      let expected = problem.expected()
      expectClose(result.output, to: expected.o, within: 1e-5, "o")
      expectEach(result.logSumExp, within: 1e-4, of: expected.lse, "lse")
    }
  }

  /// The same keys in pages, in a ring that holds them all and one behind the other: the same bits.
  @Test(arguments: paths)
  func arrangementsGiveTheSameBits(_ path: AttentionPath) async throws {
    let lengths = [300, 0, 129]
    let plain = try small().problem()
    let expected = try await run(plain, path)
    let keys = plain.keys.values
    let values = try #require(plain.values).values
    for order in CacheArrangement.Order.allCases {
      for (arrangement, pages) in [
        (CacheArrangement.ring(sequences: 3, capacity: 301, order: order), CachePageTable?.none),
        (
          .paged(pages: 40, pageSize: 16, order: order),
          try CachePageTable(
            pageSize: 16, pageCount: 40, indptr: [0, 19, 19, 28],
            indices: (0..<28).map { 39 - $0 }, lastPageLengths: [12, 0, 1])
        ),
      ] {
        let cache = try CacheTensor(.f32, arrangement, heads: 2, channels: 16)
        let attention = plain.request.attention
        let request = try DecodeRequest(
          batchSize: 3, queryHeads: 8, keyCache: cache, valueCache: cache, maxKeyTokens: 300,
          elementType: .f32, returnsLogSumExp: true)
        #expect(request.attention.scale == attention.scale)
        let result = try await run(
          DecodeProblem(
            request, lengths: lengths, pages: pages, query: plain.query, key: keys,
            value: values), path)
        expectSameBits(result.output, expected.output, "o, \(arrangement)")
        expectSameBits(result.logSumExp, expected.logSumExp, "lse, \(arrangement)")
      }
    }
  }

  /// In fixed mode a sequence's result does not depend on the others of its batch.
  @Test(arguments: paths)
  func fixedModeIsBatchInvariant(_ path: AttentionPath) async throws {
    let lengths = [700, 0, 129, 1000]
    let batch = try small(lengths: lengths).problem()
    let mode = LeanSchedule.Mode.fixed(tokensPerSplit: 256)
    let together = try await run(batch, path, mode: mode)
    let rows = 8
    for (b, length) in lengths.enumerated() {
      let cache = try CacheTensor(
        .f32, .contiguous(sequences: 1, capacity: 1000), heads: 2, channels: 16)
      let alone = DecodeProblem(
        try DecodeRequest(
          batchSize: 1, queryHeads: 8, keyCache: cache, valueCache: cache, elementType: .f32,
          returnsLogSumExp: true), lengths: [length],
        query: Array(batch.query[b * rows * 16..<(b + 1) * rows * 16]),
        key: Array(batch.keys.values[b * 1000 * 32..<(b + 1) * 1000 * 32]),
        value: Array(try #require(batch.values).values[b * 1000 * 32..<(b + 1) * 1000 * 32]))
      let result = try await run(alone, path, mode: mode)
      expectSameBits(
        result.output, Array(together.output[b * rows * 16..<(b + 1) * rows * 16]), "o of \(b)")
      expectSameBits(
        result.logSumExp, Array(together.logSumExp[b * rows..<(b + 1) * rows]), "lse of \(b)")
    }
  }

  @Test(arguments: paths)
  func anyCutGivesTheSameResult(_ path: AttentionPath) async throws {
    let problem = try small(lengths: [700, 0, 129, 1000]).problem()
    let expected = problem.expected()
    for groups in [1, 2, 5, 29, 400] {
      let result = try await run(problem, path, mode: .lean(groups: groups))
      expectClose(result.output, to: expected.o, within: 1e-5, "o, \(groups) groups")
      expectEach(
        result.logSumExp, within: 1e-4, of: expected.lse, "lse, \(groups) groups")
    }
  }

  /// Page lists in device memory that lead anywhere: nothing outside of the cache is read, and nothing
  /// hangs. A sound list gives what a checked one gives.
  @Test(arguments: paths)
  func deviceListsAreBounded(_ path: AttentionPath) async throws {
    let device = try TestDevice.shared()
    let problem = try small(lengths: [40, 70]) {
      $0.kind = .paged
      $0.blockTokens = 16
    }.problem()
    let table = try #require(problem.pages)
    let expected = try await run(problem, path)
    let kernel = try DecodeKernel(problem.request, on: device, path: path)
    let schedule = try kernel.plan.schedule(lengths: problem.lengths)
    for (starts, indices, isSound) in [
      (table.indptr, table.indices, true),
      ([0, Int32.max, -5], table.indices, false),
      (table.indptr, table.indices.map { _ in Int32.max }, false),
      ([Int32.min, -1, 1_000_000], table.indices.map { _ in Int32(-1) }, false),
    ] {
      let tensors = try await DecodeTensors(problem, for: kernel.plan, schedule, on: device)
      let recorder = try device.makeRecorder()
      let step = try kernel.prepare(
        schedule,
        pages: .device(
          indptr: try await device.makeBuffer(starts, label: "indptr"),
          indices: try await device.makeBuffer(indices, label: "indices")),
        workspace: tensors.workspace, into: recorder)
      try kernel.record(tensors.buffers, step: step, into: recorder)
      try await device.submit(recorder).completed()
      var problems: [String] = []
      let result = try await tensors.read(problems: &problems)
      #expect(problems == [])
      if isSound { expectSameBits(result.output, expected.output, "o") }
    }
  }

  @Test func badStepsAreRefusedBeforeAnythingIsRecorded() async throws {
    let device = try TestDevice.shared()
    let problem = try small(lengths: [40, 70]) {
      $0.kind = .paged
      $0.blockTokens = 16
    }.problem()
    let table = try #require(problem.pages)
    let kernel = try DecodeKernel(problem.request, on: device, path: .row)
    let schedule = try kernel.plan.schedule(lengths: problem.lengths)
    let tensors = try await DecodeTensors(problem, for: kernel.plan, schedule, on: device)
    let recorder = try device.makeRecorder()
    func expectRefused(
      _ name: String, sourceLocation: SourceLocation = #_sourceLocation,
      _ body: () throws -> Void
    ) {
      let error = #expect(throws: AttentionError.self, sourceLocation: sourceLocation) {
        try body()
      }
      switch error {
      case .invalidArgument(let found, _, _): #expect(found == name, sourceLocation: sourceLocation)
      case .bufferTooSmall(let found, _, _): #expect(found == name, sourceLocation: sourceLocation)
      case .overlappingOutput(let found, _): #expect(found == name, sourceLocation: sourceLocation)
      default:
        Issue.record("another error: \(String(describing: error))", sourceLocation: sourceLocation)
      }
    }
    func prepare(
      _ schedule: LeanSchedule, _ pages: DecodePages?, workspace: DeviceBuffer? = nil
    ) throws -> DecodeStep {
      try kernel.prepare(
        schedule, pages: pages, workspace: workspace ?? tensors.workspace, into: recorder)
    }
    expectRefused("pages") { _ = try prepare(schedule, nil) }
    // A longer sequence than its pages hold.
    expectRefused("lengths[0]") {
      _ = try prepare(kernel.plan.schedule(lengths: [60, 70]), .table(table))
    }
    // A table of another pool.
    let foreign = try CachePageTable(
      pageSize: 16, pageCount: 1000, indptr: [0, 3, 8], indices: [1, 2, 3, 4, 5, 6, 7, 999],
      lastPageLengths: [8, 6])
    expectRefused("pages.indices") { _ = try prepare(schedule, .table(foreign)) }
    expectRefused("schedule") {
      _ = try prepare(
        try LeanSchedule(
          sequences: schedule.sequences, keyHeads: 3, tileLength: kernel.plan.tile.keys,
          mode: kernel.plan.mode), .table(table))
    }
    expectRefused("workspace") {
      _ = try prepare(
        schedule, .table(table),
        workspace: try tensors.workspace.slice(0..<tensors.workspace.byteCount - 16))
    }
    let step = try prepare(schedule, .table(table))
    var buffers = tensors.buffers
    buffers.valueCache = nil
    expectRefused("valueCache") { try kernel.record(buffers, step: step, into: recorder) }
    buffers = tensors.buffers
    buffers.keyScales = tensors.buffers.query
    expectRefused("keyCacheScales") { try kernel.record(buffers, step: step, into: recorder) }
    buffers = tensors.buffers
    buffers.output = buffers.keyCache
    expectRefused("output") { try kernel.record(buffers, step: step, into: recorder) }
    let other = try DecodeKernel(
      problem.request, on: device, path: .row, mode: .lean(groups: 3))
    expectRefused("step") { try other.record(tensors.buffers, step: step, into: recorder) }
  }

  /// A step with several layers is prepared once; a later step in the same memory may be another.
  @Test func stepsFollowEachOtherInOneWorkspace() async throws {
    let device = try TestDevice.shared()
    let problem = try small(lengths: [300, 100]).problem()
    let kernel = try DecodeKernel(problem.request, on: device)
    var schedule = try kernel.plan.schedule(lengths: [299, 99])
    let most = try #require(kernel.plan.maxWorkspaceByteCount)
    let workspace = try device.makeBuffer(byteCount: most, label: "workspace")
    let tensors = try await DecodeTensors(problem, for: kernel.plan, schedule, on: device)
    let recorder = try device.makeRecorder()
    for lengths in [[299, 99], [300, 100]] {
      _ = try kernel.plan.update(&schedule, lengths: lengths)
      let step = try kernel.prepare(schedule, workspace: workspace, into: recorder)
      for _ in 0..<2 { try kernel.record(tensors.buffers, step: step, into: recorder) }
    }
    try await device.submit(recorder).completed()
    var problems: [String] = []
    let result = try await tensors.read(problems: &problems)
    #expect(problems == [])
    expectClose(result.output, to: problem.expected().o, within: 1e-5, "o")
  }

  /// Layers that are recorded once give what layers that are recorded anew give, to the last bit, whatever the
  /// lengths of the step; with pages in a table, in device memory and without.
  @Test(arguments: paths)
  func replayedLayersGiveTheSameBits(_ path: AttentionPath) async throws {
    let device = try TestDevice.shared()
    for (kind, mode) in [
      (CacheArrangement.Kind.contiguous, LeanSchedule.Mode?.none),
      (.contiguous, .lean(groups: 29)), (.contiguous, .fixed(tokensPerSplit: 256)),
      (.paged, .lean(groups: 5)),
    ] {
      let problem = try small(lengths: [300, 0, 700]) {
        $0.kind = kind
        if kind == .paged { $0.blockTokens = 16 }
      }.problem()
      let kernel = try DecodeKernel(problem.request, on: device, path: path, mode: mode)
      let most = try #require(kernel.plan.maxWorkspaceByteCount)
      let workspace = try device.makeBuffer(byteCount: most, label: "workspace")
      // Recorded with the shortest of all.
      var schedule = try kernel.plan.schedule(lengths: [0, 0, 1])
      let tensors = try await DecodeTensors(problem, for: kernel.plan, schedule, on: device)
      let recorder = try device.makeRecorder(forReplay: true)
      let first = try device.makeRecorder()
      let step = try kernel.prepare(
        schedule, pages: problem.pages.map { .table($0) }, workspace: workspace, into: first
      ).forReplay()
      for _ in 0..<2 { try kernel.record(tensors.buffers, step: step, into: recorder) }
      let layers = try device.makeCommandList(recorder)
      try device.submit(first)
      for lengths in [[0, 0, 1], [300, 0, 700], [17, 0, 0], [0, 0, 0], [299, 0, 257]] {
        _ = try kernel.plan.update(&schedule, lengths: lengths)
        let upload = try device.makeRecorder()
        try kernel.update(step, to: schedule, pages: problem.pages, into: upload)
        try device.submit(upload)
        try await device.submit(layers).completed()
        let replayed = try await device.download(Float.self, from: tensors.buffers.output)

        let anew = try await DecodeTensors(problem, for: kernel.plan, schedule, on: device)
        let second = try device.makeRecorder()
        let own = try kernel.prepare(
          schedule, pages: problem.pages.map { .table($0) }, workspace: anew.workspace,
          into: second)
        try kernel.record(anew.buffers, step: own, into: second)
        try await device.submit(second).completed()
        let expected = try await device.download(Float.self, from: anew.buffers.output)
        expectSameBits(replayed, expected, "\(kind), \(String(describing: mode)), \(lengths)")
        #expect(lengths == [0, 0, 0] || expected.contains { $0 != 0 })
      }
    }
  }

  @Test func updatesOfStepsThatAreNotForReplayAreRefused() async throws {
    let device = try TestDevice.shared()
    let problem = try small(lengths: [300, 100]).problem()
    let kernel = try DecodeKernel(problem.request, on: device)
    let schedule = try kernel.plan.schedule(lengths: [299, 99])
    let recorder = try device.makeRecorder()
    let workspace = try device.makeBuffer(
      byteCount: kernel.plan.workspaceByteCount(for: schedule), label: "workspace")
    let step = try kernel.prepare(schedule, workspace: workspace, into: recorder)
    #expect(
      throws: AttentionError.invalidArgument(
        name: "step", value: "of one schedule", allowed: "a step made by forReplay()")
    ) { try kernel.update(step, to: schedule, into: recorder) }
    let table = try CachePageTable(
      pageSize: 16, pageCount: 1, indptr: [0, 1, 1], indices: [0], lastPageLengths: [1, 0])
    #expect(
      throws: AttentionError.invalidArgument(
        name: "pages", value: "a table",
        allowed: "nil, because the step was not prepared with a table")
    ) { try kernel.update(step.forReplay(), to: schedule, pages: table, into: recorder) }
    let other = try DecodeKernel(problem.request, on: device, mode: .lean(groups: 77))
    #expect(
      throws: AttentionError.invalidArgument(
        name: "step", value: "of another plan", allowed: "a step of the kernel's plan")
    ) {
      try other.update(
        step.forReplay(), to: other.plan.schedule(lengths: [1, 1]), into: recorder)
    }
    // A workspace that was made for the first lengths is too small for others.
    let small = try DecodeKernel(problem.request, on: device, mode: .lean(groups: 64))
    let short = try small.plan.schedule(lengths: [1, 0])
    let bytes = small.plan.workspaceByteCount(for: short)
    let tight = try device.makeBuffer(byteCount: bytes, label: "workspace")
    let replayed = try small.prepare(short, workspace: tight, into: recorder).forReplay()
    let long = try small.plan.schedule(lengths: [300, 100])
    #expect(
      throws: AttentionError.bufferTooSmall(
        tensor: "workspace", requiredBytes: small.plan.workspaceByteCount(for: long),
        availableBytes: bytes)
    ) { try small.update(replayed, to: long, into: recorder) }
  }
}
