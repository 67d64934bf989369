internal import VulkanAttention

/// One kernel family's plan, as the C interface sees it.
protocol FamilyPlan: Sendable {
  /// Bytes of working memory.
  var scratchByteCount: Int { get }
  /// Submissions of a run.
  var pieceCount: Int { get }
  /// The path that runs; nil for families without.
  var path: AttentionPath? { get }
  /// The form of a linear attention; nil for others.
  var form: LinearAttentionForm? { get }
  /// Path, tile and why, in lines.
  var lines: [String] { get }
  /// The bytes of a tensor's buffer; nil where the plan has no such tensor.
  func byteCount(of tensor: TensorName) -> Int?
  /// Compiles what runs the plan.
  func makeKernel(on device: ComputeDevice) throws(AttentionError) -> any FamilyKernel
}

extension FamilyPlan {
  var scratchByteCount: Int { 0 }
  var pieceCount: Int { 1 }
  var path: AttentionPath? { nil }
  var form: LinearAttentionForm? { nil }
  var lines: [String] { [] }
}

/// One kernel family's kernel, as the C interface sees it.
protocol FamilyKernel: Sendable {
  /// The buffers of the kernel, by their names.
  associatedtype Buffers: Sendable
  /// Gives the bindings their places.
  func buffers(_ bindings: inout Bindings) throws(Failure) -> Buffers
  /// Appends the kernel to a recorder.
  func record(_ buffers: Buffers, into recorder: Recorder) throws(AttentionError)
  /// Runs the kernel piece by piece; nil for a family whose kernels are one submission.
  var runner: Runner<Buffers>? { get }
}

/// Runs a kernel piece by piece.
typealias Runner<Buffers> =
  @Sendable (_ buffers: Buffers, _ progress: (@Sendable (Double) -> Void)?)
  async throws(AttentionError) -> Void

extension FamilyKernel {
  var runner: Runner<Buffers>? { nil }

  /// Appends the kernel with a caller's bindings.
  func record(_ bindings: Bindings, into recorder: Recorder) throws(Failure) {
    let buffers = try placed(bindings)
    try inAttention { () throws(AttentionError) in try record(buffers, into: recorder) }
  }

  /// Runs the kernel with a caller's bindings and returns when it is done.
  func run(
    _ bindings: Bindings, on device: ComputeDevice, progress: (@Sendable (Double) -> Void)?
  ) throws(Failure) {
    let buffers = try placed(bindings)
    if let runner {
      try wait(on: device) { () async throws(AttentionError) in try await runner(buffers, progress)
      }
    } else {
      let recorder = try onDevice(device.makeRecorder)
      try inAttention { () throws(AttentionError) in try record(buffers, into: recorder) }
      try onDevice { () throws(VulkanError) in try device.submit(recorder).wait() }
      progress?(1)
    }
  }

  private func placed(_ bindings: Bindings) throws(Failure) -> Buffers {
    var bindings = bindings
    let buffers = try buffers(&bindings)
    try bindings.checkAllTaken()
    return buffers
  }
}

/// What a plan's handle stands for.
final class PlanObject: Sendable {
  let device: ComputeDevice
  let family: any FamilyPlan

  init(_ family: any FamilyPlan, _ device: ComputeDevice) {
    self.family = family
    self.device = device
  }

  /// The decode plan.
  func decode() throws(Failure) -> DecodePlan {
    guard let family = family as? DecodeFamilyPlan else {
      throw Failure("plan", "of another family", allowed: "a decode plan")
    }
    return family.plan
  }
}

/// What a kernel's handle stands for.
final class KernelObject: Sendable {
  enum Content: Sendable {
    /// A kernel that takes all of its tensors at once.
    case whole(any FamilyKernel, scratchByteCount: Int)
    /// A kernel of steps with layers.
    case decode(any StepKernel)
  }

  let device: ComputeDevice
  let content: Content

  init(_ content: Content, _ device: ComputeDevice) {
    self.content = content
    self.device = device
  }

  /// The decode kernel.
  func decode() throws(Failure) -> any StepKernel {
    guard case .decode(let kernel) = content else {
      throw Failure("kernel", "of another family", allowed: "a decode kernel")
    }
    return kernel
  }

  /// A kernel of any other family.
  func whole() throws(Failure) -> (kernel: any FamilyKernel, scratchByteCount: Int) {
    guard case .whole(let kernel, let scratchByteCount) = content else {
      throw Failure(
        "kernel", "a decode kernel",
        allowed: "other kernels; decode has vkattn_recorder_record_layer and vkattn_decode_run")
    }
    return (kernel, scratchByteCount)
  }
}
