public import CVKAttn
internal import Dispatch
internal import Synchronization
internal import VulkanAttention
internal import VulkanAttentionCustom

// Modifications of scores, masks and outputs: pieces of GLSL, compiled by a library that is opened with the first.

extension vkattn_modification: SizedStructure {}
extension vkattn_modifications: SizedStructure {}

extension Failure {
  init(_ error: CustomAttentionError) {
    let status: Status
    switch error {
    case .refused, .snippetTooLarge, .invalidParameters, .invalidInputs: status = .invalidArgument
    case .compilerMissing, .compilerTooOld: status = .noCompiler
    case .notCompiled, .unsupportedCapability: status = .notCompiled
    case .compilerFailed: status = .shader
    case .attention(let error):
      self.init(error)
      return
    }
    self.init(status, "\(error)")
  }
}

/// Runs `body`, and passes on a failure of a modification.
private func inCustom<Result>(
  _ body: () throws(CustomAttentionError) -> Result
) throws(Failure) -> Result {
  do { return try body() } catch { throw Failure(error) }
}

/// Runs `body`, and passes on a failure as what kernels of all families throw.
private func inFamily<Result>(
  _ body: () throws(CustomAttentionError) -> Result
) throws(AttentionError) -> Result {
  do { return try body() } catch { throw error.asAttentionError }
}

/// Likewise of asynchronous work.
private func inFamily<Result>(
  _ body: () async throws(CustomAttentionError) -> Result
) async throws(AttentionError) -> Result {
  do { return try await body() } catch { throw error.asAttentionError }
}

extension CustomAttentionError {
  /// As what kernels of all families throw.
  fileprivate var asAttentionError: AttentionError {
    if case .attention(let error) = self { return error }
    return .invalidArgument(name: "modifications", value: "not matched", allowed: "\(self)")
  }
}

// MARK: - Reading

/// What modifications read: buffers by the bindings' indices, and the values of scalars.
struct CustomInputNames: Sendable {
  fileprivate(set) var buffers: [CustomBuffer] = []
  fileprivate(set) var scalars: [String: CustomScalar.Value] = [:]

  /// The buffers by their names.
  func take(_ bindings: inout Bindings) throws(Failure) -> [String: DeviceBuffer] {
    var taken: [String: DeviceBuffer] = [:]
    for (index, buffer) in buffers.enumerated() {
      guard let bound = bindings.take(.customBuffer, index: index) else {
        throw Failure(
          .missingBuffer, "no buffer is bound for customBuffer[\(index)], '\(buffer.name)'")
      }
      guard bound.byteCount >= buffer.element.byteCount else {
        throw Failure(
          .bufferTooSmall,
          "customBuffer[\(index)], '\(buffer.name)', has \(bound.byteCount) bytes; an element has "
            + "\(buffer.element.byteCount)")
      }
      taken[buffer.name] = bound
    }
    return taken
  }
}

/// A caller's modifications.
private struct Modifications: Sendable {
  let score: ScoreModification?
  let mask: MaskModification?
  let output: OutputModification?
  let isChecked: Bool
  private(set) var inputs = CustomInputNames()

  /// - Parameter allowed: those that the kernel takes.
  init(
    _ pointer: UnsafePointer<vkattn_modifications>?, allowed: Set<CustomSnippet>
  ) throws(Failure) {
    let given = try read(pointer, "modifications")
    try checkFlags(given.flags, "modifications", known: 1)
    try checkReserved(given.reserved, "modifications")
    for (snippet, function) in [
      (CustomSnippet.score, given.score), (.mask, given.mask), (.output, given.output),
    ] where function != nil && !allowed.contains(snippet) {
      throw Failure(
        "modifications.\(snippet.rawValue)", "given", allowed: "NULL: the kernel has none")
    }
    guard given.score != nil || given.mask != nil || given.output != nil else {
      throw Failure(.nullPointer, "all of modifications.score, mask and output are NULL")
    }
    isChecked = has(given.flags, VKATTN_CUSTOM_CHECKED)
    var inputs = CustomInputNames()
    func function<Modification>(
      _ pointer: UnsafePointer<vkattn_modification>?, _ name: String,
      _ make: (String, String, [CustomBuffer], [CustomScalar]) throws(CustomAttentionError)
        -> Modification
    ) throws(Failure) -> Modification? {
      guard let given = try readIfGiven(pointer, name) else { return nil }
      let (buffers, scalars) = try Self.parameters(given, name, &inputs)
      let body = String(cString: try required(given.body, "\(name).body"))
      let declarations = given.declarations.map { String(cString: $0) } ?? ""
      return try inCustom { () throws(CustomAttentionError) in
        try make(body, declarations, buffers, scalars)
      }
    }
    score = try function(given.score, "score") {
      (body, declarations, buffers, scalars) throws(CustomAttentionError) in
      try ScoreModification(body, declarations: declarations, buffers: buffers, scalars: scalars)
    }
    mask = try function(given.mask, "mask") {
      (body, declarations, buffers, scalars) throws(CustomAttentionError) in
      try MaskModification(body, declarations: declarations, buffers: buffers, scalars: scalars)
    }
    output = try function(given.output, "output") {
      (body, declarations, buffers, scalars) throws(CustomAttentionError) in
      try OutputModification(body, declarations: declarations, buffers: buffers, scalars: scalars)
    }
    self.inputs = inputs
  }

