/// The tensors of one gathering of embeddings in device memory.
public struct EmbeddingBuffers: Sendable {
  /// A table and the numbers of the entries that are taken of it.
  public struct Table: Sendable {
    /// [entries, D] in the request's format.
    public var entries: DeviceBuffer
    /// Int32 [N].
    public var numbers: DeviceBuffer

    /// Names the tensors.
    public init(entries: DeviceBuffer, numbers: DeviceBuffer) {
      self.entries = entries
      self.numbers = numbers
    }
  }

  /// As many as the request names.
  public var tables: [Table]
  /// y [N, D], written.
  public var output: DeviceBuffer

  /// Names the tensors.
  public init(tables: [Table], output: DeviceBuffer) {
    self.tables = tables
    self.output = output
  }
}

/// A gathering of embeddings on one device, ready to be recorded; see ``EmbeddingRequest``.
///
/// Deterministic; safe to share between tasks.
public final class EmbeddingKernel: Sendable {
  /// How the request runs.
  public let plan: EmbeddingPlan
  private let device: ComputeDevice
  private let pipeline: ComputePipeline

  /// The gathering.
  public var request: EmbeddingRequest { plan.request }

  /// Prepares a plan on a device; compiles its pipeline where no one has before.
  ///
  /// - Throws: `AttentionError.noPath` or `device`.
  public init(_ plan: EmbeddingPlan, on device: ComputeDevice) throws(AttentionError) {
    self.plan = plan
    self.device = device
    pipeline = try device.compiled(plan.pipelineDescription())
  }

  /// Plans and prepares a request.
  ///
  /// - Throws: what `EmbeddingPlan.init` and the other initialiser throw.
  public convenience init(
    _ request: EmbeddingRequest, on device: ComputeDevice
  ) throws(AttentionError) {
    try self.init(EmbeddingPlan(request, device: device.capabilities), on: device)
  }

  /// Appends the gathering to a recorder. It does not submit, wait or allocate.
  ///
  /// - Throws: `AttentionError.bufferTooSmall`, `misaligned`, `overlappingOutput`, `invalidArgument` for another
  ///   number of tables, or `device`, before anything is appended.
  public func record(
    _ buffers: EmbeddingBuffers, into recorder: Recorder
  ) throws(AttentionError) {
    let request = request
    guard buffers.tables.count == request.entries.count else {
      throw .invalidArgument(
        name: "tables", value: "\(buffers.tables.count)", allowed: "\(request.entries.count)")
    }
    var bound = BoundBuffers(on: device)
    var addresses: [UInt64] = []
    var numbers: [UInt64] = []
    var accesses: [BufferAccess] = []
    for (index, table) in buffers.tables.enumerated() {
      let entries = try bound.bind(
        "tables[\(index)]", table.entries, bytes: request.tableByteCount(index),
        alignment: plan.tableAlignment)
      let own = try bound.bind("numbers[\(index)]", table.numbers, bytes: request.rows * 4)
      addresses.append(entries.address)
      numbers.append(own.address)
      accesses += [.read(entries), .read(own)]
    }
    let output = try bound.bind(
      request.destination, buffers.output, isAligned: plan.isAligned, isWritten: true)
    try bound.checkOverlaps()
    accesses.append(.write(output))
    let missing = 3 - addresses.count
    addresses += [UInt64](repeating: 0, count: missing)
    numbers += [UInt64](repeating: 0, count: missing)
    let entries = request.entries + [Int](repeating: 0, count: missing)
    let constants = EmbeddingPushConstants(
      table0: addresses[0], table1: addresses[1], table2: addresses[2], numbers0: numbers[0],
      numbers1: numbers[1], numbers2: numbers[2], destination: output.address,
      entries0: UInt32(entries[0]), entries1: UInt32(entries[1]), entries2: UInt32(entries[2]),
      rows: UInt32(request.rows), channels: UInt32(request.channels),
      destinationStride: UInt32(request.destination.stride), scale: request.scale)
    try wrappingDeviceErrors { () throws(VulkanError) in
      try recorder.dispatch(
        pipeline, pushConstants: constants, groups: plan.groups, accesses: accesses)
    }
  }
}

/// The push constants of `companion_embed.comp`, field for field; a test compares the two.
struct EmbeddingPushConstants: BitwiseCopyable {
  var table0: UInt64
  var table1: UInt64
  var table2: UInt64
  var numbers0: UInt64
  var numbers1: UInt64
  var numbers2: UInt64
  var destination: UInt64
  var entries0: UInt32
  var entries1: UInt32
  var entries2: UInt32
  var rows: UInt32
  var channels: UInt32
  var destinationStride: UInt32
  var scale: Float
  var reserved: UInt32 = 0
}
