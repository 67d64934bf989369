import VulkanAttention

/// The tensors of a decode step on a device, outputs and workspace poisoned.
public struct DecodeTensors: Sendable {
  /// The tensors as a kernel takes them.
  public let buffers: DecodeBuffers
  /// The operands without the lengths.
  public let operands: [AttentionOperand.Kind: DeviceBuffer]
  /// Cosines and sines of the rotation of keys.
  public let rotations: DeviceBuffer?
  /// Working memory for the schedule.
  public let workspace: DeviceBuffer
  private let request: DecodeRequest
  private let output: PoisonedMemory
  private let logSumExp: PoisonedMemory?
  private let memory: PoisonedMemory

  /// Uploads a problem for a kernel's plan and schedule.
  ///
  /// - Throws: `VulkanError`.
  public init(
    _ problem: DecodeProblem, for plan: DecodePlan, _ schedule: LeanSchedule,
    on device: ComputeDevice
  ) async throws {
    let request = problem.request
    self.request = request
    let attention = request.attention
    func upload(_ bytes: [UInt8], _ byteCount: Int, _ label: String) async throws -> DeviceBuffer {
      try await device.makeBuffer(bytes, label: label).slice(0..<byteCount)
    }
    func cache(
      _ name: String, _ tensor: CacheTensor, _ memory: CacheMemory
    ) async throws -> (numbers: DeviceBuffer, scales: DeviceBuffer?) {
      let numbers = try await upload(memory.bytes, tensor.byteCount, name)
      let scales =
        memory.scaleBytes.isEmpty
        ? nil : try await upload(memory.scaleBytes, tensor.scaleByteCount, "\(name) scales")
      return (numbers, scales)
    }
    let queryMemory = TensorMemory(attention, .query)
    let query = try await upload(
      queryMemory.encode(problem.query), queryMemory.byteCount, "query")
    let keys = try await cache("keys", request.keyCache, problem.keys)
    var values: (numbers: DeviceBuffer, scales: DeviceBuffer?)?
    if let memory = problem.values {
      values = try await cache("values", request.valueCache, memory)
    }
    output = try await PoisonedMemory(
      byteCount: attention.byteCount(of: .output), label: "output", on: device)
    logSumExp =
      attention.returnsLogSumExp
      ? try await PoisonedMemory(
        byteCount: attention.logSumExpByteCount, label: "logSumExp", on: device) : nil
    let pages = problem.pages
    memory = try await PoisonedMemory(
      byteCount: plan.workspaceByteCount(for: schedule, pages: pages), label: "workspace",
      on: device)
    workspace = memory.buffer
    var operands: [AttentionOperand.Kind: DeviceBuffer] = [:]
    for (kind, bytes) in problem.operands where kind != .keyLengths {
      // Some bytes more: what is read of a mask goes by words.
      operands[kind] = try await upload(
        bytes + [UInt8](repeating: 0xFF, count: 16), attention.byteCount(of: kind), kind.rawValue)
    }
    self.operands = operands
    rotations =
      problem.rotations.isEmpty
      ? nil : try await device.makeBuffer(problem.rotations, label: "rotations")
    buffers = DecodeBuffers(
      query: query, keyCache: keys.numbers, keyScales: keys.scales, valueCache: values?.numbers,
      valueScales: values?.scales, output: output.buffer, logSumExp: logSumExp?.buffer)
  }

  /// o [B, S, H, E] as the kernel left it.
  func readOutput() async throws -> [Float] {
    var problems: [String] = []
    let output = try await read(problems: &problems).output
    if let problem = problems.first { throw BenchmarkRefusal(description: problem) }
    return output
  }

  /// o [B, S, H, E] and lse [B, S, H] as the kernel left them; stray writes are said among the problems.
  func read(problems: inout [String]) async throws -> (output: [Float], logSumExp: [Float]) {
    let attention = request.attention
    let bytes = try await output.read(problems: &problems)
    let memory = TensorMemory(attention, .output)
    let values = memory.decode(bytes)
    if let stray = values.strayByte {
      problems.append("output: byte \(stray) was written, which belongs to no row")
    }
    _ = try await self.memory.read(problems: &problems)
    let lse = try await logSumExp?.read(problems: &problems) ?? []
    return (values.values, numbers(lse).map { Float($0) })
  }
}

extension DecodeProblem {
  /// Runs the problem once.
  ///
  /// - Returns: o [B, S, H, E] and lse [B, S, H].
  func run(
    _ kernel: DecodeKernel, on device: ComputeDevice, problems: inout [String]
  ) async throws -> (output: [Float], logSumExp: [Float]) {
    let schedule = try kernel.plan.schedule(lengths: lengths)
    let tensors = try await DecodeTensors(self, for: kernel.plan, schedule, on: device)
    let recorder = try device.makeRecorder()
    let step = try kernel.prepare(
      schedule, pages: pages.map { .table($0) }, operands: tensors.operands,
      rotations: tensors.rotations, workspace: tensors.workspace, into: recorder)
    try kernel.record(tensors.buffers, step: step, into: recorder)
    try await device.submit(recorder).completed()
    return try await tensors.read(problems: &problems)
  }
}
