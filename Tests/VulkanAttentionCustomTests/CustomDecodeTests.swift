import KernelBenchmarks
import TestSupport
import Testing

@testable import VulkanAttentionCustom

/// Modifications in decode steps against the library's own options.
@Suite(.serialized, .timeLimit(.minutes(15)))
struct CustomDecodeTests {
  private static let lengths = [70, 0, 33]

  private func request(
    _ type: ElementType, isPaged: Bool, mask: AttentionMask = .causal, softcap: Float = 0,
    operands: [AttentionOperand] = []
  ) throws -> DecodeRequest {
    var scores = AttentionScores()
    scores.softcap = softcap
    let arrangement: CacheArrangement =
      isPaged ? .paged(pages: 9, pageSize: 16) : .contiguous(sequences: 3, capacity: 80)
    let cache = try CacheTensor(.element(type), arrangement, heads: 2, channels: 16)
    return try DecodeRequest(
      batchSize: 3, queryTokens: 2, queryHeads: 4, keyCache: cache, valueCache: cache,
      maxKeyTokens: 80, elementType: type, mask: mask, scores: scores, operands: operands,
      returnsLogSumExp: true)
  }

  private func pages() throws -> CachePageTable {
    try CachePageTable(
      pageSize: 16, pageCount: 9, indptr: [0, 5, 5, 8], indices: [7, 2, 0, 5, 3, 8, 1, 6],
      lastPageLengths: [6, 0, 1])
  }

  /// The tensors of a step: the same numbers for every request of the same sizes.
  private struct Tensors {
    let buffers: DecodeBuffers
    let count: Int
    let rows: Int

    init(_ request: DecodeRequest, on device: ComputeDevice) async throws {
      let attention = request.attention
      let type = attention.elementType
      /// Numbers between -1 and 1 with few bits, which every type holds.
      func numbers(_ byteCount: Int, _ step: Int) async throws -> DeviceBuffer {
        let values = (0..<byteCount / type.byteCount).map {
          Float(($0 * step) % 17 - 8) / 8
        }
        return type == .f32
          ? try await device.makeBuffer(values, label: "numbers")
          : try await device.makeBuffer(values.map { Float16($0) }, label: "numbers")
      }
      count = attention.byteCount(of: .output) / type.byteCount
      rows = attention.logSumExpByteCount / 4
      buffers = DecodeBuffers(
        query: try await numbers(attention.byteCount(of: .query), 5),
        keyCache: try await numbers(request.keyCache.byteCount, 7),
        valueCache: try await numbers(request.valueCache.byteCount, 11),
        output: try device.makeBuffer(byteCount: attention.byteCount(of: .output), label: "o"),
        logSumExp: try device.makeBuffer(byteCount: attention.logSumExpByteCount, label: "lse"))
    }

    func read(_ type: ElementType, on device: ComputeDevice) async throws -> ([Float], [Float]) {
      let lse = try #require(buffers.logSumExp)
      let output =
        type == .f32
        ? try await device.download(Float.self, from: buffers.output)
        : try await device.download(Float16.self, from: buffers.output).map { Float($0) }
      return (output, try await device.download(Float.self, from: lse))
    }
  }

  @Test(
    "ALiBi, a soft cap and a window as modifications are the built-in ones, in either cache",
    .needsDevice, .needsShaderc, arguments: CustomPath.all, [false, true])
  func options(path: CustomPath, isPaged: Bool) async throws {
    let device = try TestDevice.shared()
    let slopes: [Float] = [0.5, 0.25, 0.125, 0.0625]
    let score = try ScoreModification(
      """
      float capped = cap * tanh(score / cap);
      return capped - slopes(head) * float(abs(keyIndex - queryIndex - positionOffset));
      """, buffers: [CustomBuffer("slopes", .f32)], scalars: [CustomScalar("cap", .float)])
    let mask = try MaskModification(
      """
      int position = queryIndex + positionOffset;
      return keyIndex <= position && position - keyIndex <= 20;
      """)
    let plain = try request(path.type, isPaged: isPaged, mask: .none)
    let kernel = try await CustomRun.orCancel(path.path) {
      try await CustomDecode(
        plain, score: score, mask: mask, on: device, path: path.path, isChecked: true,
        compiler: CustomRun.compiler)
    }
    #expect(kernel.plan.path == path.path)
    let pages: DecodePages? = isPaged ? .table(try pages()) : nil
    let slopeBuffer = try await device.makeBuffer(slopes, label: "slopes")

    let tensors = try await Tensors(plain, on: device)
    let schedule = try kernel.plan.schedule(lengths: Self.lengths)
    let workspace = try device.makeBuffer(
      byteCount: kernel.plan.workspaceByteCount(
        for: schedule, pages: isPaged ? try self.pages() : nil),
      label: "workspace")
    let recorder = try device.makeRecorder()
    let step = try kernel.prepare(
      schedule, pages: pages, userBuffers: ["slopes": slopeBuffer],
      scalars: ["cap": .float(1.5)], workspace: workspace, into: recorder)
    try kernel.record(tensors.buffers, step: step, into: recorder)
    try await device.submit(recorder).completed()
    let actual = try await tensors.read(path.type, on: device)

    let own = try request(
      path.type, isPaged: isPaged, mask: .window(left: 20), softcap: 1.5,
      operands: [AttentionOperand(.alibiSlopes, shared: .batch)])
    let reference = try DecodeKernel(own, on: device, path: path.path)
    let others = try await Tensors(own, on: device)
    let ownSchedule = try reference.plan.schedule(lengths: Self.lengths)
    let ownWorkspace = try device.makeBuffer(
      byteCount: reference.plan.workspaceByteCount(
        for: ownSchedule, pages: isPaged ? try self.pages() : nil), label: "workspace")
    let second = try device.makeRecorder()
    let ownStep = try reference.prepare(
      ownSchedule, pages: pages, operands: [.alibiSlopes: slopeBuffer], workspace: ownWorkspace,
      into: second)
    try reference.record(others.buffers, step: ownStep, into: second)
    try await device.submit(second).completed()
    let expected = try await others.read(path.type, on: device)

    #expect(expected.0.contains { $0 != 0 })
    expectClose(
      actual.0, to: expected.0.map(Double.init), within: path.type == .f32 ? 1e-5 : 2e-3,
      "o, \(path.path)")
    expectEach(actual.1, within: 1e-4, of: expected.1.map(Double.init), "lse, \(path.path)")
    // The sequence without keys: four rows of heads for each of two tokens.
    #expect(actual.1[8..<16].allSatisfy { $0 == -.infinity })
  }

