/// Why a modification cannot be compiled or run.
public enum CustomAttentionError: Error, Hashable, Sendable {
  /// A snippet has something that it must not have.
  case refused(snippet: CustomSnippet, line: Int, column: Int, reason: String)
  /// A snippet is larger than ``CustomSnippet/largestByteCount``.
  case snippetTooLarge(snippet: CustomSnippet, byteCount: Int, allowed: Int)
  /// A name or the number of the parameters is not allowed.
  case invalidParameters(reason: String)
  /// The GLSL compiler's library is not on this machine.
  case compilerMissing(tried: [String], reason: String, package: String)
  /// The GLSL compiler's library lacks extensions that the kernel needs.
  case compilerTooOld(extensions: [String], library: String)
  /// The GLSL compiler refused a snippet.
  case notCompiled(messages: [CustomCompilerMessage])
  /// The GLSL compiler failed where no snippet is to blame; its own words.
  case compilerFailed(log: String)
  /// A snippet uses what the device would have to be opened for, such as double precision.
  case unsupportedCapability(name: String)
  /// Buffers or scalars of the modifications do not match those that are given.
  case invalidInputs(reason: String)
  /// The attention cannot be planned or recorded.
  case attention(AttentionError)
}

/// One error of the GLSL compiler.
public struct CustomCompilerMessage: Hashable, Sendable {
  /// The snippet it is about.
  public let snippet: CustomSnippet
  /// The line of the snippet, from 1.
  public let line: Int
  /// Where the token at which the compiler stopped stands in that line, from 1; nil where it is about the whole
  /// function, such as a missing `return`.
  public let column: Int?
  /// The compiler's words.
  public let text: String
}

/// A piece of a user's GLSL.
public enum CustomSnippet: String, Hashable, Sendable, CaseIterable {
  /// The body of a ``ScoreModification``.
  case score
  /// The declarations before it.
  case scoreDeclarations = "score-declarations"
  /// The body of a ``MaskModification``.
  case mask
  /// The declarations before it.
  case maskDeclarations = "mask-declarations"
  /// The body of an ``OutputModification``.
  case output
  /// The declarations before it.
  case outputDeclarations = "output-declarations"

  /// The most bytes that one snippet may have.
  public static let largestByteCount = 100_000
}

extension CustomAttentionError: CustomStringConvertible {
  /// What was asked, what is allowed and what to do.
  public var description: String {
    switch self {
    case .refused(let snippet, let line, let column, let reason):
      "\(snippet.rawValue):\(line):\(column): \(reason)"
    case .snippetTooLarge(let snippet, let byteCount, let allowed):
      "\(snippet.rawValue) has \(byteCount) bytes; allowed: at most \(allowed)"
    case .invalidParameters(let reason), .invalidInputs(let reason):
      reason
    case .compilerMissing(let tried, let reason, let package):
      """
      no GLSL compiler can be loaded (\(tried.joined(separator: ", "))): \(reason); install \
      \(package)
      """
    case .compilerTooOld(let extensions, let library):
      "the GLSL compiler \(library) lacks \(extensions.joined(separator: ", ")); install a newer one"
    case .notCompiled(let messages):
      messages.map {
        "\($0.snippet.rawValue):\($0.line):\($0.column.map { "\($0):" } ?? "") \($0.text)"
      }.joined(separator: "\n")
    case .compilerFailed(let log):
      "the GLSL compiler failed outside of the modifications: \(log)"
    case .unsupportedCapability(let name):
      "a modification needs the SPIR-V capability \(name), which kernels do not ask devices for"
    case .attention(let error):
      "\(error)"
    }
  }
}

/// Runs `body`, and passes on an attention's failure as one of a custom attention.
func wrappingAttentionErrors<Result>(
  _ body: () throws(AttentionError) -> Result
) throws(CustomAttentionError) -> Result {
  do {
    return try body()
  } catch {
    throw .attention(error)
  }
}
