/// A buffer that a modification reads: a function of an index in its GLSL.
public struct CustomBuffer: Hashable, Sendable {
  /// How elements lie in memory.
  public enum Element: Hashable, Sendable, CaseIterable {
    /// A `float` in GLSL, as are the next two.
    case f32
    /// 16-bit IEEE.
    case f16
    /// The upper half of an f32.
    case bf16
    /// An `int` in GLSL.
    case int32
    /// An `int` of 0 to 255 in GLSL.
    case uint8

    /// The size of one element.
    public var byteCount: Int {
      switch self {
      case .f32, .int32: 4
      case .f16, .bf16: 2
      case .uint8: 1
      }
    }

    /// Its type in GLSL and the load of an element.
    func loader(_ place: Int) -> (type: String, expression: String) {
      switch self {
      case .f32: ("float", "customFloat(ELEMENT_F32, \(place), index)")
      case .f16: ("float", "customFloat(ELEMENT_F16, \(place), index)")
      case .bf16: ("float", "customFloat(ELEMENT_BF16, \(place), index)")
      case .int32: ("int", "customInteger(\(place), index)")
      case .uint8: ("int", "customByte(\(place), index)")
      }
    }
  }

  /// The name of the function, as in `slopes(head)`.
  public let name: String
  /// How elements lie in memory.
  public let element: Element

  /// Names a buffer.
  public init(_ name: String, _ element: Element) {
    self.name = name
    self.element = element
  }
}

/// A number that a modification reads and that may differ from one run to the next.
public struct CustomScalar: Hashable, Sendable {
  /// Its type in GLSL.
  public enum Kind: String, Hashable, Sendable {
    /// 32-bit floating point.
    case float
    /// 32-bit signed integer.
    case int
  }

  /// A scalar's value.
  public enum Value: Hashable, Sendable {
    /// Of a ``Kind/float``.
    case float(Float)
    /// Of a ``Kind/int``.
    case int(Int32)

    /// What it is a value of.
    public var kind: Kind {
      switch self {
      case .float: .float
      case .int: .int
      }
    }

    var bits: UInt32 {
      switch self {
      case .float(let value): value.bitPattern
      case .int(let value): UInt32(bitPattern: value)
      }
    }
  }

  /// Its name.
  public let name: String
  /// Its type.
  public let kind: Kind

  /// Names a scalar.
  public init(_ name: String, _ kind: Kind) {
    self.name = name
    self.kind = kind
  }
}

/// The buffers and scalars of all modifications of a kernel together, in the order of their places in the block; a
/// name that several use is one parameter.
struct CustomParameters: Hashable, Sendable {
  static let bufferLimit = 8
  static let scalarLimit = 16

  let buffers: [CustomBuffer]
  let scalars: [CustomScalar]

  init(_ functions: [CustomFunction]) throws(CustomAttentionError) {
    var buffers: [CustomBuffer] = []
    for buffer in functions.flatMap(\.buffers) where !buffers.contains(buffer) {
      buffers.append(buffer)
    }
    var scalars: [CustomScalar] = []
    for scalar in functions.flatMap(\.scalars) where !scalars.contains(scalar) {
      scalars.append(scalar)
    }
    var names: Set<String> = []
    for name in buffers.map(\.name) + scalars.map(\.name) {
      guard names.insert(name).inserted else {
        throw .invalidParameters(
          reason: "two parameters of different types are named \(name); name one of them otherwise")
      }
    }
    guard buffers.count <= Self.bufferLimit, scalars.count <= Self.scalarLimit else {
      throw .invalidParameters(
        reason: "there are \(buffers.count) buffers and \(scalars.count) scalars; allowed: at most "
          + "\(Self.bufferLimit) and \(Self.scalarLimit)")
    }
    self.buffers = buffers
    self.scalars = scalars
  }

  /// Refuses names that GLSL or the functions around a snippet would misread, and the same name twice.
  ///
  /// - Parameter arguments: the names of the function's own.
  static func check(
    _ buffers: [CustomBuffer], _ scalars: [CustomScalar],
    arguments: [String]
  ) throws(CustomAttentionError) {
    var names = Set(arguments)
    for name in buffers.map(\.name) + scalars.map(\.name) {
      let isIdentifier =
        name.utf8.first.map { SnippetScanner.isLetter($0) } == true
        && name.utf8.allSatisfy { SnippetScanner.isLetter($0) || SnippetScanner.isDigit($0) }
      guard isIdentifier, !name.hasPrefix("gl_"), !name.contains("__"), !name.hasPrefix("custom"),
        !SnippetScanner.reserved.contains(name), !EmbeddedSources.macros.contains(name),
        names.insert(name).inserted
      else {
        throw .invalidParameters(
          reason: """
            a parameter is named '\(name)'; allowed: letters, digits and single underscores, no digit \
            first, each name once, none that begins with gl_ or custom, no word of GLSL, no macro of the \
            kernels, and none of the function's own (\(arguments.joined(separator: ", ")))
            """)
      }
    }
  }
}