  @Test(
    "Steps of other modifications, and inputs that are missing or not asked for, are refused",
    .needsDevice, .needsShaderc)
  func refusals() async throws {
    let device = try TestDevice.shared()
    let plain = try request(.f32, isPaged: false)
    func kernel(_ body: String) async throws -> CustomDecode {
      try await CustomDecode(
        plain,
        score: ScoreModification(
          body, buffers: [CustomBuffer("a", .f32)], scalars: [CustomScalar("s", .float)]),
        on: device, path: .row, compiler: CustomRun.compiler)
    }
    let decode = try await kernel("return score + s * a(0);")
    let other = try await kernel("return score - s * a(0);")
    let schedule = try decode.plan.schedule(lengths: Self.lengths)
    let workspace = try device.makeBuffer(
      byteCount: decode.plan.workspaceByteCount(for: schedule), label: "workspace")
    let tensors = try await Tensors(plain, on: device)
    let buffer = try await device.makeBuffer([Float(1)], label: "a")
    let recorder = try device.makeRecorder()
    func reason(_ body: () throws(CustomAttentionError) -> Void) -> String? {
      do {
        try body()
      } catch {
        if case .invalidInputs(let reason) = error { return reason }
      }
      return nil
    }
    func prepare(
      _ buffers: [String: DeviceBuffer], _ scalars: [String: CustomScalar.Value]
    ) throws(CustomAttentionError) -> CustomDecode.Step {
      try decode.prepare(
        schedule, userBuffers: buffers, scalars: scalars, workspace: workspace, into: recorder)
    }
    #expect(
      reason { () throws(CustomAttentionError) in _ = try prepare([:], ["s": .float(0)]) }?
        .contains("the buffer a") == true)
    #expect(
      reason { () throws(CustomAttentionError) in _ = try prepare(["a": buffer], [:]) }?
        .contains("the scalar s") == true)
    #expect(
      reason { () throws(CustomAttentionError) in
        _ = try prepare(["a": buffer, "b": buffer], ["s": .float(0)])
      }?.contains("reads b") == true)
    let step = try prepare(["a": buffer], ["s": .float(0)])
    #expect(
      reason { () throws(CustomAttentionError) in
        try other.record(tensors.buffers, step: step, into: recorder)
      }?.contains("other modifications") == true)
    #expect(
      throws: CustomAttentionError.attention(
        .overlappingOutput(output: "workspace", with: "a"))
    ) { try prepare(["a": workspace], ["s": .float(0)]) }
    try decode.record(tensors.buffers, step: step, into: recorder)
    try await device.submit(recorder).completed()
    let anew = try await tensors.read(.f32, on: device).0
    #expect(anew.allSatisfy { $0.isFinite })

    // Recorded once with nothing to attend to, then run with the lengths.
    let whole = try device.makeBuffer(
      byteCount: #require(decode.plan.maxWorkspaceByteCount), label: "workspace")
    let first = try device.makeRecorder()
    let replayed = try decode.prepare(
      decode.plan.schedule(lengths: Self.lengths.map { _ in 0 }), userBuffers: ["a": buffer],
      scalars: ["s": .float(0)], workspace: whole, into: first
    ).forReplay()
    let layers = try device.makeRecorder(forReplay: true)
    try decode.record(tensors.buffers, step: replayed, into: layers)
    #expect(
      reason { () throws(CustomAttentionError) in
        try other.update(replayed, to: schedule, into: first)
      }?.contains("other modifications") == true)
    try decode.update(replayed, to: schedule, into: first)
    try first.fill(tensors.buffers.output, with: 0x7FC0_0000)
    try device.submit(first)
    try await device.submit(device.makeCommandList(layers)).completed()
    expectSameBits(try await tensors.read(.f32, on: device).0, anew, "o")
  }
}
