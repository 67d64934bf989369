import ShaderLibrary
import VulkanAttention

/// What a device reaches at best, measured in the same process as the kernels that are held
/// against it.
public struct DeviceCeilings: Sendable, Hashable {
  /// Bytes read plus bytes written per second by a copy of memory larger than the caches.
  public let copyBytesPerSecond: Double
  /// f32 multiplications and additions per second outside of matrix units; nil where the shader is
  /// not in this build.
  public let fmaOperationsPerSecond: Double?
  /// Multiplications and additions per second of matrix units, f16 products summed up in f32; nil
  /// where the device has none (a CPU has not, though its driver may run the shaders), or the shader
  /// is not in this build.
  public let matrixOperationsPerSecond: Double?

  /// Measures a device; takes about a second.
  ///
  /// - Throws: `VulkanError`.
  public static func measure(on device: ComputeDevice) throws -> DeviceCeilings {
    let probe = CeilingProbe(device: device)
    return DeviceCeilings(
      copyBytesPerSecond: try probe.copyBytesPerSecond(),
      fmaOperationsPerSecond: try probe.fmaOperationsPerSecond(),
      matrixOperationsPerSecond: try probe.matrixOperationsPerSecond())
  }
}

/// The measurements behind ``DeviceCeilings``.
private struct CeilingProbe {
  let device: ComputeDevice

  private var isCPU: Bool { device.capabilities.kind == .cpu }

  private var stopwatch: Stopwatch {
    var options = TimingOptions()
    options.samples = TimingOptions.leastSamples
    return Stopwatch(device: device, options: options)
  }

  private static let workgroupSize = 128

  // MARK: Memory

  /// The better of the driver's copy command and a copy by a shader: a software driver runs the
  /// command on one core.
  func copyBytesPerSecond() throws -> Double {
    let capabilities = device.capabilities
    // Far beyond a last-level cache, and no burden on the device's memory.
    let wanted = isCPU ? 128 << 20 : 1 << 30
    let most = min(capabilities.maxAllocationBytes / 2, capabilities.deviceLocalBytes / 8)
    let byteCount = min(wanted, most) / 4096 * 4096
    let source = try device.makeBuffer(byteCount: byteCount, label: "copy source")
    let destination = try device.makeBuffer(byteCount: byteCount, label: "copy destination")
    let filling = try device.makeRecorder()
    try filling.fill(source, with: 0x3F80_0000)
    try device.submit(filling).wait()

    let byCommand = try stopwatch.time { try $0.copy(from: source, to: destination) }
    var timings = [byCommand]
    if let copy = try shaderCopy(from: source, to: destination) {
      timings.append(try stopwatch.time(copy))
    }
    let best = timings.compactMap { $0?.statistics.least }.min() ?? .infinity
    return 2 * Double(byteCount) / best
  }

  private struct CopyPushConstants: BitwiseCopyable {
    var source: UInt64
    var destination: UInt64
    var vectorCount: UInt32
    var invocationCount: UInt32
  }

  private func shaderCopy(
    from source: DeviceBuffer, to destination: DeviceBuffer
  ) throws -> ((Recorder) throws -> Void)? {
    guard let pipeline = try pipeline("copy_throughput") else { return nil }
    let vectorCount = source.byteCount / 16
    // Enough invocations to fill a device; each copies every so many-th vector.
    let groups = min(device.capabilities.maxWorkgroupCount[0], isCPU ? 64 : 8192)
    let push = CopyPushConstants(
      source: source.address, destination: destination.address,
      vectorCount: UInt32(vectorCount), invocationCount: UInt32(groups * Self.workgroupSize))
    return { recorder in
      try recorder.dispatch(
        pipeline, pushConstants: push, groups: WorkgroupCount(x: groups),
        accesses: [.read(source), .write(destination)])
    }
  }

  // MARK: Arithmetic

  private struct FMAPushConstants: BitwiseCopyable {
    var result: UInt64
    var iterations: UInt32
    var multiplier: Float
    var addend: Float
  }

  /// The fused multiply-adds of one invocation in one iteration of the shader's loop.
  private static let fmasPerIteration = 96.0

