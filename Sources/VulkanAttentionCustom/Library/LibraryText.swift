// How the modifications of this folder are made. Their sizes are written into the text, so that compilers fold them;
// what differs from one run to the next is a buffer or a scalar.

extension ScoreModification {
  /// A text of this library, in which the scanner of users' texts finds nothing to refuse.
  init(
    library body: String, declarations: String = "", buffers: [CustomBuffer] = [],
    scalars: [CustomScalar] = []
  ) {
    function = CustomFunction(.score, body, declarations, buffers, scalars)
  }
}

extension MaskModification {
  /// A text of this library, in which the scanner of users' texts finds nothing to refuse.
  init(
    library body: String, declarations: String = "", buffers: [CustomBuffer] = [],
    scalars: [CustomScalar] = []
  ) {
    function = CustomFunction(.mask, body, declarations, buffers, scalars)
  }
}

extension CustomScalar {
  /// The keys that each batch entry of a buffer has room for; see ``ScoreModification/decay(heads:)``.
  static let keyCapacity = CustomScalar("keyCapacity", .int)
}

/// Checks of what modifications are made from.
enum LibraryArgument {
  /// The product of two sides is a number of tokens.
  static let largestSide = 1 << 15

  /// - Throws: `CustomAttentionError.attention(.invalidArgument)`.
  static func check(
    _ name: String, _ value: Int, from lowest: Int, to highest: Int = AttentionMask.largestExtent
  ) throws(CustomAttentionError) {
    guard value >= lowest, value <= highest else {
      throw invalid(name, "\(value)", "\(lowest) to \(highest)")
    }
  }

  /// - Throws: `CustomAttentionError.attention(.invalidArgument)` for what is not above 0 and finite.
  static func checkPositive(_ name: String, _ value: Float) throws(CustomAttentionError) {
    // Its reciprocal and its square are needed as well.
    guard value >= 1e-15, value <= 1e15 else {
      throw invalid(name, "\(value)", "1e-15 to 1e15")
    }
  }

  static func invalid(_ name: String, _ value: String, _ allowed: String) -> CustomAttentionError {
    .attention(.invalidArgument(name: name, value: value, allowed: allowed))
  }

  /// A number in GLSL that is read back as the same number.
  static func text(_ value: Float) -> String { "(\(value))" }
}

/// Rows and columns: of an image whose tokens follow one another row by row, or of a window in it.
public struct GridSize: Hashable, Sendable {
  /// The number of rows.
  public let height: Int
  /// The number of columns.
  public let width: Int

  /// A size by its sides.
  public init(height: Int, width: Int) {
    self.height = height
    self.width = width
  }

  /// A square.
  public init(side: Int) {
    self.init(height: side, width: side)
  }

  /// - Throws: `CustomAttentionError.attention(.invalidArgument)`.
  func check(
    _ name: String, toHeight height: Int = LibraryArgument.largestSide,
    width: Int = LibraryArgument.largestSide
  ) throws(CustomAttentionError) {
    try LibraryArgument.check("\(name).height", self.height, from: 1, to: height)
    try LibraryArgument.check("\(name).width", self.width, from: 1, to: width)
  }
}
