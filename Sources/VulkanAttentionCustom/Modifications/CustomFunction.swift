/// A modification as the shader has it: a function of GLSL.
struct CustomFunction: Hashable, Sendable {
  /// What a function changes.
  enum Kind: Hashable, Sendable {
    case score
    case mask
    case output
  }

  let kind: Kind
  let body: String
  let declarations: String
  let buffers: [CustomBuffer]
  let scalars: [CustomScalar]

  /// A text in which the scanner finds nothing to refuse.
  init(
    _ kind: Kind, _ body: String, _ declarations: String, _ buffers: [CustomBuffer],
    _ scalars: [CustomScalar]
  ) {
    self.kind = kind
    self.body = body
    self.declarations = declarations
    self.buffers = buffers
    self.scalars = scalars
  }

  /// A user's text.
  ///
  /// - Throws: `CustomAttentionError.refused`, `snippetTooLarge`, `invalidParameters`.
  init(
    checking kind: Kind, _ body: String, _ declarations: String, _ buffers: [CustomBuffer],
    _ scalars: [CustomScalar]
  ) throws(CustomAttentionError) {
    self.init(kind, body, declarations, buffers, scalars)
    try SnippetScanner.check(body, bodySnippet)
    try SnippetScanner.check(declarations, declarationsSnippet)
    try CustomParameters.check(buffers, scalars, arguments: reservedNames)
  }
}

extension CustomFunction {
  /// What tells the kernel that the function is there.
  var define: String {
    switch kind {
    case .score: "CUSTOM_SCORE"
    case .mask: "CUSTOM_MASK"
    case .output: "CUSTOM_OUTPUT"
    }
  }

  /// The function's declaration.
  var head: String {
    let list = arguments.map { "\($0.type) \($0.name)" }.joined(separator: ", ")
    return switch kind {
    case .score: "float customScore(\(list))"
    case .mask: "bool customMask(\(list))"
    case .output: "float customOutput(\(list))"
    }
  }

  /// What is returned where the body's end is reached, which GLSL allows and does not define.
  var otherwise: String { kind == .mask ? "false" : "QUIET_NAN" }

  var bodySnippet: CustomSnippet {
    switch kind {
    case .score: .score
    case .mask: .mask
    case .output: .output
    }
  }

  var declarationsSnippet: CustomSnippet {
    switch kind {
    case .score: .scoreDeclarations
    case .mask: .maskDeclarations
    case .output: .outputDeclarations
    }
  }

  /// The arguments' names; a mask may stand beside a score's function, so it leaves that one's alone too.
  private var reservedNames: [String] {
    arguments.map(\.name) + (kind == .mask ? ["score"] : [])
  }

  private var arguments: [(type: String, name: String)] {
    let place = [("int", "batch"), ("int", "head"), ("int", "queryIndex")]
    return switch kind {
    case .score: [("float", "score")] + place + [("int", "keyIndex")]
    case .mask: place + [("int", "keyIndex")]
    case .output: [("float", "value")] + place + [("int", "channel")]
    }
  }
}