  func fmaOperationsPerSecond() throws -> Double? {
    guard let pipeline = try pipeline("fma_throughput") else { return nil }
    let groups = groupCount
    let invocations = groups * Self.workgroupSize
    let result = try device.makeBuffer(byteCount: invocations * 4, label: "fma result")
    return try rate(operationsPerIteration: 2 * Self.fmasPerIteration * Double(invocations)) {
      (recorder, iterations) in
      // The chain tends to addend / (1 − multiplier) = 1, far from denormals and infinities.
      let push = FMAPushConstants(
        result: result.address, iterations: iterations, multiplier: 0.5, addend: 0.5)
      try recorder.dispatch(
        pipeline, pushConstants: push, groups: WorkgroupCount(x: groups),
        accesses: [.write(result)])
    }
  }

  private struct MatrixPushConstants: BitwiseCopyable {
    var operands: UInt64
    var result: UInt64
    var iterations: UInt32
  }

  /// The matrix products of one subgroup in one iteration of the shader's loop.
  private static let matrixProductsPerIteration = 32.0

  func matrixOperationsPerSecond() throws -> Double? {
    let capabilities = device.capabilities
    let shape = capabilities.matrixShapes
      .filter { $0.input == .f16 && $0.accumulator == .f32 }
      .max { $0.m * $0.n * $0.k < $1.m * $1.n * $1.k }
    let needed: [DeviceCapabilities.Feature] = [.coopmat, .float16, .subgroupSizeControl]
    guard !isCPU, let shape, needed.allSatisfy(capabilities.has),
      let pipeline = try pipeline(
        "matrix_throughput", workgroupSize: capabilities.subgroupSize, isOneSubgroup: true,
        constants: ["M": UInt32(shape.m), "N": UInt32(shape.n), "K": UInt32(shape.k)])
    else { return nil }
    let groups = groupCount
    let operands = try device.makeBuffer(
      byteCount: (shape.m * shape.k + shape.k * shape.n) * 2, label: "matrix operands")
    let filling = try device.makeRecorder()
    // Each half of the word is 1/16 in f16: too small for the sums to leave the range of f32.
    try filling.fill(operands, with: 0x2C00_2C00)
    try device.submit(filling).wait()
    let result = try device.makeBuffer(
      byteCount: groups * shape.m * shape.n * 4, label: "matrix result")
    let perProduct = 2 * Double(shape.m * shape.n * shape.k)
    return try rate(
      operationsPerIteration: Self.matrixProductsPerIteration * perProduct * Double(groups)
    ) { (recorder, iterations) in
      let push = MatrixPushConstants(
        operands: operands.address, result: result.address, iterations: iterations)
      try recorder.dispatch(
        pipeline, pushConstants: push, groups: WorkgroupCount(x: groups),
        accesses: [.read(operands), .write(result)])
    }
  }

  /// Workgroups that fill the device several times over.
  private var groupCount: Int { isCPU ? 64 : (device.capabilities.computeUnits ?? 64) * 64 }

  /// Operations per second of work whose length is a number of iterations.
  private func rate(
    operationsPerIteration: Double, _ record: (Recorder, UInt32) throws -> Void
  ) throws -> Double? {
    func measured(_ iterations: UInt32) throws -> Double? {
      let timing = try stopwatch.time { try record($0, iterations) }
      return timing.map { operationsPerIteration * Double(iterations) / $0.statistics.least }
    }
    // A short run tells how many iterations take about 20 ms.
    guard let estimate = try measured(4) else { return nil }
    let seconds = 0.02
    return try measured(
      UInt32(clamping: max(4, Int(min(1e9, estimate * seconds / operationsPerIteration)))))
  }

  private func pipeline(
    _ shaderName: String, workgroupSize: Int = workgroupSize, isOneSubgroup: Bool = false,
    constants: [String: UInt32] = [:]
  ) throws -> ComputePipeline? {
    guard let shader = ShaderBinary.named(shaderName), shader.isCompiled else { return nil }
    var constants = constants
    constants["local_size_x"] = UInt32(workgroupSize)
    return try device.pipeline(
      PipelineDescription(
        shader: shader, constants: constants, subgroupSize: isOneSubgroup ? workgroupSize : nil,
        requiresFullSubgroups: isOneSubgroup))
  }
}