  /// More than any modification may have.
  private static let mostParameters = 64

  /// The parameters of one modification; those that others have not yet get places behind theirs.
  private static func parameters(
    _ given: vkattn_modification, _ name: String, _ inputs: inout CustomInputNames
  ) throws(Failure) -> ([CustomBuffer], [CustomScalar]) {
    var buffers: [CustomBuffer] = []
    var scalars: [CustomScalar] = []
    let parameters = try elements(
      given.parameters, given.parameter_count, "\(name).parameters", atMost: mostParameters)
    for (index, parameter) in parameters.enumerated() {
      let place = "\(name).parameters[\(index)]"
      let text = String(cString: try required(parameter.name, "\(place).name"))
      try checkReserved(parameter.reserved, place)
      let type = Int(parameter.type)
      try checkUnused(
        "\(place).number", parameter.number, unless: type == VKATTN_CUSTOM_FLOAT,
        "without VKATTN_CUSTOM_FLOAT")
      try checkUnused(
        "\(place).integer", parameter.integer, unless: type == VKATTN_CUSTOM_INT,
        "without VKATTN_CUSTOM_INT")
      if type == VKATTN_CUSTOM_FLOAT || type == VKATTN_CUSTOM_INT {
        let value: CustomScalar.Value =
          type == VKATTN_CUSTOM_FLOAT ? .float(parameter.number) : .int(parameter.integer)
        guard inputs.scalars[text] == nil || inputs.scalars[text] == value else {
          throw Failure(place, "'\(text)' with another value", allowed: "one value for each name")
        }
        inputs.scalars[text] = value
        scalars.append(CustomScalar(text, type == VKATTN_CUSTOM_FLOAT ? .float : .int))
      } else {
        let element: CustomBuffer.Element = try choice(
          parameter.type, "\(place).type", "VKATTN_CUSTOM_",
          [
            VKATTN_CUSTOM_F32_BUFFER: .f32, VKATTN_CUSTOM_F16_BUFFER: .f16,
            VKATTN_CUSTOM_BF16_BUFFER: .bf16, VKATTN_CUSTOM_INT32_BUFFER: .int32,
            VKATTN_CUSTOM_UINT8_BUFFER: .uint8,
          ])
        let buffer = CustomBuffer(text, element)
        if !inputs.buffers.contains(buffer) { inputs.buffers.append(buffer) }
        buffers.append(buffer)
      }
    }
    return (buffers, scalars)
  }
}

// MARK: - Compiling

/// What asynchronous work leaves.
private final class Outcome<Value: Sendable>: Sendable {
  let result = Mutex<Result<Value, CustomAttentionError>?>(nil)
}

/// Runs asynchronous work and blocks the calling thread until it is done.
private func awaited<Value: Sendable>(
  _ body: @escaping @Sendable () async throws(CustomAttentionError) -> Value
) throws(Failure) -> Value {
  let outcome = Outcome<Value>()
  let done = DispatchSemaphore(value: 0)
  Task.detached {
    let result: Result<Value, CustomAttentionError>
    do throws(CustomAttentionError) {
      result = .success(try await body())
    } catch {
      result = .failure(error)
    }
    outcome.result.withLock { $0 = result }
    done.signal()
  }
  done.wait()
  switch outcome.result.withLock({ $0 }) {
  case .success(let value): return value
  case .failure(let error): throw Failure(error)
  case nil: throw Failure(.shader, "the compilation left no result")
  }
}

