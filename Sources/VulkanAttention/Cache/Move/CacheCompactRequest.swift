/// Accepted nodes of trees of drafts, to be moved to where they belong in the cache.
///
///     place of committed[b] + i ← what lies at committed[b] + paths[b, i]      i = 0 ..< pathLengths[b], in this order
///
/// for every sequence b, keys and values, whole rows of whatever format with their scales. The nodes of a
/// verified step were appended at positions committed[b] + node; those of the accepted path, which rise, become
/// the sequence's next keys (SpecInfer, https://arxiv.org/abs/2305.09781). The sequence then has
/// committed[b] + pathLengths[b] keys: lengths, and with them the roll-back of what was not accepted, are the
/// host's, which leaves rejected rows where they are to be written over; pages behind the new length can go
/// back to the pool.
///
/// Letters: B sequences, W nodes of the largest tree, P numbers of a row of paths. What is read from device
/// memory is checked: a node that is not above its place, is W or more, or has no place in the cache
/// moves nothing. Sequences must not share the pages that they write to.
public struct CacheCompactRequest: Sendable, Hashable {
  /// What is written.
  public let storage: CacheStorage
  /// W.
  public let nodes: Int
  /// P.
  public let pathTokens: Int

  /// States a compaction; what no device could run is refused here.
  ///
  /// - Parameters:
  ///   - storage: what is written.
  ///   - nodes: W, 1 or more; at most the capacity of a ring, in which the first nodes are gone otherwise.
  ///     (A ring forgets the keys that drafts replace even where these are not accepted: it needs W
  ///     places more than its window.)
  ///   - pathTokens: P, from 1 to W; W by default.
  /// - Throws: `AttentionError.invalidArgument`.
  public init(
    storage: CacheStorage, nodes: Int, pathTokens: Int? = nil
  ) throws(AttentionError) {
    let arrangement = storage.key.arrangement
    let most = arrangement.kind == .ring ? arrangement.blockTokens : AttentionMask.largestExtent
    guard (1...most).contains(nodes) else {
      throw .invalidArgument(name: "nodes", value: "\(nodes)", allowed: "1 to \(most)")
    }
    let path = pathTokens ?? nodes
    guard (1...nodes).contains(path) else {
      throw .invalidArgument(name: "pathTokens", value: "\(path)", allowed: "1 to \(nodes)")
    }
    self.storage = storage
    self.nodes = nodes
    self.pathTokens = path
  }

  /// B.
  public var sequences: Int { storage.sequences }
}

/// The tensors of one compaction in device memory.
public struct CacheCompactBuffers: Sendable {
  /// Int32 [B]: the keys of each sequence before the drafts.
  public var committed: DeviceBuffer
  /// Int32 [B, P]: accepted nodes, rising.
  public var paths: DeviceBuffer
  /// Int32 [B]: how many of each row of `paths` count.
  public var pathLengths: DeviceBuffer
  /// The cache, changed.
  public var cache: CacheBuffers

  /// Names the tensors.
  public init(
    committed: DeviceBuffer, paths: DeviceBuffer, pathLengths: DeviceBuffer, cache: CacheBuffers
  ) {
    self.committed = committed
    self.paths = paths
    self.pathLengths = pathLengths
    self.cache = cache
  }
}
