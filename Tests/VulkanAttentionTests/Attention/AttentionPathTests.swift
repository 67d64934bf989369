import AttentionReference
import ShaderLibrary
import TestSupport
import Testing

@testable import VulkanAttention

/// Every path against the reference.
@Suite(.serialized, .timeLimit(.minutes(10)), .needsDevice, .silentValidation)
struct AttentionPathTests {
  let device: ComputeDevice

  init() throws {
    device = try TestDevice.shared()
  }

  @Test(arguments: TypedPath.all, AttentionCase.all)
  func agreesWithReference(path: TypedPath, shape: AttentionCase) async throws {
    let request = try shape.request(path.type)
    let kernel = try path.variant.kernel(request, on: device)
    let tensors = AttentionTensors(shape, path.type)
    let result = try await DeviceTensors(tensors, kernel.plan, on: device).compute(kernel)
    let expected = tensors.reference()

    let error = expectClose(result.o, to: expected.o, within: path.type.outputGate, "o")
    // FlashAttention's rule: at most twice the error of the same formula in that type. The constant
    // is for outputs that the type holds exactly.
    let yardstick = ErrorMeasure.relativeRMS(
      actual: tensors.lowPrecision().o, expected: expected.o)
    if path.type != .f32 {
      #expect(error.isWithin(2 * yardstick.error + 1e-5), "\(error), \(yardstick)")
    }
    let largest = expected.lse.lazy.filter(\.isFinite).map(\.magnitude).max() ?? 0
    expectEach(result.lse, within: 1e-5 * max(1, largest), of: expected.lse, "lse")
  }

  @Test("Tiles that were chosen for other devices are right here too", arguments: TypedPath.all)
  func tilesOfOtherDevices(path: TypedPath) async throws {
    let shape = AttentionCase(b: 2, s: 33, t: 65, h: 4, g: 2, d: 64, mask: .causal)
    let request = try shape.request(path.type)
    let own = try path.variant.kernel(request, on: device).plan.tile
    let tensors = AttentionTensors(shape, path.type)
    let expected = tensors.reference()
    var tested = [own]
    for sample in SampleDevice.allCases {
      // The other device's tile, where this device's limits let it run.
      var other = try sample.capabilities()
      let limits = device.capabilities
      other.maxSharedBytes = min(other.maxSharedBytes, limits.maxSharedBytes)
      other.minSubgroupSize = limits.minSubgroupSize
      other.maxSubgroupSize = limits.maxSubgroupSize
      other.subgroupSize = limits.subgroupSize
      other.features.formIntersection(limits.features)
      other.matrixShapes = limits.matrixShapes
      guard let plan = try? path.variant.plan(request, device: other), !tested.contains(plan.tile)
      else { continue }
      tested.append(plan.tile)
      let memory = try await DeviceTensors(tensors, plan, on: device)
      let result = try await memory.compute { try record(plan, memory, into: $0) }
      expectClose(
        result.o, to: expected.o, within: path.type.outputGate, "o, tile of \(sample)")
      expectEach(result.lse, within: 1e-5 * 10, of: expected.lse, "lse, tile of \(sample)")
    }
  }

  /// Records a plan of another device, with the shader variant that is for this one.
  private func record(
    _ plan: AttentionPlan, _ memory: DeviceTensors, into recorder: Recorder
  ) throws {
    let buffers = memory.buffers
    let description = try plan.pipelineDescription()
    let name = description.shader.name
    guard device.capabilities.kind == .cpu,
      ["attention_matrix", "attention_matrix2"].contains(name)
    else {
      return try AttentionKernel(plan, on: device).record(buffers, into: recorder)
    }
    let software = PipelineDescription(
      shader: try #require(ShaderBinary.named(name + "_software")),
      constants: description.constants, subgroupSize: description.subgroupSize,
      requiresFullSubgroups: description.requiresFullSubgroups)
    try recorder.dispatch(
      device.pipeline(software),
      pushConstants: AttentionPushConstants(
        plan, buffers: buffers, key: buffers.key.address, value: buffers.value.address, options: 0,
        piece: plan.pieces[0]),
      groups: WorkgroupCount(
        x: plan.tileCount, y: plan.request.queryHeads, z: plan.request.batchSize),
      accesses: buffers.accesses(for: plan, sources: [buffers.key, buffers.value]))
  }

