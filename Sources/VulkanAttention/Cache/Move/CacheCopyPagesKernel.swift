/// Pages of a cache to be copied: what a sequence does before it writes into a page that others share
/// (copy on write, https://arxiv.org/abs/2309.06180).
///
///     page copies[i, 1] ← page copies[i, 0]        i = 0 ..< N, all tokens, all heads, keys and values
///
/// Copies are read from device memory and checked: one of a page that the cache does not have, or of a page to
/// itself, copies nothing. They run at the same time: a page that is written must be in no other pair.
public struct CacheCopyPagesRequest: Sendable, Hashable {
  /// What is written.
  public let storage: CacheStorage
  /// N.
  public let copies: Int

  /// States copies; what no device could run is refused here.
  ///
  /// - Parameters:
  ///   - storage: what is written: pages, or the blocks of a cache without, which are its sequences (a beam
  ///     that goes on from another one).
  ///   - copies: N, 1 or more.
  /// - Throws: `AttentionError.invalidArgument`.
  public init(storage: CacheStorage, copies: Int) throws(AttentionError) {
    guard (1...AttentionMask.largestExtent).contains(copies) else {
      throw .invalidArgument(
        name: "copies", value: "\(copies)", allowed: "1 to \(AttentionMask.largestExtent)")
    }
    self.storage = storage
    self.copies = copies
  }
}

/// How copies of pages run on a device: a dispatch for the rows of keys, of values, and of the scales of each.
public struct CacheCopyPagesPlan: Sendable, Hashable {
  /// The copies.
  public let request: CacheCopyPagesRequest
  let passes: [CacheRowPass]

  static let shaderName = "cache_copy_pages"

  /// Plans copies for a device.
  ///
  /// - Throws: `AttentionError.tooLarge`, or `device(.limitExceeded)` where a grid is too large.
  public init(
    _ request: CacheCopyPagesRequest, device: DeviceCapabilities
  ) throws(AttentionError) {
    self.request = request
    passes = try CacheRowPass.all(
      of: request.storage, shader: Self.shaderName, device: device
    ) { [request.copies, $0.arrangement.blockTokens, $0.heads] }
  }
}

/// Copies of pages on one device, ready to be recorded; see ``CacheCopyPagesRequest``.
///
/// Deterministic; safe to share between tasks.
public final class CacheCopyPagesKernel: Sendable {
  /// How the request runs.
  public let plan: CacheCopyPagesPlan
  private let device: ComputeDevice
  private let pipelines: [ComputePipeline]

  /// The copies.
  public var request: CacheCopyPagesRequest { plan.request }

  /// Prepares a plan on a device; compiles its pipelines where no one has before.
  ///
  /// - Throws: `AttentionError.noPath` or `device`.
  public init(_ plan: CacheCopyPagesPlan, on device: ComputeDevice) throws(AttentionError) {
    self.plan = plan
    self.device = device
    var pipelines: [ComputePipeline] = []
    for pass in plan.passes {
      pipelines.append(
        try device.compiled(pass.rows.pipelineDescription(CacheCopyPagesPlan.shaderName)))
    }
    self.pipelines = pipelines
  }

  /// Plans and prepares a request.
  ///
  /// - Throws: what `CacheCopyPagesPlan.init` and the other initialiser throw.
  public convenience init(
    _ request: CacheCopyPagesRequest, on device: ComputeDevice
  ) throws(AttentionError) {
    try self.init(CacheCopyPagesPlan(request, device: device.capabilities), on: device)
  }

  /// Appends the copies to a recorder. It does not submit, wait or allocate.
  ///
  /// - Parameters:
  ///   - copies: Int32 [N, 2]: from, to.
  ///   - cache: the cache, changed. Its page table is not read.
  ///   - recorder: what the copies are appended to.
  /// - Throws: `AttentionError.invalidArgument`, `bufferTooSmall`, `misaligned`, `overlappingOutput` or
  ///   `device`, before anything is appended.
  public func record(
    copies: DeviceBuffer, cache: CacheBuffers, into recorder: Recorder
  ) throws(AttentionError) {
    let request = request
    var bound = BoundBuffers(on: device)
    let copies = try bound.bind("copies", copies, bytes: request.copies * 8)
    let cache = try CacheBindings(cache, for: request.storage, into: &bound)
    try bound.checkOverlaps()
    try wrappingDeviceErrors { () throws(VulkanError) in
      for (index, buffer) in cache.rowBuffers.enumerated() {
        let pass = plan.passes[index]
        let tensor = pass.tensor
        let strides = pass.rows.strides
        try recorder.dispatch(
          pipelines[index],
          pushConstants: CacheCopyPagesPushConstants(
            rows: buffer.address, copies: copies.address, blockStride: UInt64(strides.batch),
            tokenStride: UInt64(strides.token), headStride: UInt64(strides.head),
            heads: UInt32(tensor.heads), blocks: UInt32(tensor.arrangement.blockCount),
            blockTokens: UInt32(tensor.arrangement.blockTokens),
            copyCount: UInt32(request.copies), hasHeadsOutside: tensor.isHeadMajor ? 1 : 0),
          groups: pass.groups, accesses: [.read(copies), .readWrite(buffer)])
      }
    }
  }
}

/// The push constants of `cache_copy_pages.comp`, field for field; a test compares the two.
struct CacheCopyPagesPushConstants: BitwiseCopyable {
  var rows: UInt64
  var copies: UInt64
  var blockStride: UInt64
  var tokenStride: UInt64
  var headStride: UInt64
  var heads: UInt32
  var blocks: UInt32
  var blockTokens: UInt32
  var copyCount: UInt32
  var hasHeadsOutside: UInt32
  var reserved: UInt32 = 0
}