// MARK: - Families

/// Attention with modifications, which is compiled with its plan.
struct CustomAttentionFamilyPlan: FamilyPlan {
  let kernel: CustomAttention
  let inputs: CustomInputNames

  private var attention: AttentionFamilyPlan { AttentionFamilyPlan(plan: kernel.plan) }

  var scratchByteCount: Int { attention.scratchByteCount }
  var pieceCount: Int { attention.pieceCount }
  var path: AttentionPath? { attention.path }
  var lines: [String] { ["family: custom attention"] + attention.lines.dropFirst() }

  func byteCount(of tensor: TensorName) -> Int? { attention.byteCount(of: tensor) }

  func makeKernel(on device: ComputeDevice) throws(AttentionError) -> any FamilyKernel {
    CustomAttentionFamilyKernel(kernel: kernel, inputs: inputs)
  }
}

struct CustomAttentionFamilyKernel: FamilyKernel {
  struct Buffers: Sendable {
    let attention: AttentionBuffers
    let user: [String: DeviceBuffer]
  }

  let kernel: CustomAttention
  let inputs: CustomInputNames

  func buffers(_ bindings: inout Bindings) throws(Failure) -> Buffers {
    let output = try bindings.need(.output)
    return Buffers(
      attention: try attentionBuffers(&bindings, of: kernel.plan.request, output: output),
      user: try inputs.take(&bindings))
  }

  func record(_ buffers: Buffers, into recorder: Recorder) throws(AttentionError) {
    try inFamily { () throws(CustomAttentionError) in
      try kernel.record(
        buffers.attention, userBuffers: buffers.user, scalars: inputs.scalars, into: recorder)
    }
  }

  var runner: Runner<Buffers>? {
    { [kernel, inputs] (buffers, progress) async throws(AttentionError) in
      try await inFamily { () async throws(CustomAttentionError) in
        try await kernel.run(
          buffers.attention, userBuffers: buffers.user, scalars: inputs.scalars,
          progress: progress)
      }
    }
  }
}

/// The block map of a mask of one's own.
struct CustomBlockMapFamilyPlan: FamilyPlan {
  let kernel: CustomBlockMap
  let request: AttentionRequest
  let inputs: CustomInputNames

  var scratchByteCount: Int { kernel.scratchByteCount }
  var lines: [String] { ["family: custom block map"] }

  func byteCount(of tensor: TensorName) -> Int? {
    tensor == .scratch ? scratchByteCount : blockMapByteCount(of: tensor, request)
  }

  func makeKernel(on device: ComputeDevice) throws(AttentionError) -> any FamilyKernel {
    CustomBlockMapFamilyKernel(kernel: kernel, inputs: inputs)
  }
}

struct CustomBlockMapFamilyKernel: FamilyKernel {
  struct Buffers: Sendable {
    let operands: [AttentionOperand.Kind: DeviceBuffer]
    let scratch: DeviceBuffer
    let user: [String: DeviceBuffer]
  }

  let kernel: CustomBlockMap
  let inputs: CustomInputNames

  func buffers(_ bindings: inout Bindings) throws(Failure) -> Buffers {
    Buffers(
      operands: bindings.takeAttentionOperands(), scratch: try bindings.need(.scratch),
      user: try inputs.take(&bindings))
  }

  func record(_ buffers: Buffers, into recorder: Recorder) throws(AttentionError) {
    try inFamily { () throws(CustomAttentionError) in
      try kernel.record(
        operands: buffers.operands, userBuffers: buffers.user, scalars: inputs.scalars,
        scratch: buffers.scratch, into: recorder)
    }
  }

  var runner: Runner<Buffers>? {
    { [kernel, inputs] (buffers, progress) async throws(AttentionError) in
      try await inFamily { () async throws(CustomAttentionError) in
        try await kernel.run(
          operands: buffers.operands, userBuffers: buffers.user, scalars: inputs.scalars,
          scratch: buffers.scratch)
      }
      progress?(1)
    }
  }
}

/// Decode with modifications.
private struct CustomStepKernel: StepKernel {
  typealias Step = CustomDecode.Step

  let kernel: CustomDecode
  let inputs: CustomInputNames

