/// How a kernel cuts the problem: what a workgroup does, and the shader's own constants for it.
public struct AttentionTile: Sendable, Hashable {
  /// Invocations of one workgroup.
  public let workgroupSize: Int
  /// Query rows of one head that one workgroup computes.
  public let queryRows: Int
  /// Whether tile t holds the t-th last group of rows: under a causal mask the last rows see the most
  /// keys, and a grid that ends with its short tiles leaves fewer cores idle.
  public let takesLongTilesFirst: Bool
  /// Shared memory of one workgroup in bytes.
  public let sharedBytes: Int
  /// The subgroup size that the kernel relies on; nil where any will do.
  public let subgroupSize: Int?
  /// The shader variant that runs it.
  public let shaderName: String
  /// The path's specialization constants by their names in the shader.
  public let constants: [String: UInt32]
  /// Keys that the kernel takes at once; a cut along the keys is at a multiple of them.
  let keysPerStep: Int
  /// Running sums that the kernel keeps for one row: one for each lane that shares it.
  let sumsPerRow: Int
  /// How keys and values are packed first; nil where they are read as they lie.
  let packing: AttentionPacking?
  /// The numbers of the tile that can be tuned.
  public let parameters: AttentionTileParameters
  /// Where the numbers come from: the measurement that chose them, or that they were asked for.
  public let provenance: String

  /// The block size in tokens of keys and values that are packed first; nil where they are read as they
  /// lie.
  public var packedKeysPerBlock: Int? { packing?.keysPerBlock }
}
