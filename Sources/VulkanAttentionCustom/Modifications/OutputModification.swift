/// A user's own last step on each number of the output, in GLSL.
///
/// `body` is the body of this function, called for every element of o before it is stored:
///
///     float output(float value, int batch, int head, int queryIndex, int channel)
///
///     o[b,i,h,c] = output(Σ_j softmax_j(...) v[b,j,g,c], b, h, i, c)
///
/// `value` is the attention's result in f32, behind sinks and gates of the request; what is returned is rounded to
/// the output's type. Rows without a visible key come with 0. The log-sum-exp and running states of the request are
/// not changed. Parameters are read as in a ``ScoreModification``; `queryIndex` counts from the start of the
/// sequence, `channel` is 0 to E − 1.
///
/// A gate of each head and channel, for example, as in "Gated Attention for Large Language Models" (Qiu et al.,
/// 2025), where `gates` has the logits [B, S, H, E]:
///
///     let gate = try OutputModification(
///       """
///       int row = (batch * int(queryTokens) + queryIndex) * heads + head;
///       return value / (1.0 + exp(-gates(row * width + channel)));
///       """,
///       buffers: [CustomBuffer("gates", .f32)],
///       scalars: [CustomScalar("heads", .int), CustomScalar("width", .int)])
public struct OutputModification: Hashable, Sendable {
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
  ///   - buffers: at most 8, with those of other modifications.
  ///   - scalars: at most 16, with those of other modifications.
  /// - Throws: `CustomAttentionError.refused`, `snippetTooLarge`, `invalidParameters`.
  public init(
    _ body: String, declarations: String = "", buffers: [CustomBuffer] = [],
    scalars: [CustomScalar] = []
  ) throws(CustomAttentionError) {
    function = try CustomFunction(
      checking: .output, body, declarations, buffers, scalars)
  }
}
