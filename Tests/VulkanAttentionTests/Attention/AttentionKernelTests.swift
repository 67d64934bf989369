import CVulkan
import Synchronization
import TestSupport
import Testing

@testable import VulkanAttention
@testable import VulkanRuntime

/// Recording, running in pieces, cancelling, sharing.
@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct AttentionKernelTests {
  let device: ComputeDevice

  init() throws {
    device = try TestDevice.shared()
  }

  /// The device with room for few workgroups: its plans have many pieces.
  private func narrow(_ workgroups: Int) -> DeviceCapabilities {
    var capabilities = device.capabilities
    capabilities.maxWorkgroupCount[0] = workgroups
    return capabilities
  }

  private func kernel(
    _ path: TypedPath, _ request: AttentionRequest, workgroups: Int
  ) throws -> AttentionKernel {
    // Cancels the test where the path is not there.
    _ = try path.variant.kernel(request, on: device)
    return try AttentionKernel(
      path.variant.plan(request, device: narrow(workgroups)), on: device)
  }

  @Test(
    "Cut into pieces or whole, recorded or run: the same bits", arguments: TypedPath.all,
    [AttentionMask.none, .causal])
  func pieces(path: TypedPath, mask: AttentionMask) async throws {
    let shape = AttentionCase(s: 531, t: 67, h: 2, d: 64, mask: mask)
    let tensors = AttentionTensors(shape, path.type)
    let request = try shape.request(path.type)
    let whole = try path.variant.kernel(request, on: device)
    #expect(whole.plan.pieces.count == 1)
    let expected = try await DeviceTensors(tensors, whole.plan, on: device).compute(whole)
    for workgroups in [1, 2] {
      let cut = try kernel(path, request, workgroups: workgroups)
      #expect(cut.plan.pieces.count > 2)
      for mode in RunMode.allCases {
        let result = try await DeviceTensors(tensors, cut.plan, on: device).compute(cut, mode)
        expectSameBits(result.o, expected.o, "o, \(mode), \(cut.plan.pieces.count) pieces")
        expectSameBits(result.lse, expected.lse, "lse, \(mode)")
      }
    }
  }

  @Test("Progress rises to 1")
  func progress() async throws {
    let path = TypedPath(variant: .row, type: .f32)
    let shape = AttentionCase(s: 531, t: 67, h: 2, d: 64)
    let request = try shape.request(.f32)
    let kernel = try kernel(path, request, workgroups: 1)
    let tensors = try await DeviceTensors(AttentionTensors(shape, .f32), kernel.plan, on: device)
    let seen = Mutex<[Double]>([])
    try await kernel.run(tensors.buffers) { share in seen.withLock { $0.append(share) } }
    let shares = seen.withLock { $0 }
    #expect(shares.count >= kernel.plan.pieces.count)
    #expect(zip(shares, shares.dropFirst()).allSatisfy { $0 <= $1 })
    #expect(shares.allSatisfy { (0...1).contains($0) })
    #expect(shares.last == 1)
  }

  @Test("A cancelled task stops between two pieces", arguments: TypedPath.all)
  func cancellation(path: TypedPath) async throws {
    let shape = AttentionCase(s: 531, t: 67, h: 2, d: 64)
    let request = try shape.request(path.type)
    let kernel = try kernel(path, request, workgroups: 1)
    let tensors = try await DeviceTensors(
      AttentionTensors(shape, path.type), kernel.plan, on: device)
    let buffers = tensors.buffers
    let task = Task {
      try await kernel.run(buffers) { share in
        if share >= 0.3 { withUnsafeCurrentTask { $0?.cancel() } }
      }
    }
    await #expect(throws: AttentionError.device(.cancelled)) { try await task.value }
    // What was submitted before still runs to its end.
    try await device.submit(device.makeRecorder()).completed()
    let o = try await tensors.result().o
    #expect(o.contains { $0.isFinite })
    #expect(o.contains { $0.isNaN })

    // The device is fine.
    let again = try await tensors.compute(kernel, .run)
    #expect(again.o.allSatisfy { $0.isFinite })
  }

  @Test("A task that was cancelled before does nothing")
  func cancelledBefore() async throws {
    let shape = AttentionCase(s: 20, t: 30, h: 2, d: 64)
    let request = try shape.request(.f32)
    let kernel = try AttentionKernel(request, on: device)
    let tensors = try await DeviceTensors(AttentionTensors(shape, .f32), kernel.plan, on: device)
    let buffers = tensors.buffers
    let task = Task {
      withUnsafeCurrentTask { $0?.cancel() }
      try await kernel.run(buffers)
    }
    await #expect(throws: AttentionError.device(.cancelled)) { try await task.value }
    #expect(try await tensors.result().o.allSatisfy { $0.isNaN })
  }

  @Test("Tasks share a device and a kernel", arguments: RunMode.allCases)
  func concurrentTasks(mode: RunMode) async throws {
    let device = device
    let shapes = [
      AttentionCase(b: 2, s: 33, t: 65, h: 4, g: 2, d: 64),
      AttentionCase(b: 2, s: 33, t: 65, h: 4, g: 2, d: 64, mask: .causal),
    ]
    let kernels = try shapes.map { try AttentionKernel($0.request(.f32), on: device) }
    var expected: [[AttentionResult]] = []
    for (shape, kernel) in zip(shapes, kernels) {
      var results: [AttentionResult] = []
      for seed: UInt64 in 0..<2 {
        let tensors = AttentionTensors(shape, .f32, seed: seed)
        results.append(
          try await DeviceTensors(tensors, kernel.plan, on: device).compute(kernel))
      }
      expected.append(results)
    }
    try await withThrowingTaskGroup(of: Void.self) { group in
      for task in 0..<4 {
        let (kernel, shape, wanted) = (kernels[task % 2], shapes[task % 2], expected[task % 2])
        group.addTask {
          for round in 0..<10 {
            let seed = (task / 2 + round) % 2
            let tensors = AttentionTensors(shape, .f32, seed: UInt64(seed))
            let result = try await DeviceTensors(tensors, kernel.plan, on: device)
              .compute(kernel, mode)
            expectSameBits(result.o, wanted[seed].o, "o of task \(task)")
            expectSameBits(result.lse, wanted[seed].lse, "lse of task \(task)")
          }
        }
      }
      try await group.waitForAll()
    }
  }

  private static let dispatches = Atomic(0)
  private static let barriers = Atomic(0)

  @Test("A kernel records no more than it needs: packing side by side, one barrier, the pieces")
  func recordedCommands() throws {
    // Every access goes by address, which no validation layer follows, so the commands are counted.
    let device = try ComputeDevice.open(.best, options: TestDevice.options()) { calls in
      calls.vkCmdDispatch = { _, _, _, _ in
        AttentionKernelTests.dispatches.add(1, ordering: .relaxed)
      }
      calls.vkCmdPipelineBarrier = { _, _, _, _, _, _, _, _, _, _ in
        AttentionKernelTests.barriers.add(1, ordering: .relaxed)
      }
    }
    func buffer(_ byteCount: Int) throws -> DeviceBuffer {
      try device.makeBuffer(byteCount: byteCount)
    }
    for queryTokens in [8, 256] {
      let request = try AttentionRequest(queryTokens: queryTokens, queryHeads: 1, headSize: 64)
      let kernel = try AttentionKernel(request, on: device, path: .row)
      let packs = kernel.plan.scratchByteCount > 0
      #expect(packs == (queryTokens == 256))
      let size = request.byteCount(of: .query)
      let buffers = AttentionBuffers(
        query: try buffer(size), key: try buffer(size), value: try buffer(size),
        output: try buffer(size), scratch: try buffer(kernel.plan.scratchByteCount))
      let recorder = try device.makeRecorder()
      Self.dispatches.store(0, ordering: .relaxed)
      Self.barriers.store(0, ordering: .relaxed)
      try kernel.record(buffers, into: recorder)
      #expect(Self.dispatches.load(ordering: .relaxed) == (packs ? 3 : 1))
      #expect(Self.barriers.load(ordering: .relaxed) == (packs ? 1 : 0))
      // Once more: the output is written again, and the scratch memory before it is read.
      try kernel.record(buffers, into: recorder)
      #expect(Self.barriers.load(ordering: .relaxed) == (packs ? 3 : 1))
    }
  }

  @Test("Kernels in one recorder see each other's results")
  func chained() async throws {
    // The output of the first is the query of the second.
    let shape = AttentionCase(s: 33, t: 65, h: 2, g: 2, d: 64)
    let request = try shape.request(.f32)
    let kernel = try AttentionKernel(request, on: device)
    let first = AttentionTensors(shape, .f32, seed: 1)
    var second = AttentionTensors(shape, .f32, seed: 2)
    let one = try await DeviceTensors(first, kernel.plan, on: device)
    let two = try await DeviceTensors(second, kernel.plan, on: device)
    var buffers = two.buffers
    buffers.query = one.buffers.output
    let recorder = try device.makeRecorder()
    try kernel.record(one.buffers, into: recorder)
    try kernel.record(buffers, into: recorder)
    try await device.submit(recorder).completed()
    second.q = try await one.result().o
    expectClose(try await two.result().o, to: second.reference().o, within: 1e-5, "o")
  }
}
