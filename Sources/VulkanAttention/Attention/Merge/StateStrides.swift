/// How far apart partial results [partial, row, head] lie, in elements; channels are contiguous.
///
/// Rows are what partial results have in common, as a rule the tokens of all batch entries.
public struct StateStrides: Sendable, Hashable, Codable {
  /// From one partial result of a row to the next.
  public var partial: Int
  /// From one row to the next.
  public var row: Int
  /// From one head to the next.
  public var head: Int

  /// Strides by their values, in elements.
  public init(partial: Int, row: Int, head: Int) {
    self.partial = partial
    self.row = row
    self.head = head
  }

  /// Contiguous [partial, row, head, channel]: one attention's result after the other. With 1 channel
  /// these are the strides of the log-sum-exps.
  public static func partialMajor(rows: Int, heads: Int, channels: Int) -> StateStrides {
    StateStrides(
      partial: rows &* heads &* channels, row: heads &* channels, head: channels)
  }

  /// Contiguous [row, partial, head, channel], as FlashInfer's `merge_states` takes them.
  public static func rowMajor(partials: Int, heads: Int, channels: Int) -> StateStrides {
    StateStrides(
      partial: heads &* channels, row: partials &* heads &* channels, head: channels)
  }

  /// Contiguous [partial, head, channel] of rows that list their partials.
  static func listed(heads: Int, channels: Int) -> StateStrides {
    StateStrides(partial: heads &* channels, row: 0, head: channels)
  }
}
