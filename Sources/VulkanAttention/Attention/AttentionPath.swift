/// The ways in which a device can run a kernel.
public enum AttentionPath: String, Sendable, Hashable, Codable, CaseIterable {
  /// Query rows in the registers of each invocation, keys and values read at addresses that are the
  /// same for a whole subgroup; no shared memory, no barrier. The best on CPU-like devices for tiled attention and
  /// linear attention.
  case row
  /// Tiles in shared memory, register-tiled products, subgroup reductions. Runs on any GPU; on CPU-like devices the
  /// best for decode, by a shader of its own.
  case subgroup
  /// Cooperative matrices (`VK_KHR_cooperative_matrix`): the matrix units of a GPU.
  case matrix
  /// Cooperative matrices whose elements know their places (`VK_NV_cooperative_matrix2`): scores and
  /// weights never leave the registers. Of tiled attention alone.
  case matrix2
}
