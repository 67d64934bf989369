/// How a compaction runs on a device: a dispatch for the rows of keys, of values, and of the scales of each.
public struct CacheCompactPlan: Sendable, Hashable {
  /// The compaction.
  public let request: CacheCompactRequest
  let passes: [CacheRowPass]

  static let shaderName = "cache_compact"

  /// Plans a compaction for a device.
  ///
  /// - Throws: `AttentionError.tooLarge`, or `device(.limitExceeded)` where a grid is too large.
  public init(
    _ request: CacheCompactRequest, device: DeviceCapabilities
  ) throws(AttentionError) {
    self.request = request
    passes = try CacheRowPass.all(
      of: request.storage, shader: Self.shaderName, device: device
    ) { [request.sequences, $0.heads] }
  }

  func pipelineDescription(_ pass: CacheRowPass) throws(AttentionError) -> PipelineDescription {
    try pass.rows.pipelineDescription(
      Self.shaderName,
      constants: ["ARRANGEMENT": request.storage.key.arrangement.kind.shaderConstant])
  }
}

/// The compaction of a cache after speculative steps on one device, ready to be recorded; see
/// ``CacheCompactRequest``.
///
/// Deterministic; safe to share between tasks.
public final class CacheCompactKernel: Sendable {
  /// How the request runs.
  public let plan: CacheCompactPlan
  private let device: ComputeDevice
  private let pipelines: [ComputePipeline]

  /// The compaction.
  public var request: CacheCompactRequest { plan.request }

  /// Prepares a plan on a device; compiles its pipelines where no one has before.
  ///
  /// - Throws: `AttentionError.noPath` or `device`.
  public init(_ plan: CacheCompactPlan, on device: ComputeDevice) throws(AttentionError) {
    self.plan = plan
    self.device = device
    var pipelines: [ComputePipeline] = []
    for pass in plan.passes {
      pipelines.append(try device.compiled(plan.pipelineDescription(pass)))
    }
    self.pipelines = pipelines
  }

  /// Plans and prepares a request.
  ///
  /// - Throws: what `CacheCompactPlan.init` and the other initialiser throw.
  public convenience init(
    _ request: CacheCompactRequest, on device: ComputeDevice
  ) throws(AttentionError) {
    try self.init(CacheCompactPlan(request, device: device.capabilities), on: device)
  }

  /// Appends the moves to a recorder. It does not submit, wait or allocate.
  ///
  /// - Throws: `AttentionError.invalidArgument`, `bufferTooSmall`, `misaligned`, `overlappingOutput` or
  ///   `device`, before anything is appended.
  public func record(
    _ buffers: CacheCompactBuffers, into recorder: Recorder
  ) throws(AttentionError) {
    let request = request
    var bound = BoundBuffers(on: device)
    let integers = request.sequences * 4
    let committed = try bound.bind("committed", buffers.committed, bytes: integers)
    let paths = try bound.bind("paths", buffers.paths, bytes: integers * request.pathTokens)
    let pathLengths = try bound.bind("pathLengths", buffers.pathLengths, bytes: integers)
    let cache = try CacheBindings(buffers.cache, for: request.storage, into: &bound)
    try bound.checkOverlaps()
    let arrangement = request.storage.key.arrangement
    try wrappingDeviceErrors { () throws(VulkanError) in
      for (index, buffer) in cache.rowBuffers.enumerated() {
        let pass = plan.passes[index]
        let strides = pass.rows.strides
        try recorder.dispatch(
          pipelines[index],
          pushConstants: CacheCompactPushConstants(
            rows: buffer.address, committed: committed.address, paths: paths.address,
            pathLengths: pathLengths.address, indptr: cache.indptr?.address ?? 0,
            indices: cache.indices?.address ?? 0, blockStride: UInt64(strides.batch),
            tokenStride: UInt64(strides.token), headStride: UInt64(strides.head),
            heads: UInt32(pass.tensor.heads), sequenceCount: UInt32(request.sequences),
            nodes: UInt32(request.nodes), pathTokens: UInt32(request.pathTokens),
            blocks: UInt32(arrangement.blockCount), blockTokens: UInt32(arrangement.blockTokens),
            pageEntries: UInt32(request.storage.pageTable?.entries ?? 0)),
          groups: pass.groups,
          accesses: [.read(committed), .read(paths), .read(pathLengths), .readWrite(buffer)]
            + cache.tableReads)
      }
    }
  }
}

/// The push constants of `cache_compact.comp`, field for field; a test compares the two.
struct CacheCompactPushConstants: BitwiseCopyable {
  var rows: UInt64
  var committed: UInt64
  var paths: UInt64
  var pathLengths: UInt64
  var indptr: UInt64
  var indices: UInt64
  var blockStride: UInt64
  var tokenStride: UInt64
  var headStride: UInt64
  var heads: UInt32
  var sequenceCount: UInt32
  var nodes: UInt32
  var pathTokens: UInt32
  var blocks: UInt32
  var blockTokens: UInt32
  var pageEntries: UInt32
  var reserved: UInt32 = 0
}
