/// How far apart the rows of a tensor [batch, token, head, channel] lie, in elements.
///
/// Channels are contiguous. Any order of the other axes can be said, so that BHSD tensors, fused QKV
/// projections and views of a cache work without a copy; a stride of 0 repeats an input.
public struct TensorStrides: Sendable, Hashable, Codable {
  /// From one batch entry to the next.
  public var batch: Int
  /// From one token to the next.
  public var token: Int
  /// From one head to the next.
  public var head: Int

  /// Strides by their values, in elements.
  public init(batch: Int, token: Int, head: Int) {
    self.batch = batch
    self.token = token
    self.head = head
  }

  /// Contiguous [batch, token, head, channel] ("BSHD", "NHD").
  public static func tokenMajor(tokens: Int, heads: Int, channels: Int) -> TensorStrides {
    TensorStrides(
      batch: tokens &* heads &* channels, token: heads &* channels, head: channels)
  }

  /// Contiguous [batch, head, token, channel] ("BHSD", "HND").
  public static func headMajor(tokens: Int, heads: Int, channels: Int) -> TensorStrides {
    TensorStrides(
      batch: heads &* tokens &* channels, token: channels, head: tokens &* channels)
  }
}
