/// A user's own step from one score to another, in GLSL.
///
/// `body` is the body of this function, called for every query and key that are computed:
///
///     float score(float score, int batch, int head, int queryIndex, int keyIndex)
///
/// `score` is the natural score, scale · q·k with the relative term, soft cap, biases and ALiBi of the request;
/// what is returned is used in its place, before the request's normaliser and masks. −∞ hides the key from the
/// query. `queryIndex` and `keyIndex` count from the start of the sequence; the position of a query among the
/// keys is `queryIndex + positionOffset`, T − S more under the bottom-right alignment. `queryTokens`, `keyTokens`
/// and `keyHead` are there as well, of type `uint`.
///
/// A buffer is read by a function of its name, a scalar by its name:
///
///     let alibi = try ScoreModification(
///       "return score - slopes(head) * abs(keyIndex - queryIndex - positionOffset);",
///       buffers: [CustomBuffer("slopes", .f32)])
///
/// Programming model: FlexAttention (Dong et al., "Flex Attention: A Programming Model for Generating Optimized
/// Attention Kernels", 2024). The code runs on the device with the rights of the process: compile no text of
/// people you do not trust.
public struct ScoreModification: Hashable, Sendable {
  /// The function's body.
  public var body: String { function.body }
  /// Functions and constants before it.
  public var declarations: String { function.declarations }
  /// What it reads by index.
  public var buffers: [CustomBuffer] { function.buffers }
  /// What it reads by name.
  public var scalars: [CustomScalar] { function.scalars }

  let function: CustomFunction

  /// Takes GLSL.
  ///
  /// - Parameters:
  ///   - body: statements that return a `float`; a way through them without a `return` gives NaN.
  ///   - declarations: functions and constants for the body.
  ///   - buffers: at most 8, with those of a mask.
  ///   - scalars: at most 16, with those of a mask.
  /// - Throws: `CustomAttentionError.refused`, `snippetTooLarge`, `invalidParameters`.
  public init(
    _ body: String, declarations: String = "", buffers: [CustomBuffer] = [],
    scalars: [CustomScalar] = []
  ) throws(CustomAttentionError) {
    function = try CustomFunction(
      checking: .score, body, declarations, buffers, scalars)
  }
}

/// A user's own mask, in GLSL.
///
/// `body` is the body of this function:
///
///     bool mask(int batch, int head, int queryIndex, int keyIndex)
///
/// A key is seen where it returns `true` and the request's masks leave it. Parameters are read as in a
/// ``ScoreModification``. Every key of the request's intervals (causal, window, key lengths) is asked for, and some
/// beside them; what is returned for those does not matter. In tiled attention, steps of keys that are hidden from
/// all rows of a tile are skipped before their scores are computed; steps outside of a mask by position of the
/// request are not even asked for, so where such a mask says the same, it is faster.
public struct MaskModification: Hashable, Sendable {
  /// The function's body.
  public var body: String { function.body }
  /// Functions and constants before it.
  public var declarations: String { function.declarations }
  /// What it reads by index.
  public var buffers: [CustomBuffer] { function.buffers }
  /// What it reads by name.
  public var scalars: [CustomScalar] { function.scalars }

  let function: CustomFunction

  /// Takes GLSL.
  ///
  /// - Parameters:
  ///   - body: statements that return a `bool`; a way through them without a `return` hides the key.
  ///   - declarations: functions and constants for the body.
  ///   - buffers: at most 8, with those of a score.
  ///   - scalars: at most 16, with those of a score.
  /// - Throws: `CustomAttentionError.refused`, `snippetTooLarge`, `invalidParameters`.
  public init(
    _ body: String, declarations: String = "", buffers: [CustomBuffer] = [],
    scalars: [CustomScalar] = []
  ) throws(CustomAttentionError) {
    function = try CustomFunction(
      checking: .mask, body, declarations, buffers, scalars)
  }
}