  /// The software driver's matrices work with its usual vectors only.
  private var hasMatrices: Bool {
    device.capabilities.has(.coopmat)
      && (device.capabilities.kind != .cpu || device.capabilities.subgroupSize <= 8)
  }

  /// All of one extension, but each can be vetoed.
  private var hasElements: Bool {
    let needed: [DeviceCapabilities.Feature] = [
      .coopmat2Reductions, .coopmat2Conversions, .coopmat2PerElement,
    ]
    return hasMatrices && needed.allSatisfy { device.capabilities.has($0) }
  }

  @Test("On a device with cooperative matrices no path is left out")
  func everyPathRuns() throws {
    let request = try AttentionCase(s: 64, t: 64, d: 64).request(.f16)
    for variant in PathVariant.allCases {
      if variant.path == .matrix, !hasMatrices { continue }
      if variant.path == .matrix2, !hasElements { continue }
      #expect(throws: Never.self, "\(variant)") {
        let plan = try variant.plan(request, device: device.capabilities)
        _ = try AttentionKernel(plan, on: device)
      }
    }
    if !hasMatrices {
      try Test.cancel(
        "\(device.capabilities.name) has no cooperative matrices: matrix was not run")
    }
  }

  @Test(
    "Fragments of matrix2 that no device lists, with several of rows and keys",
    arguments: [(16, 8, 16), (8, 16, 8), (8, 32, 16), (32, 8, 8)])
  func flexibleFragments(shape: (Int, Int, Int)) async throws {
    let capabilities = device.capabilities
    let (m, n, k) = shape
    // A minute to compile for a software driver.
    guard m < 32 || runsFullTests else { try Test.cancel("m = 32 takes VKATTN_FULL_TESTS=1") }
    guard hasElements, capabilities.has(.coopmat2) else {
      try Test.cancel("\(capabilities.name) has no matrices of any size")
    }
    for problem in [
      AttentionCase(b: 2, s: 33, t: 65, h: 4, g: 2, d: 64, mask: .causal),
      AttentionCase(s: 67, t: 67, h: 2, d: 40, e: 56),
    ] {
      let request = try problem.request(.f16)
      let plan = try AttentionPlan(
        request, device: capabilities, path: .matrix2, tile: .fragment(m: m, n: n, k: k))
      #expect(plan.tile.constants["FRAGMENT_N"] == UInt32(n) && plan.tile.sumsPerRow == n)
      let tensors = AttentionTensors(problem, .f16)
      let result = try await DeviceTensors(tensors, plan, on: device).compute(
        AttentionKernel(plan, on: device))
      let expected = tensors.reference()
      expectClose(result.o, to: expected.o, within: ElementType.f16.outputGate, "o")
      expectEach(result.lse, within: 1e-5 * 10, of: expected.lse, "lse")
    }
  }

  @Test("Asked for nothing, the kernel runs what the plan prefers")
  func chosenPath() async throws {
    let shape = AttentionCase(s: 20, t: 30, h: 2, d: 64)
    for type in ElementType.allCases {
      let request = try shape.request(type)
      let kernel = try AttentionKernel(request, on: device)
      #expect(kernel.plan == (try AttentionPlan(request, device: device.capabilities)))
      let tensors = AttentionTensors(shape, type)
      let result = try await DeviceTensors(tensors, kernel.plan, on: device).compute(kernel)
      expectClose(result.o, to: tensors.reference().o, within: type.outputGate, "o")
    }
  }
}