  var plan: DecodePlan { kernel.plan }

  func takeInputs(_ bindings: inout Bindings) throws(Failure) -> [String: DeviceBuffer] {
    try inputs.take(&bindings)
  }

  func prepare(_ tensors: StepTensors, into recorder: Recorder) throws(Failure) -> any Sendable {
    try inCustom { () throws(CustomAttentionError) in
      try kernel.prepare(
        tensors.schedule, pages: tensors.pages, operands: tensors.operands,
        rotations: tensors.rotations, userBuffers: tensors.inputs, scalars: inputs.scalars,
        workspace: tensors.workspace, into: recorder)
    }
  }

  func stepForReplay(_ step: any Sendable) throws(Failure) -> any Sendable {
    try inCustom(own(step).forReplay)
  }

  func update(
    _ step: any Sendable, to schedule: LeanSchedule, pages: CachePageTable?,
    into recorder: Recorder
  ) throws(Failure) {
    let step = try own(step)
    try inCustom { () throws(CustomAttentionError) in
      try kernel.update(step, to: schedule, pages: pages, into: recorder)
    }
  }

  func record(
    _ buffers: DecodeBuffers, step: any Sendable, into recorder: Recorder
  ) throws(Failure) {
    let step = try own(step)
    try inCustom { () throws(CustomAttentionError) in
      try kernel.record(buffers, step: step, into: recorder)
    }
  }
}

// MARK: - Functions

/// `vkattn_custom_attention_plan_create` of vkattn.h.
@_cdecl("vkattn_custom_attention_plan_create")
public func customAttentionPlanCreate(
  _ device: OpaquePointer?, _ request: UnsafePointer<vkattn_attention_request>?,
  _ modifications: UnsafePointer<vkattn_modifications>?,
  _ plan: UnsafeMutablePointer<OpaquePointer?>?
) -> vkattn_status {
  createDevicePlan(device, plan) { (device) throws(Failure) in
    let (request, path) = try attentionRequest(request, "request")
    let given = try Modifications(modifications, allowed: [.score, .mask, .output])
    let kernel = try awaited { () async throws(CustomAttentionError) in
      try await CustomAttention(
        request, score: given.score, mask: given.mask, output: given.output, on: device,
        path: path, isChecked: given.isChecked)
    }
    return CustomAttentionFamilyPlan(kernel: kernel, inputs: given.inputs)
  }
}

/// `vkattn_custom_block_map_plan_create` of vkattn.h.
@_cdecl("vkattn_custom_block_map_plan_create")
public func customBlockMapPlanCreate(
  _ device: OpaquePointer?, _ request: UnsafePointer<vkattn_attention_request>?,
  _ modifications: UnsafePointer<vkattn_modifications>?,
  _ plan: UnsafeMutablePointer<OpaquePointer?>?
) -> vkattn_status {
  createDevicePlan(device, plan) { (device) throws(Failure) in
    let request = try attentionRequest(request, "request").request
    let given = try Modifications(modifications, allowed: [.mask])
    let mask = try required(given.mask, "modifications.mask")
    let kernel = try awaited { () async throws(CustomAttentionError) in
      try await CustomBlockMap(request, mask: mask, on: device, isChecked: given.isChecked)
    }
    return CustomBlockMapFamilyPlan(kernel: kernel, request: request, inputs: given.inputs)
  }
}

/// `vkattn_custom_decode_plan_create` of vkattn.h.
@_cdecl("vkattn_custom_decode_plan_create")
public func customDecodePlanCreate(
  _ device: OpaquePointer?, _ request: UnsafePointer<vkattn_decode_request>?,
  _ modifications: UnsafePointer<vkattn_modifications>?,
  _ plan: UnsafeMutablePointer<OpaquePointer?>?
) -> vkattn_status {
  createDevicePlan(device, plan) { (device) throws(Failure) in
    let (request, path, mode) = try decodeRequest(request)
    let given = try Modifications(modifications, allowed: [.score, .mask])
    let kernel = try awaited { () async throws(CustomAttentionError) in
      try await CustomDecode(
        request, score: given.score, mask: given.mask, on: device, path: path, mode: mode,
        isChecked: given.isChecked)
    }
    return DecodeFamilyPlan(
      plan: kernel.plan, compiled: CustomStepKernel(kernel: kernel, inputs: given.inputs))
  }
}
