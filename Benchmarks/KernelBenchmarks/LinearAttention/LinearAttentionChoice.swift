import VulkanAttention

/// Which form and path of linear attention are made to run: `auto`, or `chunk:row` and the like.
public struct LinearAttentionChoice: Sendable, Hashable, CustomStringConvertible {
  /// The form; nil leaves it to the plan.
  public let form: LinearAttentionForm?
  /// The path; nil leaves it to the plan.
  public let path: AttentionPath?

  /// The plan chooses what is nil.
  public init(_ form: LinearAttentionForm? = nil, _ path: AttentionPath? = nil) {
    self.form = form
    self.path = path
  }

  /// Every way there is.
  public static let all = [
    LinearAttentionChoice(.recurrent, .row), LinearAttentionChoice(.recurrent, .subgroup),
    LinearAttentionChoice(.chunk, .row), LinearAttentionChoice(.chunk, .subgroup),
    LinearAttentionChoice(.chunk, .matrix),
  ]

  /// The ways that run a path in place of an attention's.
  public init(path: AttentionPath?) { self.init(nil, path) }

  /// The choice's name.
  public var description: String {
    form == nil && path == nil
      ? "auto" : [form?.rawValue, path?.rawValue].compactMap { $0 }.joined(separator: ":")
  }

  /// Plans a request this way, with a user's tuned tiles where they fit it.
  func plan(
    _ request: LinearAttentionRequest, device: DeviceCapabilities, tuning: Tuning = .none
  ) throws(AttentionError) -> LinearAttentionPlan {
    try LinearAttentionPlan(request, device: device, form: form, path: path, tuning: tuning)
  }
}

extension LinearAttentionPlan {
  /// The name of what runs.
  var wayName: String { "\(form.rawValue):\(path.rawValue)" }

  /// The tile in a few words, for a column of a table.
  var tileSummary: String {
    "columns=\(tile.columnsPerWorkgroup) workgroup=\(tile.workgroupSize) lanes=\(tile.lanes) "
      + "rows=\(tile.blockRows) parts=\(partCount) pieces=\(pieceCount)"
  }
}
