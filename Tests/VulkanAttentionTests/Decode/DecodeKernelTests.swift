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
}
